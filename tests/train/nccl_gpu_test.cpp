#include <gtest/gtest.h>
#include <torch/utils.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include <string>
#include <vector>

#include "efficientad/core/cuda_part.h"
#include "efficientad/core/device.h"

namespace efficientad {
namespace {

// What one GPU can show: that it is found, made, sums, and ends.
TEST(NcclOnAGpu, SumsOverOneProcess) {
  const torch::Device device = select_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "there is no CUDA device";
  std::string problem;
  const auto check = reinterpret_cast<NcclProblem*>(cuda_symbol(kNcclProblem, problem));
  ASSERT_NE(check, nullptr) << problem;
  check(&problem);
  if (!problem.empty()) GTEST_SKIP() << problem;
  const auto make = reinterpret_cast<MakeNccl*>(cuda_symbol(kMakeNccl, problem));
  ASSERT_NE(make, nullptr) << problem;
  const auto store = c10::make_intrusive<c10d::HashStore>();
  const auto group = c10::intrusive_ptr<c10d::Backend>::reclaim(
      make(store.get(), device.index(), /*rank=*/0, /*size=*/1, /*seconds=*/60, &problem));
  ASSERT_TRUE(group.defined()) << problem;
  std::vector<torch::Tensor> tensors = {torch::arange(1000, torch::kFloat32).to(device)};
  group->allreduce(tensors)->wait();
  EXPECT_TRUE(torch::equal(tensors[0].cpu(), torch::arange(1000, torch::kFloat32)));
  group->shutdown();
}

}  // namespace
}  // namespace efficientad
