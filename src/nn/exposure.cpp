#include "efficientad/nn/exposure.h"

#include <torch/types.h>

namespace efficientad {

torch::Tensor equalize_exposure(const torch::Tensor& images) {
  const torch::Tensor mean = images.mean({-3, -2, -1}, /*keepdim=*/true);
  return (images * exposure_factor(mean)).clamp_max(1);
}

}  // namespace efficientad
