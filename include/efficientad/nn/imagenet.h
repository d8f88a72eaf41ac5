#pragma once

#include <torch/types.h>

namespace efficientad {

/// (x - mean) / std with the ImageNet mean (0.485, 0.456, 0.406) and standard deviation (0.229,
/// 0.224, 0.225) of RGB: float32 [..., 3, H, W] in 0..1, what the PDN and the autoencoder expect.
torch::Tensor imagenet_normalize(const torch::Tensor& images);

/// What the networks of a detector take of whole images, float32 [..., 3, H, W] in 0..1: the same,
/// after equalize_exposure() if `equalized`.
torch::Tensor network_input(const torch::Tensor& images, bool equalized);

}  // namespace efficientad
