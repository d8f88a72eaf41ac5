#pragma once

#include <torch/types.h>

#include <vector>

namespace efficientad {

/// The q-quantile (q in 0..1) with linear interpolation between the two neighbouring order
/// statistics at (n - 1) q, as numpy's default; exact for any number of elements (torch::quantile
/// refuses more than 2^24) and on any device. A tensor of any shape, float32; result: 0-dim, same
/// device. No gradient. Throws Error for no elements or NaN.
torch::Tensor quantile_of(const torch::Tensor& values, double q);

/// The same for plain numbers, which are reordered.
double quantile_of(std::vector<float>& values, double q);

}  // namespace efficientad
