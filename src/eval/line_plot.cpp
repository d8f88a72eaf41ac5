#include "line_plot.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>

#include "svg_chart.h"

namespace efficientad::internal {

namespace {

constexpr double kHeight = 400;
constexpr double kLeft = 60;
constexpr double kTop = 20;
constexpr double kPlotWidth = 600;
constexpr double kPlotHeight = 320;
constexpr double kBelow = kTop + kPlotHeight;
constexpr double kMargin = 20;
constexpr double kLegendWidth = 300;
constexpr double kMostTicks = 6;

const std::array<std::string, 8> kColours = {"#1f6fb4", "#c8442c", "#2f8f4e", "#b8860b",
                                             "#6a4c93", "#0f8b8d", "#c2548f", "#444444"};

}  // namespace

std::string svg_file_of(const LinePlot& plot) {
  const auto x = [&](double value) {
    const double share = (value - plot.x_low) / (plot.x_high - plot.x_low);
    return kLeft + kPlotWidth * std::clamp(share, 0.0, 1.0);
  };
  const auto y = [&](double value) {
    const double share = (value - plot.y_low) / (plot.y_high - plot.y_low);
    return kBelow - kPlotHeight * std::clamp(share, 0.0, 1.0);
  };
  const bool legend = std::any_of(plot.lines.begin(), plot.lines.end(),
                                  [](const PlotLine& line) { return !line.name.empty(); });
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
      kLeft + kPlotWidth + kMargin + (legend ? kLegendWidth : 0), kHeight);
  for (const double value : round_values(plot.y_low, plot.y_high, kMostTicks)) {
    svg += fmt::format(
        "<line x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\" stroke=\"#dddddd\"/>\n"
        "<text x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5:.3g}</text>\n",
        kLeft, kLeft + kPlotWidth, y(value), kLeft - 8, y(value) + 4, value);
  }
  for (const auto& tick : plot.x_ticks) {
    svg += fmt::format(
        "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\" stroke=\"#eeeeee\"/>\n"
        "<text x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\">{4}</text>\n",
        x(tick.x), kTop, kBelow, kBelow + 18, escape_html(tick.label));
  }
  if (plot.y_mark) {
    svg += fmt::format(
        "<line x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\" stroke=\"black\" "
        "stroke-dasharray=\"6 4\"/>\n",
        kLeft, kLeft + kPlotWidth, y(*plot.y_mark));
  }
  for (size_t l = 0; l < plot.lines.size(); ++l) {
    const PlotLine& line = plot.lines[l];
    const std::string& colour = kColours[l % kColours.size()];
    std::string points;
    for (const auto& point : line.points) {
      points += fmt::format("{:.1f},{:.1f} ", x(point.x), y(point.y));
      if (plot.dots) {
        svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n",
                           x(point.x), y(point.y), colour);
      }
      if (point.deviation > 0) {
        svg += fmt::format(
            "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1:.1f}\" y2=\"{2:.1f}\" stroke=\"{3}\"/>\n",
            x(point.x), y(point.y - point.deviation), y(point.y + point.deviation), colour);
      }
    }
    svg += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\"/>\n", points, colour);
    if (line.name.empty()) continue;
    svg +=
        fmt::format("<text x=\"{}\" y=\"{}\" fill=\"{}\">{}</text>\n", kLeft + kPlotWidth + kMargin,
                    kTop + 12 + 18 * static_cast<double>(l), colour, escape_html(line.name));
  }
  return svg + fmt::format(
                   "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n"
                   "<text transform=\"translate(14 {}) rotate(-90)\" "
                   "text-anchor=\"middle\">{}</text>\n</svg>\n",
                   kLeft + kPlotWidth / 2, kBelow + 42, escape_html(plot.x_label),
                   kTop + kPlotHeight / 2, escape_html(plot.y_label));
}

}  // namespace efficientad::internal
