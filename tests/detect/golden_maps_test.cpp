#include <gtest/gtest.h>
#include <torch/nn/modules/conv.h>
#include <torch/utils.h>

#include "efficientad/detect/calibration.h"
#include "efficientad/detect/detector.h"
#include "efficientad/nn/imagenet.h"
#include "efficientad/nn/statistics.h"
#include "support/golden.h"
#include "support/near.h"

namespace efficientad {
namespace {

// What the golden values are said to allow.
constexpr double kRtol = 1e-4;

void fill(torch::nn::Module& module, int64_t& salt) {
  const torch::NoGradGuard no_grad;
  for (auto& parameter : module.parameters()) {
    parameter.copy_(golden_parameter(parameter.sizes(), salt++));
  }
}

DetectorNetworks golden_networks(const std::string& model_size, bool padding) {
  DetectorNetworks networks;
  networks.teacher = Pdn(PdnOptions{.model_size = model_size, .padding = padding});
  networks.student =
      Pdn(PdnOptions{.model_size = model_size, .out_channels = 768, .padding = padding});
  networks.autoencoder = Autoencoder();
  networks.autoencoder_input = "full";
  int64_t salt = 100;
  fill(*networks.teacher, salt);
  salt = 200;
  fill(*networks.student, salt);
  salt = 300;
  fill(*networks.autoencoder, salt);
  return networks;
}

TEST(golden_maps, maps_quantiles_and_combined_map) {
  const nlohmann::json golden = load_golden("network.json");
  for (const auto& test_case : golden.at("cases")) {
    const auto model_size = test_case.at("model").get<std::string>();
    const bool padding = test_case.at("padding").get<bool>();
    const auto height = test_case.at("height").get<int64_t>();
    const auto width = test_case.at("width").get<int64_t>();
    SCOPED_TRACE(model_size + (padding ? " padded " : " unpadded ") + std::to_string(height) + "x" +
                 std::to_string(width));
    const torch::Tensor images = imagenet_normalize(
        golden_image(height, width, test_case.at("image_phase").get<double>()).unsqueeze(0));

    DetectorNetworks networks = golden_networks(model_size, padding);
    ChannelStatistics statistics;
    {
      const torch::NoGradGuard no_grad;
      statistics.add(networks.teacher->forward(images));
    }
    networks.teacher_mean = statistics.mean();
    networks.teacher_std = statistics.std();
    const ReferenceEngine engine(networks, torch::kCPU);
    const RawMaps maps = raw_maps(engine.run(images));
    expect_summary(maps.st, test_case.at("map_st"), kRtol);
    expect_summary(maps.ae, test_case.at("map_ae"), kRtol);

    const MapQuantiles quantiles = quantiles_of_maps({maps});
    const auto& expected = test_case.at("map_quantiles_0.9_0.995");
    const auto near = [](double actual, const nlohmann::json& value) {
      EXPECT_NEAR(actual, value.get<double>(), kRtol * value.get<double>());
    };
    near(quantiles.q_a_st, expected.at("st")[0]);
    near(quantiles.q_b_st, expected.at("st")[1]);
    near(quantiles.q_a_ae, expected.at("ae")[0]);
    near(quantiles.q_b_ae, expected.at("ae")[1]);
    expect_summary(combine_maps(maps, quantiles), test_case.at("map_combined_no_border"), kRtol);
  }
}

}  // namespace
}  // namespace efficientad
