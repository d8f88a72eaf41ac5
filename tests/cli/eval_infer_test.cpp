#include <gtest/gtest.h>
#include <torch/utils.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "cli/program.h"
#include "efficientad/core/file.h"
#include "efficientad/data/image.h"
#include "efficientad/detect/model_bundle.h"

namespace efficientad {
namespace {

namespace fs = std::filesystem;

/// A model with random weights for 64 px and a small data set in MVTec AD layout, made once.
class EvalInfer : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    torch::manual_seed(5);
    dir = new TempDir;
    ModelBundle bundle;
    bundle.image_hw = {64, 64};
    bundle.teacher = random_teacher("small", /*padding=*/false, 1).network;
    bundle.student = Pdn(PdnOptions{.out_channels = 768});
    bundle.autoencoder = Autoencoder();
    bundle.teacher_mean = torch::zeros({1, 384, 1, 1});
    bundle.teacher_std = torch::ones({1, 384, 1, 1});
    bundle.quantiles = {.q_a_st = 0.1, .q_b_st = 0.3, .q_a_ae = 0.1, .q_b_ae = 0.3};
    bundle.threshold = 0.2;
    bundle.options = {{"steps", 0}};
    save_bundle(dir->path / "model.safetensors", bundle);
    for (const char* path : {"train/good/000.png", "test/good/000.png", "test/good/001.png",
                             "test/scratch/000.png", "test/scratch/001.jpg"}) {
      write_image(dir->path / "data/nut" / path,
                  torch::randint(0, 256, {40, 50, 3}, torch::kUInt8));
    }
  }
  static void TearDownTestSuite() {
    delete dir;
    dir = nullptr;
  }

  static ProgramResult run(const std::string& arguments) {
    return run_program(EFFICIENTAD_PROGRAM, arguments);
  }
  static std::string eval_arguments(const std::string& model = "model.safetensors",
                                    const std::string& category = "nut") {
    return "eval --model " + (dir->path / model).string() + " --data " +
           (dir->path / "data").string() + " --category " + category + " --device cpu";
  }
  static std::string infer_arguments() {
    return "infer --model " + (dir->path / "model.safetensors").string() + " --device cpu";
  }
  static std::string data(const std::string& path) {
    return (dir->path / "data/nut" / path).string();
  }
  /// Writes the model with maps above zero and a threshold that lies between the scores of two
  /// images, and gives it.
  double set_threshold_between(const std::string& model, const std::string& one,
                               const std::string& other) const {
    ModelBundle bundle = load_bundle(dir->path / "model.safetensors");
    bundle.quantiles = {.q_a_st = 0, .q_b_st = 0.3, .q_a_ae = 0, .q_b_ae = 0.3};
    save_bundle(model, bundle);
    const fs::path scored = results.path / "scored";
    EXPECT_EQ(run("infer --device cpu --model " + model + " --output " + scored.string() + " " +
                  one + " " + other)
                  .status,
              0);
    std::istringstream rows(read_text(scored / "scores.csv"));
    std::string row;
    std::getline(rows, row);
    double sum = 0;
    while (std::getline(rows, row)) sum += std::stod(row.substr(row.find(',') + 1));
    bundle.threshold = sum / 2;
    save_bundle(model, bundle);
    return bundle.threshold;
  }
  static int64_t lines_of(const fs::path& path) {
    const std::string text = read_text(path);
    return std::count(text.begin(), text.end(), '\n');
  }

  static TempDir* dir;
  const TempDir results;
  const std::string output = (results.path / "out").string();
};

TempDir* EvalInfer::dir = nullptr;

TEST_F(EvalInfer, EvalWritesReportScoresAndMaps) {
  const auto result = run(eval_arguments() + " --output " + output);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("scratch"), std::string::npos) << result.out;
  const auto report = nlohmann::json::parse(read_text(fs::path(output) / "report.json"));
  EXPECT_TRUE(report.at("image_auroc").is_number());
  EXPECT_TRUE(report.at("pixel_auroc").is_null());
  EXPECT_EQ(report.at("counts").at("test"), 4);
  EXPECT_EQ(lines_of(fs::path(output) / "scores.csv"), 5);
  EXPECT_EQ(read_tiff(fs::path(output) / "anomaly_maps/nut/test/scratch/001.tiff").sizes(),
            (std::vector<int64_t>{40, 50}));

  const std::string page = read_text(fs::path(output) / "report.html");
  EXPECT_NE(page.find(">nut</h1>"), std::string::npos);
  EXPECT_NE(page.find("\"path\":\"test/scratch/001.jpg\""), std::string::npos);
  EXPECT_NE(page.find("no train_log.csv beside the model"), std::string::npos);

  // The options that lie beside the results repeat the run.
  const auto first = read_text(fs::path(output) / "report.json");
  const auto again = run("eval --config " + output + "/options.json --json");
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(read_text(fs::path(output) / "report.json"), first);
  EXPECT_EQ(nlohmann::json::parse(again.out), report);
}

