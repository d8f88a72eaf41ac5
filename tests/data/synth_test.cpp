#include "efficientad/data/synth.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "data/tray.h"
#include "efficientad/core/file.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/data/dataset.h"
#include "efficientad/data/image.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

namespace fs = std::filesystem;

/// Enough images for each kind of defect, small.
SynthOptions small_set(const fs::path& output) {
  SynthOptions options;
  options.output = output.string();
  options.images = 48;
  options.size = 64;
  options.seed = 5;
  return options;
}

/// Bytes of all files, by path relative to the folder.
std::map<std::string, std::string> bytes_of(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) {
      files[fs::relative(entry.path(), folder).string()] = read_file(entry.path());
    }
  }
  return files;
}

TEST(Synth, LayoutIsThatOfMvtecLoco) {
  const TempDir temp;
  const SynthOptions options = small_set(temp.path / "set");
  std::vector<int64_t> calls;
  make_synth_dataset(options, [&](int64_t done, int64_t total) {
    EXPECT_EQ(total, 48);
    calls.push_back(done);
  });
  EXPECT_EQ(calls.size(), 48u);
  EXPECT_TRUE(std::is_sorted(calls.begin(), calls.end()));

  const Dataset set = open_dataset("loco", temp.path / "set", "tray");
  EXPECT_EQ(set.train.size(), 26u);
  EXPECT_EQ(set.validation.size(), 4u);
  EXPECT_EQ(set.test.size(), 18u);
  std::map<std::string, int> counts;
  for (const Sample& sample : set.test) ++counts[sample.defect];
  EXPECT_EQ(counts["good"], 6);
  EXPECT_EQ(counts["logical_anomalies"], 6);
  EXPECT_EQ(counts["structural_anomalies"], 6);
}

TEST(Synth, MasksFitTheirImagesAndTheConfiguration) {
  const TempDir temp;
  const SynthOptions options = small_set(temp.path);
  make_synth_dataset(options, nullptr);
  const nlohmann::json config = read_json(temp.path / "tray" / "defects_config.json");
  std::map<int, std::string> name_of_value;
  for (const auto& entry : config) {
    const int value = entry.at("pixel_value").get<int>();
    EXPECT_TRUE(name_of_value.emplace(value, entry.at("defect_name")).second) << value;
    EXPECT_GT(value, 0);
    EXPECT_LT(value, 256);
    EXPECT_TRUE(entry.at("relative_saturation").get<bool>());
    EXPECT_GT(entry.at("saturation_threshold").get<double>(), 0.0);
    EXPECT_LE(entry.at("saturation_threshold").get<double>(), 1.0);
  }
  const std::set<std::string> structural = {"scratch", "crack", "stain", "dent", "break"};
  std::set<std::string> seen;
  const Dataset set = open_dataset("loco", temp.path, "tray");
  for (const Sample& sample : set.test) {
    const auto size = read_image_size(sample.image_path);
    EXPECT_EQ(size, (std::array<int64_t, 2>{64, 64}));
    if (!sample.anomalous()) {
      EXPECT_TRUE(sample.mask_paths.empty());
      continue;
    }
    ASSERT_EQ(sample.mask_paths.size(), 1u) << sample.image_path;
    const torch::Tensor mask = read_mask(sample.mask_paths[0]);
    EXPECT_EQ(mask.sizes(), (torch::IntArrayRef{size[0], size[1]}));
    const int value = mask.max().item<int>();
    ASSERT_TRUE(name_of_value.count(value)) << sample.mask_paths[0] << " has " << value;
    const std::string name = name_of_value[value];
    EXPECT_TRUE(mask.eq(0).logical_or(mask.eq(value)).all().item<bool>());
    EXPECT_EQ(structural.count(name) == 1, sample.defect == "structural_anomalies") << name;
    seen.insert(name);
  }
  EXPECT_EQ(seen.size(), name_of_value.size()) << "a kind of defect never occurs";
}

// A mask marks where the image differs from the good tray of the same seed; around it shadows and
// reflections do too.
TEST(Synth, DefectsAreWhereTheMasksAre) {
  constexpr int kSize = 128;
  const auto levels_of = [](const TrayPicture& picture) {
    return torch::tensor(picture.rgb, torch::kUInt8).view({kSize, kSize, 3}).to(torch::kFloat32);
  };
  for (const TrayDefect defect :
       {TrayDefect::kScratch, TrayDefect::kCrack, TrayDefect::kStain, TrayDefect::kDent,
        TrayDefect::kBreak, TrayDefect::kMissing, TrayDefect::kExtra, TrayDefect::kMisplaced,
        TrayDefect::kWrongPart}) {
    for (const uint64_t index : {0, 1, 2}) {
      SCOPED_TRACE(testing::Message() << static_cast<int>(defect) << " " << index);
      const TrayPicture good = render_tray(kSize, TrayDefect::kNone, 5, 9, index);
      const TrayPicture bad = render_tray(kSize, defect, 5, 9, index);
      EXPECT_EQ(*std::max_element(good.mask.begin(), good.mask.end()), 0);
      const torch::Tensor mask = torch::tensor(bad.mask, torch::kUInt8).view({kSize, kSize}).gt(0);
      const double share = mask.to(torch::kFloat64).mean().item<double>();
      EXPECT_GT(share, 0.0004);
      EXPECT_LT(share, 0.08);
      constexpr double kSeen = 12;
      const torch::Tensor changed = (levels_of(bad) - levels_of(good)).abs().amax(2).gt(kSeen);
      const auto share_changed = [&](const torch::Tensor& where) {
        return changed.masked_select(where).to(torch::kFloat64).mean().item<double>();
      };
      constexpr int64_t kNear = 10;
      const torch::Tensor far =
          torch::max_pool2d(mask.to(torch::kFloat32).view({1, 1, kSize, kSize}), 2 * kNear + 1, 1,
                            kNear)[0][0]
              .eq(0);
      EXPECT_GT(share_changed(mask), 0.4);
      EXPECT_LT(share_changed(far), 0.001);
    }
  }
}

