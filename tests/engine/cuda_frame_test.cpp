#include "engine/cuda/frame.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <limits>

#include "efficientad/data/resize.h"
#include "efficientad/detect/anomaly_map.h"
#include "efficientad/nn/exposure.h"
#include "engine/cpu_operations.h"
#include "engine/cuda/frame_math.h"
#include "support/near.h"

namespace efficientad {
namespace {

struct Sizes {
  std::array<int64_t, 2> frame_hw;
  std::array<int64_t, 2> input_hw;
};

// Smaller, larger, one side alone, both sides kept.
const std::vector<Sizes> kSizes = {{{100, 150}, {64, 64}}, {{40, 30}, {64, 65}},
                                   {{64, 91}, {64, 64}},   {{91, 64}, {64, 64}},
                                   {{64, 64}, {64, 64}},   {{1, 500}, {64, 64}}};

TEST(CudaFrame, IsResizedToTheSameBytes) {
  const PlainOperations operations;
  for (const auto& [frame_hw, input_hw] : kSizes) {
    SCOPED_TRACE(testing::Message() << frame_hw[0] << "x" << frame_hw[1]);
    cuda::FrameBuffers buffers(frame_hw, input_hw, torch::kCPU);
    buffers.frame.copy_(torch::randint(0, 256, {frame_hw[0], frame_hw[1], 3}, torch::kUInt8));
    const torch::Tensor images = torch::zeros({1, input_hw[0], input_hw[1], 3}, torch::kUInt8);
    cuda::resize_frame(operations, buffers, images);
    expect_same_bits(images[0], resize_pil_bilinear(buffers.frame, input_hw));
  }
}

TEST(CudaFrame, ExposureFactorOfASumIsThatOfTheMean) {
  // 4096 x 4096 white pixels do not fit into 32 bits.
  for (const int64_t bytes : {int64_t{3}, int64_t{3} * 256 * 256, int64_t{3} * 4096 * 4096}) {
    for (const double mean : {0.0, 0.01, 0.1125, 0.2, 0.45, 0.9, 1.0}) {
      const auto sum = static_cast<uint64_t>(mean * 255.0 * static_cast<double>(bytes));
      const double exact = static_cast<double>(sum) / (255.0 * static_cast<double>(bytes));
      const double expected = exposure_factor(torch::tensor(exact, torch::kFloat64)).item<double>();
      EXPECT_NEAR(cuda::exposure_factor_of(sum, bytes), expected, 1e-6 * expected)
          << bytes << " " << mean;
    }
  }
}

TEST(CudaFrame, MapComesToItsSizeWithItsGreatestValue) {
  const PlainOperations operations;
  for (const auto& [frame_hw, input_hw] : kSizes) {
    SCOPED_TRACE(testing::Message() << frame_hw[0] << "x" << frame_hw[1]);
    cuda::FrameBuffers buffers(frame_hw, input_hw, torch::kCPU);
    const torch::Tensor map = torch::randn({1, 1, 16, 17});
    const torch::Tensor expected = resize_map(map, frame_hw)[0][0];
    cuda::finish_frame(operations, map, /*want_map=*/false, buffers);
    EXPECT_FALSE(buffers.map_at_image.defined());
    buffers.make_room_for_map();
    const auto greatest = [&] {
      return cuda::number_of(static_cast<uint32_t>(buffers.greatest.item<int32_t>()));
    };
    // A place among 17 cells is rounded to 2e-6 of a cell, and cells differ by up to 6.
    constexpr double kRounding = 1e-5;
    EXPECT_NEAR(greatest(), expected.max().item<float>(), kRounding);
    cuda::finish_frame(operations, map, /*want_map=*/true, buffers);
    expect_near(buffers.map_at_image, expected, /*rtol=*/0, /*atol=*/kRounding);
    EXPECT_EQ(greatest(), buffers.map_at_image.max().item<float>());
    // Below 0 too; and a NaN is not passed over.
    cuda::finish_frame(operations, map.abs().neg() - 1.0, /*want_map=*/true, buffers);
    EXPECT_LE(greatest(), -1.0f);
    EXPECT_EQ(greatest(), buffers.map_at_image.max().item<float>());
    map[0][0][8][8] = std::numeric_limits<float>::quiet_NaN();
    const bool seen = resize_map(map, frame_hw).isnan().any().item<bool>();
    cuda::finish_frame(operations, map, /*want_map=*/false, buffers);
    EXPECT_EQ(std::isnan(greatest()), seen);
  }
}

TEST(CudaFrame, OrderIsThatOfNumbers) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<float> numbers = {-kInfinity, -1e30f, -1.0f, -1e-40f,  0.0f,
                                      1e-40f,     1.0f,   1e30f, kInfinity};
  for (size_t i = 0; i < numbers.size(); ++i) {
    const uint32_t order = cuda::order_of(numbers[i]);
    EXPECT_EQ(cuda::number_of(order), numbers[i]);
    EXPECT_GT(order, i > 0 ? cuda::order_of(numbers[i - 1]) : 0u);
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_GT(cuda::order_of(nan), cuda::order_of(kInfinity));
  EXPECT_EQ(cuda::order_of(-nan), cuda::order_of(nan));
  EXPECT_TRUE(std::isnan(cuda::number_of(cuda::order_of(nan))));
}

}  // namespace
}  // namespace efficientad
