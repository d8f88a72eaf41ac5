#pragma once

#include <opencv2/core.hpp>

namespace efficientad::internal {

/// Lays the colours of `map` (CV_32F) over `image` (CV_8UC3, RGB, of the same size), on the scale
/// of draw_heatmap(); maps of another method (not `normalized`) become visible at a third of the
/// threshold. May be called from any thread.
void blend_map(cv::Mat& image, const cv::Mat& map, double threshold, bool normalized);

}  // namespace efficientad::internal
