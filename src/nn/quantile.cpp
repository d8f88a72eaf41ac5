#include "efficientad/nn/quantile.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "efficientad/core/error.h"

namespace efficientad {

QuantilePosition quantile_position(int64_t count, double q) {
  TORCH_CHECK(q >= 0 && q <= 1, "quantile: q is ", q);
  require(count > 0, "a quantile of no values was asked for");
  const double exact = static_cast<double>(count - 1) * q;
  const auto lower = static_cast<int64_t>(std::floor(exact));
  return {lower, std::min(lower + 1, count - 1), exact - std::floor(exact)};
}

torch::Tensor quantile_of(const torch::Tensor& values, double q) {
  const torch::Tensor flat = values.detach().flatten();
  const int64_t count = flat.numel();
  const QuantilePosition position = quantile_position(count, q);
  require(!torch::isnan(flat).any().item<bool>(), "a quantile of values with NaN was asked for");
  torch::Tensor lower;
  torch::Tensor upper;
  const int64_t above = count - position.lower;
  if (above <= count / 16) {
    // High quantiles, which training takes in every step: the few largest values suffice.
    const auto largest = std::get<0>(torch::topk(flat, above, /*dim=*/0, /*largest=*/true));
    lower = largest[above - 1];
    upper = largest[count - 1 - position.upper];
  } else {
    const auto sorted = std::get<0>(torch::sort(flat));
    lower = sorted[position.lower];
    upper = sorted[position.upper];
  }
  return torch::lerp(lower, upper, position.weight);
}

double quantile_of(std::vector<float>& values, double q) {
  const QuantilePosition position = quantile_position(static_cast<int64_t>(values.size()), q);
  for (const float value : values) {
    require(!std::isnan(value), "a quantile of values with NaN was asked for");
  }
  const auto nth = values.begin() + position.lower;
  std::nth_element(values.begin(), nth, values.end());
  const double lower = *nth;
  const double upper =
      position.upper == position.lower ? lower : *std::min_element(nth + 1, values.end());
  return lower + (upper - lower) * position.weight;
}

}  // namespace efficientad
