#include "efficientad/eval/evaluate.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <map>
#include <nlohmann/json.hpp>

#include "efficientad/core/interrupt.h"
#include "efficientad/data/image.h"
#include "efficientad/eval/report.h"
#include "efficientad/eval/score_image.h"
#include "support/expect_error.h"
#include "support/near.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

namespace fs = std::filesystem;

ModelBundle random_bundle() {
  ModelBundle bundle;
  bundle.image_hw = {64, 64};
  bundle.teacher = random_teacher("small", /*padding=*/false, 1).network;
  bundle.student = Pdn(PdnOptions{.out_channels = 768});
  bundle.autoencoder = Autoencoder();
  bundle.teacher_mean = torch::zeros({1, 384, 1, 1});
  bundle.teacher_std = torch::ones({1, 384, 1, 1});
  bundle.quantiles = {.q_a_st = 0.1, .q_b_st = 0.3, .q_a_ae = 0.1, .q_b_ae = 0.3};
  bundle.threshold = 0.2;
  bundle.threshold_rule = "a rule";
  bundle.options = {{"steps", 3}};
  bundle.provenance = {{"penalty_images", "none"}};
  return bundle;
}

void add_image(const fs::path& path, int64_t height = 70, int64_t width = 90) {
  write_image(path, torch::randint(0, 256, {height, width, 3}, torch::kUInt8));
}

/// Two good and two anomalous test images in MVTec AD layout; the right third is defective.
Dataset make_dataset(const fs::path& root, bool masks) {
  add_image(root / "nut/train/good/000.png");
  for (const char* path : {"good/000.png", "good/001.png", "scratch/000.png", "scratch/001.png"}) {
    add_image(root / "nut/test" / path);
  }
  if (masks) {
    auto mask = torch::zeros({70, 90}, torch::kUInt8);
    mask.slice(1, 60).fill_(255);
    write_image(root / "nut/ground_truth/scratch/000_mask.png", mask);
    write_image(root / "nut/ground_truth/scratch/001_mask.png", mask);
  }
  return open_dataset("mvtec", root, "nut");
}

class InterruptedHere {
 public:
  InterruptedHere() { request_interrupt(true); }
  ~InterruptedHere() { request_interrupt(false); }
};

TEST(Evaluate, WritesMapsOfTheImagesSizeAndTheirMaximumIsTheScore) {
  const TempDir dir;
  const Dataset dataset = make_dataset(dir.path / "data", /*masks=*/true);
  const Detector detector(random_bundle());
  int64_t done = 0;
  const Evaluation evaluation = evaluate(
      detector, dataset,
      {.output = dir.path / "out", .batch_size = 3, .progress = [&](int64_t now, int64_t total) {
         EXPECT_GT(now, done);
         EXPECT_EQ(total, 4);
         done = now;
       }});
  EXPECT_EQ(done, 4);
  ASSERT_EQ(evaluation.images.size(), 4u);
  for (const auto& image : evaluation.images) {
    EXPECT_EQ(image.map_path, dir.path / "out/anomaly_maps/nut/test" / image.sample.defect /
                                  (image.sample.id + ".tiff"));
    const torch::Tensor map = read_tiff(image.map_path);
    EXPECT_EQ(map.sizes(), (std::vector<int64_t>{70, 90}));
    EXPECT_EQ(map.max().item<double>(), image.score);
    EXPECT_EQ(image.called_anomalous, image.score > 0.2);
  }
  EXPECT_TRUE(evaluation.image_metrics.auroc.has_value());
  EXPECT_EQ(evaluation.image_metrics.auroc, evaluation.auroc_by_defect.at("scratch"));
  EXPECT_EQ(evaluation.pixel_metrics.positives, 2 * 70 * 30);
  EXPECT_EQ(evaluation.pixel_metrics.negatives, 4 * 70 * 90 - 2 * 70 * 30);
  EXPECT_EQ(evaluation.no_pixel_metrics, "");
}

