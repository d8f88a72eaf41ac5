#include "efficientad/nn/losses.h"

#include <torch/types.h>

#include <cmath>

#include "support/near.h"

namespace efficientad {
namespace {

TEST(HardFeatureLoss, IsTheMeanOfTheEntriesAboveTheQuantile) {
  const torch::Tensor difference = torch::arange(1, 101, torch::kFloat32).view({1, 4, 5, 5});
  // The 0.9-quantile of 1 … 100 is 90.1; above it are 91 … 100.
  EXPECT_NEAR(hard_feature_loss(difference, 0.9).item<double>(), 95.5, 1e-5);
  EXPECT_NEAR(hard_feature_loss(difference, 0.0).item<double>(), 50.5, 1e-5);
}

TEST(HardFeatureLoss, TakesTheQuantileOfEachImage) {
  const torch::Tensor low = torch::rand({1, 4, 8, 8});
  const torch::Tensor high = torch::rand({1, 4, 8, 8}) + 10;
  const torch::Tensor both = hard_feature_loss(torch::cat({low, high}), 0.9);
  const double want =
      (hard_feature_loss(low, 0.9) + hard_feature_loss(high, 0.9)).item<double>() / 2;
  EXPECT_NEAR(both.item<double>(), want, 1e-5);
}

TEST(HardFeatureLoss, GradientReachesChosenEntriesOnly) {
  torch::Tensor difference = torch::arange(1, 101, torch::kFloat32).view({1, 4, 5, 5});
  difference.set_requires_grad(true);
  hard_feature_loss(difference, 0.9).backward();
  const torch::Tensor gradient = difference.grad().flatten();
  EXPECT_EQ(gradient.slice(0, 0, 90).abs().max().item<double>(), 0.0);
  EXPECT_NEAR(gradient.slice(0, 90).min().item<double>(), 0.1, 1e-7);
  EXPECT_NEAR(gradient.sum().item<double>(), 1.0, 1e-6);
}

TEST(HardFeatureLoss, WithoutSynchronisationItIsTheSame) {
  for (const double q : {0.0, 0.5, 0.9, 0.999, 1.0}) {
    SCOPED_TRACE(q);
    torch::Tensor one = torch::rand({3, 5, 7, 9}).set_requires_grad(true);
    torch::Tensor other = one.detach().clone().set_requires_grad(true);
    const torch::Tensor expected = hard_feature_loss(one, q);
    const torch::Tensor actual = hard_feature_loss_unsynchronised(other, q);
    expect_near(actual, expected, 1e-6, 0);
    expected.backward();
    actual.backward();
    expect_near(other.grad(), one.grad(), 1e-6, 0);
  }
  torch::Tensor broken = torch::rand({1, 2, 4, 4});
  broken[0][1][2][3] = NAN;
  EXPECT_TRUE(std::isnan(hard_feature_loss_unsynchronised(broken, 0.5).item<double>()));
}

TEST(HardFeatureLoss, FlatDifferencesAreAllChosen) {
  EXPECT_NEAR(hard_feature_loss(torch::full({1, 2, 3, 3}, 0.25), 0.999).item<double>(), 0.25, 1e-7);
}

}  // namespace
}  // namespace efficientad
