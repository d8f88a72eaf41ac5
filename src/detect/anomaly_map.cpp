#include "efficientad/detect/anomaly_map.h"

#include <torch/nn/functional/upsampling.h>

#include <algorithm>
#include <cmath>

namespace efficientad {

namespace F = torch::nn::functional;

double map_scale(double q_a, double q_b) {
  constexpr double kLevelOfQb = 0.1;
  constexpr double kLeastRelative = 1e-6;
  constexpr double kLeastAbsolute = 1e-12;
  const double range = std::max(
      {q_b - q_a, kLeastRelative * std::max(std::abs(q_a), std::abs(q_b)), kLeastAbsolute});
  return kLevelOfQb / range;
}

torch::Tensor normalize_map(const torch::Tensor& map, double q_a, double q_b) {
  return (map - q_a) * map_scale(q_a, q_b);
}

torch::Tensor combine_maps(const RawMaps& maps, const MapQuantiles& quantiles) {
  return 0.5 * normalize_map(maps.st, quantiles.q_a_st, quantiles.q_b_st) +
         0.5 * normalize_map(maps.ae, quantiles.q_a_ae, quantiles.q_b_ae);
}

torch::Tensor add_map_border(const torch::Tensor& map) {
  return torch::constant_pad_nd(map, {kMapBorder, kMapBorder, kMapBorder, kMapBorder}, 0);
}

torch::Tensor resize_map(const torch::Tensor& map, std::array<int64_t, 2> size_hw) {
  return F::interpolate(map, F::InterpolateFuncOptions()
                                 .size(std::vector<int64_t>{size_hw[0], size_hw[1]})
                                 .mode(torch::kBilinear)
                                 .align_corners(false));
}

}  // namespace efficientad
