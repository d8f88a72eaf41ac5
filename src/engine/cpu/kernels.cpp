// Compiled once for each instruction set by Highway's foreach_target.h.
#include "engine/cpu/kernels.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/cpu/kernels.cpp"
// What is left: SSE2 (or what the compiler's baseline has), AVX2, AVX-512; NEON on ARM.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2)
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace efficientad::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr int64_t kLanes = hn::MaxLanes(D());
/// A panel is two vectors wide.
constexpr int64_t kPanel = 2 * kLanes;
/// Rows of the register tile: two accumulators each, two vectors of weights, one broadcast number.
#if HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int kMaxRows = 14;
#else
constexpr int kMaxRows = 6;
#endif
constexpr int64_t kTile = 8;
constexpr int64_t kPositions = kTile * kTile;

HWY_INLINE V Load(const float* p) { return hn::LoadU(D(), p); }
HWY_INLINE void Store(V v, float* p) { hn::StoreU(v, D(), p); }
HWY_INLINE V Number(float x) { return hn::Set(D(), x); }

/// Floats of a cache line.
constexpr int64_t kLine = 16;

HWY_INLINE void Prefetch(const float* p) { __builtin_prefetch(p, /*rw=*/0, /*locality=*/3); }
HWY_INLINE void PrefetchToWrite(const float* p) { __builtin_prefetch(p, /*rw=*/1, /*locality=*/3); }

/// A product c = a b of some rows of a, `a_stride` apart, and one panel of b; then ReLU, if wanted.
struct Rows {
  const float* a;
  int64_t a_stride;
  const Segment* segments;
  int64_t segment_count;
  const float* b;
  float* c;
  int64_t c_stride;
  /// What the product is added to: one number a channel, or, if `accumulate`, what c holds, or
  /// nothing.
  const float* bias = nullptr;
  bool accumulate = false;
  bool relu = false;
  /// Numbers that will be needed next, fetched evenly meanwhile, `next_lines` of them at each step
  /// of four numbers of a row: a core can wait for a dozen lines at a time only.
  const float* next = nullptr;
  int64_t next_lines = 0;
};

template <int kRows>
void Multiply(const Rows& all) {
  // Three rows share a pointer: with one each, the pointers would not fit the registers.
  constexpr int kGroup = 3;
  constexpr int kGroups = (kRows + kGroup - 1) / kGroup;
  const int64_t a_stride = all.a_stride;
  const int64_t c_stride = all.c_stride;
  const float* HWY_RESTRICT b = all.b;
  float* HWY_RESTRICT c = all.c;
  const float* next = all.next;
  const int64_t next_lines = all.next_lines;
  V left[kRows];
  V right[kRows];
  const V bias_left = all.bias != nullptr ? Load(all.bias) : hn::Zero(D());
  const V bias_right = all.bias != nullptr ? Load(all.bias + kLanes) : hn::Zero(D());
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    left[i] = all.accumulate ? Load(c + i * c_stride) : bias_left;
    right[i] = all.accumulate ? Load(c + i * c_stride + kLanes) : bias_right;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    for (int64_t line = 0; line < kPanel; line += kLine) PrefetchToWrite(c + i * c_stride + line);
  }
  for (int64_t s = 0; s < all.segment_count; ++s) {
    const float* rows[kGroups];
#pragma GCC unroll 16
    for (int g = 0; g < kGroups; ++g) {
      rows[g] = all.a + all.segments[s].offset + g * kGroup * a_stride;
    }
    for (int64_t count = all.segments[s].count; count > 0; count -= 4) {
#if defined(__GNUC__)
      // Or the compiler would compute an address for each row after all.
#pragma GCC unroll 16
      for (int g = 0; g < kGroups; ++g) asm("" : "+r"(rows[g]));
#endif
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        const V b_left = Load(b + k * kPanel);
        const V b_right = Load(b + k * kPanel + kLanes);
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
          const V x = Number(rows[i / kGroup][k + i % kGroup * a_stride]);
          left[i] = hn::MulAdd(x, b_left, left[i]);
          right[i] = hn::MulAdd(x, b_right, right[i]);
        }
      }
      for (int64_t line = 0; line < next_lines; ++line, next += kLine) Prefetch(next);
#pragma GCC unroll 16
      for (int g = 0; g < kGroups; ++g) rows[g] += 4;
      b += 4 * kPanel;
    }
  }
  const V zero = hn::Zero(D());
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    if (all.relu) {
      left[i] = hn::Max(left[i], zero);
      right[i] = hn::Max(right[i], zero);
    }
    Store(left[i], c + i * c_stride);
    Store(right[i], c + i * c_stride + kLanes);
  }
}

