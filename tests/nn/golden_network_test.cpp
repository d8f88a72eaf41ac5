#include <torch/torch.h>

#include "efficientad/data/color_jitter.h"
#include "efficientad/nn/autoencoder.h"
#include "efficientad/nn/imagenet.h"
#include "efficientad/nn/losses.h"
#include "efficientad/nn/pdn.h"
#include "efficientad/nn/statistics.h"
#include "support/golden.h"
#include "support/near.h"

namespace efficientad {
namespace {

// float32 sums over a million values, taken in another order.
constexpr double kOutputTolerance = 1e-4;
constexpr double kGradientTolerance = 1e-3;

/// Parameters in definition order take the salts first, first + 1, …
void set_formula_parameters(torch::nn::Module& module, int64_t first) {
  torch::NoGradGuard no_grad;
  int64_t salt = first;
  for (auto& parameter : module.parameters()) {
    parameter.copy_(golden_parameter(parameter.sizes(), salt++));
  }
}

/// Norm and sum of every parameter's gradient, the sum relative to what the norm allows it to be.
void expect_gradients(const torch::nn::Module& module, const std::string& prefix,
                      const nlohmann::json& expected, int64_t* compared) {
  for (const auto& item : module.named_parameters()) {
    const auto& want = expected.at(prefix + "." + item.key());
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    const torch::Tensor gradient = item.value().grad().to(torch::kFloat64);
    const double norm = want.at("norm").get<double>();
    ASSERT_GT(norm, 0.0);
    EXPECT_NEAR(gradient.norm().item<double>(), norm, kGradientTolerance * norm) << item.key();
    const double scale = norm * std::sqrt(static_cast<double>(gradient.numel()));
    EXPECT_NEAR(gradient.sum().item<double>(), want.at("sum").get<double>(),
                kGradientTolerance * scale)
        << item.key();
    ++*compared;
  }
}

TEST(golden_network, OutputsLossesAndGradients) {
  const auto golden = load_golden("network.json");
  ASSERT_FALSE(golden.at("cases").empty());
  for (const auto& item : golden.at("cases")) {
    const auto model = item.at("model").get<std::string>();
    const auto padding = item.at("padding").get<bool>();
    const auto height = item.at("height").get<int64_t>();
    const auto width = item.at("width").get<int64_t>();
    const auto phase = item.at("image_phase").get<double>();
    SCOPED_TRACE(model + (padding ? " padded " : " ") + std::to_string(height) + "x" +
                 std::to_string(width));
    Pdn teacher(PdnOptions{model, 384, padding});
    Pdn student(PdnOptions{model, 768, padding});
    Autoencoder autoencoder;
    set_formula_parameters(*teacher, 100);
    set_formula_parameters(*student, 200);
    set_formula_parameters(*autoencoder, 300);
    autoencoder->eval();

    const torch::Tensor raw = golden_image(height, width, phase).unsqueeze(0);
    const torch::Tensor image = imagenet_normalize(raw);
    const torch::Tensor penalty_image =
        imagenet_normalize(golden_image(height, width, phase + 1.7).unsqueeze(0));
    const torch::Tensor jittered = imagenet_normalize(adjust_contrast(raw, 1.13));

    torch::Tensor mean;
    torch::Tensor std;
    const auto normalized_teacher = [&](const torch::Tensor& x) {
      torch::NoGradGuard no_grad;
      return (teacher->forward(x) - mean) / std;
    };
    {
      torch::NoGradGuard no_grad;
      const torch::Tensor out = teacher->forward(image);
      expect_summary(out, item.at("teacher_out"), kOutputTolerance);
      ChannelStatistics statistics;
      statistics.add(out);
      mean = statistics.mean();
      std = statistics.std();
      expect_summary(mean, item.at("teacher_mean"), kOutputTolerance);
      expect_summary(std, item.at("teacher_std"), kOutputTolerance);
    }
    const std::array<int64_t, 2> grid = {pdn_output_side(height, padding),
                                         pdn_output_side(width, padding)};
    const torch::Tensor student_out = student->forward(image);
    expect_summary(student_out, item.at("student_out"), kOutputTolerance);
    const torch::Tensor teacher_normalized = normalized_teacher(image);

    const torch::Tensor hard = hard_feature_loss(
        (teacher_normalized - student->head(student->trunk(image), 0, 384)).square(), 0.999);
    const torch::Tensor penalty =
        student->head(student->trunk(penalty_image), 0, 384).square().mean();
    const torch::Tensor reconstruction = autoencoder->forward(jittered, grid);
    const torch::Tensor autoencoder_loss =
        (normalized_teacher(jittered) - reconstruction).square().mean();
    const torch::Tensor student_autoencoder =
        (reconstruction - student->head(student->trunk(jittered), 384, 384)).square().mean();
    {
      torch::NoGradGuard no_grad;
      expect_summary(autoencoder->forward(image, grid), item.at("autoencoder_out"),
                     kOutputTolerance);
    }
    const auto& losses = item.at("loss");
    const auto expect_loss = [&](const torch::Tensor& loss, const char* name) {
      const double want = losses.at(name).get<double>();
      ASSERT_GT(want, 0.0);
      EXPECT_NEAR(loss.item<double>(), want, kOutputTolerance * want) << name;
    };
    expect_loss(hard, "hard");
    expect_loss(penalty, "penalty");
    expect_loss(autoencoder_loss, "autoencoder");
    expect_loss(student_autoencoder, "student_autoencoder");

    (hard + penalty + autoencoder_loss + student_autoencoder).backward();
    int64_t compared = 0;
    const auto& gradients = item.at("gradient_of_total_loss");
    expect_gradients(*student, "student", gradients, &compared);
    expect_gradients(*autoencoder, "autoencoder", gradients, &compared);
    EXPECT_EQ(compared, static_cast<int64_t>(gradients.size()));
  }
}

}  // namespace
}  // namespace efficientad
