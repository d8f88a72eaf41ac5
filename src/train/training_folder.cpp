#include "train/training_folder.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "efficientad/core/error.h"
#include "efficientad/core/file.h"
#include "efficientad/core/json.h"
#include "efficientad/core/log.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

constexpr const char* kLogHeader =
    "step,seconds,loss_hard,loss_penalty,loss_ae,loss_stae,learning_rate\n";

}  // namespace

fs::path TrainingFolder::snapshot(int64_t step) const {
  return path_ / "snapshots" / fmt::format("step_{}.safetensors", step);
}

fs::path TrainingFolder::previous_checkpoint() const {
  return path_ / "checkpoint_previous.safetensors";
}

fs::path TrainingFolder::scores() const { return path_ / "normal_scores.json"; }

fs::path TrainingFolder::folds() const { return path_ / "cross_fit"; }

fs::path TrainingFolder::replaced() const { return path_ / "replaced"; }

TrainingFolder TrainingFolder::fold(int64_t index) const {
  return TrainingFolder(folds() / fmt::format("fold_{}", index + 1));
}

bool TrainingFolder::has_begun() const { return fs::exists(log()) || fs::exists(folds()); }

void TrainingFolder::require_free() const {
  for (const fs::path& path : {model(), checkpoint(), replaced(), folds()}) {
    require(!fs::exists(path),
            "{}: already holds {}; give another output folder, --resume to go on, or --overwrite "
            "to begin anew",
            path_.string(), path.filename().string());
  }
  for (const char* name : {"scores.csv", "report.json", "shifts.csv"}) {
    require(!fs::exists(path_ / name),
            "{}: holds {}, results of another command; give another "
            "output folder",
            path_.string(), name);
  }
}

void TrainingFolder::put_aside() const {
  const bool kept = fs::exists(replaced());
  for (const fs::path& path : {model(), options(), log(), checkpoint(), previous_checkpoint(),
                               path_ / "snapshots", folds()}) {
    if (!fs::exists(path)) continue;
    if (kept) {
      fs::remove_all(path);
      continue;
    }
    make_folder(replaced());
    fs::rename(path, replaced() / path.filename());
  }
  if (fs::exists(replaced())) {
    spdlog::info("the earlier run's files are kept in {} until this one is done",
                 replaced().string());
  }
}

void TrainingFolder::remove_replaced() const { fs::remove_all(replaced()); }

void TrainingFolder::begin_log() const { write_file(log(), kLogHeader); }

void TrainingFolder::cut_log(int64_t steps) const {
  std::string kept = kLogHeader;
  if (fs::exists(log())) {
    std::istringstream lines(read_file(log()));
    std::string line;
    std::getline(lines, line);
    while (std::getline(lines, line)) {
      const size_t comma = line.find(',');
      if (comma == 0 || comma == std::string::npos ||
          line.find_first_not_of("0123456789") != comma || comma > 15) {
        break;
      }
      if (std::stoll(line.substr(0, comma)) > steps) break;
      kept += line + "\n";
    }
  }
  write_file(log(), kept);
}

void TrainingFolder::save(const Checkpoint& checkpoint) {
  if (has_checkpoint() && !last_is_damaged_) {
    // A second name for the file, whose first one then goes to the new file.
    std::error_code ignored;
    fs::remove(previous_checkpoint(), ignored);
    fs::create_hard_link(this->checkpoint(), previous_checkpoint(), ignored);
  }
  save_checkpoint(this->checkpoint(), checkpoint);
  last_is_damaged_ = false;
}

Checkpoint TrainingFolder::load() {
  try {
    return load_checkpoint(checkpoint());
  } catch (const Error& error) {
    if (!fs::exists(previous_checkpoint())) throw;
    spdlog::warn("{}; going on from the checkpoint before it", error.what());
    Checkpoint previous = load_checkpoint(previous_checkpoint());
    last_is_damaged_ = true;
    return previous;
  }
}

void TrainingFolder::remove_checkpoints() const {
  for (const fs::path& path : {checkpoint(), previous_checkpoint()}) fs::remove(path);
}

void TrainingFolder::write_scores(const std::vector<double>& scores,
                                  const nlohmann::ordered_json& options) const {
  write_json(this->scores(), {{"scores", scores}, {"options", options}});
}

void TrainingFolder::require_scores_of(const nlohmann::ordered_json& options) const {
  const auto file = parse_json<nlohmann::ordered_json>(read_file(scores()), scores().string());
  Checkpoint before;
  if (file.is_object() && file.contains("options")) before.options = file.at("options");
  check_same_run(before, options, {}, scores());
}

bool TrainingFolder::has_scores() const { return fs::exists(scores()); }

std::vector<double> TrainingFolder::scores_of_folds(int64_t count,
                                                    const nlohmann::ordered_json& options) const {
  std::vector<double> all;
  for (int64_t i = 0; i < count; ++i) {
    const fs::path file = fold(i).scores();
    fold(i).require_scores_of(options);
    try {
      const auto scores = read_json(file).at("scores").get<std::vector<double>>();
      all.insert(all.end(), scores.begin(), scores.end());
    } catch (const nlohmann::json::exception&) {
      throw Error(fmt::format("{}: is damaged; delete {} and resume", file.string(),
                              file.parent_path().string()));
    }
  }
  return all;
}

}  // namespace efficientad