constexpr void (*kMultiply[])(const Rows&) = {
    Multiply<1>,  Multiply<2>,  Multiply<3>, Multiply<4>,  Multiply<5>,  Multiply<6>,
#if HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON
    Multiply<7>,  Multiply<8>,  Multiply<9>, Multiply<10>, Multiply<11>, Multiply<12>,
    Multiply<13>, Multiply<14>,
#endif
};

/// The same for any number of rows, cut as evenly as possible. Meanwhile `next_size` numbers from
/// rows.next are fetched. Changes `rows`: a copy would have to wait until the processor has written
/// all outputs before it.
void MultiplyRows(int64_t row_count, Rows& rows, int64_t next_size = 0) {
  const auto count = static_cast<int32_t>(row_count);
  const int32_t groups = (count + kMaxRows - 1) / kMaxRows;
  const int32_t few = count / groups;
  const int32_t with_one_more = count % groups;
  int64_t steps = 0;
  if (rows.next != nullptr) {
    steps = rows.segments[0].count / 4;
    const auto all_steps = static_cast<int32_t>(steps) * groups;
    rows.next_lines = (static_cast<int32_t>(next_size / kLine) + all_steps - 1) / all_steps;
  }
  for (int32_t group = 0; group < groups; ++group) {
    const int32_t now = few + (group < with_one_more ? 1 : 0);
    kMultiply[now - 1](rows);
    rows.a += now * rows.a_stride;
    rows.c += now * rows.c_stride;
    rows.next += steps * rows.next_lines * kLine;
  }
}

/// Numbers of a row that are multiplied before the next rows' are, so that their weights are still
/// in the first cache.
constexpr int64_t kDepth = 256;

/// B^T d of F(6, 3) and F(5, 4) with the points 0, 1, -1, 2, -2, 1/2, -1/2 and infinity; rows 2 i
/// and 2 i - 1 share their even and odd parts.
HWY_INLINE void TransformInput(V (&d)[kTile]) {
  const V c21 = Number(5.25f);
  const V c17 = Number(-4.25f);
  const V c5 = Number(-1.25f);
  const V c52 = Number(-2.5f);
  const V quarter = Number(0.25f);
  const V half = Number(0.5f);
  const V two = Number(2.0f);
  const V four = Number(4.0f);
  const V minus5 = Number(-5.0f);
  const V t0 = hn::MulAdd(c21, hn::Sub(d[4], d[2]), hn::Sub(d[0], d[6]));
  const V t7 = hn::MulAdd(c21, hn::Sub(d[3], d[5]), hn::Sub(d[7], d[1]));
  const V even1 = hn::MulAdd(c17, d[4], hn::Add(d[2], d[6]));
  const V odd1 = hn::MulAdd(c17, d[3], hn::Add(d[1], d[5]));
  const V even2 = hn::MulAdd(quarter, d[2], hn::MulAdd(c5, d[4], d[6]));
  const V odd2 = hn::MulAdd(half, d[1], hn::MulAdd(c52, d[3], hn::Mul(two, d[5])));
  const V even3 = hn::MulAdd(four, d[2], hn::MulAdd(minus5, d[4], d[6]));
  const V odd3 = hn::MulAdd(two, d[1], hn::MulAdd(c52, d[3], hn::Mul(half, d[5])));
  d[0] = t0;
  d[1] = hn::Add(even1, odd1);
  d[2] = hn::Sub(even1, odd1);
  d[3] = hn::Add(even2, odd2);
  d[4] = hn::Sub(even2, odd2);
  d[5] = hn::Add(even3, odd3);
  d[6] = hn::Sub(even3, odd3);
  d[7] = t7;
}

/// A^T m: kOut = 6 for 3x3, 5 for 4x4 kernels.
template <int kOut>
HWY_INLINE void TransformOutput(const V (&m)[kTile], V (&out)[kOut]) {
  const V s1 = hn::Add(m[1], m[2]);
  const V d1 = hn::Sub(m[1], m[2]);
  const V s2 = hn::Add(m[3], m[4]);
  const V d2 = hn::Sub(m[3], m[4]);
  const V s3 = hn::Add(m[5], m[6]);
  const V d3 = hn::Sub(m[5], m[6]);
  out[0] = hn::Add(hn::Add(m[0], s1), hn::Add(s2, s3));
  out[1] = hn::MulAdd(Number(2.0f), d2, hn::MulAdd(Number(0.5f), d3, d1));
  out[2] = hn::MulAdd(Number(4.0f), s2, hn::MulAdd(Number(0.25f), s3, s1));
  out[3] = hn::MulAdd(Number(8.0f), d2, hn::MulAdd(Number(0.125f), d3, d1));
  out[4] = hn::MulAdd(Number(16.0f), s2, hn::MulAdd(Number(0.0625f), s3, s1));
  if constexpr (kOut == 6) {
    out[5] = hn::MulAdd(Number(32.0f), d2, hn::MulAdd(Number(0.03125f), d3, d1));
  }
  out[kOut - 1] = hn::Add(out[kOut - 1], m[7]);
}