TEST(Synth, SameSeedSameBytesOnAnyNumberOfThreads) {
  const TempDir temp;
  make_synth_dataset(small_set(temp.path / "a"), nullptr, /*threads=*/1);
  make_synth_dataset(small_set(temp.path / "b"), nullptr, /*threads=*/5);
  SynthOptions other = small_set(temp.path / "c");
  other.seed = 6;
  make_synth_dataset(other, nullptr);
  const auto a = bytes_of(temp.path / "a");
  EXPECT_EQ(a, bytes_of(temp.path / "b"));
  const auto c = bytes_of(temp.path / "c");
  EXPECT_EQ(a.size(), c.size());
  for (const auto& [name, bytes] : a) {
    ASSERT_TRUE(c.count(name)) << name;
    if (name.find("/good/") != std::string::npos) {
      EXPECT_NE(bytes, c.at(name)) << name;
    }
  }
}

TEST(Synth, ImagesDoNotDependOnHowManyThereAre) {
  const TempDir temp;
  make_synth_dataset(small_set(temp.path / "a"), nullptr);
  SynthOptions fewer = small_set(temp.path / "b");
  fewer.images = 20;
  make_synth_dataset(fewer, nullptr);
  EXPECT_EQ(read_file(temp.path / "a/tray/train/good/007.png"),
            read_file(temp.path / "b/tray/train/good/007.png"));
}

TEST(Synth, AnInterruptedRunIsCompletedByTheSameCommand) {
  const TempDir temp;
  make_synth_dataset(small_set(temp.path / "whole"), nullptr);
  const SynthOptions options = small_set(temp.path / "parts");
  EXPECT_ERROR(make_synth_dataset(
                   options, [](int64_t done, int64_t) { request_interrupt(done >= 9); },
                   /*threads=*/2),
               Interrupted, "of 48 images");
  request_interrupt(false);
  EXPECT_LT(bytes_of(temp.path / "parts").size(), bytes_of(temp.path / "whole").size());
  make_synth_dataset(options, nullptr);
  EXPECT_EQ(bytes_of(temp.path / "parts"), bytes_of(temp.path / "whole"));

  // Once more: nothing is left to do.
  std::vector<int64_t> calls;
  make_synth_dataset(options, [&](int64_t done, int64_t) { calls.push_back(done); });
  EXPECT_EQ(calls, std::vector<int64_t>{48});
}

TEST(Synth, RefusesAFolderThatHoldsSomethingElse) {
  const TempDir temp;
  write_file(temp.path / "photos" / "cat.jpg", "not ours");
  const auto before = bytes_of(temp.path);
  EXPECT_ERROR(make_synth_dataset(small_set(temp.path / "photos"), nullptr), Error, "cat.jpg");
  EXPECT_ERROR(make_synth_dataset(small_set(temp.path / "photos" / "cat.jpg"), nullptr), Error,
               "a folder");
  EXPECT_EQ(bytes_of(temp.path), before);

  make_synth_dataset(small_set(temp.path / "set"), nullptr);
  const auto made = bytes_of(temp.path / "set");
  SynthOptions other = small_set(temp.path / "set");
  other.seed = 77;
  EXPECT_ERROR(make_synth_dataset(other, nullptr), Error, "seed = 5");
  EXPECT_EQ(bytes_of(temp.path / "set"), made);
}

TEST(Synth, RefusesBadOptions) {
  const TempDir temp;
  SynthOptions options = small_set(temp.path / "set");
  options.images = 3;
  EXPECT_ERROR(make_synth_dataset(options, nullptr), UsageError, "images");
  options = small_set(temp.path / "set");
  options.size = 32;
  EXPECT_ERROR(make_synth_dataset(options, nullptr), UsageError, "size");
  options.output = "";
  EXPECT_ERROR(make_synth_dataset(options, nullptr), UsageError, "");
  EXPECT_FALSE(fs::exists(temp.path / "set"));
}

TEST(Synth, AnErrorWhileWritingIsReported) {
  const TempDir temp;
  const SynthOptions options = small_set(temp.path / "set");
  make_synth_dataset(options, nullptr);
  // A file where a folder must be.
  fs::remove_all(temp.path / "set/tray/test/good");
  write_file(temp.path / "set/tray/test/good", "in the way");
  EXPECT_ERROR(make_synth_dataset(options, nullptr, /*threads=*/2), Error,
               "cannot be made a folder");
}

}  // namespace
}  // namespace efficientad
