#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "efficientad/train/training_images.h"

namespace efficientad {

/// Makes the batches of training steps where the images lie as bytes, on a GPU. A step's decisions
/// come there in one small copy; all else is computed there, by operations that neither wait for
/// the host nor take their sizes from the data, so that a CUDA graph can record them. The same
/// numbers as TrainingImages::prepare() but for rounding.
class DeviceImages {
 public:
  /// For images of `image_hw` px, on `device`. If `resident`, train_u8 and penalty_u8 are all
  /// images, uint8 [n, H, W, 3], and stay there; else they are undefined, and those of a step come
  /// with it. Without penalty, penalty_u8 is undefined.
  DeviceImages(const TrainOptions& options, torch::Device device, bool resident,
               torch::Tensor train_u8, torch::Tensor penalty_u8);

  /// What the teacher gives for all training images, [n, C, h, w], if they are resident: batches
  /// then hold it.
  void keep_teacher(const torch::Tensor& outputs);

  /// Takes over the decisions of a step, and its images if none are resident.
  void load(const TrainingImages::Drawn& drawn);

  /// The batch of the step loaded last.
  TrainBatch batch() const;

 private:
  TrainOptions options_;
  torch::Device device_;
  bool resident_;
  /// All images, or a step's: uint8 [n, H, W, 3].
  torch::Tensor train_u8_;
  torch::Tensor penalty_u8_;
  /// [n, h, w, C]; may be undefined.
  torch::Tensor teacher_;
  torch::Tensor mean_;
  torch::Tensor std_;
  torch::Tensor grey_weights_;
  /// A step's decisions as float64, on the host and on the device: seven numbers an image and five
  /// a jittered one (see load()).
  torch::Tensor host_;
  torch::Tensor decisions_;
  /// Only the CPU's dropout takes them.
  std::vector<uint64_t> dropout_seeds_;
  int64_t penalty_count_;
  int64_t jittered_count_;
};

/// Windows of [N, H, W, C] that begin at `corners`, int64 [N, 2] (row, column) on the same device,
/// of the images `indices`, int64 [N]: [N, C, height, width], channels innermost.
torch::Tensor windows_at(const torch::Tensor& images_nhwc, const torch::Tensor& indices,
                         const torch::Tensor& corners, int64_t height, int64_t width);

}  // namespace efficientad
