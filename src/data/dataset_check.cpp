#include "efficientad/data/dataset_check.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>

#include "efficientad/core/error.h"
#include "efficientad/core/file.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/data/image.h"
#include "efficientad/data/loader.h"
#include "efficientad/data/saturation.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

/// What one image and its masks are.
struct Seen {
  std::vector<std::string> problems{};
  uint64_t content = 0;
  bool readable = false;
};

/// What is wrong with a mask by itself; of MVTec LOCO, `rules` say what its values mean.
void look_at_mask(const fs::path& path, const torch::Tensor& mask,
                  const std::vector<SaturationRule>* rules, std::vector<std::string>& problems) {
  std::array<int64_t, 256> counts = {};
  const auto* values = mask.data_ptr<uint8_t>();
  for (int64_t i = 0; i < mask.numel(); ++i) ++counts[values[i]];
  std::vector<int64_t> marks;
  for (int64_t value = 1; value < 256; ++value) {
    if (counts[static_cast<size_t>(value)] > 0) marks.push_back(value);
  }
  if (marks.empty()) {
    problems.push_back(fmt::format("{} marks no defect: all of it is zero", path.string()));
  } else if (counts[0] == 0) {
    problems.push_back(
        fmt::format("{} marks all of the image: no pixel of it is zero", path.string()));
  }
  if (marks.size() > 1) {
    problems.push_back(fmt::format("{} has {} values besides zero{}", path.string(), marks.size(),
                                   rules == nullptr
                                       ? ", and each of these pixels counts as defective"
                                       : "; a mask of this layout has one"));
  } else if (rules != nullptr && !marks.empty() &&
             std::none_of(rules->begin(), rules->end(), [&](const SaturationRule& rule) {
               return rule.pixel_value == marks[0];
             })) {
    problems.push_back(fmt::format("{} has the value {}, which defects_config.json does not know",
                                   path.string(), marks[0]));
  }
}

Seen look_at(const Sample& sample, const std::vector<SaturationRule>* rules) {
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
      look_at_mask(path, mask.contiguous(), rules, seen.problems);
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
  check.dataset =
      open_dataset_with_problems(layout, root, category, folder, check.problems, check.notes);
  const Dataset& dataset = check.dataset;
  std::vector<const Sample*> samples;
  for (const auto* part : {&dataset.train, &dataset.validation, &dataset.test}) {
    for (const auto& sample : *part) samples.push_back(&sample);
  }
  if (!dataset.test.empty() &&
      std::all_of(dataset.test.begin(), dataset.test.end(),
                  [](const Sample& sample) { return sample.anomalous(); })) {
    check.problems.push_back("none of the test images is good, so there is no image AUROC");
  }
  std::optional<std::vector<SaturationRule>> rules;
  try {
    rules = saturation_rules_of(dataset);
  } catch (const Error& error) {
    check.problems.push_back(error.what());
  }
  const auto total = static_cast<int64_t>(samples.size());
  const auto to_calibrate = static_cast<int64_t>(dataset.train.size());
  const auto train = to_calibrate + static_cast<int64_t>(dataset.validation.size());
  Prefetcher<Seen> loader(
      0, total,
      [&](int64_t i) {
        return look_at(*samples[static_cast<size_t>(i)], rules ? &*rules : nullptr);
      },
      /*threads=*/2);
  std::map<uint64_t, const Sample*> trained;
  std::map<uint64_t, const Sample*> calibrated;
  std::map<uint64_t, const Sample*> tested;
  for (int64_t i = 0; i < total; ++i) {
    const Seen seen = loader.next().value();
    const Sample& sample = *samples[static_cast<size_t>(i)];
    check.problems.insert(check.problems.end(), seen.problems.begin(), seen.problems.end());
    if (seen.readable) {
      if (i < train) {
        // Of two alike to calibrate on neither is trained on.
        auto& alike = i < to_calibrate ? trained : calibrated;
        const auto same = trained.find(seen.content);
        alike.emplace(seen.content, &sample);
        if (i >= to_calibrate && same != trained.end()) {
          check.problems.push_back(
              fmt::format("{} to calibrate on is the same file as {} to train on: the threshold "
                          "will be too low",
                          sample.image_path.string(), same->second->image_path.string()));
        }
      } else if (const auto found = trained.find(seen.content); found != trained.end()) {
        check.problems.push_back(fmt::format("{} to test on is the same file as {} to train on",
                                             sample.image_path.string(),
                                             found->second->image_path.string()));
      } else if (const auto like = calibrated.find(seen.content); like != calibrated.end()) {
        check.problems.push_back(fmt::format("{} to test on is the same file as {} to calibrate on",
                                             sample.image_path.string(),
                                             like->second->image_path.string()));
      } else if (const auto [same, is_new] = tested.emplace(seen.content, &sample);
                 !is_new && same->second->defect != sample.defect) {
        check.problems.push_back(fmt::format(
            "{} is the same file as {}, but one is of the kind {} and the other of the kind {}",
            sample.image_path.string(), same->second->image_path.string(), sample.defect,
            same->second->defect));
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
