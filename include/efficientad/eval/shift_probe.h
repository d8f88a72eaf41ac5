#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "efficientad/detect/detector.h"
#include "efficientad/detect/shift.h"

namespace efficientad {

/// Only content that lies at least so many px inside the image, in every place, is followed. Half a
/// receptive field: nearer to the border, a cell would see beyond it. With a cell's width more, for
/// resizing and for the shifts of an average, no place has anything from there.
inline constexpr int64_t kProbeInside = kReceptiveField / 2 + kMapStride;

/// The shifts of a cell of the maps: 4 by 4, -2 to 1 px both ways, first none.
std::vector<Shift> stride_shifts();

/// Shifts over a receptive field, -16 to 16 px: to the right, down, and both, first none.
std::vector<Shift> field_shifts();

/// What the detector says of content in one place.
struct ShiftedResult {
  Shift shift;
  /// Maximum of the map (at the image's own size, as in Detector::finish) over the content that is
  /// followed, and over the whole image.
  double score = 0;
  double score_anywhere = 0;
  /// score > the model's threshold.
  bool anomalous = false;
  /// Where the map of the content that is followed has its maximum, in px of the networks' input
  /// (centres of pixels: 0.5 is the first), with the shift taken off.
  double peak_y = 0;
  double peak_x = 0;
  /// From there to the nearest pixel of the defect, if one was put in.
  std::optional<double> peak_distance{};
  /// Mean absolute difference from the map without shift, over the content that is followed, as a
  /// share of that map's range.
  double map_difference = 0;
};

/// Moves what the networks see of an image over `shifts` (the first is none). What comes in at the
/// border is the image mirrored. Followed is the content that lies at least 20 px inside the image
/// in every place: no cell of the maps sees mirrored pixels there. `image_u8`: uint8 [height,
/// width, 3]. Throws Error if nothing is left of an image that small.
std::vector<ShiftedResult> probe_crop(const Detector& detector, const torch::Tensor& image_u8,
                                      const std::vector<Shift>& shifts);

/// A defect to put into images, at the size of the networks' input: image x keep + add.
struct Defect {
  /// float32 [h, w, 1] and [h, w, 3], in grey levels.
  torch::Tensor keep;
  torch::Tensor add;
  /// bool [h, w]: the pixels that are called defective.
  torch::Tensor mask;
  /// Where its top left corner lies when it is not moved; none: in the middle.
  std::optional<Shift> home{};
};

/// A round blob of diameter `size` px, or a scratch 2 px wide and `size` px long, at 30 degrees,
/// that changes all channels by `contrast` grey levels; smooth at its edge. `shape`: "blob" or
/// "scratch".
Defect synthetic_defect(const std::string& shape, double size, double contrast);

/// The part of an image (uint8 [height, width, 3]) that its mask (uint8 [height, width], defective
/// where not 0) covers, resized to `input_hw`. Throws Error for an empty mask or sizes that differ.
Defect cut_defect(const torch::Tensor& image_u8, const torch::Tensor& mask,
                  std::array<int64_t, 2> input_hw);

/// Puts the defect into the image (resized to the networks' input) in a place that is moved over
/// `shifts` (the first is none). Followed is the defect with 20 px around it. The place is its
/// home, or as near to it as lets it stay 20 px inside the image. Throws Error if
/// it is too large for that.
std::vector<ShiftedResult> probe_defect(const Detector& detector, const torch::Tensor& image_u8,
                                        const Defect& defect, const std::vector<Shift>& shifts);

/// How much the results of one image vary over the places.
struct ShiftVariation {
  int64_t places = 0;
  double score_without_shift = 0;
  double score_mean = 0;
  double score_min = 0;
  double score_max = 0;
  /// Standard deviation over the places.
  double score_std = 0;
  /// Places whose decision is another than without shift.
  int64_t other_decisions = 0;
  /// Mean distance of the map's maximum from where it is without shift, in px, and the largest.
  double peak_drift_mean = 0;
  double peak_drift_max = 0;
  std::optional<double> peak_distance_mean{};
  std::optional<double> peak_distance_max{};
  double map_difference_mean = 0;
};

/// `results` as a probe gives them, not empty.
ShiftVariation variation_of(const std::vector<ShiftedResult>& results);

}  // namespace efficientad
