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
  // As an image is reduced to a square, each side by itself.
  const auto ceil_of = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t block_y = ceil_of(height, kMostBlocks);
  const int64_t block_x = ceil_of(width, kMostBlocks);
  const int64_t step_y = ceil_of(block_y, kMostLooked);
  const int64_t step_x = ceil_of(block_x, kMostLooked);
  int64_t count = 0;
  double sum = 0;
  double squares = 0;
  for (int64_t top = 0; top < height; top += block_y) {
    for (int64_t left = 0; left < width; left += block_x) {
      int64_t in_block = 0;
      int64_t levels = 0;
      for (int64_t y = top; y < std::min(top + block_y, height); y += step_y) {
        for (int64_t x = left; x < std::min(left + block_x, width); x += step_x) {
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
  // So little is no other light, where images are all nearly black or white.
  constexpr double kLeast = 10;
  const auto [darkest, brightest] = *brightness;
  if (2 * levels.mean < darkest && darkest - levels.mean > kLeast) {
    differences.emplace_back("dark");
  }
  if ((levels.mean > 2 * brightest || 2 * (kWhite - levels.mean) < kWhite - brightest) &&
      levels.mean - brightest > kLeast) {
    differences.emplace_back("bright");
  }
  if (2 * levels.deviation < (*contrast)[0]) differences.emplace_back("flat");
  return differences;
}

}  // namespace efficientad
