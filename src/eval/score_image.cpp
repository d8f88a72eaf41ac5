#include "efficientad/eval/score_image.h"

#include <torch/types.h>

#include <cmath>

#include "efficientad/core/error.h"
#include "efficientad/data/resize.h"

namespace efficientad {

namespace {

torch::Tensor as_rgb(const torch::Tensor& image_u8) {
  const bool grey = image_u8.dim() == 2 || (image_u8.dim() == 3 && image_u8.size(2) == 1);
  require(
      image_u8.scalar_type() == torch::kUInt8 && image_u8.is_cpu() && image_u8.numel() > 0 &&
          (grey || (image_u8.dim() == 3 && image_u8.size(2) == 3)),
      "an image is uint8 [height, width, 3] (RGB), [height, width, 1] or [height, width] (grey) "
      "on the CPU, but this one has {} dimensions and {} values of type {}",
      image_u8.dim(), image_u8.numel(), torch::toString(image_u8.scalar_type()));
  if (!grey) return image_u8;
  return image_u8.reshape({image_u8.size(0), image_u8.size(1), 1}).expand({-1, -1, 3}).contiguous();
}

}  // namespace

Detection score_image(const Detector& detector, const torch::Tensor& image_u8, bool want_map) {
  const torch::Tensor rgb = as_rgb(image_u8);
  if (detector.judges_frames()) {
    if (const auto detection = detector.judge(rgb, want_map)) return *detection;
  }
  const torch::Tensor input_u8 = resize_pil_bilinear(rgb, detector.input_hw());
  return detector.finish(detector.maps_of_bytes(input_u8.unsqueeze(0))[0],
                         {rgb.size(0), rgb.size(1)});
}

void require_finite(const Detection& detection) {
  require(std::isfinite(detection.score),
          "the model gives no finite number; its weights or statistics are damaged, or too large "
          "for the precision");
}

}  // namespace efficientad
