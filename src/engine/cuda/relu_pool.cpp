#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/types.h>

#include "efficientad/core/cuda_part.h"
#include "engine/cuda/views.h"

using efficientad::cuda::bias_of;
using efficientad::cuda::element_of;
using efficientad::cuda::view_of;

extern "C" void efficientad_relu_pool_1(const at::Tensor& x, const at::Tensor& bias,
                                        const at::Tensor& to) {
  const c10::cuda::CUDAGuard device(x.get_device());
  C10_CUDA_CHECK(efficientad::cuda::bias_relu_pool(
      element_of(x), view_of(x), /*first_channel=*/0, bias_of(bias, x.size(1)), /*padding=*/0,
      view_of(to), c10::cuda::getCurrentCUDAStream(x.get_device())));
}

extern "C" void efficientad_relu_pool_back_1(const at::Tensor& x, const at::Tensor& bias,
                                             const at::Tensor& gradient,
                                             const at::Tensor& x_gradient,
                                             const at::Tensor& bias_gradient) {
  TORCH_CHECK(x_gradient.sizes() == x.sizes() && x_gradient.strides() == x.strides() &&
                  x_gradient.scalar_type() == x.scalar_type() &&
                  gradient.scalar_type() == x.scalar_type() && bias_gradient.is_contiguous(),
              "gradients of ", x.sizes(), ": ", x_gradient.sizes(), ", ", gradient.sizes());
  const c10::cuda::CUDAGuard device(x.get_device());
  C10_CUDA_CHECK(efficientad::cuda::bias_relu_pool_back(
      element_of(x), view_of(x), bias_of(bias, x.size(1)), view_of(gradient), x_gradient.data_ptr(),
      bias_gradient.data_ptr<float>(), c10::cuda::getCurrentCUDAStream(x.get_device())));
}
