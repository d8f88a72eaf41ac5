#include "efficientad/eval/collect.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <tuple>

#include "efficientad/core/error.h"
#include "efficientad/core/file.h"
#include "efficientad/core/json.h"
#include "efficientad/eval/report.h"

namespace efficientad {

namespace fs = std::filesystem;

using Json = nlohmann::ordered_json;

namespace {

struct Metric {
  const char* name;
  const char* title;
  const char* pointer;
};

constexpr Metric kMetrics[] = {
    {"image_auroc", "image AUROC", "/image_auroc"},
    {"image_auroc_by_defect_mean", "by defect, mean", "/image_auroc_by_defect_mean"},
    {"image_average_precision", "image AP", "/image_average_precision"},
    {"image_f1_max", "image F1 max", "/image_f1_max"},
    {"pixel_auroc", "pixel AUROC", "/pixel_auroc"},
    {"au_pro_0.3", "AU-PRO 0.3", "/au_pro/0.3"},
    {"au_spro_0.05", "AU-sPRO 0.05", "/au_spro/mean/0.05"},
    {"aupimo", "AUPIMO", "/aupimo"},
};

/// What the paper (Batzner, Heckler, König, WACV 2024, table 1) and the best public reproduction
/// give as mean image AUROC of a data set, in percent.
struct Published {
  const char* data_set;
  std::set<std::string> categories;
  std::map<std::string, std::pair<double, double>> by_size;
  /// They are means over the kinds of defect, not over all anomalous images.
  bool by_kind = false;
};

const std::vector<Published>& published() {
  static const std::vector<Published> all = {
      {"MVTec AD",
       {"bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill",
        "screw", "tile", "toothbrush", "transistor", "wood", "zipper"},
       {{"small", {98.8, 99.0}}, {"medium", {99.1, 99.1}}}},
      {"VisA",
       {"candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pcb1",
        "pcb2", "pcb3", "pcb4", "pipe_fryum"},
       {{"small", {97.5, 97.6}}, {"medium", {98.1, 98.2}}}},
      {"MVTec LOCO AD",
       {"breakfast_box", "juice_bottle", "pushpins", "screw_bag", "splicing_connectors"},
       {{"small", {90.0, 89.5}}, {"medium", {90.7, 90.1}}},
       /*by_kind=*/true}};
  return all;
}

/// One evaluation's place among the others, and its figures.
struct Row {
  std::string data_set;
  std::string category;
  std::string model_size;
  std::string seed;
  std::vector<std::optional<double>> figures;
  /// Of the model's own threshold; empty without a model. And of how many images.
  std::string false_positives;
  std::string missed;
  std::string good;
  std::string anomalous;
  /// Options that make a model and its scores, but the seed.
  Json made_with = Json::object();
  fs::path path;

