#include "efficientad/data/dataset.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "image_files.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

namespace fs = std::filesystem;

/// Files that hold nothing: opening a data set decodes none.
void touch(const fs::path& root, const std::vector<std::string>& names) {
  for (const auto& name : names) write_bytes(root / name, "");
}

std::vector<std::string> ids_of(const std::vector<Sample>& samples) {
  std::vector<std::string> ids;
  for (const auto& sample : samples) ids.push_back(sample.defect + "/" + sample.id);
  return ids;
}

using Ids = std::vector<std::string>;
using Paths = std::vector<fs::path>;

class MvtecTest : public testing::Test {
 protected:
  MvtecTest() {
    touch(root,
          {"bottle/train/good/001.png", "bottle/train/good/000.png", "bottle/train/good/readme.txt",
           "bottle/test/good/000.png", "bottle/test/crack/001.png", "bottle/test/crack/000.png",
           "bottle/test/.cache/000.png", "bottle/test/scratch/000.jpg",
           "bottle/ground_truth/crack/000_mask.png", "bottle/ground_truth/crack/001.png",
           "bottle/ground_truth/scratch/000_mask.png", "cable/train/good/000.png",
           "other/notes.txt"});
  }
  TempDir dir;
  fs::path root = dir.path;
};

TEST_F(MvtecTest, opens_a_category) {
  const Dataset dataset = open_dataset("mvtec", root, "bottle");
  EXPECT_EQ(dataset.layout, "mvtec");
  EXPECT_EQ(dataset.category, "bottle");
  EXPECT_EQ(dataset.root, root / "bottle");
  EXPECT_EQ(ids_of(dataset.train), (Ids{"good/000", "good/001"}));
  EXPECT_EQ(dataset.train[0].image_path, root / "bottle/train/good/000.png");
  EXPECT_TRUE(dataset.validation.empty());
  EXPECT_EQ(ids_of(dataset.test), (Ids{"crack/000", "crack/001", "good/000", "scratch/000"}));
  EXPECT_TRUE(dataset.test[0].anomalous());
  EXPECT_FALSE(dataset.test[2].anomalous());
  const fs::path truth = root / "bottle/ground_truth";
  EXPECT_EQ(dataset.test[0].mask_paths, Paths{truth / "crack/000_mask.png"});
  EXPECT_EQ(dataset.test[1].mask_paths, Paths{truth / "crack/001.png"});
  EXPECT_EQ(dataset.test[2].mask_paths, Paths{});
  EXPECT_EQ(dataset.test[3].mask_paths, Paths{truth / "scratch/000_mask.png"});
}

TEST_F(MvtecTest, takes_the_root_as_category) {
  const Dataset dataset = open_dataset("mvtec", root / "bottle/", "");
  EXPECT_EQ(dataset.category, "bottle");
  EXPECT_EQ(dataset.test.size(), 4U);
}

TEST_F(MvtecTest, training_needs_no_test_images_or_masks) {
  fs::remove_all(root / "bottle/ground_truth/crack");
  EXPECT_ERROR(open_dataset("mvtec", root, "bottle"), Error, "has no mask");
  fs::remove_all(root / "bottle/test");
  const Dataset dataset = open_dataset("mvtec", root, "bottle", {}, DatasetPart::kTraining);
  EXPECT_EQ(ids_of(dataset.train), (Ids{"good/000", "good/001"}));
  EXPECT_TRUE(dataset.test.empty());
}

TEST_F(MvtecTest, has_no_masks_without_ground_truth) {
  fs::remove_all(root / "bottle/ground_truth");
  for (const auto& sample : open_dataset("mvtec", root, "bottle").test) {
    EXPECT_TRUE(sample.mask_paths.empty());
  }
}

