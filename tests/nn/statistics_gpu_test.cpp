#include <gtest/gtest.h>
#include <torch/types.h>

#include "efficientad/core/device.h"
#include "efficientad/nn/statistics.h"
#include "support/near.h"

namespace efficientad {
namespace {

TEST(ChannelStatisticsOnAGpu, StateComesToTheHost) {
  const torch::Device device = select_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "there is no CUDA device";
  const torch::Tensor features = torch::randn({2, 3, 20, 30});
  ChannelStatistics on_host;
  on_host.add(features);
  ChannelStatistics on_gpu;
  on_gpu.add(features.to(device));
  ChannelStatistics merged;
  merged.merge(on_gpu.state().cpu());
  EXPECT_EQ(merged.count(), on_host.count());
  // float64 sums in another order, then float32.
  expect_near(merged.mean(), on_host.mean(), 1e-6, 1e-7);
  expect_near(merged.std(), on_host.std(), 1e-6, 0);
}

}  // namespace
}  // namespace efficientad
