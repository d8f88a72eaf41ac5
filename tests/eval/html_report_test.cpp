#include "efficientad/eval/html_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "efficientad/core/interrupt.h"
#include "eval/sample_evaluation.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string page_of(const SampleEvaluation& sample, bool threshold = true) {
  return html_report(sample.evaluation, sample.dataset, report_of(sample, threshold),
                     {.train_log = threshold ? sample.dataset.root / "train_log.csv" : fs::path()});
}

/// The block of JSON in the page.
Json data_of(const std::string& page) {
  const std::string before = "<script type=\"application/json\" id=\"data\">";
  const size_t begin = page.find(before) + before.size();
  return Json::parse(page.substr(begin, page.find("</script>", begin) - begin));
}

/// The page without its pictures.
std::string words_of(const std::string& page) {
  std::string words;
  size_t at = 0;
  for (size_t begin; (begin = page.find(":\"/9j/", at)) != std::string::npos;) {
    words += page.substr(at, begin - at);
    at = page.find('"', begin + 2) + 1;
  }
  return words + page.substr(at);
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// Good scores 1, 2, 9 and anomalous ones 3, 4, 8 with the threshold 5.
Evaluation small_evaluation() {
  Evaluation evaluation;
  for (const double score : {1, 2, 9, 3, 4, 8}) {
    EvaluatedImage image = {.sample = {.image_path = "a.png", .id = "a"}};
    image.sample.defect = evaluation.images.size() < 3 ? "good" : "ko";
    image.score = score;
    image.called_anomalous = score > 5;
    evaluation.images.push_back(image);
  }
  evaluate_scores(evaluation);
  return evaluation;
}

TEST(ByWrongness, WrongDecisionsFirstThenTheShareThatIsOutranked) {
  const Evaluation evaluation = small_evaluation();
  std::vector<double> scores;
  double good = 0;
  double anomalous = 0;
  for (const auto& ranked : by_wrongness(evaluation, 5)) {
    scores.push_back(evaluation.images[ranked.image].score);
    (ranked.image < 3 ? good : anomalous) += ranked.outranked.value() / 3;
  }
  // Good 9 outranks all, anomalous 3 and 4 are outranked by one of three, but are missed by 2
  // and 1.
  EXPECT_EQ(scores, (std::vector<double>{9, 3, 4, 8, 2, 1}));
  EXPECT_NEAR(good, 1 - evaluation.image_metrics.auroc.value(), 1e-12);
  EXPECT_NEAR(anomalous, 1 - evaluation.image_metrics.auroc.value(), 1e-12);
}

TEST(ByWrongness, TiesCountOneHalfAndOneClassHasNoShare) {
  Evaluation evaluation = small_evaluation();
  for (auto& image : evaluation.images) image.score = 1;
  for (const auto& ranked : by_wrongness(evaluation, std::nullopt)) {
    EXPECT_EQ(ranked.outranked, 0.5);
  }
  evaluation = small_evaluation();
  evaluation.images.resize(3);
  const auto ranked = by_wrongness(evaluation, 5);
  EXPECT_FALSE(ranked[0].outranked.has_value());
  EXPECT_EQ(ranked[0].image, 2u);
  EXPECT_EQ(ranked[1].image, 1u);
}

TEST(HtmlReport, HoldsAllItsParts) {
  const TempDir dir;
  SampleEvaluation sample = sample_evaluation(dir.path, 24, 3, 64);
  evaluate_pixels(sample.evaluation, sample.dataset);
  const std::string page = page_of(sample);
  const std::string words = words_of(page);
  EXPECT_TRUE(has(words, ">nut</h1>"));
  EXPECT_TRUE(has(words, "24 test images, 12 good and 12 anomalous"));
  EXPECT_TRUE(has(words, "At the threshold <b>0.3</b>,"));
  EXPECT_TRUE(has(words, "<p>The threshold: a rule.</p>"));
  EXPECT_TRUE(has(words, "data-kind=\"stain\""));
  EXPECT_TRUE(has(words, "<h3>ROC</h3>"));
  EXPECT_TRUE(has(words, "pixels, AUROC"));
  EXPECT_TRUE(has(words, "AU-PRO is the area below"));
  EXPECT_TRUE(has(words, "Losses over 1000 steps"));
  EXPECT_TRUE(has(words, "Options of the training"));
  const Json data = data_of(page);
  EXPECT_EQ(data.at("limit"), 0.3);
  ASSERT_EQ(data.at("images").size(), 24u);
  const auto ranked = by_wrongness(sample.evaluation, 0.3);
  for (size_t i = 0; i < ranked.size(); ++i) {
    const Json& entry = data.at("images")[i];
    const auto& image = sample.evaluation.images[ranked[i].image];
    EXPECT_EQ(entry.at("path"), image.sample.image_path.filename().string());
    EXPECT_EQ(entry.at("score"), image.score);
    EXPECT_EQ(entry.at("kind"), image.sample.defect);
    EXPECT_EQ(entry.at("called"), image.called_anomalous ? "anomalous" : "good");
    EXPECT_EQ(entry.at("mask") == "", !image.sample.anomalous());
    // A JPEG file begins with FF D8 FF.
    EXPECT_EQ(entry.at("image").get<std::string>().substr(0, 4), "/9j/");
    EXPECT_EQ(entry.at("heatmap").get<std::string>().substr(0, 4), "/9j/");
  }
}

TEST(HtmlReport, AsksNoNetworkForAnything) {
  const TempDir dir;
  const std::string words = words_of(page_of(sample_evaluation(dir.path, 6, 2, 32)));
  for (const char* part : {"http:", "https:", "src=", "url(", "@import", "<link", "fetch(",
                           "XMLHttpRequest", "WebSocket", "import("}) {
    EXPECT_FALSE(has(words, part)) << part;
  }
  EXPECT_TRUE(has(words, "default-src 'none'; img-src data:;"));
}

TEST(HtmlReport, NamesAreTextNotPartsOfThePage) {
  const TempDir dir;
  const SampleEvaluation sample = sample_evaluation(dir.path / "a<b>&\"'", 6, 2, 32);
  const std::string page = page_of(sample);
  EXPECT_FALSE(has(page, "<b id"));
  EXPECT_FALSE(has(page, kRudeName));
  EXPECT_TRUE(has(page, "&lt;/script&gt;&lt;b id=&quot;rude&quot;&gt;&amp;&#39;&quot;&lt;!--"));
  EXPECT_TRUE(has(page, "\\u003c/script\\u003e\\u003cb id=\\\"rude\\\"\\u003e\\u0026'"));
  // Two scripts begin and two end: the data and the program.
  const auto count = [&](const std::string& what) {
    int times = 0;
    for (size_t at = 0; (at = page.find(what, at)) != std::string::npos; ++at) ++times;
    return times;
  };
  EXPECT_EQ(count("<script"), 2);
  EXPECT_EQ(count("</script"), 2);
  std::set<std::string> kinds;
  const Json data = data_of(page);
  for (const auto& entry : data.at("images")) kinds.insert(entry.at("kind"));
  EXPECT_EQ(kinds.count(kRudeName), 1u);
}

TEST(HtmlReport, BytesThatAreNoTextDoNotStopIt) {
  const TempDir dir;
  SampleEvaluation sample = sample_evaluation(dir.path, 6, 2, 32);
  sample.evaluation.images[1].sample.image_path = dir.path / "\xff{{data}}\xfe.png";
  const Json data = data_of(page_of(sample));
  bool found = false;
  for (const auto& entry : data.at("images")) {
    if (!has(entry.at("path"), "{{data}}")) continue;
    found = true;
    EXPECT_TRUE(has(entry.at("problem"), "{{data}}"));
    EXPECT_FALSE(entry.contains("image"));
  }
  EXPECT_TRUE(found);
}

TEST(HtmlReport, WithoutAThresholdNothingIsDecided) {
  const TempDir dir;
  const SampleEvaluation sample = sample_evaluation(dir.path, 12, 2, 32);
  const std::string page = page_of(sample, /*threshold=*/false);
  const Json data = data_of(page);
  EXPECT_FALSE(data.at("decides").get<bool>());
  EXPECT_EQ(data.at("limit_name"), "best threshold");
  EXPECT_FALSE(data.at("images")[0].contains("called"));
  EXPECT_TRUE(has(page, "nothing was decided"));
  EXPECT_TRUE(has(page, "The maps come from elsewhere."));
}

TEST(HtmlReport, OneClassAndNoLogAreSaid) {
  const TempDir dir;
  SampleEvaluation sample = sample_evaluation(dir.path, 6, 2, 32);
  for (auto& image : sample.evaluation.images) {
    image.sample.defect = "good";
    image.sample.mask_paths.clear();
    image.score = 0;
  }
  evaluate_scores(sample.evaluation);
  evaluate_pixels(sample.evaluation, sample.dataset);
  fs::remove(dir.path / "train_log.csv");
  std::string page = page_of(sample);
  EXPECT_TRUE(has(page, "there are no anomalous test images"));
  EXPECT_TRUE(has(page, "no train_log.csv beside the model"));
  // No coordinate or figure that is none.
  for (const char* part : {">nan", ">-nan", ">inf", " nan", "Mnan", "\"nan", " inf\""}) {
    EXPECT_FALSE(has(words_of(page), part)) << part;
  }
  write_file(dir.path / "train_log.csv", "step\n1\n");
  page = page_of(sample);
  EXPECT_TRUE(has(page, "train_log.csv: ")) << "a log that is none is said to be so";
  page = page_of(sample, /*threshold=*/false);
  EXPECT_TRUE(data_of(page).at("limit").is_null());
}

TEST(HtmlReport, SaysThatTheThresholdIsOfAnotherShiftAverage) {
  const TempDir dir;
  SampleEvaluation sample = sample_evaluation(dir.path, 6, 2, 32);
  const char* const words = "It is of scores with a shift average of 4, but these are with 1";
  EXPECT_FALSE(has(page_of(sample), "shift average of"));
  sample.bundle.threshold_shift_average = 4;
  EXPECT_TRUE(has(page_of(sample), words));
}

TEST(HtmlReport, TwoThousandImagesStayBelow25Megabytes) {
  const TempDir dir;
  const SampleEvaluation sample = sample_evaluation(dir.path, 2000, 8, 256);
  const std::string page = page_of(sample);
  EXPECT_LT(page.size(), 25'000'000u);
  EXPECT_GT(page.size(), 5'000'000u);
  EXPECT_EQ(data_of(page).at("images").size(), 2000u);
}

TEST(HtmlReport, StopsWhenInterrupted) {
  const TempDir dir;
  const SampleEvaluation sample = sample_evaluation(dir.path, 6, 2, 32);
  request_interrupt(true);
  EXPECT_ERROR(page_of(sample), Interrupted, "interrupted");
  request_interrupt(false);
}

TEST(HtmlIndex, LinksThePagesThatAreThere) {
  const Json reports = {{"a b<", {{"image_auroc", 0.75}, {"decisions", {{"missed", 3}}}}},
                        {"c", {{"image_auroc", nullptr}}}};
  const std::string page = html_index(reports, {{"a b<", fs::path("a b<") / "report.html"}});
  EXPECT_TRUE(has(page, "<a href=\"a%20b%3C/report.html\">a b&lt;</a>"));
  EXPECT_TRUE(has(page, "0.7500"));
  EXPECT_TRUE(has(page, "data-value=\"3\">3</td>"));
  EXPECT_FALSE(has(page, "report.html\">c<"));
  EXPECT_TRUE(has(page, ">missed</button>"));
  EXPECT_FALSE(has(page, "AU-sPRO"));
}

}  // namespace
}  // namespace efficientad
