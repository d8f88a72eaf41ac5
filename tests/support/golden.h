#pragma once

#include <torch/types.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

/// EFFICIENTAD_GOLDEN_DIR, or the copy in tests/golden. Its README.md has the formulae.
std::filesystem::path golden_dir();

/// The JSON file `name` in golden_dir().
nlohmann::json load_golden(const std::string& name);

/// The formula image: float32 [3, height, width] in 0..1.
torch::Tensor golden_image(int64_t height, int64_t width, double phase);

/// The formula parameter for salt first + k: float32. A weight has four sizes, a bias one.
torch::Tensor golden_parameter(torch::IntArrayRef sizes, int64_t salt);

/// Compares a tensor with its summary: shape, mean, population std, largest magnitude and the
/// sampled values. `rtol` is relative to the largest magnitude for values and mean.
void expect_summary(const torch::Tensor& actual, const nlohmann::json& summary, double rtol);
