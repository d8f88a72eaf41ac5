#include "engine/cpu/weights.h"

#include <torch/types.h>

#include <array>
#include <cmath>

#include "efficientad/core/buffer.h"

namespace efficientad::cpu {

torch::Tensor winograd_g(int64_t kernel) {
  constexpr std::array<double, 7> kPoints = {0, 1, -1, 2, -2, 0.5, -0.5};
  torch::Tensor g = torch::zeros({8, kernel}, torch::kFloat64);
  auto at = g.accessor<double, 2>();
  for (size_t i = 0; i < kPoints.size(); ++i) {
    double divisor = 1;
    for (size_t j = 0; j < kPoints.size(); ++j) {
      if (j != i) divisor *= kPoints[i] - kPoints[j];
    }
    // The transform of the inputs has this row with the opposite sign.
    if (i == 0) divisor = -divisor;
    for (int64_t k = 0; k < kernel; ++k) {
      at[static_cast<int64_t>(i)][k] = std::pow(kPoints[i], static_cast<double>(k)) / divisor;
    }
  }
  at[7][kernel - 1] = 1;
  return g;
}

torch::Tensor pack_winograd_weights(const torch::Tensor& weights, int64_t panel) {
  const int64_t channels = weights.size(0);
  const int64_t inputs = weights.size(1);
  TORCH_CHECK(channels % panel == 0, channels, " channels do not fit panels of ", panel);
  const torch::Tensor g = winograd_g(weights.size(2));
  // G w G^T of all kernels at once: the Kronecker product of G with itself times each kernel.
  const torch::Tensor transform = torch::kron(g, g);
  torch::Tensor packed = make_buffer(channels * inputs * 64);
  const torch::Tensor by_panel = packed.view({channels / panel, 64, inputs * panel});
  for (int64_t i = 0; i < channels / panel; ++i) {
    const torch::Tensor kernels = weights.narrow(0, i * panel, panel)
                                      .to(torch::kFloat64)
                                      .permute({2, 3, 1, 0})
                                      .reshape({transform.size(1), inputs * panel});
    by_panel[i].copy_(torch::matmul(transform, kernels));
  }
  return packed;
}

torch::Tensor pack_weights(const torch::Tensor& rows, int64_t panel) {
  TORCH_CHECK(rows.size(1) % panel == 0, rows.size(1), " channels do not fit panels of ", panel);
  torch::Tensor packed = make_buffer(rows.numel());
  packed.view({rows.size(1) / panel, rows.size(0), panel})
      .copy_(rows.reshape({rows.size(0), rows.size(1) / panel, panel}).permute({1, 0, 2}));
  return packed;
}

torch::Tensor rows_of(const torch::Tensor& weights) {
  return weights.permute({2, 3, 1, 0}).reshape({-1, weights.size(0)});
}

}  // namespace efficientad::cpu
