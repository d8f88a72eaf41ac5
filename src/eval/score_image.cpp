#include "efficientad/eval/score_image.h"

#include <torch/types.h>

#include "efficientad/data/resize.h"

namespace efficientad {

Detection score_image(const Detector& detector, const torch::Tensor& image_u8, bool want_map) {
  if (detector.judges_frames()) {
    if (const auto detection = detector.judge(image_u8, want_map)) return *detection;
  }
  const torch::Tensor input_u8 = resize_pil_bilinear(image_u8, detector.input_hw());
  return detector.finish(detector.maps_of_bytes(input_u8.unsqueeze(0))[0],
                         {image_u8.size(0), image_u8.size(1)});
}

}  // namespace efficientad
