#include "efficientad/data/dataset.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "efficientad/core/error.h"
#include "efficientad/core/random.h"
#include "efficientad/data/image.h"

namespace efficientad {
namespace {

namespace fs = std::filesystem;

/// Stream of the Rng that chooses validation images.
constexpr uint64_t kSplitStream = 0x73706c6974;

bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

/// The folders directly in `folder`, sorted by name, hidden ones passed over.
std::vector<fs::path> folders_in(const fs::path& folder) {
  std::vector<fs::path> folders;
  try {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (is_folder(entry.path()) && !entry.path().filename().string().starts_with(".")) {
        folders.push_back(entry.path());
      }
    }
  } catch (const fs::filesystem_error& error) {
    throw Error(
        fmt::format("{}: the folder cannot be read ({})", folder.string(), error.code().message()));
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

/// One sample an image in `folder`, without masks. Throws Error if there are none, or two images
/// have the same name but for the ending: the name stands for the image in maps and reports.
std::vector<Sample> samples_in(const fs::path& folder, const std::string& defect) {
  std::vector<Sample> samples;
  for (const auto& path : list_images(folder)) {
    samples.push_back({.image_path = path, .defect = defect, .id = path.stem().string()});
  }
  require(!samples.empty(), "{} holds no images", folder.string());
  std::set<std::string> ids;
  for (const auto& sample : samples) {
    require(ids.insert(sample.id).second,
            "{} holds more than one image called {}; give each its own name", folder.string(),
            sample.id);
  }
  return samples;
}

void append(std::vector<Sample>& to, std::vector<Sample> from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

const fs::path kTrainGood = fs::path("train") / "good";

bool is_category(const fs::path& folder) { return is_folder(folder / kTrainGood); }

/// The folders in `root` that have a folder `normal`.
std::vector<std::string> categories_in(const fs::path& root, const fs::path& normal) {
  std::vector<std::string> names;
  for (const auto& path : folders_in(root)) {
    if (is_folder(path / normal)) names.push_back(path.filename().string());
  }
  return names;
}

/// The folder of the category; Error naming the categories that exist if it is none.
fs::path category_folder(const fs::path& root, const std::string& category) {
  require(fs::exists(root), "{}: there is no such folder", root.string());
  require(is_folder(root), "{} is no folder", root.string());
  const fs::path folder = category.empty() ? root : root / category;
  if (is_category(folder)) return folder;

  const std::vector<std::string> names = categories_in(root, kTrainGood);
  if (!category.empty() && is_folder(folder)) {
    throw Error(
        fmt::format("category '{}' in {} has no folder train/good", category, root.string()));
  }
  const std::string wanted =
      category.empty()
          ? fmt::format("{} is no category (it has no folder train/good)", root.string())
          : fmt::format("category '{}' not found in {}", category, root.string());
  if (!names.empty()) throw Error(fmt::format("{}; there are: {}", wanted, join(names)));
  if (!category.empty() && is_category(root)) {
    throw Error(wanted + ", which is a category itself: leave the category empty");
  }
  throw Error(wanted + "; there are none");
}

/// All of test/: every folder is a kind of defect but "good".
std::vector<Sample> test_samples(const fs::path& folder) {
  require(is_folder(folder), "{}: there is no such folder", folder.string());
  std::vector<Sample> samples;
  for (const auto& kind : folders_in(folder)) {
    append(samples, samples_in(kind, kind.filename().string()));
  }
  require(!samples.empty(), "{} has no folders of images (good, and one for each kind of defect)",
          folder.string());
  return samples;
}

Dataset open_mvtec(const fs::path& folder, DatasetPart part) {
  Dataset dataset;
  dataset.train = samples_in(folder / "train" / "good", "good");
  if (part == DatasetPart::kTraining) return dataset;
  dataset.test = test_samples(folder / "test");
  const fs::path truth = folder / "ground_truth";
  if (!is_folder(truth)) return dataset;
  for (auto& sample : dataset.test) {
    if (!sample.anomalous()) continue;
    const fs::path masks = truth / sample.defect;
    const fs::path expected = masks / (sample.id + "_mask.png");
    const fs::path short_name = masks / (sample.id + ".png");
    if (is_file(expected)) {
      sample.mask_paths = {expected};
    } else if (is_file(short_name)) {
      sample.mask_paths = {short_name};
    } else {
      throw Error(fmt::format("{} has no mask; expected {}{}", sample.image_path.string(),
                              expected.string(),
                              is_folder(masks / sample.id)
                                  ? " (a folder of that name is there: is the layout \"loco\"?)"
                                  : ""));
    }
  }
  return dataset;
}

Dataset open_loco(const fs::path& folder, DatasetPart part) {
  Dataset dataset;
  dataset.train = samples_in(folder / "train" / "good", "good");
  dataset.validation = samples_in(folder / "validation" / "good", "good");
  if (part == DatasetPart::kTraining) return dataset;
  dataset.test = test_samples(folder / "test");
  const fs::path truth = folder / "ground_truth";
  if (!is_folder(truth)) return dataset;
  for (auto& sample : dataset.test) {
    if (!sample.anomalous()) continue;
    const fs::path masks = truth / sample.defect / sample.id;
    require(is_folder(masks), "{} has no masks; expected {}", sample.image_path.string(),
            (masks / "000.png").string());
    sample.mask_paths = list_images(masks);
    require(!sample.mask_paths.empty(), "{} has no masks; expected {}", sample.image_path.string(),
            (masks / "000.png").string());
  }
  return dataset;
}

/// Looks for <id>_mask and <id>, as PNG or with the image's ending, in <mask_dir>/<defect> and
/// <mask_dir>.
fs::path find_mask(const fs::path& mask_dir, const Sample& sample) {
  const std::string ending = sample.image_path.extension().string();
  for (const auto& folder : {mask_dir / sample.defect, mask_dir}) {
    for (const auto& name : {sample.id + "_mask.png", sample.id + ".png",
                             sample.id + "_mask" + ending, sample.id + ending}) {
      const fs::path path = folder / name;
      std::error_code error;
      if (is_file(path) && !fs::equivalent(path, sample.image_path, error)) return path;
    }
  }
  throw Error(fmt::format("{} has no mask; expected {}", sample.image_path.string(),
                          (mask_dir / (sample.id + "_mask.png")).string()));
}

Dataset open_folder(const fs::path& root, const FolderLayout& layout, DatasetPart part) {
  require(is_folder(root), "{}: there is no such folder", root.string());
  require(!layout.normal_dir.empty(), "the folder of normal images is not named");
  Dataset dataset;
  // An absolute path stays as it is.
  dataset.train = samples_in(root / layout.normal_dir, "good");
  if (part == DatasetPart::kTraining) return dataset;
  if (!layout.normal_test_dir.empty()) {
    dataset.test = samples_in(root / layout.normal_test_dir, "good");
  }
  if (layout.abnormal_dir.empty()) return dataset;

  const fs::path abnormal = root / layout.abnormal_dir;
  std::vector<Sample> defects;
  if (!list_images(abnormal).empty()) defects = samples_in(abnormal, "anomaly");
  for (const auto& kind : folders_in(abnormal)) {
    const std::string name = kind.filename().string();
    require(name != "good", "{}: abnormal images cannot be of the kind \"good\"; rename the folder",
            kind.string());
    require(name != "anomaly" || defects.empty(),
            "{} holds images beside a folder \"anomaly\"; move them into one folder",
            abnormal.string());
    append(defects, samples_in(kind, name));
  }
  require(!defects.empty(), "{} holds no images", abnormal.string());
  if (!layout.mask_dir.empty()) {
    const fs::path masks = root / layout.mask_dir;
    require(is_folder(masks), "{}: there is no such folder", masks.string());
    for (auto& sample : defects) sample.mask_paths = {find_mask(masks, sample)};
  }
  append(dataset.test, std::move(defects));
  return dataset;
}

}  // namespace

Dataset open_dataset(const std::string& layout, const fs::path& root, const std::string& category,
                     const FolderLayout& folder, DatasetPart part) {
  // Results are filed under it.
  bool inside = fs::path(category).is_relative();
  for (const auto& name : fs::path(category)) inside = inside && name != "..";
  require_usage(inside, "category is \"{}\", but must be the name of a folder in {}", category,
                root.string());
  require(layout == "mvtec" || layout == "loco" || layout == "folder",
          "unknown data set layout \"{}\"; known are mvtec, loco, folder", layout);
  Dataset dataset;
  fs::path base;
  if (layout == "folder") {
    base = category.empty() ? root : root / category;
    dataset = open_folder(base, folder, part);
  } else {
    require_usage(
        folder.abnormal_dir.empty() && folder.normal_test_dir.empty() && folder.mask_dir.empty(),
        "abnormal_dir, normal_test_dir and mask_dir are for the layout folder, not for {}", layout);
    base = category_folder(root, category);
    dataset = layout == "mvtec" ? open_mvtec(base, part) : open_loco(base, part);
  }
  dataset.layout = layout;
  dataset.root = base;
  // The folder's own name, also for "." and "x/".
  const fs::path whole = fs::weakly_canonical(base);
  dataset.category = category.empty() ? whole.filename().string() : category;
  return dataset;
}

std::vector<std::string> list_categories(const std::string& layout, const fs::path& root,
                                         const FolderLayout& folder) {
  require(is_folder(root), "{}: there is no such folder", root.string());
  const fs::path normal = layout == "folder" ? fs::path(folder.normal_dir) : kTrainGood;
  std::vector<std::string> names = categories_in(root, normal);
  require(!names.empty(), "{} holds no categories (folders with a folder {})", root.string(),
          normal.string());
  return names;
}

void split_validation(Dataset& dataset, double fraction, int64_t seed) {
  if (!dataset.validation.empty()) return;
  require_usage(fraction > 0.0 && fraction < 1.0,
                "the validation fraction is {}, but must be between 0 and 1", fraction);
  const auto count = static_cast<int64_t>(dataset.train.size());
  require(count >= 2,
          "{} has {} training image, but at least 2 are needed: one to train on, one to calibrate "
          "on",
          dataset.root.string(), count);
  const auto wanted = static_cast<int64_t>(std::llround(fraction * static_cast<double>(count)));
  const int64_t moved = std::clamp<int64_t>(wanted, 1, count - 1);

  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  Rng rng(static_cast<uint64_t>(seed), kSplitStream);
  rng.shuffle(order);
  const std::set<int64_t> chosen(order.begin(), order.begin() + moved);
  std::vector<Sample> train;
  for (int64_t i = 0; i < count; ++i) {
    auto& target = chosen.count(i) > 0 ? dataset.validation : train;
    target.push_back(std::move(dataset.train[static_cast<size_t>(i)]));
  }
  dataset.train = std::move(train);
}

}  // namespace efficientad
