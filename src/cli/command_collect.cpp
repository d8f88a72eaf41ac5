#include <filesystem>

#include "cli/collect_options.h"
#include "cli/command.h"
#include "efficientad/core/json.h"
#include "efficientad/eval/collect.h"

namespace efficientad::cli {

namespace fs = std::filesystem;

int collect(const Arguments& arguments) {
  CollectOptions options;
  const CommonFlags common = parse_options(
      arguments,
      "Put the figures of many evaluations into one table, beside the published ones. The order in "
      "which machines made them does not matter.",
      options);
  const auto reports = find_reports({options.folders.begin(), options.folders.end()});
  require(!reports.empty(), "there is no report.json in {}", join(options.folders));
  const Collection collection = efficientad::collect(reports, options.each);
  const fs::path output = options.output;
  make_folder(output);
  write_file(output / "summary.csv", collection.csv);
  write_file(output / "summary.md", collection.markdown);
  if (common.json) {
    fmt::print("{}\n",
               dump_json(nlohmann::ordered_json{{"reports", reports.size()},
                                                {"csv", (output / "summary.csv").string()},
                                                {"markdown", (output / "summary.md").string()}}));
  } else {
    fmt::print("{}{} reports: {}\n", collection.markdown, reports.size(),
               (output / "summary.csv").string());
  }
  return 0;
}

}  // namespace efficientad::cli
