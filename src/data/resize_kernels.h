#pragma once

#include <cstdint>

#include "efficientad/core/resize_taps.h"

namespace efficientad::internal {

/// The loops of resize_pil_bilinear(), compiled once for each instruction set and chosen at run
/// time. Weights and sums have kResizePrecisionBits behind the point.

/// RGB pixels of which kRgbGroup are weighed together, so that there are as many weights to each
/// output, the last ones 0 if need be. Each stands kRgbWeightCopies times, for all channels.
inline constexpr int64_t kRgbGroup = 4;
inline constexpr int64_t kRgbWeightCopies = 4;
/// Bytes behind the first one of a group that are read, but not used.
inline constexpr int64_t kRgbReadBeyond = 16;

/// One row of RGB pixels to `width` weighted means.
struct RgbRow {
  /// Readable for kRgbReadBeyond bytes from each group's first pixel on.
  const uint8_t* in = nullptr;
  /// The first pixel that output x draws on.
  const int64_t* first = nullptr;
  /// The number of groups, the same for all outputs.
  int64_t groups = 0;
  /// [width, groups, kRgbGroup, kRgbWeightCopies].
  const int32_t* weights = nullptr;
  int64_t width = 0;
  /// [width, 3].
  uint8_t* out = nullptr;
};

/// `count` rows of `size` numbers, the first at `in`, to their weighted mean.
struct WeightedRows {
  const uint8_t* in = nullptr;
  const int32_t* weights = nullptr;
  int64_t count = 0;
  int64_t size = 0;
  uint8_t* out = nullptr;
};

struct ResizeKernels {
  const char* name;
  void (*rgb_row)(const RgbRow&);
  void (*weighted_rows)(const WeightedRows&);
};

/// The best that this machine can run.
const ResizeKernels& resize_kernels();

}  // namespace efficientad::internal
