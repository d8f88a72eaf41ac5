#include "efficientad/engine/reference_engine.h"

#include <gtest/gtest.h>
#include <torch/utils.h>

#include "support/expect_error.h"
#include "support/near.h"

namespace efficientad {
namespace {

DetectorNetworks make_networks(bool padding) {
  return {.teacher = Pdn(PdnOptions{.padding = padding}),
          .student = Pdn(PdnOptions{.out_channels = 768, .padding = padding}),
          .autoencoder = Autoencoder(),
          .teacher_mean = torch::rand({1, 384, 1, 1}),
          .teacher_std = torch::rand({1, 384, 1, 1}) + 0.5};
}

TEST(ReferenceEngine, OutputsMeetOnThePdnsGrid) {
  for (const bool padding : {false, true}) {
    const ReferenceEngine engine(make_networks(padding), torch::kCPU);
    const NetworkOutputs outputs = engine.run(torch::randn({2, 3, 66, 101}));
    const int64_t height = padding ? 17 : 9;
    const int64_t width = padding ? 26 : 18;
    EXPECT_EQ(outputs.normalized_teacher.sizes(), (std::vector<int64_t>{2, 384, height, width}));
    EXPECT_EQ(outputs.student.sizes(), (std::vector<int64_t>{2, 768, height, width}));
    EXPECT_EQ(outputs.autoencoder.sizes(), (std::vector<int64_t>{2, 384, height, width}));
    EXPECT_FALSE(outputs.student.requires_grad());
  }
}

TEST(ReferenceEngine, NormalisesTheTeacherOnly) {
  DetectorNetworks networks = make_networks(false);
  const ReferenceEngine engine(networks, torch::kCPU);
  const torch::Tensor images = torch::randn({1, 3, 64, 64});
  const NetworkOutputs outputs = engine.run(images);
  const torch::NoGradGuard no_grad;
  expect_same_bits(outputs.student, networks.student->forward(images));
  expect_same_bits(
      outputs.normalized_teacher,
      (networks.teacher->forward(images) - networks.teacher_mean) / networks.teacher_std);
}

TEST(ReferenceEngine, DropoutIsOff) {
  const ReferenceEngine engine(make_networks(false), torch::kCPU);
  const torch::Tensor images = torch::randn({1, 3, 64, 64});
  expect_same_bits(engine.run(images).autoencoder, engine.run(images).autoencoder);
}

TEST(ReferenceEngine, AutoencoderInputs) {
  DetectorNetworks networks = make_networks(false);
  const torch::Tensor images = torch::randn({1, 3, 256, 256});
  networks.autoencoder_input = "full";
  const torch::Tensor full = ReferenceEngine(networks, torch::kCPU).run(images).autoencoder;
  networks.autoencoder_input = "fixed";
  expect_same_bits(ReferenceEngine(networks, torch::kCPU).run(images).autoencoder, full);
  networks.autoencoder_input = "full";
  EXPECT_ERROR(ReferenceEngine(networks, torch::kCPU).run(torch::randn({1, 3, 128, 256})), Error,
               "at least 256x256");
}

}  // namespace
}  // namespace efficientad
