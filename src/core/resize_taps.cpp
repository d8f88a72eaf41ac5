#include "efficientad/core/resize_taps.h"

#include <algorithm>
#include <cmath>

namespace efficientad {

ResizeTaps make_resize_taps(int64_t in_size, int64_t out_size) {
  const double scale = static_cast<double>(in_size) / static_cast<double>(out_size);
  const double filter_scale = std::max(scale, 1.0);
  const double support = filter_scale;  // the triangle filter reaches 1.0
  const double inverse = 1.0 / filter_scale;
  ResizeTaps taps;
  taps.stride = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  taps.first.resize(static_cast<size_t>(out_size));
  taps.count.resize(static_cast<size_t>(out_size));
  taps.weights.assign(static_cast<size_t>(out_size * taps.stride), 0);
  std::vector<double> weights(static_cast<size_t>(taps.stride));
  for (int64_t i = 0; i < out_size; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    // Casts cut towards zero, as in C.
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(center - support + 0.5), 0);
    const int64_t last = std::min(static_cast<int64_t>(center + support + 0.5), in_size);
    double sum = 0;
    for (int64_t k = 0; k < last - first; ++k) {
      const double distance = std::abs((static_cast<double>(k + first) - center + 0.5) * inverse);
      const double weight = distance < 1.0 ? 1.0 - distance : 0.0;
      weights[static_cast<size_t>(k)] = weight;
      sum += weight;
    }
    taps.first[static_cast<size_t>(i)] = first;
    taps.count[static_cast<size_t>(i)] = last - first;
    for (int64_t k = 0; k < last - first; ++k) {
      double weight = weights[static_cast<size_t>(k)];
      if (sum != 0.0) weight /= sum;
      taps.weights[static_cast<size_t>(i * taps.stride + k)] =
          static_cast<int32_t>(0.5 + weight * (1 << kResizePrecisionBits));
    }
  }
  return taps;
}

}  // namespace efficientad