TEST(Evaluate, MapsOfLocoHaveNoEqualZeros) {
  // MVTec LOCO's script wants 50 equidistant ranks of all scores to differ.
  const TempDir dir;
  Dataset dataset = make_dataset(dir.path / "data", /*masks=*/false);
  // All negative inside the border, so that a zero is the score.
  ModelBundle bundle = random_bundle();
  bundle.quantiles = {.q_a_st = 10, .q_b_st = 20, .q_a_ae = 10, .q_b_ae = 20};
  const Detector detector(bundle);
  std::map<std::string, std::vector<torch::Tensor>> maps;
  for (const char* layout : {"mvtec", "loco"}) {
    dataset.layout = layout;
    for (const auto& image : evaluate(detector, dataset, {.output = dir.path / layout}).images) {
      EXPECT_EQ(image.score, 0);
      maps[layout].push_back(read_tiff(image.map_path));
      EXPECT_EQ(maps[layout].back().max().item<double>(), 0);
    }
  }
  const auto most_of_one_value = [](const std::vector<torch::Tensor>& all) {
    const torch::Tensor values = torch::cat(all).flatten();
    const auto counts = std::get<2>(torch::_unique2(values, true, false, /*return_counts=*/true));
    return static_cast<double>(counts.max().item<int64_t>()) / static_cast<double>(values.numel());
  };
  EXPECT_GT(most_of_one_value(maps["mvtec"]), 0.3);
  EXPECT_LT(most_of_one_value(maps["loco"]), 1.0 / 50);
  for (size_t i = 0; i < 4; ++i) expect_near(maps["loco"][i], maps["mvtec"][i], 0, 1e-6);
}

TEST(Evaluate, BatchesGiveTheScoresOfSingleImages) {
  const TempDir dir;
  const Dataset dataset = make_dataset(dir.path / "data", /*masks=*/false);
  const Detector detector(random_bundle());
  const auto single = evaluate(detector, dataset, {.output = dir.path / "a", .batch_size = 1});
  const auto batch = evaluate(detector, dataset, {.output = dir.path / "b", .batch_size = 4});
  for (size_t i = 0; i < 4; ++i) {
    // Other block sizes of the convolutions sum in another order.
    EXPECT_NEAR(batch.images[i].score, single.images[i].score,
                1e-4 * std::abs(single.images[i].score) + 1e-5);
  }
}

TEST(Evaluate, UnitesSeveralMasks) {
  const TempDir dir;
  write_tiff(dir.path / "map.tiff", torch::rand({8, 10}));
  auto mask = torch::zeros({8, 10}, torch::kUInt8);
  mask[2].fill_(1);
  write_image(dir.path / "0.png", mask);
  mask.zero_();
  mask[2].fill_(7);
  mask[5].fill_(2);
  write_image(dir.path / "1.png", mask);
  Evaluation evaluation;
  evaluation.images.push_back({.sample = {.image_path = dir.path / "image.png",
                                          .defect = "logical_anomalies",
                                          .id = "image",
                                          .mask_paths = {dir.path / "0.png", dir.path / "1.png"}},
                               .map_path = dir.path / "map.tiff"});
  evaluate_pixels(evaluation, Dataset{});
  EXPECT_EQ(evaluation.pixel_metrics.positives, 20);
  EXPECT_EQ(evaluation.pixel_metrics.negatives, 60);
}

TEST(Evaluate, RulesOfLocoAreReadBeforeAnyWork) {
  const TempDir dir;
  Dataset dataset = make_dataset(dir.path / "data", /*masks=*/true);
  dataset.layout = "loco";
  const Detector detector(random_bundle());
  EXPECT_ERROR(evaluate(detector, dataset, {.output = dir.path / "out"}), Error,
               "defects_config.json: no such file");
  EXPECT_FALSE(fs::exists(dir.path / "out"));
}

TEST(Evaluate, MapsWithInfinityAreRefused) {
  const TempDir dir;
  const Dataset dataset = make_dataset(dir.path / "data", /*masks=*/false);
  for (const auto& sample : dataset.test) {
    torch::Tensor map = torch::rand({70, 90});
    if (&sample == &dataset.test[2]) map[3][4] = INFINITY;
    write_tiff(anomaly_map_path(dir.path / "maps/nut", sample), map);
  }
  EXPECT_ERROR(evaluate_maps(dir.path / "maps", dataset, {}), Error,
               "scratch/000.tiff: holds NaN or infinity");
}

