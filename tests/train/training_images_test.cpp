#include "efficientad/train/training_images.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "efficientad/data/image.h"
#include "efficientad/nn/imagenet.h"
#include "support/near.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

constexpr int64_t kSide = 128;
constexpr int64_t kCrop = 64;

TEST(TrainingImages, CropsShowEveryOutputAboutEquallyOften) {
  const TempDir dir;
  // Each pixel tells where it is.
  torch::Tensor image = torch::zeros({kSide, kSide, 3}, torch::kUInt8);
  image.select(2, 0).copy_(torch::arange(kSide).unsqueeze(1));
  image.select(2, 1).copy_(torch::arange(kSide).unsqueeze(0));
  write_image(dir.path / "image.png", image);
  TrainOptions options;
  options.image_size = kSide;
  options.crop_size = kCrop;
  options.batch_size = 20;
  options.autoencoder_batch_size = 1;
  options.penalty = false;
  TrainingImages images(options, {dir.path / "image.png"});

  constexpr int64_t kOutputs = kSide / 4 - 8;
  constexpr int64_t kCropOutputs = kCrop / 4 - 8;
  torch::Tensor seen = torch::zeros({2, kOutputs});
  for (int64_t step = 0; step < 30; ++step) {
    const TrainBatch batch = images.prepare(images.draw(step), torch::kCPU);
    ASSERT_EQ(batch.images.sizes().vec(),
              (std::vector<int64_t>{options.batch_size, 3, kCrop, kCrop}));
    const torch::Tensor zero = imagenet_normalize(torch::zeros({1, 3, 1, 1}));
    const torch::Tensor one = imagenet_normalize(torch::ones({1, 3, 1, 1}));
    const torch::Tensor pixels = 255 * (batch.images - zero) / (one - zero);
    for (int64_t i = 0; i < options.batch_size; ++i) {
      for (int64_t axis = 0; axis < 2; ++axis) {
        const auto corner = std::lround(pixels[i][axis][0][0].item<double>());
        ASSERT_EQ(corner % 4, 0);
        seen[axis].narrow(0, corner / 4, kCropOutputs) += 1;
      }
    }
  }
  EXPECT_GT(seen.min().item<double>(), 0.8 * seen.max().item<double>());
}

TEST(TrainingImages, EqualizesTheWholeImagesExposureThenJittersAndCrops) {
  const TempDir dir;
  // Dark at the left edge, so that a crop's own mean is another.
  torch::Tensor image = torch::full({kSide, kSide, 3}, 100, torch::kUInt8);
  image.narrow(1, 0, kSide / 4).fill_(20);
  write_image(dir.path / "image.png", image);
  TrainOptions options;
  options.image_size = kSide;
  options.crop_size = kCrop;
  options.penalty = false;
  options.equalize_exposure = true;
  TrainingImages images(options, {dir.path / "image.png"});
  const torch::Tensor bright = imagenet_normalize(torch::full({3, 1, 1}, 0.5625f));
  double jittered_least = 1e9;
  double jittered_most = 0;
  for (int64_t step = 0; step < 20; ++step) {
    const TrainBatch batch = images.prepare(images.draw(step), torch::kCPU);
    // 100 where the mean is 80 becomes 0.5625 where it is 0.45, wherever the crop is.
    expect_near(batch.images.amax({0, 2, 3}), bright.flatten(), 1e-5, 1e-5);
    const double most = batch.jittered.max().item<double>();
    jittered_least = std::min(jittered_least, most);
    jittered_most = std::max(jittered_most, most);
  }
  EXPECT_GT(jittered_most - jittered_least, 0.2);
}

}  // namespace
}  // namespace efficientad
