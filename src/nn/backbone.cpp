#include "efficientad/nn/backbone.h"

#include <torch/nn/functional/fold.h>
#include <torch/nn/functional/upsampling.h>
#include <torch/script.h>

#include <algorithm>
#include <charconv>

#include "efficientad/core/error.h"
#include "efficientad/core/safetensors.h"
#include "efficientad/nn/efficientnet_lite.h"
#include "efficientad/nn/imagenet.h"

namespace efficientad {

namespace fs = std::filesystem;
namespace F = torch::nn::functional;

namespace {

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  size_t start = 0;
  while (start <= text.size() && !text.empty()) {
    const size_t end = std::min(text.find(',', start), text.size());
    parts.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

std::map<std::string, std::string> provenance_of(const TensorFile& file) {
  std::map<std::string, std::string> provenance;
  for (const auto& [key, value] : file.metadata) {
    if (key != "format" && key != "format_version") provenance["backbone_" + key] = value;
  }
  return provenance;
}

class EfficientNetLiteBackbone : public Backbone {
 public:
  EfficientNetLiteBackbone(const TensorFile& file, const fs::path& path, const std::string& taps)
      : network_(file, path), provenance_(provenance_of(file)) {
    for (const auto& tap : split(taps.empty() ? "6,14" : taps)) {
      int64_t block = -1;
      const auto result = std::from_chars(tap.data(), tap.data() + tap.size(), block);
      require(result.ec == std::errc() && result.ptr == tap.data() + tap.size() && block >= 0 &&
                  block < network_.block_count() && (blocks_.empty() || block > blocks_.back()),
              "taps \"{}\": expected ascending block numbers from 0 to {}", taps,
              network_.block_count() - 1);
      blocks_.push_back(block);
    }
  }

  void to(torch::Device device) override { network_.to(device); }
  std::vector<torch::Tensor> features(const torch::Tensor& images) override {
    return network_.features(images, blocks_);
  }
  // SAME padding puts the extra pixel behind, which moves the grid by half a cell a reduction.
  int64_t grid_offset() const override { return 3; }
  std::map<std::string, std::string> provenance() const override { return provenance_; }

 private:
  EfficientNetLite network_;
  std::vector<int64_t> blocks_;
  std::map<std::string, std::string> provenance_;
};

/// The convolutions of VGG16 (Simonyan and Zisserman 2015) up to the last tap.
class Vgg16Backbone : public Backbone {
 public:
  Vgg16Backbone(const TensorFile& file, const fs::path& path, const std::string& taps)
      : taps_(split(taps.empty() ? "conv4_3" : taps)), provenance_(provenance_of(file)) {
    const std::array<int, 5> counts = {2, 2, 3, 3, 3};
    std::vector<std::string> names;
    for (size_t block = 0; block < counts.size(); ++block) {
      for (int i = 1; i <= counts[block]; ++i) {
        Layer layer;
        layer.name = fmt::format("conv{}_{}", block + 1, i);
        layer.pool_before = block > 0 && i == 1;
        layer.weight = take(file, layer.name + ".weight", path);
        layer.bias = take(file, layer.name + ".bias", path);
        names.push_back(layer.name);
        layers_.push_back(std::move(layer));
      }
    }
    for (const auto& tap : taps_) {
      require(std::find(names.begin(), names.end(), tap) != names.end(),
              "taps \"{}\": expected names of VGG16's layers: {}", taps, join(names));
    }
  }

  void to(torch::Device device) override {
    for (auto& layer : layers_) {
      layer.weight = layer.weight.to(device);
      layer.bias = layer.bias.to(device);
    }
  }
  std::vector<torch::Tensor> features(const torch::Tensor& images) override {
    // Caffe's convention: BGR, 0..255, these means subtracted, no scaling.
    const torch::Tensor mean =
        torch::tensor({104.00699f, 116.66877f, 122.67892f}).view({1, 3, 1, 1});
    torch::Tensor x = images.flip(1) * 255.0 - mean.to(images.device());
    // Cells are centred on pixel 8 j + 4; three pixels further, cell j + 4 is where output j is.
    x = torch::replication_pad2d(x, {kShift, -kShift, kShift, -kShift})
            .contiguous(torch::MemoryFormat::ChannelsLast);
    std::map<std::string, torch::Tensor> found;
    for (const auto& layer : layers_) {
      if (layer.pool_before) x = torch::max_pool2d(x, /*kernel_size=*/2, /*stride=*/2);
      x = torch::relu(torch::conv2d(x, layer.weight, layer.bias, /*stride=*/1, /*padding=*/1));
      if (std::find(taps_.begin(), taps_.end(), layer.name) != taps_.end()) found[layer.name] = x;
      if (found.size() == taps_.size()) break;
    }
    std::vector<torch::Tensor> maps;
    for (const auto& tap : taps_) maps.push_back(found.at(tap));
    return maps;
  }
  int64_t grid_offset() const override { return 4; }
  std::map<std::string, std::string> provenance() const override { return provenance_; }

 private:
  static constexpr int64_t kShift = 3;
  struct Layer {
    std::string name;
    bool pool_before = false;
    torch::Tensor weight;
    torch::Tensor bias;
  };
  std::vector<Layer> layers_;
  std::vector<std::string> taps_;
  std::map<std::string, std::string> provenance_;
};

class TorchScriptBackbone : public Backbone {
 public:
  explicit TorchScriptBackbone(const fs::path& path) : name_(path.filename().string()) {
    require(fs::is_regular_file(path), "{}: no such file", path.string());
    try {
      module_ = torch::jit::load(path.string(), torch::kCPU);
    } catch (const std::exception& error) {
      throw Error(
          fmt::format("{}: cannot be read as TorchScript: {}", path.string(), message_of(error)));
    }
    module_.eval();
  }

  void to(torch::Device device) override { module_.to(device); }
  std::vector<torch::Tensor> features(const torch::Tensor& images) override {
    torch::jit::IValue result;
    try {
      // Whoever wrote the module may count on rows one after another.
      result = module_.forward({imagenet_normalize(images).contiguous()});
    } catch (const std::exception& error) {
      throw Error(fmt::format("backbone {}: fails on an image of {}x{} px: {}", name_,
                              images.size(2), images.size(3), message_of(error)));
    }
    std::vector<torch::Tensor> maps;
    if (result.isTensor()) maps.push_back(result.toTensor());
    if (result.isTensorList()) maps = result.toTensorVector();
    if (result.isTuple()) {
      for (const auto& value : result.toTupleRef().elements()) {
        if (value.isTensor()) maps.push_back(value.toTensor());
      }
    }
    require(!maps.empty() && std::all_of(maps.begin(), maps.end(),
                                         [](const auto& map) { return map.dim() == 4; }),
            "backbone {}: must return feature maps [N, C, h, w], one or a tuple of them", name_);
    return maps;
  }
  // Symmetric padding, as in torchvision's networks: cells are centred on 4 j + 2 at half size.
  int64_t grid_offset() const override { return 4; }
  std::map<std::string, std::string> provenance() const override {
    return {{"backbone_architecture", name_}};
  }

 private:
  std::string name_;
  torch::jit::Module module_;
};

}  // namespace

std::unique_ptr<Backbone> open_backbone(const fs::path& path, const std::string& taps) {
  const std::string ending = path.extension().string();
  if (ending == ".pt" || ending == ".ts" || ending == ".pth" || ending == ".torchscript") {
    require(taps.empty(), "taps cannot be chosen for a TorchScript backbone");
    return std::make_unique<TorchScriptBackbone>(path);
  }
  const TensorFile file = read_safetensors(path);
  const auto format = file.metadata.find("format");
  require(format != file.metadata.end() && format->second == "efficientad-backbone",
          "{}: not a backbone file (scripts/convert_backbone.py makes them)", path.string());
  const auto architecture = file.metadata.find("architecture");
  if (architecture != file.metadata.end() && architecture->second == "vgg16") {
    return std::make_unique<Vgg16Backbone>(file, path, taps);
  }
  return std::make_unique<EfficientNetLiteBackbone>(file, path, taps);
}

torch::Tensor to_grid(const torch::Tensor& map, int64_t side) {
  if (map.size(2) == side && map.size(3) == side) return map;
  if (map.size(2) > side && map.size(2) % side == 0) {
    return torch::avg_pool2d(map, map.size(2) / side);
  }
  return F::interpolate(map, F::InterpolateFuncOptions()
                                 .size(std::vector<int64_t>{side, side})
                                 .mode(torch::kBilinear)
                                 .align_corners(false));
}

torch::Tensor patch_features(const std::vector<torch::Tensor>& maps, int64_t channels) {
  constexpr int64_t kPooled = 1024;
  const int64_t images = maps.at(0).size(0);
  const int64_t height = maps[0].size(2);
  const int64_t width = maps[0].size(3);
  std::vector<torch::Tensor> pooled;
  for (const auto& map : maps) {
    // [N, C * 9, h, w]: neighbourhoods as channels, so that resizing them is resizing each value.
    torch::Tensor patches = F::unfold(map, F::UnfoldFuncOptions(3).padding(1))
                                .view({images, map.size(1) * 9, map.size(2), map.size(3)});
    if (map.size(2) != height || map.size(3) != width) {
      patches = F::interpolate(patches, F::InterpolateFuncOptions()
                                            .size(std::vector<int64_t>{height, width})
                                            .mode(torch::kBilinear)
                                            .align_corners(false));
    }
    pooled.push_back(torch::adaptive_avg_pool1d(
                         patches.permute({0, 2, 3, 1}).reshape({-1, 1, map.size(1) * 9}), kPooled)
                         .squeeze(1));
  }
  return torch::adaptive_avg_pool1d(torch::cat(pooled, /*dim=*/1).unsqueeze(1), channels)
      .view({images, height, width, channels})
      .permute({0, 3, 1, 2});
}

}  // namespace efficientad
