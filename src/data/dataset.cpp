#include "efficientad/data/dataset.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "efficientad/core/error.h"
#include "efficientad/core/file.h"
#include "efficientad/core/random.h"
#include "efficientad/data/image.h"
#include "layouts.h"
#include "text.h"

namespace efficientad {

namespace fs = std::filesystem;

using internal::Complaints;
using internal::is_file;
using internal::is_folder;
using internal::lower_case;
using internal::tree_layout;

namespace {

/// Stream of the Rng that chooses validation images.
constexpr uint64_t kSplitStream = 0x73706c6974;
/// Stream of the one that chooses few training images.
constexpr uint64_t kShotsStream = 0x73686f7473;

const std::vector<std::string> kLayouts = {"mvtec", "mvtec2", "loco", "visa",
                                           "btad",  "folder", "csv"};

/// Whether the test images of a category's folder may be filed as MVTec LOCO's: a folder of masks
/// for each, or, without masks, its kinds of defect.
bool tests_as_loco(const fs::path& folder) {
  const fs::path truth = folder / "ground_truth";
  if (!is_folder(truth)) {
    const fs::path test = folder / "test";
    return !is_folder(test) || is_folder(test / "logical_anomalies") ||
           is_folder(test / "structural_anomalies");
  }
  for (const auto& kind : internal::folders_in(truth)) {
    if (!list_images(kind).empty()) return false;
  }
  return true;
}

/// The layout of a category's folder; empty: none is recognised.
std::string layout_of_category(const fs::path& folder) {
  const auto has = [&](const char* inside) { return is_folder(folder / inside); };
  if (has("train/good")) {
    if (has("test_public")) return "mvtec2";
    // VisA's prepared form, MPDD and others are as MVTec AD, some with images to calibrate on.
    return has("validation/good") && tests_as_loco(folder) ? "loco" : "mvtec";
  }
  return has("train/ok") ? "btad" : "";
}

/// Every test image is one of a kind, and has an anomaly map of its own.
void check_names(const Dataset& dataset) {
  std::map<std::string, fs::path> maps;
  std::map<fs::path, std::string> kinds;
  for (const auto& sample : dataset.test) {
    const auto [same, is_new] = maps.emplace(sample.defect + "/" + sample.id, sample.image_path);
    require(is_new, "{} and {} are both called {} and of the kind {}; give each its own name",
            same->second.string(), sample.image_path.string(), sample.id, sample.defect);
    const auto [kind, first] =
        kinds.emplace(fs::weakly_canonical(sample.image_path), sample.defect);
    require(first || kind->second == sample.defect, "{} is both of the kind {} and of the kind {}",
            sample.image_path.string(), kind->second, sample.defect);
  }
}

Dataset open_with(const std::string& asked, const fs::path& root, const std::string& category,
                  const FolderLayout& folder, DatasetPart part, const Complaints& complaints) {
  // Results are filed under it.
  const bool a_name =
      category.find('/') == std::string::npos && category != "." && category != "..";
  require_usage(a_name, "category is \"{}\", but must be the name of a folder in {}", category,
                root.string());
  const std::string layout = asked == "auto" ? detect_layout(root, category, folder) : asked;
  require(std::find(kLayouts.begin(), kLayouts.end(), layout) != kLayouts.end(),
          "unknown data set layout \"{}\"; known are auto, {}", layout, join(kLayouts));
  require_usage(layout == "folder" || (folder.abnormal_dir.empty() &&
                                       folder.normal_test_dir.empty() && folder.mask_dir.empty()),
                "abnormal_dir, normal_test_dir and mask_dir are for the layout folder, not for {}",
                layout);
  Dataset dataset;
  fs::path base = category.empty() ? root : root / category;
  if (layout == "folder") {
    dataset = internal::open_folder(base, folder, part, complaints);
  } else if (layout == "csv") {
    require_usage(category.empty(), "a CSV file has no categories");
    dataset = internal::open_csv(root, part, complaints);
    base = root.parent_path();
  } else if (layout == "visa") {
    dataset = internal::open_visa(root, category, part, complaints);
  } else {
    base = internal::category_folder(*tree_layout(layout), root, category);
    dataset = internal::open_tree(*tree_layout(layout), base, part, complaints);
  }
  dataset.layout = layout;
  dataset.root = base;
  check_names(dataset);
  // The folder's own name, also for "." and "x/"; that of a CSV file without its ending.
  const fs::path whole = fs::weakly_canonical(layout == "csv" ? root : base);
  dataset.category = !category.empty() ? category
                     : layout == "csv" ? whole.stem().string()
                                       : whole.filename().string();
  // Results are filed under it.
  if (dataset.category.empty()) dataset.category = "data";
  return dataset;
}

}  // namespace

const std::vector<std::string>& dataset_layouts() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> names = kLayouts;
    names.insert(names.begin(), "auto");
    return names;
  }();
  return all;
}

