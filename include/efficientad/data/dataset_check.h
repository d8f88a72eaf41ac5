#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "efficientad/data/dataset.h"

namespace efficientad {

/// A data set, what is wrong with it, and what may not be meant so, one line each.
struct DatasetCheck {
  Dataset dataset;
  std::vector<std::string> problems;
  std::vector<std::string> notes;
};

/// Opens a category as open_dataset() does and reads every file of it: images and masks that cannot
/// be read or are missing, masks of another size than their image, that are all zero or belong to
/// no image, and test images that are, byte for byte, training images too. `progress`: files done,
/// and all. Throws Error if the category cannot be opened at all; Interrupted if the user asks to
/// stop.
DatasetCheck check_dataset(const std::string& layout, const std::filesystem::path& root,
                           const std::string& category, const FolderLayout& folder,
                           const std::function<void(int64_t done, int64_t total)>& progress = {});

}  // namespace efficientad
