#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "engine/cuda/frame_math.h"
#include "engine/cuda/kernels.h"

namespace efficientad::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;

// --- elements ------------------------------------------------------------------------------------

__device__ float to_float(float x) { return x; }
__device__ float to_float(__half x) { return __half2float(x); }
__device__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

/// NaN stays NaN, so that a map shows it.
__device__ float relu(float x) { return x < 0.0f ? 0.0f : x; }

template <class T>
__device__ T from_float(float x);
template <>
__device__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __half from_float<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

/// What one access of 16 bytes moves.
template <class T>
struct alignas(16) Pack {
  static constexpr int kSize = 16 / sizeof(T);
  T at[kSize];
};

template <class T>
__device__ Pack<T> load(const T* from) {
  return *reinterpret_cast<const Pack<T>*>(from);
}

template <class T>
__device__ void store(T* to, const Pack<T>& pack) {
  *reinterpret_cast<Pack<T>*>(to) = pack;
}

unsigned blocks_for(int64_t threads) {
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

template <class Function>
cudaError_t for_element(Element type, Function function) {
  switch (type) {
    case Element::kFloat32:
      function(float());
      break;
    case Element::kFloat16:
      function(__half());
      break;
    case Element::kBfloat16:
      function(__nv_bfloat16());
      break;
  }
  return cudaGetLastError();
}

// --- element-wise kernels ------------------------------------------------------------------------

/// Grid: x the blocks of an image, y the images.
__global__ void byte_sums_kernel(const uint8_t* __restrict__ images, int64_t image_bytes,
                                 unsigned long long* __restrict__ sums) {
  __shared__ unsigned long long of_warps[kThreads / kWarp];
  const uint8_t* const image = images + blockIdx.y * image_bytes;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  unsigned long long sum = 0;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < image_bytes;
       i += step) {
    sum += image[i];
  }
  constexpr unsigned kAll = 0xffffffffu;
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kAll, sum, lanes);
  if (threadIdx.x % kWarp == 0) of_warps[threadIdx.x / kWarp] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int warp = 1; warp < kThreads / kWarp; ++warp) sum += of_warps[warp];
  atomicAdd(sums + blockIdx.y, sum);
}

template <class T>
__global__ void normalize_kernel(const uint8_t* __restrict__ images,
                                 const uint64_t* __restrict__ sums, int64_t image_pixels,
                                 T* __restrict__ to, int64_t pixels) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= pixels) return;
  constexpr float kMean[3] = {0.485f, 0.456f, 0.406f};
  constexpr float kStd[3] = {0.229f, 0.224f, 0.225f};
  const float factor =
      sums == nullptr ? 1.0f : exposure_factor_of(sums[i / image_pixels], 3 * image_pixels);
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    const float value = fminf(static_cast<float>(images[3 * i + c]) / 255.0f * factor, 1.0f);
    to[4 * i + c] = from_float<T>((value - kMean[c]) / kStd[c]);
  }
  to[4 * i + 3] = from_float<T>(0.0f);
}

template <class T>
__global__ void bias_relu_kernel(T* __restrict__ x, const float* __restrict__ bias, int channels,
                                 int64_t packs) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= packs) return;
  constexpr int kSize = Pack<T>::kSize;
  const int c = static_cast<int>(i * kSize % channels);
  Pack<T> pack = load(x + i * kSize);
#pragma unroll
  for (int k = 0; k < kSize; ++k) {
    pack.at[k] = from_float<T>(relu(to_float(pack.at[k]) + bias[c + k]));
  }
  store(x + i * kSize, pack);
}

template <class T>
__global__ void bias_relu_pool_kernel(const T* __restrict__ from, const float* __restrict__ bias,
                                      T* __restrict__ to, int from_height, int from_width,
                                      int from_channels, int first_channel, int padding, int height,
                                      int width, int channels, int64_t packs) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= packs) return;
  constexpr int kSize = Pack<T>::kSize;
  const int per_pixel = channels / kSize;
  const int c = static_cast<int>(i % per_pixel) * kSize;
  int64_t pixel = i / per_pixel;
  const int x = static_cast<int>(pixel % width);
  pixel /= width;
  const int y = static_cast<int>(pixel % height);
  const int64_t n = pixel / height;
  float sums[kSize] = {};
