#pragma once

#include <optional>
#include <string>
#include <vector>

namespace efficientad::internal {

struct PlotPoint {
  double x = 0;
  double y = 0;
  /// Half the height of a bar through the point; 0: none.
  double deviation = 0;
};

struct PlotLine {
  /// For the legend; empty: not in it.
  std::string name;
  std::vector<PlotPoint> points = {};
};

struct PlotTick {
  double x = 0;
  std::string label;
};

struct LinePlot {
  std::string x_label;
  std::string y_label;
  double x_low = 0;
  double x_high = 1;
  std::vector<PlotTick> x_ticks = {};
  double y_low = 0;
  double y_high = 1;
  /// A dashed line across.
  std::optional<double> y_mark = {};
  std::vector<PlotLine> lines = {};
  /// A dot at each point.
  bool dots = false;
};

/// The plot as an SVG file that stands by itself; what lies outside the axes' ranges is drawn at
/// their ends.
std::string svg_file_of(const LinePlot& plot);

}  // namespace efficientad::internal
