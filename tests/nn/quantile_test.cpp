#include "efficientad/nn/quantile.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "support/expect_error.h"
#include "support/near.h"

namespace efficientad {
namespace {

/// Sorts everything: obvious and slow.
double slow_quantile(std::vector<float> values, double q) {
  std::sort(values.begin(), values.end());
  const double at = static_cast<double>(values.size() - 1) * q;
  const auto lower = static_cast<size_t>(std::floor(at));
  const size_t upper = std::min(lower + 1, values.size() - 1);
  return values[lower] + (values[upper] - values[lower]) * (at - std::floor(at));
}

std::vector<float> numbers(const torch::Tensor& values) {
  return {values.data_ptr<float>(), values.data_ptr<float>() + values.numel()};
}

TEST(Quantile, AgreesWithSortingForBothForms) {
  for (const int64_t count : {1, 2, 3, 10, 1000, 4321}) {
    const torch::Tensor values = torch::randn({count});
    for (const double q : {0.0, 0.1, 0.5, 0.9, 0.995, 0.999, 1.0}) {
      const double want = slow_quantile(numbers(values), q);
      std::vector<float> copy = numbers(values);
      EXPECT_NEAR(quantile_of(copy, q), want, 1e-6) << count << " " << q;
      EXPECT_NEAR(quantile_of(values, q).item<double>(), want, 1e-6) << count << " " << q;
    }
  }
}

TEST(Quantile, TakesMoreElementsThanTorchDoes) {
  const int64_t count = (int64_t{1} << 24) + 1001;
  const torch::Tensor values = torch::arange(count, torch::kFloat64).to(torch::kFloat32).flip(0);
  const double want = static_cast<double>(count - 1) * 0.995;
  // A float32 holds whole numbers of this size to within one.
  EXPECT_NEAR(quantile_of(values, 0.995).item<double>(), want, 2.0);
  std::vector<float> copy = numbers(values);
  EXPECT_NEAR(quantile_of(copy, 0.995), want, 2.0);
}

TEST(Quantile, HasNoGradientAndKeepsTheOrder) {
  torch::Tensor values = torch::rand({7, 5});
  values.set_requires_grad(true);
  EXPECT_FALSE(quantile_of(values, 0.5).requires_grad());
}

TEST(Quantile, RefusesNothingAndNan) {
  std::vector<float> none;
  EXPECT_ERROR(quantile_of(none, 0.5), Error, "no values");
  EXPECT_ERROR(quantile_of(torch::empty({0}), 0.5), Error, "no values");
  std::vector<float> bad = {1, std::numeric_limits<float>::quiet_NaN()};
  EXPECT_ERROR(quantile_of(bad, 0.5), Error, "NaN");
  EXPECT_ERROR(quantile_of(torch::tensor({1.0f, std::nanf("")}), 0.5), Error, "NaN");
}

}  // namespace
}  // namespace efficientad
