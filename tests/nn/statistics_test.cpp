#include "efficientad/nn/statistics.h"

#include <torch/types.h>

#include "support/near.h"

namespace efficientad {
namespace {

TEST(ChannelStatistics, ManyPiecesGiveWhatOneTensorGives) {
  const torch::Tensor all = torch::randn({6, 3, 7, 5}) * 2 + torch::arange(3).view({1, 3, 1, 1});
  ChannelStatistics statistics;
  statistics.add(all.slice(0, 0, 1));
  statistics.add(all.slice(0, 1, 4));
  statistics.add(all.slice(0, 4, 6).slice(2, 0, 3));
  statistics.add(all.slice(0, 4, 6).slice(2, 3, 7));
  EXPECT_EQ(statistics.count(), 6 * 7 * 5);
  const torch::Tensor wide = all.to(torch::kFloat64);
  expect_near(statistics.mean(), wide.mean({0, 2, 3}).view({1, 3, 1, 1}).to(torch::kFloat32), 1e-6,
              1e-7);
  expect_near(statistics.std(),
              wide.std({0, 2, 3}, /*unbiased=*/false).view({1, 3, 1, 1}).to(torch::kFloat32), 1e-6,
              0);
}

TEST(ChannelStatistics, SurvivesALargeMean) {
  // The textbook one-pass formula loses every digit of the deviation here.
  const torch::Tensor values = torch::randn({4, 1, 50, 50}, torch::kFloat64) + 1e6;
  const torch::Tensor exact = values.to(torch::kFloat32).to(torch::kFloat64);
  ChannelStatistics statistics;
  for (int64_t i = 0; i < 4; ++i) statistics.add(values.slice(0, i, i + 1).to(torch::kFloat32));
  EXPECT_NEAR(statistics.std().item<double>(), exact.std(/*unbiased=*/false).item<double>(), 1e-5);
}

TEST(ChannelStatistics, ADeadChannelDoesNotDivideByZero) {
  ChannelStatistics statistics;
  statistics.add(torch::full({1, 2, 4, 4}, 3.0f));
  EXPECT_GT(statistics.std().min().item<double>(), 0.0);
}

}  // namespace
}  // namespace efficientad