TEST(Evaluate, SaysWhenEarlierMapsAreAboutToGo) {
  const TempDir dir;
  const Dataset dataset = make_dataset(dir.path / "data", /*masks=*/false);
  const Detector detector(random_bundle());
  const fs::path map = dir.path / "out/anomaly_maps/nut/test/good/000.tiff";
  write_tiff(map, torch::zeros({1, 1}));
  int calls = 0;
  evaluate(detector, dataset, {.output = dir.path / "out", .before_replacing = [&] {
                                 ++calls;
                                 EXPECT_EQ(read_tiff(map).numel(), 1);
                               }});
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(read_tiff(map).numel(), 70 * 90);
}

TEST(Evaluate, MaskOfAnotherSizeIsAnErrorBeforeAnyWork) {
  const TempDir dir;
  const Dataset dataset = make_dataset(dir.path / "data", /*masks=*/true);
  write_image(dir.path / "data/nut/ground_truth/scratch/001_mask.png",
              torch::zeros({70, 91}, torch::kUInt8));
  const Detector detector(random_bundle());
  EXPECT_ERROR(evaluate(detector, dataset, {.output = dir.path / "out"}), Error,
               "001_mask.png is 91x70, but its image");
  EXPECT_FALSE(fs::exists(dir.path / "out"));
}

TEST(Evaluate, StopsWhenInterrupted) {
  const TempDir dir;
  const Dataset dataset = make_dataset(dir.path / "data", /*masks=*/false);
  const Detector detector(random_bundle());
  const InterruptedHere now;
  EXPECT_ERROR(evaluate(detector, dataset, {.output = dir.path / "out"}), Interrupted,
               "interrupted");
}

TEST(Evaluate, OneThatFailsLeavesTheMapsOfAnEarlierOne) {
  const TempDir dir;
  const Dataset dataset = make_dataset(dir.path / "data", /*masks=*/false);
  const Detector detector(random_bundle());
  const EvaluateSettings settings = {.output = dir.path / "out", .batch_size = 1, .progress = {}};
  const auto maps = [&] {
    std::map<fs::path, fs::file_time_type> found;
    for (const auto& entry : fs::recursive_directory_iterator(dir.path / "out")) {
      if (entry.is_regular_file()) found[entry.path()] = fs::last_write_time(entry.path());
    }
    return found;
  };
  evaluate(detector, dataset, settings);
  const auto before = maps();
  fs::resize_file(dataset.test.back().image_path, 100);
  EXPECT_ERROR(evaluate(detector, dataset, settings), Error, "001.png");
  EXPECT_EQ(maps(), before);
}

TEST(Evaluate, LinksOfTheMapsStayLinks) {
  const TempDir temp;
  const Dataset dataset = make_dataset(temp.path, /*masks=*/false);
  const Detector detector(random_bundle());
  const fs::path disk = temp.path / "disk";
  fs::create_directories(disk / "nuts");
  fs::create_directories(temp.path / "out");
  fs::create_directory_symlink(disk, temp.path / "out/anomaly_maps");
  fs::create_directory_symlink(disk / "nuts", disk / "nut");
  const Evaluation evaluation = evaluate(detector, dataset, {.output = temp.path / "out"});
  EXPECT_TRUE(fs::is_symlink(temp.path / "out/anomaly_maps"));
  EXPECT_TRUE(fs::is_symlink(disk / "nut"));
  for (const auto& image : evaluation.images) EXPECT_TRUE(fs::exists(image.map_path));
  EXPECT_TRUE(fs::exists(disk / "nuts/test/good/000.tiff"));
  EXPECT_EQ(std::distance(fs::directory_iterator(disk), fs::directory_iterator()), 2);
}

