#include "efficientad/nn/exposure.h"

#include <torch/types.h>

namespace efficientad {

torch::Tensor exposure_factor(const torch::Tensor& mean) {
  constexpr double kMean = 0.45;
  constexpr double kLargestFactor = 4;
  return kMean / mean.clamp_min(kMean / kLargestFactor);
}

torch::Tensor equalize_exposure(const torch::Tensor& images) {
  const torch::Tensor mean = images.mean({-3, -2, -1}, /*keepdim=*/true);
  return (images * exposure_factor(mean)).clamp_max(1);
}

}  // namespace efficientad
