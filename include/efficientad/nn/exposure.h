#pragma once

#include <torch/types.h>

namespace efficientad {

/// Brings images under one exposure: each is multiplied by what makes the mean of its values 0.45,
/// about ImageNet's, but by at most 4, and cut at 1. What is brighter or darker within an image
/// stays so. (Not in the paper.) float32 [..., 3, H, W] in 0..1 to the same.
torch::Tensor equalize_exposure(const torch::Tensor& images);

/// What equalize_exposure() multiplies by, of images with these means (0..1).
torch::Tensor exposure_factor(const torch::Tensor& mean);

}  // namespace efficientad