#pragma unroll
  for (int dy = 0; dy < 2; ++dy) {
#pragma unroll
    for (int dx = 0; dx < 2; ++dx) {
      const int at_y = 2 * y - padding + dy;
      const int at_x = 2 * x - padding + dx;
      if (at_y < 0 || at_y >= from_height || at_x < 0 || at_x >= from_width) continue;
      const Pack<T> pack =
          load(from + ((n * from_height + at_y) * from_width + at_x) * from_channels +
               first_channel + c);
#pragma unroll
      for (int k = 0; k < kSize; ++k) sums[k] += relu(to_float(pack.at[k]) + bias[c + k]);
    }
  }
  Pack<T> result;
#pragma unroll
  for (int k = 0; k < kSize; ++k) result.at[k] = from_float<T>(0.25f * sums[k]);
  store(to + i * kSize, result);
}

/// A thread has the same channels of many pixels, so that it can sum up the bias's gradient.
template <class T>
__global__ void bias_relu_pool_back_kernel(const T* __restrict__ from,
                                           const float* __restrict__ bias,
                                           const T* __restrict__ gradient, T* __restrict__ to,
                                           float* __restrict__ bias_gradient, int height, int width,
                                           int channels, int pooled_height, int pooled_width,
                                           int64_t cells) {
  constexpr int kSize = Pack<T>::kSize;
  extern __shared__ float sums_of_block[];
  for (int c = static_cast<int>(threadIdx.x); c < channels; c += kThreads) sums_of_block[c] = 0;
  __syncthreads();
  const int per_pixel = channels / kSize;
  const int c = static_cast<int>(threadIdx.x) % per_pixel * kSize;
  const int lanes = kThreads / per_pixel;
  // Cells of 2x2, those at the lower and right edge included that no pooled value comes of.
  const int cells_y = (height + 1) / 2;
  const int cells_x = (width + 1) / 2;
  float biases[kSize];
  float sums[kSize] = {};
#pragma unroll
  for (int k = 0; k < kSize; ++k) biases[k] = bias[c + k];
  for (int64_t cell = static_cast<int64_t>(blockIdx.x) * lanes + threadIdx.x / per_pixel;
       cell < cells; cell += static_cast<int64_t>(gridDim.x) * lanes) {
    const int x = static_cast<int>(cell % cells_x);
    const int y = static_cast<int>(cell / cells_x % cells_y);
    const int64_t n = cell / (static_cast<int64_t>(cells_x) * cells_y);
    const bool pooled = y < pooled_height && x < pooled_width;
    float g[kSize] = {};
    if (pooled) {
      const Pack<T> pack =
          load(gradient + ((n * pooled_height + y) * pooled_width + x) * channels + c);
#pragma unroll
      for (int k = 0; k < kSize; ++k) g[k] = 0.25f * to_float(pack.at[k]);
    }
#pragma unroll
    for (int dy = 0; dy < 2; ++dy) {
#pragma unroll
      for (int dx = 0; dx < 2; ++dx) {
        if (2 * y + dy >= height || 2 * x + dx >= width) continue;
        const int64_t at = ((n * height + 2 * y + dy) * width + 2 * x + dx) * channels + c;
        const Pack<T> pack = load(from + at);
        Pack<T> result;
#pragma unroll
        for (int k = 0; k < kSize; ++k) {
          const float value = to_float(pack.at[k]) + biases[k] <= 0.0f ? 0.0f : g[k];
          sums[k] += value;
          result.at[k] = from_float<T>(value);
        }
        store(to + at, result);
      }
    }
  }
#pragma unroll
  for (int k = 0; k < kSize; ++k) atomicAdd(sums_of_block + c + k, sums[k]);
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < channels; i += kThreads) {
    atomicAdd(bias_gradient + i, sums_of_block[i]);
  }
}

