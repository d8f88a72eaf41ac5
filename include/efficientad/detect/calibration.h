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
#include "efficientad/detect/threshold.h"

namespace efficientad {

/// Quantiles over all pixels of all maps, exact (paper, section 3.4). Throws Error if there are no
/// maps or they hold NaN.
MapQuantiles quantiles_of_maps(const std::vector<RawMaps>& maps, double q_a = 0.9,
                               double q_b = 0.995);

/// A held-out normal image.
struct CalibrationImage {
  /// float32 [3, H, W] in 0..1, H and W as the model's image_hw.
  torch::Tensor image;
  /// Height and width before it was resized, at which its score is taken.
  std::array<int64_t, 2> size_hw;
};

/// Sets the bundle's quantiles, normal_scores, threshold and threshold_rule (for `max_fpr`, see
/// threshold_of_normal_scores()) from normal images, which `next` gives one after another until it
/// gives nothing: held-out ones, or altered copies of those that were trained on (not `held_out`).
/// The networks are run on, and left on, `device`, in eval mode. Throws Error if there is no image,
/// or the networks give NaN.
void calibrate(ModelBundle& bundle, torch::Device device,
               const std::function<std::optional<CalibrationImage>()>& next, double q_a = 0.9,
               double q_b = 0.995, double max_fpr = 0.01, bool held_out = true);

/// Scores of normal images, and what they are.
struct NormalScores {
  std::vector<double> scores;
  /// Of the images, for the threshold's rule.
  std::string which = "held-out normal images";
  NormalImages images = NormalImages::kHeldOut;
  /// That they were taken with (see Detector).
  int64_t shift_average = 1;
};

/// Sets the bundle's normal_scores and what belongs to them, and its threshold and rule from them
/// (threshold_of_normal_scores()).
void set_normal_scores(ModelBundle& bundle, NormalScores normal, double max_fpr);

}  // namespace efficientad