TEST(ScoreImage, TakesGreyImagesToo) {
  const Detector detector(random_bundle());
  const torch::Tensor grey = torch::randint(0, 256, {70, 90}, torch::kUInt8);
  const torch::Tensor rgb = grey.unsqueeze(2).expand({-1, -1, 3}).contiguous();
  const Detection expected = score_image(detector, rgb);
  EXPECT_EQ(score_image(detector, grey).score, expected.score);
  // Also one that is part of a larger one.
  const torch::Tensor larger = torch::zeros({70, 100}, torch::kUInt8);
  larger.narrow(1, 5, 90).copy_(grey);
  const Detection found = score_image(detector, larger.narrow(1, 5, 90).unsqueeze(2));
  expect_same_bits(found.map_at_image, expected.map_at_image);
  for (const torch::Tensor& wrong :
       {torch::zeros({70, 90, 4}, torch::kUInt8), torch::zeros({70, 90, 3}),
        torch::zeros({1, 70, 90, 3}, torch::kUInt8), torch::zeros({0, 90, 3}, torch::kUInt8)}) {
    EXPECT_ERROR(score_image(detector, wrong), Error, "an image is uint8 [height, width, 3] (RGB)");
  }
}

TEST(Evaluate, NoTestImagesIsAnError) {
  const Detector detector(random_bundle());
  Dataset dataset;
  dataset.root = "parts";
  EXPECT_ERROR(evaluate(detector, dataset, {}), Error, "parts: there are no test images");
}

Evaluation made_up_evaluation() {
  Evaluation evaluation;
  const auto add = [&](const char* defect, double score) {
    evaluation.images.push_back(
        {.sample = {.image_path = std::string(defect) + "/a,b.png", .defect = defect, .id = "a,b"},
         .score = score,
         .called_anomalous = score > 0.2});
  };
  add("good", 0.1);
  add("good", 0.3);
  add("logical_anomalies", 0.15);
  add("logical_anomalies", 0.5);
  add("structural_anomalies", 0.4);
  evaluate_scores(evaluation);
  evaluate_pixels(evaluation, Dataset{});
  return evaluation;
}

TEST(Report, HoldsTheFiguresAndTheReasonsForMissingOnes) {
  Dataset dataset;
  dataset.category = "tray";
  const ModelBundle bundle = random_bundle();
  const auto report = make_report(made_up_evaluation(), dataset, &bundle, {{"a", 1}});
  EXPECT_DOUBLE_EQ(report.at("image_auroc").get<double>(), 5.0 / 6);
  const auto& by_defect = report.at("image_auroc_by_defect");
  EXPECT_DOUBLE_EQ(by_defect.at("logical_anomalies").get<double>(), 0.75);
  EXPECT_DOUBLE_EQ(by_defect.at("structural_anomalies").get<double>(), 1.0);
  EXPECT_DOUBLE_EQ(report.at("image_auroc_by_defect_mean").get<double>(), 0.875);
  EXPECT_TRUE(report.at("pixel_auroc").is_null());
  EXPECT_EQ(report.at("pixel_metrics_missing"), "the data set has no masks");
  EXPECT_EQ(report.at("decisions").at("false_positives"), 1);
  EXPECT_EQ(report.at("decisions").at("missed"), 1);
  EXPECT_EQ(report.at("counts").at("by_defect").at("logical_anomalies").at("missed"), 1);
  EXPECT_EQ(report.at("options").at("a"), 1);
  EXPECT_EQ(report.at("model").at("provenance").at("penalty_images"), "none");
  const std::string table = report_table(report);
  EXPECT_NE(table.find("0.8333"), std::string::npos) << table;
  EXPECT_NE(table.find("the data set has no masks"), std::string::npos) << table;
}

TEST(Report, GoodImagesAlone) {
  Evaluation evaluation = made_up_evaluation();
  evaluation.images.resize(2);
  evaluate_scores(evaluation);
  evaluate_pixels(evaluation, Dataset{});
  const ModelBundle bundle = random_bundle();
  const auto report = make_report(evaluation, {}, &bundle, {});
  EXPECT_TRUE(report.at("image_auroc").is_null());
  EXPECT_EQ(report.at("image_auroc_missing"), "there are no anomalous test images");
  EXPECT_TRUE(report.at("image_auroc_by_defect").empty());
  EXPECT_FALSE(report_table(report).empty());
}

