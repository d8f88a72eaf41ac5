#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "efficientad/core/safetensors.h"

namespace efficientad {

/// EfficientNet-Lite 0, 1 or 2 (Tan and Le 2019; the Lite variants without squeeze-and-excitation
/// and with ReLU6), for inference, batch norm folded into the convolutions, TensorFlow's SAME
/// padding. Threads may share one.
class EfficientNetLite {
 public:
  /// From the tensors of scripts/convert_backbone.py. `path` is for messages. Throws Error if one
  /// is missing or misshapen.
  EfficientNetLite(const TensorFile& file, const std::filesystem::path& path);

  /// Moves the weights, which are on the CPU at first.
  void to(torch::Device device);

  /// Outputs of the given blocks (ascending): float32 [N, 3, H, W] in 0..1 to [N, C, h, w] each.
  std::vector<torch::Tensor> features(const torch::Tensor& images,
                                      const std::vector<int64_t>& blocks) const;

  /// The 1000 ImageNet class scores: [N, 1000].
  torch::Tensor classify(const torch::Tensor& images) const;

  int64_t block_count() const { return static_cast<int64_t>(blocks_.size()); }

 private:
  struct Conv {
    torch::Tensor weight;
    torch::Tensor bias;
    int64_t stride = 1;
    int64_t groups = 1;
    torch::Tensor operator()(const torch::Tensor& x) const;
  };
  struct Block {
    bool has_expand = false;
    bool skip = false;
    Conv expand;
    Conv depthwise;
    Conv project;
    torch::Tensor operator()(const torch::Tensor& x) const;
  };

  torch::Tensor stem(const torch::Tensor& images) const;

  Conv stem_;
  std::vector<Block> blocks_;
  Conv head_;
  torch::Tensor classifier_weight_;
  torch::Tensor classifier_bias_;
};

}  // namespace efficientad
