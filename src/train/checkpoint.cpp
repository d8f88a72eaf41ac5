#include "efficientad/train/checkpoint.h"

#include <torch/types.h>

#include <set>
#include <utility>

#include "efficientad/core/error.h"
#include "efficientad/core/file.h"
#include "efficientad/core/json.h"
#include "efficientad/core/safetensors.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

constexpr const char* kFormat = "efficientad-checkpoint";
constexpr const char* kVersion = "3";

/// Prefix of a group's tensors in the file, and where they go.
using Group = std::pair<const char*, std::map<std::string, torch::Tensor> Checkpoint::*>;
constexpr Group kGroups[] = {{"weights.", &Checkpoint::weights},
                             {"averages.", &Checkpoint::averages},
                             {"optimizer.", &Checkpoint::optimizer}};

/// Of all tensors and what the metadata says of the run.
std::string checksum_of(const TensorFile& file) {
  uint64_t hash = hash64(nullptr, 0);
  const auto add = [&](const std::string& text) { hash = hash64(text.data(), text.size(), hash); };
  for (const auto& [name, tensor] : file.tensors) {
    add(name);
    const torch::Tensor value = tensor.detach().to(torch::kCPU).contiguous();
    hash = hash64_of_words(value.data_ptr(), value.nbytes(), hash);
  }
  const auto run = file.metadata.find("run");
  if (run != file.metadata.end()) add(run->second);
  return hex64(hash);
}

}  // namespace

void save_checkpoint(const fs::path& path, const Checkpoint& checkpoint) {
  TensorFile file;
  for (const auto& [prefix, group] : kGroups) {
    for (const auto& [name, tensor] : checkpoint.*group) file.tensors[prefix + name] = tensor;
  }
  file.tensors["teacher_mean"] = checkpoint.teacher_mean;
  file.tensors["teacher_std"] = checkpoint.teacher_std;
  file.metadata = {{"format", kFormat},
                   {"format_version", kVersion},
                   {"run", dump_json(nlohmann::ordered_json{{"step", checkpoint.step},
                                                            {"seconds", checkpoint.seconds},
                                                            {"options", checkpoint.options},
                                                            {"inputs", checkpoint.inputs}})}};
  file.metadata["checksum"] = checksum_of(file);
  write_safetensors(path, file);
}

Checkpoint load_checkpoint(const fs::path& path) {
  const TensorFile file = read_safetensors(path);
  const auto metadata = [&](const std::string& key) {
    const auto found = file.metadata.find(key);
    return found == file.metadata.end() ? std::string() : found->second;
  };
  require(metadata("format") == kFormat, "{}: is no training checkpoint", path.string());
  require(metadata("format_version") == kVersion,
          "{}: was written by another release (checkpoint version \"{}\", wanted {})",
          path.string(), metadata("format_version"), kVersion);
  require(metadata("checksum") == checksum_of(file), "{}: is damaged: its checksum is not {}",
          path.string(), metadata("checksum"));
  Checkpoint checkpoint;
  try {
    const auto run =
        parse_json<nlohmann::ordered_json>(metadata("run"), path.string() + ": its metadata run");
    checkpoint.step = run.at("step").is_number_integer() ? run.at("step").get<int64_t>() : -1;
    checkpoint.seconds = run.at("seconds").get<double>();
    checkpoint.options = run.at("options");
    checkpoint.inputs = run.at("inputs").get<std::map<std::string, std::string>>();
  } catch (const nlohmann::json::exception&) {
    throw Error(fmt::format("{}: its metadata is damaged", path.string()));
  }
  for (const auto& [name, tensor] : file.tensors) {
    for (const auto& [prefix, group] : kGroups) {
      const std::string start = prefix;
      if (name.rfind(start, 0) == 0) {
        (checkpoint.*group)[name.substr(start.size())] = tensor.clone();
      }
    }
  }
  checkpoint.teacher_mean = take(file, "teacher_mean", path).clone();
  checkpoint.teacher_std = take(file, "teacher_std", path).clone();
  return checkpoint;
}

nlohmann::ordered_json result_options(const TrainOptions& options) {
  nlohmann::ordered_json json = options_to_json(options);
  // Data, teacher and penalty images are known by what they are, not by where they are.
  for (const char* name :
       {"data", "output", "teacher", "shard", "penalty_images", "device", "threads", "workers",
        "cache_mb", "checkpoint_minutes", "snapshot_steps", "resume", "overwrite"}) {
    json.erase(name);
  }
  return json;
}

void check_same_run(const Checkpoint& checkpoint, const nlohmann::ordered_json& options,
                    const std::map<std::string, std::string>& inputs, const fs::path& path) {
  const auto check = [&](const std::string& what, const std::string& before,
                         const std::string& now) {
    require_usage(before == now,
                  "{}: cannot go on: {} was {}, but now is {}; use the same again, or another "
                  "output folder",
                  path.string(), what, before, now);
  };
  const auto value = [](const nlohmann::ordered_json& json, const std::string& key) {
    const auto found = json.find(key);
    return found == json.end() ? std::string("not there") : dump_json(*found);
  };
  std::set<std::string> names;
  for (const auto& [name, unused] : options.items()) names.insert(name);
  for (const auto& [name, unused] : checkpoint.options.items()) names.insert(name);
  for (const auto& name : names) {
    check(name, value(checkpoint.options, name), value(options, name));
  }
  for (const auto& [name, now] : inputs) {
    const auto before = checkpoint.inputs.find(name);
    check(name, before == checkpoint.inputs.end() ? "not there" : before->second, now);
  }
}

}  // namespace efficientad
