#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "efficientad/detect/model_bundle.h"
#include "efficientad/train/train_options.h"

namespace efficientad {

/// Loss terms of a step as numbers, unweighted.
struct LossValues {
  double hard = 0;
  double penalty = 0;
  double autoencoder = 0;
  double student_autoencoder = 0;
};

/// Where a training is. Its stages: "statistics" (of the teacher, images), "images" (taken to the
/// GPU), "train" (steps), "calibrate" (validation images), "judge"
/// (a fold's images).
struct TrainProgress {
  std::string stage;
  int64_t done = 0;
  int64_t total = 0;
  /// In stage "train": of the step just done; the time is that of all steps so far, before an
  /// interruption too.
  LossValues losses = {};
  double learning_rate = 0;
  double seconds = 0;
};

/// What came of it.
struct TrainResult {
  /// Empty, and so is the rest, where another process of the job wrote the model.
  std::filesystem::path model;
  int64_t train_images = 0;
  int64_t validation_images = 0;
  double threshold = 0;
  /// How it came about, and what it promises.
  std::string threshold_rule;
  double seconds = 0;
};

/// What tells one teacher's weights from another's: "teacher.weights" of a model's provenance.
std::string hash_of_teacher(const Teacher& teacher);

/// Whether a training began in the folder `output`, so that it can be resumed.
bool training_has_begun(const std::filesystem::path& output);

/// Trains a detector (paper, section 3 and algorithm 1) and writes into options.output:
/// model.safetensors, options.json, train_log.csv (one row a step) and checkpoint.safetensors,
/// which is made every checkpoint_minutes, when the user interrupts, and after the last step; the
/// one before it stays as checkpoint_previous.safetensors, for the case that the last is damaged.
/// With cross_fit, cross_fit/fold_N/normal_scores.json come first, and are kept.
/// With snapshot_steps also snapshots/step_N.safetensors, models of the way there.
/// Several processes (see Ranks) share a step, a batch of batch_size images each, and give what one
/// with batches of all their sizes would give but for rounding; all must see the same files.
/// A run that is to resume, but was stopped before its first checkpoint, begins anew.
/// `teacher` is a float32 network of the options' size and padding. `progress`, if there is one, is
/// called after each image or step. The options category "all", shard, teacher, device and threads
/// are the caller's to follow. LibTorch's random generators are seeded, and cuDNN is told to
/// compare its algorithms, for the whole process: one training at a time, and nothing beside it
/// that draws random numbers or constructs networks (load_bundle() does). One seed gives one model,
/// to the byte, on one machine's CPU, whether or not the run was interrupted and resumed. Throws
/// UsageError for options that cannot be; Error for data that cannot be used, an output folder that
/// already holds a model or checkpoint (nothing is touched then), or a loss that is not finite;
/// Interrupted once the user asked to stop (interrupt_requested()) and the checkpoint is written.
TrainResult train_detector(const TrainOptions& options, const Teacher& teacher,
                           torch::Device device,
                           const std::function<void(const TrainProgress&)>& progress);

}  // namespace efficientad
