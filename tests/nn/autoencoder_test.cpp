#include "efficientad/nn/autoencoder.h"

#include <torch/torch.h>

#include "support/expect_error.h"
#include "support/near.h"

namespace efficientad {
namespace {

TEST(Autoencoder, HasThePublishedNumberOfParameters) {
  Autoencoder autoencoder;
  int64_t count = 0;
  for (const auto& parameter : autoencoder->parameters()) count += parameter.numel();
  EXPECT_NEAR(static_cast<double>(count) / 1e6, 1.096, 0.001);
}

TEST(Autoencoder, GivesTheAskedGridForAnySize) {
  torch::NoGradGuard no_grad;
  Autoencoder autoencoder(6);
  autoencoder->eval();
  const auto sizes = autoencoder->forward(torch::rand({2, 3, 256, 300}), {56, 67}).sizes().vec();
  EXPECT_EQ(sizes, (std::vector<int64_t>{2, 6, 56, 67}));
}

TEST(Autoencoder, RefusesSmallImages) {
  Autoencoder autoencoder(6);
  EXPECT_ERROR(autoencoder->forward(torch::rand({1, 3, 128, 256}), {24, 56}), Error,
               "at least 256x256");
}

TEST(Autoencoder, FixedInputIsTheImageItselfAt256AndResizedElsewhere) {
  const torch::Tensor image = torch::rand({1, 3, 256, 256});
  EXPECT_TRUE(autoencoder_input_fixed(image).is_same(image));
  const torch::Tensor ramp =
      torch::linspace(0, 1, 512).view({1, 1, 1, 512}).expand({1, 3, 100, 512}).contiguous();
  const torch::Tensor fixed = autoencoder_input_fixed(ramp);
  ASSERT_EQ(fixed.sizes().vec(), (std::vector<int64_t>{1, 3, 256, 256}));
  // Away from the ends, a ramp stays a ramp: pixel x covers 2 x and 2 x + 1.
  EXPECT_NEAR(fixed[0][0][128][100].item<double>(), 200.5 / 511, 1e-5);
}

TEST(Autoencoder, DropsOutOnlyInTraining) {
  torch::NoGradGuard no_grad;
  Autoencoder autoencoder(6);
  const torch::Tensor image = torch::rand({1, 3, 256, 256});
  autoencoder->eval();
  const torch::Tensor first = autoencoder->forward(image, {56, 56});
  expect_same_bits(autoencoder->forward(image, {56, 56}), first);
  autoencoder->train();
  EXPECT_FALSE(torch::equal(autoencoder->forward(image, {56, 56}), first));
}

}  // namespace
}  // namespace efficientad
