#include <torch/nn/modules/conv.h>
#include <torch/utils.h>

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

/// What is wrong with the gradients of a module's parameters: norm, and the sum relative to what
/// the norm allows it to be. Empty if nothing is.
std::vector<std::string> wrong_gradients(const torch::nn::Module& module, const std::string& prefix,
                                         const nlohmann::json& expected) {
  std::vector<std::string> wrong;
  for (const auto& item : module.named_parameters()) {
    const std::string name = prefix + "." + item.key();
    const auto& want = expected.at(name);
    if (!item.value().grad().defined()) {
      wrong.push_back(name + " has no gradient");
      continue;
    }
    const torch::Tensor gradient = item.value().grad().to(torch::kFloat64);
    const auto norm = want.at("norm").get<double>();
    const auto sum = want.at("sum").get<double>();
    const double scale = norm * std::sqrt(static_cast<double>(gradient.numel()));
    const double norm_found = gradient.norm().item<double>();
    const double sum_found = gradient.sum().item<double>();
    // Written so that NaN is wrong too.
    if (!(norm > 0 && std::abs(norm_found - norm) <= kGradientTolerance * norm)) {
      wrong.push_back(fmt::format("{}: norm {} instead of {}", name, norm_found, norm));
    }
    if (!(std::abs(sum_found - sum) <= kGradientTolerance * scale)) {
      wrong.push_back(fmt::format("{}: sum {} instead of {}", name, sum_found, sum));
    }
  }
  return wrong;
}

/// An encoder unit whose input to ReLU is zero but for rounding.
struct Kink {
  torch::Tensor bias;
  int64_t channel;
  double value;
};

/// ReLU has no derivative at zero. A unit within float32 rounding of it is on or off depending on
/// the order of additions, and in the encoder's last, small layers one unit changes the gradient by
/// up to a hundredth. These are the units for which both one-sided derivatives are right. (In one
/// of the golden cases enconv5 has a unit at 1.4e-6, in float64, of values up to 3.)
std::vector<Kink> kinks_of(Autoencoder& autoencoder, const torch::Tensor& images) {
  constexpr double kRounding = 2e-6;
  torch::NoGradGuard no_grad;
  std::vector<Kink> kinks;
  torch::Tensor x = images;
  const auto encoder = autoencoder->named_children()["encoder"];
  for (int layer = 1; layer <= 5; ++layer) {
    auto* conv =
        encoder->named_children()["enconv" + std::to_string(layer)]->as<torch::nn::Conv2d>();
    x = conv->forward(x);
    if (layer >= 4) {
      const torch::Tensor near = (x.abs() < kRounding * x.abs().max()).nonzero();
      for (int64_t i = 0; i < near.size(0); ++i) {
        const auto at = [&](int64_t k) { return near[i][k].item<int64_t>(); };
        kinks.push_back({conv->bias, at(1), x[at(0)][at(1)][at(2)][at(3)].item<double>()});
      }
    }
    x = torch::relu(x);
  }
  return kinks;
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
    const auto& gradients = item.at("gradient_of_total_loss");
    EXPECT_EQ(student->parameters().size() + autoencoder->parameters().size(), gradients.size());
    EXPECT_EQ(wrong_gradients(*student, "student", gradients), std::vector<std::string>());

    std::vector<std::string> wrong = wrong_gradients(*autoencoder, "autoencoder", gradients);
    const std::vector<Kink> kinks = kinks_of(autoencoder, jittered);
    ASSERT_LE(kinks.size(), 4u);
    for (size_t sides = 1; sides < (size_t{1} << kinks.size()) && !wrong.empty(); ++sides) {
      // The other side of the chosen kinks, by moving a bias as little as rounding does.
      const auto move = [&](double direction) {
        torch::NoGradGuard no_grad;
        for (size_t k = 0; k < kinks.size(); ++k) {
          if ((sides >> k & 1) != 0) {
            kinks[k].bias[kinks[k].channel] += -2 * direction * kinks[k].value;
          }
        }
      };
      move(1);
      autoencoder->zero_grad();
      const torch::Tensor other = autoencoder->forward(jittered, grid);
      ((normalized_teacher(jittered) - other).square().mean() +
       (other - student->head(student->trunk(jittered), 384, 384).detach()).square().mean())
          .backward();
      wrong = wrong_gradients(*autoencoder, "autoencoder", gradients);
      move(-1);
    }
    EXPECT_EQ(wrong, std::vector<std::string>());
  }
}

}  // namespace
}  // namespace efficientad
