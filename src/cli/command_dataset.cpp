#include <filesystem>
#include <map>
#include <memory>

#include "cli/command.h"
#include "cli/dataset_options.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/json.h"
#include "efficientad/core/progress.h"
#include "efficientad/data/dataset_check.h"

namespace efficientad::cli {

namespace {

using Json = nlohmann::ordered_json;

/// What is there, by part and kind.
Json counts_of(const Dataset& dataset) {
  int64_t good = 0;
  std::map<std::string, int64_t> defects;
  int64_t masks = 0;
  for (const auto& sample : dataset.test) {
    (sample.anomalous() ? defects[sample.defect] : good) += 1;
    masks += static_cast<int64_t>(sample.mask_paths.size());
  }
  return {{"train", dataset.train.size()},
          {"validation", dataset.validation.size()},
          {"test_good", good},
          {"test_by_defect", defects},
          {"masks", masks}};
}

/// The categories to look at: the one that is named, or all of them.
std::vector<std::string> wanted_categories(const CheckOptions& options, const std::string& layout) {
  if (!options.category.empty() && !options.all_categories()) return {options.category};
  if (layout == "csv") return {""};
  if (layout == "folder") {
    // With all, of a folder of categories.
    const bool one =
        !options.all_categories() ||
        std::filesystem::exists(std::filesystem::path(options.data) / options.folder().normal_dir);
    return one ? std::vector<std::string>{""}
               : list_categories(layout, options.data, options.folder());
  }
  const auto* tree_root = layout == "btad" ? "train/ok" : "train/good";
  if (layout != "visa" &&
      std::filesystem::exists(std::filesystem::path(options.data) / tree_root)) {
    return {""};
  }
  return list_categories(layout, options.data, options.folder());
}

void print(const std::string& category, const Json& counts) {
  std::string defects;
  for (const auto& [name, count] : counts.at("test_by_defect").items()) {
    defects += fmt::format("{}{} {}", defects.empty() ? "" : ", ", name, count.get<int64_t>());
  }
  fmt::print("{:20} train {:>5}  validation {:>4}  test good {:>4}  masks {:>5}  {}\n", category,
             counts.at("train").get<int64_t>(), counts.at("validation").get<int64_t>(),
             counts.at("test_good").get<int64_t>(), counts.at("masks").get<int64_t>(),
             defects.empty() ? "no anomalous images" : defects);
}

}  // namespace

int dataset(const Arguments& arguments) {
  CheckOptions options;
  const CommonFlags common = parse_options(
      arguments,
      "Say which layout a data set has, what is in it, and what is wrong with it (status 1 if "
      "anything is).",
      options);
  const InterruptGuard guard;
  const std::string layout = options.dataset == "auto"
                                 ? detect_layout(options.data, options.category, options.folder())
                                 : options.dataset;
  Json json = {{"layout", layout}, {"categories", Json::object()}};
  if (!common.json) fmt::print("layout {}\n", layout);
  std::vector<std::string> problems;
  std::vector<std::string> notes;
  for (const auto& category : wanted_categories(options, layout)) {
    std::string name = category;
    try {
      std::unique_ptr<Progress> progress;
      const DatasetCheck check = check_dataset(
          layout, options.data, category, options.folder(), [&](int64_t done, int64_t total) {
            if (!progress) progress = std::make_unique<Progress>("check", total, "image");
            progress->update(done);
          });
      if (progress) progress->finish();
      name = check.dataset.category;
      const Json counts = counts_of(check.dataset);
      json["categories"][name] = counts;
      json["categories"][name]["problems"] = check.problems;
      json["categories"][name]["notes"] = check.notes;
      if (!common.json) print(name, counts);
      problems.insert(problems.end(), check.problems.begin(), check.problems.end());
      notes.insert(notes.end(), check.notes.begin(), check.notes.end());
    } catch (const Interrupted&) {
      throw;
    } catch (const UsageError&) {
      throw;
    } catch (const Error& error) {
      problems.emplace_back(error.what());
      json["categories"][name] = {{"problems", {error.what()}}};
    }
  }
  json["problems"] = problems.size();
  if (common.json) {
    fmt::print("{}\n", dump_json(json));
  } else {
    for (const auto& note : notes) fmt::print("note: {}\n", printable(note));
    for (const auto& problem : problems) fmt::print("problem: {}\n", printable(problem));
    fmt::print("{}\n", problems.empty() ? "no problems"
                                        : fmt::format("{} problem{}", problems.size(),
                                                      problems.size() == 1 ? "" : "s"));
  }
  return problems.empty() ? 0 : 1;
}

}  // namespace efficientad::cli