/// How a chunk of a Winograd convolution lies in memory.
struct Chunk {
  int64_t first_group;
  int64_t last_group;
  int64_t first_tile;
  int64_t tiles;
  /// Transformed inputs: [position][tile][channel].
  int64_t input_position;
  /// Products: [panel][position][tile][channel of the panel].
  int64_t product_position;

  int64_t input_size() const { return kPositions * input_position; }
  int64_t product_panel() const { return kPositions * product_position; }
};

/// A part of a chunk's tiles.
struct Part {
  int64_t first_group;
  int64_t last_group;
  int64_t first_tile;
  int64_t last_tile;
};

/// A cache line more than a power of two, so that the 64 positions do not fall into one cache set.
constexpr int64_t kSpread = kLine;

Part MakePart(const WinogradConvolution& conv, int64_t first_group, int64_t last_group) {
  return {first_group, last_group, conv.groups[static_cast<size_t>(first_group)],
          conv.groups[static_cast<size_t>(last_group)]};
}

Chunk MakeChunk(const WinogradConvolution& conv, int64_t index) {
  const Part all = MakePart(conv, conv.chunk_groups[static_cast<size_t>(index)],
                            conv.chunk_groups[static_cast<size_t>(index) + 1]);
  Chunk chunk = {};
  chunk.first_group = all.first_group;
  chunk.last_group = all.last_group;
  chunk.first_tile = all.first_tile;
  chunk.tiles = all.last_tile - all.first_tile;
  chunk.input_position = chunk.tiles * conv.channels + kSpread;
  chunk.product_position = chunk.tiles * kPanel + kSpread;
  return chunk;
}

/// Tiles of a part of the first and last phase, about.
constexpr int64_t kPartTiles = 8;

int64_t PartCount(const Chunk& chunk) { return (chunk.tiles + kPartTiles - 1) / kPartTiles; }

Part MakePart(const WinogradConvolution& conv, const Chunk& chunk, int64_t index) {
  const int64_t groups = chunk.last_group - chunk.first_group;
  const int64_t parts = PartCount(chunk);
  return MakePart(conv, chunk.first_group + index * groups / parts,
                  chunk.first_group + (index + 1) * groups / parts);
}

/// Outputs of a group of tiles and a panel, [row][column][channel], to be pooled.
int64_t PoolSize(const WinogradConvolution& conv) { return 4 * conv.tile() * conv.tile() * kPanel; }

/// Sums of squares: [tile][output][lane].
int64_t SquaresSize(const WinogradConvolution& conv, int64_t tiles) {
  return tiles * conv.tile() * conv.tile() * kLanes;
}

int64_t WinogradScratch(const WinogradConvolution& conv) {
  int64_t size = 0;
  for (int64_t i = 0; i < conv.chunks(); ++i) {
    const Chunk chunk = MakeChunk(conv, i);
    const int64_t here = conv.in_phases ? 0 : chunk.input_size() + chunk.product_panel();
    size = std::max(size, here + PoolSize(conv) + SquaresSize(conv, chunk.tiles));
  }
  return size;
}

int64_t WinogradPhaseMemory(const WinogradConvolution& conv) {
  int64_t panels = 0;
  for (const auto& product : conv.products) panels += product.channels / kPanel;
  int64_t size = 0;
  for (int64_t i = 0; i < conv.chunks(); ++i) {
    const Chunk chunk = MakeChunk(conv, i);
    size = std::max(size, chunk.input_size() + panels * chunk.product_panel());
  }
  return size;
}

/// Channels that are transformed together: a pixel's are one piece of memory, which is fetched
/// faster than single lines.
constexpr int64_t kTransformChannels = 128;

