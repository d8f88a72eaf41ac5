#include "efficientad/nn/backbone.h"

#include <torch/utils.h>

#include <cstdlib>
#include <fstream>

#include "efficientad/core/safetensors.h"
#include "efficientad/data/image.h"
#include "efficientad/data/resize.h"
#include "efficientad/nn/efficientnet_lite.h"
#include "nn/random_backbones.h"
#include "support/expect_error.h"
#include "support/near.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

TEST(EfficientNetLite, StridesChannelsAndClasses) {
  torch::NoGradGuard no_grad;
  const EfficientNetLite network(random_lite0(), "lite0");
  ASSERT_EQ(network.block_count(), 16);
  // An odd size: SAME padding gives ceil(side / stride).
  const auto maps = network.features(torch::rand({1, 3, 99, 64}), {0, 2, 4, 10});
  ASSERT_EQ(maps.size(), 4u);
  EXPECT_EQ(maps[0].sizes().vec(), (std::vector<int64_t>{1, 16, 50, 32}));
  EXPECT_EQ(maps[1].sizes().vec(), (std::vector<int64_t>{1, 24, 25, 16}));
  EXPECT_EQ(maps[2].sizes().vec(), (std::vector<int64_t>{1, 40, 13, 8}));
  EXPECT_EQ(maps[3].sizes().vec(), (std::vector<int64_t>{1, 112, 7, 4}));
  EXPECT_EQ(network.classify(torch::rand({2, 3, 64, 64})).sizes().vec(),
            (std::vector<int64_t>{2, 1000}));
}

TEST(EfficientNetLite, RefusesMissingAndMisshapenTensors) {
  TensorFile file = random_lite0();
  file.tensors.erase("blocks.3.expand.weight");
  EXPECT_ERROR(EfficientNetLite(file, "x"), Error, "x: has no tensor named blocks.3.expand.weight");
  file = random_lite0();
  file.tensors["stem.bias"] = torch::ones({31});
  EXPECT_ERROR(EfficientNetLite(file, "x"), Error, "stem.bias should have the shape [32]");
  file.metadata["architecture"] = "resnet50";
  EXPECT_ERROR(EfficientNetLite(file, "x"), Error, "not an EfficientNet-Lite");
}

/// The package's own network and ours must give every image the same class. Needs the converted
/// weights, which are not kept here: scripts/convert_backbone.py efficientnet-lite2 FILE --check
/// FOLDER, then EFFICIENTAD_BACKBONE=FILE EFFICIENTAD_BACKBONE_IMAGES=FOLDER.
TEST(EfficientNetLite, ClassifiesAsThePackageDoes) {
  const char* path = std::getenv("EFFICIENTAD_BACKBONE");
  const char* folder = std::getenv("EFFICIENTAD_BACKBONE_IMAGES");
  if (path == nullptr || folder == nullptr) GTEST_SKIP() << "EFFICIENTAD_BACKBONE is not set";
  torch::NoGradGuard no_grad;
  const EfficientNetLite network(read_safetensors(path), path);
  std::ifstream expected(std::string(path) + ".top1.csv");
  std::string line;
  std::getline(expected, line);
  int64_t images = 0;
  int64_t agree = 0;
  while (std::getline(expected, line)) {
    const auto comma = line.rfind(',');
    const torch::Tensor image = read_image(std::filesystem::path(folder) / line.substr(0, comma));
    const auto top = network.classify(to_float_chw(image).unsqueeze(0)).argmax().item<int64_t>();
    agree += top == std::stoll(line.substr(comma + 1)) ? 1 : 0;
    ++images;
  }
  ASSERT_GT(images, 0);
  EXPECT_EQ(agree, images);
}

TEST(Backbone, OpensByKindAndChecksTaps) {
  const TempDir dir;
  const auto lite = dir.path / "lite.safetensors";
  write_safetensors(lite, random_lite0());
  EXPECT_EQ(open_backbone(lite, "4,10")->features(torch::rand({1, 3, 64, 64})).size(), 2u);
  EXPECT_ERROR(open_backbone(lite, "10,4"), Error, "ascending block numbers");
  EXPECT_ERROR(open_backbone(lite, "16"), Error, "from 0 to 15");
  EXPECT_ERROR(open_backbone(lite, "conv1"), Error, "ascending block numbers");
  TensorFile other;
  other.tensors["x"] = torch::ones({1});
  write_safetensors(dir.path / "other.safetensors", other);
  EXPECT_ERROR(open_backbone(dir.path / "other.safetensors", ""), Error, "not a backbone file");
  EXPECT_ERROR(open_backbone(dir.path / "none.safetensors", ""), Error, "no such file");
}

