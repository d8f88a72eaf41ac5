#include "efficientad/nn/pdn.h"

#include <torch/nn/modules/conv.h>

#include "efficientad/core/error.h"
#include "efficientad/nn/convolution.h"

namespace efficientad {

namespace {

struct Layer {
  int64_t kernel;
  int64_t padding;
  int64_t channels;  // 0: the network's output channels
  bool relu;
  bool pool;
};

const std::vector<Layer>& layers_of(const std::string& model_size) {
  static const std::vector<Layer> small = {{4, 3, 128, true, true},
                                           {4, 3, 256, true, true},
                                           {3, 1, 256, true, false},
                                           {4, 0, 0, false, false}};
  static const std::vector<Layer> medium = {{4, 3, 256, true, true},  {4, 3, 512, true, true},
                                            {1, 0, 512, true, false}, {3, 1, 512, true, false},
                                            {4, 0, 0, true, false},   {1, 0, 0, false, false}};
  TORCH_CHECK(model_size == "small" || model_size == "medium", "no PDN of size ", model_size);
  return model_size == "small" ? small : medium;
}

}  // namespace

int64_t pdn_output_side(int64_t side, bool padding) {
  constexpr int64_t kLeastSide = 64;
  require(side >= kLeastSide, "an image side of {} px is too small; at least {} px are needed",
          side, kLeastSide);
  return (side + 3) / 4 - (padding ? 0 : 8);
}

PdnImpl::PdnImpl(const PdnOptions& options) : options_(options) {
  int64_t in_channels = 3;
  for (const auto& layer : layers_of(options.model_size)) {
    const int64_t channels = layer.channels > 0 ? layer.channels : options.out_channels;
    torch::nn::Conv2dOptions conv(in_channels, channels, layer.kernel);
    conv.padding(options.padding ? layer.padding : 0);
    convs_.push_back(
        register_module("conv" + std::to_string(convs_.size() + 1), torch::nn::Conv2d(conv)));
    in_channels = channels;
  }
}

torch::Tensor PdnImpl::convolution(const torch::Tensor& x, size_t layer) const {
  const auto& conv = convs_.at(layer);
  return convolve(x, conv->weight, conv->bias,
                  options_.padding ? layers_of(options_.model_size)[layer].padding : 0);
}

torch::Tensor PdnImpl::pool(const torch::Tensor& x) const {
  return torch::avg_pool2d(x, /*kernel_size=*/2, /*stride=*/2, /*padding=*/options_.padding ? 1 : 0,
                           /*ceil_mode=*/false, /*count_include_pad=*/true);
}

torch::Tensor PdnImpl::up_to(const torch::Tensor& images, size_t layer) {
  const auto& layers = layers_of(options_.model_size);
  torch::Tensor x = images;
  for (size_t i = 0; i < layer; ++i) {
    if (layers[i].pool && !options_.padding) {
      x = conv_relu_pool(x, convs_[i]->weight, convs_[i]->bias);
      continue;
    }
    x = convolution(x, i);
    if (layers[i].relu) x = torch::relu(x);
    if (layers[i].pool) x = pool(x);
  }
  return x;
}

torch::Tensor PdnImpl::trunk(const torch::Tensor& images) {
  return up_to(images, convs_.size() - 1);
}

torch::Tensor PdnImpl::layer_output(const torch::Tensor& images, int64_t layer) {
  const auto index = static_cast<size_t>(layer);
  return convolution(up_to(images, index), index);
}

torch::Tensor PdnImpl::head(const torch::Tensor& features, int64_t begin, int64_t count) {
  const auto& conv = convs_.back();
  return convolve(features, conv->weight.narrow(0, begin, count),
                  conv->bias.narrow(0, begin, count));
}

torch::Tensor PdnImpl::forward(const torch::Tensor& images) {
  return head(trunk(images), 0, options_.out_channels);
}

}  // namespace efficientad