void TransformInputs(const WinogradConvolution& conv, const Chunk& chunk, const Part& part,
                     float* inputs) {
  const int64_t m = conv.tile();
  const int64_t row_stride = conv.from.row_stride();
  const int64_t pixel_stride = conv.from.channels;
  // [row][column][channel], rows a line more than a power of two apart.
  constexpr int64_t kRow = kTile * kTransformChannels + kLine;
  HWY_ALIGN float between[kTile * kRow];
  for (int64_t i = part.first_tile; i < part.last_tile; ++i) {
    const TileAt at = conv.tiles[static_cast<size_t>(i)];
    const float* const tile = conv.from.at(at.y * m, at.x * m) + conv.channel;
    const TileAt after = conv.tiles[static_cast<size_t>(std::min(i + 1, part.last_tile - 1))];
    for (int64_t first = 0; first < conv.channels; first += kTransformChannels) {
      const int64_t channels = std::min(kTransformChannels, conv.channels - first);
      // What comes next is fetched meanwhile.
      const float* const next = first + kTransformChannels < conv.channels
                                    ? tile + first + kTransformChannels
                                    : conv.from.at(after.y * m, after.x * m) + conv.channel;
      V d[kTile];
      for (int64_t column = 0; column < kTile; ++column) {
        const float* const from = tile + column * pixel_stride + first;
        for (int64_t c = 0; c < channels; c += kLanes) {
#pragma GCC unroll 8
          for (int64_t row = 0; row < kTile; ++row) d[row] = Load(from + row * row_stride + c);
          TransformInput(d);
#pragma GCC unroll 8
          for (int64_t row = 0; row < kTile; ++row) {
            Store(d[row], between + row * kRow + column * kTransformChannels + c);
          }
        }
      }
      float* const to = inputs + (i - chunk.first_tile) * conv.channels + first;
      for (int64_t row = 0; row < kTile; ++row) {
        for (int64_t c = 0; c < channels; c += kLanes) {
#pragma GCC unroll 8
          for (int64_t column = 0; column < kTile; ++column) {
            d[column] = Load(between + row * kRow + column * kTransformChannels + c);
            Prefetch(next + row * row_stride + column * pixel_stride + c);
          }
          TransformInput(d);
#pragma GCC unroll 8
          for (int64_t column = 0; column < kTile; ++column) {
            Store(d[column], to + (row * kTile + column) * chunk.input_position + c);
          }
        }
      }
    }
  }
}

/// One tile's outputs, kOut x kOut, of one vector of channels: `out` [row][column][lane].
template <int kOut>
HWY_INLINE void TransformTile(const float* products, int64_t position_stride, float* between,
                              float* out) {
  V m[kTile];
  V o[kOut];
  for (int64_t column = 0; column < kTile; ++column) {
#pragma GCC unroll 8
    for (int64_t row = 0; row < kTile; ++row) {
      m[row] = Load(products + (row * kTile + column) * position_stride);
    }
    TransformOutput<kOut>(m, o);
#pragma GCC unroll 8
    for (int64_t row = 0; row < kOut; ++row) {
      Store(o[row], between + (row * kTile + column) * kLanes);
    }
  }
  for (int64_t row = 0; row < kOut; ++row) {
#pragma GCC unroll 8
    for (int64_t column = 0; column < kTile; ++column) {
      m[column] = Load(between + (row * kTile + column) * kLanes);
    }
    TransformOutput<kOut>(m, o);
#pragma GCC unroll 8
    for (int64_t column = 0; column < kOut; ++column) {
      Store(o[column], out + (row * kOut + column) * kLanes);
    }
  }
}

/// Means of 2x2 windows of a panel's outputs [rows][columns][kPanel], of which the first is output
/// (y, x) of the convolution, both even; windows that are not whole are left out.
void PoolOutputs(const OutputSize& size, const Product& product, int64_t panel,
                 const float* outputs, int64_t y, int64_t x, int64_t rows, int64_t columns,
                 int64_t column_count) {
  const V quarter = Number(0.25f);
  rows = std::min(rows, size.height - y) / 2;
  columns = std::min(columns, size.width - x) / 2;
  for (int64_t i = 0; i < rows; ++i) {
    const float* const upper = outputs + 2 * i * column_count * kPanel;
    const float* const lower = upper + column_count * kPanel;
    float* to =
        product.to.at(product.y + y / 2 + i, product.x + x / 2) + product.channel + panel * kPanel;
    for (int64_t j = 0; j < columns; ++j, to += product.to.channels) {
      for (int64_t c = 0; c < kPanel; c += kLanes) {
        const int64_t at = 2 * j * kPanel + c;
        const V sum = hn::Add(hn::Add(Load(upper + at), Load(upper + at + kPanel)),
                              hn::Add(Load(lower + at), Load(lower + at + kPanel)));
        Store(hn::Mul(sum, quarter), to + c);
      }
    }
  }
}

/// Sets to zero what lies in the margin of a panel's outputs.
void ClearMargin(const OutputSize& size, float* outputs, int64_t y, int64_t x, int64_t rows,
                 int64_t columns, int64_t column_count) {
  if (size.margin == 0) return;
  for (int64_t i = 0; i < rows; ++i) {
    const bool row_in_margin = y + i < size.margin || y + i >= size.height - size.margin;
    for (int64_t j = 0; j < columns; ++j) {
      if (!row_in_margin && x + j >= size.margin && x + j < size.width - size.margin) continue;
      std::fill_n(outputs + (i * column_count + j) * kPanel, kPanel, 0.0f);
    }
  }
}

