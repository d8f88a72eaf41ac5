#pragma once

#include <string>
#include <vector>

#include "efficientad/eval/metrics.h"

namespace efficientad::internal {

struct ChartAxis {
  std::string label = {};
  double low = 0;
  double high = 1;
  bool logarithmic = false;
  bool percent = false;
};

/// A line through points, or the area below it; `style` is a class of the page's style sheet.
struct ChartLine {
  std::string style;
  std::string name;
  std::vector<CurvePoint> points = {};
  bool filled = false;
};

/// A vertical line across the chart, with a few words at its top.
struct ChartMark {
  double x = 0;
  std::string label;
  std::string style;
};

struct ChartDot {
  CurvePoint at;
  std::string name;
};

struct Chart {
  /// What it shows, for those who cannot see it.
  std::string description;
  ChartAxis x;
  ChartAxis y;
  std::vector<ChartLine> lines;
  std::vector<ChartMark> marks;
  std::vector<ChartDot> dots;
};

/// The chart as an <svg> element for an HTML page, coloured by the page's style sheet. Points
/// outside the axes' ranges are drawn at their ends.
std::string svg_of(const Chart& chart);

/// Round numbers from `low` to a larger `high`, evenly spaced, about `most` at most.
std::vector<double> round_values(double low, double high, double most);

/// &, <, >, " and ' as HTML and SVG hold them, in text and in quoted attributes.
std::string escape_html(const std::string& text);

}  // namespace efficientad::internal