TEST_F(MvtecTest, names_a_missing_mask) {
  fs::remove(root / "bottle/ground_truth/crack/001.png");
  EXPECT_ERROR(
      open_dataset("mvtec", root, "bottle"), Error,
      fmt::format("{} has no mask; expected {}", (root / "bottle/test/crack/001.png").string(),
                  (root / "bottle/ground_truth/crack/001_mask.png").string()));
  fs::create_directories(root / "bottle/ground_truth/crack/001");
  EXPECT_ERROR(open_dataset("mvtec", root, "bottle"), Error, "is the layout \"loco\"?");
}

TEST_F(MvtecTest, names_the_categories_that_exist) {
  EXPECT_ERROR(
      open_dataset("mvtec", root, "botle"), Error,
      fmt::format("category 'botle' not found in {}; there are: bottle, cable", root.string()));
  EXPECT_ERROR(open_dataset("mvtec", root, ""), Error, "there are: bottle, cable");
  EXPECT_ERROR(open_dataset("mvtec", root, "other"), Error, "has no folder train/good");
  EXPECT_ERROR(open_dataset("mvtec", root / "other", "x"), Error, "there are none");
  EXPECT_ERROR(open_dataset("mvtec", root / "bottle", "bottle"), Error,
               "is a category itself: leave the category empty");
}

TEST_F(MvtecTest, a_category_lies_in_the_root) {
  for (const std::string& name :
       Ids{"../bottle", (root / "bottle").string(), "cable/../bottle", ".", "bottle/", "a/b"}) {
    EXPECT_ERROR(open_dataset("mvtec", root, name), UsageError, "must be the name of a folder in");
  }
}

TEST_F(MvtecTest, names_missing_and_empty_folders) {
  EXPECT_ERROR(open_dataset("mvtec", root / "none", "bottle"), Error,
               "none: there is no such folder");
  EXPECT_ERROR(open_dataset("mvtec", root / "other/notes.txt", ""), Error, "is no folder");
  EXPECT_ERROR(open_dataset("mvtec", root, "cable"), Error, "cable/test: there is no such folder");
  fs::create_directories(root / "cable/test");
  EXPECT_ERROR(open_dataset("mvtec", root, "cable"), Error, "cable/test has no folders of images");
  fs::create_directories(root / "cable/test/cut");
  EXPECT_ERROR(open_dataset("mvtec", root, "cable"), Error, "cable/test/cut holds no images");
  fs::remove(root / "cable/train/good/000.png");
  EXPECT_ERROR(open_dataset("mvtec", root, "cable"), Error, "cable/train/good holds no images");
}

TEST_F(MvtecTest, refuses_two_images_of_one_name) {
  touch(root, {"bottle/test/crack/000.jpg"});
  EXPECT_ERROR(open_dataset("mvtec", root, "bottle"), Error, "more than one image called 000");
}

TEST_F(MvtecTest, results_lie_outside_of_the_images) {
  const Dataset dataset = open_dataset("mvtec", root, "bottle");
  for (const char* inside : {"test", "test/new/report", "test/good", "ground_truth/x", "train"}) {
    EXPECT_ERROR(require_apart(dataset, root / "bottle" / inside), UsageError,
                 "lies among the data set's images");
  }
  for (const char* outside : {".", "bottle", "bottle/results", "bottle/testing", "runs/bottle"}) {
    require_apart(dataset, root / outside);
  }
}

