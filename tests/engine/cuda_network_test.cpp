#include "engine/cuda/network.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "efficientad/engine/cuda_engine.h"
#include "efficientad/nn/imagenet.h"
#include "engine/cpu_operations.h"
#include "engine/networks.h"
#include "support/expect_error.h"
#include "support/near.h"

namespace efficientad {
namespace {

// The same operations in another order, in float32: 1e-6 of the features, whose squares the maps
// are.
constexpr double kRtol = 1e-4;
constexpr double kAtol = 1e-5;

constexpr cuda::MapNormalization kNormalization = {
    .q_a_st = 0.2f, .scale_st = 3.0f, .q_a_ae = 0.1f, .scale_ae = 5.0f};

void expect_equal_networks(const DetectorNetworks& networks, int64_t height, int64_t width,
                           bool first_layer_is_one) {
  SCOPED_TRACE(testing::Message() << networks.teacher->options().model_size << " padding "
                                  << networks.teacher->options().padding << " " << height << "x"
                                  << width << " " << first_layer_is_one);
  const torch::Tensor images_u8 = torch::randint(0, 256, {2, height, width, 3}, torch::kUInt8);
  const torch::Tensor images =
      imagenet_normalize(images_u8.permute({0, 3, 1, 2}).to(torch::kFloat32).div(255).contiguous());
  const RawMaps expected = ReferenceEngine(networks, torch::kCPU).maps(images);
  const auto folded = cuda::FoldedNetworks(networks).to(torch::kCPU, torch::kFloat32);
  cuda::Workspace workspace(folded, 2, {height, width}, torch::kCPU, torch::kFloat32);
  PlainOperations operations;
  operations.first_layer_is_one = first_layer_is_one;
  operations.normalize(images_u8, /*equalize=*/false, workspace.image);
  cuda::run_networks(folded, operations, kNormalization, workspace);
  expect_near(workspace.st, expected.st, kRtol, kAtol);
  expect_near(workspace.ae, expected.ae, kRtol, kAtol);
  const torch::Tensor combined = 0.5 * (expected.st - 0.2) * 3.0 + 0.5 * (expected.ae - 0.1) * 5.0;
  const int64_t border = networks.teacher->options().padding ? 0 : 4;
  expect_near(workspace.combined,
              torch::constant_pad_nd(combined, {border, border, border, border}, 0), kRtol,
              10 * kAtol);
  // No branch needs what another one does.
  const torch::Tensor raw = workspace.raw.clone();
  operations.last_branch_first = true;
  for (auto* left : {&workspace.raw, &workspace.teacher_pooled, &workspace.student_pooled}) {
    left->fill_(NAN);
  }
  if (workspace.autoencoder_image.defined()) {
    workspace.autoencoder_image.narrow(1, 0, 3).fill_(NAN);
  }
  cuda::run_networks(folded, operations, kNormalization, workspace);
  expect_same_bits(workspace.raw, raw);
}

TEST(CudaNetwork, IsTheReference) {
  for (const bool padding : {false, true}) {
    for (const bool first_layer_is_one : {true, false}) {
      const DetectorNetworks small = random_networks("small", padding);
      expect_equal_networks(small, 64, 64, first_layer_is_one);
      expect_equal_networks(small, 67, 102, first_layer_is_one);
      const DetectorNetworks medium = random_networks("medium", padding);
      expect_equal_networks(medium, 65, 70, first_layer_is_one);
    }
  }
}

TEST(CudaNetwork, IsTheReferenceWithTheWholeImage) {
  DetectorNetworks networks = random_networks("small", false);
  expect_equal_networks(networks, 256, 256, true);
  networks.autoencoder_input = "full";
  expect_equal_networks(networks, 259, 300, true);
}

TEST(CudaNetwork, PackedFirstLayerIsWhatLanesRead) {
  const torch::Tensor weight = torch::randn({256, 4, 4, 4});
  expect_same_bits(PlainOperations::unpack_first_layer(cuda::pack_first_layer(weight)), weight);
}

TEST(CudaEngine, SaysWhatIsMissing) {
  // Without a GPU there is none to make it on, and the CUDA part may not be built.
  EXPECT_NE(cuda_engine_problem(torch::kCPU).find("no GPU"), std::string::npos);
}

}  // namespace
}  // namespace efficientad
