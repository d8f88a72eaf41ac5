#pragma once

#include <torch/types.h>

#include <string>

namespace efficientad {

/// Both maps of some images as the networks give them, before normalisation: float32 [N, 1, h, w]
/// on the PDN's grid.
struct RawMaps {
  torch::Tensor st;
  torch::Tensor ae;
};

/// Mean over channels of the squared difference between the normalised teacher [N, C, h, w] and the
/// student's first C channels (paper, section 3.2): float32 [N, 1, h, w].
torch::Tensor map_st(const torch::Tensor& normalized_teacher, const torch::Tensor& student);

/// Mean over channels of the squared difference between the autoencoder [N, C, h, w] and the
/// student's last C channels (paper, section 3.3): float32 [N, 1, h, w].
torch::Tensor map_ae(const torch::Tensor& autoencoder, const torch::Tensor& student);

/// Layers that an engine computes side by side, and what they cost.
struct LayerTime {
  /// For example "conv2 + enconv2".
  std::string name;
  double milliseconds = 0;
  /// Multiply-adds that convolutions without short cuts would take, and those that were computed
  /// (without the transforms).
  double direct_multiplications = 0;
  double multiplications = 0;
};

/// A trained model's networks made ready for inference. Threads may share one.
class Engine {
 public:
  virtual ~Engine() = default;
  Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Both maps of float32 [N, 3, H, W], ImageNet-normalised, on any device; the maps are on the
  /// engine's.
  virtual RawMaps maps(const torch::Tensor& images) const = 0;
};

}  // namespace efficientad