  auto key() const { return std::tie(data_set, model_size, category, seed); }
};

Row row_of(const FoundReport& found) {
  const Json& report = found.report;
  Row row;
  row.path = found.path;
  try {
    row.category = report.at("category").get<std::string>();
    const fs::path data = report.at("options").at("data").get<std::string>();
    const fs::path plain = (data / "").parent_path();
    row.data_set = plain.filename() == row.category ? plain.parent_path().filename().string()
                                                    : plain.filename().string();
    if (row.data_set.empty()) row.data_set = row.category;
    if (report.contains("model")) {
      row.model_size = report.at("model").at("model_size").get<std::string>();
      const Json& options = report.at("model").at("options");
      if (options.contains("seed")) row.seed = options.at("seed").dump();
      row.made_with = options;
      // The seed, and where and how it was computed.
      for (const char* name : {"seed",
                               "dataset",
                               "data",
                               "category",
                               "normal_dir",
                               "output",
                               "teacher",
                               "penalty_images",
                               "shard",
                               "device",
                               "device_step",
                               "precision",
                               "threads",
                               "workers",
                               "cache_mb",
                               "teacher_cache_mb",
                               "checkpoint_minutes",
                               "snapshot_steps",
                               "resume",
                               "overwrite",
                               "plain_step",
                               "max_fpr",
                               "cross_fit"}) {
        row.made_with.erase(name);
      }
      const Json provenance = report.at("model").value("provenance", Json::object());
      for (const char* name : {"teacher.weights", "penalty"}) {
        if (provenance.contains(name)) row.made_with[name] = provenance.at(name);
      }
      row.made_with["shift_average"] = report.at("options").value("shift_average", 1);
    }
    const auto count = [&](const char* pointer) {
      const Json value = report.value(Json::json_pointer(pointer), Json());
      return value.is_number() ? value.dump() : std::string();
    };
    row.false_positives = count("/decisions/false_positives");
    row.missed = count("/decisions/missed");
    row.good = count("/counts/test_good");
    row.anomalous = count("/counts/test_anomalous");
    for (const auto& metric : kMetrics) {
      const Json value = report.value(Json::json_pointer(metric.pointer), Json());
      row.figures.push_back(value.is_number() ? std::optional<double>(value.get<double>())
                                              : std::nullopt);
    }
  } catch (const nlohmann::json::exception&) {
    throw Error(fmt::format("{}: is no report of an evaluation", found.path.string()));
  }
  return row;
}

std::string text_of(const std::optional<double>& value) {
  return value ? fmt::format("{:.4f}", *value) : "-";
}

using Figures = std::vector<std::optional<double>>;

/// Column by column, of what is there.
Figures means_of(const std::vector<Figures>& rows) {
  Figures means;
  for (size_t m = 0; m < std::size(kMetrics); ++m) {
    double sum = 0;
    int64_t count = 0;
    for (const auto& row : rows) {
      sum += row[m].value_or(0);
      count += row[m] ? 1 : 0;
    }
    means.push_back(count > 0 ? std::optional<double>(sum / static_cast<double>(count))
                              : std::nullopt);
  }
  return means;
}

std::string line_of(const std::string& name, const Figures& figures) {
  std::string line = fmt::format("| {} |", name);
  for (const auto& figure : figures) line += fmt::format(" {} |", text_of(figure));
  return line + "\n";
}

/// A data set's table for one model size.
std::string table_of(const std::vector<const Row*>& rows) {
  std::map<std::string, std::vector<Figures>> by_category;
  for (const auto* row : rows) by_category[row->category].push_back(row->figures);
  const std::string& size = rows[0]->model_size;
  std::string table = fmt::format("## {}{}\n\n| category |", rows[0]->data_set,
                                  size.empty() ? "" : fmt::format(", {}", size));
  std::string rule = "|---|";
  for (const auto& metric : kMetrics) {
    table += fmt::format(" {} |", metric.title);
    rule += "---|";
  }
  table += "\n" + rule + "\n";
  std::vector<Figures> means;
  std::set<std::string> categories;
  for (const auto& [category, of_seeds] : by_category) {
    means.push_back(means_of(of_seeds));
    categories.insert(category);
    const std::string seeds =
        of_seeds.size() > 1 ? fmt::format(" ({} seeds)", of_seeds.size()) : "";
    table += line_of(category + seeds, means.back());
  }
  table += line_of("mean", means_of(means));
  for (const auto& known : published()) {
    const auto figures = known.by_size.find(size);
    if (categories != known.categories || figures == known.by_size.end()) continue;
    table += fmt::format(
        "\nPublished mean image AUROC on {}: {:.3f} (the paper), {:.3f} (the best public "
        "reproduction){}.\n",
        known.data_set, figures->second.first / 100, figures->second.second / 100,
        known.by_kind ? "; it is the mean over the kinds of defect, \"by defect, mean\" here" : "");
  }
  return table + "\n";
}

/// A row a report, the data sets' categories one after another.
std::string table_of_each(const std::vector<Row>& rows) {
  std::string table;
  std::string heading;
  for (const auto& row : rows) {
    const std::string of_row = fmt::format("## {}, {}\n\n", row.data_set, row.category);
    if (of_row != heading) {
      heading = of_row;
      table += (table.empty() ? "" : "\n") + heading + "| report |";
      std::string rule = "|---|";
      for (const auto& metric : kMetrics) {
        table += fmt::format(" {} |", metric.title);
        rule += "---|";
      }
      table += " false alarms | missed |\n" + rule + "---|---|\n";
    }
    std::string line = line_of(row.path.parent_path().string(), row.figures);
    line.pop_back();
    const auto of = [](const std::string& count, const std::string& all) {
      return count.empty() ? std::string("-") : count + " of " + all;
    };
    table += line + fmt::format(" {} | {} |\n", of(row.false_positives, row.good),
                                of(row.missed, row.anomalous));
  }
  return table;
}

/// Seeds are averaged, but not over what was made in another way.
void require_same_options(const Row& a, const Row& b) {
  std::set<std::string> names;
  for (const Row* row : {&a, &b}) {
    for (const auto& [name, unused] : row->made_with.items()) names.insert(name);
  }
  for (const auto& name : names) {
    const Json of_a = a.made_with.value(name, Json());
    const Json of_b = b.made_with.value(name, Json());
    // A release may have options that an earlier one had not.
    require(of_a.is_null() || of_b.is_null() || of_a == of_b,
            "{} and {} are of the same category and size, but one was made with {} {} and the "
            "other with {}; --each gives every report a row of its own",
            a.path.string(), b.path.string(), name, of_a.dump(), of_b.dump());
  }
}

}  // namespace

std::vector<FoundReport> find_reports(const std::vector<fs::path>& folders) {
  std::vector<FoundReport> found;
  // One that lies in two of the folders counts once.
  std::set<fs::path> known;
  for (const auto& folder : folders) {
    require(fs::is_directory(folder), "{}: there is no such folder", folder.string());
    std::error_code error;
    fs::recursive_directory_iterator entry(folder, error);
    while (!error && entry != fs::recursive_directory_iterator()) {
      const fs::path path = entry->path();
      // Large, and another program may just be replacing what is in it.
      if (path.filename() == "anomaly_maps") entry.disable_recursion_pending();
      if (path.filename() == "report.json" && entry->is_regular_file(error) &&
          known.insert(fs::weakly_canonical(path)).second) {
        found.push_back({path, parse_json<Json>(read_file(path), path.string())});
      }
      entry.increment(error);
      require(!error, "{}: what comes after {} cannot be read: {}", folder.string(), path.string(),
              error.message());
    }
    require(!error, "{}: cannot be read: {}", folder.string(), error.message());
  }
  std::sort(found.begin(), found.end(),
            [](const FoundReport& a, const FoundReport& b) { return a.path < b.path; });
  return found;
}

Collection collect(std::vector<FoundReport> reports, bool each) {
  std::vector<Row> rows;
  for (const auto& found : reports) rows.push_back(row_of(found));
  std::stable_sort(rows.begin(), rows.end(), [&](const Row& a, const Row& b) {
    const auto place = [](const Row& row) { return std::tie(row.data_set, row.category); };
    if (each && place(a) != place(b)) return place(a) < place(b);
    return a.key() < b.key();
  });
  for (size_t i = 1; i < rows.size() && !each; ++i) {
    require(rows[i - 1].key() != rows[i].key(),
            "{} and {} are both of {}, category {}, size {}, seed {}; --each gives every report a "
            "row of its own",
            rows[i - 1].path.string(), rows[i].path.string(), rows[i].data_set, rows[i].category,
            rows[i].model_size, rows[i].seed);
    if (std::tie(rows[i - 1].data_set, rows[i - 1].model_size, rows[i - 1].category) ==
        std::tie(rows[i].data_set, rows[i].model_size, rows[i].category)) {
      require_same_options(rows[i - 1], rows[i]);
    }
  }
  std::vector<std::string> names = {"data_set", "category", "model_size", "seed"};
  for (const auto& metric : kMetrics) names.emplace_back(metric.name);
  if (each) names.insert(names.end(), {"false_positives", "missed", "report"});
  Collection collection;
  collection.csv = csv_line(names);
  for (const auto& row : rows) {
    std::vector<std::string> fields = {row.data_set, row.category, row.model_size, row.seed};
    for (const auto& figure : row.figures) {
      fields.push_back(figure ? fmt::format("{:.6f}", *figure) : "");
    }
    if (each) {
      fields.insert(fields.end(),
                    {row.false_positives, row.missed, row.path.parent_path().string()});
    }
    collection.csv += csv_line(fields);
  }
  if (each) {
    collection.markdown = table_of_each(rows);
    return collection;
  }
  for (size_t i = 0; i < rows.size();) {
    std::vector<const Row*> together;
    const size_t first = i;
    for (; i < rows.size() && rows[i].data_set == rows[first].data_set &&
           rows[i].model_size == rows[first].model_size;
         ++i) {
      together.push_back(&rows[i]);
    }
    collection.markdown += table_of(together);
  }
  return collection;
}

}  // namespace efficientad