TEST_F(EvalInfer, EvalMeasuresAnybodysMaps) {
  ASSERT_EQ(run(eval_arguments() + " --output " + output).status, 0);
  const std::string maps = (results.path / "of_maps").string();
  const auto result =
      run("eval --maps " + output + "/anomaly_maps --data " + (dir->path / "data").string() +
          " --category all --json --output " + maps);
  ASSERT_EQ(result.status, 0) << result.err;
  const auto ours = nlohmann::json::parse(read_text(fs::path(output) / "report.json"));
  const auto theirs = nlohmann::json::parse(read_text(fs::path(maps) / "nut/report.json"));
  EXPECT_EQ(theirs.at("image_auroc"), ours.at("image_auroc"));
  EXPECT_FALSE(theirs.contains("threshold"));
  EXPECT_EQ(nlohmann::json::parse(result.out).at("nut"), theirs);
  EXPECT_NE(read_text(fs::path(maps) / "summary.md").find("| nut |"), std::string::npos);
  EXPECT_NE(read_text(fs::path(maps) / "index.html").find("<a href=\"nut/report.html\">"),
            std::string::npos);
  EXPECT_NE(read_text(fs::path(maps) / "nut/report.html").find("nothing was decided"),
            std::string::npos);
  // Models lie in a folder of trainings; what is done is passed over, until its model is newer.
  const fs::path trained = results.path / "trained";
  fs::create_directories(trained / "nut");
  fs::copy_file(dir->path / "model.safetensors", trained / "nut/model.safetensors");
  const std::string all = "eval --model " + trained.string() + " --data " +
                          (dir->path / "data").string() + " --category all --device cpu --output " +
                          (results.path / "all").string();
  EXPECT_EQ(run(all).status, 0);
  const fs::path report = results.path / "all/nut/report.json";
  const auto first = fs::last_write_time(report);
  const auto again = run(all + " --shard 1/1");
  EXPECT_NE(again.err.find("is evaluated already"), std::string::npos) << again.err;
  EXPECT_NE(again.out.find("| nut |"), std::string::npos) << again.out;
  EXPECT_NE(read_text(results.path / "all/index.html").find("nut/report.html"), std::string::npos);
  EXPECT_EQ(fs::last_write_time(report), first);
  // Of other options, or of none that can be told, it is not.
  const auto other = run(all + " --shift-average 2");
  EXPECT_EQ(other.err.find("is evaluated already"), std::string::npos) << other.err;
  EXPECT_EQ(nlohmann::json::parse(read_text(report)).at("options").at("shift_average"), 2);
  std::ofstream(report) << "[]";
  EXPECT_EQ(run(all).status, 0);
  EXPECT_TRUE(nlohmann::json::parse(read_text(report)).is_object());
  // Nor where a test image or the model was changed since.
  const auto is_passed_over = [&] {
    const auto repeated = run(all);
    EXPECT_EQ(repeated.status, 0) << repeated.err;
    return repeated.err.find("is evaluated already") != std::string::npos;
  };
  EXPECT_TRUE(is_passed_over());
  for (const auto& entry : fs::directory_iterator(dir->path / "data/nut/test/good")) {
    fs::last_write_time(entry.path(), entry.last_write_time() + std::chrono::seconds(1));
  }
  EXPECT_FALSE(is_passed_over());
  EXPECT_TRUE(is_passed_over());
  ASSERT_EQ(run("threshold --rule value --value 0.125 --model " +
                (trained / "nut/model.safetensors").string())
                .status,
            0);
  EXPECT_FALSE(is_passed_over());
  EXPECT_EQ(run(all + " --shard 2").status, 2);
  const auto file = run(eval_arguments("model.safetensors", "all") + " --output " + maps);
  EXPECT_EQ(file.status, 2);
  EXPECT_NE(file.err.find("model is the folder"), std::string::npos) << file.err;
  EXPECT_EQ(run("eval --engine reference --maps " + maps + " --data " +
                (dir->path / "data").string() + " --category nut --output " + maps)
                .status,
            2);
  EXPECT_EQ(run("eval --maps /nonexistent --data " + (dir->path / "data").string() +
                " --category nut --output " + (results.path / "none").string())
                .status,
            1);
  EXPECT_FALSE(fs::exists(results.path / "none"));
  const auto neither = run("eval --data x --output " + maps);
  EXPECT_EQ(neither.status, 2);
  EXPECT_NE(neither.err.find("--maps"), std::string::npos) << neither.err;
}

TEST_F(EvalInfer, DatasetSaysWhatIsThereAndWhatIsWrong) {
  const std::string root = (dir->path / "data").string();
  auto result = run("dataset " + root);
  EXPECT_EQ(result.status, 0) << result.out;
  EXPECT_NE(result.out.find("layout mvtec"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("scratch 2"), std::string::npos) << result.out;
  const fs::path copy = results.path / "copy";
  fs::copy(dir->path / "data", copy, fs::copy_options::recursive);
  fs::copy_file(copy / "nut/train/good/000.png", copy / "nut/test/good/again.png");
  result = run("dataset --json --category nut " + copy.string());
  EXPECT_EQ(result.status, 1);
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json.at("categories").at("nut").at("test_good"), 3);
  EXPECT_EQ(json.at("problems"), 1);
  EXPECT_EQ(run("dataset " + (results.path / "none").string()).status, 1);
  EXPECT_EQ(run("dataset").status, 2);
}

