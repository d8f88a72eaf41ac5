#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "efficientad/train/checkpoint.h"

namespace efficientad {

/// What a training keeps in its output folder: the model, the log, the checkpoints, the folders of
/// cross-fitting, and an earlier run's files until this one is done.
class TrainingFolder {
 public:
  explicit TrainingFolder(std::filesystem::path path) : path_(std::move(path)) {}

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path model() const { return path_ / "model.safetensors"; }
  std::filesystem::path options() const { return path_ / "options.json"; }
  std::filesystem::path log() const { return path_ / "train_log.csv"; }
  std::filesystem::path checkpoint() const { return path_ / "checkpoint.safetensors"; }
  std::filesystem::path snapshot(int64_t step) const;
  /// The folder of one of cross-fitting's models.
  TrainingFolder fold(int64_t index) const;

  bool has_checkpoint() const { return std::filesystem::exists(checkpoint()); }
  /// Whether a run got as far as its first file.
  bool has_begun() const;
  /// Throws Error if the folder holds a run, or what is left of one.
  void require_free() const;

  /// Moves an earlier run's files away until this one is done. If the run that last did so was
  /// never done, the files that it moved are kept, and its own are deleted.
  void put_aside() const;
  /// Removes what put_aside() keeps.
  void remove_replaced() const;

  /// Begins the log with its header.
  void begin_log() const;
  /// Leaves of the log what belongs to the first `steps` steps.
  void cut_log(int64_t steps) const;

  /// Keeps the checkpoint before as well. There is a good one at every moment.
  void save(const Checkpoint& checkpoint);
  /// The last checkpoint, or the one before it if that is damaged.
  Checkpoint load();
  void remove_checkpoints() const;

  /// Of the images that a fold's model judged; `options`: what makes its result.
  void write_scores(const std::vector<double>& scores, const nlohmann::ordered_json& options) const;
  bool has_scores() const;
  /// Throws Error if the scores are of a run with other options.
  void require_scores_of(const nlohmann::ordered_json& options) const;
  /// Of the images of all `count` folds. Throws Error if a file is missing, damaged or of a run
  /// with other options.
  std::vector<double> scores_of_folds(int64_t count, const nlohmann::ordered_json& options) const;

 private:
  std::filesystem::path previous_checkpoint() const;
  std::filesystem::path scores() const;
  std::filesystem::path folds() const;
  std::filesystem::path replaced() const;

  std::filesystem::path path_;
  /// Of the two checkpoints, the one before is the good one.
  bool last_is_damaged_ = false;
};

}  // namespace efficientad
