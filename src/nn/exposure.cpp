#include "efficientad/nn/exposure.h"

#include <torch/types.h>

#include "efficientad/core/exposure_target.h"

namespace efficientad {

torch::Tensor exposure_factor(const torch::Tensor& mean) {
  return kExposureMean / mean.clamp_min(kExposureMean / kLargestExposureFactor);
}

torch::Tensor equalize_exposure(const torch::Tensor& images) {
  const torch::Tensor mean = images.mean({-3, -2, -1}, /*keepdim=*/true);
  return (images * exposure_factor(mean)).clamp_max(1);
}

}  // namespace efficientad
