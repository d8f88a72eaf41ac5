#pragma once

#include <cstdint>
#include <vector>

namespace efficientad {

/// Bits behind the point of a weight: 32 less 8 for the pixel and 2 for overshoot, which other
/// filters of Pillow's have.
inline constexpr int kResizePrecisionBits = 32 - 8 - 2;

/// One pass of an image's resize: for each output position the first input position it draws on,
/// their number, and their weights.
struct ResizeTaps {
  int64_t stride = 0;
  std::vector<int64_t> first;
  std::vector<int64_t> count;
  /// [positions, stride], fixed point.
  std::vector<int32_t> weights;
};

/// Those of Pillow's bilinear filter, a triangle as wide as the reduction: precompute_coeffs() and
/// normalize_coeffs_8bpc() of its Resample.c, operation by operation, as the rounding of every step
/// shows in the result. Both sizes in px, at least 1.
ResizeTaps make_resize_taps(int64_t in_size, int64_t out_size);

}  // namespace efficientad
