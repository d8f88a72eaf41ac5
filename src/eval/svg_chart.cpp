#include "svg_chart.h"

#include <algorithm>
#include <cmath>

#include "efficientad/core/error.h"

namespace efficientad::internal {

namespace {

// Wide enough for a phone: the page shows a chart at about this size, so that text is not reduced.
constexpr double kWidth = 400;
constexpr double kHeight = 284;
constexpr double kLeft = 54;
constexpr double kRight = 388;
constexpr double kTop = 38;
constexpr double kBottom = 240;
constexpr double kMaxTicks = 6;

double position(const ChartAxis& axis, double value) {
  const auto scaled = [&](double v) {
    return axis.logarithmic ? std::log10(std::max(v, axis.low)) : v;
  };
  const double low = scaled(axis.low);
  const double high = scaled(axis.high);
  return std::clamp((scaled(value) - low) / (high - low), 0.0, 1.0);
}

struct Tick {
  double value;
  bool labelled;
};

std::vector<Tick> ticks_of(const ChartAxis& axis) {
  std::vector<Tick> ticks;
  if (axis.logarithmic) {
    const double decades = std::log10(axis.high / axis.low);
    for (int exponent = static_cast<int>(std::floor(std::log10(axis.low)));
         std::pow(10.0, exponent) <= axis.high * 1.0001; ++exponent) {
      for (const int digit : {1, 2, 5}) {
        const double value = digit * std::pow(10.0, exponent);
        if (value < axis.low * 0.9999 || value > axis.high * 1.0001) continue;
        if (digit > 1 && decades > 4) continue;
        ticks.push_back({value, digit == 1 || decades < 1.7});
      }
    }
    return ticks;
  }
  for (const double value : round_values(axis.low, axis.high, kMaxTicks)) {
    ticks.push_back({value, true});
  }
  return ticks;
}

std::string tick_label(const ChartAxis& axis, double value) {
  if (std::abs(value) < 1e-12 * std::max(std::abs(axis.low), std::abs(axis.high))) value = 0;
  if (axis.percent) return fmt::format("{:.3g}\u00a0%", 100 * value);
  if (std::abs(value) >= 10000 && std::abs(value) < 1e9 && std::fmod(value, 1000) == 0) {
    return fmt::format("{:.0f}k", value / 1000);
  }
  return fmt::format("{:.4g}", value);
}

}  // namespace

std::vector<double> round_values(double low, double high, double most) {
  const double rough = (high - low) / most;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  constexpr double kRounding = 1e-9;
  double step = power;
  for (const double factor : {1.0, 2.0, 2.5, 5.0, 10.0}) {
    step = factor * power;
    if (step >= rough * (1 - kRounding)) break;
  }
  std::vector<double> values;
  for (double k = std::ceil(low / step - kRounding); k * step <= high + kRounding * step; ++k) {
    values.push_back(k == 0 ? 0 : k * step);  // Not -0.
  }
  return values;
}

std::string escape_html(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string svg_of(const Chart& chart) {
  const auto x = [&](double value) { return kLeft + (kRight - kLeft) * position(chart.x, value); };
  const auto y = [&](double value) {
    return kBottom - (kBottom - kTop) * position(chart.y, value);
  };
  std::string svg =
      fmt::format("<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
                  kWidth, kHeight, escape_html(chart.description));
  for (const auto& tick : ticks_of(chart.y)) {
    svg += fmt::format("<path class=\"grid\" d=\"M{} {:.1f}H{}\"/>", kLeft, y(tick.value), kRight);
    if (!tick.labelled) continue;
    svg += fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n", kLeft - 6,
                       y(tick.value) + 4, tick_label(chart.y, tick.value));
  }
  for (const auto& tick : ticks_of(chart.x)) {
    svg += fmt::format("<path class=\"grid\" d=\"M{:.1f} {}V{}\"/>", x(tick.value), kTop, kBottom);
    if (!tick.labelled) continue;
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                       x(tick.value), kBottom + 16, tick_label(chart.x, tick.value));
  }
  svg += fmt::format("<path class=\"axis\" d=\"M{} {}V{}H{}\"/>\n", kLeft, kTop, kBottom, kRight);
  for (const auto& line : chart.lines) {
    if (line.points.empty()) continue;
    std::string path;
    for (const auto& point : line.points) {
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x(point.x), y(point.y));
    }
    if (line.filled) {
      path += fmt::format("L{:.1f} {}L{:.1f} {}z", x(line.points.back().x), kBottom,
                          x(line.points.front().x), kBottom);
    }
    svg += fmt::format("<path class=\"{} {}\" d=\"{}\"><title>{}</title></path>\n",
                       line.filled ? "area" : "line", line.style, path, escape_html(line.name));
  }
  for (const auto& mark : chart.marks) {
    const double at = x(mark.x);
    const bool left = at > (kLeft + kRight) / 2;
    svg += fmt::format(
        "<path class=\"mark {}\" d=\"M{:.1f} {}V{}\"/>"
        "<text class=\"mark\" x=\"{:.1f}\" y=\"{}\" text-anchor=\"{}\">{}</text>\n",
        mark.style, at, kTop - 8, kBottom, left ? at - 5 : at + 5, kTop - 4, left ? "end" : "start",
        escape_html(mark.label));
  }
  for (const auto& dot : chart.dots) {
    svg += fmt::format(
        "<circle class=\"dot\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\"><title>{}</title></circle>\n",
        x(dot.at.x), y(dot.at.y), escape_html(dot.name));
  }
  svg += fmt::format(
      "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n"
      "<text x=\"0\" y=\"12\">{}</text>\n</svg>\n",
      (kLeft + kRight) / 2, kHeight - 8, escape_html(chart.x.label), escape_html(chart.y.label));
  return svg;
}

}  // namespace efficientad::internal
