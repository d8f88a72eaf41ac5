#include "cli/train_model.h"

#include <filesystem>
#include <memory>

#include "efficientad/core/error.h"
#include "efficientad/core/log.h"
#include "efficientad/core/progress.h"

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

}  // namespace

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

TrainResult train_one(const TrainOptions& options, const Teacher& teacher, torch::Device device) {
  std::unique_ptr<Progress> progress;
  std::string stage;
  return train_detector(options, teacher, device, [&](const TrainProgress& now) {
    if (now.stage != stage) {
      progress.reset();
      stage = now.stage;
      progress = std::make_unique<Progress>(stage, now.total, stage == "train" ? "step" : "image",
                                            now.done - 1);
    }
    progress->update(now.done,
                     stage == "train"
                         ? fmt::format("hard {:.3g} penalty {:.3g} ae {:.3g} stae {:.3g}",
                                       now.losses.hard, now.losses.penalty, now.losses.autoencoder,
                                       now.losses.student_autoencoder)
                         : "");
  });
}

}  // namespace efficientad::cli
