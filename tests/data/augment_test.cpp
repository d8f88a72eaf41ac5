#include "efficientad/data/augment.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "support/near.h"

namespace efficientad {
namespace {

TEST(AugmentedCopy, MovesAndBrightensALittle) {
  const torch::Tensor image = torch::rand({3, 100, 150}) * 0.8;
  expect_same_bits(augmented_copy(image, 1, 2), augmented_copy(image, 1, 2));
  EXPECT_FALSE(torch::equal(augmented_copy(image, 1, 2), augmented_copy(image, 1, 3)));
  for (uint64_t index = 0; index < 20; ++index) {
    const torch::Tensor copy = augmented_copy(image, 7, index);
    ASSERT_EQ(copy.sizes(), image.sizes());
    // The middle of the copy lies somewhere in the image, times one factor.
    const torch::Tensor middle = copy.narrow(1, 40, 20).narrow(2, 60, 30);
    double best = 1e9;
    for (int64_t y = 36; y <= 44; ++y) {
      for (int64_t x = 54; x <= 66; ++x) {
        const torch::Tensor ratio = middle / image.narrow(1, y, 20).narrow(2, x, 30);
        const double factor = ratio.median().item<double>();
        const double error = (ratio - factor).abs().max().item<double>();
        if (error < best) {
          best = error;
          EXPECT_TRUE(error > 1e-4 || (factor > 0.899 && factor < 1.101)) << factor;
        }
      }
    }
    EXPECT_LT(best, 1e-4) << index;
  }
}

}  // namespace
}  // namespace efficientad
