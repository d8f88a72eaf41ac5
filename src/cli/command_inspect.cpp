#include <algorithm>
#include <filesystem>

#include "cli/command.h"
#include "efficientad/core/json.h"
#include "efficientad/core/safetensors.h"

namespace efficientad::cli {

namespace {

struct InspectOptions {
  std::string file;
  bool tensors = false;

  template <class Visitor>
  void visit(Visitor&& visitor) {
    visitor("file", file,
            OptionInfo{.help = "model, teacher, backbone or checkpoint file (safetensors)",
                       .positional = true,
                       .required = true});
    visitor("tensors", tensors,
            OptionInfo{.help = "name every tensor with its type and shape (--json always does)"});
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

/// As one line for people: of many numbers their count and range.
std::string shown(const nlohmann::ordered_json& value) {
  constexpr size_t kMany = 8;
  if (value.is_string() && !value.empty()) return printable(value.get<std::string>());
  const bool numbers =
      value.is_array() &&
      std::all_of(value.begin(), value.end(), [](const auto& item) { return item.is_number(); });
  if (!numbers || value.size() <= kMany) return dump_json(value);
  const auto [lowest, highest] = std::minmax_element(value.begin(), value.end());
  return fmt::format("{} numbers from {} to {}", value.size(), dump_json(*lowest),
                     dump_json(*highest));
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
      for (const auto& [name, item] : value.items()) fmt::print("  {:28} {}\n", name, shown(item));
    } else {
      fmt::print("{:30} {}\n", key, shown(value));
    }
  }
  fmt::print("{} values in {} tensors:\n", values, file.tensors.size());
  if (options.tensors) {
    for (const auto& [name, tensor] : file.tensors) {
      fmt::print("  {:44} {:8} {}\n", name, c10::toString(tensor.scalar_type()),
                 c10::str(tensor.sizes()));
    }
    return 0;
  }
  for (const auto& [part, count] : groups.items()) {
    fmt::print("  {:28} {} values\n", part, count.get<int64_t>());
  }
  return 0;
}

}  // namespace efficientad::cli
