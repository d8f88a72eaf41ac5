#include "efficientad/nn/exposure.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "support/near.h"

namespace efficientad {
namespace {

TEST(ExposureTest, ImagesThatDifferByTheirExposureBecomeTheSame) {
  const torch::Tensor image = torch::rand({3, 20, 30}) * 0.5;
  const torch::Tensor both = equalize_exposure(torch::stack({image * 0.6, image * 1.4}));
  expect_near(both[0], both[1], 1e-5, 0);
  EXPECT_NEAR(both[0].mean().item<double>(), 0.45, 1e-5);
  expect_near(both[1], equalize_exposure(image * 1.4), 1e-6, 0);
}

TEST(ExposureTest, KeepsTheRangeAndTheLimitOfTheFactor) {
  const torch::Tensor dark = torch::full({3, 8, 8}, 0.01f);
  expect_near(equalize_exposure(dark), dark * 4, 1e-6, 0);
  const torch::Tensor black = torch::zeros({3, 8, 8});
  EXPECT_TRUE(equalize_exposure(black).equal(black));
  torch::Tensor spot = torch::full({3, 8, 8}, 0.2f);
  spot[0][3][3] = 0.9f;
  EXPECT_EQ(equalize_exposure(spot).max().item<double>(), 1);
}

}  // namespace
}  // namespace efficientad
