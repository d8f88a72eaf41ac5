#pragma once

#include <torch/types.h>

#include <cstdint>

namespace efficientad {

/// Mean and population standard deviation of each channel over many tensors, in one numerically
/// safe pass (Chan, Golub and LeVeque 1983: means and squared deviations are merged in float64).
class ChannelStatistics {
 public:
  /// Adds [N, C, h, w].
  void add(const torch::Tensor& features);

  /// What another one of as many channels was given, as it tells by state(), on the same device.
  void merge(const torch::Tensor& state);
  /// float64 [1 + 2 C]: count, means, sums of squared deviations; where the features were.
  torch::Tensor state() const;

  /// float32 [1, C, 1, 1].
  torch::Tensor mean() const;
  /// float32 [1, C, 1, 1]; at least 1e-6, so that a dead channel does not divide by zero.
  torch::Tensor std() const;
  int64_t count() const { return count_; }

 private:
  void merge(int64_t count, const torch::Tensor& mean, const torch::Tensor& squares);

  int64_t count_ = 0;
  torch::Tensor mean_;
  torch::Tensor squares_;
};

}  // namespace efficientad
