#include "efficientad/data/dataset_check.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

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
  write_image(root_ / "ground_truth/cut/3_mask.png", torch::ones({30, 20}, torch::kUInt8));
  expect_problem("3_mask.png is 20x30, but its image");
}

TEST_F(DatasetCheckTest, EmptyMasks) {
  write_image(root_ / "ground_truth/cut/3_mask.png", torch::zeros({20, 30}, torch::kUInt8));
  expect_problem("marks no defect");
}

TEST_F(DatasetCheckTest, TestImagesThatAreTrainedOn) {
  fs::copy_file(root_ / "train/good/0.png", root_ / "test/good/again.png");
  expect_problem("again.png to test on is the same file as");
}

}  // namespace
}  // namespace efficientad
