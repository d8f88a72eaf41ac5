#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace efficientad::cuda {

/// Element type of activations and weights; sums are float32 in every case.
enum class Element { kFloat32, kFloat16, kBfloat16 };

/// A channels-last tensor of activations in device memory: [count, height, width, channels].
struct View {
  void* data = nullptr;
  int64_t count = 0;
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 0;
};

// Each of these queues its kernel on the stream and returns the launch's error.

/// Sums of the bytes of each of `count` images. Queues the kernel and, before it, the setting of
/// `sums` to 0.
cudaError_t byte_sums(const uint8_t* images, int64_t count, int64_t image_bytes, uint64_t* sums,
                      cudaStream_t stream);

/// uint8 RGB [count, height, width, 3] to (x / 255 - mean) / std with ImageNet's numbers, and a
/// fourth channel of zeros. With `sums` [count], byte_sums(), x / 255 is first multiplied by its
/// image's exposure_factor_of() and cut at 1.
cudaError_t normalize(Element type, const uint8_t* images, const uint64_t* sums, View to,
                      cudaStream_t stream);

/// In place, relu(x + bias).
cudaError_t bias_relu(Element type, View x, const float* bias, cudaStream_t stream);

/// Means of 2x2 windows, `padding` zeros around them, of relu(x + bias) of the channels of `from`
/// that begin at `first_channel`, as many as `to` has.
cudaError_t bias_relu_pool(Element type, View from, int64_t first_channel, const float* bias,
                           int64_t padding, View to, cudaStream_t stream);

/// What bias_relu_pool() without padding passes back, with as many channels in `from` as in `to`:
/// to `from`'s place, and added to the bias's, float32 [channels]. `from` is as it was then. At
/// most 256 threads share a pixel's channels evenly, or it is refused (cudaErrorInvalidValue).
cudaError_t bias_relu_pool_back(Element type, View from, const float* bias, View gradient,
                                void* from_gradient, float* bias_gradient, cudaStream_t stream);

/// Bilinear resize, corners not aligned, of x + bias, or of relu(x + bias).
cudaError_t bias_upsample(Element type, View from, const float* bias, bool relu, View to,
                          cudaStream_t stream);

/// The first layer of teacher and student in one kernel: 4x4 convolution of the image (4 channels),
/// bias, ReLU, 2x2 mean. float16 or bfloat16 only. `weights`: as pack_first_layer() orders them;
/// `bias` [2 channels], the teacher's first. `padding`: of the convolution; the pool's is one where
/// that is not zero.
cudaError_t first_layer(Element type, View image, const void* weights, const float* bias,
                        int64_t padding, View teacher, View student, cudaStream_t stream);

/// (map - quantile) * scale of both maps, halved and added: what combine_maps() does.
struct MapScale {
  float q_a_st = 0;
  float scale_st = 0;
  float q_a_ae = 0;
  float scale_ae = 0;
};

/// Means over channels of squared differences: of teacher [.., C] and the student's first C
/// channels, and of autoencoder and the student's last C; `bias_st` and `bias_ae` [C] are added to
/// the differences. `st` and `ae`: float32 [count, height, width]; `combined`: float32 [count,
/// height + 2 border, width + 2 border], whose border is left as it is.
cudaError_t maps(Element type, View teacher, View student, View autoencoder, const float* bias_st,
                 const float* bias_ae, MapScale scale, int64_t border, float* st, float* ae,
                 float* combined, cudaStream_t stream);

/// ResizeTaps in device memory.
struct Taps {
  const int32_t* first = nullptr;
  const int32_t* count = nullptr;
  const int32_t* weights = nullptr;
  int32_t stride = 0;
};

/// A pass of resize_pil_bilinear() over RGB bytes: of rows, from [height, from_width, 3] to
/// [height, width, 3]; or, if `vertical`, of columns, from [.., width, 3] (width = from_width).
cudaError_t resize_pass(const uint8_t* from, int64_t from_width, bool vertical, Taps taps,
                        uint8_t* to, int64_t height, int64_t width, cudaStream_t stream);

/// Bilinear resize, corners not aligned, of a map [map_height, map_width]: values to `to` [height,
/// width] unless that is null, and the greatest one's order_of() to `greatest`. Queues the kernel
/// and, before it, the setting of `greatest` to 0.
cudaError_t upsample_map(const float* map, int64_t map_height, int64_t map_width, float* to,
                         int64_t height, int64_t width, uint32_t* greatest, cudaStream_t stream);

}  // namespace efficientad::cuda
