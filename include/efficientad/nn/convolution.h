#pragma once

#include <torch/types.h>

#include <cstdint>

namespace efficientad {

/// While one of these lives with `active`, convolve() in this thread takes the fast ways that there
/// are, whose results and gradients differ from LibTorch's by rounding only; without, LibTorch's.
class FastConvolutions {
 public:
  explicit FastConvolutions(bool active);
  ~FastConvolutions();
  FastConvolutions(const FastConvolutions&) = delete;
  FastConvolutions& operator=(const FastConvolutions&) = delete;

 private:
  bool before_;
};

/// Cross-correlation of stride 1 with `padding` zeros around: images [N, C, H, W], weights
/// [D, C, k, k], bias [D] to [N, D, H', W'], differentiable. The fast way, for float32 on the CPU,
/// kernels of 3 and 4 px and channels that are multiples of 32: Winograd's method (Lavin and Gray,
/// "Fast algorithms for convolutional neural networks", 2016) for the outputs and both gradients;
/// where next to all gradients of the outputs are zero, as those of the hard-feature loss are, the
/// gradients are sums over the others.
torch::Tensor convolve(const torch::Tensor& images, const torch::Tensor& weights,
                       const torch::Tensor& bias, int64_t padding = 0);

/// Means of 2x2 windows, with stride 2, of max(x, 0): [N, C, H, W] to [N, C, H / 2, W / 2] (rounded
/// down), differentiable. The fast way reads and writes the images once instead of twice.
torch::Tensor relu_pool(const torch::Tensor& images);

/// relu_pool() of convolve() without padding. The fast way on a GPU (with the CUDA part) adds the
/// bias, and sums up its gradient, while it pools.
torch::Tensor conv_relu_pool(const torch::Tensor& images, const torch::Tensor& weights,
                             const torch::Tensor& bias);

}  // namespace efficientad
