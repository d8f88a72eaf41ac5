#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>

#include "efficientad/engine/engine.h"

namespace efficientad {

/// 0.9- and 0.995-quantiles of a kind of map on normal images (paper, section 3.4).
struct MapQuantiles {
  double q_a_st = 0;
  double q_b_st = 0;
  double q_a_ae = 0;
  double q_b_ae = 0;
};

/// Rows or columns by which the unpadded PDN's grid is smaller than the padded one on each side.
inline constexpr int64_t kMapBorder = 4;

/// 0.1 / (q_b - q_a). Where the quantiles are equal, or nearly so (flat maps), the divisor is at
/// least 1e-6 of the larger one and at least 1e-12, so that the result is finite.
double map_scale(double q_a, double q_b);

/// (map - q_a) map_scale(q_a, q_b) (paper, section 3.4).
torch::Tensor normalize_map(const torch::Tensor& map, double q_a, double q_b);

/// Mean of both normalised maps: [N, 1, h, w].
torch::Tensor combine_maps(const RawMaps& maps, const MapQuantiles& quantiles);

/// Adds kMapBorder rows and columns of zeros, which is the level of q_a, on every side.
torch::Tensor add_map_border(const torch::Tensor& map);

/// Resizes [N, 1, h, w] bilinearly (corners not aligned) to `size_hw`: [N, 1, height, width].
torch::Tensor resize_map(const torch::Tensor& map, std::array<int64_t, 2> size_hw);

}  // namespace efficientad
