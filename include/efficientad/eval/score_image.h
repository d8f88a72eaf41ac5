#pragma once

#include <torch/types.h>

#include "efficientad/detect/detector.h"

namespace efficientad {

/// What a detector says of one image of any size on the CPU, uint8 [height, width, 3] (RGB), or
/// [height, width, 1] or [height, width] (grey, taken three times): the image resized to the
/// networks' size (resize_pil_bilinear()), their map resized back, the map's maximum. All of it on
/// the GPU if the detector can (Detector::judges_frames()). Without `want_map` the result may come
/// without the map. Threads may share the detector (see there). Throws Error for anything else than
/// such an image. Whether the image is one that the model can judge at all,
/// detector.bundle().unlike_training() tells.
Detection score_image(const Detector& detector, const torch::Tensor& image_u8,
                      bool want_map = true);

/// Throws Error, saying that the model is damaged, unless the score is finite.
void require_finite(const Detection& detection);

}  // namespace efficientad
