// Parts of the loops in src/nn/cpu and src/engine/cpu, compiled by each once for each instruction
// set: included again and again by Highway's foreach_target.h.
#if defined(EFFICIENTAD_NN_CPU_BLOCKS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef EFFICIENTAD_NN_CPU_BLOCKS_INL_H
#undef EFFICIENTAD_NN_CPU_BLOCKS_INL_H
#else
#define EFFICIENTAD_NN_CPU_BLOCKS_INL_H
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "nn/cpu/segment.h"

// Where the product's inner loop is written in assembly. Sanitizers do not see what that reads.
#undef EFFICIENTAD_ASSEMBLY
#if HWY_TARGET == HWY_AVX2 && defined(__GNUC__) && !defined(HWY_DISABLE_BMI2_FMA)
#define EFFICIENTAD_ASSEMBLY 1
#if defined(__SANITIZE_ADDRESS__)
#undef EFFICIENTAD_ASSEMBLY
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#undef EFFICIENTAD_ASSEMBLY
#endif
#endif
#endif

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

/// left += x b_left, right += x b_right.
HWY_INLINE void MultiplyAdd(const float& x, const V b_left, const V b_right, V& left, V& right) {
#if defined(EFFICIENTAD_ASSEMBLY)
  // Six rows need 15 of the 16 registers. Left to itself, the compiler takes more, moves sums from
  // one to another and spills some: a tenth slower with six rows, a third with three.
  __m256 factor;
  asm("vbroadcastss %[x], %[factor]\n\t"
      "vfmadd231ps %[factor], %[b_left], %[left]\n\t"
      "vfmadd231ps %[factor], %[b_right], %[right]"
      : [left] "+&x"(left.raw), [right] "+x"(right.raw), [factor] "=&x"(factor)
      : [x] "m"(x), [b_left] "x"(b_left.raw), [b_right] "x"(b_right.raw));
#else
  const V factor = Number(x);
  left = hn::MulAdd(factor, b_left, left);
  right = hn::MulAdd(factor, b_right, right);
#endif
}

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
          MultiplyAdd(rows[i / kGroup][k + i % kGroup * a_stride], b_left, b_right, left[i],
                      right[i]);
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
inline void MultiplyRows(int64_t row_count, Rows& rows, int64_t next_size = 0) {
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

/// Where the inputs of a tile begin.
struct Inputs {
  const float* data;
  int64_t row_stride;
  int64_t pixel_stride;
};

/// Channels that are transformed together: a pixel's are one piece of memory, which is fetched
/// faster than single lines.
constexpr int64_t kTransformChannels = 128;

/// B^T d B of one tile's inputs, 8 x 8 pixels of `channels` numbers, to [position][channel], of
/// which positions lie `position_stride` apart. Meanwhile `after`, of the same strides, is fetched.
inline void TransformInputTile(const Inputs& tile, const float* after, int64_t channels_of_all,
                               float* result, int64_t position_stride) {
  // [row][column][channel], rows a line more than a power of two apart.
  constexpr int64_t kRow = kTile * kTransformChannels + kLine;
  HWY_ALIGN float between[kTile * kRow];
  const int64_t row_stride = tile.row_stride;
  const int64_t pixel_stride = tile.pixel_stride;
  for (int64_t first = 0; first < channels_of_all; first += kTransformChannels) {
    const int64_t channels = std::min(kTransformChannels, channels_of_all - first);
    // What comes next is fetched meanwhile.
    const float* const next = first + kTransformChannels < channels_of_all
                                  ? tile.data + first + kTransformChannels
                                  : after;
    V d[kTile];
    for (int64_t column = 0; column < kTile; ++column) {
      const float* const from = tile.data + column * pixel_stride + first;
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
    float* const to = result + first;
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
          Store(d[column], to + (row * kTile + column) * position_stride + c);
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

}  // namespace HWY_NAMESPACE
}  // namespace efficientad::cpu
HWY_AFTER_NAMESPACE();

#endif
