#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace efficientad {

/// Mean and standard deviation of the grey levels, (R + G + B) / 3, of an image: 0 to 255.
struct GreyLevels {
  double mean = 0;
  double deviation = 0;
};

/// Those of uint8 [H, W, 3] on the CPU, each side reduced to at most 256 px: the means of blocks of
/// pixels (of up to 4 x 4 in each).
GreyLevels grey_levels(const torch::Tensor& image_u8);

/// What equalize_exposure() makes of them, but for what it cuts.
GreyLevels equalized(const GreyLevels& levels);

/// How the images that a model was trained and calibrated on differ among themselves, as far as
/// that shows without a network: to tell an image that its score says nothing about (a blank frame
/// of a broken camera may be well predicted, and so called good).
class ImageRange {
 public:
  /// Least and greatest; nothing: not known.
  using Range = std::optional<std::array<double, 2>>;

  /// Widens what is known by an image of this size, before it was resized.
  void add_size(std::array<int64_t, 2> size_hw);
  /// Widens it by an image's grey levels (equalized() ones, if the model equalises exposure).
  void add_levels(const GreyLevels& levels);

  /// In what an image, uint8 [H, W, 3] on the CPU, is unlike the others, with its levels
  /// equalized() first if the model does that; mostly nothing:
  /// - "shape": its width / height is outside of theirs by more than a tenth, so that it is
  ///   squeezed in another way when it is resized;
  /// - "dark": its mean is less than half of their least, by more than 10 levels;
  /// - "bright": its mean is more than twice their greatest, or less than half as far from 255, by
  ///   more than 10 levels;
  /// - "flat": its standard deviation is less than half of their least.
  std::vector<std::string> unlike(const torch::Tensor& image_u8, bool equalize_exposure) const;

  /// Width / height.
  Range aspect_ratios;
  /// Mean grey levels.
  Range brightness;
  /// Standard deviations of grey levels.
  Range contrast;
};

}  // namespace efficientad