TEST(loco, opens_a_category) {
  const TempDir dir;
  const fs::path root = dir.path;
  touch(root,
        {"box/train/good/000.png", "box/validation/good/001.png", "box/validation/good/000.png",
         "box/test/good/000.png", "box/test/logical_anomalies/000.png",
         "box/test/structural_anomalies/000.png", "box/ground_truth/logical_anomalies/000/001.png",
         "box/ground_truth/logical_anomalies/000/000.png",
         "box/ground_truth/structural_anomalies/000/000.png"});
  const Dataset dataset = open_dataset("loco", root, "box");
  EXPECT_EQ(ids_of(dataset.train), Ids{"good/000"});
  EXPECT_EQ(ids_of(dataset.validation), (Ids{"good/000", "good/001"}));
  EXPECT_EQ(ids_of(dataset.test),
            (Ids{"good/000", "logical_anomalies/000", "structural_anomalies/000"}));
  const fs::path truth = root / "box/ground_truth";
  EXPECT_EQ(dataset.test[0].mask_paths, Paths{});
  EXPECT_EQ(dataset.test[1].mask_paths, (Paths{truth / "logical_anomalies/000/000.png",
                                               truth / "logical_anomalies/000/001.png"}));

  fs::remove(truth / "structural_anomalies/000/000.png");
  EXPECT_ERROR(open_dataset("loco", root, "box"), Error,
               "structural_anomalies/000.png has no masks; expected");
  fs::remove_all(truth / "structural_anomalies/000");
  EXPECT_ERROR(open_dataset("loco", root, "box"), Error,
               "structural_anomalies/000.png has no masks; expected");
  fs::remove_all(truth);
  EXPECT_TRUE(open_dataset("loco", root, "box").test[1].mask_paths.empty());
  fs::remove_all(root / "box/validation");
  EXPECT_ERROR(open_dataset("loco", root, "box"), Error,
               "box/validation/good: there is no such folder");
}

TEST(folder, opens_the_parts_that_are_named) {
  const TempDir dir;
  const fs::path root = dir.path;
  touch(root, {"ok/a.png", "ok/b.jpg", "ok_test/c.png", "bad/d.png", "bad/dent/e.bmp",
               "bad/burn/f.png", "masks/d_mask.png", "masks/dent/e.bmp", "masks/burn/f.png"});
  Dataset dataset = open_dataset("folder", root, "", {.normal_dir = "ok"});
  EXPECT_EQ(ids_of(dataset.train), (Ids{"good/a", "good/b"}));
  EXPECT_TRUE(dataset.test.empty());
  EXPECT_EQ(dataset.category, root.filename().string());

  const FolderLayout layout{.normal_dir = (root / "ok").string(),
                            .abnormal_dir = "bad",
                            .normal_test_dir = "ok_test",
                            .mask_dir = "masks"};
  dataset = open_dataset("folder", root, "", layout);
  EXPECT_EQ(ids_of(dataset.train), (Ids{"good/a", "good/b"}));
  EXPECT_EQ(ids_of(dataset.test), (Ids{"good/c", "anomaly/d", "burn/f", "dent/e"}));
  EXPECT_EQ(dataset.test[1].mask_paths, Paths{root / "masks/d_mask.png"});
  EXPECT_EQ(dataset.test[2].mask_paths, Paths{root / "masks/burn/f.png"});
  EXPECT_EQ(dataset.test[3].mask_paths, Paths{root / "masks/dent/e.bmp"});

  // A mask beside the kinds' folders may be of any kind, but of one image only.
  touch(root, {"bad/burn/g.png", "bad/dent/g.png", "masks/g_mask.png"});
  EXPECT_ERROR(open_dataset("folder", root, "", layout), Error, "g_mask.png would be the mask of");
  for (const char* name : {"bad/burn/g.png", "bad/dent/g.png"}) fs::remove(root / name);

  fs::remove(root / "masks/d_mask.png");
  EXPECT_ERROR(open_dataset("folder", root, "", layout), Error,
               "bad/d.png has no mask; expected " + (root / "masks/d_mask.png").string());
}

TEST(folder, an_image_is_not_its_own_mask) {
  const TempDir dir;
  touch(dir.path, {"normal/a.png", "bad/b.png"});
  EXPECT_ERROR(open_dataset("folder", dir.path, "", {.abnormal_dir = "bad", .mask_dir = "bad"}),
               Error, "bad/b.png has no mask");
}

