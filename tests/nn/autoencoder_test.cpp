#include "efficientad/nn/autoencoder.h"

#include <torch/utils.h>

#include <cmath>

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

double difference(Autoencoder& autoencoder, const torch::Tensor& images) {
  const torch::Tensor output = autoencoder->forward(images, {56, 56});
  return (output[0] - output[1]).std().item<double>();
}

TEST(Autoencoder, InitialisationLetsImagesBeToldApartAtEveryLayer) {
  torch::NoGradGuard no_grad;
  torch::manual_seed(1);
  Autoencoder autoencoder(64);
  // Images that differ little from one another.
  const torch::Tensor images =
      torch::rand({1, 3, 256, 256}) + 0.1 * torch::randn({8, 3, 1, 1}).expand({8, 3, 256, 256});
  autoencoder->eval();
  EXPECT_LT(difference(autoencoder, images), 1e-3);
  autoencoder->train();
  Rng rng(1);
  autoencoder->initialize(images, {56, 56}, rng);
  EXPECT_TRUE(autoencoder->is_training());
  autoencoder->eval();
  EXPECT_EQ(autoencoder->forward(images, {56, 56}).abs().max().item<double>(), 0);

  // The last layer hides the others; with weights of its own it shows what they let through.
  auto last = autoencoder->named_parameters()["decoder.deconv8.weight"];
  last.copy_(torch::randn(last.sizes()) / std::sqrt(static_cast<double>(last[0].numel())));
  EXPECT_GT(difference(autoencoder, images), 0.2);
}

TEST(Autoencoder, InitialisationOnOneImageGivesFiniteWeights) {
  torch::NoGradGuard no_grad;
  Autoencoder autoencoder(6);
  Rng rng(1);
  autoencoder->initialize(torch::zeros({1, 3, 256, 256}), {56, 56}, rng);
  for (const auto& item : autoencoder->named_parameters()) {
    EXPECT_TRUE(torch::isfinite(item.value()).all().item<bool>()) << item.key();
    EXPECT_LT(item.value().abs().max().item<double>(), 1e4) << item.key();
  }
}

}  // namespace
}  // namespace efficientad
