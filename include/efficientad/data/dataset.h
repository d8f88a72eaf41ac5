#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace efficientad {

/// One image of a data set.
struct Sample {
  std::filesystem::path image_path;
  /// "good", or the kind of defect (the folder's name).
  std::string defect = "good";
  /// The image file's name without its ending; names the anomaly map.
  std::string id;
  /// Masks of the defects; empty for good images and where the set has none.
  std::vector<std::filesystem::path> mask_paths = {};

  bool anomalous() const { return defect != "good"; }
};

/// The images of one category: normal ones to train on, normal ones to calibrate on, and both kinds
/// to test on. Paths only; nothing is decoded.
struct Dataset {
  std::string layout;
  /// As asked for, or the name of the root folder.
  std::string category;
  /// The category's own folder; LOCO's defects_config.json is in it.
  std::filesystem::path root;
  std::vector<Sample> train;
  /// Empty where the layout has no validation folder (see split_validation()).
  std::vector<Sample> validation;
  std::vector<Sample> test;
  /// Where its masks are; empty where it has none, or they lie anywhere.
  std::filesystem::path mask_root = {};
};

/// Where the images of layout "folder" are. normal_dir is relative to the root, or absolute; the
/// others may be empty. Folders inside abnormal_dir are kinds of defect; images directly in it are
/// of the kind "anomaly". A mask is called <id>_mask.png or <id>.png (or has the image's ending)
/// and is in mask_dir or in <mask_dir>/<kind>.
struct FolderLayout {
  std::string normal_dir = "normal";
  std::string abnormal_dir = {};
  std::string normal_test_dir = {};
  std::string mask_dir = {};
};

/// Which images of a data set are wanted.
enum class DatasetPart {
  kAll,
  /// train and validation: what there is to test on is left out, and may be missing.
  kTraining,
  /// What there is to test on; of layout "folder" the images to train on may be missing.
  kTest
};

/// Names of all layouts: "auto" and those of open_dataset().
const std::vector<std::string>& dataset_layouts();

/// Opens category `category` of a data set under `root`. `layout` is
///  - "mvtec":  <root>/<category>/{train/good, test/<defect>, ground_truth/<defect>/<id>_mask.png},
///    and validation/good, if it is there; MPDD and VisA's prepared form are such too
///  - "mvtec2": MVTec AD 2: train/good, validation/good, test_public/{good, bad, ground_truth/bad}
///  - "loco":   as MVTec LOCO: also validation/good, ground_truth/<defect>/<id>/*.png
///  - "visa":   VisA as it comes: split_csv/1cls.csv in `root`, whose paths start there
///  - "btad":   train/ok, test/{ok, ko}, ground_truth/ko
///  - "folder": `folder` names the parts
///  - "csv":    `root` is a CSV file with the columns image_path, label, split and, if there are
///    masks, mask_path; paths start at its folder. split: train, validation (or val) or test;
///    label: normal (or good, ok, 0), anomaly (or bad, abnormal, 1), or the kind of defect
///  - "auto":   as detect_layout() says.
/// `category` may be empty where `root` itself is the category. Samples are sorted by path; a good
/// image's defect is "good", whatever its folder is called. Without a ground_truth folder there are
/// no masks; with one, every abnormal image must have its mask (one file: also <id>.png, or with
/// the image's ending). Throws Error if a folder is missing or has no images, a mask is missing, or
/// the category does not exist (the message names those that do).
Dataset open_dataset(const std::string& layout, const std::filesystem::path& root,
                     const std::string& category, const FolderLayout& folder = {},
                     DatasetPart part = DatasetPart::kAll);

/// The same, but masks (and, of a table, images) that are missing are told in `problems`, and
/// images that are left out, because they lie in a folder in one of the set's, in `notes`
/// (open_dataset() logs those).
Dataset open_dataset_with_problems(const std::string& layout, const std::filesystem::path& root,
                                   const std::string& category, const FolderLayout& folder,
                                   std::vector<std::string>& problems,
                                   std::vector<std::string>& notes);

/// The layout that `root`, or `category` in it, has by the folders that are there. Throws Error if
/// none is recognised.
std::string detect_layout(const std::filesystem::path& root, const std::string& category,
                          const FolderLayout& folder = {});

/// Names of the categories in `root`, sorted: the folders in it that open_dataset() could open for
/// training. Throws Error if there is no such folder, or none in it.
std::vector<std::string> list_categories(const std::string& layout,
                                         const std::filesystem::path& root,
                                         const FolderLayout& folder = {});

/// Throws UsageError if results in `output` would lie among the set's images or masks, where they
/// would be taken for some.
void require_apart(const Dataset& dataset, const std::filesystem::path& output);

/// Keeps `shots` of the training images, chosen by `seed`; 0 keeps all. Throws Error if there are
/// fewer.
void keep_shots(Dataset& dataset, int64_t shots, int64_t seed);

/// If the set has no validation images, moves round(fraction * count) of the training images (at
/// least one, and at least one stays) there, chosen by `seed`; with its own it is left as it is.
/// Throws Error if there is only one training image.
void split_validation(Dataset& dataset, double fraction, int64_t seed);

}  // namespace efficientad