/// Writes mean squares from sums over `channels`: [outputs][lane].
HWY_INLINE float MeanOfLanes(const float* sums, int64_t channels) {
  return hn::GetLane(hn::SumOfLanes(D(), Load(sums))) / static_cast<float>(channels);
}

/// What follows a panel of products: the outputs of one tile, one vector of channels.
template <int kOut>
HWY_INLINE void Activate(const float* out, const V bias, bool relu, float* to, int64_t row_stride,
                         int64_t column_stride, int64_t rows, int64_t columns) {
  const V zero = hn::Zero(D());
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      V value = hn::Add(Load(out + (i * kOut + j) * kLanes), bias);
      if (relu) value = hn::Max(value, zero);
      Store(value, to + i * row_stride + j * column_stride);
    }
  }
}

template <int kOut>
void StoreOutputs(const WinogradConvolution& conv, const Chunk& chunk, const Part& part,
                  const Product& product, int64_t panel, const float* products) {
  HWY_ALIGN float between[kOut * kTile * kLanes];
  HWY_ALIGN float out[kOut * kOut * kLanes];
  for (int64_t i = part.first_tile; i < part.last_tile; ++i) {
    const TileAt at = conv.tiles[static_cast<size_t>(i)];
    const int64_t y = at.y * kOut;
    const int64_t x = at.x * kOut;
    for (int64_t c = 0; c < kPanel; c += kLanes) {
      TransformTile<kOut>(products + (i - chunk.first_tile) * kPanel + c, chunk.product_position,
                          between, out);
      Activate<kOut>(
          out, Load(product.bias + panel * kPanel + c), product.relu,
          product.to.at(product.y + y, product.x + x) + product.channel + panel * kPanel + c,
          product.to.row_stride(), product.to.channels,
          std::min<int64_t>(kOut, conv.outputs.height - y),
          std::min<int64_t>(kOut, conv.outputs.width - x));
    }
  }
}

template <int kOut>
void PoolGroups(const WinogradConvolution& conv, const Chunk& chunk, const Part& part,
                const Product& product, int64_t panel, const float* products, float* outputs) {
  HWY_ALIGN float between[kOut * kTile * kLanes];
  HWY_ALIGN float out[kOut * kOut * kLanes];
  constexpr int64_t kColumns = 2 * kOut;
  for (int64_t group = part.first_group; group < part.last_group; ++group) {
    const int64_t begin = conv.groups[static_cast<size_t>(group)];
    const int64_t end = conv.groups[static_cast<size_t>(group) + 1];
    const TileAt first = conv.tiles[static_cast<size_t>(begin)];
    for (int64_t i = begin; i < end; ++i) {
      const TileAt at = conv.tiles[static_cast<size_t>(i)];
      for (int64_t c = 0; c < kPanel; c += kLanes) {
        TransformTile<kOut>(products + (i - chunk.first_tile) * kPanel + c, chunk.product_position,
                            between, out);
        Activate<kOut>(
            out, Load(product.bias + panel * kPanel + c), product.relu,
            outputs + ((at.y - first.y) * kOut * kColumns + (at.x - first.x) * kOut) * kPanel + c,
            kColumns * kPanel, kPanel, kOut, kOut);
      }
    }
    const int64_t y = first.y * kOut;
    const int64_t x = first.x * kOut;
    ClearMargin(conv.outputs, outputs, y, x, kColumns, kColumns, kColumns);
    PoolOutputs(conv.outputs, product, panel, outputs, y, x, kColumns, kColumns, kColumns);
  }
}

template <int kOut>
void SquareOutputs(const Chunk& chunk, const Part& part, const Product& product, int64_t panel,
                   const float* products, float* squares) {
  HWY_ALIGN float between[kOut * kTile * kLanes];
  HWY_ALIGN float out[kOut * kOut * kLanes];
  for (int64_t i = part.first_tile; i < part.last_tile; ++i) {
    for (int64_t c = 0; c < kPanel; c += kLanes) {
      TransformTile<kOut>(products + (i - chunk.first_tile) * kPanel + c, chunk.product_position,
                          between, out);
      const V bias = Load(product.bias + panel * kPanel + c);
      float* sums = squares + (i - part.first_tile) * kOut * kOut * kLanes;
      for (int64_t j = 0; j < kOut * kOut; ++j, sums += kLanes) {
        const V value = hn::Add(Load(out + j * kLanes), bias);
        Store(hn::MulAdd(value, value, Load(sums)), sums);
      }
    }
  }
}