TEST(folder, names_what_is_missing) {
  const TempDir dir;
  const fs::path root = dir.path;
  EXPECT_ERROR(open_dataset("folder", root, ""), Error, "normal: there is no such folder");
  fs::create_directories(root / "normal");
  EXPECT_ERROR(open_dataset("folder", root, ""), Error, "normal holds no images");
  touch(root, {"normal/a.png", "bad/good/b.png"});
  EXPECT_ERROR(open_dataset("folder", root, "", {.abnormal_dir = "none"}), Error,
               "none: there is no such folder");
  EXPECT_ERROR(open_dataset("folder", root, "", {.abnormal_dir = "bad"}), Error,
               "cannot be of the kind \"good\"");
  EXPECT_ERROR(open_dataset("folder", root, "", {.normal_test_dir = "none"}), Error,
               "none: there is no such folder");
  EXPECT_ERROR(open_dataset("folder", root, "", {.abnormal_dir = "normal", .mask_dir = "none"}),
               Error, "none: there is no such folder");
}

TEST(mvtec2, opens_a_category) {
  const TempDir dir;
  const fs::path root = dir.path;
  touch(root,
        {"can/train/good/000_regular.png", "can/validation/good/000_regular.png",
         "can/test_public/good/000_regular.png", "can/test_public/bad/001_regular.png",
         "can/test_public/ground_truth/bad/001_regular_mask.png", "can/test_private/000.png"});
  const Dataset dataset = open_dataset("mvtec2", root, "can");
  EXPECT_EQ(ids_of(dataset.validation), Ids{"good/000_regular"});
  EXPECT_EQ(ids_of(dataset.test), (Ids{"bad/001_regular", "good/000_regular"}));
  EXPECT_EQ(dataset.test[0].mask_paths,
            Paths{root / "can/test_public/ground_truth/bad/001_regular_mask.png"});
  EXPECT_EQ(detect_layout(root, ""), "mvtec2");
  EXPECT_EQ(open_dataset("auto", root / "can", "").layout, "mvtec2");
}

TEST(btad, opens_a_category) {
  const TempDir dir;
  const fs::path root = dir.path;
  touch(root, {"01/train/ok/0.bmp", "01/test/ok/1.bmp", "01/test/ko/2.bmp",
               "01/ground_truth/ko/2.png", "03/train/ok/0.bmp"});
  const Dataset dataset = open_dataset("btad", root, "01");
  EXPECT_EQ(ids_of(dataset.train), Ids{"good/0"});
  EXPECT_EQ(ids_of(dataset.test), (Ids{"ko/2", "good/1"}));
  EXPECT_FALSE(dataset.test[1].anomalous());
  EXPECT_EQ(dataset.test[0].mask_paths, Paths{root / "01/ground_truth/ko/2.png"});
  EXPECT_EQ(detect_layout(root, ""), "btad");
  EXPECT_EQ(list_categories("auto", root), (std::vector<std::string>{"01", "03"}));
  // Filed as good/1 too.
  touch(root, {"01/test/good/1.bmp", "01/ground_truth/good/1.png"});
  EXPECT_ERROR(open_dataset("btad", root, "01"), Error, "are both called 1 and of the kind good");
}

TEST(visa, opens_what_its_table_says) {
  const TempDir dir;
  const fs::path root = dir.path;
  const std::string images = "/Data/Images/";
  touch(root, {"candle" + images + "Normal/0.JPG", "candle" + images + "Normal/1.JPG",
               "candle" + images + "Anomaly/0.JPG", "candle/Data/Masks/Anomaly/0.png"});
  write_bytes(root / "split_csv/1cls.csv",
              "object,split,label,image,mask\n"
              "candle,train,normal,candle/Data/Images/Normal/1.JPG,\n"
              "candle,test,normal,candle/Data/Images/Normal/0.JPG,\n"
              "candle,test,anomaly,candle/Data/Images/Anomaly/0.JPG,"
              "candle/Data/Masks/Anomaly/0.png\n"
              "capsules,train,normal,capsules/Data/Images/Normal/0.JPG,\n");
  EXPECT_EQ(detect_layout(root, "candle"), "visa");
  EXPECT_EQ(list_categories("auto", root), (std::vector<std::string>{"candle", "capsules"}));
  const Dataset dataset = open_dataset("auto", root, "candle");
  EXPECT_EQ(dataset.category, "candle");
  EXPECT_EQ(ids_of(dataset.train), Ids{"good/1"});
  EXPECT_EQ(ids_of(dataset.test), (Ids{"anomaly/0", "good/0"}));
  EXPECT_EQ(dataset.test[0].mask_paths, Paths{root / "candle/Data/Masks/Anomaly/0.png"});
  EXPECT_ERROR(open_dataset("visa", root, "capsules"), Error, "there is no image");
  EXPECT_ERROR(open_dataset("visa", root, "fryum"), Error, "there are: candle, capsules");
}

