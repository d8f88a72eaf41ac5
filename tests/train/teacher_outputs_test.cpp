#include "efficientad/train/teacher_outputs.h"

#include <gtest/gtest.h>
#include <torch/utils.h>

#include "efficientad/data/resize.h"
#include "efficientad/nn/imagenet.h"
#include "support/near.h"

namespace efficientad {
namespace {

constexpr int64_t kSide = 96;
constexpr int64_t kCrop = 64;
/// A float32 output of such an image: 384 channels of 16x16 values.
constexpr int64_t kBytes = 384 * 16 * 16 * 4;

class TeacherOutputsTest : public testing::Test {
 protected:
  TeacherOutputsTest() {
    torch::manual_seed(3);
    teacher_ = Pdn(PdnOptions{});
    for (int i = 0; i < 3; ++i) {
      images_.push_back(torch::randint(0, 256, {kSide, kSide, 3}).to(torch::kUInt8));
    }
  }

  TeacherOutputs outputs(int64_t budget, const std::string& precision = "fp32") {
    return {teacher_, torch::kCPU, precision, {kSide, kSide}, equalize_exposure_, 3, budget};
  }

  TrainBatch batch(const std::vector<int64_t>& indices,
                   const std::vector<std::array<int64_t, 2>>& corners) const {
    TrainBatch batch;
    std::vector<torch::Tensor> crops;
    for (size_t i = 0; i < indices.size(); ++i) {
      const torch::Tensor whole =
          network_input(to_float_chw(images_[static_cast<size_t>(indices[i])]), equalize_exposure_);
      crops.push_back(whole.narrow(1, corners[i][0], kCrop).narrow(2, corners[i][1], kCrop));
    }
    batch.images = torch::stack(crops);
    batch.corners = corners;
    return batch;
  }

  void expect_crops_are_what_the_teacher_gives();

  Pdn teacher_ = nullptr;
  bool equalize_exposure_ = false;
  std::vector<torch::Tensor> images_;
};

void TeacherOutputsTest::expect_crops_are_what_the_teacher_gives() {
  const torch::NoGradGuard no_grad;
  const std::vector<int64_t> indices = {2, 0, 1};
  const TrainBatch crops = batch(indices, {{0, 4}, {32, 0}, {12, 20}});
  const torch::Tensor expected = teacher_->forward(crops.images);
  // All are kept, some, none.
  for (const int64_t budget : {3 * kBytes, 2 * kBytes + 1, kBytes - 1}) {
    TeacherOutputs some = outputs(budget);
    EXPECT_EQ(some.kept(), budget / kBytes);
    for (int repeat = 0; repeat < 2; ++repeat) {
      const torch::Tensor found =
          some.of_crops(indices, {images_[2], images_[0], images_[1]}, crops);
      ASSERT_EQ(found.defined(), some.kept() > 0);
      // float32 sums in another order.
      if (found.defined()) expect_near(found, expected, 1e-4, 1e-5);
    }
  }
}

TEST_F(TeacherOutputsTest, CropsAreWhatTheTeacherGivesForThem) {
  expect_crops_are_what_the_teacher_gives();
}

TEST_F(TeacherOutputsTest, CropsAreWhatTheTeacherGivesForThemUnderOneExposure) {
  equalize_exposure_ = true;
  images_[0] = (images_[0] * 0.5).to(torch::kUInt8);
  expect_crops_are_what_the_teacher_gives();
}

TEST_F(TeacherOutputsTest, KeepsWhatWasComputed) {
  TeacherOutputs two = outputs(2 * kBytes);
  const torch::Tensor first = two.whole(1, images_[1]);
  // The image is not looked at again.
  expect_same_bits(two.whole(1, images_[0]), first);
  const torch::Tensor other = two.whole(2, images_[2]);
  EXPECT_FALSE(torch::equal(two.whole(2, images_[0]), other));
}

TEST_F(TeacherOutputsTest, GivesAllIfAllAreKept) {
  const auto image = [this](int64_t i) { return images_[static_cast<size_t>(i)]; };
  EXPECT_FALSE(outputs(2 * kBytes).all(image).defined());
  TeacherOutputs three = outputs(3 * kBytes);
  const torch::Tensor second = three.whole(1, images_[1]);
  const torch::Tensor all = three.all(image);
  ASSERT_EQ(all.sizes().vec(), (std::vector<int64_t>{3, 384, 16, 16}));
  expect_same_bits(all.narrow(0, 1, 1).contiguous(), second.contiguous());
  expect_same_bits(all.narrow(0, 2, 1).contiguous(), outputs(0).whole(2, images_[2]).contiguous());
}

TEST_F(TeacherOutputsTest, HalfPrecisionTakesHalfTheMemory) {
  EXPECT_EQ(outputs(kBytes, "bf16").kept(), 2);
  EXPECT_EQ(outputs(100 * kBytes, "bf16").kept(), 3);
}

}  // namespace
}  // namespace efficientad
