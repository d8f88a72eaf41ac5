#include "efficientad/nn/losses.h"

#include <torch/torch.h>

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

}  // namespace efficientad
