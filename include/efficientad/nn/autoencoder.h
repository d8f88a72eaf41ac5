#pragma once

#include <torch/nn/modules/conv.h>

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "efficientad/core/random.h"

namespace efficientad {

/// Height and width at which the autoencoder sees an image in mode "fixed": its encoder ends in an
/// 8x8 kernel that covers the whole image, one vector for all of it, only at this size.
inline constexpr int64_t kAutoencoderSide = 256;

/// Called with each convolution and its input before it runs.
using BeforeConvolution = std::function<void(torch::nn::Conv2dImpl&, const torch::Tensor&)>;

/// Encoder (paper, table 8): 3→32→32→64→64→64 4x4 stride 2 pad 1 with ReLU, then 64→64 8x8.
class EncoderImpl : public torch::nn::Module {
 public:
  EncoderImpl();
  torch::Tensor forward(torch::Tensor images, const BeforeConvolution& before = {});

 private:
  std::vector<torch::nn::Conv2d> convs_;
};
TORCH_MODULE(Encoder);

/// Decoder (paper, table 9): six times upsample, 4x4 convolution pad 2, ReLU, dropout 0.2; then
/// upsample to the output size, 3x3 convolution with ReLU, 3x3 convolution to `out_channels`.
class DecoderImpl : public torch::nn::Module {
 public:
  explicit DecoderImpl(int64_t out_channels);
  torch::Tensor forward(torch::Tensor codes, std::array<int64_t, 2> image_hw,
                        std::array<int64_t, 2> output_hw,
                        const std::vector<uint64_t>& dropout_seeds = {},
                        const BeforeConvolution& before = {});

 private:
  std::vector<torch::nn::Conv2d> convs_;
};
TORCH_MODULE(Decoder);

/// The autoencoder that predicts the normalised teacher's output from the whole image.
class AutoencoderImpl : public torch::nn::Module {
 public:
  explicit AutoencoderImpl(int64_t out_channels = 384);

  /// float32 [N, 3, H, W], ImageNet-normalised, H and W at least 256, to [N, out_channels, h, w]
  /// with `output_hw` = {h, w}. Dropout is active in training mode; `dropout_seeds`: one an image,
  /// as dropout() takes them.
  torch::Tensor forward(const torch::Tensor& images, std::array<int64_t, 2> output_hw,
                        const std::vector<uint64_t>& dropout_seeds = {});

  /// New weights: each layer for unit variance on `images`, which are as forward()'s (see
  /// initialize_unit_variance()); the last layer's are 0, so that training begins at the mean of
  /// the normalised teacher. LibTorch's own initial weights shrink what tells two images apart in
  /// every one of the 14 layers.
  void initialize(const torch::Tensor& images, std::array<int64_t, 2> output_hw, Rng& rng);

 private:
  torch::Tensor run(const torch::Tensor& images, std::array<int64_t, 2> output_hw,
                    const std::vector<uint64_t>& dropout_seeds, const BeforeConvolution& before);

  Encoder encoder_;
  Decoder decoder_;
};
TORCH_MODULE(Autoencoder);

/// Bilinear, antialiased resize of [N, 3, H, W] to kAutoencoderSide squared, for mode "fixed"; the
/// tensor itself if it has that size.
torch::Tensor autoencoder_input_fixed(const torch::Tensor& images);

}  // namespace efficientad
