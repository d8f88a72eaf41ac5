#pragma once

#include <torch/nn/functional/upsampling.h>

#include <algorithm>
#include <array>

#include "efficientad/nn/imagenet.h"
#include "engine/cuda/frame_math.h"
#include "engine/cuda/operations.h"

namespace efficientad {

/// The operations of the CUDA engine as LibTorch has them: slow, obvious, and on any device; those
/// of frames pixel by pixel as the kernels do, on the CPU.
class PlainOperations : public cuda::Operations {
 public:
  void copy(torch::Tensor to, const torch::Tensor& from) const override { to.copy_(from); }

  void normalize(const torch::Tensor& images_u8, bool equalize, torch::Tensor to) const override {
    to.zero_();
    to.narrow(1, 0, 3).copy_(
        network_input(images_u8.permute({0, 3, 1, 2}).to(torch::kFloat32) / 255.0, equalize));
  }

  torch::Tensor convolution(const torch::Tensor& x, const torch::Tensor& weight, int64_t stride,
                            int64_t padding) const override {
    return torch::conv2d(x, weight, {}, stride, padding)
        .contiguous(torch::MemoryFormat::ChannelsLast);
  }

  torch::Tensor convolution_relu(const torch::Tensor& x, const torch::Tensor& weight,
                                 const torch::Tensor& bias, int64_t stride,
                                 int64_t padding) const override {
    return torch::relu(torch::conv2d(x, weight, bias, stride, padding))
        .contiguous(torch::MemoryFormat::ChannelsLast);
  }

  void bias_relu_pool(const torch::Tensor& x, int64_t first_channel, const torch::Tensor& bias,
                      int64_t padding, torch::Tensor to) const override {
    const torch::Tensor part = x.narrow(1, first_channel, to.size(1));
    to.copy_(torch::avg_pool2d(torch::relu(biased(part, bias)), 2, 2, padding,
                               /*ceil_mode=*/false, /*count_include_pad=*/true));
  }

  void bias_upsample(const torch::Tensor& x, const torch::Tensor& bias, bool relu,
                     torch::Tensor to) const override {
    namespace F = torch::nn::functional;
    const torch::Tensor y = biased(x, bias);
    to.copy_(F::interpolate(relu ? torch::relu(y) : y,
                            F::InterpolateFuncOptions()
                                .size(std::vector<int64_t>{to.size(2), to.size(3)})
                                .mode(torch::kBilinear)
                                .align_corners(false)));
  }

  bool has_first_layer(torch::ScalarType) const override { return first_layer_is_one; }

  void first_layer(const torch::Tensor& x, const torch::Tensor& packed, const torch::Tensor& bias,
                   int64_t padding, torch::Tensor teacher, torch::Tensor student) const override {
    const torch::Tensor weight = unpack_first_layer(packed.to(torch::kFloat32));
    const torch::Tensor both =
        torch::conv2d(x.to(torch::kFloat32).contiguous(), weight, {}, /*stride=*/1, padding);
    const int64_t channels = teacher.size(1);
    bias_relu_pool(both, 0, bias.narrow(0, 0, channels), padding > 0 ? 1 : 0, teacher);
    bias_relu_pool(both, channels, bias.narrow(0, channels, channels), padding > 0 ? 1 : 0,
                   student);
  }

  void maps(const torch::Tensor& teacher, const torch::Tensor& student,
            const torch::Tensor& autoencoder, const torch::Tensor& bias_st,
            const torch::Tensor& bias_ae, const cuda::MapNormalization& normalization,
            torch::Tensor st, torch::Tensor ae, torch::Tensor combined) const override {
    const int64_t channels = teacher.size(1);
    const auto f = [](const torch::Tensor& x) { return x.to(torch::kFloat32); };
    st.copy_(biased(f(teacher) - f(student.narrow(1, 0, channels)), bias_st)
                 .square()
                 .mean(1, /*keepdim=*/true));
    ae.copy_(biased(f(autoencoder) - f(student.narrow(1, channels, channels)), bias_ae)
                 .square()
                 .mean(1, /*keepdim=*/true));
    const int64_t border = (combined.size(2) - st.size(2)) / 2;
    combined.narrow(2, border, st.size(2))
        .narrow(3, border, st.size(3))
        .copy_(0.5 * (st - normalization.q_a_st) * normalization.scale_st +
               0.5 * (ae - normalization.q_a_ae) * normalization.scale_ae);
  }

