#include "efficientad/data/augment.h"

#include <torch/types.h>

#include <vector>

#include "efficientad/core/random.h"
#include "efficientad/data/color_jitter.h"

namespace efficientad {

torch::Tensor augmented_copy(const torch::Tensor& image, uint64_t seed, uint64_t index) {
  constexpr uint64_t kStream = 0x6175676d;
  constexpr double kLargestShift = 0.04;
  constexpr double kLargestChange = 0.1;
  Rng rng(seed, kStream, index);
  torch::Tensor copy = image;
  for (int64_t dim = 1; dim < 3; ++dim) {
    const int64_t side = image.size(dim);
    const auto most = static_cast<int64_t>(kLargestShift * static_cast<double>(side));
    const int64_t shift = rng.between(-most, most);
    std::vector<int64_t> from(static_cast<size_t>(side));
    for (int64_t i = 0; i < side; ++i) {
      const int64_t place = i + shift < 0 ? -(i + shift) : i + shift;
      from[static_cast<size_t>(i)] = place < side ? place : 2 * side - 2 - place;
    }
    copy = copy.index_select(dim, torch::tensor(from, torch::kInt64));
  }
  return adjust_brightness(copy, rng.uniform(1 - kLargestChange, 1 + kLargestChange));
}

}  // namespace efficientad