template <class T, bool kRelu>
__global__ void bias_upsample_kernel(const T* __restrict__ from, const float* __restrict__ bias,
                                     T* __restrict__ to, int from_height, int from_width,
                                     int height, int width, int channels, int64_t packs) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= packs) return;
  constexpr int kSize = Pack<T>::kSize;
  const int per_pixel = channels / kSize;
  const int c = static_cast<int>(i % per_pixel) * kSize;
  int64_t pixel = i / per_pixel;
  const int x = static_cast<int>(pixel % width);
  pixel /= width;
  const int y = static_cast<int>(pixel % height);
  const int64_t n = pixel / height;
  const Source row =
      source(y, from_height, static_cast<float>(from_height) / static_cast<float>(height));
  const Source column =
      source(x, from_width, static_cast<float>(from_width) / static_cast<float>(width));
  const int ys[2] = {row.first, row.second};
  const int xs[2] = {column.first, column.second};
  const float y_weights[2] = {1 - row.weight, row.weight};
  const float x_weights[2] = {1 - column.weight, column.weight};
  float sums[kSize] = {};
#pragma unroll
  for (int j = 0; j < 2; ++j) {
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const Pack<T> pack =
          load(from + ((n * from_height + ys[j]) * from_width + xs[k]) * channels + c);
      const float weight = y_weights[j] * x_weights[k];
#pragma unroll
      for (int e = 0; e < kSize; ++e) {
        const float value = to_float(pack.at[e]) + bias[c + e];
        sums[e] += weight * (kRelu ? relu(value) : value);
      }
    }
  }
  Pack<T> result;
#pragma unroll
  for (int e = 0; e < kSize; ++e) result.at[e] = from_float<T>(sums[e]);
  store(to + i * kSize, result);
}

/// One warp a pixel.
template <class T>
__global__ void maps_kernel(const T* __restrict__ teacher, const T* __restrict__ student,
                            const T* __restrict__ autoencoder, const float* __restrict__ bias_st,
                            const float* __restrict__ bias_ae, MapScale scale, int height,
                            int width, int channels, int border, int64_t pixels,
                            float* __restrict__ st, float* __restrict__ ae,
                            float* __restrict__ combined) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
  if (i >= pixels) return;
  constexpr int kSize = Pack<T>::kSize;
  const T* const of_teacher = teacher + i * channels;
  const T* const of_student = student + 2 * i * channels;
  const T* const of_autoencoder = autoencoder + i * channels;
  float sum_st = 0;
  float sum_ae = 0;
  for (int c = static_cast<int>(threadIdx.x % kWarp) * kSize; c < channels; c += kWarp * kSize) {
    const Pack<T> t = load(of_teacher + c);
    const Pack<T> s = load(of_student + c);
    const Pack<T> a = load(of_autoencoder + c);
    const Pack<T> s_ae = load(of_student + channels + c);
#pragma unroll
    for (int k = 0; k < kSize; ++k) {
      const float of_st = to_float(t.at[k]) - to_float(s.at[k]) + bias_st[c + k];
      const float of_ae = to_float(a.at[k]) - to_float(s_ae.at[k]) + bias_ae[c + k];
      sum_st += of_st * of_st;
      sum_ae += of_ae * of_ae;
    }
  }
#pragma unroll
  for (int lane = kWarp / 2; lane > 0; lane /= 2) {
    sum_st += __shfl_xor_sync(0xffffffffu, sum_st, lane);
    sum_ae += __shfl_xor_sync(0xffffffffu, sum_ae, lane);
  }
  if (threadIdx.x % kWarp != 0) return;
  const float mean_st = sum_st / static_cast<float>(channels);
  const float mean_ae = sum_ae / static_cast<float>(channels);
  st[i] = mean_st;
  ae[i] = mean_ae;
  const int64_t row = i / width;
  const int64_t x = i % width;
  const int64_t n = row / height;
  const int64_t y = row % height;
  combined[(n * (height + 2 * border) + y + border) * (width + 2 * border) + x + border] =
      0.5f * ((mean_st - scale.q_a_st) * scale.scale_st) +
      0.5f * ((mean_ae - scale.q_a_ae) * scale.scale_ae);
}

// --- the first layer -----------------------------------------------------------------------------

// A block makes 16 x 8 pooled outputs (32 x 16 of the convolution) of 256 channels; each of its 8
// warps 8 x 2 of them. As a matrix product, a warp's rows are 16 neighbouring outputs of the
// convolution, columns are channels, and a row of the 4x4 window over 4 channels is one step of 16
// along the sum. Rows of the matrix are ordered so that a thread holds both columns of a 2x2
// window; channels so that it holds eight neighbouring ones.
constexpr int kBlockChannels = 256;
constexpr int kGroup = 32;          // channels between two stores
constexpr int kTiles = kGroup / 8;  // of the matrix product in a group
constexpr int kWindow = 4;
constexpr int kPooledWidth = 16;
constexpr int kPooledHeight = 8;
constexpr int kPatchWidth = 2 * kPooledWidth + kWindow;  // one more than needed, for alignment
constexpr int kPatchHeight = 2 * kPooledHeight + kWindow - 1;
constexpr int kWeightWords = kBlockChannels * 64 / 2;

