#include "efficientad/detect/image_range.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "efficientad/nn/exposure.h"

namespace efficientad {
namespace {

using Names = std::vector<std::string>;

torch::Tensor uniform(int64_t level, int64_t height = 40, int64_t width = 50) {
  return torch::full({height, width, 3}, level, torch::kUInt8);
}

/// Half of the columns at `low`, the others at `high`.
torch::Tensor striped(int64_t low, int64_t high, int64_t height = 40, int64_t width = 50) {
  torch::Tensor image = uniform(low, height, width);
  image.narrow(1, 0, width / 2).fill_(high);
  return image;
}

TEST(ImageRange, LevelsAreThoseOfAllChannels) {
  torch::manual_seed(1);
  const torch::Tensor image = torch::randint(0, 256, {40, 50, 3}, torch::kUInt8);
  const torch::Tensor grey = image.to(torch::kFloat64).mean(/*dim=*/2);
  const GreyLevels levels = grey_levels(image);
  EXPECT_NEAR(levels.mean, grey.mean().item<double>(), 1e-9);
  EXPECT_NEAR(levels.deviation, grey.std(/*unbiased=*/false).item<double>(), 1e-9);
  EXPECT_EQ(grey_levels(uniform(255)).mean, 255);
  EXPECT_EQ(grey_levels(uniform(255)).deviation, 0);
}

TEST(ImageRange, NoiseOfLargeImagesIsAveragedAsInSmallOnes) {
  torch::manual_seed(2);
  const torch::Tensor noisy = torch::randint(0, 256, {1024, 1024, 3}, torch::kUInt8);
  const GreyLevels levels = grey_levels(noisy);
  const torch::Tensor small =
      torch::avg_pool2d(noisy.to(torch::kFloat64).mean(2).view({1, 1, 1024, 1024}), 4);
  EXPECT_NEAR(levels.mean, small.mean().item<double>(), 1e-9);
  EXPECT_NEAR(levels.deviation, small.std(/*unbiased=*/false).item<double>(), 1e-9);
  EXPECT_LT(levels.deviation,
            0.3 * grey_levels(noisy.narrow(0, 0, 256).narrow(1, 0, 256)).deviation);
}

TEST(ImageRange, LevelsOfLargeImagesAreOfSomePixels) {
  const GreyLevels levels = grey_levels(striped(40, 60, 704, 1792));
  EXPECT_NEAR(levels.mean, 50, 0.1);
  EXPECT_NEAR(levels.deviation, 10, 0.01);
  // A view that is not contiguous.
  EXPECT_NEAR(grey_levels(striped(40, 60, 704, 1792).narrow(1, 896, 896)).mean, 40, 1e-9);
}

TEST(ImageRange, LongImagesKeepTheContrastOfTheirShortSide) {
  // Rows of 4 px, black and white, of which a reduction of both sides alike would leave grey.
  torch::Tensor image = uniform(0, 256, 2048);
  for (int64_t y = 0; y < 256; y += 8) image.narrow(0, y, 4).fill_(255);
  EXPECT_NEAR(grey_levels(image).deviation, 127.5, 1e-9);
}

TEST(ImageRange, TellsWhatIsUnlikeItsImages) {
  ImageRange range;
  EXPECT_EQ(range.unlike(uniform(0), false), Names{});
  range.add_size({40, 50});
  EXPECT_EQ(range.unlike(uniform(0), false), Names{});
  EXPECT_EQ(range.unlike(uniform(0, 40, 56), false), Names{"shape"});
  EXPECT_EQ(range.unlike(uniform(0, 40, 44), false), Names{"shape"});
  EXPECT_EQ(range.unlike(uniform(0, 400, 540), false), Names{});
  range.add_size({40, 60});
  EXPECT_EQ(range.unlike(uniform(0, 40, 65), false), Names{});
  // Means 100 and 60, deviations 20 and 40.
  range.add_levels(grey_levels(striped(80, 120)));
  range.add_levels(grey_levels(striped(20, 100)));
  EXPECT_EQ(range.unlike(striped(60, 100), false), Names{});
  EXPECT_EQ(range.unlike(striped(20, 42), false), Names{});
  EXPECT_EQ(range.unlike(striped(18, 40), false), Names{"dark"});
  EXPECT_EQ(range.unlike(striped(160, 184), false), Names{});
  EXPECT_EQ(range.unlike(striped(167, 189), false), Names{"bright"});
  EXPECT_EQ(range.unlike(striped(91, 111), false), Names{});
  EXPECT_EQ(range.unlike(striped(92, 110), false), Names{"flat"});
  EXPECT_EQ(range.unlike(uniform(0), false), (Names{"dark", "flat"}));
  EXPECT_EQ(range.unlike(uniform(255, 40, 80), false), (Names{"shape", "bright", "flat"}));
}

TEST(ImageRange, ExposureDoesNotMatterWhereItIsEqualized) {
  const torch::Tensor image = torch::randint(60, 200, {64, 64, 3}, torch::kUInt8);
  const GreyLevels levels = equalized(grey_levels(image));
  const torch::Tensor same =
      equalize_exposure(image.permute({2, 0, 1}).to(torch::kFloat32) / 255).mean(0) * 255;
  EXPECT_NEAR(levels.mean, same.mean().item<double>(), 1e-3);
  EXPECT_NEAR(levels.deviation, same.std(/*unbiased=*/false).item<double>(), 1e-3);
  ImageRange range;
  range.add_levels(levels);
  const torch::Tensor dim = image.div(3, "floor");
  EXPECT_EQ(range.unlike(dim, true), Names{});
  EXPECT_EQ(range.unlike(dim, false), (Names{"dark", "flat"}));
  // Beyond what is equalised.
  EXPECT_EQ(range.unlike(image.div(20, "floor"), true), (Names{"dark", "flat"}));
  EXPECT_EQ(range.unlike(uniform(200, 64, 64), true), Names{"flat"});
}

TEST(ImageRange, OfDarkImagesIsLeftByTwiceTheirBrightness) {
  ImageRange range;
  range.add_levels({.mean = 10, .deviation = 0});
  EXPECT_EQ(range.unlike(uniform(20), false), Names{});
  EXPECT_EQ(range.unlike(uniform(21), false), Names{"bright"});
  // Nothing is flatter than an image without contrast, and hardly darker than one that is black.
  EXPECT_EQ(range.unlike(uniform(0), false), Names{});
  ImageRange of_white;
  of_white.add_levels({.mean = 250, .deviation = 0});
  EXPECT_EQ(of_white.unlike(uniform(255), false), Names{});
}

}  // namespace
}  // namespace efficientad
