#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "efficientad/train/train_options.h"

namespace efficientad {

/// All that a training run needs to go on as if it had not been stopped. Random numbers need no
/// state: they depend on seed and step (see Rng).
struct Checkpoint {
  /// Steps done.
  int64_t step = 0;
  /// Time that they took.
  double seconds = 0;
  /// Parameters of student and autoencoder by name, and their moving averages (or none).
  std::map<std::string, torch::Tensor> weights;
  std::map<std::string, torch::Tensor> averages;
  /// Optimizer::state().
  std::map<std::string, torch::Tensor> optimizer;
  torch::Tensor teacher_mean;
  torch::Tensor teacher_std;
  /// Options that decide about the result (result_options()).
  nlohmann::ordered_json options;
  /// What else must be the same: what it is called, and its value.
  std::map<std::string, std::string> inputs;
};

/// Writes a checkpoint, whole or not at all.
void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint);

/// Reads a checkpoint into memory. Throws Error if it is missing, damaged (its checksum tells) or
/// another kind of file.
Checkpoint load_checkpoint(const std::filesystem::path& path);

/// The options without those that do not change the result: where things are, threads, device,
/// cache_mb, checkpoints. (teacher_cache_mb stays: the teacher's outputs on a crop are rounded in
/// another way than the part of those on the whole image, which are kept.)
nlohmann::ordered_json result_options(const TrainOptions& options);

/// Throws UsageError, naming the option or input and both values, unless the run can go on from the
/// checkpoint.
void check_same_run(const Checkpoint& checkpoint, const nlohmann::ordered_json& options,
                    const std::map<std::string, std::string>& inputs,
                    const std::filesystem::path& path);

}  // namespace efficientad
