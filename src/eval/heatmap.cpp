#include "efficientad/eval/heatmap.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "efficientad/core/error.h"
#include "overlay.h"

namespace efficientad {

namespace {

constexpr int kMinSide = 512;
constexpr int kMaxSide = 1024;
constexpr int kGap = 8;
constexpr int kStrip = 64;
constexpr int kMargin = 12;
/// Above this aspect the panels are stacked.
constexpr double kWide = 1.6;
/// Share of the colour where it covers most.
constexpr double kOpacity = 0.72;
/// The part of the colour map in use: below it is nearly black, which would only darken the image,
/// above it nearly white, which would not show on a light one.
constexpr double kFirstColor = 0.25;
constexpr double kLastColor = 0.9;
/// The scale ends at so many thresholds.
constexpr double kThresholds = 3.0;
/// But, of normalised maps, not below this; of others above 0.
constexpr double kLeastHigh = 0.2;
constexpr double kTiny = 1e-12;
/// Share of the full opacity at which a deviation is clearly visible.
constexpr double kOpacityWhereClear = 0.6;
/// The normalised map's value at q_b, which 0.5 % of normal pixels exceed (paper, section 3.4).
constexpr double kUnusual = 0.1;
/// So far from normal that it is to be seen even below the threshold: rare outliers among the
/// normal images make that high, and many defects lie below it.
constexpr double kClear = 5 * kUnusual;

const cv::Scalar kBackground(24, 24, 24);
const cv::Scalar kText(235, 235, 235);
const cv::Scalar kFaint(165, 165, 165);
const cv::Scalar kGood(60, 150, 75);
const cv::Scalar kAnomalous(205, 45, 50);

/// From 0 at the q_a level to `high`.
struct Scale {
  double threshold;
  double high;
  /// Up to here nothing is to be seen, and from here on it is clear.
  double nothing;
  double clear;

  /// `normalized`: the map is of our method, so that kUnusual and kClear mean something.
  Scale(double at_threshold, bool normalized)
      : threshold(at_threshold),
        high(normalized ? std::max(kThresholds * at_threshold, kLeastHigh)
                        : kThresholds * std::max(at_threshold, kTiny)),
        clear(at_threshold > 0 ? at_threshold : high) {
    if (normalized) clear = std::min(clear, kClear);
    nothing = normalized ? std::min(kUnusual, clear / 2) : clear / 3;
  }

  double position(double value) const { return std::clamp(value / high, 0.0, 1.0); }