template <int kOut>
void WriteMeanSquares(const WinogradConvolution& conv, const Part& part, const Product& product,
                      const float* squares) {
  for (int64_t t = part.first_tile; t < part.last_tile; ++t) {
    const TileAt at = conv.tiles[static_cast<size_t>(t)];
    const int64_t y = at.y * kOut;
    const int64_t x = at.x * kOut;
    const int64_t rows = std::min<int64_t>(kOut, conv.outputs.height - y);
    const int64_t columns = std::min<int64_t>(kOut, conv.outputs.width - x);
    const float* const sums = squares + (t - part.first_tile) * kOut * kOut * kLanes;
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        product.map[(y + i) * conv.outputs.width + x + j] =
            MeanOfLanes(sums + (i * kOut + j) * kLanes, product.channels);
      }
    }
  }
}

/// The products of one position and one panel of all tiles of a chunk. `next` is the panel of
/// weights that will be needed after this one.
void MultiplyTiles(const WinogradConvolution& conv, const Chunk& chunk, const Product& product,
                   int64_t position, const float* weights, const float* next, const float* inputs,
                   float* products) {
  const Segment all = product.segments[0];
  for (int64_t k = 0; k < all.count; k += kDepth) {
    const Segment part = {all.offset + k, std::min(kDepth, all.count - k)};
    const bool last = k + kDepth >= all.count;
    Rows rows = {.a = inputs + position * chunk.input_position,
                 .a_stride = conv.channels,
                 .segments = &part,
                 .segment_count = 1,
                 .b = weights,
                 .c = products + position * chunk.product_position,
                 .c_stride = kPanel,
                 .accumulate = k > 0,
                 .next = last ? next : weights + part.count * kPanel};
    MultiplyRows(chunk.tiles, rows,
                 std::min(kDepth, last ? all.count : all.count - k - kDepth) * kPanel);
    weights += part.count * kPanel;
  }
}

/// What follows the products of one panel.
template <int kOut>
void FinishPanel(const WinogradConvolution& conv, const Chunk& chunk, const Part& part,
                 const Product& product, int64_t panel, const float* products, float* outputs,
                 float* squares) {
  switch (product.then) {
    case Then::kStore:
      StoreOutputs<kOut>(conv, chunk, part, product, panel, products);
      break;
    case Then::kPool:
      PoolGroups<kOut>(conv, chunk, part, product, panel, products, outputs);
      break;
    case Then::kMeanSquare:
      SquareOutputs<kOut>(chunk, part, product, panel, products, squares);
      break;
  }
}

int64_t WeightsOfPanel(const Product& product) {
  return kPositions * product.segments[0].count * kPanel;
}

template <int kOut>
void WinogradOf(const WinogradConvolution& conv, int64_t index, float* scratch) {
  const Chunk chunk = MakeChunk(conv, index);
  const Part all = MakePart(conv, chunk.first_group, chunk.last_group);
  float* const inputs = scratch;
  float* const products = inputs + chunk.input_size();
  float* const outputs = products + chunk.product_panel();
  float* const squares = outputs + PoolSize(conv);
  TransformInputs(conv, chunk, all, inputs);
  for (const auto& product : conv.products) {
    std::fill_n(squares, SquaresSize(conv, chunk.tiles), 0.0f);
    const float* weights = product.weights;
    for (int64_t panel = 0; panel < product.channels / kPanel; ++panel) {
      for (int64_t position = 0; position < kPositions; ++position) {
        const float* const next = weights + product.segments[0].count * kPanel;
        MultiplyTiles(conv, chunk, product, position, weights, next, inputs, products);
        weights = next;
      }
      FinishPanel<kOut>(conv, chunk, all, product, panel, products, outputs, squares);
    }
    if (product.then == Then::kMeanSquare) WriteMeanSquares<kOut>(conv, all, product, squares);
  }
}

void Winograd(const WinogradConvolution& conv, int64_t chunk, float* scratch) {
  if (conv.kernel == 4) {
    WinogradOf<5>(conv, chunk, scratch);
  } else {
    WinogradOf<6>(conv, chunk, scratch);
  }
}

int64_t WinogradParts(const WinogradConvolution& conv, int64_t chunk, Phase phase) {
  if (phase == Phase::kProducts) {
    return kPositions * static_cast<int64_t>(conv.products.size());
  }
  return PartCount(MakeChunk(conv, chunk));
}

template <int kOut>
void OutputsPhase(const WinogradConvolution& conv, const Chunk& chunk, const Part& part,
                  const float* products, float* scratch) {
  float* const outputs = scratch;
  float* const squares = outputs + PoolSize(conv);
  for (const auto& product : conv.products) {
    if (product.then == Then::kMeanSquare) {
      std::fill_n(squares, SquaresSize(conv, part.last_tile - part.first_tile), 0.0f);
    }
    for (int64_t panel = 0; panel < product.channels / kPanel; ++panel) {
      FinishPanel<kOut>(conv, chunk, part, product, panel, products, outputs, squares);
      products += chunk.product_panel();
    }
    if (product.then == Then::kMeanSquare) WriteMeanSquares<kOut>(conv, part, product, squares);
  }
}

