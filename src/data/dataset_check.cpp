#include "efficientad/data/dataset_check.h"

#include <torch/torch.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "efficientad/core/error.h"
#include "efficientad/core/file.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/data/image.h"
#include "efficientad/data/loader.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

/// What one image and its masks are.
struct Seen {
  std::vector<std::string> problems{};
  uint64_t content = 0;
  bool readable = false;
};

Seen look_at(const Sample& sample) {
  Seen seen;
  std::array<int64_t, 2> size_hw = {};
  try {
    const std::string bytes = read_file(sample.image_path);
    seen.content = hash64(bytes.data(), bytes.size());
    const torch::Tensor image = read_image(sample.image_path);
    size_hw = {image.size(0), image.size(1)};
    seen.readable = true;
  } catch (const Error& error) {
    seen.problems.push_back(error.what());
  }
  for (const auto& path : sample.mask_paths) {
    try {
      const torch::Tensor mask = read_mask(path);
      if (seen.readable && (mask.size(0) != size_hw[0] || mask.size(1) != size_hw[1])) {
        seen.problems.push_back(fmt::format("{} is {}x{}, but its image {} is {}x{}", path.string(),
                                            mask.size(1), mask.size(0), sample.image_path.string(),
                                            size_hw[1], size_hw[0]));
      }
      const auto* values = mask.data_ptr<uint8_t>();
      if (std::all_of(values, values + mask.numel(), [](uint8_t value) { return value == 0; })) {
        seen.problems.push_back(
            fmt::format("{} marks no defect: all of it is zero", path.string()));
      }
    } catch (const Error& error) {
      seen.problems.push_back(error.what());
    }
  }
  return seen;
}

}  // namespace

DatasetCheck check_dataset(const std::string& layout, const fs::path& root,
                           const std::string& category, const FolderLayout& folder,
                           const std::function<void(int64_t, int64_t)>& progress) {
  DatasetCheck check;
  check.dataset = open_dataset_with_problems(layout, root, category, folder, check.problems);
  const Dataset& dataset = check.dataset;
  std::vector<const Sample*> samples;
  for (const auto* part : {&dataset.train, &dataset.validation, &dataset.test}) {
    for (const auto& sample : *part) samples.push_back(&sample);
  }
  const auto total = static_cast<int64_t>(samples.size());
  const auto train = static_cast<int64_t>(dataset.train.size() + dataset.validation.size());
  Prefetcher<Seen> loader(
      0, total, [&](int64_t i) { return look_at(*samples[static_cast<size_t>(i)]); },
      /*threads=*/2);
  std::map<uint64_t, const Sample*> trained;
  for (int64_t i = 0; i < total; ++i) {
    const Seen seen = loader.next().value();
    const Sample& sample = *samples[static_cast<size_t>(i)];
    check.problems.insert(check.problems.end(), seen.problems.begin(), seen.problems.end());
    if (seen.readable) {
      if (i < train) {
        trained.emplace(seen.content, &sample);
      } else if (const auto found = trained.find(seen.content); found != trained.end()) {
        check.problems.push_back(fmt::format("{} to test on is the same file as {} to train on",
                                             sample.image_path.string(),
                                             found->second->image_path.string()));
      }
    }
    if (progress) progress(i + 1, total);
    if (interrupt_requested()) throw Interrupted("interrupted; the check is not complete");
  }
  if (!dataset.mask_root.empty()) {
    std::set<fs::path> used;
    for (const auto& sample : dataset.test) {
      used.insert(sample.mask_paths.begin(), sample.mask_paths.end());
    }
    for (const auto& mask : list_images(dataset.mask_root, /*recursive=*/true)) {
      if (used.count(mask) == 0) {
        check.problems.push_back(fmt::format("{} is the mask of no image", mask.string()));
      }
    }
  }
  return check;
}

}  // namespace efficientad