template <class T>
__device__ void multiply(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

template <>
__device__ void multiply<__half>(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0,
                                 uint32_t b1) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(b0));
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

template <>
__device__ void multiply<__nv_bfloat16>(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0,
                                        uint32_t b1) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

struct FirstLayer {
  const void* image;
  const uint32_t* weights;
  const float* bias;
  void* teacher;
  void* student;
  int count;
  int height;
  int width;
  int conv_height;
  int conv_width;
  int pooled_height;
  int pooled_width;
  int channels;  // of each network
  int padding;
  int pool_padding;
};

template <class T, bool kPadded>
__global__ void __launch_bounds__(kThreads, 2) first_layer_kernel(FirstLayer layer) {
  __shared__ alignas(16) uint32_t weights[kWeightWords];
  __shared__ alignas(16) uint2 patch[kPatchHeight * kPatchWidth];  // 4 channels a pixel

  const int first_channel = static_cast<int>(blockIdx.y) * kBlockChannels;
  {
    const auto* from = reinterpret_cast<const uint4*>(layer.weights + blockIdx.y * kWeightWords);
    for (int i = static_cast<int>(threadIdx.x); i < kWeightWords / 4; i += kThreads) {
      reinterpret_cast<uint4*>(weights)[i] = from[i];
    }
  }
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int quad = lane / 4;
  const int in_quad = lane % 4;
  const int warp_x = warp % 2 * 8;  // of pooled outputs
  const int warp_y = warp / 2 * 2;
  const int tiles_x = (layer.pooled_width + kPooledWidth - 1) / kPooledWidth;
  const int tiles_y = (layer.pooled_height + kPooledHeight - 1) / kPooledHeight;
  const int tiles = tiles_x * tiles_y * layer.count;

  for (int tile = static_cast<int>(blockIdx.x); tile < tiles; tile += static_cast<int>(gridDim.x)) {
    const int pooled_x = tile % tiles_x * kPooledWidth;
    const int pooled_y = tile / tiles_x % tiles_y * kPooledHeight;
    const int n = tile / (tiles_x * tiles_y);
    const int from_x = 2 * pooled_x - layer.pool_padding - layer.padding;
    const int from_y = 2 * pooled_y - layer.pool_padding - layer.padding;
    __syncthreads();  // The patch before is no longer needed.
    const auto* image = static_cast<const uint2*>(layer.image) +
                        static_cast<int64_t>(n) * layer.height * layer.width;
    for (int i = static_cast<int>(threadIdx.x); i < kPatchHeight * kPatchWidth; i += kThreads) {
      const int y = from_y + i / kPatchWidth;
      const int x = from_x + i % kPatchWidth;
      const bool inside = y >= 0 && y < layer.height && x >= 0 && x < layer.width;
      patch[i] = inside ? image[static_cast<int64_t>(y) * layer.width + x] : make_uint2(0, 0);
    }
    __syncthreads();

    // Row r of the warp's patch against the 16 outputs above each of its windows.
    uint32_t a[2 * 2 + kWindow - 1][4];
    const auto* words = reinterpret_cast<const uint32_t*>(patch);
#pragma unroll
    for (int r = 0; r < 2 * 2 + kWindow - 1; ++r) {
      const int pixel = (2 * warp_y + r) * kPatchWidth + 2 * (warp_x + quad);
#pragma unroll
      for (int k = 0; k < 4; ++k) a[r][k] = words[2 * pixel + in_quad + 2 * k];
    }

    const int x = pooled_x + warp_x + quad;
    const int y = pooled_y + warp_y;
    for (int group = 0; group < kBlockChannels / kGroup; ++group) {
      const int channel = first_channel + group * kGroup + 8 * in_quad;
      float sums[2][2][kTiles][4] = {};  // pooled row, row of it, tile
#pragma unroll
      for (int tile_of_group = 0; tile_of_group < kTiles; ++tile_of_group) {
        const auto* b = reinterpret_cast<const uint4*>(weights) +
                        (group * kTiles + tile_of_group) * 2 * kWarp + lane;
        const uint4 low = b[0];
        const uint4 high = b[kWarp];
        const uint32_t b0[kWindow] = {low.x, low.z, high.x, high.z};
        const uint32_t b1[kWindow] = {low.y, low.w, high.y, high.w};
#pragma unroll
        for (int k = 0; k < kWindow; ++k) {
#pragma unroll
          for (int p = 0; p < 2; ++p) {
#pragma unroll
            for (int r = 0; r < 2; ++r) {
              multiply<T>(sums[p][r][tile_of_group], a[2 * p + r + k], b0[k], b1[k]);
            }
          }
        }
      }
      if (x >= layer.pooled_width) continue;
      const bool of_student = channel >= layer.channels;
      T* const to = static_cast<T*>(of_student ? layer.student : layer.teacher);
      const int to_channel = of_student ? channel - layer.channels : channel;
#pragma unroll
      for (int p = 0; p < 2; ++p) {
        if (y + p >= layer.pooled_height) continue;
        Pack<T> result;
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          const float bias = layer.bias[channel + e];
          float sum = 0;
#pragma unroll
          for (int r = 0; r < 2; ++r) {
#pragma unroll
            for (int column = 0; column < 2; ++column) {
              const float value = relu(sums[p][r][e / 2][2 * column + e % 2] + bias);
              if (kPadded) {
                const int conv_y = 2 * (y + p) - layer.pool_padding + r;
                const int conv_x = 2 * x - layer.pool_padding + column;
                const bool inside = conv_y >= 0 && conv_y < layer.conv_height && conv_x >= 0 &&
                                    conv_x < layer.conv_width;
                sum += inside ? value : 0.0f;
              } else {
                sum += value;
              }
            }
          }
          result.at[e] = from_float<T>(0.25f * sum);
        }
        store(
            to +
                ((static_cast<int64_t>(n) * layer.pooled_height + y + p) * layer.pooled_width + x) *
                    layer.channels +
                to_channel,
            result);
      }
    }
  }
}

