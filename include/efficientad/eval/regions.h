#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "efficientad/data/saturation.h"

namespace efficientad {

/// What each pixel of a map, once found, adds to the overlap of its regions, and how many regions
/// there are. A region's overlap is at most 1; all of a pixel's regions are added up.
struct Overlap {
  /// float32 [H, W]; zero where there is no region.
  torch::Tensor per_pixel;
  int64_t regions = 0;
};

/// For PRO (Bergmann et al. 2021, MVTec AD): a region is an 8-connected component of the mask,
/// uint8 [H, W], not zero where defective; each of its pixels adds 1 / its area.
Overlap pro_overlap(const torch::Tensor& mask);

/// Pixels that complete the overlap of a defect of `area` pixels: int(threshold * area) or
/// min(threshold, area), at least 1.
int64_t saturation_area(const SaturationRule& rule, int64_t area);

/// For sPRO (Bergmann et al. 2022, MVTec LOCO AD): each mask, uint8 [H, W] with one value that is
/// not zero, is one region, however many components it has; min(found pixels / saturation area, 1).
/// As pixels are found in the order of `scores`, float32 [H, W], the first up to the saturation
/// area add 1 / that area each, the others nothing. Throws Error, naming `files`, for a mask with
/// several values, or one that has no rule.
Overlap spro_overlap(const std::vector<torch::Tensor>& masks, const torch::Tensor& scores,
                     const std::vector<SaturationRule>& rules,
                     const std::vector<std::filesystem::path>& files);

/// Where a map is above a threshold: one 8-connected component, in px of the map.
struct AnomalousRegion {
  /// The least upright rectangle around it.
  int64_t left = 0;
  int64_t top = 0;
  int64_t width = 0;
  int64_t height = 0;
  /// Pixels in it.
  int64_t area = 0;
  /// Its highest value, and (the first) where.
  double peak = 0;
  int64_t peak_x = 0;
  int64_t peak_y = 0;
};

/// Those of a map, float32 [height, width] on the CPU (else throws c10::Error); the highest peak
/// first. An image that is called anomalous has one at least, whose peak is its score.
std::vector<AnomalousRegion> anomalous_regions(const torch::Tensor& map, double threshold);

/// Its members by name.
nlohmann::ordered_json region_json(const AnomalousRegion& region);

/// x and y of (the first of) a map's highest values, float32 [height, width].
std::array<int64_t, 2> peak_of(const torch::Tensor& map);

}  // namespace efficientad
