#pragma once

#include <filesystem>
#include <string>

#include "efficientad/core/options.h"
#include "efficientad/data/dataset.h"

namespace efficientad::cli {

/// Options of commands that look at a data set.
struct DatasetOptions {
  std::string dataset = "auto";
  std::string data;
  std::string category;
  std::string normal_dir = "normal";
  std::string abnormal_dir;
  std::string normal_test_dir;
  std::string mask_dir;

  template <class Visitor>
  void visit(Visitor&& visitor, bool data_is_positional) {
    visitor("dataset", dataset,
            OptionInfo{.help = "layout of the data set; auto: as its folders say",
                       .choices = dataset_layouts()});
    visitor("data", data,
            OptionInfo{.help = "root folder of the data set, or its CSV file",
                       .positional = data_is_positional,
                       .required = true});
    visitor("category", category,
            OptionInfo{.help = data_is_positional
                                   ? "category (folder in the root); empty: the root, if it is "
                                     "one (as with layout folder), or all of them; all: every one"
                                   : "category (folder in the root); empty: the root is one; all: "
                                     "every one"});
    visitor("normal_dir", normal_dir,
            OptionInfo{.help = "layout folder: normal training images, relative to the root"});
    visitor("abnormal_dir", abnormal_dir,
            OptionInfo{.help = "layout folder: anomalous test images, or a folder a kind of them"});
    visitor("normal_test_dir", normal_test_dir,
            OptionInfo{.help = "layout folder: normal test images"});
    visitor("mask_dir", mask_dir, OptionInfo{.help = "layout folder: masks of the defects"});
  }

  FolderLayout folder() const {
    return {.normal_dir = normal_dir,
            .abnormal_dir = abnormal_dir,
            .normal_test_dir = normal_test_dir,
            .mask_dir = mask_dir};
  }

  /// Every category is asked for, and "all" is none itself.
  bool all_categories() const {
    return category == "all" && !std::filesystem::exists(std::filesystem::path(data) / "all");
  }
};

/// Options of `efficientad dataset`.
struct CheckOptions : DatasetOptions {
  template <class Visitor>
  void visit(Visitor&& visitor) {
    DatasetOptions::visit(visitor, /*data_is_positional=*/true);
  }
};

}  // namespace efficientad::cli