TEST_F(EvalInfer, ThresholdIsChosenAnew) {
  const std::string model = (results.path / "model.safetensors").string();
  fs::copy_file(dir->path / "model.safetensors", model);
  const auto set = [&](const std::string& how) {
    return run("threshold --json --device cpu --model " + model + " " + how);
  };
  auto result = set("");
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("--normal-images"), std::string::npos) << result.err;
  result = set("--normal-images " + data("train/good") + " --normal-images " + data("test/good"));
  ASSERT_EQ(result.status, 0) << result.err;
  auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json.at("threshold_before"), 0.2);
  EXPECT_EQ(json.at("threshold_rule").get<std::string>().rfind("highest score of 3 normal", 0), 0u);
  // The scores are kept, so that another rate needs no images.
  EXPECT_EQ(load_bundle(model).normal_scores.size(), 3u);
  result = set("--max-fpr 0.5");
  ASSERT_EQ(result.status, 0) << result.err;
  ASSERT_EQ(run(eval_arguments() + " --output " + output).status, 0);
  result = set("--rule f1 --scores " + output + "/scores.csv");
  ASSERT_EQ(result.status, 0) << result.err;
  const std::string rule = load_bundle(model).threshold_rule;
  EXPECT_EQ(rule.rfind("largest F1: ", 0), 0u) << rule;
  EXPECT_NE(rule.find("of 2 anomalous ones missed"), std::string::npos) << rule;
  result = set("--rule cost --cost-ratio 3 --scores " + output + "/scores.csv");
  EXPECT_EQ(result.status, 0) << result.err;
  result = set("--rule value --value 0.75");
  EXPECT_EQ(load_bundle(model).threshold, 0.75);
  for (const char* how :
       {"--rule value", "--rule value --value x", "--rule value --value inf", "--value 0.5",
        "--scores x.csv", "--rule value --value 0.5 --scores x.csv"}) {
    EXPECT_EQ(set(how).status, 2) << how;
  }
  EXPECT_EQ(set("--rule f1").status, 2);
  EXPECT_EQ(set("--rule f1 --scores " + data("test/good/000.png")).status, 1);
  EXPECT_EQ(load_bundle(model).threshold, 0.75);
}

TEST_F(EvalInfer, OneProgramWritesToAFolder) {
  fs::create_directories(output);
  const FolderLock lock(output, "unused");
  for (const std::string& command :
       {eval_arguments(), infer_arguments() + " " + data("test/good")}) {
    const auto result = run(command + " --output " + output);
    EXPECT_EQ(result.status, 1);
    EXPECT_NE(result.err.find("another program is writing to it"), std::string::npos) << result.err;
    EXPECT_TRUE(fs::is_empty(output));
  }
}

TEST_F(EvalInfer, OneLongNameDoesNotStopTheOthers) {
  const fs::path images = results.path / "images";
  fs::create_directories(images);
  fs::copy_file(data("test/good/000.png"), images / "a.png");
  fs::copy_file(data("test/good/000.png"), images / (std::string(251, 'n') + ".png"));
  const auto result = run(infer_arguments() + " --maps " + images.string() + " --output " + output);
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(lines_of(fs::path(output) / "scores.csv"), 3);
  EXPECT_NE(read_text(fs::path(output) / "errors.csv").find("File name too long"),
            std::string::npos);
}

TEST_F(EvalInfer, EvalRefusesWhatItCannotUse) {
  const std::string to = " --output " + output;
  auto result = run(eval_arguments("none.safetensors") + to);
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("none.safetensors"), std::string::npos) << result.err;
  result = run(eval_arguments("model.safetensors", "bolt") + to);
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("nut"), std::string::npos) << result.err;
  result = run(eval_arguments() + to + " --dataset coco");
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("mvtec, mvtec2, loco"), std::string::npos) << result.err;
  result = run(eval_arguments() + to + " --mask-dir masks");
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("for the layout folder"), std::string::npos) << result.err;
  result = run(eval_arguments() + to + " --batch-size 0");
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("batch_size"), std::string::npos) << result.err;
  const fs::path config = results.path / "config.json";
  std::ofstream(config) << R"({"batchsize": 4})";
  result = run(eval_arguments() + to + " --config " + config.string());
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("batchsize"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("config.json"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(output));
  result = run(eval_arguments() + " --output " + data("test/results"));
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("lies among the data set's images"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(data("test/results")));
}

TEST_F(EvalInfer, InferScoresFilesFoldersAndGlobs) {
  const auto result = run(infer_arguments() + " --heatmaps --maps --json --output " + output + " " +
                          data("train/good/000.png") + " " + data("test/good") + " '" +
                          data("test/scratch/*") + "' " + data("test/good/000.png"));
  ASSERT_EQ(result.status, 0) << result.err;
  const auto line = nlohmann::json::parse(result.out);
  EXPECT_EQ(line.at("images"), 5);
  EXPECT_EQ(line.at("unreadable"), 0);
  const std::string scores = read_text(fs::path(output) / "scores.csv");
  EXPECT_EQ(
      scores.substr(0, scores.find('\n')),
      "path,score,decision,latency_ms,normal_share,peak_x,peak_y,heatmap,map,unlike_training");
  EXPECT_EQ(lines_of(fs::path(output) / "scores.csv"), 6);
  EXPECT_FALSE(fs::exists(fs::path(output) / "errors.csv"));
  // Images of the same name keep their folders.
  for (const char* name : {"train/good/000", "test/good/000", "test/good/001", "test/scratch/000",
                           "test/scratch/001"}) {
    EXPECT_EQ(read_tiff(fs::path(output) / "maps" / (std::string(name) + ".tiff")).sizes(),
              (std::vector<int64_t>{40, 50}));
    EXPECT_EQ(read_image(fs::path(output) / "heatmaps" / (std::string(name) + ".png")).size(2), 3);
  }
}

