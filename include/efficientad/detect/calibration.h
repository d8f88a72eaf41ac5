#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "efficientad/detect/anomaly_map.h"
#include "efficientad/detect/model_bundle.h"

namespace efficientad {

/// Quantiles over all pixels of all maps, exact (paper, section 3.4). Throws Error if there are no
/// maps or they hold NaN.
MapQuantiles quantiles_of_maps(const std::vector<RawMaps>& maps, double q_a = 0.9,
                               double q_b = 0.995);

/// A threshold and how it was chosen.
struct Threshold {
  double value = 0;
  std::string rule;
};

/// The highest of the image scores of held-out normal images: none of them is called anomalous, and
/// nothing but normal images is needed. Throws Error if there are none.
Threshold threshold_of_normal_scores(const std::vector<double>& scores);

/// A held-out normal image.
struct CalibrationImage {
  /// float32 [3, H, W] in 0..1, H and W as the model's image_hw.
  torch::Tensor image;
  /// Height and width before it was resized, at which its score is taken.
  std::array<int64_t, 2> size_hw;
};

/// Sets the bundle's quantiles, threshold and threshold_rule from held-out normal images, which
/// `next` gives one after another until it gives nothing. The networks are run on, and left on,
/// `device`, in eval mode. Throws Error if there is no image, or the networks give NaN.
void calibrate(ModelBundle& bundle, torch::Device device,
               const std::function<std::optional<CalibrationImage>()>& next, double q_a = 0.9,
               double q_b = 0.995);

}  // namespace efficientad
