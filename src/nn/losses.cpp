#include "efficientad/nn/losses.h"

#include <torch/types.h>

#include "efficientad/nn/quantile.h"

namespace efficientad {

torch::Tensor hard_feature_loss(const torch::Tensor& squared_difference, double q) {
  std::vector<torch::Tensor> chosen;
  for (int64_t i = 0; i < squared_difference.size(0); ++i) {
    // In the order in which channels-last numbers lie, so that they need not be moved.
    const torch::Tensor flat = squared_difference[i].permute({1, 2, 0}).flatten();
    const torch::Tensor threshold = quantile_of(flat, q);
    chosen.push_back(flat.masked_select(flat.detach() >= threshold));
  }
  return torch::cat(chosen).mean();
}

torch::Tensor hard_feature_loss_unsynchronised(const torch::Tensor& squared_difference, double q) {
  const torch::Tensor flat = squared_difference.flatten(1);
  const torch::Tensor values = flat.detach();
  const QuantilePosition position = quantile_position(flat.size(1), q);
  const auto largest =
      std::get<0>(torch::topk(values, flat.size(1) - position.lower, /*dim=*/1, /*largest=*/true));
  const auto order = [&](int64_t place) { return largest.narrow(1, flat.size(1) - 1 - place, 1); };
  const torch::Tensor threshold =
      torch::lerp(order(position.lower), order(position.upper), position.weight);
  const torch::Tensor chosen = (values >= threshold).to(flat.scalar_type());
  return (flat * chosen).sum() / chosen.sum();
}

}  // namespace efficientad