  double opacity(double value) const {
    if (value <= nothing) return 0;
    if (value < clear) {
      return kOpacity * kOpacityWhereClear * (value - nothing) / (clear - nothing);
    }
    const double t = high > clear ? std::min((value - clear) / (high - clear), 1.0) : 1.0;
    return kOpacity * (kOpacityWhereClear + (1 - kOpacityWhereClear) * t);
  }
};

/// 256 colours, RGB: the inferno map, which is perceptually uniform, without its ends.
cv::Mat color_table() {
  cv::Mat ramp(1, 256, CV_8U);
  for (int i = 0; i < 256; ++i) {
    ramp.at<uint8_t>(0, i) =
        cv::saturate_cast<uint8_t>(255.0 * kFirstColor + (kLastColor - kFirstColor) * i);
  }
  cv::Mat colors;
  cv::applyColorMap(ramp, colors, cv::COLORMAP_INFERNO);
  cv::cvtColor(colors, colors, cv::COLOR_BGR2RGB);
  return colors;
}

cv::Size panel_size(int64_t height, int64_t width) {
  const auto longer = static_cast<double>(std::max(height, width));
  const double scale = std::clamp(1.0, kMinSide / longer, kMaxSide / longer);
  return {std::max(1, static_cast<int>(std::lround(static_cast<double>(width) * scale))),
          std::max(1, static_cast<int>(std::lround(static_cast<double>(height) * scale)))};
}

void blend(cv::Mat& panel, const cv::Mat& map, const Scale& scale, const cv::Mat& colors) {
  for (int y = 0; y < panel.rows; ++y) {
    auto* pixel = panel.ptr<cv::Vec3b>(y);
    const auto* value = map.ptr<float>(y);
    for (int x = 0; x < panel.cols; ++x) {
      const double opacity = scale.opacity(value[x]);
      if (opacity <= 0) continue;
      const auto& color =
          colors.at<cv::Vec3b>(0, static_cast<int>(std::lround(255.0 * scale.position(value[x]))));
      for (int c = 0; c < 3; ++c) {
        pixel[x][c] = cv::saturate_cast<uint8_t>((1 - opacity) * pixel[x][c] + opacity * color[c]);
      }
    }
  }
}

/// A white line with a dark one under it, to be seen on any image.
void outline(cv::Mat& panel, const cv::Mat& map, double threshold) {
  const cv::Mat above = map > threshold;
  std::vector<std::vector<cv::Point>> contours;
  cv::findContours(above, contours, cv::RETR_CCOMP, cv::CHAIN_APPROX_NONE);
  cv::drawContours(panel, contours, -1, cv::Scalar(0, 0, 0), 4, cv::LINE_AA);
  cv::drawContours(panel, contours, -1, cv::Scalar(255, 255, 255), 2, cv::LINE_AA);
}

int text_width(const std::string& text, double size, int font = cv::FONT_HERSHEY_SIMPLEX) {
  int baseline = 0;
  return cv::getTextSize(text, font, size, 1, &baseline).width;
}

void write_text(cv::Mat& canvas, const std::string& text, cv::Point at, double size,
                const cv::Scalar& color, int font = cv::FONT_HERSHEY_SIMPLEX) {
  cv::putText(canvas, text, at, font, size, color, /*thickness=*/1, cv::LINE_AA);
}

/// OpenCV's fonts know ASCII only: one question mark for any other character. Keeps the end, where
/// file names differ.
std::string drawable(const std::string& text, double size, int width) {
  std::string ascii;
  for (const char c : text) {
    // The later bytes of a character in UTF-8.
    if ((static_cast<uint8_t>(c) & 0xC0) == 0x80) continue;
    ascii += c >= 32 && c < 127 ? c : '?';
  }
  if (text_width(ascii, size) <= width) return ascii;
  while (!ascii.empty() && text_width("..." + ascii, size) > width) ascii.erase(0, 1);
  return ascii.empty() ? "" : "..." + ascii;
}

/// The colours over their values, with a mark at the threshold.
void draw_legend(cv::Mat& canvas, const cv::Rect& bar, const Scale& scale, const cv::Mat& colors) {
  for (int x = 0; x < bar.width; ++x) {
    const double value = scale.high * x / std::max(bar.width - 1, 1);
    const double opacity = scale.opacity(value) / kOpacity;
    const auto& color =
        colors.at<cv::Vec3b>(0, static_cast<int>(std::lround(255.0 * scale.position(value))));
    // Over mid grey, as over an image.
    cv::Vec3b shown;
    for (int c = 0; c < 3; ++c) {
      shown[c] = cv::saturate_cast<uint8_t>((1 - opacity) * 110 + opacity * color[c]);
    }
    canvas(cv::Rect(bar.x + x, bar.y, 1, bar.height))
        .setTo(cv::Scalar(shown[0], shown[1], shown[2]));
  }
  constexpr double kSize = 0.4;
  const int text_y = bar.y + bar.height + 15;
  write_text(canvas, "0", {bar.x, text_y}, kSize, kFaint);
  const std::string last = fmt::format(">={:.3g}", scale.high);
  write_text(canvas, last, {bar.x + bar.width - text_width(last, kSize), text_y}, kSize, kFaint);
  if (scale.threshold <= 0) return;
  const int x =
      bar.x + static_cast<int>(std::lround(scale.position(scale.threshold) * (bar.width - 1)));
  cv::line(canvas, {x, bar.y - 4}, {x, bar.y + bar.height + 3}, cv::Scalar(255, 255, 255), 2);
  const std::string limit = fmt::format("{:.3g}", scale.threshold);
  write_text(canvas, limit, {x - text_width(limit, kSize) / 2, text_y}, kSize, kText);
}

}  // namespace

void internal::blend_map(cv::Mat& image, const cv::Mat& map, double threshold, bool normalized) {
  static const cv::Mat colors = color_table();
  blend(image, map, Scale(threshold, normalized), colors);
}

torch::Tensor draw_heatmap(const torch::Tensor& image_u8, const Detection& detection,
                           double threshold, const std::string& title) {
  TORCH_CHECK(image_u8.dim() == 3 && image_u8.size(2) == 3 && image_u8.dtype() == torch::kUInt8,
              "draw_heatmap: the image is no uint8 [height, width, 3]");
  TORCH_CHECK(detection.map_at_image.dim() == 2 &&
                  detection.map_at_image.size(0) == image_u8.size(0) &&
                  detection.map_at_image.size(1) == image_u8.size(1),
              "draw_heatmap: the map is not of the image's size");
  const torch::Tensor pixels = image_u8.contiguous();
  const torch::Tensor values = detection.map_at_image.to(torch::kCPU, torch::kFloat32).contiguous();
  const auto height = static_cast<int>(pixels.size(0));
  const auto width = static_cast<int>(pixels.size(1));
  const cv::Mat image(height, width, CV_8UC3, pixels.data_ptr<uint8_t>());
  const cv::Mat map(height, width, CV_32F, values.data_ptr<float>());

  const cv::Size size = panel_size(height, width);
  const bool smaller = size.width < width;
  cv::Mat original;
  cv::resize(image, original, size, 0, 0, smaller ? cv::INTER_AREA : cv::INTER_CUBIC);
  cv::Mat scaled_map;
  cv::resize(map, scaled_map, size, 0, 0, smaller ? cv::INTER_AREA : cv::INTER_LINEAR);

  const Scale scale(threshold, /*normalized=*/true);
  const cv::Mat colors = color_table();
  cv::Mat overlay = original.clone();
  blend(overlay, scaled_map, scale, colors);
  outline(overlay, scaled_map, threshold);

  const bool stacked = width > kWide * height;
  const int body_width = std::max(stacked ? size.width : 2 * size.width + kGap, kMinSide);
  const int body_height = stacked ? 2 * size.height + kGap : size.height;
  cv::Mat canvas(body_height + kStrip, body_width, CV_8UC3, kBackground);
  // Narrow images leave room beside them.
  const int left = (body_width - (stacked ? size.width : 2 * size.width + kGap)) / 2;
  original.copyTo(canvas(cv::Rect(left, 0, size.width, size.height)));
  overlay.copyTo(canvas(stacked ? cv::Rect(left, size.height + kGap, size.width, size.height)
                                : cv::Rect(left + size.width + kGap, 0, size.width, size.height)));

  // The strip: a badge with the decision, the score and the file's name, the legend.
  const int top = body_height;
  const std::string decision = detection.anomalous ? "ANOMALOUS" : "GOOD";
  constexpr double kBadgeSize = 0.6;
  const int badge_width =
      text_width("ANOMALOUS", kBadgeSize, cv::FONT_HERSHEY_DUPLEX) + 2 * kMargin;
  const cv::Rect badge(kMargin, top + 14, badge_width, kStrip - 28);
  cv::rectangle(canvas, badge, detection.anomalous ? kAnomalous : kGood, cv::FILLED);
  write_text(
      canvas, decision,
      {badge.x + (badge.width - text_width(decision, kBadgeSize, cv::FONT_HERSHEY_DUPLEX)) / 2,
       badge.y + 24},
      kBadgeSize, cv::Scalar(255, 255, 255), cv::FONT_HERSHEY_DUPLEX);
  const int legend_width = std::clamp(body_width / 4, 110, 220);
  const int text_x = badge.x + badge.width + kMargin;
  const int text_space = body_width - text_x - legend_width - 2 * kMargin;
  // The longest form that there is room for.
  std::string score;
  for (const std::string& form :
       {fmt::format("score {:.3g}   (limit {:.3g})", detection.score, threshold),
        fmt::format("{:.3g} (limit {:.3g})", detection.score, threshold),
        fmt::format("score {:.3g}", detection.score), fmt::format("{:.3g}", detection.score)}) {
    score = form;
    if (text_width(score, 0.5) <= text_space) break;
  }
  write_text(canvas, score, {text_x, top + 28}, 0.5, kText);
  write_text(canvas, drawable(title, 0.42, text_space), {text_x, top + 48}, 0.42, kFaint);
  draw_legend(canvas, cv::Rect(body_width - legend_width - kMargin, top + 18, legend_width, 14),
              scale, colors);

  torch::Tensor result = torch::empty({canvas.rows, canvas.cols, 3}, torch::kUInt8);
  std::copy(canvas.datastart, canvas.dataend, result.data_ptr<uint8_t>());
  return result;
}

}  // namespace efficientad
