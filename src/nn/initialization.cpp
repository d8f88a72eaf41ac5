#include "efficientad/nn/initialization.h"

#include <torch/nn/modules/conv.h>
#include <torch/utils.h>

namespace efficientad {

void initialize_unit_variance(torch::nn::Conv2dImpl& convolution, Rng& rng,
                              const std::function<torch::Tensor()>& output) {
  constexpr double kSmallestSpread = 0.05;
  constexpr double kTiny = 1e-6;
  const torch::NoGradGuard no_grad;
  torch::Tensor weight = torch::empty(convolution.weight.sizes(), torch::kFloat32);
  for (int64_t k = 0; k < weight.numel(); ++k) {
    weight.data_ptr<float>()[k] = static_cast<float>(rng.normal());
  }
  const torch::Tensor rows = weight.view({weight.size(0), -1});
  const bool tall = rows.size(0) > rows.size(1);
  const torch::Tensor q = std::get<0>(torch::linalg_qr(tall ? rows : rows.t().contiguous()));
  convolution.weight.copy_((tall ? q : q.t()).reshape(weight.sizes()));
  convolution.bias.zero_();
  const torch::Tensor raw = output();
  const torch::Tensor root_mean_square = raw.square().mean({0, 2, 3}).sqrt();
  const torch::Tensor spread =
      torch::maximum(raw.std({0, 2, 3}, /*unbiased=*/false), kSmallestSpread * root_mean_square);
  // A filter that sees nothing at all keeps its weights.
  const torch::Tensor scale = torch::where(spread > kTiny, spread, torch::ones_like(spread));
  convolution.weight.div_(scale.view({-1, 1, 1, 1}));
  convolution.bias.copy_(-raw.mean({0, 2, 3}) / scale);
}

}  // namespace efficientad
