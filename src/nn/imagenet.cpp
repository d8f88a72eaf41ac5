#include "efficientad/nn/imagenet.h"

#include <torch/types.h>

#include "efficientad/nn/exposure.h"

namespace efficientad {

torch::Tensor imagenet_normalize(const torch::Tensor& images) {
  const auto options = torch::TensorOptions().dtype(torch::kFloat32).device(images.device());
  const torch::Tensor mean = torch::tensor({0.485f, 0.456f, 0.406f}, options).view({3, 1, 1});
  const torch::Tensor std = torch::tensor({0.229f, 0.224f, 0.225f}, options).view({3, 1, 1});
  return (images - mean) / std;
}

torch::Tensor network_input(const torch::Tensor& images, bool equalized) {
  return imagenet_normalize(equalized ? equalize_exposure(images) : images);
}

}  // namespace efficientad
