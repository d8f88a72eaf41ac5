#include "efficientad/eval/shift_probe.h"

#include <gtest/gtest.h>
#include <torch/utils.h>

#include <set>

#include "support/expect_error.h"

namespace efficientad {
namespace {

/// 96 x 96 px.
Detector random_detector(int64_t shift_average = 1) {
  torch::manual_seed(1);
  ModelBundle bundle;
  bundle.image_hw = {96, 96};
  bundle.teacher = random_teacher("small", /*padding=*/false, 1).network;
  bundle.student = Pdn(PdnOptions{.out_channels = 768});
  bundle.autoencoder = Autoencoder();
  bundle.teacher_mean = torch::zeros({1, 384, 1, 1});
  bundle.teacher_std = torch::ones({1, 384, 1, 1});
  // The autoencoder's map, which knows no shifts, hardly counts.
  bundle.quantiles = {.q_a_st = 0.001, .q_b_st = 0.003, .q_a_ae = 0, .q_b_ae = 1e6};
  bundle.threshold = -1e9;
  return Detector(std::move(bundle), torch::kCPU, "auto", "auto", shift_average);
}

TEST(ShiftProbe, ShiftsBeginWithNoneAndAreEachOnce) {
  for (const auto& [shifts, count] :
       {std::pair(stride_shifts(), 16), std::pair(field_shifts(), 97)}) {
    EXPECT_EQ(static_cast<int>(shifts.size()), count);
    EXPECT_EQ(shifts[0].dy, 0);
    EXPECT_EQ(shifts[0].dx, 0);
    std::set<std::pair<int64_t, int64_t>> places;
    for (const auto& shift : shifts) places.insert({shift.dy, shift.dx});
    EXPECT_EQ(static_cast<int>(places.size()), count);
  }
}

TEST(ShiftProbe, AWholeCellChangesNothingAndAPixelDoes) {
  const torch::Tensor image = torch::randint(0, 256, {96, 96, 3}, torch::kUInt8);
  const auto results = probe_crop(random_detector(), image, {{0, 0}, {4, -8}, {0, 2}, {-1, 1}});
  ASSERT_EQ(results.size(), 4u);
  EXPECT_EQ(results[0].map_difference, 0);
  EXPECT_TRUE(results[0].anomalous);
  // The same cells see the same pixels.
  EXPECT_LT(results[1].map_difference, 1e-3);
  EXPECT_NEAR(results[1].score, results[0].score, 1e-3 * std::abs(results[0].score));
  EXPECT_EQ(results[1].peak_y, results[0].peak_y);
  EXPECT_EQ(results[1].peak_x, results[0].peak_x);
  EXPECT_GT(results[2].map_difference, 0.02);
  EXPECT_GT(results[3].map_difference, 0.02);
  for (const auto& result : results) {
    EXPECT_GE(result.score_anywhere, result.score);
    EXPECT_FALSE(result.peak_distance.has_value());
  }
}

TEST(ShiftProbe, AveragingLessensTheVariation) {
  const torch::Tensor image = torch::randint(0, 256, {60, 80, 3}, torch::kUInt8);
  const auto once = variation_of(probe_crop(random_detector(1), image, stride_shifts()));
  const auto sixteen = variation_of(probe_crop(random_detector(16), image, stride_shifts()));
  EXPECT_EQ(once.places, 16);
  EXPECT_EQ(once.other_decisions, 0);
  EXPECT_LT(sixteen.map_difference_mean, 0.1 * once.map_difference_mean);
  EXPECT_LT(sixteen.score_std, 0.5 * once.score_std);
}

TEST(ShiftProbe, FollowsTheDefectThatItMoves) {
  const torch::Tensor image = torch::full({96, 96, 3}, 100, torch::kUInt8);
  const Detector detector = random_detector();
  const double without = probe_crop(detector, image, {{0, 0}})[0].score;
  const Defect blob = synthetic_defect("blob", 8, 150);
  // By whole cells, so that the maps move and stay otherwise the same.
  const auto results = probe_defect(detector, image, blob, {{0, 0}, {4, 8}, {-8, 4}});
  for (const auto& result : results) {
    EXPECT_GT(result.score, without);
    EXPECT_EQ(result.score, result.score_anywhere);
    // The cells that see the defect are no further off.
    EXPECT_LT(result.peak_distance.value(), 17 * std::sqrt(2.0));
    EXPECT_EQ(result.peak_distance.value(), results[0].peak_distance.value());
    EXPECT_LT(result.map_difference, 1e-2);
  }
}

TEST(ShiftProbe, SyntheticDefectsHaveTheirSize) {
  const Defect blob = synthetic_defect("blob", 9, -50);
  // Of a disc of diameter 9.
  EXPECT_NEAR(blob.add.sum().item<double>() / 3 / -50, 63.6, 3);
  EXPECT_EQ(blob.add.min().item<double>(), -50);
  const Defect scratch = synthetic_defect("scratch", 20, 80);
  EXPECT_NEAR(scratch.add.sum().item<double>() / 3 / 80, 20 * 2, 4);
  EXPECT_GT(scratch.mask.size(1), scratch.mask.size(0));
  EXPECT_EQ(blob.add.select(0, 0).abs().max().item<double>(), 0);
}

TEST(ShiftProbe, CutsADefectOutAndPutsItWhereItWas) {
  torch::Tensor image = torch::randint(0, 256, {96, 96, 3}, torch::kUInt8);
  torch::Tensor mask = torch::zeros({96, 96}, torch::kUInt8);
  mask.slice(0, 30, 38).slice(1, 50, 55).fill_(1);
  const Defect defect = cut_defect(image, mask, {96, 96});
  EXPECT_EQ(defect.mask.sizes(), (std::vector<int64_t>{8, 5}));
  EXPECT_EQ(defect.home.value().dy, 30);
  EXPECT_EQ(defect.home.value().dx, 50);
  EXPECT_EQ(defect.keep.abs().max().item<double>(), 0);
  EXPECT_TRUE(defect.add.equal(image.slice(0, 30, 38).slice(1, 50, 55).to(torch::kFloat32)));
  // Put into the image that it comes from, nothing changes without shift.
  const auto with = probe_defect(random_detector(), image, defect, {{0, 0}});
  const auto without = probe_crop(random_detector(), image, {{0, 0}});
  EXPECT_EQ(with[0].score_anywhere, without[0].score_anywhere);

  EXPECT_ERROR(cut_defect(image, mask.slice(0, 0, 90), {96, 96}), Error, "96x90");
  EXPECT_ERROR(cut_defect(image, torch::zeros_like(mask), {96, 96}), Error, "empty");
}

TEST(ShiftProbe, RefusesWhatDoesNotFit) {
  const torch::Tensor image = torch::full({96, 96, 3}, 100, torch::kUInt8);
  const Defect large = synthetic_defect("blob", 60, 50);
  EXPECT_ERROR(probe_defect(random_detector(), image, large, field_shifts()), Error, "too large");
  const std::vector<Shift> far = {{0, 0}, {40, 0}, {-40, 0}};
  EXPECT_ERROR(probe_crop(random_detector(), image, far), Error, "too small");
}

}  // namespace
}  // namespace efficientad