int multiprocessors() {
  int device = 0;
  int count = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess) {
    return 1;
  }
  return count;
}

// --- frames --------------------------------------------------------------------------------------

__global__ void resize_kernel(const uint8_t* __restrict__ from, int64_t from_width, bool vertical,
                              Taps taps, uint8_t* __restrict__ to, int64_t width, int64_t pixels) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= pixels) return;
  const int64_t x = i % width;
  const int64_t y = i / width;
  const int64_t at = vertical ? y : x;
  const int64_t first = taps.first[at];
  const int64_t pixel = vertical ? first * from_width + x : y * from_width + first;
  weighted_pixel(from + 3 * pixel, vertical ? 3 * from_width : 3, taps.count[at],
                 taps.weights + at * taps.stride, to + 3 * i);
}

__global__ void upsample_map_kernel(const float* __restrict__ map, int map_height, int map_width,
                                    float* __restrict__ to, int height, int width, int64_t pixels,
                                    uint32_t* greatest) {
  __shared__ uint32_t of_warps[kThreads / kWarp];
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  uint32_t order = 0;
  if (i < pixels) {
    const Source row = source(static_cast<int>(i / width), map_height,
                              static_cast<float>(map_height) / static_cast<float>(height));
    const Source column = source(static_cast<int>(i % width), map_width,
                                 static_cast<float>(map_width) / static_cast<float>(width));
    const float value = between_cells(map, map_width, row, column);
    if (to != nullptr) to[i] = value;
    order = order_of(value);
  }
  constexpr unsigned kAll = 0xffffffffu;
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
    order = max(order, __shfl_xor_sync(kAll, order, lanes));
  }
  if (threadIdx.x % kWarp == 0) of_warps[threadIdx.x / kWarp] = order;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int warp = 1; warp < kThreads / kWarp; ++warp) order = max(order, of_warps[warp]);
  atomicMax(greatest, order);
}

}  // namespace

