#include "efficientad/eval/heatmap.h"

#include <gtest/gtest.h>
#include <torch/types.h>

namespace efficientad {
namespace {

constexpr double kThreshold = 0.3;

torch::Tensor draw(const torch::Tensor& image, const torch::Tensor& map,
                   double threshold = kThreshold) {
  const double score = map.max().item<double>();
  return draw_heatmap(image, {map, score, score > threshold}, threshold, "größe.png");
}

/// Largest difference between the two panels (512 px wide, 8 px apart) in a square of 80 px around
/// the middle.
int64_t change_in_middle(const torch::Tensor& picture) {
  const auto middle = [&](int64_t left) {
    return picture.slice(0, 216, 296).slice(1, left + 216, left + 296).to(torch::kInt64);
  };
  return (middle(520) - middle(0)).abs().max().item<int64_t>();
}

TEST(Heatmap, PanelsStandBesideEachOtherAboveTheStrip) {
  const auto picture =
      draw(torch::full({256, 256, 3}, 90, torch::kUInt8), torch::zeros({256, 256}));
  EXPECT_EQ(picture.sizes(), (std::vector<int64_t>{512 + 64, 2 * 512 + 8, 3}));
  EXPECT_EQ(picture.dtype(), torch::kUInt8);
}

TEST(Heatmap, SizesOfAllShapes) {
  // Wide images are stacked; large ones are reduced to 1024 px a panel, tiny ones enlarged.
  const auto sizes = [](int64_t height, int64_t width) {
    return draw(torch::zeros({height, width, 3}, torch::kUInt8), torch::zeros({height, width}))
        .sizes()
        .vec();
  };
  EXPECT_EQ(sizes(256, 512), (std::vector<int64_t>{2 * 256 + 8 + 64, 512, 3}));
  EXPECT_EQ(sizes(2048, 2048), (std::vector<int64_t>{1024 + 64, 2 * 1024 + 8, 3}));
  EXPECT_EQ(sizes(600, 100), (std::vector<int64_t>{600 + 64, 512, 3}));
  EXPECT_EQ(sizes(1, 1), (std::vector<int64_t>{512 + 64, 2 * 512 + 8, 3}));
  EXPECT_EQ(sizes(1, 4000), (std::vector<int64_t>{2 * 1 + 8 + 64, 1024, 3}));
}

torch::Tensor with_middle(double value) {
  auto map = torch::full({512, 512}, -0.05);
  map.slice(0, 236, 276).slice(1, 236, 276).fill_(value);
  return map;
}

TEST(Heatmap, GoodStaysCalmAndDefectsStandOut) {
  const auto image = torch::full({512, 512, 3}, 90, torch::kUInt8);
  EXPECT_EQ(change_in_middle(draw(image, with_middle(-0.05))), 0);
  EXPECT_EQ(change_in_middle(draw(image, with_middle(0.0))), 0);
  // The level of q_b: nearly nothing.
  EXPECT_LT(change_in_middle(draw(image, with_middle(0.1))), 10);
  EXPECT_GT(change_in_middle(draw(image, with_middle(0.31))), 60);
  EXPECT_GT(change_in_middle(draw(image, with_middle(5.0))), 100);
}

TEST(Heatmap, WhatIsUnusualShowsBelowAHighThresholdToo) {
  const auto image = torch::full({512, 512, 3}, 90, torch::kUInt8);
  constexpr double kHigh = 1.33;
  EXPECT_EQ(change_in_middle(draw(image, with_middle(0.1), kHigh)), 0);
  const int64_t below = change_in_middle(draw(image, with_middle(0.52), kHigh));
  EXPECT_GT(below, 25);
  EXPECT_LT(change_in_middle(draw(image, with_middle(0.2), kHigh)), below / 2);
}

TEST(Heatmap, GoodStaysCalmWithALowThresholdToo) {
  const auto image = torch::full({512, 512, 3}, 90, torch::kUInt8);
  for (const double threshold : {0.15, 0.0, -0.2}) {
    const auto picture = draw(image, torch::full({512, 512}, 0.07), threshold);
    EXPECT_EQ(change_in_middle(picture), 0) << threshold;
  }
  EXPECT_GT(change_in_middle(draw(image, with_middle(0.16), 0.15)), 60);
}

TEST(Heatmap, ThresholdOfZeroOrLessIsDrawn) {
  const auto image = torch::full({512, 512, 3}, 90, torch::kUInt8);
  for (const double threshold : {0.0, -0.2}) {
    auto map = torch::full({512, 512}, threshold - 0.3);
    EXPECT_EQ(change_in_middle(draw(image, map, threshold)), 0) << threshold;
    map.slice(0, 236, 276).slice(1, 236, 276).fill_(threshold + 0.3);
    EXPECT_GT(change_in_middle(draw(image, map, threshold)), 60) << threshold;
  }
}

}  // namespace
}  // namespace efficientad
