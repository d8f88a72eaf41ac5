#include "efficientad/nn/convolution.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <set>
#include <string>
#include <utility>

#include "nn/cpu/convolution_kernels.h"
#include "support/near.h"

namespace efficientad {
namespace {

// Winograd's transforms lose about a digit of float32: a share of the largest value.
constexpr double kShare = 2e-5;

void expect_close(const torch::Tensor& actual, const torch::Tensor& expected) {
  expect_near(actual, expected, /*rtol=*/0,
              /*atol=*/kShare * expected.abs().max().item<double>());
}

struct Results {
  torch::Tensor output;
  std::vector<torch::Tensor> gradients;
};

/// In float64 where `fast` is off.
Results run(bool fast, const torch::Tensor& images, const torch::Tensor& weights,
            const torch::Tensor& bias, int64_t padding, const torch::Tensor& gradient) {
  const FastConvolutions switched(fast);
  const auto type = fast ? torch::kFloat32 : torch::kFloat64;
  std::vector<torch::Tensor> inputs;
  for (const auto& tensor : {images, weights, bias}) {
    inputs.push_back(tensor.to(type).detach().clone().requires_grad_());
  }
  const torch::Tensor output = convolve(inputs[0], inputs[1], inputs[2], padding);
  output.backward(gradient.to(type));
  Results results = {.output = output.detach().to(torch::kFloat32), .gradients = {}};
  for (const auto& tensor : inputs) results.gradients.push_back(tensor.grad().to(torch::kFloat32));
  return results;
}

/// With every instruction set.
void compare(const torch::Tensor& images, const torch::Tensor& weights, const torch::Tensor& bias,
             int64_t padding, const torch::Tensor& gradient) {
  const Results expected = run(false, images, weights, bias, padding, gradient);
  cpu::for_each_convolution_kernels([&] {
    SCOPED_TRACE(cpu::convolution_kernels().name);
    const Results actual = run(true, images, weights, bias, padding, gradient);
    expect_close(actual.output, expected.output);
    for (size_t i = 0; i < 3; ++i) {
      SCOPED_TRACE(i);
      expect_close(actual.gradients[i], expected.gradients[i]);
    }
  });
}

TEST(Convolution, OutputsAndGradientsAreThoseOfLibTorchInFloat64) {
  for (const int64_t kernel : {3, 4}) {
    for (const int64_t padding : {0, 1, 2}) {
      for (const auto& [height, width] : {std::pair{19, 27}, {4, 9}, {64, 8}}) {
        SCOPED_TRACE(testing::Message() << kernel << " " << padding << " " << height);
        const torch::Tensor images = torch::randn({2, 64, height, width});
        const torch::Tensor weights = torch::randn({96, 64, kernel, kernel});
        compare(images, weights, torch::randn({96}), padding,
                torch::randn(
                    {2, 96, height + 2 * padding - kernel + 1, width + 2 * padding - kernel + 1}));
      }
    }
  }
}

TEST(Convolution, FewGradientsAreSummedOneByOne) {
  for (const int64_t padding : {0, 1}) {
    const torch::Tensor images = torch::randn({2, 64, 20, 17});
    const torch::Tensor weights = torch::randn({32, 64, 4, 4});
    torch::Tensor gradient = torch::zeros({2, 32, 17 + 2 * padding, 14 + 2 * padding});
    gradient[0][3][0][0] = 1;
    gradient[0][3][16][13] = -2;
    gradient[1][31][5][7] = 0.5;
    gradient[1][0][5][7] = 3;
    compare(images, weights, torch::randn({32}), padding, gradient);
  }
}

TEST(Convolution, WhatTheFastWayDoesNotCoverIsLibTorchs) {
  const FastConvolutions fast(true);
  for (const auto& [inputs, kernel] : {std::pair{3, 4}, {32, 1}, {32, 5}, {33, 3}}) {
    const torch::Tensor images = torch::randn({1, inputs, 12, 12});
    const torch::Tensor weights = torch::randn({32, inputs, kernel, kernel});
    const torch::Tensor bias = torch::randn({32});
    EXPECT_TRUE(
        torch::equal(convolve(images, weights, bias), torch::conv2d(images, weights, bias)));
  }
}

TEST(Convolution, FastConvolutionsEndWithTheirGuard) {
  const torch::Tensor images = torch::randn({1, 32, 30, 30});
  const torch::Tensor weights = torch::randn({32, 32, 4, 4});
  const torch::Tensor bias = torch::randn({32});
  const torch::Tensor expected = torch::conv2d(images, weights, bias);
  {
    const FastConvolutions fast(true);
    EXPECT_FALSE(torch::equal(convolve(images, weights, bias), expected));
    {
      const FastConvolutions slow(false);
      EXPECT_TRUE(torch::equal(convolve(images, weights, bias), expected));
    }
    EXPECT_FALSE(torch::equal(convolve(images, weights, bias), expected));
  }
  EXPECT_TRUE(torch::equal(convolve(images, weights, bias), expected));
}

TEST(Convolution, ReluPoolIsThatOfLibTorch) {
  for (const auto& [height, width] : {std::pair{8, 6}, {7, 9}, {2, 3}}) {
    const torch::Tensor images = torch::randn({2, 32, height, width});
    const torch::Tensor gradient = torch::randn({2, 32, height / 2, width / 2});
    const auto run = [&](bool fast) {
      const FastConvolutions switched(fast);
      const torch::Tensor input = images.detach().clone().requires_grad_();
      const torch::Tensor output = relu_pool(input);
      output.backward(gradient);
      return std::pair{output.detach(), input.grad()};
    };
    const auto [expected, expected_gradient] = run(false);
    cpu::for_each_convolution_kernels([&, &expected = expected, &of_input = expected_gradient] {
      SCOPED_TRACE(cpu::convolution_kernels().name);
      const auto [actual, actual_gradient] = run(true);
      // Four numbers are summed in another order.
      expect_near(actual, expected, 1e-6, 1e-7);
      EXPECT_TRUE(torch::equal(actual_gradient, of_input));
    });
  }
}

TEST(Convolution, EveryInstructionSetIsTried) {
  std::set<std::string> names;
  cpu::for_each_convolution_kernels([&] { names.insert(cpu::convolution_kernels().name); });
  EXPECT_TRUE(names.count(cpu::convolution_kernels().name));
#ifdef __x86_64__
  EXPECT_GE(names.size(), 2u);
#endif
}

}  // namespace
}  // namespace efficientad
