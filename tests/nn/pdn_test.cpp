#include "efficientad/nn/pdn.h"

#include <torch/nn/modules/conv.h>
#include <torch/utils.h>

#include "support/expect_error.h"
#include "support/near.h"

namespace efficientad {
namespace {

int64_t count_parameters(const torch::nn::Module& module) {
  int64_t count = 0;
  for (const auto& parameter : module.parameters()) count += parameter.numel();
  return count;
}

TEST(Pdn, SizesOfTheMethodsTable) {
  EXPECT_EQ(pdn_output_side(256, /*padding=*/false), 56);
  EXPECT_EQ(pdn_output_side(256, /*padding=*/true), 64);
  EXPECT_EQ(pdn_output_side(64, /*padding=*/false), 8);
  EXPECT_ERROR(pdn_output_side(63, false), Error, "at least 64 px");
}

TEST(Pdn, OutputSidesHoldForEverySizeAndPadding) {
  torch::NoGradGuard no_grad;
  for (const char* size : {"small", "medium"}) {
    for (const bool padding : {false, true}) {
      Pdn pdn(PdnOptions{size, 8, padding});
      for (const auto& [height, width] : {std::pair{64, 67}, {65, 64}, {66, 99}}) {
        const torch::Tensor out = pdn->forward(torch::rand({1, 3, height, width}));
        EXPECT_EQ(out.sizes().vec(), (std::vector<int64_t>{1, 8, pdn_output_side(height, padding),
                                                           pdn_output_side(width, padding)}))
            << size << " " << padding << " " << height << "x" << width;
      }
    }
  }
}

TEST(Pdn, ParameterCounts) {
  // Published: 8.06 M and 20.7 M with the autoencoder's 1.096 M.
  const auto both = [](const char* size) {
    Pdn teacher(PdnOptions{size, 384, false});
    Pdn student(PdnOptions{size, 768, false});
    return count_parameters(*teacher) + count_parameters(*student);
  };
  EXPECT_NEAR(static_cast<double>(both("small")) / 1e6, 8.06 - 1.096, 0.01);
  EXPECT_NEAR(static_cast<double>(both("medium")) / 1e6, 20.7 - 1.096, 0.05);
}

TEST(Pdn, HeadIsPartOfForward) {
  torch::NoGradGuard no_grad;
  Pdn pdn(PdnOptions{"small", 12, false});
  const torch::Tensor image = torch::rand({2, 3, 64, 64});
  const torch::Tensor whole = pdn->forward(image);
  // Another blocking of the same sums.
  expect_near(pdn->head(pdn->trunk(image), 4, 6), whole.narrow(1, 4, 6), 1e-5, 1e-6);
}

TEST(Pdn, ReceptiveFieldIs33PixelsAtStride4) {
  torch::NoGradGuard no_grad;
  for (const char* size : {"small", "medium"}) {
    Pdn pdn(PdnOptions{size, 4, false});
    const torch::Tensor image = torch::rand({1, 3, 96, 96});
    const torch::Tensor before = pdn->forward(image);
    // Output (5, 5) sees the pixels 20 … 52 and no others.
    const auto changes = [&](int64_t y, int64_t x) {
      torch::Tensor other = image.clone();
      other.select(2, y).select(2, x).add_(5.0);
      const torch::Tensor after = pdn->forward(other);
      return !torch::equal(after.select(2, 5).select(2, 5), before.select(2, 5).select(2, 5));
    };
    EXPECT_TRUE(changes(20, 20));
    EXPECT_TRUE(changes(52, 52));
    EXPECT_FALSE(changes(19, 36));
    EXPECT_FALSE(changes(36, 53));
  }
}

TEST(Pdn, CropsAlignedToFourPixelsGiveSubWindows) {
  torch::NoGradGuard no_grad;
  Pdn pdn(PdnOptions{"small", 4, false});
  const torch::Tensor image = torch::rand({1, 3, 128, 128});
  const torch::Tensor whole = pdn->forward(image);
  const torch::Tensor crop = image.slice(2, 8, 8 + 72).slice(3, 20, 20 + 64);
  const torch::Tensor part = pdn->forward(crop);
  expect_near(part, whole.slice(2, 2, 2 + 10).slice(3, 5, 5 + 8), 1e-5, 1e-6);
}

}  // namespace
}  // namespace efficientad
