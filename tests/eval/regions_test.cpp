#include "efficientad/eval/regions.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "efficientad/core/file.h"
#include "support/expect_error.h"
#include "support/near.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

TEST(ProOverlap, ComponentsTouchAtCornersToo) {
  torch::Tensor mask = torch::zeros({5, 6}, torch::kUInt8);
  mask[0][0] = 255;
  mask[1][1] = 1;  // One component with the first.
  mask[4].narrow(0, 3, 3).fill_(7);
  const Overlap overlap = pro_overlap(mask);
  EXPECT_EQ(overlap.regions, 2);
  torch::Tensor expected = torch::zeros({5, 6});
  expected[0][0] = 0.5;
  expected[1][1] = 0.5;
  expected[4].narrow(0, 3, 3).fill_(1.0 / 3);
  expect_near(overlap.per_pixel, expected, 1e-6, 0);
  EXPECT_EQ(pro_overlap(torch::zeros({4, 4}, torch::kUInt8)).regions, 0);
}

TEST(SproOverlap, TheHighestPixelsCompleteADefect) {
  const std::vector<SaturationRule> rules = {
      {.pixel_value = 255, .threshold = 2},
      {.pixel_value = 254, .threshold = 0.5, .relative = true}};
  torch::Tensor first = torch::zeros({3, 4}, torch::kUInt8);
  first[0].fill_(255);
  torch::Tensor second = torch::zeros({3, 4}, torch::kUInt8);
  second.narrow(0, 0, 2).fill_(254);  // Eight pixels, over the first defect's.
  const torch::Tensor scores = torch::arange(12, torch::kFloat32).view({3, 4});
  const Overlap overlap = spro_overlap({first, second}, scores, rules, {"a.png", "b.png"});
  EXPECT_EQ(overlap.regions, 2);
  torch::Tensor expected = torch::zeros({3, 4});
  expected[0][2] = 0.5;
  expected[0][3] = 0.5;
  expected[1].fill_(0.25);
  expect_near(overlap.per_pixel, expected, 1e-6, 0);
}

TEST(SproOverlap, SaturationAreaIsWholeAndNotZero) {
  const SaturationRule share = {.pixel_value = 1, .threshold = 0.4, .relative = true};
  EXPECT_EQ(saturation_area(share, 9), 3);
  EXPECT_EQ(saturation_area(share, 1), 1);
  const SaturationRule pixels = {.pixel_value = 1, .threshold = 60};
  EXPECT_EQ(saturation_area(pixels, 100), 60);
  EXPECT_EQ(saturation_area(pixels, 20), 20);
}

TEST(SproOverlap, MasksThatDoNotFitAreErrors) {
  torch::Tensor mask = torch::zeros({2, 2}, torch::kUInt8);
  mask[0][0] = 7;
  const torch::Tensor scores = torch::zeros({2, 2});
  EXPECT_ERROR(spro_overlap({mask}, scores, {{.pixel_value = 255, .threshold = 1}}, {"m.png"}),
               Error, "m.png: its value 7 has no entry");
  mask[1][1] = 9;
  EXPECT_ERROR(spro_overlap({mask}, scores, {}, {"m.png"}), Error, "m.png: a mask");
}

TEST(SaturationRules, AreReadAndChecked) {
  const TempDir dir;
  const auto file = dir.path / "defects_config.json";
  EXPECT_ERROR(read_saturation_rules(file), Error, "defects_config.json");
  write_file(file, R"([{"defect_name": "a", "pixel_value": 255, "saturation_threshold": 0.5,
                        "relative_saturation": true}])");
  const auto rules = read_saturation_rules(file);
  ASSERT_EQ(rules.size(), 1u);
  EXPECT_EQ(rules[0].pixel_value, 255);
  EXPECT_EQ(rules[0].threshold, 0.5);
  EXPECT_TRUE(rules[0].relative);
  write_file(file, R"([{"pixel_value": 255}])");
  EXPECT_ERROR(read_saturation_rules(file), Error, "saturation_threshold");
  write_file(file,
             R"([{"pixel_value": 0, "saturation_threshold": 1, "relative_saturation": true}])");
  EXPECT_ERROR(read_saturation_rules(file), Error, "makes no sense");
}

TEST(AnomalousRegions, AreWhereTheMapIsAboveTheThreshold) {
  torch::Tensor map = torch::zeros({6, 8});
  map[1][1] = 0.5f;
  map[2][2] = 0.7f;  // Touches it at a corner.
  map[2][3] = 0.6f;
  map[5][7] = 0.9f;
  map[0][5] = 0.4f;  // Not above.
  const auto regions = anomalous_regions(map, static_cast<double>(0.4f));
  ASSERT_EQ(regions.size(), 2u);
  EXPECT_EQ(regions[0].area, 1);
  EXPECT_EQ(regions[0].peak, static_cast<double>(0.9f));
  EXPECT_EQ(regions[0].peak_x, 7);
  EXPECT_EQ(regions[0].peak_y, 5);
  EXPECT_EQ(regions[1].left, 1);
  EXPECT_EQ(regions[1].top, 1);
  EXPECT_EQ(regions[1].width, 3);
  EXPECT_EQ(regions[1].height, 2);
  EXPECT_EQ(regions[1].area, 3);
  EXPECT_EQ(regions[1].peak_x, 2);
  EXPECT_EQ(regions[1].peak_y, 2);
  EXPECT_TRUE(anomalous_regions(map, 1.0).empty());
  // Any map may be a view of a larger one.
  EXPECT_EQ(anomalous_regions(map.narrow(1, 4, 4), 0.5).front().peak_x, 3);
}

}  // namespace
}  // namespace efficientad
