#include "efficientad/nn/statistics.h"

#include <torch/types.h>

namespace efficientad {

void ChannelStatistics::add(const torch::Tensor& features) {
  const int64_t channels = features.size(1);
  const torch::Tensor rows = features.detach().transpose(0, 1).reshape({channels, -1});
  const int64_t added = rows.size(1);
  const torch::Tensor rows64 = rows.to(torch::kFloat64);
  const torch::Tensor mean = rows64.mean(/*dim=*/1);
  merge(added, mean, (rows64 - mean.unsqueeze(1)).square().sum(/*dim=*/1));
}

torch::Tensor ChannelStatistics::state() const {
  TORCH_CHECK(count_ > 0, "statistics of nothing");
  return torch::cat(
      {torch::full({1}, static_cast<double>(count_), mean_.options()), mean_, squares_});
}

void ChannelStatistics::merge(const torch::Tensor& state) {
  const int64_t channels = (state.numel() - 1) / 2;
  const auto count = static_cast<int64_t>(state[0].item<double>());
  if (count > 0)
    merge(count, state.narrow(0, 1, channels), state.narrow(0, 1 + channels, channels));
}

void ChannelStatistics::merge(int64_t added, const torch::Tensor& mean,
                              const torch::Tensor& squares) {
  if (count_ == 0) {
    count_ = added;
    mean_ = mean;
    squares_ = squares;
    return;
  }
  const auto before = static_cast<double>(count_);
  const auto now = static_cast<double>(added);
  const torch::Tensor delta = mean - mean_;
  mean_ = mean_ + delta * (now / (before + now));
  squares_ = squares_ + squares + delta.square() * (before * now / (before + now));
  count_ += added;
}

torch::Tensor ChannelStatistics::mean() const {
  TORCH_CHECK(count_ > 0, "statistics of nothing");
  return mean_.to(torch::kFloat32).view({1, -1, 1, 1});
}

torch::Tensor ChannelStatistics::std() const {
  TORCH_CHECK(count_ > 0, "statistics of nothing");
  constexpr double kLeastStd = 1e-6;
  return (squares_ / static_cast<double>(count_))
      .sqrt()
      .clamp_min(kLeastStd)
      .to(torch::kFloat32)
      .view({1, -1, 1, 1});
}

}  // namespace efficientad