TEST(csv, opens_what_it_says) {
  const TempDir dir;
  const fs::path root = dir.path;
  touch(root, {"a.png", "b.png", "c, d.png", "e.png", "e_mask.png"});
  const fs::path file = root / "parts.csv";
  // With a byte-order mark, a quoted comma and another order of columns.
  write_bytes(file,
              "\xef\xbb\xbfsplit,image_path,label,mask_path\r\ntrain,a.png,normal,\r\n"
              "val,b.png,0,\r\ntest,\"c, d.png\",ok,\r\ntest,e.png,scratch,e_mask.png\r\n");
  const Dataset dataset = open_dataset("auto", file, "");
  EXPECT_EQ(dataset.layout, "csv");
  EXPECT_EQ(dataset.category, "parts");
  EXPECT_EQ(ids_of(dataset.train), Ids{"good/a"});
  EXPECT_EQ(ids_of(dataset.validation), Ids{"good/b"});
  EXPECT_EQ(ids_of(dataset.test), (Ids{"good/c, d", "scratch/e"}));
  EXPECT_EQ(dataset.test[1].mask_paths, Paths{root / "e_mask.png"});

  const auto with = [&](const std::string& text) {
    write_bytes(file, text);
    return open_dataset("csv", file, "");
  };
  const std::string start = "image_path,label,split\n";
  EXPECT_ERROR(with(""), Error, "parts.csv: is empty");
  EXPECT_ERROR(with("image,label,split\n"), Error, "no column \"image_path\"");
  EXPECT_ERROR(with(start + "a.png,normal\n"), Error, "record 2 has 2 fields");
  EXPECT_ERROR(with(start + "a.png,normal,learn\n"), Error, "of the split \"learn\"");
  EXPECT_ERROR(with(start + "a.png,bad,train\n"), Error, "is anomalous, but of the split");
  EXPECT_ERROR(with(start + "x.png,normal,train\n"), Error, "there is no image");
  EXPECT_ERROR(with(start + "a.png,normal,test\n"), Error, "no images of the split train");
  EXPECT_ERROR(with(start + "a.png,../x,test\n"), Error, "names a folder");
  EXPECT_ERROR(with(start + "\"a.png,normal,test\n"), Error, "does not end");
  EXPECT_ERROR(with(start + "a.png,normal,train\n./a.png,normal,train\n"), Error,
               "is in more than one row");
  const Dataset blanks =
      with(start + "a.png,normal,train\nb.png, Normal ,test\ne.png,bad\t,test\n");
  EXPECT_EQ(ids_of(blanks.test), (Ids{"good/b", "anomaly/e"}));
  fs::rename(file, root / "PARTS.CSV");
  EXPECT_EQ(detect_layout(root / "PARTS.CSV", ""), "csv");
}

TEST(detect_layout, says_what_it_looked_for) {
  const TempDir dir;
  EXPECT_ERROR(detect_layout(dir.path / "none", ""), Error, "there is no such folder");
  EXPECT_ERROR(detect_layout(dir.path, ""), Error, "no layout is recognised");
  touch(dir.path, {"normal/a.png", "box/train/good/a.png", "box/validation/good/b.png"});
  EXPECT_EQ(detect_layout(dir.path / "box", ""), "loco");
  EXPECT_EQ(detect_layout(dir.path, "box"), "loco");
  EXPECT_EQ(detect_layout(dir.path, "", {.abnormal_dir = "x"}), "folder");
  fs::remove_all(dir.path / "box");
  EXPECT_EQ(detect_layout(dir.path, ""), "folder");
}

