#include "efficientad/train/feature_cache.h"

#include <torch/types.h>

#include <fstream>

#include "support/expect_error.h"
#include "support/near.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

torch::Tensor random_image() { return torch::randint(0, 256, {16, 16, 3}).to(torch::kUInt8); }
torch::Tensor random_target() { return torch::randn({4, 4, 5}); }

TEST(FeatureCache, GivesBackWindowsOfWhatWasPutIn) {
  const TempDir dir;
  FeatureCache cache(dir.path, "key", 16, 4, 5);
  std::vector<torch::Tensor> images;
  std::vector<torch::Tensor> targets;
  for (int i = 0; i < 3; ++i) {
    images.push_back(random_image());
    targets.push_back(random_target());
    cache.append(images.back(), targets.back());
  }
  ASSERT_EQ(cache.size(), 3);
  for (int64_t i = 0; i < 3; ++i) {
    const auto index = static_cast<size_t>(i);
    expect_same_bits(cache.image(i, 4, 8, 8, 5),
                     images[index].slice(0, 4, 12).slice(1, 8, 13).contiguous());
    expect_same_bits(cache.target(i, 1, 2, 3, 2),
                     targets[index].slice(0, 1, 4).slice(1, 2, 4).to(torch::kFloat16).contiguous());
  }
  EXPECT_THROW(cache.image(3, 0, 0, 1, 1), c10::Error);
  EXPECT_THROW(cache.image(0, 10, 0, 8, 1), c10::Error);
}

TEST(FeatureCache, GoesOnAfterAnInterruptionInTheMiddleOfARecord) {
  const TempDir dir;
  const torch::Tensor first = random_image();
  const torch::Tensor second = random_image();
  {
    FeatureCache cache(dir.path, "key", 16, 4, 5);
    cache.append(first, random_target());
  }
  std::ofstream(dir.path / "features.bin", std::ios::app) << "half a record";
  FeatureCache cache(dir.path, "key", 16, 4, 5);
  ASSERT_EQ(cache.size(), 1);
  cache.append(second, random_target());
  ASSERT_EQ(cache.size(), 2);
  expect_same_bits(cache.image(0, 0, 0, 16, 16), first);
  expect_same_bits(cache.image(1, 0, 0, 16, 16), second);
}

TEST(FeatureCache, DeletesItsOwnFilesOnly) {
  const TempDir dir;
  FeatureCache(dir.path / "own", "key", 16, 4, 5).remove();
  EXPECT_FALSE(std::filesystem::exists(dir.path / "own"));
  FeatureCache cache(dir.path / "shared", "key", 16, 4, 5);
  std::ofstream(dir.path / "shared" / "kept.txt") << "kept";
  cache.remove();
  EXPECT_TRUE(std::filesystem::exists(dir.path / "shared" / "kept.txt"));
  EXPECT_FALSE(std::filesystem::exists(dir.path / "shared" / "features.key"));
}

TEST(FeatureCache, RecordsOfAnotherKeyAreThrownAwayIfThatIsWanted) {
  const TempDir dir;
  {
    FeatureCache cache(dir.path, "key", 16, 4, 5);
    cache.append(random_image(), random_target());
  }
  EXPECT_EQ(FeatureCache(dir.path, "key", 16, 4, 5).size(), 1);
  EXPECT_ERROR(FeatureCache(dir.path, "another", 16, 4, 5), Error, "features of other images");
  EXPECT_EQ(FeatureCache(dir.path, "key", 16, 4, 5).size(), 1);
  EXPECT_EQ(FeatureCache(dir.path, "another", 16, 4, 5, /*replace=*/true).size(), 0);
}

}  // namespace
}  // namespace efficientad
