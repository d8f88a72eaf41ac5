#include <filesystem>
#include <memory>
#include <vector>

#include "cli/command.h"
#include "cli/shard.h"
#include "cli/train_model.h"
#include "efficientad/core/buffer.h"
#include "efficientad/core/device.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/log.h"
#include "efficientad/core/progress.h"
#include "efficientad/data/dataset.h"
#include "efficientad/detect/model_bundle.h"
#include "efficientad/train/checkpoint.h"
#include "efficientad/train/ranks.h"
#include "efficientad/train/trainer.h"

namespace efficientad::cli {

namespace fs = std::filesystem;

namespace {

nlohmann::ordered_json to_json(const TrainResult& result) {
  return {{"model", result.model.string()},
          {"train_images", result.train_images},
          {"validation_images", result.validation_images},
          {"threshold", result.threshold},
          {"threshold_rule", result.threshold_rule},
          {"seconds", result.seconds}};
}

void print(const TrainResult& result) {
  fmt::print("{}\ntrained on {} images in {}, calibrated on {}\nthreshold {:.4f}: {}\n",
             result.model.string(), result.train_images, format_duration(result.seconds),
             result.validation_images, result.threshold, result.threshold_rule);
}

/// Throws Error if a model was trained with other options or another teacher than these. (One of an
/// earlier release lacks some: those were as they are by default.)
void require_same(const fs::path& model, const TrainOptions& options, const Teacher& teacher) {
  const ModelBundle bundle = load_bundle(model);
  const auto weights = bundle.provenance.find("teacher.weights");
  require(
      weights == bundle.provenance.end() || weights->second == hash_of_teacher(teacher),
      "{}: was trained with another teacher; --overwrite trains it anew, or give another output "
      "folder",
      model.string());
  nlohmann::ordered_json before = result_options(TrainOptions());
  before.update(bundle.options);
  const nlohmann::ordered_json now = result_options(options);
  for (const auto& [name, value] : now.items()) {
    require(before.contains(name) && before.at(name) == value,
            "{}: was trained with {} {}, but now it is {}; --overwrite trains it anew, or give "
            "another output folder",
            model.string(), name, before.contains(name) ? dump_json(before.at(name)) : "not known",
            dump_json(value));
  }
}

/// Trains every category. One that fails does not stop the others.
int train_all(const TrainOptions& options, const Teacher& teacher, torch::Device device,
              bool json) {
  const auto categories =
      shard_of(list_categories(options.dataset, options.data, {.normal_dir = options.normal_dir}),
               options.shard);
  auto results = nlohmann::ordered_json::object();
  std::vector<std::string> failed;
  for (size_t i = 0; i < categories.size(); ++i) {
    TrainOptions one = options;
    one.category = categories[i];
    one.shard.clear();
    const fs::path output = fs::path(options.output) / categories[i];
    one.output = output.string();
    spdlog::info("category {} of {}: {}", i + 1, categories.size(), categories[i]);
    const fs::path model = output / "model.safetensors";
    one.resume = !options.overwrite && training_has_begun(output);
    try {
      if (!options.overwrite && fs::exists(model)) {
        require_same(model, one, teacher);
        spdlog::info("{}: is done already", output.string());
        continue;
      }
      const TrainResult result = train_one(one, teacher, device);
      results[categories[i]] = to_json(result);
      if (!json) print(result);
    } catch (const Interrupted&) {
      const std::vector<std::string> left(categories.begin() + static_cast<std::ptrdiff_t>(i),
                                          categories.end());
      throw Interrupted(
          options.overwrite
              ? fmt::format("interrupted; --overwrite did not get to the end of {}: train each "
                            "with its --category",
                            join(left))
              : fmt::format("interrupted in category {}; the same command goes on", categories[i]));
    } catch (const std::exception& error) {
      spdlog::error("{}: {}", categories[i], message_of(error));
      failed.push_back(categories[i]);
    }
  }
  if (json) fmt::print("{}\n", dump_json(results));
  require(failed.empty(), "{} of {} categories failed: {}", failed.size(), categories.size(),
          join(failed));
  return 0;
}

}  // namespace

int train(const Arguments& arguments) {
  TrainOptions options;
  const CommonFlags common =
      parse_options(arguments, "Train a detector on images of good parts.", options);
  check_train_options(options);
  const bool all = options.category == "all" && !fs::exists(fs::path(options.data) / "all");
  require_usage(all || options.shard.empty(), "shard is for category all");
  require_usage(!all || !Ranks::of_several(),
                "several processes can share the training of one category; to spread category all "
                "over them, start each alone (without RANK and WORLD_SIZE) with its --shard");
  set_threads(options.threads);
  const torch::Device device = select_device(options.device);
  const Teacher teacher = find_teacher(options);
  keep_freed_memory();
  const InterruptGuard guard;
  if (all) return train_all(options, teacher, device, common.json);

  const TrainResult result = train_one(options, teacher, device);
  if (result.model.empty()) return 0;
  if (common.json) {
    fmt::print("{}\n", dump_json(to_json(result)));
  } else {
    print(result);
  }
  return 0;
}

}  // namespace efficientad::cli
