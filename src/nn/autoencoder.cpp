#include "efficientad/nn/autoencoder.h"

#include <torch/nn/functional/upsampling.h>
#include <torch/nn/modules/conv.h>
#include <torch/utils.h>

#include "efficientad/core/error.h"
#include "efficientad/nn/convolution.h"
#include "efficientad/nn/dropout.h"
#include "efficientad/nn/initialization.h"

namespace efficientad {

namespace {

namespace F = torch::nn::functional;

torch::Tensor run_layer(torch::nn::Conv2d& conv, const torch::Tensor& x,
                        const BeforeConvolution& before) {
  if (before) before(*conv, x);
  const auto& options = conv->options;
  if (options.stride()->at(0) > 1) return conv->forward(x);
  return convolve(x, conv->weight, conv->bias,
                  std::get<torch::ExpandingArray<2>>(options.padding())->at(0));
}

torch::Tensor resize_bilinear(const torch::Tensor& x, std::array<int64_t, 2> size_hw,
                              bool antialias) {
  return F::interpolate(x, F::InterpolateFuncOptions()
                               .size(std::vector<int64_t>{size_hw[0], size_hw[1]})
                               .mode(torch::kBilinear)
                               .align_corners(false)
                               .antialias(antialias));
}

}  // namespace

EncoderImpl::EncoderImpl() {
  const std::array<int64_t, 7> channels = {3, 32, 32, 64, 64, 64, 64};
  for (size_t i = 0; i < 6; ++i) {
    const bool last = i == 5;
    torch::nn::Conv2dOptions conv(channels[i], channels[i + 1], last ? 8 : 4);
    if (!last) conv.stride(2).padding(1);
    convs_.push_back(register_module("enconv" + std::to_string(i + 1), torch::nn::Conv2d(conv)));
  }
}

torch::Tensor EncoderImpl::forward(torch::Tensor images, const BeforeConvolution& before) {
  for (size_t i = 0; i + 1 < convs_.size(); ++i) {
    images = torch::relu(run_layer(convs_[i], images, before));
  }
  return run_layer(convs_.back(), images, before);
}

DecoderImpl::DecoderImpl(int64_t out_channels) {
  for (int i = 1; i <= 8; ++i) {
    torch::nn::Conv2dOptions conv(64, i == 8 ? out_channels : 64, i <= 6 ? 4 : 3);
    conv.padding(i <= 6 ? 2 : 1);
    convs_.push_back(register_module("deconv" + std::to_string(i), torch::nn::Conv2d(conv)));
  }
}

torch::Tensor DecoderImpl::forward(torch::Tensor codes, std::array<int64_t, 2> image_hw,
                                   std::array<int64_t, 2> output_hw,
                                   const std::vector<uint64_t>& dropout_seeds,
                                   const BeforeConvolution& before) {
  const std::array<int64_t, 6> divisors = {64, 32, 16, 8, 4, 2};
  const std::array<int64_t, 6> less = {1, 0, 1, 0, 1, 1};
  constexpr double kDropout = 0.2;
  torch::Tensor x = std::move(codes);
  for (size_t i = 0; i < 6; ++i) {
    x = resize_bilinear(x,
                        {image_hw[0] / divisors[i] - less[i], image_hw[1] / divisors[i] - less[i]},
                        /*antialias=*/false);
    x = torch::relu(run_layer(convs_[i], x, before));
    if (!is_training()) continue;
    std::vector<uint64_t> seeds;
    for (const uint64_t seed : dropout_seeds) seeds.push_back(mix64(seed, /*stream=*/0, i));
    x = dropout(x, kDropout, seeds);
  }
  x = resize_bilinear(x, output_hw, /*antialias=*/false);
  x = torch::relu(run_layer(convs_[6], x, before));
  return run_layer(convs_[7], x, before);
}

AutoencoderImpl::AutoencoderImpl(int64_t out_channels)
    : encoder_(register_module("encoder", Encoder())),
      decoder_(register_module("decoder", Decoder(out_channels))) {}

torch::Tensor AutoencoderImpl::forward(const torch::Tensor& images,
                                       std::array<int64_t, 2> output_hw,
                                       const std::vector<uint64_t>& dropout_seeds) {
  return run(images, output_hw, dropout_seeds, {});
}

void AutoencoderImpl::initialize(const torch::Tensor& images, std::array<int64_t, 2> output_hw,
                                 Rng& rng) {
  const torch::NoGradGuard no_grad;
  const bool training = is_training();
  eval();  // Without dropout.
  torch::nn::Conv2dImpl* last = nullptr;
  run(images, output_hw, {}, [&](torch::nn::Conv2dImpl& conv, const torch::Tensor& x) {
    initialize_unit_variance(conv, rng, [&] { return conv.forward(x); });
    last = &conv;
  });
  last->weight.zero_();
  last->bias.zero_();
  train(training);
}

torch::Tensor AutoencoderImpl::run(const torch::Tensor& images, std::array<int64_t, 2> output_hw,
                                   const std::vector<uint64_t>& dropout_seeds,
                                   const BeforeConvolution& before) {
  const std::array<int64_t, 2> image_hw = {images.size(2), images.size(3)};
  require(image_hw[0] >= kAutoencoderSide && image_hw[1] >= kAutoencoderSide,
          "the autoencoder needs images of at least {0}x{0} px, but was given {1}x{2}; use "
          "autoencoder_input \"fixed\"",
          kAutoencoderSide, image_hw[1], image_hw[0]);
  return decoder_->forward(encoder_->forward(images, before), image_hw, output_hw, dropout_seeds,
                           before);
}

torch::Tensor autoencoder_input_fixed(const torch::Tensor& images) {
  if (images.size(2) == kAutoencoderSide && images.size(3) == kAutoencoderSide) return images;
  return resize_bilinear(images, {kAutoencoderSide, kAutoencoderSide}, /*antialias=*/true);
}

}  // namespace efficientad
