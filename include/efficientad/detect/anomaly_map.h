#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>

namespace efficientad {

/// 0.9- and 0.995-quantiles of a kind of map on normal images (paper, section 3.4).
struct MapQuantiles {
  double q_a_st = 0;
  double q_b_st = 0;
  double q_a_ae = 0;
  double q_b_ae = 0;
};

/// Both maps of some images as the networks give them, before normalisation: float32 [N, 1, h, w]
/// on the PDN's grid.
struct RawMaps {
  torch::Tensor st;
  torch::Tensor ae;
};

/// Rows or columns by which the unpadded PDN's grid is smaller than the padded one on each side.
inline constexpr int64_t kMapBorder = 4;

/// Mean over channels of the squared difference between the normalised teacher [N, C, h, w] and the
/// student's first C channels (paper, section 3.2): float32 [N, 1, h, w].
torch::Tensor map_st(const torch::Tensor& normalized_teacher, const torch::Tensor& student);

/// Mean over channels of the squared difference between the autoencoder [N, C, h, w] and the
/// student's last C channels (paper, section 3.3): float32 [N, 1, h, w].
torch::Tensor map_ae(const torch::Tensor& autoencoder, const torch::Tensor& student);

/// 0.1 (map - q_a) / (q_b - q_a) (paper, section 3.4). Where the quantiles are equal, or nearly so
/// (flat maps), the divisor is at least 1e-6 of the larger one and at least 1e-12, so that the
/// result is finite.
torch::Tensor normalize_map(const torch::Tensor& map, double q_a, double q_b);

/// Mean of both normalised maps: [N, 1, h, w].
torch::Tensor combine_maps(const RawMaps& maps, const MapQuantiles& quantiles);

/// Adds kMapBorder rows and columns of zeros, which is the level of q_a, on every side.
torch::Tensor add_map_border(const torch::Tensor& map);

/// Resizes [N, 1, h, w] bilinearly (corners not aligned) to `size_hw`: [N, 1, height, width].
torch::Tensor resize_map(const torch::Tensor& map, std::array<int64_t, 2> size_hw);

}  // namespace efficientad
