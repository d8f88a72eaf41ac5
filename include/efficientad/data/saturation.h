#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "efficientad/data/dataset.h"

namespace efficientad {

/// How much of a defect must be found for its overlap to be complete (MVTec LOCO's
/// defects_config.json).
struct SaturationRule {
  /// Value of the defect's pixels in its mask, 1 to 255.
  int64_t pixel_value = 0;
  /// Pixels, or a share of the defect's area.
  double threshold = 0;
  bool relative = false;
};

/// Reads a defects_config.json; throws Error if it is missing or damaged.
std::vector<SaturationRule> read_saturation_rules(const std::filesystem::path& file);

/// Where a data set in LOCO's layout has them.
std::filesystem::path saturation_file_of(const Dataset& dataset);

/// Those of <category folder>/defects_config.json if the layout is LOCO's and there are masks,
/// which need them; empty otherwise. Throws Error as read_saturation_rules() does.
std::optional<std::vector<SaturationRule>> saturation_rules_of(const Dataset& dataset);

}  // namespace efficientad
