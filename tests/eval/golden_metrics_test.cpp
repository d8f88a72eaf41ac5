#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <filesystem>

#include "efficientad/data/dataset.h"
#include "efficientad/data/image.h"
#include "efficientad/eval/evaluate.h"
#include "efficientad/eval/metrics.h"
#include "support/golden.h"

namespace efficientad {
namespace {

namespace fs = std::filesystem;

// The required agreement; both sides are exact but for rounding in double.
constexpr double kTolerance = 1e-6;

/// The categories in a golden data set's folder of maps.
std::vector<std::string> categories_of(const std::string& set) {
  std::vector<std::string> categories;
  for (const auto& entry : fs::directory_iterator(golden_dir() / "metrics" / set / "maps")) {
    categories.push_back(entry.path().filename().string());
  }
  return categories;
}

/// What an evaluation would have collected, from the data set and the maps that lie beside it.
Evaluation load_evaluation(const std::string& set, const std::string& layout,
                           const std::string& category) {
  const fs::path folder = golden_dir() / "metrics" / set;
  const Dataset dataset = open_dataset(layout, folder / "data", category);
  Evaluation evaluation;
  for (const auto& sample : dataset.test) {
    const fs::path map = anomaly_map_path(folder / "maps" / category, sample);
    evaluation.images.push_back(
        {.sample = sample, .map_path = map, .score = read_tiff(map).max().item<double>()});
  }
  evaluate_scores(evaluation);
  evaluate_pixels(evaluation, dataset);
  return evaluation;
}

TEST(golden_metrics, MvtecAd) {
  const auto expected = load_golden("metrics/expected.json").at("mvtec_ad");
  const auto categories = categories_of("mvtec_ad");
  ASSERT_EQ(categories.size(), 1u);
  const Evaluation evaluation = load_evaluation("mvtec_ad", "mvtec", categories.front());
  const auto check = [&](const char* key, const std::optional<double>& actual) {
    ASSERT_TRUE(actual.has_value()) << key;
    EXPECT_NEAR(*actual, expected.at(key).get<double>(), kTolerance) << key;
  };
  check("image_auroc", evaluation.image_metrics.auroc);
  check("image_average_precision", evaluation.image_metrics.average_precision);
  check("image_f1_max", evaluation.image_metrics.f1_max);
  check("pixel_auroc", evaluation.pixel_metrics.auroc);
  check("pixel_average_precision", evaluation.pixel_metrics.average_precision);
  check("pixel_f1_max", evaluation.pixel_metrics.f1_max);
  for (const auto& [limit, value] : expected.at("au_pro").items()) {
    ASSERT_TRUE(evaluation.au_pro.at(limit).has_value()) << limit;
    EXPECT_NEAR(*evaluation.au_pro.at(limit), value.get<double>(), kTolerance) << limit;
  }
}

TEST(golden_metrics, MvtecLocoClassification) {
  const auto expected =
      load_golden("metrics/expected.json").at("mvtec_loco").at("classification").at("auc_roc");
  const auto categories = categories_of("mvtec_loco");
  ASSERT_EQ(categories.size(), 1u);
  const Evaluation evaluation = load_evaluation("mvtec_loco", "loco", categories.front());
  for (const char* kind : {"logical_anomalies", "structural_anomalies"}) {
    const auto& auroc = evaluation.loco_auroc_by_defect.at(kind);
    ASSERT_TRUE(auroc.has_value()) << kind;
    EXPECT_NEAR(*auroc, expected.at(kind).get<double>(), kTolerance) << kind;
  }
  ASSERT_TRUE(evaluation.loco_auroc_by_defect_mean.has_value());
  EXPECT_NEAR(*evaluation.loco_auroc_by_defect_mean, expected.at("mean").get<double>(), kTolerance);
}

TEST(golden_metrics, MvtecLocoLocalization) {
  const auto expected =
      load_golden("metrics/expected.json").at("mvtec_loco").at("localization").at("auc_spro");
  const Evaluation evaluation =
      load_evaluation("mvtec_loco", "loco", categories_of("mvtec_loco").front());
  // The script samples its thresholds.
  constexpr double kSampled = 2e-3;
  for (const auto& [kind, by_limit] : expected.items()) {
    for (const auto& [limit, value] : by_limit.items()) {
      const auto& area = evaluation.au_spro.at(kind).at(limit);
      ASSERT_TRUE(area.has_value()) << kind << " " << limit;
      EXPECT_NEAR(*area, value.get<double>(), kSampled) << kind << " " << limit;
    }
  }
}

}  // namespace
}  // namespace efficientad
