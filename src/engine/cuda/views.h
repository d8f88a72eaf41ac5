#pragma once

#include <torch/types.h>

#include "engine/cuda/kernels.h"

namespace efficientad::cuda {

inline Element element_of(const torch::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case torch::kFloat32:
      return Element::kFloat32;
    case torch::kFloat16:
      return Element::kFloat16;
    case torch::kBFloat16:
      return Element::kBfloat16;
    default:
      TORCH_CHECK(false, "no kernels for ", tensor.scalar_type());
  }
}

inline View view_of(const torch::Tensor& x) {
  TORCH_CHECK(x.is_cuda() && x.dim() == 4 && x.is_contiguous(torch::MemoryFormat::ChannelsLast),
              "expected channels-last activations, was given ", x.sizes(), " ", x.strides());
  return {.data = x.data_ptr(),
          .count = x.size(0),
          .height = x.size(2),
          .width = x.size(3),
          .channels = x.size(1)};
}

inline const float* bias_of(const torch::Tensor& bias, int64_t channels) {
  TORCH_CHECK(bias.is_cuda() && bias.is_contiguous() && bias.numel() == channels, "a bias of ",
              bias.sizes(), " for ", channels, " channels");
  return bias.data_ptr<float>();
}

}  // namespace efficientad::cuda