TEST(Backbone, VggCellsLieWhereTheirOffsetSays) {
  torch::NoGradGuard no_grad;
  const TempDir dir;
  const auto path = dir.path / "vgg.safetensors";
  TensorFile file = random_vgg16();
  // Averages instead of random weights: the response to a dot is then centred on it.
  for (auto& [name, tensor] : file.tensors) {
    if (tensor.dim() == 4) tensor = torch::full(tensor.sizes(), 1.0 / (9 * tensor.size(1)));
    if (tensor.dim() == 1) tensor = torch::full(tensor.sizes(), 100.0);
  }
  write_safetensors(path, file);
  EXPECT_ERROR(open_backbone(path, "conv9_1"), Error, "conv1_1");
  const auto backbone = open_backbone(path, "conv4_3");
  // A dot where the unpadded PDN's output j = 4 is centred: pixel 32 at half size, 64.5 here.
  torch::Tensor image = torch::zeros({1, 3, 256, 256});
  image.slice(2, 64, 66).slice(3, 64, 66).fill_(1.0);
  const torch::Tensor map = backbone->features(image)[0].mean(torch::IntArrayRef{0, 1});
  ASSERT_EQ(map.sizes().vec(), (std::vector<int64_t>{32, 32}));
  const torch::Tensor response = map - map[31][31];
  const torch::Tensor profile = response.sum(torch::IntArrayRef{1});
  const torch::Tensor window = profile.slice(0, 2, 15);
  const double centre = ((window * torch::arange(2, 15)).sum() / window.sum()).item<double>();
  EXPECT_NEAR(centre, 4.0 + static_cast<double>(backbone->grid_offset()), 0.15);
}

TEST(PatchFeatures, AgreeWithPlainLoops) {
  const torch::Tensor fine = torch::randn({1, 6, 4, 4});
  const torch::Tensor features = patch_features({fine}, 384);
  ASSERT_EQ(features.sizes().vec(), (std::vector<int64_t>{1, 384, 4, 4}));
  // One map of 54 values a patch: pooling to 1024 and then to 384, both as adaptive averages.
  const auto pool = [](const std::vector<double>& values, int64_t out) {
    std::vector<double> pooled;
    const auto n = static_cast<int64_t>(values.size());
    for (int64_t i = 0; i < out; ++i) {
      const int64_t begin = i * n / out;
      const int64_t end = ((i + 1) * n + out - 1) / out;
      double sum = 0;
      for (int64_t k = begin; k < end; ++k) sum += values[static_cast<size_t>(k)];
      pooled.push_back(sum / static_cast<double>(end - begin));
    }
    return pooled;
  };
  for (const auto& [y, x] : {std::pair{0, 0}, {2, 1}, {3, 3}}) {
    std::vector<double> patch;
    for (int c = 0; c < 6; ++c) {
      for (int dy = -1; dy <= 1; ++dy) {
        for (int dx = -1; dx <= 1; ++dx) {
          const bool inside = y + dy >= 0 && y + dy < 4 && x + dx >= 0 && x + dx < 4;
          patch.push_back(inside ? fine[0][c][y + dy][x + dx].item<double>() : 0.0);
        }
      }
    }
    const auto want = pool(pool(patch, 1024), 384);
    for (int64_t c = 0; c < 384; ++c) {
      ASSERT_NEAR(features[0][c][y][x].item<double>(), want[static_cast<size_t>(c)], 1e-5);
    }
  }
}

TEST(ToGrid, AveragesDownAndInterpolatesUp) {
  const torch::Tensor ramp = torch::arange(16, torch::kFloat32).view({1, 1, 4, 4});
  expect_near(to_grid(ramp, 2), torch::tensor({2.5f, 4.5f, 10.5f, 12.5f}).view({1, 1, 2, 2}), 0,
              1e-6);
  EXPECT_EQ(to_grid(ramp, 8).size(3), 8);
  EXPECT_TRUE(to_grid(ramp, 4).is_same(ramp));
}

}  // namespace
}  // namespace efficientad
