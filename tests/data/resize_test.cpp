#include "efficientad/data/resize.h"

#include <gtest/gtest.h>
#include <hwy/targets.h>
#include <torch/utils.h>

#include <set>
#include <string>

#include "data/resize_kernels.h"
#include "efficientad/core/file.h"
#include "support/golden.h"
#include "support/near.h"

namespace efficientad {
namespace {

TEST(golden_resize, every_case_to_the_last_bit) {
  const auto golden = load_golden("resize.json");
  ASSERT_FALSE(golden.at("cases").empty());
  for (const auto& one : golden.at("cases")) {
    SCOPED_TRACE(one.at("in").dump() + " to " + one.at("out").dump());
    const int64_t height = one.at("in")[0];
    const int64_t width = one.at("in")[1];
    // floor(255 * image), height x width x channels.
    const torch::Tensor image = (golden_image(height, width, one.at("image_phase")) * 255)
                                    .floor()
                                    .to(torch::kUInt8)
                                    .permute({1, 2, 0})
                                    .contiguous();
    const torch::Tensor actual = resize_pil_bilinear(image, {one.at("out")[0], one.at("out")[1]});
    EXPECT_EQ(actual.sum().item<int64_t>(), one.at("sum").get<int64_t>());
    const torch::Tensor flat = actual.flatten();
    for (size_t i = 0; i < one.at("value").size(); ++i) {
      const int64_t index = one.at("flat_index_hwc")[i];
      EXPECT_EQ(flat[index].item<int64_t>(), one.at("value")[i].get<int64_t>()) << "at " << index;
    }
  }
}

/// Sizes, channels, and the FNV-1a hash of what Pillow 12 makes of the formula image below.
struct PillowCase {
  int64_t height, width, channels, out_height, out_width;
  uint64_t hash;
};

TEST(resize, odd_sizes_match_pillow_to_the_last_bit) {
  const std::vector<PillowCase> cases = {
      {1, 1, 3, 5, 7, 0x8e0eae75b5067c0cULL},        {7, 5, 3, 1, 1, 0xa2f402196ede3c05ULL},
      {31, 47, 3, 16, 16, 0x115d74f655ee98e1ULL},    {31, 47, 1, 16, 16, 0x10079bb4963b0ec9ULL},
      {31, 47, 4, 16, 16, 0xdbcc8fbc27af1736ULL},    {20, 30, 3, 20, 17, 0xe60f7f21e1b2c62eULL},
      {20, 30, 3, 13, 30, 0x8bc082ee3c9ba9deULL},    {20, 30, 3, 33, 11, 0x196656c7f6ed6f01ULL},
      {64, 64, 3, 63, 65, 0x7d536de7ccbaff1cULL},    {3, 200, 3, 9, 2, 0xc6b02b2894adcc4aULL},
      {97, 101, 3, 256, 256, 0x0bea1fe0701b7472ULL}, {255, 257, 3, 64, 64, 0x176e5ef612f0d706ULL},
      {2, 2, 3, 64, 64, 0x6b78cedc37165ae5ULL}};
  for (const auto& one : cases) {
    SCOPED_TRACE(fmt::format("{}x{}x{} to {}x{}", one.height, one.width, one.channels,
                             one.out_height, one.out_width));
    torch::Tensor image = torch::empty({one.height, one.width, one.channels}, torch::kUInt8);
    auto* pixel = image.data_ptr<uint8_t>();
    for (int64_t y = 0; y < one.height; ++y) {
      for (int64_t x = 0; x < one.width; ++x) {
        for (int64_t c = 0; c < one.channels; ++c) {
          *pixel++ = static_cast<uint8_t>(x * 37 + y * 101 + c * 59 + x * y * 13);
        }
      }
    }
    const torch::Tensor actual = resize_pil_bilinear(image, {one.out_height, one.out_width});
    ASSERT_EQ(actual.sizes(), (std::vector<int64_t>{one.out_height, one.out_width, one.channels}));
    EXPECT_EQ(hash64(actual.data_ptr(), static_cast<size_t>(actual.numel())), one.hash);
  }
}

TEST(resize, channels_together_are_each_by_itself) {
  // RGB is resized in vectors, a single channel number by number; columns as the rows of the
  // turned image.
  torch::manual_seed(5);
  for (const auto& [height, width, out_height, out_width] :
       std::vector<std::array<int64_t, 4>>{{5, 1, 3, 4},
                                           {1, 2, 1, 9},
                                           {2, 3, 7, 1},
                                           {3, 5, 3, 2},
                                           {19, 31, 19, 8},
                                           {40, 300, 11, 7},
                                           {7, 1023, 5, 256},
                                           {33, 64, 65, 129}}) {
    SCOPED_TRACE(fmt::format("{}x{} to {}x{}", height, width, out_height, out_width));
    const torch::Tensor image = torch::randint(0, 256, {height, width, 3}, torch::kUInt8);
    const torch::Tensor rgb = resize_pil_bilinear(image, {out_height, out_width});
    for (int64_t c = 0; c < 3; ++c) {
      const torch::Tensor channel = image.narrow(2, c, 1);
      const torch::Tensor wide = resize_pil_bilinear(channel, {height, out_width});
      const torch::Tensor turned =
          resize_pil_bilinear(wide.permute({1, 0, 2}), {out_width, out_height});
      expect_same_bits(rgb.narrow(2, c, 1).contiguous(), turned.permute({1, 0, 2}).contiguous());
    }
  }
}

TEST(resize, every_instruction_set_gives_the_same) {
  torch::manual_seed(6);
  const torch::Tensor image = torch::randint(0, 256, {37, 203, 3}, torch::kUInt8);
  const torch::Tensor expected = resize_pil_bilinear(image, {64, 50});
  const auto supported = hwy::SupportedTargets();
  const auto choose = [](auto targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  };
  std::set<std::string> names;
  for (const auto target : hwy::SupportedAndGeneratedTargets()) {
    choose(target);
    names.insert(internal::resize_kernels().name);
    SCOPED_TRACE(internal::resize_kernels().name);
    expect_same_bits(resize_pil_bilinear(image, {64, 50}), expected);
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(supported);
#if defined(__x86_64__)
  EXPECT_GE(names.size(), 2u);
#endif
}

TEST(resize, same_size_is_a_copy) {
  const torch::Tensor image = torch::randint(0, 256, {6, 5, 3}, torch::kUInt8);
  const torch::Tensor same = resize_pil_bilinear(image, {6, 5});
  expect_same_bits(same, image);
  EXPECT_NE(same.data_ptr(), image.data_ptr());
}

TEST(resize, takes_views) {
  const torch::Tensor image = torch::randint(0, 256, {3, 9, 12}, torch::kUInt8);
  const torch::Tensor view = image.permute({1, 2, 0});
  expect_same_bits(resize_pil_bilinear(view, {4, 7}),
                   resize_pil_bilinear(view.contiguous(), {4, 7}));
  expect_same_bits(resize_pil_bilinear(view, {9, 12}), view.contiguous());
}

TEST(resize, rejects_what_is_no_image) {
  EXPECT_THROW(resize_pil_bilinear(torch::zeros({4, 4, 3}), {2, 2}), c10::Error);
  EXPECT_THROW(resize_pil_bilinear(torch::zeros({4, 4}, torch::kUInt8), {2, 2}), c10::Error);
  EXPECT_THROW(resize_pil_bilinear(torch::zeros({4, 4, 3}, torch::kUInt8), {0, 2}), c10::Error);
}

TEST(to_float_chw, divides_by_255_and_puts_channels_first) {
  const torch::Tensor image = torch::randint(0, 256, {4, 5, 3}, torch::kUInt8);
  // Division in float, as torchvision's to_tensor() does it.
  expect_same_bits(to_float_chw(image),
                   (image.permute({2, 0, 1}).to(torch::kFloat) / 255).contiguous());
  EXPECT_THROW(to_float_chw(torch::zeros({4, 4, 1}, torch::kUInt8)), c10::Error);
}

}  // namespace
}  // namespace efficientad
