#include "efficientad/detect/anomaly_map.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "efficientad/detect/calibration.h"
#include "support/expect_error.h"
#include "support/near.h"

namespace efficientad {
namespace {

TEST(AnomalyMap, StudentHalvesBelongToTheirMaps) {
  const torch::Tensor student = torch::rand({2, 6, 4, 5});
  const torch::Tensor other = torch::rand({2, 3, 4, 5});
  torch::Tensor st = torch::zeros({2, 1, 4, 5});
  torch::Tensor ae = torch::zeros({2, 1, 4, 5});
  for (int64_t c = 0; c < 3; ++c) {
    st += (other.narrow(1, c, 1) - student.narrow(1, c, 1)).square() / 3;
    ae += (other.narrow(1, c, 1) - student.narrow(1, 3 + c, 1)).square() / 3;
  }
  // Rounding of a sum of three float32 values.
  expect_near(map_st(other, student), st, 1e-6, 1e-7);
  expect_near(map_ae(other, student), ae, 1e-6, 1e-7);
}

TEST(AnomalyMap, QuantilesBecomeZeroAndATenth) {
  const torch::Tensor map = torch::tensor({2.0f, 5.0f, 8.0f}).view({1, 1, 1, 3});
  const torch::Tensor normalized = normalize_map(map, 2.0, 5.0);
  expect_near(normalized, torch::tensor({0.0f, 0.1f, 0.2f}).view({1, 1, 1, 3}), 1e-6, 1e-7);
}

TEST(AnomalyMap, EqualQuantilesGiveFiniteMaps) {
  for (const double level : {0.0, 3.0, 1e-30}) {
    const torch::Tensor flat = torch::full({1, 1, 4, 4}, level);
    const MapQuantiles quantiles = quantiles_of_maps({{.st = flat, .ae = flat}});
    EXPECT_EQ(quantiles.q_a_st, quantiles.q_b_st);
    const torch::Tensor same = combine_maps({.st = flat, .ae = flat}, quantiles);
    EXPECT_TRUE(torch::isfinite(same).all().item<bool>());
    EXPECT_LT(same.abs().max().item<double>(), 0.1);
    const torch::Tensor higher = flat + 1;
    const torch::Tensor map = combine_maps({.st = higher, .ae = higher}, quantiles);
    EXPECT_TRUE(torch::isfinite(map).all().item<bool>());
    EXPECT_GT(map.min().item<double>(), 0.1);
  }
}

TEST(AnomalyMap, BorderIsZero) {
  const torch::Tensor map = add_map_border(torch::ones({2, 1, 3, 5}));
  EXPECT_EQ(map.sizes(), (std::vector<int64_t>{2, 1, 11, 13}));
  EXPECT_EQ(map.sum().item<double>(), 30);
  EXPECT_EQ(map.narrow(2, 4, 3).narrow(3, 4, 5).sum().item<double>(), 30);
}

TEST(AnomalyMap, ResizeIsBilinearWithoutAlignedCorners) {
  const torch::Tensor map = torch::tensor({0.0f, 1.0f}).view({1, 1, 1, 2});
  const torch::Tensor large = resize_map(map, {1, 4});
  expect_near(large, torch::tensor({0.0f, 0.25f, 0.75f, 1.0f}).view({1, 1, 1, 4}), 1e-6, 1e-7);
}

TEST(Calibration, QuantilesAreOverAllPixelsOfAllMaps) {
  std::vector<RawMaps> maps;
  for (int64_t i = 0; i < 3; ++i) {
    maps.push_back({.st = torch::arange(i * 20, i * 20 + 20).to(torch::kFloat32).view({1, 1, 4, 5}),
                    .ae = torch::ones({1, 1, 4, 5}) * i});
  }
  const MapQuantiles quantiles = quantiles_of_maps(maps, 0.5, 0.75);
  EXPECT_DOUBLE_EQ(quantiles.q_a_st, 29.5);
  EXPECT_DOUBLE_EQ(quantiles.q_b_st, 44.25);
  EXPECT_DOUBLE_EQ(quantiles.q_a_ae, 1.0);
  EXPECT_DOUBLE_EQ(quantiles.q_b_ae, 2.0);
  EXPECT_ERROR(quantiles_of_maps({}), Error, "no held-out normal images");
}

TEST(Calibration, ThresholdIsTheHighestNormalScore) {
  const Threshold threshold =
      threshold_of_normal_scores({0.1, 0.4, -0.2}, 0.01, "held-out normal images");
  EXPECT_EQ(threshold.value, 0.4);
  EXPECT_EQ(threshold.rule.rfind("highest score of 3 held-out normal images", 0), 0u);
  EXPECT_ERROR(threshold_of_normal_scores({}, 0.01, "held-out normal images"), Error,
               "no held-out normal images");
}

}  // namespace
}  // namespace efficientad