TEST(detect_layout, tells_loco_from_mvtec_with_a_validation_folder) {
  const TempDir dir;
  const fs::path root = dir.path;
  touch(root, {"nut/train/good/0.png", "nut/validation/good/1.png", "nut/test/good/2.png",
               "nut/test/scratch/3.png"});
  EXPECT_EQ(detect_layout(root, "nut"), "mvtec");
  touch(root, {"nut/ground_truth/scratch/3_mask.png"});
  EXPECT_EQ(detect_layout(root, "nut"), "mvtec");
  const Dataset dataset = open_dataset("auto", root, "nut");
  EXPECT_EQ(ids_of(dataset.validation), Ids{"good/1"});
  EXPECT_EQ(dataset.test[1].mask_paths, Paths{root / "nut/ground_truth/scratch/3_mask.png"});
  EXPECT_ERROR(open_dataset("loco", root, "nut"), Error, "is the layout \"mvtec\"?");
  touch(root, {"box/train/good/0.png", "box/validation/good/1.png", "box/test/good/2.png",
               "box/test/logical_anomalies/3.png"});
  EXPECT_EQ(detect_layout(root, "box"), "loco");
  touch(root, {"box/ground_truth/logical_anomalies/3/000.png"});
  EXPECT_EQ(detect_layout(root, "box"), "loco");
}

TEST(open_dataset, an_image_may_be_in_a_kind_twice_but_not_in_two) {
  const TempDir dir;
  const fs::path nut = dir.path / "nut";
  touch(dir.path, {"nut/train/good/0.png", "nut/test/good/a.png", "nut/test/scratch/b.png"});
  fs::create_symlink(nut / "test/good/a.png", nut / "test/good/again.png");
  EXPECT_EQ(open_dataset("mvtec", dir.path, "nut").test.size(), 3u);
  fs::create_symlink(nut / "test/good/a.png", nut / "test/scratch/c.png");
  EXPECT_ERROR(open_dataset("mvtec", dir.path, "nut"), Error,
               "c.png is both of the kind good and of the kind scratch");
}

TEST(open_dataset, says_that_deeper_images_are_left_out) {
  const TempDir dir;
  touch(dir.path, {"normal/a.png", "normal/lot 1/b.png", "normal/lot 1/c.png", "bad/d.png",
                   "bad/dent/e.png", "bad/dent/more/f.png"});
  std::vector<std::string> problems;
  std::vector<std::string> notes;
  const Dataset dataset =
      open_dataset_with_problems("folder", dir.path, "", {.abnormal_dir = "bad"}, problems, notes);
  EXPECT_EQ(dataset.train.size(), 1u);
  EXPECT_TRUE(problems.empty());
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_NE(notes[0].find("normal: 2 images in folders in it are left out"), std::string::npos)
      << notes[0];
  EXPECT_NE(notes[1].find("dent: 1 images in folders in it"), std::string::npos) << notes[1];
  // The other parts are none of those.
  notes.clear();
  touch(dir.path, {"g.png"});
  open_dataset_with_problems("folder", dir.path, "",
                             {.normal_dir = ".", .abnormal_dir = "bad/dent"}, problems, notes);
  ASSERT_GE(notes.size(), 1u);
  EXPECT_NE(notes[0].find("4 images in folders"), std::string::npos) << notes[0];
}

TEST(open_dataset, needs_no_normal_images_to_test_on_others) {
  const TempDir dir;
  touch(dir.path, {"stray.png", "bad/a.png"});
  const Dataset dataset =
      open_dataset("folder", dir.path, "", {.abnormal_dir = "bad"}, DatasetPart::kTest);
  EXPECT_TRUE(dataset.train.empty());
  EXPECT_EQ(dataset.test.size(), 1u);
}

