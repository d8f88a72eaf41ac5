#include "efficientad/eval/collect.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "efficientad/core/file.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

using Json = nlohmann::ordered_json;

FoundReport report_of(const std::string& category, int seed, double auroc,
                      const std::string& data = "/data/loco/") {
  return {.path = category + std::to_string(seed) + "/report.json",
          .report = {{"category", category},
                     {"image_auroc", auroc},
                     {"au_pro", {{"0.3", auroc / 2}}},
                     {"aupimo", nullptr},
                     {"options", {{"data", data}}},
                     {"model", {{"model_size", "small"}, {"options", {{"seed", seed}}}}}}};
}

const std::vector<std::string> kLoco = {"breakfast_box", "juice_bottle", "pushpins", "screw_bag",
                                        "splicing_connectors"};

TEST(Collect, MeansAreOverSeedsThenCategories) {
  const auto collection = collect({report_of("pushpins", 0, 0.5), report_of("pushpins", 1, 0.7),
                                   report_of("screw_bag", 0, 0.8)});
  EXPECT_NE(collection.markdown.find("| pushpins (2 seeds) | 0.6000 |"), std::string::npos)
      << collection.markdown;
  EXPECT_NE(collection.markdown.find("| mean | 0.7000 | - |"), std::string::npos)
      << collection.markdown;
  EXPECT_EQ(collection.markdown.find("Published"), std::string::npos);
  EXPECT_NE(collection.csv.find("loco,pushpins,small,1,0.700000,,,,,0.350000,,\n"),
            std::string::npos)
      << collection.csv;
}

TEST(Collect, TheOrderDoesNotMatterAndThePublishedStandBesideAWholeSet) {
  std::vector<FoundReport> reports;
  for (const auto& category : kLoco) {
    // Also where the root is the category itself.
    reports.push_back(
        report_of(category, 0, 0.9, category == "pushpins" ? "/data/loco/pushpins" : "/data/loco"));
  }
  const auto one = collect(reports);
  std::reverse(reports.begin(), reports.end());
  const auto other = collect(reports);
  EXPECT_EQ(one.csv, other.csv);
  EXPECT_EQ(one.markdown, other.markdown);
  EXPECT_NE(one.markdown.find("on MVTec LOCO AD: 0.900 (the paper), 0.895"), std::string::npos)
      << one.markdown;
  EXPECT_NE(one.markdown.find("the mean over the kinds of defect"), std::string::npos);
}

TEST(Collect, SeedsThatWereTrainedInAnotherWayAreNotAveraged) {
  FoundReport first = report_of("pushpins", 0, 0.5);
  FoundReport second = report_of("pushpins", 1, 0.7);
  first.report["model"]["options"]["steps"] = 1000;
  second.report["model"]["options"]["steps"] = 2000;
  EXPECT_ERROR(collect({first, second}), Error, "one was made with steps 1000");
  EXPECT_NO_THROW(collect({first, second}, /*each=*/true));
  second.report["model"]["options"]["steps"] = 1000;
  // Where it was computed does not matter.
  second.report["model"]["options"]["device"] = "cuda";
  EXPECT_NO_THROW(collect({first, second}));
  second.report["options"]["shift_average"] = 4;
  EXPECT_ERROR(collect({first, second}), Error, "shift_average");
  // Nor do other categories.
  second.report["category"] = "screw_bag";
  EXPECT_NO_THROW(collect({first, second}));
}

TEST(Collect, GivesEachReportARowIfThatIsWanted) {
  FoundReport old_model = report_of("pushpins", 0, 0.5, "pushpins");
  old_model.path = "old/report.json";
  old_model.report["counts"] = {{"test_good", 20}, {"test_anomalous", 40}};
  old_model.report["decisions"] = {{"false_positives", 1}, {"missed", 12}};
  FoundReport new_model = old_model;
  new_model.path = "new/report.json";
  new_model.report["image_auroc"] = 0.625;
  new_model.report["decisions"]["missed"] = 3;
  EXPECT_ERROR(collect({old_model, new_model}), Error, "--each gives every report a row");
  // One of another size stands beside them, not behind other categories.
  new_model.report["model"]["model_size"] = "medium";
  const auto collection =
      collect({report_of("zipper", 0, 0.9, "pushpins"), old_model, new_model}, /*each=*/true);
  EXPECT_EQ(collection.markdown.rfind("## pushpins, pushpins\n", 0), 0u) << collection.markdown;
  EXPECT_LT(collection.markdown.find("| old |"), collection.markdown.find("## pushpins, zipper"));
  EXPECT_LT(collection.markdown.find("| new |"), collection.markdown.find("## pushpins, zipper"));
  EXPECT_NE(collection.markdown.find("| zipper0 |"), std::string::npos) << collection.markdown;
  EXPECT_NE(collection.markdown.find("| old | 0.5000 |"), std::string::npos);
  EXPECT_NE(collection.markdown.find("| 1 of 20 | 12 of 40 |\n"), std::string::npos);
  EXPECT_NE(collection.markdown.find("| new | 0.6250 |"), std::string::npos);
  EXPECT_NE(collection.markdown.find("| 1 of 20 | 3 of 40 |\n"), std::string::npos);
  EXPECT_NE(collection.csv.find(",1,12,old\n"), std::string::npos) << collection.csv;
  EXPECT_NE(collection.csv.find(",1,3,new\n"), std::string::npos) << collection.csv;
}

TEST(Collect, FindsReportsAndNamesThoseThatContradict) {
  const TempDir dir;
  const auto write = [&](const std::string& name, const FoundReport& found) {
    write_json(dir.path / name / "report.json", found.report);
  };
  write("a/x", report_of("pushpins", 0, 0.5));
  write("b/y/z", report_of("screw_bag", 0, 0.5));
  write("b/anomaly_maps/wood", report_of("wood", 0, 0.5));
  EXPECT_EQ(find_reports({dir.path}).size(), 2u);
  EXPECT_EQ(find_reports({dir.path, dir.path / "a", dir.path / "b/.."}).size(), 2u);
  write("c", report_of("pushpins", 0, 0.6));
  EXPECT_ERROR(collect(find_reports({dir.path})), Error, "are both of loco, category pushpins");
  write_file(dir.path / "c/report.json", "{\"a\": 1}");
  EXPECT_ERROR(collect(find_reports({dir.path})), Error, "is no report");
  auto damaged = report_of("wood", 0, 0.6);
  damaged.report["au_pro"] = {1};
  write("c", damaged);
  EXPECT_ERROR(collect(find_reports({dir.path})), Error, "is no report");
  write_file(dir.path / "c/report.json", "{");
  EXPECT_ERROR(find_reports({dir.path}), Error, "c/report.json");
  EXPECT_ERROR(find_reports({dir.path / "none"}), Error, "there is no such folder");
}

}  // namespace
}  // namespace efficientad