TEST_F(EvalInfer, InferSaysWhereAndWithWhat) {
  const std::string model = (results.path / "model.safetensors").string();
  const double threshold =
      set_threshold_between(model, data("test/scratch/000.png"), data("test/scratch/001.jpg"));
  const auto result =
      run("infer --device cpu --model " + model + " --maps --regions --json --output " + output +
          " " + data("test/scratch"));
  ASSERT_EQ(result.status, 0) << result.err;
  const auto summary = nlohmann::json::parse(result.out);
  EXPECT_EQ(nlohmann::json::parse(read_text(fs::path(output) / "summary.json")), summary);
  EXPECT_EQ(summary.at("model_hash"), hash_of_file(model));
  EXPECT_EQ(summary.at("threshold"), threshold);
  EXPECT_EQ(summary.at("anomalous"), 1);
  // The image of each row, and its highest place by the map itself.
  std::istringstream rows(read_text(fs::path(output) / "scores.csv"));
  std::string row;
  std::getline(rows, row);
  int64_t above = 0;
  for (const char* name : {"000", "001"}) {
    std::getline(rows, row);
    const torch::Tensor map = read_tiff(fs::path(output) / "maps" / (std::string(name) + ".tiff"));
    const int64_t at = map.argmax().item<int64_t>();
    EXPECT_NE(row.find(fmt::format(",{},{},,maps/{}.tiff", at % 50, at / 50, name)),
              std::string::npos)
        << row;
    above += (map.to(torch::kFloat64) > threshold).sum().item<int64_t>();
  }
  std::istringstream regions(read_text(fs::path(output) / "regions.csv"));
  std::getline(regions, row);
  EXPECT_EQ(row, "path,left,top,width,height,area,peak,peak_x,peak_y");
  int64_t area = 0;
  while (std::getline(regions, row)) {
    std::istringstream fields(row);
    std::string field;
    for (int i = 0; i < 6; ++i) std::getline(fields, field, ',');
    area += std::stoll(field);
  }
  EXPECT_GT(area, 0);
  EXPECT_EQ(area, above);
  // Another run's regions would be taken for this one's.
  ASSERT_EQ(run(infer_arguments() + " --output " + output + " " + data("test/good")).status, 0);
  EXPECT_FALSE(fs::exists(fs::path(output) / "regions.csv"));
}

TEST_F(EvalInfer, InferDrawsOnlyTheAnomalousIfThatIsWanted) {
  const std::string model = (results.path / "model.safetensors").string();
  const std::string good = data("test/good/000.png");
  const std::string bad = data("test/scratch/001.jpg");
  set_threshold_between(model, good, bad);
  const std::string infer = "infer --device cpu --model " + model + " --output " + output + " ";
  EXPECT_EQ(run(infer + "--only-anomalous " + good).status, 2);
  ASSERT_EQ(run(infer + "--heatmaps --maps " + good + " " + bad).status, 0);
  const auto files = [&] {
    std::set<std::string> names;
    for (const char* folder : {"heatmaps", "maps"}) {
      for (const auto& entry : fs::recursive_directory_iterator(fs::path(output) / folder)) {
        if (entry.is_regular_file()) names.insert(entry.path().filename().string());
      }
    }
    return names;
  };
  EXPECT_EQ(files(), (std::set<std::string>{"000.png", "000.tiff", "001.png", "001.tiff"}));
  ASSERT_EQ(run(infer + "--heatmaps --maps --only-anomalous " + good + " " + bad).status, 0);
  const std::string scores = read_text(fs::path(output) / "scores.csv");
  // Which of the two scores higher is the random model's business.
  const bool second = scores.find("heatmaps/scratch/001.png") != std::string::npos;
  EXPECT_EQ(files(), (second ? std::set<std::string>{"001.png", "001.tiff"}
                             : std::set<std::string>{"000.png", "000.tiff"}));
  EXPECT_EQ(scores.find("heatmaps/good/000.png") == std::string::npos, second) << scores;
}