TEST(Report, WithoutAModelThereIsNoThreshold) {
  const auto report = make_report(made_up_evaluation(), {}, nullptr, {});
  // Nothing was decided, so nothing was missed.
  EXPECT_FALSE(report.at("counts").at("by_defect").at("logical_anomalies").contains("missed"));
  EXPECT_DOUBLE_EQ(report.at("image_auroc").get<double>(), 5.0 / 6);
  EXPECT_FALSE(report.contains("threshold"));
  EXPECT_FALSE(report.contains("model"));
  EXPECT_EQ(report_table(report).find("at threshold"), std::string::npos);
}

TEST(Report, TableOfReportsHasMeans) {
  nlohmann::ordered_json reports;
  reports["a"] = {{"image_auroc", 0.5}, {"au_pro", {{"0.3", 0.25}}}};
  reports["b"] = {{"image_auroc", 1.0}};
  const std::string table = reports_table(reports);
  EXPECT_NE(table.find("| a | 0.5000 |"), std::string::npos) << table;
  EXPECT_NE(table.find("| mean | 0.7500 |"), std::string::npos) << table;
  EXPECT_NE(table.find("0.2500 |"), std::string::npos) << table;
}

TEST(EvaluateMaps, AreThoseOfTheCategoryOrOfTheFolder) {
  const TempDir dir;
  const auto image = torch::randint(0, 256, {40, 50, 3}, torch::kUInt8);
  for (const char* name : {"train/ok/0.png", "test/ok/1.png", "test/ko/2.png"}) {
    write_image(dir.path / "data/part" / name, image);
  }
  auto mask = torch::zeros({40, 50}, torch::kUInt8);
  mask[3].fill_(255);
  write_image(dir.path / "data/part/ground_truth/ko/2.png", mask);
  torch::Tensor map = torch::rand({40, 50});
  // Filed under the kind, and under the folder's name.
  write_tiff(dir.path / "maps/part/test/good/1.tiff", map);
  const Dataset dataset = open_dataset("btad", dir.path / "data", "part");
  EXPECT_ERROR(evaluate_maps(dir.path / "maps", dataset, {}), Error, "2.png has no anomaly map");
  map[3] += 1;
  write_tiff(dir.path / "maps/test/ko/2.tiff", map);
  const Evaluation evaluation = evaluate_maps(dir.path / "maps", dataset, {});
  EXPECT_EQ(evaluation.image_metrics.auroc, 1.0);
  EXPECT_EQ(evaluation.pixel_metrics.auroc, 1.0);
  // A pixel's share of its region is rounded to float32.
  EXPECT_NEAR(evaluation.au_pro.at("0.3").value(), 1.0, 1e-6);
  write_tiff(dir.path / "maps/test/ko/2.tiff", torch::rand({40, 51}));
  EXPECT_ERROR(evaluate_maps(dir.path / "maps", dataset, {}), Error,
               "2.tiff is 51x40, but its image");
  map[0][0] = NAN;
  write_tiff(dir.path / "maps/test/ko/2.tiff", map);
  EXPECT_ERROR(evaluate_maps(dir.path / "maps", dataset, {}), Error, "holds NaN");
}

TEST(Report, ScoresAreQuotedWhereNeeded) {
  const std::string csv = scores_csv(made_up_evaluation());
  EXPECT_EQ(csv.substr(0, csv.find('\n')), "path,defect,label,score,decision,normal_share");
  EXPECT_NE(csv.find("\"good/a,b.png\",good,good,0.3,anomalous,\n"), std::string::npos) << csv;
  EXPECT_NE(scores_csv(made_up_evaluation(), /*decided=*/false)
                .find("\"good/a,b.png\",good,good,0.3,,\n"),
            std::string::npos);
  EXPECT_EQ(csv_line({"", "a\"b", "c\nd"}), ",\"a\"\"b\",\"c\nd\"\n");
}

}  // namespace
}  // namespace efficientad
