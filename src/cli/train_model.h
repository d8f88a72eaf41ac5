#pragma once

#include "efficientad/detect/model_bundle.h"
#include "efficientad/train/trainer.h"

namespace efficientad::cli {

/// The teacher that the options name: a file, random, or the shipped one of the model's size, which
/// is looked for beside the program, in the source tree and where it is installed.
Teacher find_teacher(const TrainOptions& options);

/// Trains one model, with progress.
TrainResult train_one(const TrainOptions& options, const Teacher& teacher, torch::Device device);

}  // namespace efficientad::cli
