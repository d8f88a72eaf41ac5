#include "efficientad/nn/backbone.h"

#include <gtest/gtest.h>
#include <torch/utils.h>

#include "efficientad/core/device.h"
#include "nn/random_backbones.h"
#include "support/near.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

TEST(BackboneOnAGpu, GivesTheSameFeatures) {
  const torch::Device device = select_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "there is no CUDA device";
  at::globalContext().setAllowTF32CuDNN(false);
  const torch::NoGradGuard no_grad;
  const TempDir dir;
  for (const auto& file : {random_lite0(), random_vgg16()}) {
    const auto path = dir.path / "backbone.safetensors";
    write_safetensors(path, file);
    const auto backbone = open_backbone(path, "");
    const torch::Tensor images = torch::rand({2, 3, 96, 80});
    const auto expected = backbone->features(images);
    backbone->to(device);
    const auto actual = backbone->features(images.to(device));
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      // Some twenty layers of float32 sums in another order.
      expect_near(actual[i].cpu().contiguous(), expected[i].contiguous(), 1e-3,
                  1e-4 * expected[i].abs().max().item<double>());
    }
  }
}

}  // namespace
}  // namespace efficientad
