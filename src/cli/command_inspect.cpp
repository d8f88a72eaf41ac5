#include <algorithm>
#include <filesystem>

#include "cli/command.h"
#include "efficientad/core/json.h"
#include "efficientad/core/safetensors.h"

namespace efficientad::cli {

namespace {

struct InspectOptions {
  std::string file;

  template <class Visitor>
  void visit(Visitor&& visitor) {
    visitor("file", file,
            OptionInfo{.help = "model, teacher, backbone or checkpoint file (safetensors)",
                       .positional = true,
                       .required = true});
  }
};

/// Metadata that holds JSON is shown as JSON, the rest as strings.
nlohmann::ordered_json parsed(const std::string& text) {
  if (text.empty() || (text[0] != '{' && text[0] != '[')) return text;
  try {
    return parse_json<nlohmann::ordered_json>(text, "");
  } catch (const Error&) {
    return text;
  }
}

}  // namespace

int inspect(const Arguments& arguments) {
  InspectOptions options;
  const CommonFlags common = parse_options(
      arguments, "Say what a model or teacher file is: sizes, options, statistics, provenance.",
      options);
  const TensorFile file = read_safetensors(options.file);
  const std::string bytes = read_file(options.file);

  nlohmann::ordered_json json;
  json["file"] = options.file;
  json["bytes"] = bytes.size();
  json["checksum_fnv1a64"] = hex64(hash64(bytes.data(), bytes.size()));
  nlohmann::ordered_json metadata = nlohmann::ordered_json::object();
  for (const auto& [key, value] : file.metadata) metadata[key] = parsed(value);
  json["metadata"] = metadata;
  int64_t values = 0;
  nlohmann::ordered_json groups = nlohmann::ordered_json::object();
  nlohmann::ordered_json tensors = nlohmann::ordered_json::object();
  for (const auto& [name, tensor] : file.tensors) {
    values += tensor.numel();
    const std::string group = name.substr(0, name.find('.'));
    groups[group] = groups.value(group, int64_t{0}) + tensor.numel();
    tensors[name] = {{"type", c10::toString(tensor.scalar_type())},
                     {"shape", tensor.sizes().vec()}};
  }
  json["values"] = values;
  json["values_by_part"] = groups;
  json["tensors"] = tensors;
  if (common.json) {
    fmt::print("{}\n", dump_json(json));
    return 0;
  }

  fmt::print("{}: {} bytes, checksum {} (FNV-1a 64)\n", options.file, bytes.size(),
             json["checksum_fnv1a64"].get<std::string>());
  for (const auto& [key, value] : metadata.items()) {
    if (value.is_object()) {
      fmt::print("{}:\n", key);
      for (const auto& [name, item] : value.items())
        fmt::print("  {:28} {}\n", name, dump_json(item));
    } else {
      fmt::print("{:30} {}\n", key,
                 value.is_string() ? value.get<std::string>() : dump_json(value));
    }
  }
  fmt::print("{} values in {} tensors:\n", values, file.tensors.size());
  for (const auto& [name, tensor] : file.tensors) {
    fmt::print("  {:44} {:8} {}\n", name, c10::toString(tensor.scalar_type()),
               c10::str(tensor.sizes()));
  }
  return 0;
}

}  // namespace efficientad::cli
