#pragma once

#include <torch/types.h>

namespace efficientad {

// torchvision's definitions, for float32 [..., 3, height, width] in 0..1; results are clamped to
// 0..1. Grey is 0.2989 R + 0.587 G + 0.114 B.

/// image * factor.
torch::Tensor adjust_brightness(const torch::Tensor& image, double factor);
/// Blend with the mean of the grey image, one mean an image.
torch::Tensor adjust_contrast(const torch::Tensor& image, double factor);
/// Blend with the grey image.
torch::Tensor adjust_saturation(const torch::Tensor& image, double factor);
/// The grey image, repeated to three channels.
torch::Tensor to_grey(const torch::Tensor& image);

}  // namespace efficientad
