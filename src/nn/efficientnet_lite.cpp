#include "efficientad/nn/efficientnet_lite.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "efficientad/core/error.h"

namespace efficientad {

namespace {

struct Variant {
  const char* architecture;
  double depth;
};

// Tan and Le 2019, table 1; Lite keeps the first and the last stage at one repeat.
constexpr Variant kVariants[] = {
    {"efficientnet-lite0", 1.0}, {"efficientnet-lite1", 1.1}, {"efficientnet-lite2", 1.2}};
constexpr std::array<int64_t, 7> kRepeats = {1, 2, 2, 3, 3, 4, 1};
constexpr std::array<int64_t, 7> kStrides = {1, 2, 2, 2, 1, 2, 1};

}  // namespace

torch::Tensor EfficientNetLite::Conv::operator()(const torch::Tensor& x) const {
  // TensorFlow's SAME: output ceil(side / stride), the odd pixel of padding at the end.
  const auto pad = [&](int64_t side, int64_t kernel) {
    const int64_t out = (side + stride - 1) / stride;
    return std::max<int64_t>((out - 1) * stride + kernel - side, 0);
  };
  const int64_t pad_y = pad(x.size(2), weight.size(2));
  const int64_t pad_x = pad(x.size(3), weight.size(3));
  if (pad_y % 2 == 0 && pad_x % 2 == 0) {
    return torch::conv2d(x, weight, bias, stride, torch::IntArrayRef{pad_y / 2, pad_x / 2},
                         /*dilation=*/1, groups);
  }
  const torch::Tensor padded =
      torch::constant_pad_nd(x, {pad_x / 2, pad_x - pad_x / 2, pad_y / 2, pad_y - pad_y / 2}, 0);
  return torch::conv2d(padded, weight, bias, stride, /*padding=*/torch::IntArrayRef{0},
                       /*dilation=*/1, groups);
}

torch::Tensor EfficientNetLite::Block::operator()(const torch::Tensor& x) const {
  torch::Tensor y = has_expand ? torch::relu6(expand(x)) : x;
  y = project(torch::relu6(depthwise(y)));
  return skip ? y + x : y;
}

EfficientNetLite::EfficientNetLite(const TensorFile& file, const std::filesystem::path& path) {
  const auto found = file.metadata.find("architecture");
  const Variant* variant = nullptr;
  for (const auto& known : kVariants) {
    if (found != file.metadata.end() && found->second == known.architecture) variant = &known;
  }
  require(variant != nullptr, "{}: not an EfficientNet-Lite 0, 1 or 2 backbone", path.string());
  const auto conv = [&](const std::string& name, int64_t stride, bool depthwise) {
    Conv result;
    result.weight = take(file, name + ".weight", path);
    require(result.weight.dim() == 4, "{}: {}.weight is no convolution weight", path.string(),
            name);
    result.bias = take(file, name + ".bias", path, {result.weight.size(0)});
    result.stride = stride;
    result.groups = depthwise ? result.weight.size(0) : 1;
    return result;
  };
  stem_ = conv("stem", 2, /*depthwise=*/false);
  int64_t channels = stem_.weight.size(0);
  for (size_t stage = 0; stage < kRepeats.size(); ++stage) {
    const bool scaled = stage > 0 && stage + 1 < kRepeats.size();
    const auto repeats =
        scaled
            ? static_cast<int64_t>(std::ceil(variant->depth * static_cast<double>(kRepeats[stage])))
            : kRepeats[stage];
    for (int64_t i = 0; i < repeats; ++i) {
      const std::string name = "blocks." + std::to_string(blocks_.size());
      const int64_t stride = i == 0 ? kStrides[stage] : 1;
      Block block;
      block.has_expand = stage > 0;
      if (block.has_expand) block.expand = conv(name + ".expand", 1, /*depthwise=*/false);
      block.depthwise = conv(name + ".depthwise", stride, /*depthwise=*/true);
      block.project = conv(name + ".project", 1, /*depthwise=*/false);
      const int64_t out = block.project.weight.size(0);
      block.skip = stride == 1 && out == channels;
      channels = out;
      blocks_.push_back(std::move(block));
    }
  }
  head_ = conv("head", 1, /*depthwise=*/false);
  classifier_weight_ = take(file, "classifier.weight", path, {1000, head_.weight.size(0)});
  classifier_bias_ = take(file, "classifier.bias", path, {1000});
}

void EfficientNetLite::to(torch::Device device) {
  const auto move = [&](Conv& conv) {
    if (!conv.weight.defined()) return;
    conv.weight = conv.weight.to(device);
    conv.bias = conv.bias.to(device);
  };
  move(stem_);
  for (auto& block : blocks_) {
    for (Conv* conv : {&block.expand, &block.depthwise, &block.project}) move(*conv);
  }
  move(head_);
  classifier_weight_ = classifier_weight_.to(device);
  classifier_bias_ = classifier_bias_.to(device);
}

torch::Tensor EfficientNetLite::stem(const torch::Tensor& images) const {
  // The network was trained on (pixel - 127) / 128.
  const torch::Tensor x = (images * 255.0 - 127.0) / 128.0;
  return torch::relu6(stem_(x.contiguous(torch::MemoryFormat::ChannelsLast)));
}

std::vector<torch::Tensor> EfficientNetLite::features(const torch::Tensor& images,
                                                      const std::vector<int64_t>& blocks) const {
  std::vector<torch::Tensor> maps;
  torch::Tensor x = stem(images);
  for (int64_t i = 0; i < block_count() && maps.size() < blocks.size(); ++i) {
    x = blocks_[static_cast<size_t>(i)](x);
    if (blocks[maps.size()] == i) maps.push_back(x);
  }
  TORCH_CHECK(maps.size() == blocks.size(), "blocks must be ascending and exist");
  return maps;
}

torch::Tensor EfficientNetLite::classify(const torch::Tensor& images) const {
  torch::Tensor x = stem(images);
  for (const auto& block : blocks_) x = block(x);
  x = torch::relu6(head_(x)).mean({2, 3});
  return torch::linear(x, classifier_weight_, classifier_bias_);
}

}  // namespace efficientad
