#include "efficientad/data/dataset_check.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>

#include "efficientad/data/image.h"
#include "image_files.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

namespace fs = std::filesystem;

torch::Tensor picture(int64_t height, int64_t width) {
  return torch::randint(0, 256, {height, width, 3}, torch::kUInt8);
}

class DatasetCheckTest : public testing::Test {
 protected:
  DatasetCheckTest() {
    for (const char* name : {"train/good/0", "train/good/1", "test/good/2", "test/cut/3"}) {
      write_image(root_ / (std::string(name) + ".png"), picture(20, 30));
    }
    mask_ = torch::zeros({20, 30}, torch::kUInt8);
    mask_[4].fill_(255);
    write_image(root_ / "ground_truth/cut/3_mask.png", mask_);
  }

  std::vector<std::string> problems() const {
    return check_dataset("auto", root_, "", {}).problems;
  }

  void expect_problem(const std::string& part) const {
    const auto found = problems();
    EXPECT_EQ(found.size(), 1u);
    EXPECT_TRUE(std::any_of(found.begin(), found.end(), [&](const std::string& problem) {
      return problem.find(part) != std::string::npos;
    })) << (found.empty() ? "no problem" : found[0]);
  }

  TempDir dir_;
  fs::path root_ = dir_.path / "part";
  torch::Tensor mask_;
};

TEST_F(DatasetCheckTest, AGoodSetHasNone) {
  int64_t last = 0;
  const auto check = check_dataset("auto", root_, "", {},
                                   [&](int64_t done, int64_t total) { last = done * 100 + total; });
  EXPECT_TRUE(check.problems.empty());
  EXPECT_EQ(check.dataset.layout, "mvtec");
  EXPECT_EQ(last, 404);
}

TEST_F(DatasetCheckTest, FilesThatCannotBeRead) {
  write_bytes(root_ / "train/good/1.png", "no image");
  expect_problem("1.png");
}

TEST_F(DatasetCheckTest, MissingMasks) {
  write_image(root_ / "test/cut/4.png", picture(20, 30));
  write_image(root_ / "test/cut/5.png", picture(20, 30));
  EXPECT_EQ(problems().size(), 2u);
}

TEST_F(DatasetCheckTest, MasksWithoutImage) {
  write_image(root_ / "ground_truth/cut/9_mask.png", mask_);
  expect_problem("9_mask.png is the mask of no image");
}

TEST_F(DatasetCheckTest, MasksOfAnotherSize) {
  write_image(root_ / "ground_truth/cut/3_mask.png", mask_.t().contiguous());
  expect_problem("3_mask.png is 20x30, but its image");
}

TEST_F(DatasetCheckTest, EmptyMasks) {
  write_image(root_ / "ground_truth/cut/3_mask.png", torch::zeros({20, 30}, torch::kUInt8));
  expect_problem("marks no defect");
}

TEST_F(DatasetCheckTest, MasksThatAreNone) {
  write_image(root_ / "ground_truth/cut/3_mask.png", torch::ones({20, 30}, torch::kUInt8));
  expect_problem("marks all of the image");
  mask_[5].fill_(250);
  mask_[6].fill_(251);
  write_image(root_ / "ground_truth/cut/3_mask.png", mask_);
  expect_problem("has 3 values besides zero, and each of these pixels counts as defective");
}

TEST_F(DatasetCheckTest, OneImageOfTwoKinds) {
  fs::copy_file(root_ / "test/cut/3.png", root_ / "test/good/7.png");
  expect_problem("7.png is the same file as");
}

TEST_F(DatasetCheckTest, RulesOfLoco) {
  fs::create_directories(root_ / "validation/good");
  write_image(root_ / "validation/good/8.png", picture(20, 30));
  fs::create_directories(root_ / "ground_truth/cut/3");
  fs::rename(root_ / "ground_truth/cut/3_mask.png", root_ / "ground_truth/cut/3/000.png");
  expect_problem("defects_config.json: no such file");
  write_bytes(root_ / "defects_config.json", "{}");
  expect_problem("expected a list of pixel_value");
  const std::string rule = R"("saturation_threshold": 1, "relative_saturation": true})";
  write_bytes(root_ / "defects_config.json", R"([{"pixel_value": 254, )" + rule + "]");
  expect_problem("has the value 255, which defects_config.json does not know");
  write_bytes(root_ / "defects_config.json", R"([{"pixel_value": 255, )" + rule + "]");
  EXPECT_TRUE(problems().empty());
}

TEST_F(DatasetCheckTest, TestImagesThatAreTrainedOn) {
  fs::copy_file(root_ / "train/good/0.png", root_ / "test/good/again.png");
  expect_problem("again.png to test on is the same file as");
}

}  // namespace
}  // namespace efficientad
