#include "efficientad/engine/engine.h"

#include <torch/types.h>

namespace efficientad {

torch::Tensor map_st(const torch::Tensor& normalized_teacher, const torch::Tensor& student) {
  const int64_t channels = normalized_teacher.size(1);
  return (normalized_teacher - student.narrow(1, 0, channels))
      .square()
      .mean(/*dim=*/1, /*keepdim=*/true);
}

torch::Tensor map_ae(const torch::Tensor& autoencoder, const torch::Tensor& student) {
  const int64_t channels = autoencoder.size(1);
  return (autoencoder - student.narrow(1, student.size(1) - channels, channels))
      .square()
      .mean(/*dim=*/1, /*keepdim=*/true);
}

}  // namespace efficientad