cudaError_t byte_sums(const uint8_t* images, int64_t count, int64_t image_bytes, uint64_t* sums,
                      cudaStream_t stream) {
  const cudaError_t error =
      cudaMemsetAsync(sums, 0, static_cast<size_t>(count) * sizeof(*sums), stream);
  if (error != cudaSuccess) return error;
  // Each block does one atomic addition: so not too many of them.
  constexpr int64_t kBytesAThread = 16;
  const dim3 blocks(blocks_for((image_bytes + kBytesAThread - 1) / kBytesAThread),
                    static_cast<unsigned>(count));
  byte_sums_kernel<<<blocks, kThreads, 0, stream>>>(images, image_bytes,
                                                    reinterpret_cast<unsigned long long*>(sums));
  return cudaGetLastError();
}

cudaError_t normalize(Element type, const uint8_t* images, const uint64_t* sums, View to,
                      cudaStream_t stream) {
  const int64_t pixels = to.count * to.height * to.width;
  return for_element(type, [&](auto zero) {
    using T = decltype(zero);
    normalize_kernel<T><<<blocks_for(pixels), kThreads, 0, stream>>>(
        images, sums, to.height * to.width, static_cast<T*>(to.data), pixels);
  });
}

cudaError_t bias_relu(Element type, View x, const float* bias, cudaStream_t stream) {
  return for_element(type, [&](auto zero) {
    using T = decltype(zero);
    const int64_t packs = x.count * x.height * x.width * x.channels / Pack<T>::kSize;
    bias_relu_kernel<T><<<blocks_for(packs), kThreads, 0, stream>>>(
        static_cast<T*>(x.data), bias, static_cast<int>(x.channels), packs);
  });
}

cudaError_t bias_relu_pool(Element type, View from, int64_t first_channel, const float* bias,
                           int64_t padding, View to, cudaStream_t stream) {
  return for_element(type, [&](auto zero) {
    using T = decltype(zero);
    const int64_t packs = to.count * to.height * to.width * to.channels / Pack<T>::kSize;
    bias_relu_pool_kernel<T><<<blocks_for(packs), kThreads, 0, stream>>>(
        static_cast<const T*>(from.data), bias, static_cast<T*>(to.data),
        static_cast<int>(from.height), static_cast<int>(from.width),
        static_cast<int>(from.channels), static_cast<int>(first_channel), static_cast<int>(padding),
        static_cast<int>(to.height), static_cast<int>(to.width), static_cast<int>(to.channels),
        packs);
  });
}

cudaError_t bias_relu_pool_back(Element type, View from, const float* bias, View gradient,
                                void* from_gradient, float* bias_gradient, cudaStream_t stream) {
  const int64_t cells = from.count * ((from.height + 1) / 2) * ((from.width + 1) / 2);
  const int64_t per_pixel = from.channels / (type == Element::kFloat32 ? 4 : 8);
  if (per_pixel == 0 || kThreads % per_pixel != 0 || from.channels != gradient.channels ||
      gradient.height != from.height / 2 || gradient.width != from.width / 2) {
    return cudaErrorInvalidValue;
  }
  return for_element(type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int64_t kBlocksAMultiprocessor = 8;
    const int64_t most = kBlocksAMultiprocessor * multiprocessors();
    const int64_t wanted = (cells * per_pixel + kThreads - 1) / kThreads;
    bias_relu_pool_back_kernel<T><<<static_cast<unsigned>(wanted < most ? wanted : most), kThreads,
                                    static_cast<size_t>(from.channels) * sizeof(float), stream>>>(
        static_cast<const T*>(from.data), bias, static_cast<const T*>(gradient.data),
        static_cast<T*>(from_gradient), bias_gradient, static_cast<int>(from.height),
        static_cast<int>(from.width), static_cast<int>(from.channels),
        static_cast<int>(gradient.height), static_cast<int>(gradient.width), cells);
  });
}

cudaError_t bias_upsample(Element type, View from, const float* bias, bool relu, View to,
                          cudaStream_t stream) {
  return for_element(type, [&](auto zero) {
    using T = decltype(zero);
    const int64_t packs = to.count * to.height * to.width * to.channels / Pack<T>::kSize;
    const auto kernel = relu ? bias_upsample_kernel<T, true> : bias_upsample_kernel<T, false>;
    kernel<<<blocks_for(packs), kThreads, 0, stream>>>(
        static_cast<const T*>(from.data), bias, static_cast<T*>(to.data),
        static_cast<int>(from.height), static_cast<int>(from.width), static_cast<int>(to.height),
        static_cast<int>(to.width), static_cast<int>(to.channels), packs);
  });
}

