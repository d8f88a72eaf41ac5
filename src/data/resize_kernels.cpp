// Compiled once for each instruction set by Highway's foreach_target.h.
#include "resize_kernels.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "data/resize_kernels.cpp"
// What is left: SSE2 (or what the compiler's baseline has), SSE4, AVX2, AVX-512; NEON on ARM.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2)
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace efficientad::internal {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Sums = hn::ScalableTag<int32_t>;
constexpr int64_t kLanes = hn::MaxLanes(Sums());
constexpr int32_t kHalf = 1 << (kResizePrecisionBits - 1);

uint8_t Rounded(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kResizePrecisionBits, 0, 255));
}

#if HWY_TARGET == HWY_SCALAR
void RgbRowOf(const RgbRow& row) {
  const int32_t* weights = row.weights;
  for (int64_t x = 0; x < row.width; ++x) {
    const uint8_t* in = row.in + 3 * row.first[x];
    int32_t sums[3] = {kHalf, kHalf, kHalf};
    for (int64_t k = 0; k < row.groups * kRgbGroup; ++k, weights += kRgbWeightCopies) {
      for (int c = 0; c < 3; ++c) sums[c] += in[3 * k + c] * *weights;
    }
    for (int c = 0; c < 3; ++c) row.out[3 * x + c] = Rounded(sums[c]);
  }
}
#else
using Bytes = hn::Repartition<uint8_t, Sums>;
using Pixel = hn::FixedTag<int32_t, 4>;
/// Pixels that a vector holds, each as four numbers, the last of them 0.
constexpr int64_t kPixels = kLanes / 4;

/// For each of the four pixels of a group where its channels lie, as the low bytes of four numbers.
HWY_ALIGN constexpr uint8_t kPlaces[64] = {
    0, 128, 128, 128, 1,  128, 128, 128, 2,  128, 128, 128, 128, 128, 128, 128,
    3, 128, 128, 128, 4,  128, 128, 128, 5,  128, 128, 128, 128, 128, 128, 128,
    6, 128, 128, 128, 7,  128, 128, 128, 8,  128, 128, 128, 128, 128, 128, 128,
    9, 128, 128, 128, 10, 128, 128, 128, 11, 128, 128, 128, 128, 128, 128, 128};

/// The sum of a vector's pixels.
template <class D>
HWY_INLINE hn::Vec<Pixel> SumOfPixels(D d, hn::Vec<D> sums) {
  if constexpr (hn::MaxLanes(D()) == 4) {
    return sums;
  } else {
    const hn::Half<D> half;
    return SumOfPixels(half, hn::Add(hn::LowerHalf(half, sums), hn::UpperHalf(half, sums)));
  }
}

void RgbRowOf(const RgbRow& row) {
  static_assert(kPixels >= 1 && kRgbGroup % kPixels == 0, "a group is some whole vectors");
  const Sums d;
  const Bytes bytes;
  const hn::Rebind<uint8_t, Pixel> low;
  const int32_t* weights = row.weights;
  uint8_t* out = row.out;
  for (int64_t x = 0; x < row.width; ++x, out += 3) {
    const uint8_t* in = row.in + 3 * row.first[x];
    auto sums = hn::Zero(d);
    for (int64_t group = 0; group < row.groups; ++group, in += 3 * kRgbGroup) {
      const auto pixels = hn::LoadDup128(bytes, in);
      for (int64_t i = 0; i < kRgbGroup; i += kPixels, weights += kLanes) {
        const auto places = hn::Load(bytes, kPlaces + 16 * i);
        const auto values = hn::BitCast(d, hn::TableLookupBytesOr0(pixels, places));
        sums = hn::Add(sums, hn::Mul(values, hn::LoadU(d, weights)));
      }
    }
    const auto sum = hn::Add(SumOfPixels(d, sums), hn::Set(Pixel(), kHalf));
    const auto value = hn::DemoteTo(low, hn::ShiftRight<kResizePrecisionBits>(sum));
    if (x + 1 < row.width) {
      hn::StoreU(value, low, out);  // The fourth byte is the next pixel's.
    } else {
      HWY_ALIGN uint8_t last[4];
      hn::Store(value, low, last);
      std::memcpy(out, last, 3);
    }
  }
}
#endif

void WeightedRowsOf(const WeightedRows& rows) {
  const Sums d;
  const hn::Rebind<uint8_t, Sums> low;
  int64_t x = 0;
  for (; x + kLanes <= rows.size; x += kLanes) {
    auto sums = hn::Set(d, kHalf);
    const uint8_t* in = rows.in + x;
    for (int64_t k = 0; k < rows.count; ++k, in += rows.size) {
      const auto values = hn::PromoteTo(d, hn::LoadU(low, in));
      sums = hn::Add(sums, hn::Mul(values, hn::Set(d, rows.weights[k])));
    }
    hn::StoreU(hn::DemoteTo(low, hn::ShiftRight<kResizePrecisionBits>(sums)), low, rows.out + x);
  }
  for (; x < rows.size; ++x) {
    int32_t sum = kHalf;
    for (int64_t k = 0; k < rows.count; ++k) sum += rows.in[k * rows.size + x] * rows.weights[k];
    rows.out[x] = Rounded(sum);
  }
}

const ResizeKernels* GetResizeKernels() {
  static const ResizeKernels table = {hwy::TargetName(HWY_TARGET), RgbRowOf, WeightedRowsOf};
  return &table;
}

}  // namespace HWY_NAMESPACE
}  // namespace efficientad::internal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace efficientad::internal {

HWY_EXPORT(GetResizeKernels);

const ResizeKernels& resize_kernels() { return *HWY_DYNAMIC_DISPATCH(GetResizeKernels)(); }

}  // namespace efficientad::internal
#endif
