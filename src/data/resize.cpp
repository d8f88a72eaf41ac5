#include "efficientad/data/resize.h"

#include <torch/types.h>

#include <algorithm>
#include <vector>

#include "efficientad/core/resize_taps.h"
#include "resize_kernels.h"

namespace efficientad {
namespace {

constexpr int32_t kHalf = 1 << (kResizePrecisionBits - 1);

uint8_t clip8(int32_t value) {
  return static_cast<uint8_t>(std::clamp(value >> kResizePrecisionBits, 0, 255));
}

template <int kChannels>
void resize_rows(const uint8_t* in, int64_t height, int64_t in_width, int64_t out_width,
                 const ResizeTaps& taps, uint8_t* out) {
  for (int64_t y = 0; y < height; ++y) {
    const uint8_t* row = in + y * in_width * kChannels;
    for (int64_t x = 0; x < out_width; ++x, out += kChannels) {
      const int32_t* weights = taps.weights.data() + x * taps.stride;
      const uint8_t* pixel = row + taps.first[static_cast<size_t>(x)] * kChannels;
      const int64_t count = taps.count[static_cast<size_t>(x)];
      int32_t sums[kChannels];
      for (int c = 0; c < kChannels; ++c) sums[c] = kHalf;
      for (int64_t k = 0; k < count; ++k, pixel += kChannels) {
        for (int c = 0; c < kChannels; ++c) sums[c] += pixel[c] * weights[k];
      }
      for (int c = 0; c < kChannels; ++c) out[c] = clip8(sums[c]);
    }
  }
}

/// As resize_rows<3>().
void resize_rgb_rows(const uint8_t* in, int64_t height, int64_t in_width, int64_t out_width,
                     const ResizeTaps& taps, uint8_t* out) {
  constexpr int64_t kGroup = internal::kRgbGroup;
  constexpr int64_t kCopies = internal::kRgbWeightCopies;
  const int64_t most = *std::max_element(taps.count.begin(), taps.count.end());
  const int64_t groups = (most + kGroup - 1) / kGroup;
  std::vector<int32_t> weights(static_cast<size_t>(out_width * groups * kGroup * kCopies), 0);
  for (int64_t x = 0; x < out_width; ++x) {
    for (int64_t k = 0; k < taps.count[static_cast<size_t>(x)]; ++k) {
      std::fill_n(weights.begin() + (x * groups * kGroup + k) * kCopies, kCopies,
                  taps.weights[static_cast<size_t>(x * taps.stride + k)]);
    }
  }
  internal::RgbRow row = {
      .first = taps.first.data(), .groups = groups, .weights = weights.data(), .width = out_width};
  // The last rows are read from a copy with room behind it.
  const int64_t row_bytes = 3 * in_width;
  const int64_t last_first = *std::max_element(taps.first.begin(), taps.first.end());
  const int64_t read = 3 * (last_first + (groups - 1) * kGroup) + internal::kRgbReadBeyond;
  std::vector<uint8_t> copy(static_cast<size_t>(std::max(read, row_bytes)), 0);
  for (int64_t y = 0; y < height; ++y) {
    row.in = in + y * row_bytes;
    if ((height - y) * row_bytes < read) {
      std::copy_n(row.in, row_bytes, copy.begin());
      row.in = copy.data();
    }
    row.out = out + y * 3 * out_width;
    internal::resize_kernels().rgb_row(row);
  }
}

torch::Tensor resize_horizontally(const torch::Tensor& image, int64_t out_width) {
  const int64_t height = image.size(0);
  const int64_t in_width = image.size(1);
  const int64_t channels = image.size(2);
  const ResizeTaps taps = make_resize_taps(in_width, out_width);
  torch::Tensor result = torch::empty({height, out_width, channels}, torch::kUInt8);
  const uint8_t* in = image.data_ptr<uint8_t>();
  uint8_t* out = result.data_ptr<uint8_t>();
  if (channels == 1) resize_rows<1>(in, height, in_width, out_width, taps, out);
  if (channels == 2) resize_rows<2>(in, height, in_width, out_width, taps, out);
  if (channels == 3) resize_rgb_rows(in, height, in_width, out_width, taps, out);
  if (channels == 4) resize_rows<4>(in, height, in_width, out_width, taps, out);
  return result;
}

torch::Tensor resize_vertically(const torch::Tensor& image, int64_t out_height) {
  const int64_t row_bytes = image.size(1) * image.size(2);
  const ResizeTaps taps = make_resize_taps(image.size(0), out_height);
  torch::Tensor result = torch::empty({out_height, image.size(1), image.size(2)}, torch::kUInt8);
  const uint8_t* in = image.data_ptr<uint8_t>();
  uint8_t* out = result.data_ptr<uint8_t>();
  for (int64_t y = 0; y < out_height; ++y) {
    const auto place = static_cast<size_t>(y);
    internal::resize_kernels().weighted_rows({.in = in + taps.first[place] * row_bytes,
                                              .weights = taps.weights.data() + y * taps.stride,
                                              .count = taps.count[place],
                                              .size = row_bytes,
                                              .out = out + y * row_bytes});
  }
  return result;
}

}  // namespace

torch::Tensor resize_pil_bilinear(const torch::Tensor& image_u8, std::array<int64_t, 2> size_hw) {
  TORCH_CHECK(image_u8.scalar_type() == torch::kUInt8 && image_u8.dim() == 3 &&
                  image_u8.size(2) >= 1 && image_u8.size(2) <= 4 && image_u8.numel() > 0,
              "resize_pil_bilinear() takes uint8 [height, width, 1 to 4], got ",
              image_u8.scalar_type(), " ", image_u8.sizes());
  TORCH_CHECK(size_hw[0] > 0 && size_hw[1] > 0, "cannot resize to ", size_hw[0], "x", size_hw[1]);
  torch::Tensor image = image_u8.contiguous();
  if (image.size(1) != size_hw[1]) image = resize_horizontally(image, size_hw[1]);
  if (image.size(0) != size_hw[0]) image = resize_vertically(image, size_hw[0]);
  return image.is_same(image_u8) ? image.clone() : image;
}

torch::Tensor to_float_chw(const torch::Tensor& image_u8) {
  TORCH_CHECK(
      image_u8.scalar_type() == torch::kUInt8 && image_u8.dim() == 3 && image_u8.size(2) == 3,
      "to_float_chw() takes uint8 [height, width, 3], got ", image_u8.scalar_type(), " ",
      image_u8.sizes());
  const torch::Tensor image = image_u8.contiguous();
  const int64_t pixels = image.size(0) * image.size(1);
  torch::Tensor result = torch::empty({3, image.size(0), image.size(1)}, torch::kFloat);
  const uint8_t* in = image.data_ptr<uint8_t>();
  float* out = result.data_ptr<float>();
  for (int64_t i = 0; i < pixels; ++i) {
    for (int64_t c = 0; c < 3; ++c) out[c * pixels + i] = static_cast<float>(in[3 * i + c]) / 255.f;
  }
  return result;
}

}  // namespace efficientad
