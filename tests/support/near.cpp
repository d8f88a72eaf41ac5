#include "support/near.h"

#include <torch/types.h>

void expect_near(const torch::Tensor& actual, const torch::Tensor& expected, double rtol,
                 double atol) {
  ASSERT_EQ(actual.sizes(), expected.sizes());
  ASSERT_EQ(actual.scalar_type(), expected.scalar_type());
  ASSERT_GT(expected.numel(), 0) << "nothing to compare";
  const auto a = actual.detach().to(torch::kCPU, torch::kFloat64).flatten();
  const auto e = expected.detach().to(torch::kCPU, torch::kFloat64).flatten();
  ASSERT_TRUE(torch::isfinite(a).all().item<bool>()) << "NaN or infinity in the actual values";
  ASSERT_TRUE(torch::isfinite(e).all().item<bool>()) << "NaN or infinity in the expected values";
  ASSERT_GT(e.abs().max().item<double>(), 0.0) << "the expected values are all zero";
  const auto excess = (a - e).abs() - (atol + rtol * e.abs());
  const auto worst = excess.argmax().item<int64_t>();
  EXPECT_LE(excess[worst].item<double>(), 0.0)
      << "worst at flat index " << worst << ": " << a[worst].item<double>() << ", expected "
      << e[worst].item<double>() << ", of shape " << expected.sizes();
}

void expect_same_bits(const torch::Tensor& actual, const torch::Tensor& expected) {
  ASSERT_EQ(actual.sizes(), expected.sizes());
  ASSERT_EQ(actual.scalar_type(), expected.scalar_type());
  const auto a = actual.detach().contiguous().flatten().view(torch::kUInt8);
  const auto e = expected.detach().contiguous().flatten().view(torch::kUInt8);
  EXPECT_TRUE(torch::equal(a, e)) << (a != e).sum().item<int64_t>() << " bytes differ";
}
