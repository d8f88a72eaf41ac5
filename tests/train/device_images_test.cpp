#include "efficientad/train/device_images.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "efficientad/data/image.h"
#include "support/near.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

constexpr int64_t kImages = 5;

/// The same steps by TrainingImages and by DeviceImages, which runs on any device.
class DeviceImagesTest : public testing::Test {
 protected:
  DeviceImagesTest() {
    options_.image_size = 80;
    options_.image_width = 96;
    options_.batch_size = 4;
    options_.penalty_grey = 0.5;
    options_.jitter = 0.5;
    for (int64_t i = 0; i < kImages; ++i) {
      files_.push_back(dir_.path / (std::to_string(i) + ".png"));
      write_image(files_.back(), torch::randint(0, 256, {90, 70, 3}, torch::kUInt8));
    }
  }

  static void expect_same(const torch::Tensor& actual, const torch::Tensor& expected) {
    ASSERT_EQ(actual.defined(), expected.defined());
    if (!expected.defined()) return;
    // Normalised to about -2 to 2.6; operations in another order.
    expect_near(actual, expected, 1e-5, 1e-5);
  }

  void expect_same_batches() {
    TrainingImages images(options_, files_);
    std::vector<torch::Tensor> train;
    for (int64_t i = 0; i < images.size(); ++i) train.push_back(images.train_image(i));
    constexpr int64_t kSteps = 6;
    std::vector<torch::Tensor> penalty;
    for (int64_t i = 0; i < images.penalty_size(); ++i) penalty.push_back(torch::Tensor());
    for (int64_t step = 0; step < kSteps; ++step) {
      for (const auto& one : images.plan(step)) {
        if (one.penalty) {
          penalty[static_cast<size_t>(one.penalty->index)] =
              images.penalty_image(one.penalty->index);
        }
      }
    }
    for (auto& image : penalty) {
      if (!image.defined()) image = torch::zeros_like(train[0]);
    }
    for (const bool resident : {false, true}) {
      SCOPED_TRACE(resident);
      torch::Tensor all;
      torch::Tensor others;
      if (resident) {
        all = torch::stack(train);
        if (!penalty.empty()) others = torch::stack(penalty);
      }
      DeviceImages device(options_, torch::kCPU, resident, all, others);
      for (int64_t step = 0; step < kSteps; ++step) {
        SCOPED_TRACE(step);
        const auto drawn = images.draw(step);
        const TrainBatch expected = images.prepare(drawn, torch::kCPU);
        device.load(drawn);
        const TrainBatch batch = device.batch();
        expect_same(batch.images, expected.images);
        expect_same(batch.jittered, expected.jittered);
        expect_same(batch.penalty, expected.penalty);
        expect_same(batch.plain, expected.plain);
        for (size_t i = 0; i < expected.corners.size(); ++i) {
          for (int64_t axis = 0; axis < 2; ++axis) {
            EXPECT_EQ(batch.corners_at[static_cast<int64_t>(i)][axis].item<int64_t>(),
                      expected.corners[i][static_cast<size_t>(axis)]);
          }
        }
        for (size_t i = 0; i < expected.jittered_corners.size(); ++i) {
          EXPECT_EQ(batch.jittered_corners_at[static_cast<int64_t>(i)][1].item<int64_t>(),
                    expected.jittered_corners[i][1]);
        }
      }
    }
  }

  TempDir dir_;
  TrainOptions options_;
  std::vector<std::filesystem::path> files_;
};

TEST_F(DeviceImagesTest, WholeImages) { expect_same_batches(); }

TEST_F(DeviceImagesTest, EveryExtra) {
  options_.crop_size = 64;
  options_.equalize_exposure = true;
  options_.penalty_batch_size = 2;
  options_.autoencoder_batch_size = 3;
  options_.autoencoder_plain_batch_size = 2;
  expect_same_batches();
}

TEST_F(DeviceImagesTest, WithoutPenalty) {
  options_.penalty = false;
  options_.batch_size = 1;
  expect_same_batches();
}

TEST_F(DeviceImagesTest, KeptTeacherOutputsAreTheirWindows) {
  options_.crop_size = 64;
  options_.penalty = false;
  options_.autoencoder_plain_batch_size = 1;
  TrainingImages images(options_, files_);
  const torch::Tensor outputs = torch::randn({kImages, 6, 12, 16});
  DeviceImages device(options_, torch::kCPU, /*resident=*/true,
                      torch::zeros({kImages, 80, 96, 3}, torch::kUInt8), {});
  device.keep_teacher(outputs);
  for (int64_t step = 0; step < 3; ++step) {
    const auto drawn = images.draw(step);
    device.load(drawn);
    const TrainBatch batch = device.batch();
    for (int64_t i = 0; i < options_.batch_size; ++i) {
      const ItemPlan& one = drawn.plan[static_cast<size_t>(i)];
      expect_same_bits(batch.teacher[i].contiguous(), outputs[one.index]
                                                          .narrow(1, one.corner[0] / 4, 8)
                                                          .narrow(2, one.corner[1] / 4, 8)
                                                          .contiguous());
    }
    expect_same_bits(batch.teacher_plain[0].contiguous(),
                     outputs[drawn.plan.back().index].contiguous());
  }
}

}  // namespace
}  // namespace efficientad