TEST_F(EvalInfer, ImagesUnlikeThoseOfTheTrainingAreTold) {
  const std::string model = (results.path / "model.safetensors").string();
  ModelBundle bundle = load_bundle(dir->path / "model.safetensors");
  bundle.image_range.add_size({40, 50});
  bundle.image_range.add_levels({.mean = 127, .deviation = 40});
  save_bundle(model, bundle);
  const std::string wide = (results.path / "wide.png").string();
  write_image(wide, torch::randint(0, 256, {40, 80, 3}, torch::kUInt8));
  const std::string blank = (results.path / "blank.png").string();
  write_image(blank, torch::zeros({40, 50, 3}, torch::kUInt8));
  const std::string grey = (results.path / "grey.png").string();
  write_image(grey, torch::full({40, 50, 3}, 128, torch::kUInt8));
  const auto result = run("infer --device cpu --json --model " + model + " " + data("test/good") +
                          " " + wide + " " + blank + " " + grey + " --output " + output);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(result.out).at("unlike_training"), 3);
  for (const char* warning :
       {"wide.png: its width and height are in another proportion",
        "blank.png: it is less than half as bright as the darkest",
        "blank.png: it has less than half the contrast of any image of the training"}) {
    EXPECT_NE(result.err.find(warning), std::string::npos) << warning << "\n" << result.err;
  }
  EXPECT_EQ(result.err.find("grey.png"), std::string::npos) << result.err;
  std::map<std::string, std::string> unlike;
  std::istringstream scores(read_text(fs::path(output) / "scores.csv"));
  for (std::string row; std::getline(scores, row);) {
    unlike[row.substr(0, row.find(','))] = row.substr(row.rfind(',') + 1);
  }
  EXPECT_EQ(unlike.at(data("test/good/000.png")), "");
  EXPECT_EQ(unlike.at(wide), "shape");
  EXPECT_EQ(unlike.at(blank), "dark flat");
  EXPECT_EQ(unlike.at(grey), "flat");
  const fs::path lines = results.path / "lines";
  std::ofstream(lines) << blank << "\n" << data("test/good/000.png") << "\n";
  const auto served =
      run_program("sh", "-c 'exec " + std::string(EFFICIENTAD_PROGRAM) +
                            " serve --device cpu --model " + model + " <" + lines.string() + "'");
  ASSERT_EQ(served.status, 0) << served.err;
  std::istringstream out(served.out);
  std::vector<nlohmann::json> answers;
  for (std::string line; std::getline(out, line);) answers.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(answers.size(), 3u) << served.out;
  EXPECT_EQ(answers[1].at("unlike_training"), (std::vector<std::string>{"dark", "flat"}));
  EXPECT_FALSE(answers[2].contains("unlike_training"));
}

TEST_F(EvalInfer, ServeAnswersEachLine) {
  const std::string model = (results.path / "model.safetensors").string();
  const double threshold =
      set_threshold_between(model, data("test/good/000.png"), data("test/scratch/001.jpg"));
  const fs::path lines = results.path / "lines";
  std::ofstream(lines) << data("test/good/000.png") << "\r\n\n/nonexistent.png\n"
                       << data("test/scratch/001.jpg");
  const auto served = run_program("sh", "-c 'exec " + std::string(EFFICIENTAD_PROGRAM) +
                                            " serve --device cpu --model " + model +
                                            " --heatmaps " + output + " <" + lines.string() + "'");
  EXPECT_EQ(served.status, 1) << served.err;
  std::istringstream out(served.out);
  std::vector<nlohmann::json> answers;
  for (std::string line; std::getline(out, line);) answers.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(answers.size(), 5u) << served.out;
  EXPECT_EQ(answers[0].at("ready"), true);
  EXPECT_EQ(answers[0].at("threshold"), threshold);
  EXPECT_EQ(answers[1].at("path"), data("test/good/000.png"));
  EXPECT_EQ(answers[2].at("error"), "the line is no path");
  EXPECT_NE(answers[3].at("error").get<std::string>().find("/nonexistent.png"), std::string::npos);
  // What infer says.
  const auto inferred =
      run("infer --device cpu --model " + model + " --output " + (results.path / "infer").string() +
          " " + data("test/good/000.png") + " " + data("test/scratch/001.jpg"));
  ASSERT_EQ(inferred.status, 0) << inferred.err;
  const std::string scores = read_text(results.path / "infer/scores.csv");
  int64_t drawn = 0;
  for (const size_t i : {1, 4}) {
    const auto& answer = answers[i];
    EXPECT_NE(scores.find(fmt::format("{},{:.9g},{},", answer.at("path").get<std::string>(),
                                      answer.at("score").get<double>(),
                                      answer.at("decision").get<std::string>())),
              std::string::npos)
        << answer << scores;
    const bool anomalous = answer.at("decision") == "anomalous";
    EXPECT_EQ(anomalous, !answer.at("regions").empty());
    EXPECT_EQ(anomalous, answer.contains("heatmap"));
    if (!anomalous) continue;
    ++drawn;
    EXPECT_TRUE(fs::exists(answer.at("heatmap").get<std::string>()));
    EXPECT_EQ(answer.at("regions")[0].at("peak"), answer.at("score"));
    EXPECT_EQ(answer.at("regions")[0].at("peak_x"), answer.at("peak_x"));
  }
  EXPECT_EQ(drawn, 1);
}

