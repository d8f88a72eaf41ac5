#include "efficientad/train/training_step.h"

#include <gtest/gtest.h>
#include <torch/nn/modules/conv.h>
#include <torch/utils.h>

#include <algorithm>

#include "efficientad/nn/convolution.h"
#include "support/near.h"

namespace efficientad {
namespace {

DetectorNetworks make_networks() {
  DetectorNetworks networks = {.teacher = Pdn(PdnOptions{}),
                               .student = Pdn(PdnOptions{.out_channels = 768}),
                               .autoencoder = Autoencoder(),
                               .teacher_mean = torch::rand({1, 384, 1, 1}) * 0.1,
                               .teacher_std = torch::rand({1, 384, 1, 1}) + 0.5};
  // Without dropout, so that two computations can be compared.
  networks.autoencoder->eval();
  return networks;
}

torch::Tensor window(const torch::Tensor& whole, int64_t item, int64_t y, int64_t x, int64_t size) {
  return whole.narrow(0, item, 1).narrow(2, y, size).narrow(3, x, size);
}

TEST(TrainingStep, CropsGiveTheWindowsOfTheWholeImages) {
  DetectorNetworks nets = make_networks();
  const torch::Tensor whole = torch::randn({2, 3, 96, 104});
  const torch::Tensor jittered = torch::randn({2, 3, 96, 104});
  const torch::Tensor penalty = torch::randn({2, 3, 96, 104});
  constexpr int64_t kCrop = 64;
  constexpr int64_t kOut = 8;
  const TrainBatch batch = {
      .images = torch::cat({window(whole, 0, 4, 40, kCrop), window(whole, 1, 32, 0, kCrop)}),
      .jittered = jittered,
      .jittered_corners = {{8, 12}, {0, 36}},
      .penalty = torch::cat({window(penalty, 0, 0, 0, kCrop), window(penalty, 1, 32, 40, kCrop)})};
  const Losses losses = training_losses(nets, batch, /*hard_quantile=*/0.9, "fp32");

  const torch::NoGradGuard no_grad;
  const auto teacher = [&](const torch::Tensor& images) {
    return normalize_teacher(nets.teacher->forward(images), nets.teacher_mean, nets.teacher_std);
  };
  const auto pair = [&](const torch::Tensor& maps, int64_t y0, int64_t x0, int64_t y1, int64_t x1) {
    return torch::cat({window(maps, 0, y0, x0, kOut), window(maps, 1, y1, x1, kOut)});
  };
  const torch::Tensor difference =
      (teacher(whole) - nets.student->forward(whole).narrow(1, 0, 384)).square();
  const torch::Tensor hard = hard_feature_loss(pair(difference, 1, 10, 8, 0), 0.9);
  const torch::Tensor of_penalty =
      pair(nets.student->forward(penalty).narrow(1, 0, 384), 0, 0, 8, 10).square().mean();
  const torch::Tensor autoencoder = run_autoencoder(nets.autoencoder, "fixed", false, jittered);
  const torch::Tensor of_autoencoder = (teacher(jittered) - autoencoder).square().mean();
  const torch::Tensor of_student =
      pair((nets.student->forward(jittered).narrow(1, 384, 384) - autoencoder).square(), 2, 3, 0, 9)
          .mean();
  // float32 sums in another order.
  expect_near(losses.hard, hard, 1e-4, 0);
  expect_near(losses.penalty, of_penalty, 1e-4, 0);
  expect_near(losses.autoencoder, of_autoencoder, 1e-4, 0);
  expect_near(losses.student_autoencoder, of_student, 1e-4, 0);
}

TEST(TrainingStep, TermsMayHaveFewerImages) {
  DetectorNetworks nets = make_networks();
  const TrainBatch batch = {.images = torch::randn({3, 3, 64, 64}),
                            .jittered = torch::randn({2, 3, 64, 64}),
                            .jittered_corners = {{0, 0}, {0, 0}},
                            .penalty = torch::randn({1, 3, 64, 64})};
  const Losses losses = training_losses(nets, batch, /*hard_quantile=*/0.9, "fp32");
  const auto of_images = [&](int64_t first, int64_t count) {
    const int64_t jittered = std::min(count, batch.jittered.size(0));
    return training_losses(nets,
                           {.images = batch.images.narrow(0, first, count),
                            .jittered = batch.jittered.narrow(0, 0, jittered),
                            .jittered_corners = {{0, 0}, {0, 0}},
                            .penalty = batch.penalty},
                           0.9, "fp32");
  };
  expect_near(losses.penalty, of_images(0, 1).penalty, 1e-4, 0);
  expect_near(losses.autoencoder, of_images(0, 2).autoencoder, 1e-4, 0);
  expect_near(losses.student_autoencoder, of_images(0, 2).student_autoencoder, 1e-4, 0);
  const torch::Tensor hard =
      (of_images(0, 1).hard + of_images(1, 1).hard + of_images(2, 1).hard) / 3;
  expect_near(losses.hard, hard, 1e-4, 0);
}

TEST(TrainingStep, PlainImagesCountAsJitteredOnes) {
  DetectorNetworks nets = make_networks();
  const torch::Tensor whole = torch::randn({3, 3, 96, 104});
  constexpr int64_t kCrop = 64;
  TrainBatch batch = {
      .images = torch::cat({window(whole, 0, 4, 40, kCrop), window(whole, 1, 32, 0, kCrop),
                            window(whole, 2, 8, 20, kCrop)}),
      .corners = {{4, 40}, {32, 0}, {8, 20}},
      .jittered = torch::randn({1, 3, 96, 104}),
      .jittered_corners = {{8, 12}}};
  TrainBatch all = batch;
  all.jittered = torch::cat({batch.jittered, whole.narrow(0, 1, 2)});
  all.jittered_corners = {{8, 12}, {32, 0}, {8, 20}};
  const Losses expected = training_losses(nets, all, 0.9, "fp32");
  batch.plain = whole.narrow(0, 1, 2);
  for (const bool known : {false, true}) {
    const torch::NoGradGuard no_grad;
    if (known) batch.teacher_plain = nets.teacher->forward(batch.plain);
    const Losses losses = training_losses(nets, batch, 0.9, "fp32");
    // float32 sums in another order.
    expect_near(losses.hard, expected.hard, 1e-4, 0);
    expect_near(losses.autoencoder, expected.autoencoder, 1e-4, 0);
    expect_near(losses.student_autoencoder, expected.student_autoencoder, 1e-4, 0);
  }
}

TEST(TrainingStep, GradientsReachStudentAndAutoencoderOnly) {
  DetectorNetworks nets = make_networks();
  const TrainBatch batch = {.images = torch::randn({1, 3, 64, 64}),
                            .jittered = torch::randn({1, 3, 64, 64}),
                            .jittered_corners = {{0, 0}},
                            .penalty = {}};
  const auto has_gradient = [](torch::nn::Module& module) {
    bool any = false;
    for (auto& parameter : module.parameters()) {
      any = any || (parameter.grad().defined() && parameter.grad().abs().max().item<double>() > 0);
      parameter.mutable_grad().reset();
    }
    return any;
  };
  const auto backward = [&](torch::Tensor Losses::*term) {
    (training_losses(nets, batch, 0.999, "fp32").*term).backward();
  };
  backward(&Losses::hard);
  EXPECT_TRUE(has_gradient(*nets.student));
  EXPECT_FALSE(has_gradient(*nets.autoencoder));
  backward(&Losses::autoencoder);
  EXPECT_FALSE(has_gradient(*nets.student));
  EXPECT_TRUE(has_gradient(*nets.autoencoder));
  backward(&Losses::student_autoencoder);
  EXPECT_TRUE(has_gradient(*nets.student));
  EXPECT_TRUE(has_gradient(*nets.autoencoder));
  EXPECT_FALSE(has_gradient(*nets.teacher));
  training_losses(nets, batch, 0.999, "fp32", /*student_guides_autoencoder=*/false)
      .student_autoencoder.backward();
  EXPECT_TRUE(has_gradient(*nets.student));
  EXPECT_FALSE(has_gradient(*nets.autoencoder));
  EXPECT_EQ(training_losses(nets, batch, 0.999, "fp32").penalty.item<double>(), 0);
}

/// All parameters' gradients after a step, by network.
std::vector<torch::Tensor> gradients_of(DetectorNetworks& nets, const Losses& losses) {
  (losses.hard + losses.penalty + losses.autoencoder + losses.student_autoencoder).backward();
  std::vector<torch::Tensor> gradients;
  for (torch::nn::Module* module : {static_cast<torch::nn::Module*>(nets.student.get()),
                                    static_cast<torch::nn::Module*>(nets.autoencoder.get())}) {
    for (auto& parameter : module->parameters()) {
      gradients.push_back(parameter.grad().clone());
      parameter.mutable_grad().reset();
    }
  }
  return gradients;
}

/// Biases by which every second channel is positive everywhere and the others negative: else a few
/// values so near to 0 that rounding decides on which side they are would make gradients jump.
void keep_off_zero(torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  for (auto& parameter : module.parameters()) {
    if (parameter.dim() == 1) {
      parameter.copy_(torch::tensor({-4.0, 4.0}).repeat({parameter.size(0) / 2}));
    }
  }
}

void to_double(DetectorNetworks& nets) {
  nets.teacher->to(torch::kFloat64);
  nets.student->to(torch::kFloat64);
  nets.autoencoder->to(torch::kFloat64);
  nets.teacher_mean = nets.teacher_mean.to(torch::kFloat64);
  nets.teacher_std = nets.teacher_std.to(torch::kFloat64);
}

TEST(TrainingStep, ShortCutsGiveThePlainStep) {
  for (const std::string model_size : {"small", "medium"}) {
    DetectorNetworks nets = make_networks();
    nets.teacher = Pdn(PdnOptions{.model_size = model_size});
    nets.student = Pdn(PdnOptions{.model_size = model_size, .out_channels = 768});
    keep_off_zero(*nets.student);
    keep_off_zero(*nets.autoencoder);
    const torch::Tensor whole = torch::randn({2, 3, 96, 96});
    TrainBatch batch = {.images = whole,
                        .corners = {{0, 0}, {0, 0}},
                        .jittered = torch::randn({1, 3, 96, 96}),
                        .jittered_corners = {{0, 0}},
                        .penalty = torch::randn({1, 3, 96, 96}),
                        .plain = whole.narrow(0, 1, 1)};
    {
      const torch::NoGradGuard no_grad;
      batch.teacher = nets.teacher->forward(batch.images);
      batch.teacher_plain = batch.teacher.narrow(0, 1, 1);
    }
    Losses actual;
    std::vector<torch::Tensor> gradients;
    {
      const FastConvolutions fast(true);
      actual = training_losses(nets, batch, 0.999, "fp32");
      gradients = gradients_of(nets, actual);
    }
    // In float64, so that only the short cuts' rounding counts.
    to_double(nets);
    const TrainBatch exact = {.images = whole.to(torch::kFloat64),
                              .corners = batch.corners,
                              .jittered = batch.jittered.to(torch::kFloat64),
                              .jittered_corners = batch.jittered_corners,
                              .penalty = batch.penalty.to(torch::kFloat64),
                              .plain = batch.plain.to(torch::kFloat64)};
    const Losses expected = plain_training_losses(nets, exact, 0.999, "fp32");
    const auto expected_gradients = gradients_of(nets, expected);
    constexpr double kRtol = 1e-5;
    const auto same = [&](const torch::Tensor& loss, const torch::Tensor& of_plain) {
      expect_near(loss, of_plain.to(torch::kFloat32), kRtol, 0);
    };
    same(actual.hard, expected.hard);
    same(actual.penalty, expected.penalty);
    same(actual.autoencoder, expected.autoencoder);
    same(actual.student_autoencoder, expected.student_autoencoder);
    ASSERT_EQ(gradients.size(), expected_gradients.size());
    // The gradient of the first layer's bias has passed through Winograd's method in all layers and
    // is a sum over all pixels; LibTorch's float32 without that method is 4e-6 from float64 there,
    // ours 1.1e-5, and no other parameter's is beyond 7e-6 (AVX2).
    constexpr size_t kFirstBias = 1;
    constexpr double kFirstBiasRtol = 1.5e-5;
    for (size_t i = 0; i < gradients.size(); ++i) {
      const double error = (gradients[i] - expected_gradients[i]).norm().item<double>();
      const double rtol = i == kFirstBias ? kFirstBiasRtol : kRtol;
      EXPECT_LE(error, rtol * expected_gradients[i].norm().item<double>())
          << model_size << ", parameter " << i;
    }
  }
}

TEST(TrainingStep, CornersOnTheDeviceGiveTheSame) {
  DetectorNetworks nets = make_networks();
  const torch::Tensor plain = torch::randn({1, 3, 80, 96});
  TrainBatch batch = {
      .images = torch::cat({torch::randn({1, 3, 64, 64}), window(plain, 0, 12, 20, 64)}),
      .corners = {{0, 0}, {12, 20}},
      .jittered = torch::randn({1, 3, 80, 96}),
      .jittered_corners = {{4, 32}},
      .penalty = torch::randn({1, 3, 64, 64}),
      .plain = plain};
  const Losses expected = training_losses(nets, batch, 0.99, "fp32");
  const auto expected_gradients = gradients_of(nets, expected);
  batch.corners_at = torch::tensor({0, 0, 12, 20}, torch::kInt64).view({2, 2});
  batch.jittered_corners_at = torch::tensor({4, 32}, torch::kInt64).view({1, 2});
  batch.corners.clear();
  batch.jittered_corners.clear();
  // What is done side by side may come in any order.
  size_t branches_done = 0;
  const Losses actual = training_losses(
      nets, batch, 0.99, "fp32", /*student_guides_autoencoder=*/true, [&](const auto& branches) {
        for (size_t i = branches.size(); i > 0; --i) branches[i - 1]();
        branches_done = branches.size();
      });
  EXPECT_EQ(branches_done, 2u);
  const auto gradients = gradients_of(nets, actual);
  expect_near(actual.hard, expected.hard, 1e-5, 0);
  expect_near(actual.student_autoencoder, expected.student_autoencoder, 1e-5, 0);
  for (size_t i = 0; i < gradients.size(); ++i) {
    const double error = (gradients[i] - expected_gradients[i]).norm().item<double>();
    EXPECT_LE(error, 1e-5 * expected_gradients[i].norm().item<double>()) << i;
  }
}

TEST(TrainingStep, Bfloat16IsClose) {
  const DetectorNetworks nets = make_networks();
  const TrainBatch batch = {.images = torch::randn({1, 3, 64, 64}),
                            .jittered = torch::randn({1, 3, 64, 64}),
                            .jittered_corners = {{0, 0}},
                            .penalty = torch::randn({1, 3, 64, 64})};
  const Losses exact = training_losses(nets, batch, 0.999, "fp32");
  const Losses rounded = training_losses(nets, batch, 0.999, "bf16");
  EXPECT_EQ(rounded.hard.scalar_type(), torch::kFloat32);
  // bfloat16 has 8 significant bits; four layers of it.
  expect_near(rounded.hard, exact.hard, 0.05, 0);
  expect_near(rounded.penalty, exact.penalty, 0.05, 0);
  expect_near(rounded.autoencoder, exact.autoencoder, 0.05, 0);
  expect_near(rounded.student_autoencoder, exact.student_autoencoder, 0.05, 0);
}

TEST(TrainingStep, AStudentThatIsNotFiniteShowsInTheLoss) {
  DetectorNetworks nets = make_networks();
  {
    const torch::NoGradGuard no_grad;
    nets.student->parameters()[0].fill_(NAN);
  }
  const TrainBatch batch = {.images = torch::randn({1, 3, 64, 64}),
                            .jittered = torch::randn({1, 3, 64, 64}),
                            .jittered_corners = {{0, 0}},
                            .penalty = {}};
  EXPECT_FALSE(std::isfinite(training_losses(nets, batch, 0.999, "fp32").hard.item<double>()));
}

}  // namespace
}  // namespace efficientad
