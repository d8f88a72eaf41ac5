#include "efficientad/detect/image_range.h"

#include <algorithm>
#include <cmath>

#include "efficientad/core/exposure_target.h"

namespace efficientad {

namespace {

constexpr double kWhite = 255;
/// Blocks a side, and pixels that are looked at along a block's side.
constexpr int64_t kMostBlocks = 256;
constexpr int64_t kMostLooked = 4;

void widen(ImageRange::Range& range, double value) {
  if (!range) range = {value, value};
  *range = {std::min((*range)[0], value), std::max((*range)[1], value)};
}

double aspect_ratio(std::array<int64_t, 2> size_hw) {
  return static_cast<double>(size_hw[1]) / static_cast<double>(size_hw[0]);
}

}  // namespace

GreyLevels grey_levels(const torch::Tensor& image_u8) {
  TORCH_CHECK(image_u8.dim() == 3 && image_u8.size(2) == 3 && image_u8.numel() > 0 &&
                  image_u8.scalar_type() == torch::kUInt8 && image_u8.is_cpu(),
              "expected uint8 [H, W, 3], was given ", image_u8.scalar_type(), " ",
              image_u8.sizes());
  const auto pixels = image_u8.accessor<uint8_t, 3>();
  const int64_t height = pixels.size(0);
  const int64_t width = pixels.size(1);
  const int64_t block = (std::max(height, width) + kMostBlocks - 1) / kMostBlocks;
  const int64_t step = (block + kMostLooked - 1) / kMostLooked;
  int64_t count = 0;
  double sum = 0;
  double squares = 0;
  for (int64_t top = 0; top < height; top += block) {
    for (int64_t left = 0; left < width; left += block) {
      int64_t in_block = 0;
      int64_t levels = 0;
      for (int64_t y = top; y < std::min(top + block, height); y += step) {
        for (int64_t x = left; x < std::min(left + block, width); x += step) {
          levels += pixels[y][x][0] + pixels[y][x][1] + pixels[y][x][2];
          in_block += 3;
        }
      }
      const double mean = static_cast<double>(levels) / static_cast<double>(in_block);
      ++count;
      sum += mean;
      squares += mean * mean;
    }
  }
  const double mean = sum / static_cast<double>(count);
  const double variance = squares / static_cast<double>(count) - mean * mean;
  return {.mean = mean, .deviation = std::sqrt(std::max(variance, 0.0))};
}

GreyLevels equalized(const GreyLevels& levels) {
  const double factor =
      kExposureMean / std::max(levels.mean / kWhite, kExposureMean / kLargestExposureFactor);
  return {.mean = factor * levels.mean, .deviation = factor * levels.deviation};
}

void ImageRange::add_size(std::array<int64_t, 2> size_hw) {
  widen(aspect_ratios, aspect_ratio(size_hw));
}

void ImageRange::add_levels(const GreyLevels& levels) {
  widen(brightness, levels.mean);
  widen(contrast, levels.deviation);
}

std::vector<std::string> ImageRange::unlike(const torch::Tensor& image_u8,
                                            bool equalize_exposure) const {
  std::vector<std::string> differences;
  if (aspect_ratios) {
    constexpr double kTolerance = 1.1;
    const double ratio = aspect_ratio({image_u8.size(0), image_u8.size(1)});
    if (ratio * kTolerance < (*aspect_ratios)[0] || ratio > kTolerance * (*aspect_ratios)[1]) {
      differences.emplace_back("shape");
    }
  }
  if (!brightness || !contrast) return differences;
  GreyLevels levels = grey_levels(image_u8);
  if (equalize_exposure) levels = equalized(levels);
  if (2 * levels.mean < (*brightness)[0]) differences.emplace_back("dark");
  if (levels.mean > 2 * (*brightness)[1] ||
      2 * (kWhite - levels.mean) < kWhite - (*brightness)[1]) {
    differences.emplace_back("bright");
  }
  if (2 * levels.deviation < (*contrast)[0]) differences.emplace_back("flat");
  return differences;
}

}  // namespace efficientad
