#include "efficientad/nn/exposure.h"

#include <torch/torch.h>

namespace efficientad {

torch::Tensor equalize_exposure(const torch::Tensor& images) {
  constexpr double kMean = 0.45;
  constexpr double kLargestFactor = 4;
  const torch::Tensor mean = images.mean({-3, -2, -1}, /*keepdim=*/true);
  return (images * (kMean / mean.clamp_min(kMean / kLargestFactor))).clamp_max(1);
}

}  // namespace efficientad
