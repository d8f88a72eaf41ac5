#include "efficientad/eval/thumbnail.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "efficientad/core/error.h"
#include "overlay.h"

namespace efficientad {

namespace {

/// Tried in this order, then with smaller pictures.
constexpr int kQualities[] = {82, 72, 62, 50, 40};
constexpr int64_t kMinSide = 32;
/// An outline's corners are this close to its pixels' (in pixels of its plane).
constexpr double kOutlineError = 0.6;

/// `size` reduced so that its longer side is at most `side`.
cv::Size fitted(cv::Size size, int64_t side) {
  const double scale = std::min(
      1.0, static_cast<double>(side) / static_cast<double>(std::max(size.width, size.height)));
  return {std::max(1, static_cast<int>(std::lround(size.width * scale))),
          std::max(1, static_cast<int>(std::lround(size.height * scale)))};
}

cv::Mat resized(const cv::Mat& from, cv::Size size) {
  if (from.size() == size) return from.clone();
  cv::Mat to;
  cv::resize(from, to, size, 0, 0, cv::INTER_AREA);
  return to;
}

std::string jpeg_of(const cv::Mat& rgb, int quality) {
  cv::Mat bgr;
  cv::cvtColor(rgb, bgr, cv::COLOR_RGB2BGR);
  std::vector<uint8_t> bytes;
  const bool encoded = cv::imencode(
      ".jpg", bgr, bytes, {cv::IMWRITE_JPEG_QUALITY, quality, cv::IMWRITE_JPEG_OPTIMIZE, 1});
  TORCH_CHECK(encoded, "a thumbnail of ", rgb.cols, "x", rgb.rows, " px cannot be encoded");
  return {bytes.begin(), bytes.end()};
}

/// SVG path data around what is set in `pixels` (CV_8U, 0 or 255), in px of a plane of `plane`,
/// whose pixels' centres have whole coordinates. A part of one pixel is a line of no length, which
/// round caps make a dot.
std::string outline_of(const cv::Mat& pixels, cv::Size plane) {
  cv::Mat small;
  const bool reduced = plane.width < pixels.cols;
  cv::resize(pixels, small, plane, 0, 0, reduced ? cv::INTER_AREA : cv::INTER_NEAREST);
  // A part too small for the plane must not vanish: any that a pixel covers sets it.
  if (reduced) small = small > 0;
  std::vector<std::vector<cv::Point>> contours;
  cv::findContours(small, contours, cv::RETR_CCOMP, cv::CHAIN_APPROX_NONE);
  std::sort(contours.begin(), contours.end(),
            [](const auto& a, const auto& b) { return a.size() > b.size(); });
  std::string path;
  const auto part_of = [](const std::vector<cv::Point>& contour, double error) {
    std::vector<cv::Point> corners;
    cv::approxPolyDP(contour, corners, error, /*closed=*/true);
    std::string part = fmt::format("M{} {}", corners[0].x, corners[0].y);
    for (size_t i = 1; i < corners.size(); ++i) {
      const cv::Point step = corners[i] - corners[i - 1];
      part += fmt::format("{}{} {}", i == 1 ? "l" : " ", step.x, step.y);
    }
    return part + "z";
  };
  for (const auto& contour : contours) {
    std::string part = part_of(contour, kOutlineError);
    // The largest is drawn, more coarsely if it must.
    constexpr double kMostError = 64;
    for (double error = 2 * kOutlineError;
         path.empty() && part.size() > kOutlineBytes && error <= kMostError; error *= 2) {
      part = part_of(contour, error);
    }
    if (path.size() + part.size() <= kOutlineBytes) path += part;
  }
  return path;
}

}  // namespace

Thumbnail make_thumbnail(const torch::Tensor& image_u8, const torch::Tensor& map,
                         const torch::Tensor& mask, const ThumbnailSettings& settings) {
  TORCH_CHECK(image_u8.dim() == 3 && image_u8.size(2) == 3 && image_u8.dtype() == torch::kUInt8,
              "make_thumbnail: the image is no uint8 [height, width, 3]");
  const auto check = [&](const torch::Tensor& other, torch::ScalarType type, const char* name) {
    TORCH_CHECK(other.dim() == 2 && other.size(0) == image_u8.size(0) &&
                    other.size(1) == image_u8.size(1) && other.dtype() == type,
                "make_thumbnail: the ", name, " is not of the image's size, or of another type");
  };
  check(map, torch::kFloat32, "map");
  if (mask.defined()) check(mask, torch::kUInt8, "mask");
  const auto mat_of = [](const torch::Tensor& tensor, int type) {
    return cv::Mat(static_cast<int>(tensor.size(0)), static_cast<int>(tensor.size(1)), type,
                   tensor.data_ptr());
  };
  const torch::Tensor pixels = image_u8.contiguous();
  const torch::Tensor values = map.contiguous();
  const cv::Mat image = mat_of(pixels, CV_8UC3);
  const cv::Mat scores = mat_of(values, CV_32F);

  Thumbnail thumbnail;
  const double enlarged = static_cast<double>(kOutlineSide) / std::max(image.cols, image.rows);
  const cv::Size plane = {std::max(1, static_cast<int>(std::lround(image.cols * enlarged))),
                          std::max(1, static_cast<int>(std::lround(image.rows * enlarged)))};
  thumbnail.width = plane.width;
  thumbnail.height = plane.height;
  thumbnail.found_outline = outline_of(scores > settings.map_limit, plane);
  if (mask.defined()) {
    const torch::Tensor defective = mask.contiguous();
    thumbnail.mask_outline = outline_of(mat_of(defective, CV_8U) > 0, plane);
  }

  for (int64_t side = settings.side;; side = side * 3 / 4) {
    const cv::Size size = fitted(image.size(), side);
    const cv::Mat plain = resized(image, size);
    cv::Mat overlay = plain.clone();
    internal::blend_map(overlay, resized(scores, size) - settings.map_low,
                        settings.map_limit - settings.map_low, settings.normalized);
    for (const int quality : kQualities) {
      thumbnail.image = jpeg_of(plain, quality);
      thumbnail.heatmap = jpeg_of(overlay, quality);
      const auto bytes = static_cast<int64_t>(thumbnail.image.size() + thumbnail.heatmap.size());
      if (bytes <= settings.max_bytes) return thumbnail;
    }
    if (side <= kMinSide) return thumbnail;
  }
}

}  // namespace efficientad