void WinogradPhase(const WinogradConvolution& conv, int64_t index, Phase phase, int64_t part,
                   float* scratch) {
  const Chunk chunk = MakeChunk(conv, index);
  float* const inputs = conv.memory;
  float* products = inputs + chunk.input_size();
  if (phase == Phase::kInputs) {
    TransformInputs(conv, chunk, MakePart(conv, chunk, part), inputs);
    return;
  }
  if (phase == Phase::kOutputs) {
    const Part tiles = MakePart(conv, chunk, part);
    if (conv.kernel == 4) {
      OutputsPhase<5>(conv, chunk, tiles, products, scratch);
    } else {
      OutputsPhase<6>(conv, chunk, tiles, products, scratch);
    }
    return;
  }
  for (int64_t i = 0; i < part / kPositions; ++i) {
    products += conv.products[static_cast<size_t>(i)].channels / kPanel * chunk.product_panel();
  }
  const Product& product = conv.products[static_cast<size_t>(part / kPositions)];
  const int64_t position = part % kPositions;
  const float* weights = product.weights + position * product.segments[0].count * kPanel;
  for (int64_t panel = 0; panel < product.channels / kPanel; ++panel) {
    const float* const next = weights + WeightsOfPanel(product);
    MultiplyTiles(conv, chunk, product, position, weights, next, inputs, products);
    weights = next;
    products += chunk.product_panel();
  }
}

/// Columns of two rows that are computed before they are pooled, at most.
constexpr int64_t kPoolColumns = 2 * kMaxRows;

int64_t DirectScratch(const DirectConvolution& conv) {
  int64_t size = 0;
  for (const auto& product : conv.products) {
    if (product.then == Then::kPool) size = std::max(size, 2 * kPoolColumns * kPanel);
    if (product.then == Then::kMeanSquare) {
      size = std::max(size, conv.outputs.width * (kPanel + conv.task_rows * kLanes));
    }
  }
  return size;
}

/// The product of `count` outputs of a row from (y, x) on and a panel of weights.
void MultiplyOutputs(const DirectConvolution& conv, const Product& product, int64_t panel,
                     int64_t y, int64_t x, int64_t count, float* to, int64_t to_stride) {
  int64_t numbers = 0;
  for (const auto& segment : product.segments) numbers += segment.count;
  Rows rows = {.a = conv.from.at(y * conv.stride, x * conv.stride),
               .a_stride = conv.stride * conv.from.channels,
               .segments = product.segments.data(),
               .segment_count = static_cast<int64_t>(product.segments.size()),
               .b = product.weights + panel * numbers * kPanel,
               .c = to,
               .c_stride = to_stride,
               .bias = product.bias + panel * kPanel,
               .relu = product.relu};
  MultiplyRows(count, rows);
}

void PoolRows(const DirectConvolution& conv, const Product& product, int64_t begin, int64_t end,
              float* outputs) {
  // As many columns at a time as make pieces of equal size.
  const int64_t width = conv.outputs.width;
  const int64_t pieces = (width + kPoolColumns - 1) / kPoolColumns;
  const int64_t step = ((width + pieces - 1) / pieces + 1) / 2 * 2;
  for (int64_t panel = 0; panel < product.channels / kPanel; ++panel) {
    for (int64_t y = begin; y < end; y += 2) {
      for (int64_t x = 0; x < width; x += step) {
        const int64_t columns = std::min(step, width - x);
        for (int64_t i = 0; i < 2 && y + i < conv.outputs.height; ++i) {
          MultiplyOutputs(conv, product, panel, y + i, x, columns,
                          outputs + i * kPoolColumns * kPanel, kPanel);
        }
        ClearMargin(conv.outputs, outputs, y, x, 2, columns, kPoolColumns);
        PoolOutputs(conv.outputs, product, panel, outputs, y, x, 2, columns, kPoolColumns);
      }
    }
  }
}

void StoreRows(const DirectConvolution& conv, const Product& product, int64_t begin, int64_t end) {
  for (int64_t panel = 0; panel < product.channels / kPanel; ++panel) {
    for (int64_t y = begin; y < end; ++y) {
      MultiplyOutputs(conv, product, panel, y, 0, conv.outputs.width,
                      product.to.at(product.y + y, product.x) + product.channel + panel * kPanel,
                      product.to.channels);
    }
  }
}