cudaError_t first_layer(Element type, View image, const void* weights, const float* bias,
                        int64_t padding, View teacher, View student, cudaStream_t stream) {
  FirstLayer layer = {};
  layer.image = image.data;
  layer.weights = static_cast<const uint32_t*>(weights);
  layer.bias = bias;
  layer.teacher = teacher.data;
  layer.student = student.data;
  layer.count = static_cast<int>(image.count);
  layer.height = static_cast<int>(image.height);
  layer.width = static_cast<int>(image.width);
  layer.conv_height = static_cast<int>(image.height + 2 * padding - kWindow + 1);
  layer.conv_width = static_cast<int>(image.width + 2 * padding - kWindow + 1);
  layer.pooled_height = static_cast<int>(teacher.height);
  layer.pooled_width = static_cast<int>(teacher.width);
  layer.channels = static_cast<int>(teacher.channels);
  layer.padding = static_cast<int>(padding);
  layer.pool_padding = padding > 0 ? 1 : 0;
  if (2 * layer.channels % kBlockChannels != 0 || type == Element::kFloat32) {
    return cudaErrorInvalidValue;
  }
  const int parts = 2 * layer.channels / kBlockChannels;
  const int tiles = (layer.pooled_width + kPooledWidth - 1) / kPooledWidth *
                    ((layer.pooled_height + kPooledHeight - 1) / kPooledHeight) * layer.count;
  const int wanted = 2 * multiprocessors() / parts;
  const dim3 grid(static_cast<unsigned>(tiles < wanted ? tiles : (wanted < 1 ? 1 : wanted)),
                  static_cast<unsigned>(parts));
  const auto launch = [&](auto zero) {
    using T = decltype(zero);
    if (padding > 0) {
      first_layer_kernel<T, true><<<grid, kThreads, 0, stream>>>(layer);
    } else {
      first_layer_kernel<T, false><<<grid, kThreads, 0, stream>>>(layer);
    }
  };
  if (type == Element::kFloat16) {
    launch(__half());
  } else {
    launch(__nv_bfloat16());
  }
  return cudaGetLastError();
}

cudaError_t maps(Element type, View teacher, View student, View autoencoder, const float* bias_st,
                 const float* bias_ae, MapScale scale, int64_t border, float* st, float* ae,
                 float* combined, cudaStream_t stream) {
  const int64_t pixels = teacher.count * teacher.height * teacher.width;
  if (student.channels != 2 * teacher.channels) return cudaErrorInvalidValue;
  return for_element(type, [&](auto zero) {
    using T = decltype(zero);
    maps_kernel<T><<<blocks_for(pixels * kWarp), kThreads, 0, stream>>>(
        static_cast<const T*>(teacher.data), static_cast<const T*>(student.data),
        static_cast<const T*>(autoencoder.data), bias_st, bias_ae, scale,
        static_cast<int>(teacher.height), static_cast<int>(teacher.width),
        static_cast<int>(teacher.channels), static_cast<int>(border), pixels, st, ae, combined);
  });
}

cudaError_t resize_pass(const uint8_t* from, int64_t from_width, bool vertical, Taps taps,
                        uint8_t* to, int64_t height, int64_t width, cudaStream_t stream) {
  const int64_t pixels = height * width;
  resize_kernel<<<blocks_for(pixels), kThreads, 0, stream>>>(from, from_width, vertical, taps, to,
                                                             width, pixels);
  return cudaGetLastError();
}

cudaError_t upsample_map(const float* map, int64_t map_height, int64_t map_width, float* to,
                         int64_t height, int64_t width, uint32_t* greatest, cudaStream_t stream) {
  const cudaError_t error = cudaMemsetAsync(greatest, 0, sizeof(*greatest), stream);
  if (error != cudaSuccess) return error;
  const int64_t pixels = height * width;
  upsample_map_kernel<<<blocks_for(pixels), kThreads, 0, stream>>>(
      map, static_cast<int>(map_height), static_cast<int>(map_width), to, static_cast<int>(height),
      static_cast<int>(width), pixels, greatest);
  return cudaGetLastError();
}

}  // namespace efficientad::cuda
