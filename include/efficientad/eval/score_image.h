#pragma once

#include <torch/types.h>

#include "efficientad/detect/detector.h"

namespace efficientad {

/// What a detector says of one image, uint8 [height, width, 3] (RGB, on the CPU) of any size: the
/// image resized to the networks' size (resize_pil_bilinear()), their map resized back, the map's
/// maximum. All of it on the GPU if the detector can (Detector::judges_frames()). Without
/// `want_map` the result may come without the map. Threads may share the detector.
Detection score_image(const Detector& detector, const torch::Tensor& image_u8,
                      bool want_map = true);

}  // namespace efficientad