  void resize_width(const torch::Tensor& image_u8, const cuda::DeviceTaps& taps,
                    torch::Tensor to) const override {
    for (int64_t y = 0; y < to.size(0); ++y) {
      for (int64_t x = 0; x < to.size(1); ++x) {
        weighted_pixel(image_u8, y, taps.first[x].item<int64_t>(), /*stride=*/3, taps, x, to[y][x]);
      }
    }
  }

  void resize_height(const torch::Tensor& image_u8, const cuda::DeviceTaps& taps,
                     torch::Tensor to) const override {
    for (int64_t y = 0; y < to.size(0); ++y) {
      for (int64_t x = 0; x < to.size(1); ++x) {
        weighted_pixel(image_u8, taps.first[y].item<int64_t>(), x, 3 * image_u8.size(1), taps, y,
                       to[y][x]);
      }
    }
  }

  void upsample_map(const torch::Tensor& map, std::array<int64_t, 2> size_hw, torch::Tensor to,
                    torch::Tensor greatest) const override {
    const auto scale = [](int64_t from, int64_t size) {
      return static_cast<float>(from) / static_cast<float>(size);
    };
    uint32_t order = 0;
    for (int64_t y = 0; y < size_hw[0]; ++y) {
      const cuda::Source row = cuda::source(static_cast<int>(y), static_cast<int>(map.size(2)),
                                            scale(map.size(2), size_hw[0]));
      for (int64_t x = 0; x < size_hw[1]; ++x) {
        const cuda::Source column = cuda::source(static_cast<int>(x), static_cast<int>(map.size(3)),
                                                 scale(map.size(3), size_hw[1]));
        const float value = cuda::between_cells(map.data_ptr<float>(), map.size(3), row, column);
        if (to.defined()) to.data_ptr<float>()[y * size_hw[1] + x] = value;
        order = std::max(order, cuda::order_of(value));
      }
    }
    greatest.fill_(static_cast<int32_t>(order));
  }

  void parallel(const std::vector<std::function<void()>>& branches) const override {
    std::vector<std::function<void()>> order = branches;
    if (last_branch_first) std::reverse(order.begin(), order.end());
    for (const auto& branch : order) branch();
  }

  /// The inverse of pack_first_layer(), as the lanes of a warp read it (kernels.cu): float32
  /// [2 C, 4, 4, 4] on the device of `packed`.
  static torch::Tensor unpack_first_layer(const torch::Tensor& packed) {
    const torch::Tensor from = packed.cpu();
    const int64_t channels = from.numel() / 64;
    torch::Tensor weight = torch::zeros({channels, 4, 4, 4});
    auto to = weight.accessor<float, 4>();
    const float* next = from.data_ptr<float>();
    for (int64_t group = 0; group < channels / 32; ++group) {
      for (int64_t tile = 0; tile < 4; ++tile) {
        for (int64_t half = 0; half < 2; ++half) {
          for (int64_t lane = 0; lane < 32; ++lane) {
            const int64_t quad = lane / 4;
            const int64_t channel = 32 * group + 8 * (quad / 2) + 2 * tile + quad % 2;
            for (int64_t word = 0; word < 4; ++word) {
              for (int64_t element = 0; element < 2; ++element) {
                const int64_t row = 2 * half + word / 2;
                const int64_t k = 2 * (lane % 4) + element + 8 * (word % 2);
                to[channel][k % 4][row][k / 4] = *next++;
              }
            }
          }
        }
      }
    }
    return weight.to(packed.device());
  }

  /// What has_first_layer() says.
  bool first_layer_is_one = true;
  bool last_branch_first = false;

 private:
  static void weighted_pixel(const torch::Tensor& image_u8, int64_t y, int64_t x, int64_t stride,
                             const cuda::DeviceTaps& taps, int64_t position,
                             const torch::Tensor& to) {
    cuda::weighted_pixel(image_u8.data_ptr<uint8_t>() + 3 * (y * image_u8.size(1) + x), stride,
                         taps.count[position].item<int32_t>(),
                         taps.weights[position].data_ptr<int32_t>(), to.data_ptr<uint8_t>());
  }

  static torch::Tensor biased(const torch::Tensor& x, const torch::Tensor& bias) {
    return x.to(torch::kFloat32) + bias.view({1, -1, 1, 1});
  }
};

}  // namespace efficientad
