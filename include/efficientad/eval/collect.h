#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace efficientad {

/// An evaluation's report and where it lies.
struct FoundReport {
  std::filesystem::path path;
  nlohmann::ordered_json report;
};

/// All report.json below `folders`, sorted by path. Throws Error for a folder that is not there, or
/// a report that is damaged.
std::vector<FoundReport> find_reports(const std::vector<std::filesystem::path>& folders);

/// The figures of many evaluations.
struct Collection {
  /// One row a report: data_set, category, model_size, seed and the main metrics; with `each` also
  /// false_positives, missed and report, the folder.
  std::string csv;
  /// A table for each data set and model size with its means (over a category's seeds first), and
  /// beside them what was published for MVTec AD, VisA and MVTec LOCO AD where all their categories
  /// are there.
  std::string markdown;
};

/// Collects them; their order does not matter. Two reports of the same data set, category, model
/// size and seed are an Error that names both. With `each`, they are not, and the table has a row
/// for every report, named by its folder, with its wrong decisions.
Collection collect(std::vector<FoundReport> reports, bool each = false);

}  // namespace efficientad
