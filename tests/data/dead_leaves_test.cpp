#include "efficientad/data/dead_leaves.h"

#include <gtest/gtest.h>
#include <torch/fft.h>

#include <thread>

#include "support/near.h"

namespace efficientad {
namespace {

constexpr int64_t kSize = 256;

/// The slope of log power over log frequency of an image's grey values, frequencies from 4 to
/// 0.3 * size cycles an image, under a Hann window.
double spectrum_slope(const torch::Tensor& image_u8) {
  const int64_t n = image_u8.size(0);
  torch::Tensor grey = image_u8.to(torch::kFloat64).mean(-1) / 255.0;
  const torch::Tensor window = torch::hann_window(n, torch::TensorOptions().dtype(torch::kFloat64));
  grey = (grey - grey.mean()) * window.unsqueeze(0) * window.unsqueeze(1);
  const torch::Tensor power = torch::fft::fft2(grey).abs().square();
  const torch::Tensor f = torch::fft::fftfreq(n, torch::kFloat64) * static_cast<double>(n);
  const torch::Tensor radius = (f.unsqueeze(0).square() + f.unsqueeze(1).square()).sqrt();
  std::vector<double> x;
  std::vector<double> y;
  for (double low = 4.0; low < 0.3 * static_cast<double>(n); low *= 1.3) {
    const torch::Tensor ring = (radius >= low).logical_and(radius < 1.3 * low);
    x.push_back(std::log(radius.index({ring}).mean().item<double>()));
    y.push_back(std::log(power.index({ring}).mean().item<double>()));
  }
  const torch::Tensor tx = torch::tensor(x, torch::kFloat64);
  const torch::Tensor ty = torch::tensor(y, torch::kFloat64);
  const torch::Tensor centered = tx - tx.mean();
  return ((centered * (ty - ty.mean())).sum() / centered.square().sum()).item<double>();
}

TEST(DeadLeaves, SameSeedAndIndexGiveTheSameBytesOnAnyThread) {
  const torch::Tensor first = dead_leaves_image(kSize, 3, 14);
  torch::Tensor second;
  std::thread([&] { second = dead_leaves_image(kSize, 3, 14); }).join();
  EXPECT_EQ(first.scalar_type(), torch::kUInt8);
  EXPECT_EQ(first.sizes(), (torch::IntArrayRef{kSize, kSize, 3}));
  expect_same_bits(first, second);
}

TEST(DeadLeaves, NoTwoImagesAreAlike) {
  std::vector<torch::Tensor> images;
  for (uint64_t index = 0; index < 12; ++index) {
    images.push_back(dead_leaves_image(128, 0, index).to(torch::kFloat32));
  }
  images.push_back(dead_leaves_image(128, 1, 0).to(torch::kFloat32));
  for (size_t i = 0; i < images.size(); ++i) {
    for (size_t j = i + 1; j < images.size(); ++j) {
      EXPECT_GT((images[i] - images[j]).abs().mean().item<double>(), 15.0)
          << "images " << i << " and " << j;
    }
  }
}

// Photographs have a power spectrum near f^-2 (40 ImageNet images, by the same measure: -2.4 with a
// standard deviation of 0.4).
TEST(DeadLeaves, SpectrumIsThatOfPhotographs) {
  double sum = 0.0;
  constexpr int kImages = 12;
  for (uint64_t index = 0; index < kImages; ++index) {
    const double slope = spectrum_slope(dead_leaves_image(kSize, 0, index));
    EXPECT_GT(slope, -3.4) << "image " << index;
    EXPECT_LT(slope, -1.3) << "image " << index;
    sum += slope;
  }
  EXPECT_GT(sum / kImages, -2.7);
  EXPECT_LT(sum / kImages, -1.7);
}

TEST(DeadLeaves, TheWholeRangeOfValuesIsUsed) {
  torch::Tensor all = torch::stack({dead_leaves_image(kSize, 0, 0), dead_leaves_image(kSize, 0, 1),
                                    dead_leaves_image(kSize, 0, 2), dead_leaves_image(kSize, 0, 3)})
                          .to(torch::kFloat32);
  const double mean = all.mean().item<double>();
  EXPECT_GT(mean, 70.0);
  EXPECT_LT(mean, 180.0);
  EXPECT_GT(all.std().item<double>(), 35.0);
  EXPECT_GT((all.select(-1, 0) - all.select(-1, 2)).abs().mean().item<double>(), 8.0);
}

TEST(DeadLeaves, AnySize) {
  for (const int64_t size : {8, 17, 100}) {
    EXPECT_EQ(dead_leaves_image(size, 0, 0).sizes(), (torch::IntArrayRef{size, size, 3}));
  }
}

}  // namespace
}  // namespace efficientad
