#pragma once

#include <torch/types.h>

#include <cmath>
#include <string>
#include <vector>

#include "efficientad/core/safetensors.h"

namespace efficientad {

/// EfficientNet-Lite0 with random weights: the published stages, written out.
inline TensorFile random_lite0() {
  TensorFile file;
  file.metadata = {{"format", "efficientad-backbone"}, {"architecture", "efficientnet-lite0"}};
  const auto conv = [&](const std::string& name, int64_t out, int64_t in, int64_t kernel) {
    file.tensors[name + ".weight"] = torch::randn({out, in, kernel, kernel}) /
                                     std::sqrt(static_cast<double>(in * kernel * kernel));
    file.tensors[name + ".bias"] = torch::randn({out}) * 0.1;
  };
  struct Stage {
    int64_t repeats, kernel, expand, out;
  };
  const std::vector<Stage> stages = {{1, 3, 1, 16},  {2, 3, 6, 24},  {2, 5, 6, 40}, {3, 3, 6, 80},
                                     {3, 5, 6, 112}, {4, 5, 6, 192}, {1, 3, 6, 320}};
  conv("stem", 32, 3, 3);
  int64_t in = 32;
  int64_t block = 0;
  for (const auto& stage : stages) {
    for (int64_t i = 0; i < stage.repeats; ++i, ++block) {
      const std::string name = "blocks." + std::to_string(block);
      const int64_t inner = in * stage.expand;
      if (stage.expand > 1) conv(name + ".expand", inner, in, 1);
      conv(name + ".depthwise", inner, 1, stage.kernel);
      conv(name + ".project", stage.out, inner, 1);
      in = stage.out;
    }
  }
  conv("head", 1280, 320, 1);
  file.tensors["classifier.weight"] = torch::randn({1000, 1280}) * 0.03;
  file.tensors["classifier.bias"] = torch::randn({1000}) * 0.1;
  return file;
}

inline TensorFile random_vgg16() {
  TensorFile file;
  file.metadata = {{"format", "efficientad-backbone"}, {"architecture", "vgg16"}};
  const std::vector<std::vector<int64_t>> blocks = {
      {64, 64}, {128, 128}, {256, 256, 256}, {512, 512, 512}, {512, 512, 512}};
  int64_t in = 3;
  for (size_t b = 0; b < blocks.size(); ++b) {
    for (size_t i = 0; i < blocks[b].size(); ++i) {
      const std::string name = "conv" + std::to_string(b + 1) + "_" + std::to_string(i + 1);
      file.tensors[name + ".weight"] = torch::randn({blocks[b][i], in, 3, 3}) * 0.02;
      file.tensors[name + ".bias"] = torch::randn({blocks[b][i]});
      in = blocks[b][i];
    }
  }
  return file;
}

}  // namespace efficientad
