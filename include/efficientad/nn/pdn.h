#pragma once

#include <torch/nn/modules/conv.h>

#include <cstdint>
#include <string>
#include <vector>

namespace efficientad {

/// What makes a patch description network (paper, section 3.1 and appendix A.1, tables 6 and 7).
struct PdnOptions {
  /// "small" (PDN-S) or "medium" (PDN-M).
  std::string model_size = "small";
  /// C = 384 for a teacher, 2C = 768 for a student.
  int64_t out_channels = 384;
  /// Zero padding: 3 at 4x4, 1 at 3x3 convolutions and pools, 0 at the layer that makes the output
  /// grid. Without it, output j is centred on pixel 4 j + 16.5.
  bool padding = false;
};

/// Pixels from one output of a PDN to the next.
inline constexpr int64_t kPdnStride = 4;

/// Output rows (or columns) of a PDN for `side` input pixels: ceil(side / 4) - 8 without padding,
/// eight more with. Throws Error for a side under 64 px.
int64_t pdn_output_side(int64_t side, bool padding);

/// Patch description network: float32 [N, 3, H, W], ImageNet-normalised, to [N, out_channels, h, w]
/// with h = pdn_output_side(H). Receptive field 33 px, stride 4. The parameters are conv1 … conv4
/// (small) or conv6 (medium). As all modules it must not be used by two threads at once while it
/// is trained; forward passes without gradient may run side by side.
class PdnImpl : public torch::nn::Module {
 public:
  explicit PdnImpl(const PdnOptions& options);

  torch::Tensor forward(const torch::Tensor& images);

  /// All but the last layer: the input of head(), already activated.
  torch::Tensor trunk(const torch::Tensor& images);

  /// The last layer's output channels begin … begin + count - 1 of trunk()'s result; equal to that
  /// part of forward() and cheaper, for the student, of which each loss needs one half.
  torch::Tensor head(const torch::Tensor& features, int64_t begin, int64_t count);

  /// What convolution number `layer` (from 0) gives, before its activation (for initialisation).
  torch::Tensor layer_output(const torch::Tensor& images, int64_t layer);

  const PdnOptions& options() const { return options_; }

 private:
  /// The input of convolution number `layer`.
  torch::Tensor up_to(const torch::Tensor& images, size_t layer);
  torch::Tensor convolution(const torch::Tensor& x, size_t layer) const;
  torch::Tensor pool(const torch::Tensor& x) const;

  PdnOptions options_;
  std::vector<torch::nn::Conv2d> convs_;
};
TORCH_MODULE(Pdn);

}  // namespace efficientad
