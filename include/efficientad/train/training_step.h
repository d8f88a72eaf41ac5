#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "efficientad/core/recorder.h"
#include "efficientad/detect/detector.h"
#include "efficientad/nn/losses.h"

namespace efficientad {

/// The images of one training step, ImageNet-normalised float32 on the networks' device. What
/// the student sees are crops of h x w px, or whole images.
struct TrainBatch {
  /// Training images I: [N, 3, h, w].
  torch::Tensor images{};
  /// Their upper left corners in the whole images (row, column; px, multiples of 4).
  std::vector<std::array<int64_t, 2>> corners{};
  /// Colour-jittered copies A of the first of them, whole, for the autoencoder: [A, 3, H, W].
  torch::Tensor jittered{};
  /// The same of the crops of `jittered` that the student sees.
  std::vector<std::array<int64_t, 2>> jittered_corners{};
  /// Images P of other things: [P, 3, h, w]; undefined: no penalty.
  torch::Tensor penalty{};
  /// What the teacher gives for `images`, not yet normalised, if that is known already:
  /// [N, C, h', w']; undefined: it is computed.
  torch::Tensor teacher{};
  /// The last of `images`, whole, for the autoencoder to see as they are: [B, 3, H, W]; undefined:
  /// it sees jittered ones only.
  torch::Tensor plain{};
  /// What the teacher gives for `plain`, as `teacher`: [B, C, h, w].
  torch::Tensor teacher_plain{};
  /// `corners` and `jittered_corners` as int64 [N, 2] and [A, 2] on the images' device; those are
  /// then empty, and the losses are computed without waiting for the device.
  torch::Tensor corners_at{};
  torch::Tensor jittered_corners_at{};
  /// For the autoencoder's dropout, A + B; empty: from LibTorch's generator.
  std::vector<uint64_t> dropout_seeds{};
};

/// The loss terms of a step (paper, section 3.2 and 3.3), unweighted, float32 whatever the
/// precision. The teacher has no part in the gradient. With crops, the student gives exactly that
/// window of the whole image's output (without padding) and is compared with the same window of
/// what teacher and autoencoder give; the autoencoder learns from the teacher on the whole image.
/// Where there are `plain` images, its two terms are means over these and the jittered ones (the
/// paper has jittered ones only). `precision`: "fp32" or "bf16". If the student's error is not
/// finite, so is `hard`. Without penalty images `penalty` is 0. The gradient of
/// `student_autoencoder` reaches the autoencoder only if `student_guides_autoencoder` (the
/// paper's). `parallel`: the autoencoder beside the others, forward and backward; the batch and the
/// losses must then live until the gradients are there.
Losses training_losses(const DetectorNetworks& networks, const TrainBatch& batch,
                       double hard_quantile, const std::string& precision,
                       bool student_guides_autoencoder = true, const Parallel& parallel = {});

/// The same without short cuts, as the paper writes it: teacher and student see each image apart
/// and give all of their outputs. What a batch knows of the teacher's outputs is not used.
Losses plain_training_losses(const DetectorNetworks& networks, const TrainBatch& batch,
                             double hard_quantile, const std::string& precision,
                             bool student_guides_autoencoder = true);

}  // namespace efficientad