void SquareRows(const DirectConvolution& conv, const Product& product, int64_t begin, int64_t end,
                float* scratch) {
  const int64_t width = conv.outputs.width;
  float* const outputs = scratch;
  float* const squares = scratch + width * kPanel;
  std::fill_n(squares, (end - begin) * width * kLanes, 0.0f);
  for (int64_t panel = 0; panel < product.channels / kPanel; ++panel) {
    for (int64_t y = begin; y < end; ++y) {
      MultiplyOutputs(conv, product, panel, y, 0, width, outputs, kPanel);
      float* sums = squares + (y - begin) * width * kLanes;
      for (int64_t x = 0; x < width; ++x, sums += kLanes) {
        const V left = Load(outputs + x * kPanel);
        const V right = Load(outputs + x * kPanel + kLanes);
        Store(hn::MulAdd(left, left, hn::MulAdd(right, right, Load(sums))), sums);
      }
    }
  }
  for (int64_t i = 0; i < (end - begin) * width; ++i) {
    product.map[begin * width + i] = MeanOfLanes(squares + i * kLanes, product.channels);
  }
}

void Direct(const DirectConvolution& conv, int64_t index, float* scratch) {
  const int64_t begin = index * conv.task_rows;
  const int64_t end = std::min(begin + conv.task_rows, conv.outputs.height);
  for (const auto& product : conv.products) {
    switch (product.then) {
      case Then::kStore:
        StoreRows(conv, product, begin, end);
        break;
      case Then::kPool:
        PoolRows(conv, product, begin, end, scratch);
        break;
      case Then::kMeanSquare:
        SquareRows(conv, product, begin, end, scratch);
        break;
    }
  }
}

void Upsample(const Upsampling& resize, int64_t row) {
  const Source& vertical = resize.rows[static_cast<size_t>(row)];
  const float* const upper = resize.from.at(vertical.first, 0);
  const float* const lower = resize.from.at(vertical.second, 0);
  const V down = Number(vertical.weight);
  const V up = Number(1.0f - vertical.weight);
  float* to = resize.to.at(resize.to_y + row, resize.to_x);
  const int64_t channels = resize.from.channels;
  for (const auto& horizontal : resize.columns) {
    const int64_t first = horizontal.first * channels;
    const int64_t second = horizontal.second * channels;
    const V right = Number(horizontal.weight);
    const V left = Number(1.0f - horizontal.weight);
    for (int64_t c = 0; c < channels; c += kLanes) {
      const V above =
          hn::MulAdd(left, Load(upper + first + c), hn::Mul(right, Load(upper + second + c)));
      const V below =
          hn::MulAdd(left, Load(lower + first + c), hn::Mul(right, Load(lower + second + c)));
      Store(hn::MulAdd(up, above, hn::Mul(down, below)), to + c);
    }
    to += resize.to.channels;
  }
}

void Interleave(const Interleaving& images, int64_t row) {
  const int64_t plane = images.height * images.width;
  const float* const from = images.planes + row * images.width;
  float* const to = images.to.at(images.to_y + row, images.to_x);
  for (int64_t x = 0; x < images.width; ++x) {
    to[3 * x] = from[x];
    to[3 * x + 1] = from[x + plane];
    to[3 * x + 2] = from[x + 2 * plane];
  }
}

double Saturate(int64_t times, float* scratch) {
  constexpr int64_t kRowsOfA = 2 * kMaxRows;
  constexpr int64_t kCount = 128;
  const Segment all = {0, kCount};
  float* const b = scratch + kRowsOfA * kCount;
  float* const c = b + kCount * kPanel;
  for (int64_t i = 0; i < times; ++i) {
    Rows rows = {.a = scratch,
                 .a_stride = kCount,
                 .segments = &all,
                 .segment_count = 1,
                 .b = b,
                 .c = c,
                 .c_stride = kPanel,
                 .accumulate = true};
    MultiplyRows(kRowsOfA, rows);
  }
  return static_cast<double>(times * kRowsOfA * kCount * kPanel);
}

const Kernels* GetKernels() {
  static const Kernels table = {hwy::TargetName(HWY_TARGET),
                                kPanel,
                                WinogradScratch,
                                Winograd,
                                WinogradPhase,
                                WinogradParts,
                                WinogradPhaseMemory,
                                DirectScratch,
                                Direct,
                                Upsample,
                                Interleave,
                                Saturate};
  return &table;
}

}  // namespace HWY_NAMESPACE
}  // namespace efficientad::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace efficientad::cpu {

HWY_EXPORT(GetKernels);

const Kernels& kernels() { return *HWY_DYNAMIC_DISPATCH(GetKernels)(); }

std::vector<const Kernels*> all_kernels() {
  std::vector<const Kernels*> all = {&kernels()};
  const auto supported = hwy::SupportedTargets();
  for (auto target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    const Kernels* found = &kernels();
    if (std::find(all.begin(), all.end(), found) == all.end()) all.push_back(found);
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(supported);
  return all;
}

}  // namespace efficientad::cpu
#endif
