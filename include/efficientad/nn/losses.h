#pragma once

#include <torch/types.h>

namespace efficientad {

/// L_hard (paper, section 3.2, algorithm 1): mean of those entries of the squared difference that
/// are at least its q-quantile. [N, C, h, w]; the quantile is taken for each image, the mean over
/// all chosen entries of the batch.
torch::Tensor hard_feature_loss(const torch::Tensor& squared_difference, double q);

/// The same, dense and without waiting for the device: a CUDA graph can record it. NaN where the
/// other throws.
torch::Tensor hard_feature_loss_unsynchronised(const torch::Tensor& squared_difference, double q);

/// Loss terms of one training step, each 0-dim with gradient.
struct Losses {
  torch::Tensor hard;
  torch::Tensor penalty;
  torch::Tensor autoencoder;
  torch::Tensor student_autoencoder;
  /// What several streams of a GPU read until the gradients are there.
  torch::Tensor held{};
};

}  // namespace efficientad