std::string detect_layout(const fs::path& root, const std::string& category,
                          const FolderLayout& folder) {
  if (is_file(root) && lower_case(root.extension().string()) == ".csv") return "csv";
  require(fs::exists(root), "{}: there is no such folder", root.string());
  require(is_folder(root), "{} is no folder, and no CSV file", root.string());
  if (is_file(root / "split_csv" / "1cls.csv")) return "visa";
  const bool named = !folder.abnormal_dir.empty() || !folder.normal_test_dir.empty();
  if (named) return "folder";
  const fs::path base = category.empty() || category == "all" ? root : root / category;
  std::string layout = layout_of_category(base);
  if (!layout.empty()) return layout;
  for (const char* tree : {"mvtec", "btad"}) {
    for (const auto& name : internal::tree_categories(*tree_layout(tree), root)) {
      layout = layout_of_category(root / name);
      if (!layout.empty()) return layout;
    }
  }
  if (!folder.normal_dir.empty() && is_folder(base / folder.normal_dir)) return "folder";
  if (!list_images(base).empty()) {
    throw Error(fmt::format(
        "{}: no layout is recognised; to take the images in it as normal ones, give --dataset "
        "folder --normal-dir .",
        base.string()));
  }
  throw Error(fmt::format(
      "{}: no layout is recognised: neither train/good (mvtec, mvtec2, loco) or train/ok (btad) in "
      "it or a folder in it, nor split_csv/1cls.csv (visa), nor a folder {} (folder)",
      base.string(), folder.normal_dir));
}

Dataset open_dataset(const std::string& layout, const fs::path& root, const std::string& category,
                     const FolderLayout& folder, DatasetPart part) {
  return open_with(layout, root, category, folder, part, Complaints());
}

Dataset open_dataset_with_problems(const std::string& layout, const fs::path& root,
                                   const std::string& category, const FolderLayout& folder,
                                   std::vector<std::string>& problems,
                                   std::vector<std::string>& notes) {
  return open_with(layout, root, category, folder, DatasetPart::kAll,
                   Complaints(&problems, &notes));
}

std::vector<std::string> list_categories(const std::string& asked, const fs::path& root,
                                         const FolderLayout& folder) {
  const std::string layout = asked == "auto" ? detect_layout(root, "", folder) : asked;
  if (layout == "visa") return internal::visa_categories(root);
  require_usage(layout != "csv", "a CSV file has no categories");
  require(is_folder(root), "{}: there is no such folder", root.string());
  const internal::TreeLayout of_folder = {.name = "folder", .train = folder.normal_dir.c_str()};
  const internal::TreeLayout* tree = tree_layout(layout);
  if (tree == nullptr) tree = &of_folder;
  std::vector<std::string> names = internal::tree_categories(*tree, root);
  require(!names.empty(), "{} holds no categories (folders with a folder {})", root.string(),
          tree->train);
  return names;
}

void require_apart(const Dataset& dataset, const fs::path& output) {
  const fs::path place = fs::weakly_canonical(output);
  const fs::path root = fs::weakly_canonical(dataset.root);
  std::set<fs::path> folders;
  const auto add = [&](const fs::path& file) {
    const fs::path folder = fs::weakly_canonical(file.parent_path());
    if (folder == root) return;
    folders.insert(folder);
    // The kinds' folders lie in one, and so would the results.
    const fs::path above = folder.parent_path();
    if (above != root && is_below(above, root)) folders.insert(above);
  };
  for (const auto* samples : {&dataset.train, &dataset.validation, &dataset.test}) {
    for (const auto& sample : *samples) {
      add(sample.image_path);
      for (const auto& mask : sample.mask_paths) add(mask);
    }
  }
  for (const auto& folder : folders) {
    require_usage(!is_below(place, folder),
                  "output is {}, which lies among the data set's images, in {}; choose a folder "
                  "outside of it",
                  output.string(), folder.string());
  }
}

void keep_shots(Dataset& dataset, int64_t shots, int64_t seed) {
  if (shots == 0) return;
  const auto count = static_cast<int64_t>(dataset.train.size());
  require(shots <= count, "{} has {} training images, but shots is {}", dataset.root.string(),
          count, shots);
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  Rng(static_cast<uint64_t>(seed), kShotsStream).shuffle(order);
  std::vector<int64_t> chosen(order.begin(), order.begin() + shots);
  std::sort(chosen.begin(), chosen.end());
  std::vector<Sample> train;
  for (const int64_t index : chosen) train.push_back(dataset.train[static_cast<size_t>(index)]);
  dataset.train = std::move(train);
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
