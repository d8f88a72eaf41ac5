#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "efficientad/core/cuda_part.h"
#include "efficientad/core/device.h"
#include "efficientad/core/recorder.h"
#include "efficientad/data/image.h"
#include "efficientad/train/trainer.h"
#include "support/near.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

torch::Device gpu_or_cpu() { return select_device("auto"); }

#define SKIP_WITHOUT_GPU() \
  if (!gpu_or_cpu().is_cuda()) GTEST_SKIP() << "there is no CUDA device"

TEST(Recorder, RunsOfAGraphSeeNewInputsAndStepSizes) {
  SKIP_WITHOUT_GPU();
  const torch::Device device = gpu_or_cpu();
  std::string problem;
  const auto recorder = make_recorder(device, problem);
  ASSERT_NE(recorder, nullptr) << problem;
  const torch::Tensor input = torch::zeros({4, 4}, device);
  torch::Tensor output;
  for (int i = 0; i < 8; ++i) {
    input.fill_(i);
    recorder->run([&] { output = input.mm(input) + 1; });
    EXPECT_EQ(output[1][2].item<float>(), static_cast<float>(4 * i * i + 1)) << i;
  }
}

TEST(TrainerOnAGpu, RecordedStepsAreThoseThatAreNotRecorded) {
  SKIP_WITHOUT_GPU();
  std::string problem;
  ASSERT_NE(cuda_symbol(kMakeRecorder, problem), nullptr) << problem;
  const TempDir dir;
  for (int i = 0; i < 6; ++i) {
    write_image(dir.path / "data" / "normal" / fmt::format("{}.png", i),
                torch::randint(0, 256, {90, 90, 3}, torch::kUInt8));
  }
  for (const char* optimizer : {"adam", "muon"}) {
    SCOPED_TRACE(optimizer);
    const auto weights = [&](const std::string& output, const std::string& device_step,
                             double hard_quantile) {
      TrainOptions options;
      options.dataset = "folder";
      options.data = (dir.path / "data").string();
      options.output = (dir.path / optimizer / output).string();
      options.image_size = 64;
      options.steps = 10;
      options.autoencoder_init = "lsuv";
      options.optimizer = optimizer;
      options.schedule = "cosine";
      options.hard_quantile = hard_quantile;
      options.validation_fraction = 0.4;
      options.device_step = device_step;
      const ModelBundle bundle = load_bundle(
          train_detector(options, random_teacher("small", false, 1), gpu_or_cpu(), [](const auto&) {
          }).model);
      std::vector<torch::Tensor> all;
      for (const auto& parameter : bundle.student->parameters()) all.push_back(parameter.flatten());
      return torch::cat(all).detach();
    };
    const torch::Tensor eager = weights("eager", "off", 0.9);
    const double other = (weights("other", "off", 0.5) - eager).norm().item<double>();
    // cuDNN's sums have no fixed order, and dropout draws from one generator in both.
    EXPECT_LT((weights("recorded", "on", 0.9) - eager).norm().item<double>(), 0.1 * other);
  }
}

}  // namespace
}  // namespace efficientad
