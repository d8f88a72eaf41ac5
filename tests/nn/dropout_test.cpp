#include "efficientad/nn/dropout.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "support/near.h"

namespace efficientad {
namespace {

constexpr double kP = 0.2;

TEST(Dropout, DropsItsShareAndScalesTheRest) {
  for (const auto type : {torch::kFloat32, torch::kBFloat16}) {
    const torch::Tensor x = torch::rand({3, 64, 41, 37}).add(1).to(type);
    const torch::Tensor y = dropout(x, kP, {1, 2, 3}).to(torch::kFloat32);
    const torch::Tensor kept = y != 0;
    const double share = kept.to(torch::kFloat32).mean().item<double>();
    // Five deviations of a mean of 291,264 coins.
    EXPECT_NEAR(share, 1 - kP, 0.004);
    const torch::Tensor expected = (x.to(torch::kFloat32) / (1 - kP)).masked_select(kept);
    expect_near(y.masked_select(kept), expected, type == torch::kFloat32 ? 1e-6 : 8e-3, 0);
    // Neighbours, in whichever direction, are dropped independently.
    const torch::Tensor dropped = 1 - kept.to(torch::kFloat32);
    for (int64_t dim = 1; dim < 4; ++dim) {
      const int64_t size = dropped.size(dim) - 1;
      const double both =
          (dropped.narrow(dim, 0, size) * dropped.narrow(dim, 1, size)).mean().item<double>();
      EXPECT_NEAR(both, kP * kP, 0.003) << dim;
    }
  }
}

TEST(Dropout, DependsOnTheImagesSeedOnly) {
  const torch::Tensor x = torch::rand({3, 8, 9, 7}).contiguous(torch::MemoryFormat::ChannelsLast);
  const torch::Tensor all = dropout(x, kP, {5, 6, 7});
  const torch::Tensor last =
      dropout(x.narrow(0, 2, 1).contiguous(torch::MemoryFormat::ChannelsLast), kP,
              std::vector<uint64_t>{7});
  expect_same_bits(all.narrow(0, 2, 1).contiguous(), last.contiguous());
  EXPECT_FALSE(torch::equal(all, dropout(x, kP, {5, 6, 8})));
  expect_same_bits(dropout(x, kP, {5, 6, 7}), all);
}

TEST(Dropout, GradientGoesWhereTheValuesWent) {
  for (const auto format : {torch::MemoryFormat::Contiguous, torch::MemoryFormat::ChannelsLast}) {
    const torch::Tensor x = torch::rand({2, 6, 5, 7}).add(1).contiguous(format).requires_grad_();
    const torch::Tensor y = dropout(x, kP, {1, 2});
    // In another layout than the values.
    const torch::Tensor weight = torch::rand({2, 6, 5, 7});
    (y * weight).sum().backward();
    expect_near(x.grad(), weight * (y / x).detach(), 1e-6, 1e-7);
  }
}

}  // namespace
}  // namespace efficientad
