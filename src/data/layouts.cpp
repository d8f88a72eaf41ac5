#include "layouts.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <set>

#include "efficientad/core/error.h"
#include "efficientad/core/file.h"
#include "efficientad/core/log.h"
#include "efficientad/data/csv.h"
#include "efficientad/data/image.h"
#include "text.h"

namespace efficientad::internal {

namespace fs = std::filesystem;

namespace {

constexpr TreeLayout kTrees[] = {
    {.name = "mvtec",
     .train = "train/good",
     .validation = "validation/good",
     .may_lack_validation = true,
     .test = "test",
     .good = "good",
     .truth = "ground_truth"},
    {.name = "mvtec2",
     .train = "train/good",
     .validation = "validation/good",
     .test = "test_public",
     .good = "good",
     .truth = "test_public/ground_truth"},
    {.name = "loco",
     .train = "train/good",
     .validation = "validation/good",
     .test = "test",
     .good = "good",
     .truth = "ground_truth",
     .several_masks = true},
    {.name = "btad", .train = "train/ok", .test = "test", .good = "ok", .truth = "ground_truth"},
};

/// Mentions images in folders in `folder` that are not taken; those in `others` are of other parts.
void mention_deeper_ones(const fs::path& folder, std::vector<fs::path> others,
                         const Complaints& complaints) {
  for (auto& other : others) other = plain_path(other / "").parent_path();
  const fs::path itself = plain_path(folder / "").parent_path();
  int64_t count = 0;
  fs::path one;
  try {
    for (const auto& image : list_images(folder, /*recursive=*/true)) {
      const fs::path path = plain_path(image);
      const bool taken = path.parent_path() == itself ||
                         std::any_of(others.begin(), others.end(),
                                     [&](const fs::path& other) { return is_below(path, other); });
      if (!taken && ++count == 1) one = image;
    }
  } catch (const Error&) {
    return;  // A folder that cannot be read holds none that are wanted.
  }
  if (count == 0) return;
  complaints.mention(
      fmt::format("{}: {} images in folders in it are left out, such as {}; only those directly in "
                  "it are taken",
                  folder.string(), count, one.string()));
}

/// One sample an image in `folder`, without masks; `others` are folders in it that are other parts
/// of the set. Throws Error if there are none, or two images have the same name but for the ending:
/// the name stands for the image in maps and reports.
std::vector<Sample> samples_in(const fs::path& folder, const std::string& defect,
                               const Complaints& complaints,
                               const std::vector<fs::path>& others = {}) {
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
  mention_deeper_ones(folder, others, complaints);
  return samples;
}

void append(std::vector<Sample>& to, std::vector<Sample> from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

/// All of the test folder: every folder is a kind of defect but the one of good images.
std::vector<Sample> test_samples(const TreeLayout& layout, const fs::path& category,
                                 const Complaints& complaints) {
  const fs::path folder = category / layout.test;
  require(is_folder(folder), "{}: there is no such folder", folder.string());
  std::vector<Sample> samples;
  for (const auto& kind : folders_in(folder)) {
    if (kind == category / layout.truth) continue;
    const std::string name = kind.filename().string();
    append(samples, samples_in(kind, name == layout.good ? "good" : name, complaints));
  }
  require(!samples.empty(), "{} has no folders of images ({}, and one for each kind of defect)",
          folder.string(), layout.good);
  return samples;
}

/// Looks for <id>_mask and <id>, as PNG or with the image's ending, in `folders`; empty if there is
/// none.
fs::path find_mask(const std::vector<fs::path>& folders, const Sample& sample) {
  const std::string ending = sample.image_path.extension().string();
  for (const auto& folder : folders) {
    for (const auto& name : {sample.id + "_mask.png", sample.id + ".png",
                             sample.id + "_mask" + ending, sample.id + ending}) {
      const fs::path path = folder / name;
      std::error_code error;
      if (is_file(path) && !fs::equivalent(path, sample.image_path, error)) return path;
    }
  }
  return {};
}

}  // namespace

void Complaints::add(const std::string& problem) const {
  if (problems_ == nullptr) throw Error(problem);
  problems_->push_back(problem);
}

void Complaints::mention(const std::string& oddity) const {
  if (notes_ != nullptr) {
    notes_->push_back(oddity);
    return;
  }
  // A set is opened more than once.
  static std::mutex telling;
  static std::set<std::string> told;
  const std::lock_guard lock(telling);
  if (told.insert(oddity).second) spdlog::warn("{}", oddity);
}

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

bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

const TreeLayout* tree_layout(const std::string& name) {
  const auto* found = std::find_if(std::begin(kTrees), std::end(kTrees),
                                   [&](const TreeLayout& tree) { return name == tree.name; });
  return found == std::end(kTrees) ? nullptr : found;
}

std::vector<std::string> tree_categories(const TreeLayout& layout, const fs::path& root) {
  std::vector<std::string> names;
  for (const auto& path : folders_in(root)) {
    if (is_folder(path / layout.train)) names.push_back(path.filename().string());
  }
  return names;
}

fs::path category_folder(const TreeLayout& layout, const fs::path& root,
                         const std::string& category) {
  require(fs::exists(root), "{}: there is no such folder", root.string());
  require(is_folder(root), "{} is no folder", root.string());
  const fs::path folder = category.empty() ? root : root / category;
  if (is_folder(folder / layout.train)) return folder;

  const std::vector<std::string> names = tree_categories(layout, root);
  if (!category.empty() && is_folder(folder)) {
    throw Error(
        fmt::format("category '{}' in {} has no folder {}", category, root.string(), layout.train));
  }
  const std::string wanted =
      category.empty()
          ? fmt::format("{} is no category (it has no folder {})", root.string(), layout.train)
          : fmt::format("category '{}' not found in {}", category, root.string());
  if (!names.empty()) throw Error(fmt::format("{}; there are: {}", wanted, join(names)));
  if (!category.empty() && is_folder(root / layout.train)) {
    throw Error(wanted + ", which is a category itself: leave the category empty");
  }
  throw Error(wanted + "; there are none");
}

Dataset open_tree(const TreeLayout& layout, const fs::path& folder, DatasetPart part,
                  const Complaints& complaints) {
  Dataset dataset;
  dataset.train = samples_in(folder / layout.train, "good", complaints);
  const bool lacks_validation =
      *layout.validation == '\0' ||
      (layout.may_lack_validation && !is_folder(folder / layout.validation));
  if (!lacks_validation) {
    dataset.validation = samples_in(folder / layout.validation, "good", complaints);
  }
  if (part == DatasetPart::kTraining) return dataset;
  dataset.test = test_samples(layout, folder, complaints);
  const fs::path truth = folder / layout.truth;
  if (!is_folder(truth)) return dataset;
  dataset.mask_root = truth;
  for (auto& sample : dataset.test) {
    if (!sample.anomalous()) continue;
    const fs::path masks = truth / sample.defect;
    const std::string image = sample.image_path.string();
    const bool folder_of_masks = is_folder(masks / sample.id);
    if (layout.several_masks) {
      if (folder_of_masks) sample.mask_paths = list_images(masks / sample.id);
      if (sample.mask_paths.empty()) {
        const fs::path one = find_mask({masks}, sample);
        complaints.add(fmt::format(
            "{} has no masks; expected {}{}", image, (masks / sample.id / "000.png").string(),
            one.empty() ? ""
                        : fmt::format(" (there is {}: is the layout \"mvtec\"?)", one.string())));
      }
      continue;
    }
    const fs::path mask = find_mask({masks}, sample);
    if (!mask.empty()) {
      sample.mask_paths = {mask};
      continue;
    }
    complaints.add(fmt::format(
        "{} has no mask; expected {}{}", image, (masks / (sample.id + "_mask.png")).string(),
        folder_of_masks ? " (a folder of that name is there: is the layout \"loco\"?)" : ""));
  }
  return dataset;
}

Dataset open_folder(const fs::path& root, const FolderLayout& layout, DatasetPart part,
                    const Complaints& complaints) {
  require(is_folder(root), "{}: there is no such folder", root.string());
  require(!layout.normal_dir.empty(), "the folder of normal images is not named");
  Dataset dataset;
  // An absolute path stays as it is.
  const fs::path normal = root / layout.normal_dir;
  std::vector<fs::path> others;
  for (const auto& other : {layout.abnormal_dir, layout.normal_test_dir, layout.mask_dir}) {
    if (!other.empty()) others.push_back(root / other);
  }
  const bool may_be_missing = part == DatasetPart::kTest;
  require(may_be_missing || is_folder(normal) || list_images(root).empty(),
          "{}: there is no such folder, but images in {}: for those give --normal-dir .",
          normal.string(), root.string());
  if (!may_be_missing || is_folder(normal)) {
    dataset.train = samples_in(normal, "good", complaints, others);
  }
  if (part == DatasetPart::kTraining) return dataset;
  if (!layout.normal_test_dir.empty()) {
    dataset.test = samples_in(root / layout.normal_test_dir, "good", complaints);
  }
  if (layout.abnormal_dir.empty()) return dataset;

  const fs::path abnormal = root / layout.abnormal_dir;
  std::vector<Sample> defects;
  if (!list_images(abnormal).empty()) {
    defects = samples_in(abnormal, "anomaly", complaints, folders_in(abnormal));
  }
  for (const auto& kind : folders_in(abnormal)) {
    const std::string name = kind.filename().string();
    require(name != "good", "{}: abnormal images cannot be of the kind \"good\"; rename the folder",
            kind.string());
    require(name != "anomaly" || defects.empty(),
            "{} holds images beside a folder \"anomaly\"; move them into one folder",
            abnormal.string());
    append(defects, samples_in(kind, name, complaints));
  }
  require(!defects.empty(), "{} holds no images", abnormal.string());
  if (!layout.mask_dir.empty()) {
    const fs::path masks = root / layout.mask_dir;
    require(is_folder(masks), "{}: there is no such folder", masks.string());
    dataset.mask_root = masks;
    std::map<fs::path, fs::path> image_of;
    for (auto& sample : defects) {
      const fs::path mask = find_mask({masks / sample.defect, masks}, sample);
      if (mask.empty()) {
        complaints.add(fmt::format("{} has no mask; expected {}", sample.image_path.string(),
                                   (masks / (sample.id + "_mask.png")).string()));
        continue;
      }
      if (const auto [other, is_new] = image_of.emplace(mask, sample.image_path); !is_new) {
        complaints.add(
            fmt::format("{} would be the mask of {} and of {}; give each kind of defect "
                        "a folder of masks",
                        mask.string(), other->second.string(), sample.image_path.string()));
      }
      sample.mask_paths = {mask};
    }
  }
  append(dataset.test, std::move(defects));
  return dataset;
}

namespace {

/// The name that says an image is normal; any other is a kind of defect.
std::string defect_of_label(const std::string& label) {
  static const std::set<std::string> kNormal = {"normal", "good", "ok", "0"};
  static const std::set<std::string> kAnomaly = {"anomaly", "anomalous", "abnormal", "bad", "1"};
  const std::string lower = lower_case(label);
  if (kNormal.count(lower) > 0) return "good";
  return kAnomaly.count(lower) > 0 ? "anomaly" : label;
}

/// A row of a table of images.
struct Row {
  std::string split;
  std::string label;
  std::string image;
  std::string mask;
};

/// The samples of such rows, paths relative to `root`.
Dataset dataset_of_rows(const std::vector<Row>& rows, const fs::path& root, const fs::path& file,
                        DatasetPart part, const Complaints& complaints) {
  Dataset dataset;
  std::set<std::string> ids;
  std::set<fs::path> images;
  for (Row row : rows) {
    row.split = trimmed(row.split);
    row.label = trimmed(row.label);
    require(!row.image.empty(), "{}: a row has no image", file.string());
    const fs::path image = root / row.image;
    Sample sample = {
        .image_path = image, .defect = defect_of_label(row.label), .id = image.stem().string()};
    require(images.insert(image.lexically_normal()).second, "{}: {} is in more than one row",
            file.string(), row.image);
    const bool test = row.split == "test";
    const bool validation = row.split == "validation" || row.split == "val";
    require(test || validation || row.split == "train",
            "{}: {} is of the split \"{}\", but known are train, validation and test",
            file.string(), row.image, row.split);
    require(!row.label.empty(), "{}: {} has no label", file.string(), row.image);
    require(sample.defect.find('/') == std::string::npos && sample.defect[0] != '.',
            "{}: the label \"{}\" is none (it names a folder of results)", file.string(),
            row.label);
    require(test || !sample.anomalous(), "{}: {} is anomalous, but of the split \"{}\"",
            file.string(), row.image, row.split);
    if (part == DatasetPart::kTraining && test) continue;
    if (!is_file(image)) {
      complaints.add(fmt::format("{}: there is no image {}", file.string(), image.string()));
      continue;
    }
    if (!row.mask.empty() && sample.anomalous()) {
      const fs::path mask = root / row.mask;
      if (is_file(mask)) {
        sample.mask_paths = {mask};
      } else {
        complaints.add(fmt::format("{}: there is no mask {}", file.string(), mask.string()));
      }
    }
    if (test) {
      require(ids.insert(sample.defect + "/" + sample.id).second,
              "{}: more than one test image of the kind {} is called {}; give each its own name",
              file.string(), sample.defect, sample.id);
    }
    (test ? dataset.test : validation ? dataset.validation : dataset.train).push_back(sample);
  }
  require(!dataset.train.empty(), "{}: there are no images of the split train", file.string());
  for (auto* samples : {&dataset.train, &dataset.validation, &dataset.test}) {
    std::sort(samples->begin(), samples->end(),
              [](const Sample& a, const Sample& b) { return a.image_path < b.image_path; });
  }
  return dataset;
}

fs::path visa_file(const fs::path& root) { return root / "split_csv" / "1cls.csv"; }

}  // namespace

std::vector<std::string> visa_categories(const fs::path& root) {
  std::set<std::string> names;
  for (const auto& row : read_csv(visa_file(root), {"object"})) names.insert(row.at("object"));
  return {names.begin(), names.end()};
}

Dataset open_visa(const fs::path& root, const std::string& category, DatasetPart part,
                  const Complaints& complaints) {
  const fs::path file = visa_file(root);
  require(is_file(file), "{}: there is no such file, so this is not VisA as it comes",
          file.string());
  const auto names = visa_categories(root);
  require(std::find(names.begin(), names.end(), category) != names.end(),
          "category '{}' not found in {}; there are: {}", category, file.string(), join(names));
  std::vector<Row> rows;
  for (const auto& row : read_csv(file, {"object", "split", "label", "image", "mask"})) {
    if (row.at("object") != category) continue;
    rows.push_back({row.at("split"), row.at("label"), row.at("image"), row.at("mask")});
  }
  Dataset dataset = dataset_of_rows(rows, root, file, part, complaints);
  const fs::path masks = root / category / "Data" / "Masks";
  if (is_folder(masks)) dataset.mask_root = masks;
  return dataset;
}

Dataset open_csv(const fs::path& file, DatasetPart part, const Complaints& complaints) {
  std::vector<Row> rows;
  for (const auto& row : read_csv(file, {"image_path", "label", "split"})) {
    const auto mask = row.find("mask_path");
    rows.push_back({row.at("split"), row.at("label"), row.at("image_path"),
                    mask == row.end() ? "" : mask->second});
  }
  return dataset_of_rows(rows, file.parent_path(), file, part, complaints);
}

}  // namespace efficientad::internal
