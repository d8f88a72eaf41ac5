#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "efficientad/data/dataset.h"

namespace efficientad::internal {

/// What a data set lacks: an error at once, or collected; and what is no error but may not be
/// meant: logged, or collected.
class Complaints {
 public:
  Complaints() = default;
  Complaints(std::vector<std::string>* problems, std::vector<std::string>* notes)
      : problems_(problems), notes_(notes) {}
  void add(const std::string& problem) const;
  void mention(const std::string& oddity) const;

 private:
  std::vector<std::string>* problems_ = nullptr;
  std::vector<std::string>* notes_ = nullptr;
};

/// A data set whose categories are folders of one form (MVTec AD and those after its example).
struct TreeLayout {
  const char* name = "";
  const char* train = "";
  /// Images of its own to calibrate on; empty: it has none.
  const char* validation = "";
  /// Whether it may lack those.
  bool may_lack_validation = false;
  const char* test = "";
  const char* good = "";
  const char* truth = "";
  /// A folder of masks an image, not one file.
  bool several_masks = false;
};

/// The layout of that name; nullptr if it is none of this kind.
const TreeLayout* tree_layout(const std::string& name);

/// The folder of a category; throws Error naming those that exist if it is none.
std::filesystem::path category_folder(const TreeLayout& layout, const std::filesystem::path& root,
                                      const std::string& category);
std::vector<std::string> tree_categories(const TreeLayout& layout,
                                         const std::filesystem::path& root);
Dataset open_tree(const TreeLayout& layout, const std::filesystem::path& folder, DatasetPart part,
                  const Complaints& complaints);

Dataset open_folder(const std::filesystem::path& root, const FolderLayout& layout, DatasetPart part,
                    const Complaints& complaints);

/// VisA as it comes: split_csv/1cls.csv in `root`.
std::vector<std::string> visa_categories(const std::filesystem::path& root);
Dataset open_visa(const std::filesystem::path& root, const std::string& category, DatasetPart part,
                  const Complaints& complaints);

Dataset open_csv(const std::filesystem::path& file, DatasetPart part, const Complaints& complaints);

/// The folders directly in `folder`, sorted by name, hidden ones passed over. Throws Error if it
/// cannot be read.
std::vector<std::filesystem::path> folders_in(const std::filesystem::path& folder);
bool is_folder(const std::filesystem::path& path);
bool is_file(const std::filesystem::path& path);

}  // namespace efficientad::internal
