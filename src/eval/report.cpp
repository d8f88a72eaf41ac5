#include "efficientad/eval/report.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "efficientad/core/error.h"
#include "efficientad/core/version.h"

namespace efficientad {

namespace {

using Json = nlohmann::ordered_json;

Json number_or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

Json figures_by_name(const std::map<std::string, std::optional<double>>& figures) {
  Json json = Json::object();
  for (const auto& [name, value] : figures) json[name] = number_or_null(value);
  return json;
}

/// Why a ranking of images has no AUROC; null where it has one.
Json no_image_auroc(const RankingMetrics& metrics) {
  if (metrics.auroc) return Json();
  return metrics.positives == 0 ? "there are no anomalous test images"
                                : "there are no good test images";
}

std::string figure(const Json& value) {
  return value.is_number() ? fmt::format("{:.4f}", value.get<double>()) : "-";
}

}  // namespace

const char* decision_name(bool anomalous) { return anomalous ? "anomalous" : "good"; }

std::string csv_line(const std::vector<std::string>& fields) {
  std::string line;
  for (const auto& field : fields) {
    if (!line.empty() || &field != &fields.front()) line += ',';
    if (field.find_first_of(",\"\r\n") == std::string::npos) {
      line += field;
      continue;
    }
    line += '"';
    for (const char c : field) line += c == '"' ? std::string("\"\"") : std::string(1, c);
    line += '"';
  }
  return line + "\n";
}

Json make_report(const Evaluation& evaluation, const Dataset& dataset, const ModelBundle* bundle,
                 const Json& options) {
  int64_t false_positives = 0;
  int64_t missed = 0;
  Json defects = Json::object();
  for (const auto& [defect, auroc] : evaluation.auroc_by_defect) {
    defects[defect] = {{"images", 0}};
    if (bundle != nullptr) defects[defect]["missed"] = 0;
  }
  for (const auto& image : evaluation.images) {
    if (!image.sample.anomalous()) {
      false_positives += image.called_anomalous ? 1 : 0;
      continue;
    }
    auto& defect = defects[image.sample.defect];
    defect["images"] = defect["images"].get<int64_t>() + 1;
    if (image.called_anomalous || bundle == nullptr) continue;
    ++missed;
    defect["missed"] = defect["missed"].get<int64_t>() + 1;
  }
  const RankingMetrics& images = evaluation.image_metrics;
  const RankingMetrics& pixels = evaluation.pixel_metrics;

  Json report;
  report["format"] = "efficientad-report";
  report["format_version"] = 1;
  report["version"] = version();
  report["category"] = dataset.category;
  report["image_auroc"] = number_or_null(images.auroc);
  if (!images.auroc) report["image_auroc_missing"] = no_image_auroc(images);
  report["image_auroc_student_teacher"] = number_or_null(evaluation.auroc_st);
  report["image_auroc_autoencoder"] = number_or_null(evaluation.auroc_ae);
  report["image_average_precision"] = number_or_null(images.average_precision);
  report["image_f1_max"] = number_or_null(images.f1_max);
  report["image_f1_max_threshold"] = number_or_null(images.f1_max_threshold);
  report["image_fpr_at_95_tpr"] = number_or_null(images.fpr_at_95_tpr);
  report["image_fpr_at_99_tpr"] = number_or_null(images.fpr_at_99_tpr);
  report["image_auroc_by_defect"] = figures_by_name(evaluation.auroc_by_defect);
  report["image_auroc_by_defect_mean"] = number_or_null(evaluation.auroc_by_defect_mean);
  if (dataset.layout == "loco") {
    Json script = figures_by_name(evaluation.loco_auroc_by_defect);
    script["mean"] = number_or_null(evaluation.loco_auroc_by_defect_mean);
    report["mvtec_loco_script"] = {{"classification", {{"auc_roc", script}}}};
  }
  report["pixel_auroc"] = number_or_null(pixels.auroc);
  report["pixel_average_precision"] = number_or_null(pixels.average_precision);
  report["pixel_f1_max"] = number_or_null(pixels.f1_max);
  report["pixel_f1_max_threshold"] = number_or_null(pixels.f1_max_threshold);
  report["au_pro"] = figures_by_name(evaluation.au_pro);
  if (dataset.layout == "loco") {
    report["au_spro"] = Json::object();
    for (const auto& [kind, areas] : evaluation.au_spro) {
      report["au_spro"][kind] = figures_by_name(areas);
    }
  }
  report["aupimo"] = number_or_null(evaluation.aupimo);
  if (!evaluation.no_pixel_metrics.empty()) {
    report["pixel_metrics_missing"] = evaluation.no_pixel_metrics;
  }
  report["counts"] = {
      {"train", dataset.train.size()},        {"validation", dataset.validation.size()},
      {"test", evaluation.images.size()},     {"test_good", images.negatives},
      {"test_anomalous", images.positives},   {"pixels_good", pixels.negatives},
      {"pixels_defective", pixels.positives}, {"by_defect", defects}};
  report["options"] = options;
  if (bundle == nullptr) return report;
  report["threshold"] = bundle->threshold;
  report["threshold_rule"] = bundle->threshold_rule;
  report["threshold_shift_average"] = bundle->threshold_shift_average;
  report["decisions"] = {{"false_positives", false_positives},
                         {"missed", missed},
                         {"true_positives", images.positives - missed},
                         {"true_negatives", images.negatives - false_positives}};
  Json provenance = Json::object();
  for (const auto& [key, value] : bundle->provenance) provenance[key] = value;
  report["model"] = {{"model_size", bundle->model_size},
                     {"image_height", bundle->image_hw[0]},
                     {"image_width", bundle->image_hw[1]},
                     {"padding", bundle->padding},
                     {"autoencoder_input", bundle->autoencoder_input},
                     {"equalize_exposure", bundle->equalize_exposure},
                     {"quantiles",
                      {{"q_a_st", bundle->quantiles.q_a_st},
                       {"q_b_st", bundle->quantiles.q_b_st},
                       {"q_a_ae", bundle->quantiles.q_a_ae},
                       {"q_b_ae", bundle->quantiles.q_b_ae}}},
                     {"options", bundle->options},
                     {"provenance", provenance}};
  return report;
}

std::string report_table(const Json& report) {
  const auto& counts = report.at("counts");
  std::string table = fmt::format(
      "{}: {} test images, {} good and {} anomalous\n\n", report.at("category").get<std::string>(),
      counts.at("test").get<int64_t>(), counts.at("test_good").get<int64_t>(),
      counts.at("test_anomalous").get<int64_t>());
  table += fmt::format("{:24} {:>8} {:>18} {:>8}\n", "", "AUROC", "average precision", "F1 max");
  for (const std::string kind : {"image", "pixel"}) {
    table += fmt::format("{:24} {:>8} {:>18} {:>8}\n", kind == "image" ? "images" : "pixels",
                         figure(report.at(kind + "_auroc")),
                         figure(report.at(kind + "_average_precision")),
                         figure(report.at(kind + "_f1_max")));
  }
  table += fmt::format("{:24} {:>8}\n{:24} {:>8}\n", "images, student-teacher",
                       figure(report.at("image_auroc_student_teacher")), "images, autoencoder",
                       figure(report.at("image_auroc_autoencoder")));
  const auto areas = [&](const char* name, const Json& by_limit) {
    if (by_limit.empty()) return;
    table += fmt::format("{:24}", name);
    for (const auto& [limit, area] : by_limit.items()) {
      table += fmt::format(" {:>8} to {}", figure(area), limit);
    }
    table += "\n";
  };
  areas("AU-PRO", report.at("au_pro"));
  if (report.contains("au_spro") && report["au_spro"].contains("mean")) {
    areas("AU-sPRO", report["au_spro"]["mean"]);
  }
  if (report.at("aupimo").is_number()) {
    table += fmt::format("{:24} {:>8}\n", "AUPIMO", figure(report.at("aupimo")));
  }
  for (const char* key : {"image_auroc_missing", "pixel_metrics_missing"}) {
    if (report.contains(key)) {
      table += fmt::format("({}: {})\n", std::string(key, 5) + " figures missing",
                           report.at(key).get<std::string>());
    }
  }
  const auto& by_defect = report.at("image_auroc_by_defect");
  if (!by_defect.empty()) {
    table += fmt::format("\n{:24} {:>8} {:>18} {:>8}\n", "image AUROC by defect", "AUROC", "images",
                         "missed");
    for (const auto& [defect, auroc] : by_defect.items()) {
      const auto& count = counts.at("by_defect").at(defect);
      table += fmt::format(
          "{:24} {:>8} {:>18} {:>8}\n", defect, figure(auroc), count.at("images").get<int64_t>(),
          report.contains("threshold") ? std::to_string(count.at("missed").get<int64_t>()) : "-");
    }
    table += fmt::format("{:24} {:>8}\n", "mean", figure(report.at("image_auroc_by_defect_mean")));
  }
  if (!report.contains("threshold")) return table;
  const auto& decisions = report.at("decisions");
  table += fmt::format(
      "\nat threshold {:.4g}: {} of {} good images called anomalous, {} of {} anomalous ones "
      "missed\n",
      report.at("threshold").get<double>(), decisions.at("false_positives").get<int64_t>(),
      counts.at("test_good").get<int64_t>(), decisions.at("missed").get<int64_t>(),
      counts.at("test_anomalous").get<int64_t>());
  const auto rule = report.at("threshold_rule").get<std::string>();
  if (!rule.empty()) table += fmt::format("the threshold: {}\n", rule);
  return table;
}

std::string reports_table(const Json& reports) {
  struct Column {
    const char* title;
    nlohmann::json::json_pointer key;
  };
  const std::vector<Column> columns = {
      {"image AUROC", nlohmann::json::json_pointer("/image_auroc")},
      {"by defect, mean", nlohmann::json::json_pointer("/image_auroc_by_defect_mean")},
      {"image AP", nlohmann::json::json_pointer("/image_average_precision")},
      {"image F1 max", nlohmann::json::json_pointer("/image_f1_max")},
      {"pixel AUROC", nlohmann::json::json_pointer("/pixel_auroc")},
      {"AU-PRO 0.3", nlohmann::json::json_pointer("/au_pro/0.3")},
      {"AU-sPRO 0.05", nlohmann::json::json_pointer("/au_spro/mean/0.05")},
      {"AUPIMO", nlohmann::json::json_pointer("/aupimo")}};
  std::string table = "| category |";
  std::string line = "\n|---|";
  for (const auto& column : columns) {
    table += fmt::format(" {} |", column.title);
    line += "---|";
  }
  table += line + "\n";
  std::vector<double> sums(columns.size(), 0);
  std::vector<int64_t> counts(columns.size(), 0);
  for (const auto& [category, report] : reports.items()) {
    table += fmt::format("| {} |", category);
    for (size_t i = 0; i < columns.size(); ++i) {
      const Json value = report.value(columns[i].key, Json());
      table += fmt::format(" {} |", figure(value));
      if (!value.is_number()) continue;
      sums[i] += value.get<double>();
      ++counts[i];
    }
    table += "\n";
  }
  table += "| mean |";
  for (size_t i = 0; i < columns.size(); ++i) {
    table += fmt::format(
        " {} |", figure(counts[i] > 0 ? Json(sums[i] / static_cast<double>(counts[i])) : Json()));
  }
  return table + "\n";
}

std::string scores_csv(const Evaluation& evaluation, bool decided) {
  std::string csv = csv_line({"path", "defect", "label", "score", "decision", "normal_share"});
  for (const auto& image : evaluation.images) {
    csv += csv_line({image.sample.image_path.string(), image.sample.defect,
                     decision_name(image.sample.anomalous()), fmt::format("{:.9g}", image.score),
                     decided ? decision_name(image.called_anomalous) : "",
                     image.normal_share ? fmt::format("{:.6g}", *image.normal_share) : ""});
  }
  return csv;
}

}  // namespace efficientad
