#pragma once

#include <cstdint>
#include <cstring>

#include "efficientad/core/exposure_target.h"
#include "efficientad/core/resize_taps.h"

#ifdef __CUDACC__
#define EFFICIENTAD_HOST_DEVICE __host__ __device__
#else
#define EFFICIENTAD_HOST_DEVICE
#endif

namespace efficientad::cuda {

// What kernels compute for a pixel or an image, so that it can be tried on the CPU too.

/// The RGB pixel that a pass of resize_pil_bilinear() makes of `count` pixels, `stride` bytes
/// apart.
EFFICIENTAD_HOST_DEVICE inline void weighted_pixel(const uint8_t* from, int64_t stride,
                                                   int32_t count, const int32_t* weights,
                                                   uint8_t* to) {
  constexpr int32_t kHalf = 1 << (kResizePrecisionBits - 1);
  int32_t sums[3] = {kHalf, kHalf, kHalf};
  for (int32_t k = 0; k < count; ++k, from += stride) {
    for (int c = 0; c < 3; ++c) sums[c] += from[c] * weights[k];
  }
  for (int c = 0; c < 3; ++c) {
    const int32_t value = sums[c] >> kResizePrecisionBits;
    to[c] = static_cast<uint8_t>(value < 0 ? 0 : (value > 255 ? 255 : value));
  }
}

/// exposure_factor() of an image whose `bytes` bytes add up to `sum`.
EFFICIENTAD_HOST_DEVICE inline float exposure_factor_of(uint64_t sum, int64_t bytes) {
  constexpr auto kMean = static_cast<float>(kExposureMean);
  constexpr auto kLeast = static_cast<float>(kExposureMean / kLargestExposureFactor);
  const float mean = static_cast<float>(sum) / (255.0f * static_cast<float>(bytes));
  return kMean / (mean > kLeast ? mean : kLeast);
}

/// Where an output of a bilinear resize (corners not aligned) lies among the inputs, as LibTorch
/// computes it.
struct Source {
  int first;
  int second;
  float weight;
};

/// `from`: the number of inputs; `scale`: inputs to an output.
EFFICIENTAD_HOST_DEVICE inline Source source(int at, int from, float scale) {
  float x = scale * (static_cast<float>(at) + 0.5f) - 0.5f;
  if (x < 0.0f) x = 0.0f;
  int first = static_cast<int>(x);
  if (first > from - 1) first = from - 1;
  return {first, first + 1 < from ? first + 1 : from - 1, x - static_cast<float>(first)};
}

/// The value of a map [.., width] between four of its cells.
EFFICIENTAD_HOST_DEVICE inline float between_cells(const float* map, int64_t width,
                                                   const Source& row, const Source& column) {
  const float* upper = map + row.first * width;
  const float* lower = map + row.second * width;
  const float of_upper =
      (1.0f - column.weight) * upper[column.first] + column.weight * upper[column.second];
  const float of_lower =
      (1.0f - column.weight) * lower[column.first] + column.weight * lower[column.second];
  return (1.0f - row.weight) * of_upper + row.weight * of_lower;
}

/// Ordered as the numbers are, and NaN above them all, so that an integer's maximum finds the
/// greatest or a NaN. None is 0.
EFFICIENTAD_HOST_DEVICE inline uint32_t order_of(float value) {
  constexpr uint32_t kSign = 0x80000000u;
  if (value != value) return ~uint32_t{0};
  uint32_t bits = 0;
  memcpy(&bits, &value, sizeof(bits));
  return (bits & kSign) != 0 ? ~bits : bits | kSign;
}

/// The number of order_of().
EFFICIENTAD_HOST_DEVICE inline float number_of(uint32_t order) {
  constexpr uint32_t kSign = 0x80000000u;
  const uint32_t bits = (order & kSign) != 0 ? order & ~kSign : ~order;
  float value = 0;
  memcpy(&value, &bits, sizeof(value));
  return value;  // Of ~0: the bits of a NaN.
}

}  // namespace efficientad::cuda
