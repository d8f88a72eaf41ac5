#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace efficientad {

/// Where a quantile lies among sorted values: between two order statistics.
struct QuantilePosition {
  int64_t lower;
  int64_t upper;
  /// Of the upper one.
  double weight;
};

/// Of `count` values, at (count - 1) q. Throws Error if count is 0.
QuantilePosition quantile_position(int64_t count, double q);

/// The q-quantile (q in 0..1) with linear interpolation between the two neighbouring order
/// statistics at (n - 1) q, as numpy's default; exact for any number of elements (torch::quantile
/// refuses more than 2^24) and on any device. A tensor of any shape, float32; result: 0-dim, same
/// device. No gradient. Throws Error for no elements or NaN.
torch::Tensor quantile_of(const torch::Tensor& values, double q);

/// The same for plain numbers, which are reordered.
double quantile_of(std::vector<float>& values, double q);

}  // namespace efficientad