TEST_F(EvalInfer, ServeRefusesWhatItCannotUse) {
  EXPECT_EQ(run("serve").status, 2);
  EXPECT_EQ(run("serve --model " + output + "/none.safetensors").status, 1);
  const std::string model = (results.path / "model.safetensors").string();
  set_threshold_between(model, data("test/good/000.png"), data("test/scratch/001.jpg"));
  EXPECT_EQ(run("serve --engine none --model " + model).status, 2);
  // Nothing asked, nothing wrong.
  EXPECT_EQ(run("serve --device cpu --model " + model).status, 0);
  const auto serve = [&](const std::vector<fs::path>& images) {
    const fs::path lines = results.path / "lines";
    std::ofstream file(lines);
    for (const auto& image : images) file << image.string() << "\n";
    file.close();
    return run_program("sh", "-c 'exec " + std::string(EFFICIENTAD_PROGRAM) +
                                 " serve --device cpu --model " + model + " --heatmaps " + output +
                                 " <" + lines.string() + "'");
  };
  // Heat maps of an earlier run stay.
  fs::create_directories(output);
  std::ofstream(fs::path(output) / "000001_000.png") << "earlier";
  auto served = serve({data("test/good/000.png"), data("test/scratch/001.jpg")});
  EXPECT_EQ(served.status, 0) << served.err;
  const bool first = fs::exists(fs::path(output) / "000002_000.png");
  EXPECT_NE(first, fs::exists(fs::path(output) / "000003_001.png")) << served.out;
  EXPECT_EQ(read_text(fs::path(output) / "000001_000.png"), "earlier");
  // One that cannot be written costs no decision.
  const fs::path image = results.path / (std::string(251, 'n') + ".png");
  fs::copy_file(first ? data("test/good/000.png") : data("test/scratch/001.jpg"), image);
  served = serve({image});
  EXPECT_EQ(served.status, 1) << served.err;
  EXPECT_NE(served.out.find("\"decision\":\"anomalous\""), std::string::npos) << served.out;
  EXPECT_NE(served.out.find("\"heatmap_error\""), std::string::npos) << served.out;
  fs::remove_all(output);
  std::ofstream(output) << "in the way";
  EXPECT_EQ(serve({}).status, 1);
}

TEST_F(EvalInfer, EvalNeedsNoImagesToTrainOn) {
  const auto result =
      run("eval --model " + (dir->path / "model.safetensors").string() + " --device cpu --data " +
          (dir->path / "data/nut").string() +
          " --abnormal-dir test/scratch --normal-test-dir test/good --output " + output);
  ASSERT_EQ(result.status, 0) << result.err;
  const auto report = nlohmann::json::parse(read_text(fs::path(output) / "report.json"));
  EXPECT_EQ(report.at("counts").at("train"), 0);
  EXPECT_EQ(report.at("counts").at("test"), 4);
}

TEST_F(EvalInfer, InferScoresSideBySideWhatItScoresInTurn) {
  const auto rows_of = [&](const std::string& more, const std::string& to) {
    const std::string folder = (results.path / to).string();
    const auto result =
        run("infer --model " + (dir->path / "model.safetensors").string() + " " +
            (dir->path / "data").string() + " --maps --device cpu " + more + " --output " + folder);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(read_tiff(folder + "/maps/test/scratch/001.tiff").sizes(),
              (std::vector<int64_t>{40, 50}));
    // All but the latency.
    std::vector<std::string> rows;
    std::istringstream file(read_text(folder + "/scores.csv"));
    for (std::string line; std::getline(file, line);) {
      std::vector<std::string> fields;
      std::istringstream of_line(line);
      for (std::string field; std::getline(of_line, field, ',');) fields.push_back(field);
      rows.push_back(fields.at(0) + " " + fields.at(1) + " " + fields.at(2));
    }
    return rows;
  };
  const auto in_turn = rows_of("--callers 1", "in_turn");
  EXPECT_EQ(in_turn.size(), 6u);
  EXPECT_EQ(rows_of("--callers 3", "side_by_side"), in_turn);
}

TEST_F(EvalInfer, InferPassesOverWhatCannotBeRead) {
  const fs::path images = results.path / "images";
  write_image(images / "a.png", torch::zeros({64, 64, 3}, torch::kUInt8));
  write_image(images / "a.bmp", torch::zeros({64, 64, 3}, torch::kUInt8));
  const std::string bytes = read_text(images / "a.png");
  std::ofstream(images / "cut.png", std::ios::binary) << bytes.substr(0, bytes.size() / 2);
  const auto result = run(infer_arguments() + " --maps --output " + output + " " + images.string() +
                          " " + (images / "none.png").string());
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("cut.png"), std::string::npos) << result.err;
  EXPECT_EQ(lines_of(fs::path(output) / "scores.csv"), 3);
  const std::string errors = read_text(fs::path(output) / "errors.csv");
  EXPECT_EQ(lines_of(fs::path(output) / "errors.csv"), 3) << errors;
  EXPECT_NE(errors.find("none.png"), std::string::npos) << errors;
  // Two images that differ in their ending only: neither has the bare name.
  EXPECT_TRUE(fs::exists(fs::path(output) / "maps/a.bmp.tiff"));
  EXPECT_TRUE(fs::exists(fs::path(output) / "maps/a.png.tiff"));
  EXPECT_FALSE(fs::exists(fs::path(output) / "maps/a.tiff"));
}

