#include "efficientad/eval/thumbnail.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <fstream>

#include "efficientad/data/image.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

torch::Tensor noise(int64_t height, int64_t width) {
  return torch::randint(0, 256, {height, width, 3}, torch::kUInt8);
}

torch::Tensor square(int64_t height, int64_t width, int64_t from, int64_t to) {
  auto mask = torch::zeros({height, width}, torch::kUInt8);
  mask.slice(0, from, to).slice(1, from, to).fill_(255);
  return mask;
}

/// The picture that a JPEG file's bytes are.
torch::Tensor decoded(const std::string& bytes) {
  const TempDir dir;
  std::ofstream(dir.path / "a.jpg", std::ios::binary) << bytes;
  return read_image(dir.path / "a.jpg");
}

TEST(Thumbnail, PicturesAndOutlinesAreThere) {
  const auto image = torch::full({300, 600, 3}, 90, torch::kUInt8);
  const auto mask = square(300, 600, 100, 200);
  const auto map = mask.to(torch::kFloat32) / 255;
  const auto thumbnail = make_thumbnail(image, map, mask, {.side = 128, .map_limit = 0.5});
  EXPECT_EQ(decoded(thumbnail.image).sizes(), (std::vector<int64_t>{64, 128, 3}));
  EXPECT_EQ(thumbnail.width, 256);
  EXPECT_EQ(thumbnail.height, 128);
  // A square, around pixels 43 to 85 of the plane (100 to 200 of the image, times 256 / 600).
  EXPECT_EQ(thumbnail.mask_outline, "M42 42l0 43 43 0 0 -43z");
  EXPECT_EQ(thumbnail.found_outline, thumbnail.mask_outline);
  const auto heatmap = decoded(thumbnail.heatmap).to(torch::kInt64);
  EXPECT_GT((heatmap[32][32] - 90).abs().max().item<int64_t>(), 60);
  EXPECT_LT((heatmap[5][100] - 90).abs().max().item<int64_t>(), 10);
}

TEST(Thumbnail, ASmallDefectDoesNotVanish) {
  const auto image = torch::zeros({2048, 2048, 3}, torch::kUInt8);
  const auto mask = square(2048, 2048, 800, 802);
  const auto thumbnail =
      make_thumbnail(image, torch::zeros({2048, 2048}), mask, {.map_limit = 0.5});
  EXPECT_EQ(thumbnail.mask_outline, "M100 100z");
  EXPECT_EQ(thumbnail.found_outline, "");
}

TEST(Thumbnail, AJaggedOutlineIsDrawnMoreCoarsely) {
  // A comb of 60 teeth.
  auto mask = square(256, 256, 8, 248);
  for (int64_t x = 10; x < 248; x += 4) mask.slice(0, 8, 200).slice(1, x, x + 2).zero_();
  const auto thumbnail = make_thumbnail(torch::zeros({256, 256, 3}, torch::kUInt8),
                                        torch::zeros({256, 256}), mask, {.map_limit = 0.5});
  EXPECT_NE(thumbnail.mask_outline, "");
  EXPECT_LT(thumbnail.mask_outline.size(), 1000u);
}

TEST(Thumbnail, MapsOfOtherMethodsHaveTheirOwnScale) {
  const auto image = torch::full({64, 64, 3}, 90, torch::kUInt8);
  const auto maps_of = [&](double value, bool normalized) {
    return make_thumbnail(image, torch::full({64, 64}, value), {},
                          {.map_low = 10, .map_limit = 40, .normalized = normalized});
  };
  // A sixth of the way to the limit: nothing, but far from normal if it were of a model of ours.
  EXPECT_EQ(maps_of(15, false).heatmap, maps_of(15, false).image);
  EXPECT_NE(maps_of(15, true).heatmap, maps_of(15, true).image);
  EXPECT_NE(maps_of(35, false).heatmap, maps_of(35, false).image);
  // Of whatever size.
  const auto tiny = [&](double value) {
    return make_thumbnail(image, torch::full({64, 64}, value), {},
                          {.map_low = 0.01, .map_limit = 0.02, .normalized = false});
  };
  EXPECT_EQ(tiny(0.0125).heatmap, tiny(0.0125).image);
  EXPECT_NE(tiny(0.03).heatmap, tiny(0.02).heatmap);
}

TEST(Thumbnail, WithoutAMaskThereIsNoOutline) {
  const auto thumbnail = make_thumbnail(noise(20, 10), torch::zeros({20, 10}), {}, {});
  EXPECT_EQ(thumbnail.mask_outline, "");
  // Not enlarged.
  EXPECT_EQ(decoded(thumbnail.image).sizes(), (std::vector<int64_t>{20, 10, 3}));
}

TEST(Thumbnail, NoiseFitsIntoItsBytesAndItsOutlines) {
  const auto map = torch::rand({512, 512});
  const auto mask = torch::randint(0, 2, {512, 512}, torch::kUInt8);
  for (const int64_t bytes : {30000, 7500, 3000}) {
    const auto thumbnail = make_thumbnail(noise(512, 512), map, mask,
                                          {.side = 256, .max_bytes = bytes, .map_limit = 0.9});
    EXPECT_LE(thumbnail.image.size() + thumbnail.heatmap.size(), static_cast<size_t>(bytes));
    EXPECT_LE(thumbnail.mask_outline.size(), kOutlineBytes);
    EXPECT_LE(thumbnail.found_outline.size(), kOutlineBytes);
  }
}

TEST(Thumbnail, ExtremeShapes) {
  for (const auto& [height, width] : {std::pair<int64_t, int64_t>{1, 1}, {1, 3000}, {3000, 2}}) {
    const auto thumbnail = make_thumbnail(noise(height, width), torch::ones({height, width}),
                                          torch::ones({height, width}, torch::kUInt8), {});
    EXPECT_FALSE(thumbnail.image.empty());
    EXPECT_FALSE(thumbnail.mask_outline.empty());
  }
}

}  // namespace
}  // namespace efficientad
