#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "efficientad/nn/pdn.h"
#include "efficientad/train/training_step.h"

namespace efficientad {

/// The teacher's outputs on training images. They do not change in training, so those of as many
/// images as fit into memory are computed once; without padding, what the teacher gives for a crop
/// is a window of what it gives for the whole image. Kept in the precision they are computed in, so
/// that keeping them rounds nothing. Which images are kept depends on sizes alone, not on their
/// order of use. For one thread.
class TeacherOutputs {
 public:
  /// For `images` training images of `image_hw` px, with at most `budget_bytes` of memory.
  /// `precision`: "fp32" or "bf16"; `equalize_exposure`: as network_input() takes it.
  TeacherOutputs(Pdn teacher, torch::Device device, std::string precision,
                 std::array<int64_t, 2> image_hw, bool equalize_exposure, int64_t images,
                 int64_t budget_bytes);

  /// Of how many images the outputs are kept; these are the first.
  int64_t kept() const { return static_cast<int64_t>(outputs_.size()); }

  /// The teacher's output, not normalised, on training image `index`, uint8 [H, W, 3]: [1, C, h,
  /// w].
  torch::Tensor whole(int64_t index, const torch::Tensor& image);

  /// The outputs on all training images, [n, C, h, w], which are then no longer kept here;
  /// undefined if they are not all kept. `image` gives those that were not seen yet, uint8 [H, W,
  /// 3].
  torch::Tensor all(const std::function<torch::Tensor(int64_t)>& image);

  /// The same on the crops batch.images of the training images `indices`, which are `images`,
  /// uint8 [H, W, 3]: [N, C, h', w']. Undefined if none of them is kept.
  torch::Tensor of_crops(const std::vector<int64_t>& indices,
                         const std::vector<torch::Tensor>& images, const TrainBatch& batch);

 private:
  torch::Tensor run(const torch::Tensor& images);

  Pdn teacher_;
  torch::Device device_;
  std::string precision_;
  bool equalize_exposure_;
  int64_t images_;
  /// [1, C, h, w] each, channels innermost; undefined: not computed yet.
  std::vector<torch::Tensor> outputs_;
};

}  // namespace efficientad