TEST_F(EvalInfer, ResultsReplaceNeitherInputsNorATraining) {
  const fs::path folder = output;
  write_image(folder / "a.png", torch::zeros({64, 64, 3}, torch::kUInt8));
  write_image(folder / "heatmaps" / "b.png", torch::zeros({64, 64, 3}, torch::kUInt8));
  const std::string to = infer_arguments() + " --json --heatmaps --output " + output + " ";
  auto result = run(to + (folder / "heatmaps/b.png").string());
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("where results are written"), std::string::npos) << result.err;
  // Heat maps of an earlier run are no images to score.
  for (int i = 0; i < 2; ++i) {
    result = run(to + output);
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(nlohmann::json::parse(result.out).at("images"), 1);
  }
  std::ofstream(folder / "train_log.csv") << "step";
  for (const auto& command :
       {to + (folder / "a.png").string(), eval_arguments() + " --output " + output}) {
    result = run(command);
    EXPECT_EQ(result.status, 2);
    EXPECT_NE(result.err.find("holds a training"), std::string::npos) << result.err;
  }
}

TEST_F(EvalInfer, OneCommandsResultsAreNotReplacedByAnothers) {
  ASSERT_EQ(run(eval_arguments() + " --output " + output).status, 0);
  const std::string scores = read_text(fs::path(output) / "scores.csv");
  auto result = run(infer_arguments() + " " + data("test/good") + " --output " + output);
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("holds an evaluation"), std::string::npos) << result.err;
  // Also if it was not completed.
  fs::remove(fs::path(output) / "report.json");
  EXPECT_EQ(run(infer_arguments() + " " + data("test/good") + " --output " + output).status, 2);
  EXPECT_EQ(read_text(fs::path(output) / "scores.csv"), scores);
  const std::string other = (results.path / "other").string();
  ASSERT_EQ(run(infer_arguments() + " " + data("test/good") + " --output " + other).status, 0);
  result = run(eval_arguments() + " --output " + other);
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("holds results of infer"), std::string::npos) << result.err;
  EXPECT_EQ(lines_of(fs::path(other) / "scores.csv"), 3);
}

TEST_F(EvalInfer, MapsOfSomethingElseAreNotReplaced) {
  const fs::path theirs = fs::path(output) / "anomaly_maps/nut/test/good/000.tiff";
  ASSERT_EQ(run(eval_arguments() + " --output " + output).status, 0);
  // Its own are.
  EXPECT_EQ(run(eval_arguments() + " --output " + output).status, 0);
  ASSERT_EQ(run("eval --maps " + output + "/anomaly_maps --data " + (dir->path / "data").string() +
                " --category nut --output " + output)
                .status,
            0);
  auto result = run(eval_arguments() + " --output " + output);
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("holds maps of something else"), std::string::npos) << result.err;
  EXPECT_TRUE(fs::exists(theirs));
  for (const char* file : {"report.json", "options.json", "scores.csv", "report.html"}) {
    fs::remove(fs::path(output) / file);
  }
  EXPECT_EQ(run(eval_arguments() + " --output " + output).status, 2);
  EXPECT_TRUE(fs::exists(theirs));
}

TEST_F(EvalInfer, ATableOfSomethingElseIsNotReplaced) {
  fs::create_directories(output);
  std::ofstream(fs::path(output) / "scores.csv") << "name,points\nAda,3\n";
  for (const auto& command : {eval_arguments(), infer_arguments() + " " + data("test/good")}) {
    const auto result = run(command + " --output " + output);
    EXPECT_EQ(result.status, 2);
    EXPECT_NE(result.err.find("holds a scores.csv of its own"), std::string::npos) << result.err;
  }
  EXPECT_EQ(read_text(fs::path(output) / "scores.csv"), "name,points\nAda,3\n");
}

TEST_F(EvalInfer, PicturesOfAnEarlierRunAreTold) {
  const fs::path images = results.path / "images";
  fs::create_directories(images);
  for (const char* name : {"a.png", "b.png"})
    fs::copy_file(data("test/good/000.png"), images / name);
  const std::string to = infer_arguments() + " --heatmaps --maps --output " + output + " ";
  auto result = run(to + images.string());
  EXPECT_EQ(result.err.find("earlier run"), std::string::npos) << result.err;
  // What a killed run left, and an image that cannot be judged any more.
  std::ofstream(fs::path(output) / "heatmaps/.1.2.tmp.png") << "half";
  std::ofstream(images / "a.png") << "no image";
  result = run(to + images.string());
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("heatmaps: holds files of an earlier run"), std::string::npos)
      << result.err;
  EXPECT_FALSE(fs::exists(fs::path(output) / "heatmaps/.1.2.tmp.png"));
  EXPECT_FALSE(fs::exists(fs::path(output) / "heatmaps/a.png"));
  EXPECT_FALSE(fs::exists(fs::path(output) / "maps/a.tiff"));
  EXPECT_TRUE(fs::exists(fs::path(output) / "heatmaps/b.png"));
  // A run that draws none leaves them all.
  std::ofstream(images / "b.png") << "no image";
  fs::copy_file(data("test/good/000.png"), images / "c.png");
  EXPECT_EQ(run(infer_arguments() + " --output " + output + " " + images.string()).status, 1);
  EXPECT_TRUE(fs::exists(fs::path(output) / "heatmaps/b.png"));
}

