#include <unistd.h>

#include <filesystem>
#include <memory>

#include "cli/command.h"
#include "efficientad/core/buffer.h"
#include "efficientad/core/device.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/log.h"
#include "efficientad/core/progress.h"
#include "efficientad/train/trainer.h"

namespace efficientad::cli {

namespace fs = std::filesystem;

namespace {

/// The folder that this program's file is in.
fs::path program_folder() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  return error ? fs::current_path() : program.parent_path();
}

/// The shipped teacher of a size: beside an unpacked program, in the source tree that it was built
/// in, or where it is installed.
fs::path shipped_teacher(const std::string& model_size) {
  const std::string name = "teacher_" + model_size + ".safetensors";
  std::string tried;
  for (const char* folder :
       {"models", "../models", "../../../models", "../share/efficientad/models"}) {
    const fs::path path = (program_folder() / folder / name).lexically_normal();
    if (fs::exists(path)) return path;
    tried += (tried.empty() ? "" : ", ") + path.string();
  }
  throw Error(
      fmt::format("no teacher of size {} is shipped with this program (looked for {}); give "
                  "one with --teacher, made by efficientad distill --model-size {}",
                  model_size, tried, model_size));
}

Teacher find_teacher(const TrainOptions& options) {
  const std::string& name = options.teacher;
  const std::string random = "random";
  if (name == random || name.rfind(random + ":", 0) == 0) {
    const std::string seed = name == random ? "0" : name.substr(random.size() + 1);
    constexpr size_t kMostDigits = 15;
    require_usage(!seed.empty() && seed.size() <= kMostDigits &&
                      seed.find_first_not_of("0123456789") == std::string::npos,
                  "teacher is \"{}\", but a seed is a whole number, as in random:1", name);
    return random_teacher(options.model_size, options.padding, std::stoll(seed));
  }
  const fs::path path = name.empty() ? shipped_teacher(options.model_size) : fs::path(name);
  spdlog::info("teacher: {}", path.string());
  return load_teacher(path, options.model_size, options.padding);
}

}  // namespace

int train(const Arguments& arguments) {
  TrainOptions options;
  const CommonFlags common =
      parse_options(arguments, "Train a detector on images of good parts.", options);
  check_train_options(options);
  set_threads(options.threads);
  const torch::Device device = select_device(options.device);
  const Teacher teacher = find_teacher(options);

  keep_freed_memory();
  const InterruptGuard guard;
  std::unique_ptr<Progress> progress;
  std::string stage;
  const TrainResult result =
      train_detector(options, teacher, device, [&](const TrainProgress& now) {
        if (now.stage != stage) {
          progress.reset();
          stage = now.stage;
          progress = std::make_unique<Progress>(stage, now.total,
                                                stage == "train" ? "step" : "image", now.done - 1);
        }
        progress->update(
            now.done, stage == "train"
                          ? fmt::format("hard {:.3g} penalty {:.3g} ae {:.3g} stae {:.3g}",
                                        now.losses.hard, now.losses.penalty, now.losses.autoencoder,
                                        now.losses.student_autoencoder)
                          : "");
      });
  progress.reset();
  if (common.json) {
    const nlohmann::ordered_json json = {{"model", result.model.string()},
                                         {"train_images", result.train_images},
                                         {"validation_images", result.validation_images},
                                         {"threshold", result.threshold},
                                         {"seconds", result.seconds}};
    fmt::print("{}\n", dump_json(json));
  } else {
    fmt::print("{}\ntrained on {} images in {}, calibrated on {}; threshold {:.4f}\n",
               result.model.string(), result.train_images, format_duration(result.seconds),
               result.validation_images, result.threshold);
  }
  return 0;
}

}  // namespace efficientad::cli