TEST(open_dataset, says_how_a_folder_of_images_is_given) {
  const TempDir dir;
  touch(dir.path, {"a.png"});
  EXPECT_ERROR(open_dataset("auto", dir.path, ""), Error, "--dataset folder --normal-dir .");
  EXPECT_ERROR(open_dataset("folder", dir.path, ""), Error, "for those give --normal-dir .");
  EXPECT_EQ(open_dataset("folder", dir.path, "", {.normal_dir = "."}).train.size(), 1u);
}

TEST(open_dataset, names_the_layouts) {
  const TempDir dir;
  EXPECT_ERROR(open_dataset("visa3", dir.path, ""), Error,
               "known are auto, mvtec, mvtec2, loco, visa, btad, folder, csv");
}

Dataset dataset_of(int count) {
  Dataset dataset;
  for (int i = 0; i < count; ++i)
    dataset.train.push_back({.image_path = "x", .id = fmt::format("{:03}", i)});
  return dataset;
}

TEST(keep_shots, are_chosen_by_seed_and_nested) {
  Dataset all = dataset_of(20);
  keep_shots(all, 0, 3);
  EXPECT_EQ(all.train.size(), 20U);
  Dataset four = dataset_of(20);
  keep_shots(four, 4, 3);
  Dataset eight = dataset_of(20);
  keep_shots(eight, 8, 3);
  const Ids few = ids_of(four.train);
  const Ids more = ids_of(eight.train);
  EXPECT_EQ(few.size(), 4U);
  EXPECT_TRUE(std::is_sorted(more.begin(), more.end()));
  EXPECT_TRUE(std::includes(more.begin(), more.end(), few.begin(), few.end()));
  Dataset other = dataset_of(20);
  keep_shots(other, 4, 4);
  EXPECT_NE(ids_of(other.train), few);
  EXPECT_ERROR(keep_shots(other, 5, 0), Error, "has 4 training images, but shots is 5");
}

TEST(split_validation, moves_a_tenth_by_seed) {
  Dataset first = dataset_of(46);
  split_validation(first, 0.1, /*seed=*/7);
  EXPECT_EQ(first.validation.size(), 5U);  // round(4.6)
  EXPECT_EQ(first.train.size(), 41U);
  std::set<std::string> all;
  for (const auto* part : {&first.train, &first.validation}) {
    const Ids ids = ids_of(*part);
    EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end()));
    all.insert(ids.begin(), ids.end());
  }
  EXPECT_EQ(all.size(), 46U);

  Dataset again = dataset_of(46);
  split_validation(again, 0.1, /*seed=*/7);
  EXPECT_EQ(ids_of(again.validation), ids_of(first.validation));
  Dataset other = dataset_of(46);
  split_validation(other, 0.1, /*seed=*/8);
  EXPECT_NE(ids_of(other.validation), ids_of(first.validation));
}

TEST(split_validation, leaves_one_on_each_side) {
  for (const double fraction : {0.01, 0.99}) {
    Dataset dataset = dataset_of(2);
    split_validation(dataset, fraction, 0);
    EXPECT_EQ(dataset.train.size(), 1U);
    EXPECT_EQ(dataset.validation.size(), 1U);
  }
  Dataset one = dataset_of(1);
  EXPECT_ERROR(split_validation(one, 0.1, 0), Error, "at least 2 are needed");
  EXPECT_EQ(one.train.size(), 1U);
  Dataset two = dataset_of(2);
  EXPECT_ERROR(split_validation(two, 1.5, 0), UsageError, "must be between 0 and 1");
}

TEST(split_validation, leaves_a_sets_own_validation) {
  Dataset dataset = dataset_of(20);
  dataset.validation = {{.image_path = "v", .id = "v"}};
  split_validation(dataset, 0.5, 0);
  EXPECT_EQ(ids_of(dataset.validation), Ids{"good/v"});
  EXPECT_EQ(dataset.train.size(), 20U);
}

}  // namespace
}  // namespace efficientad