TEST_F(EvalInfer, AFolderInBracketsIsNoList) {
  const fs::path images = results.path / "[good]";
  fs::create_directories(images);
  fs::copy_file(data("test/good/000.png"), images / "a.png");
  const auto result =
      run_program("sh", "-c 'cd " + results.path.string() + " && exec " + EFFICIENTAD_PROGRAM +
                            " " + infer_arguments() + " [good] --output " + output + "'");
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(lines_of(fs::path(output) / "scores.csv"), 2);
}

TEST_F(EvalInfer, MapsOfOneCategoryAreNotAnothers) {
  const fs::path copy = results.path / "copy";
  fs::copy(dir->path / "data", copy, fs::copy_options::recursive);
  fs::copy(copy / "nut", copy / "bolt", fs::copy_options::recursive);
  ASSERT_EQ(run(eval_arguments() + " --output " + output).status, 0);
  const auto result = run("eval --maps " + output + "/anomaly_maps/nut --data " + copy.string() +
                          " --category all --output " + (results.path / "all").string());
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("nut/bolt: there is no such folder"), std::string::npos) << result.err;
}

TEST_F(EvalInfer, OptionsThatWouldDoNothingAreRefused) {
  const std::string model = " --model " + (dir->path / "model.safetensors").string();
  const auto refused = [](const std::string& command, const std::string& reason) {
    const auto result = run(command);
    EXPECT_EQ(result.status, 2) << command;
    EXPECT_NE(result.err.find(reason), std::string::npos) << result.err;
  };
  const std::string of_maps = "eval --data x --output " + output + " --maps " + output;
  refused(of_maps + " --batch-size 2", "are for --model, not for --maps");
  refused(of_maps + " --device cpu", "are for --model, not for --maps");
  refused("probe-shift --contrast 20 " + data("test/good") + model, "give --synthetic too");
  refused("bench --callers 3" + model, "are for --throughput");
  refused("bench --batches 1" + model, "are for --throughput");
}

TEST_F(EvalInfer, AThresholdBelongsToItsModelAndShiftAverage) {
  const std::string model = (results.path / "model.safetensors").string();
  ModelBundle bundle = load_bundle(dir->path / "model.safetensors");
  bundle.quantiles.q_b_st = 0.4;
  save_bundle(model, bundle);
  const std::string set = "threshold --rule f1 --model " + model + " --scores " + output;
  ASSERT_EQ(run(eval_arguments() + " --output " + output).status, 0);
  auto result = run(set + "/scores.csv");
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("its scores are of another model"), std::string::npos) << result.err;
  fs::remove_all(output);
  ASSERT_EQ(run("eval --model " + model + " --data " + (dir->path / "data").string() +
                " --category nut --device cpu --shift-average 2 --output " + output)
                .status,
            0);
  ASSERT_EQ(run(set + "/scores.csv").status, 0);
  EXPECT_EQ(load_bundle(model).threshold_shift_average, 2);
  const auto warned = [&](const std::string& average) {
    const auto scored = run("infer --device cpu --model " + model + " " + data("test/good") +
                            average + " --output " + (results.path / "scored").string());
    EXPECT_EQ(scored.status, 0) << scored.err;
    return scored.err.find("its threshold is of --shift-average 2") != std::string::npos;
  };
  EXPECT_TRUE(warned(""));
  EXPECT_FALSE(warned(" --shift-average 2"));
  // Of scores that nothing is known of, and of maps.
  fs::copy_file(fs::path(output) / "scores.csv", results.path / "alone.csv");
  ASSERT_EQ(run("threshold --rule f1 --model " + model + " --scores " +
                (results.path / "alone.csv").string())
                .status,
            0);
  EXPECT_EQ(load_bundle(model).threshold_shift_average, 0);
  const std::string of_maps = (results.path / "of_maps").string();
  ASSERT_EQ(run("eval --maps " + output + "/anomaly_maps --data " + (dir->path / "data").string() +
                " --category nut --output " + of_maps)
                .status,
            0);
  result = run("threshold --rule f1 --model " + model + " --scores " + of_maps + "/scores.csv");
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("of no model"), std::string::npos) << result.err;
}

TEST_F(EvalInfer, InferRefusesWhatItCannotUse) {
  const std::string to = " --output " + output;
  auto result = run(infer_arguments() + to + " " + output + "/none*.png");
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("matches nothing"), std::string::npos) << result.err;
  result = run(infer_arguments() + to);
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("paths is missing"), std::string::npos) << result.err;
  result = run(infer_arguments() + to + " --treshold 1 " + data("test/good"));
  EXPECT_EQ(result.status, 2);
  result = run(infer_arguments() + " --output " + data("test/good/000.png") + " " +
               data("test/good/001.png"));
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("cannot be made a folder"), std::string::npos) << result.err;
}

TEST_F(EvalInfer, HelpShowsDefaults) {
  const auto eval_help = run("eval --help");
  EXPECT_EQ(eval_help.status, 0);
  EXPECT_NE(eval_help.out.find("mvtec"), std::string::npos) << eval_help.out;
  const auto infer_help = run("infer --help");
  EXPECT_EQ(infer_help.status, 0);
  EXPECT_NE(infer_help.out.find("--heatmaps"), std::string::npos) << infer_help.out;
}

}  // namespace
}  // namespace efficientad
