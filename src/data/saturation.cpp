#include "efficientad/data/saturation.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "efficientad/core/error.h"
#include "efficientad/core/file.h"

namespace efficientad {

namespace fs = std::filesystem;

std::vector<SaturationRule> read_saturation_rules(const fs::path& file) {
  const nlohmann::json config = read_json(file);
  std::vector<SaturationRule> rules;
  const auto expected = [&](bool holds) {
    require(holds,
            "{}: expected a list of pixel_value, saturation_threshold and relative_saturation",
            file.string());
  };
  expected(config.is_array());
  try {
    for (const auto& entry : config) {
      SaturationRule rule = {.pixel_value = entry.at("pixel_value").get<int64_t>(),
                             .threshold = entry.at("saturation_threshold").get<double>(),
                             .relative = entry.at("relative_saturation").get<bool>()};
      require(rule.pixel_value >= 1 && rule.pixel_value <= 255 && rule.threshold > 0 &&
                  (!rule.relative || rule.threshold <= 1),
              "{}: the entry for pixel_value {} makes no sense", file.string(), rule.pixel_value);
      rules.push_back(rule);
    }
  } catch (const nlohmann::json::exception&) {
    expected(false);
  }
  return rules;
}

fs::path saturation_file_of(const Dataset& dataset) { return dataset.root / "defects_config.json"; }

std::optional<std::vector<SaturationRule>> saturation_rules_of(const Dataset& dataset) {
  const bool has_masks = std::any_of(dataset.test.begin(), dataset.test.end(),
                                     [](const Sample& s) { return !s.mask_paths.empty(); });
  if (dataset.layout != "loco" || !has_masks) return std::nullopt;
  return read_saturation_rules(saturation_file_of(dataset));
}

}  // namespace efficientad
