// Compiled once for each instruction set by Highway's foreach_target.h.
#include "nn/cpu/convolution_kernels.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "nn/cpu/convolution_kernels.cpp"
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2)
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "nn/cpu/blocks-inl.h"
#include "nn/cpu/instruction_sets.h"

HWY_BEFORE_NAMESPACE();
namespace efficientad::cpu {
namespace HWY_NAMESPACE {
namespace {

TileChunk MakeTileChunk(int64_t first, int64_t count, int64_t inputs) {
  // A line more than a power of two, so that tiles and positions do not fall into one cache set.
  TileChunk chunk;
  chunk.first = first;
  chunk.count = count;
  chunk.input_tile = inputs + kLine;
  chunk.input_position = count * chunk.input_tile + kLine;
  chunk.product_position = count * kPanel + kLine;
  return chunk;
}

/// Rows of Cook-Toom's G for the points 0, 1, -1, 2, -2, 1/2, -1/2 and infinity.
constexpr float kG4[kTile][4] = {{1.0f, 0.0f, 0.0f, 0.0f},
                                 {-2.0f / 9, -2.0f / 9, -2.0f / 9, -2.0f / 9},
                                 {-2.0f / 9, 2.0f / 9, -2.0f / 9, 2.0f / 9},
                                 {1.0f / 90, 1.0f / 45, 2.0f / 45, 4.0f / 45},
                                 {1.0f / 90, -1.0f / 45, 2.0f / 45, -4.0f / 45},
                                 {32.0f / 45, 16.0f / 45, 8.0f / 45, 4.0f / 45},
                                 {32.0f / 45, -16.0f / 45, 8.0f / 45, -4.0f / 45},
                                 {0.0f, 0.0f, 0.0f, 1.0f}};

template <int kKernel>
constexpr float G(int row, int column) {
  if (row == kTile - 1) return column == kKernel - 1 ? 1.0f : 0.0f;
  return kG4[row][column];
}

/// to = G from, or with the transposed G.
template <int kKernel>
HWY_INLINE void TransformKernel(const V (&from)[kKernel], V (&to)[kTile]) {
#pragma GCC unroll 8
  for (int i = 0; i < kTile; ++i) {
    to[i] = hn::Zero(D());
#pragma GCC unroll 4
    for (int k = 0; k < kKernel; ++k) {
      if (G<kKernel>(i, k) != 0) to[i] = hn::MulAdd(Number(G<kKernel>(i, k)), from[k], to[i]);
    }
  }
}

template <int kKernel>
HWY_INLINE void TransformKernelBack(const V (&from)[kTile], V (&to)[kKernel]) {
#pragma GCC unroll 4
  for (int k = 0; k < kKernel; ++k) {
    to[k] = hn::Zero(D());
#pragma GCC unroll 8
    for (int i = 0; i < kTile; ++i) {
      if (G<kKernel>(i, k) != 0) to[k] = hn::MulAdd(Number(G<kKernel>(i, k)), from[i], to[k]);
    }
  }
}

template <int kKernel>
void TransformWeightsOf(const float* weights, int64_t inputs, int64_t outputs, int64_t panel,
                        float* packed) {
  HWY_ALIGN float between[kTile * kKernel * kLanes];
  const int64_t place = inputs * outputs;
  for (int64_t input = 0; input < inputs; ++input) {
    for (int64_t c = 0; c < kPanel; c += kLanes) {
      const float* const from = weights + input * outputs + panel * kPanel + c;
      V t[kTile];
      for (int column = 0; column < kKernel; ++column) {
        V w[kKernel];
#pragma GCC unroll 4
        for (int row = 0; row < kKernel; ++row)
          w[row] = Load(from + (row * kKernel + column) * place);
        TransformKernel<kKernel>(w, t);
#pragma GCC unroll 8
        for (int row = 0; row < kTile; ++row)
          Store(t[row], between + (row * kKernel + column) * kLanes);
      }
      for (int row = 0; row < kTile; ++row) {
        V w[kKernel];
#pragma GCC unroll 4
        for (int column = 0; column < kKernel; ++column) {
          w[column] = Load(between + (row * kKernel + column) * kLanes);
        }
        TransformKernel<kKernel>(w, t);
#pragma GCC unroll 8
        for (int column = 0; column < kTile; ++column) {
          Store(t[column], packed + ((row * kTile + column) * inputs + input) * kPanel + c);
        }
      }
    }
  }
}

template <int kKernel>
void FinishWeightsOf(float* weights, int64_t inputs, int64_t outputs, int64_t panel,
                     const float* packed) {
  HWY_ALIGN float between[kKernel * kTile * kLanes];
  const int64_t place = inputs * outputs;
  for (int64_t input = 0; input < inputs; ++input) {
    for (int64_t c = 0; c < kPanel; c += kLanes) {
      V t[kTile];
      V w[kKernel];
      for (int column = 0; column < kTile; ++column) {
#pragma GCC unroll 8
        for (int row = 0; row < kTile; ++row) {
          t[row] = Load(packed + ((row * kTile + column) * inputs + input) * kPanel + c);
        }
        TransformKernelBack<kKernel>(t, w);
#pragma GCC unroll 4
        for (int row = 0; row < kKernel; ++row)
          Store(w[row], between + (row * kTile + column) * kLanes);
      }
      float* const to = weights + input * outputs + panel * kPanel + c;
      for (int row = 0; row < kKernel; ++row) {
#pragma GCC unroll 8
        for (int column = 0; column < kTile; ++column) {
          t[column] = Load(between + (row * kTile + column) * kLanes);
        }
        TransformKernelBack<kKernel>(t, w);
#pragma GCC unroll 4
        for (int column = 0; column < kKernel; ++column) {
          Store(w[column], to + (row * kKernel + column) * place);
        }
      }
    }
  }
}

/// Where a tile's outputs begin.
struct TilePlace {
  int64_t image;
  int64_t y;
  int64_t x;
};

TilePlace PlaceOf(const Tiling& tiling, int64_t tile) {
  const int64_t tiles_x = tiling.tiles_x();
  const int64_t of_image = tiling.tiles_y() * tiles_x;
  const int64_t inside = tile % of_image;
  return {tile / of_image, inside / tiles_x * tiling.side(), inside % tiles_x * tiling.side()};
}

void TransformTileInputs(const Images& from, const Tiling& tiling, const TileChunk& chunk,
                         int64_t begin, int64_t end, float* inputs) {
  const auto inside = [&](const TilePlace& at) {
    return at.y >= 0 && at.x >= 0 && at.y + kTile <= from.height && at.x + kTile <= from.width;
  };
  const auto place = [&](int64_t tile) {
    TilePlace at = PlaceOf(tiling, chunk.first + tile);
    at.y -= tiling.padding;
    at.x -= tiling.padding;
    return at;
  };
  // A tile at the border, with zeros around the image, a part of the channels at a time.
  constexpr int64_t kRow = kTile * kTransformChannels + kLine;
  HWY_ALIGN float copy[kTile * kRow];
  const int64_t row_stride = from.width * from.channels;
  for (int64_t i = begin; i < end; ++i) {
    const TilePlace at = place(i);
    float* const to = inputs + i * chunk.input_tile;
    if (inside(at)) {
      const float* const here = from.at(at.image, at.y, at.x);
      const TilePlace after = place(std::min(i + 1, end - 1));
      TransformInputTile({here, row_stride, from.channels},
                         inside(after) ? from.at(after.image, after.y, after.x) : here,
                         from.channels, to, chunk.input_position);
      continue;
    }
    const int64_t first_row = std::max<int64_t>(0, -at.y);
    const int64_t last_row = std::min<int64_t>(kTile, from.height - at.y);
    const int64_t first_column = std::max<int64_t>(0, -at.x);
    const int64_t last_column = std::min<int64_t>(kTile, from.width - at.x);
    for (int64_t first = 0; first < from.channels; first += kTransformChannels) {
      const int64_t channels = std::min(kTransformChannels, from.channels - first);
      std::fill_n(copy, kTile * kRow, 0.0f);
      for (int64_t row = first_row; row < last_row; ++row) {
        for (int64_t column = first_column; column < last_column; ++column) {
          std::copy_n(from.at(at.image, at.y + row, at.x + column) + first, channels,
                      copy + row * kRow + column * kTransformChannels);
        }
      }
      TransformInputTile({copy, kRow, kTransformChannels}, copy, channels, to + first,
                         chunk.input_position);
    }
  }
}

template <int kOut>
void TransformProductsOf(const float* products, const Tiling& tiling, const TileChunk& chunk,
                         int64_t begin, int64_t end, const float* bias, const Images& to) {
  HWY_ALIGN float between[kOut * kTile * kLanes];
  HWY_ALIGN float out[kOut * kOut * kLanes];
  for (int64_t i = begin; i < end; ++i) {
    const TilePlace at = PlaceOf(tiling, chunk.first + i);
    const int64_t rows = std::min<int64_t>(kOut, tiling.height - at.y);
    const int64_t columns = std::min<int64_t>(kOut, tiling.width - at.x);
    for (int64_t channel = 0; channel < to.channels; channel += kLanes) {
      TransformTile<kOut>(
          products + channel / kPanel * chunk.product_panel() + i * kPanel + channel % kPanel,
          chunk.product_position, between, out);
      const V add = bias != nullptr ? Load(bias + channel) : hn::Zero(D());
      for (int64_t row = 0; row < rows; ++row) {
        float* const line = to.at(at.image, at.y + row, at.x) + channel;
        for (int64_t column = 0; column < columns; ++column) {
          Store(hn::Add(Load(out + (row * kOut + column) * kLanes), add),
                line + column * to.channels);
        }
      }
    }
  }
}

/// A y: the transpose of TransformOutput().
template <int kOut>
HWY_INLINE void TransformGradient(const V (&y)[kOut], V (&m)[kTile]) {
  const V last4 = kOut == 6 ? y[4] : y[kOut - 1];
  const V last5 = kOut == 6 ? y[kOut - 1] : hn::Zero(D());
  const V even1 = hn::Add(hn::Add(y[0], y[2]), last4);
  const V odd1 = hn::Add(hn::Add(y[1], y[3]), last5);
  const V even2 = hn::MulAdd(Number(16.0f), last4, hn::MulAdd(Number(4.0f), y[2], y[0]));
  const V odd2 =
      hn::MulAdd(Number(32.0f), last5, hn::MulAdd(Number(8.0f), y[3], hn::Mul(Number(2.0f), y[1])));
  const V even3 = hn::MulAdd(Number(0.0625f), last4, hn::MulAdd(Number(0.25f), y[2], y[0]));
  const V odd3 = hn::MulAdd(Number(0.03125f), last5,
                            hn::MulAdd(Number(0.125f), y[3], hn::Mul(Number(0.5f), y[1])));
  m[0] = y[0];
  m[1] = hn::Add(even1, odd1);
  m[2] = hn::Sub(even1, odd1);
  m[3] = hn::Add(even2, odd2);
  m[4] = hn::Sub(even2, odd2);
  m[5] = hn::Add(even3, odd3);
  m[6] = hn::Sub(even3, odd3);
  m[7] = y[kOut - 1];
}

template <int kOut>
void TransformGradientsOf(const Images& from, const Tiling& tiling, const TileChunk& chunk,
                          int64_t begin, int64_t end, float* gradients) {
  HWY_ALIGN float between[kTile * kOut * kLanes];
  for (int64_t i = begin; i < end; ++i) {
    const TilePlace at = PlaceOf(tiling, chunk.first + i);
    const int64_t rows = std::min<int64_t>(kOut, tiling.height - at.y);
    const int64_t columns = std::min<int64_t>(kOut, tiling.width - at.x);
    for (int64_t channel = 0; channel < from.channels; channel += kLanes) {
      V y[kOut];
      V m[kTile];
      for (int64_t column = 0; column < kOut; ++column) {
#pragma GCC unroll 8
        for (int64_t row = 0; row < kOut; ++row) {
          y[row] = row < rows && column < columns
                       ? Load(from.at(at.image, at.y + row, at.x + column) + channel)
                       : hn::Zero(D());
        }
        TransformGradient<kOut>(y, m);
#pragma GCC unroll 8
        for (int64_t row = 0; row < kTile; ++row) {
          Store(m[row], between + (row * kOut + column) * kLanes);
        }
      }
      float* const to =
          gradients + channel / kPanel * chunk.product_panel() + i * kPanel + channel % kPanel;
      for (int64_t row = 0; row < kTile; ++row) {
#pragma GCC unroll 8
        for (int64_t column = 0; column < kOut; ++column) {
          y[column] = Load(between + (row * kOut + column) * kLanes);
        }
        TransformGradient<kOut>(y, m);
#pragma GCC unroll 8
        for (int64_t column = 0; column < kTile; ++column) {
          Store(m[column], to + (row * kTile + column) * chunk.product_position);
        }
      }
    }
  }
}

void MultiplyTileInputs(const float* inputs, const TileChunk& chunk, int64_t position,
                        int64_t count, const float* weights, const float* next, float* products) {
  const float* panel = weights + position * count * kPanel;
  for (int64_t k = 0; k < count; k += kDepth) {
    const Segment part = {k, std::min(kDepth, count - k)};
    const bool last = k + kDepth >= count;
    Rows rows = {.a = inputs + position * chunk.input_position,
                 .a_stride = chunk.input_tile,
                 .segments = &part,
                 .segment_count = 1,
                 .b = panel,
                 .c = products + position * chunk.product_position,
                 .c_stride = kPanel,
                 .accumulate = k > 0,
                 .next = last ? next + position * count * kPanel : panel + part.count * kPanel};
    MultiplyRows(chunk.count, rows, std::min(kDepth, last ? count : count - k - kDepth) * kPanel);
    panel += part.count * kPanel;
  }
}

/// c = a^T b, or c += a^T b, of kRows columns of a and a panel of b.
template <int kRows>
void MultiplyColumns(const float* HWY_RESTRICT a, int64_t a_stride, const float* HWY_RESTRICT b,
                     int64_t count, float* HWY_RESTRICT c, bool accumulate) {
  V left[kRows];
  V right[kRows];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    left[i] = accumulate ? Load(c + i * kPanel) : hn::Zero(D());
    right[i] = accumulate ? Load(c + i * kPanel + kLanes) : hn::Zero(D());
  }
  for (int64_t k = 0; k < count; ++k) {
    const V b_left = Load(b);
    const V b_right = Load(b + kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const V x = Number(a[i]);
      left[i] = hn::MulAdd(x, b_left, left[i]);
      right[i] = hn::MulAdd(x, b_right, right[i]);
    }
    a += a_stride;
    b += kPanel;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    Store(left[i], c + i * kPanel);
    Store(right[i], c + i * kPanel + kLanes);
  }
}

constexpr void (*kMultiplyColumns[])(const float*, int64_t, const float*, int64_t, float*, bool) = {
    MultiplyColumns<1>,  MultiplyColumns<2>,  MultiplyColumns<3>,  MultiplyColumns<4>,
    MultiplyColumns<5>,  MultiplyColumns<6>,
#if HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON
    MultiplyColumns<7>,  MultiplyColumns<8>,  MultiplyColumns<9>,  MultiplyColumns<10>,
    MultiplyColumns<11>, MultiplyColumns<12>, MultiplyColumns<13>, MultiplyColumns<14>,
#endif
};

void MultiplyTransposed(const float* inputs, const TileChunk& chunk, int64_t position,
                        int64_t count, const float* gradients, float* weights, bool first) {
  // As many tiles at a time as leave room for the inputs beside the gradients in the first cache.
  constexpr int64_t kTiles = 96;
  const float* a = inputs + position * chunk.input_position;
  const float* b = gradients + position * chunk.product_position;
  float* const c = weights + position * count * kPanel;
  const int64_t groups = (count + kMaxRows - 1) / kMaxRows;
  for (int64_t tile = 0; tile < chunk.count; tile += kTiles) {
    const int64_t tiles = std::min(kTiles, chunk.count - tile);
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t begin = group * count / groups;
      const int64_t end = (group + 1) * count / groups;
      kMultiplyColumns[end - begin - 1](a + begin, chunk.input_tile, b, tiles, c + begin * kPanel,
                                        !first || tile > 0);
    }
    a += tiles * chunk.input_tile;
    b += tiles * kPanel;
  }
}

void TransformWeights(const float* weights, int64_t kernel, int64_t inputs, int64_t outputs,
                      int64_t panel, float* packed) {
  kernel == 4 ? TransformWeightsOf<4>(weights, inputs, outputs, panel, packed)
              : TransformWeightsOf<3>(weights, inputs, outputs, panel, packed);
}

void FinishWeights(float* weights, int64_t kernel, int64_t inputs, int64_t outputs, int64_t panel,
                   const float* packed) {
  kernel == 4 ? FinishWeightsOf<4>(weights, inputs, outputs, panel, packed)
              : FinishWeightsOf<3>(weights, inputs, outputs, panel, packed);
}

void TransformProducts(const float* products, const Tiling& tiling, const TileChunk& chunk,
                       int64_t begin, int64_t end, const float* bias, const Images& to) {
  tiling.kernel == 4 ? TransformProductsOf<5>(products, tiling, chunk, begin, end, bias, to)
                     : TransformProductsOf<6>(products, tiling, chunk, begin, end, bias, to);
}

void TransformGradients(const Images& from, const Tiling& tiling, const TileChunk& chunk,
                        int64_t begin, int64_t end, float* gradients) {
  tiling.kernel == 4 ? TransformGradientsOf<5>(from, tiling, chunk, begin, end, gradients)
                     : TransformGradientsOf<6>(from, tiling, chunk, begin, end, gradients);
}

void AddSparse(const SparseGradients& all, int64_t begin, int64_t end) {
  const int64_t channels = all.inputs.channels;
  for (const auto& gradient : all.gradients) {
    const V value = Number(gradient.value);
    for (int64_t row = 0; row < all.kernel; ++row) {
      const int64_t y = gradient.y + row - all.padding;
      if (y < 0 || y >= all.inputs.height) continue;
      for (int64_t column = 0; column < all.kernel; ++column) {
        const int64_t x = gradient.x + column - all.padding;
        if (x < 0 || x >= all.inputs.width) continue;
        const int64_t place =
            ((gradient.channel * all.kernel + row) * all.kernel + column) * channels;
        if (all.of_weights != nullptr) {
          const float* const from = all.inputs.at(gradient.image, y, x);
          float* const to = all.of_weights + place;
          for (int64_t c = begin; c < end; c += kLanes) {
            Store(hn::MulAdd(value, Load(from + c), Load(to + c)), to + c);
          }
        }
        if (all.of_inputs.data != nullptr) {
          const float* const from = all.weights + place;
          float* const to = all.of_inputs.at(gradient.image, y, x);
          for (int64_t c = begin; c < end; c += kLanes) {
            Store(hn::MulAdd(value, Load(from + c), Load(to + c)), to + c);
          }
        }
      }
    }
  }
}

void ReluPool(const Images& from, const Images& to, int64_t image, int64_t y) {
  const V zero = hn::Zero(D());
  const V quarter = Number(0.25f);
  const int64_t channels = from.channels;
  for (int64_t x = 0; x < to.width; ++x) {
    const float* const upper = from.at(image, 2 * y, 2 * x);
    const float* const lower = from.at(image, 2 * y + 1, 2 * x);
    float* const out = to.at(image, y, x);
    for (int64_t c = 0; c < channels; c += kLanes) {
      const V sum = hn::Add(
          hn::Add(hn::Max(Load(upper + c), zero), hn::Max(Load(upper + channels + c), zero)),
          hn::Add(hn::Max(Load(lower + c), zero), hn::Max(Load(lower + channels + c), zero)));
      Store(hn::Mul(sum, quarter), out + c);
    }
  }
}

void ReluPoolBack(const Images& inputs, const Images& of_outputs, const Images& of_inputs,
                  int64_t image, int64_t y) {
  const V zero = hn::Zero(D());
  const V quarter = Number(0.25f);
  const int64_t channels = inputs.channels;
  const int64_t rows = std::min<int64_t>(2, inputs.height - 2 * y);
  for (int64_t row = 0; row < rows; ++row) {
    const float* in = inputs.at(image, 2 * y + row, 0);
    float* out = of_inputs.at(image, 2 * y + row, 0);
    if (y >= of_outputs.height) {
      std::fill_n(out, inputs.width * channels, 0.0f);
      continue;
    }
    for (int64_t x = 0; x < of_outputs.width; ++x) {
      const float* const gradient = of_outputs.at(image, y, x);
      for (int64_t c = 0; c < channels; c += kLanes) {
        const V value = hn::Mul(Load(gradient + c), quarter);
        for (int64_t k = c; k < 2 * channels; k += channels) {
          Store(hn::IfThenElseZero(hn::Gt(Load(in + k), zero), value), out + k);
        }
      }
      in += 2 * channels;
      out += 2 * channels;
    }
    std::fill_n(out, (inputs.width - 2 * of_outputs.width) * channels, 0.0f);
  }
}

}  // namespace

const ConvolutionKernels* GetConvolutionKernels() {
  static const ConvolutionKernels table = {hwy::TargetName(HWY_TARGET),
                                           kPanel,
                                           MakeTileChunk,
                                           TransformWeights,
                                           FinishWeights,
                                           TransformTileInputs,
                                           TransformProducts,
                                           TransformGradients,
                                           MultiplyTileInputs,
                                           MultiplyTransposed,
                                           AddSparse,
                                           ReluPool,
                                           ReluPoolBack};
  return &table;
}

}  // namespace HWY_NAMESPACE
}  // namespace efficientad::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace efficientad::cpu {

HWY_EXPORT(GetConvolutionKernels);

const ConvolutionKernels& convolution_kernels() {
  return *HWY_DYNAMIC_DISPATCH(GetConvolutionKernels)();
}

void for_each_convolution_kernels(const std::function<void()>& work) {
  for_each_instruction_set(work);
}

}  // namespace efficientad::cpu
#endif
