#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace efficientad::cpu {

/// Cook-Toom's G for the points 0, 1, -1, 2, -2, 1/2, -1/2 and infinity: float64 [8, kernel], which
/// with the transforms in kernels.cpp makes F(9 - kernel, kernel) (Lavin and Gray, "Fast algorithms
/// for convolutional neural networks", 2016).
torch::Tensor winograd_g(int64_t kernel);

/// Weights [channels, inputs, kernel, kernel] of a convolution as WinogradConvolution wants them:
/// G w G^T (computed in float64) laid out [panel][position][input][panel's channel], float32.
torch::Tensor pack_winograd_weights(const torch::Tensor& weights, int64_t panel);

/// Rows [numbers, channels], in the order of a product's segments, as DirectConvolution wants them:
/// [panel][number][panel's channel], float32.
torch::Tensor pack_weights(const torch::Tensor& rows, int64_t panel);

/// Rows of a convolution's weights [channels, inputs, kernel, kernel] in the order (row, column,
/// input): [kernel * kernel * inputs, channels].
torch::Tensor rows_of(const torch::Tensor& weights);

}  // namespace efficientad::cpu
