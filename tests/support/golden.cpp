#include "support/golden.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <cstdlib>
#include <fstream>

std::filesystem::path golden_dir() {
  const char* named = std::getenv("EFFICIENTAD_GOLDEN_DIR");
  if (named != nullptr && *named != '\0') return named;
  return std::filesystem::path(EFFICIENTAD_SOURCE_DIR) / "tests" / "golden";
}

nlohmann::json load_golden(const std::string& name) {
  std::ifstream file(golden_dir() / name);
  if (!file) throw std::runtime_error("cannot open " + (golden_dir() / name).string());
  return nlohmann::json::parse(file);
}

torch::Tensor golden_image(int64_t height, int64_t width, double phase) {
  torch::Tensor image = torch::empty({3, height, width}, torch::kFloat32);
  auto value = image.accessor<float, 3>();
  for (int64_t c = 0; c < 3; ++c) {
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t x = 0; x < width; ++x) {
        value[c][y][x] = static_cast<float>(
            0.5 + 0.25 * std::sin(0.05 * static_cast<double>(x * (c + 1)) + phase) +
            0.25 * std::cos(0.08 * static_cast<double>(y) + 0.02 * static_cast<double>(x * c)));
      }
    }
  }
  return image;
}

torch::Tensor golden_parameter(torch::IntArrayRef sizes, int64_t salt) {
  torch::Tensor parameter = torch::empty(sizes, torch::kFloat32);
  float* value = parameter.data_ptr<float>();
  const double scale = sizes.size() == 4
                           ? std::sqrt(6.0 / static_cast<double>(sizes[1] * sizes[2] * sizes[3]))
                           : 0.1;
  for (int64_t i = 0; i < parameter.numel(); ++i) {
    const double s =
        std::sin(static_cast<double>(i + 1) * 12.9898 + static_cast<double>(salt + 1) * 78.233) *
        43758.5453;
    value[i] = static_cast<float>((2.0 * (s - std::floor(s)) - 1.0) * scale);
  }
  return parameter;
}

void expect_summary(const torch::Tensor& actual, const nlohmann::json& summary, double rtol) {
  ASSERT_EQ(actual.sizes().vec(), summary.at("shape").get<std::vector<int64_t>>());
  const auto flat = actual.detach().to(torch::kCPU, torch::kFloat64).flatten();
  ASSERT_TRUE(torch::isfinite(flat).all().item<bool>());
  const double abs_max = summary.at("abs_max").get<double>();
  ASSERT_GT(abs_max, 0.0);
  const double tolerance = rtol * abs_max;
  EXPECT_NEAR(flat.mean().item<double>(), summary.at("mean").get<double>(), tolerance);
  EXPECT_NEAR(flat.std(/*unbiased=*/false).item<double>(), summary.at("std").get<double>(),
              tolerance);
  EXPECT_NEAR(flat.abs().max().item<double>(), abs_max, tolerance);
  const auto& indices = summary.at("flat_index");
  for (size_t i = 0; i < indices.size(); ++i) {
    const auto index = indices[i].get<int64_t>();
    EXPECT_NEAR(flat[index].item<double>(), summary.at("value")[i].get<double>(), tolerance)
        << "flat index " << index;
  }
}
