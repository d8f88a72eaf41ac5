#include "efficientad/data/color_jitter.h"

#include <torch/types.h>

namespace efficientad {
namespace {

/// [..., 1, height, width]
torch::Tensor grey_of(const torch::Tensor& image) {
  TORCH_CHECK(image.is_floating_point() && image.dim() >= 3 && image.size(-3) == 3,
              "expected a float image [..., 3, height, width], got ", image.scalar_type(), " ",
              image.sizes());
  const auto channel = [&](int64_t c) { return image.narrow(-3, c, 1); };
  return channel(0) * 0.2989 + channel(1) * 0.587 + channel(2) * 0.114;
}

/// torchvision's _blend(): factor * image + (1 - factor) * other, clamped.
torch::Tensor blend(const torch::Tensor& image, const torch::Tensor& other, double factor) {
  return (image * factor + other * (1.0 - factor)).clamp_(0.0, 1.0);
}

}  // namespace

torch::Tensor adjust_brightness(const torch::Tensor& image, double factor) {
  return (image * factor).clamp_(0.0, 1.0);
}

torch::Tensor adjust_contrast(const torch::Tensor& image, double factor) {
  return blend(image, grey_of(image).mean({-3, -2, -1}, /*keepdim=*/true), factor);
}

torch::Tensor adjust_saturation(const torch::Tensor& image, double factor) {
  return blend(image, grey_of(image), factor);
}

torch::Tensor to_grey(const torch::Tensor& image) {
  return grey_of(image).expand(image.sizes()).contiguous();
}

}  // namespace efficientad
