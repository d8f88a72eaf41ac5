#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <sstream>

#include "cli/command.h"
#include "cli/sweep_options.h"
#include "cli/train_model.h"
#include "efficientad/core/device.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/json.h"
#include "efficientad/core/log.h"
#include "efficientad/core/progress.h"
#include "efficientad/data/csv.h"
#include "efficientad/detect/detector.h"
#include "efficientad/eval/evaluate.h"
#include "efficientad/eval/report.h"
#include "efficientad/train/ranks.h"
#include "eval/line_plot.h"

namespace efficientad::cli {

namespace fs = std::filesystem;
using efficientad::internal::LinePlot;
using efficientad::internal::PlotLine;

namespace {

using Setting = std::pair<std::string, std::string>;

const std::vector<std::string> kKeys = {"category", "settings", "shots", "seed"};
const std::vector<std::string> kFigures = {"train_images",
                                           "steps",
                                           "seconds",
                                           "image_auroc",
                                           "image_auroc_by_defect_mean",
                                           "image_average_precision",
                                           "pixel_auroc",
                                           "au_pro_0.3",
                                           "false_positives",
                                           "missed"};

std::vector<std::string> parts_of(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

/// Twice the same run would count twice.
template <class T>
bool all_differ(std::vector<T> values) {
  std::sort(values.begin(), values.end());
  return std::adjacent_find(values.begin(), values.end()) == values.end();
}

/// "1,4,all" as numbers of images; 0: all.
std::vector<int64_t> parse_shots(const std::string& text) {
  std::vector<int64_t> shots;
  for (const auto& part : parts_of(text, ',')) {
    int64_t value = 0;
    if (part != "all") {
      const auto [end, problem] = std::from_chars(part.data(), part.data() + part.size(), value);
      require_usage(problem == std::errc() && end == part.data() + part.size() && value > 0,
                    "shots is \"{}\", but \"{}\" is neither a number of images nor all", text,
                    part);
    }
    shots.push_back(value);
  }
  require_usage(!shots.empty(), "shots is empty");
  require_usage(all_differ(shots), "shots is \"{}\", which names a number twice", text);
  return shots;
}

/// Every combination of the values of all settings.
std::vector<std::vector<Setting>> combinations_of(const std::vector<std::string>& sets) {
  // Those that sweep has options of its own for, or a run's own.
  static const std::vector<std::string> kOwn = {
      "dataset", "data",   "category", "shard",  "normal_dir", "teacher",  "shots",
      "seed",    "device", "threads",  "output", "resume",     "overwrite"};
  std::vector<std::vector<Setting>> all = {{}};
  std::vector<std::string> options;
  for (const auto& set : sets) {
    const size_t equals = set.find('=');
    require_usage(equals != std::string::npos && equals > 0 && equals + 1 < set.size(),
                  "set is \"{}\", but must be a training option and values, as in "
                  "learning_rate=1e-4,4e-4",
                  set);
    options.push_back(set.substr(0, equals));
    require_usage(std::find(kOwn.begin(), kOwn.end(), options.back()) == kOwn.end(),
                  "set is \"{}\", but {} is not for it: the sweep chooses it, or has an option of "
                  "its own",
                  set, options.back());
    const auto values = parts_of(set.substr(equals + 1), ',');
    require_usage(all_differ(values), "set is \"{}\", which names a value twice", set);
    std::vector<std::vector<Setting>> longer;
    for (const auto& before : all) {
      for (const auto& value : values) {
        longer.push_back(before);
        longer.back().emplace_back(options.back(), value);
      }
    }
    all = std::move(longer);
  }
  require_usage(all_differ(options), "set is given twice for one option");
  return all;
}

std::string name_of(const std::vector<Setting>& settings) {
  std::string name;
  for (const auto& [option, value] : settings) {
    name += (name.empty() ? "" : " ") + option + "=" + value;
  }
  return name;
}

/// One run of the sweep.
struct Cell {
  std::string category = {};
  std::vector<Setting> settings = {};
  int64_t shots = 0;
  int64_t seed = 0;

  std::string shots_name() const { return shots == 0 ? "all" : std::to_string(shots); }
  /// Its columns of kKeys.
  std::vector<std::string> key() const {
    return {category, name_of(settings), shots_name(), std::to_string(seed)};
  }
  /// For people: "aliens, steps=300, 4 shots, seed 0".
  std::string text() const {
    std::string text = category.empty() ? "" : category + ", ";
    if (!settings.empty()) text += name_of(settings) + ", ";
    return text + fmt::format("{} shot{}, seed {}", shots_name(), shots == 1 ? "" : "s", seed);
  }
  fs::path folder(const fs::path& output) const {
    std::string name = name_of(settings);
    constexpr size_t kLongest = 100;
    if (name.find('/') != std::string::npos || name.size() > kLongest) {
      // No folder's name; what is left of it, and what tells it from others.
      const std::string hash = hex64(hash64(name.data(), name.size()));
      name = name.substr(0, kLongest);
      std::replace(name.begin(), name.end(), '/', '_');
      name += " " + hash;
    }
    return output / "runs" / (category.empty() ? "data" : category) /
           (name.empty() ? "default" : name) / ("shots_" + shots_name()) /
           ("seed_" + std::to_string(seed));
  }
};

TrainOptions training_of(const SweepOptions& sweep, const Cell& cell) {
  TrainOptions options;
  if (!sweep.train_config.empty()) {
    options_from_json(read_json(sweep.train_config), sweep.train_config, options);
  }
  nlohmann::json settings = nlohmann::json::object();
  for (const auto& [option, value] : cell.settings) {
    // A number, true or false as it is written, all else as text.
    settings[option] =
        nlohmann::json::accept(value) ? nlohmann::json::parse(value) : nlohmann::json(value);
  }
  options_from_json(settings, "set", options);
  options.dataset = sweep.dataset;
  options.data = sweep.data;
  options.category = cell.category;
  options.normal_dir = sweep.normal_dir;
  if (!sweep.teacher.empty()) options.teacher = sweep.teacher;
  options.shots = cell.shots;
  options.seed = cell.seed;
  options.device = sweep.device;
  options.threads = sweep.threads;
  options.output = cell.folder(sweep.output).string();
  check_train_options(options);
  return options;
}

bool holds_files(const fs::path& folder) {
  std::error_code ignored;
  for (fs::recursive_directory_iterator entry(folder, ignored), end; entry != end;
       entry.increment(ignored)) {
    if (!entry->is_directory(ignored)) return true;
  }
  return false;
}

/// What all runs have in common, of training and evaluation, must be as it was when the first rows
/// were made.
void check_same_runs(const SweepOptions& sweep, Cell cell, bool any_done) {
  cell.settings.clear();
  nlohmann::ordered_json now = options_to_json(training_of(sweep, cell));
  const nlohmann::ordered_json evaluation = options_to_json(sweep);
  for (const char* name :
       {"abnormal_dir", "normal_test_dir", "mask_dir", "engine", "precision", "shift_average"}) {
    now[fmt::format("evaluation.{}", name)] = evaluation.at(name);
  }
  for (const char* name :
       {"output", "category", "shots", "seed", "device", "threads", "resume", "overwrite"}) {
    now.erase(name);
  }
  const fs::path file = fs::path(sweep.output) / "training.json";
  if (!fs::exists(file) || !any_done) {
    write_json(file, now);
    return;
  }
  const nlohmann::json before = read_json(file);
  for (const auto& [name, value] : now.items()) {
    require_usage(
        before.contains(name) && before.at(name) == nlohmann::json(value),
        "{}: {} was {} in the runs that are there, but now is {}; use the same again, or "
        "another output folder",
        sweep.output, name,
        before.contains(name) ? dump_json(nlohmann::ordered_json(before.at(name))) : "not there",
        dump_json(value));
  }
}

/// results.csv: one row a run, kept whole at every moment.
class Results {
 public:
  explicit Results(fs::path file) : file_(std::move(file)) {
    if (!fs::exists(file_)) return;
    std::vector<std::string> names = kKeys;
    names.insert(names.end(), kFigures.begin(), kFigures.end());
    for (const auto& row : read_csv(file_, names)) rows_[key_of(row)] = row;
  }

  bool empty() const { return rows_.empty(); }
  bool has(const Cell& cell) const { return rows_.count(cell.key()) > 0; }

  void add(const Cell& cell, std::map<std::string, std::string> row) {
    const auto key = cell.key();
    for (size_t i = 0; i < kKeys.size(); ++i) row[kKeys[i]] = key[i];
    rows_[key] = std::move(row);
    std::vector<std::string> names = kKeys;
    names.insert(names.end(), kFigures.begin(), kFigures.end());
    std::string text = csv_line(names);
    for (const auto& [unused, one] : rows_) {
      std::vector<std::string> fields;
      for (const auto& name : names) fields.push_back(one.at(name));
      text += csv_line(fields);
    }
    write_file(file_, text);
  }

  const std::map<std::string, std::string>& at(const Cell& cell) const {
    return rows_.at(cell.key());
  }

 private:
  static std::vector<std::string> key_of(const std::map<std::string, std::string>& row) {
    std::vector<std::string> key;
    for (const auto& name : kKeys) key.push_back(row.at(name));
    return key;
  }

  fs::path file_;
  std::map<std::vector<std::string>, std::map<std::string, std::string>> rows_;
};

std::string number(const nlohmann::ordered_json& value) {
  return value.is_number() ? fmt::format("{:.6g}", value.get<double>()) : "";
}

/// Trains and evaluates, going on where an earlier sweep was stopped; the row of its figures.
std::map<std::string, std::string> run_cell(const SweepOptions& sweep, const Cell& cell,
                                            torch::Device device) {
  TrainOptions options = training_of(sweep, cell);
  const fs::path folder = options.output;
  const fs::path model = folder / "model.safetensors";
  const fs::path training = folder / "training.json";
  if (!fs::exists(model) || !fs::exists(training)) {
    options.resume = training_has_begun(folder);
    options.overwrite = !options.resume && fs::exists(folder);
    const TrainResult result = train_one(options, find_teacher(options), device);
    write_json(training, nlohmann::ordered_json{{"train_images", result.train_images},
                                                {"steps", options.steps},
                                                {"seconds", result.seconds}});
  }
  const Dataset dataset = open_dataset(sweep.dataset, sweep.data, cell.category, sweep.folder());
  const Detector detector(load_bundle(model), device, sweep.engine, sweep.precision,
                          sweep.shift_average);
  Progress progress("eval", static_cast<int64_t>(dataset.test.size()), "image");
  const Evaluation evaluation = evaluate(
      detector, dataset, {.output = folder / "report", .progress = [&](int64_t done, int64_t) {
                            progress.update(done);
                          }});
  progress.finish();
  const auto report =
      make_report(evaluation, dataset, &detector.bundle(), options_to_json(options));
  write_json(folder / "report" / "report.json", report);
  const nlohmann::json trained = read_json(training);
  std::map<std::string, std::string> row = {
      {"train_images", trained.at("train_images").dump()},
      {"steps", trained.at("steps").dump()},
      {"seconds", fmt::format("{:.1f}", trained.at("seconds").get<double>())},
      {"au_pro_0.3",
       report.at("au_pro").contains("0.3") ? number(report.at("au_pro").at("0.3")) : ""},
      {"false_positives", ""},
      {"missed", ""}};
  // The threshold is for scores without an average.
  if (sweep.shift_average == 1) {
    for (const char* name : {"false_positives", "missed"}) {
      row[name] = report.at("decisions").at(name).dump();
    }
  }
  for (const char* name :
       {"image_auroc", "image_auroc_by_defect_mean", "image_average_precision", "pixel_auroc"}) {
    row[name] = number(report.at(name));
  }
  return row;
}

/// What is large of a run that is done.
void tidy(const fs::path& folder) {
  for (const char* name : {"model.safetensors", "checkpoint.safetensors",
                           "checkpoint_previous.safetensors", "snapshots", "report/anomaly_maps"}) {
    std::error_code ignored;
    fs::remove_all(folder / name, ignored);
  }
}

/// Mean and deviation of a figure over the seeds.
struct Spread {
  double mean = 0;
  double deviation = 0;
  int64_t count = 0;

  /// The mean with so many decimals.
  std::string mean_text(int decimals) const {
    return count == 0 ? "–" : fmt::format("{:.{}f}", mean, decimals);
  }
  /// "0.8750 ± 0.0100"; of one value there is no deviation, and of none "–".
  std::string text() const {
    if (count == 0) return "–";
    return count > 1 ? fmt::format("{:.4f} ± {:.4f}", mean, deviation)
                     : fmt::format("{:.4f}", mean);
  }
};

Spread spread_of(const std::vector<double>& values) {
  Spread spread;
  spread.count = static_cast<int64_t>(values.size());
  for (const double value : values) spread.mean += value / static_cast<double>(values.size());
  double sum = 0;
  for (const double value : values) sum += (value - spread.mean) * (value - spread.mean);
  if (values.size() > 1) spread.deviation = std::sqrt(sum / static_cast<double>(values.size() - 1));
  return spread;
}

/// One line of the curve: a category under some settings.
struct Line {
  std::string name;
  std::vector<std::pair<std::string, Spread>> points;
};

/// The curve of image AUROC over shots, with a bar of one deviation: an SVG picture.
std::string curve_svg(const std::vector<Line>& lines, const std::vector<std::string>& shots_names) {
  LinePlot plot = {.x_label = "training images",
                   .y_label = "image AUROC",
                   .x_low = -0.5,
                   .x_high = static_cast<double>(shots_names.size()) - 0.5,
                   .y_low = 0.95,
                   .dots = true};
  for (size_t i = 0; i < shots_names.size(); ++i) {
    plot.x_ticks.push_back({static_cast<double>(i), shots_names[i]});
  }
  for (const auto& line : lines) {
    auto& curve = plot.lines.emplace_back(PlotLine{.name = line.name});
    for (const auto& [shots, spread] : line.points) {
      const auto place = std::find(shots_names.begin(), shots_names.end(), shots);
      curve.points.push_back({.x = static_cast<double>(place - shots_names.begin()),
                              .y = spread.mean,
                              .deviation = spread.deviation});
      constexpr double kRound = 20;
      plot.y_low = std::clamp(std::floor((spread.mean - spread.deviation) * kRound) / kRound, 0.0,
                              plot.y_low);
    }
  }
  return svg_file_of(plot);
}

/// The lines of what is done, and their table in Markdown.
std::pair<std::vector<Line>, std::string> summary_of(const std::vector<Cell>& cells,
                                                     const Results& results) {
  std::vector<Line> lines;
  std::string table =
      "| category | settings | shots | runs | image AUROC | by defect, mean | pixel AUROC "
      "| false alarms | missed | seconds |\n"
      "|---|---|---|---|---|---|---|---|---|---|\n";
  for (size_t i = 0; i < cells.size();) {
    const Cell& cell = cells[i];
    std::map<std::string, std::vector<double>> figures;
    // Seeds are the innermost.
    for (; i < cells.size() && cells[i].category == cell.category && cells[i].shots == cell.shots &&
           cells[i].settings == cell.settings;
         ++i) {
      if (!results.has(cells[i])) continue;
      for (const auto& [name, value] : results.at(cells[i])) {
        double parsed = 0;
        const auto [end, problem] =
            std::from_chars(value.data(), value.data() + value.size(), parsed);
        if (problem == std::errc() && end == value.data() + value.size()) {
          figures[name].push_back(parsed);
        }
      }
    }
    const std::string settings = name_of(cell.settings);
    const std::string name = cell.category + (settings.empty() ? "" : " " + settings);
    if (lines.empty() || lines.back().name != name) lines.push_back({name, {}});
    const size_t runs = figures["seconds"].size();
    if (runs == 0) continue;
    const Spread auroc = spread_of(figures["image_auroc"]);
    const Spread by_defect = spread_of(figures["image_auroc_by_defect_mean"]);
    // None of test images of one kind alone.
    if (auroc.count > 0) lines.back().points.emplace_back(cell.shots_name(), auroc);
    table += fmt::format("| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n", cell.category,
                         settings, cell.shots_name(), runs, auroc.text(), by_defect.text(),
                         spread_of(figures["pixel_auroc"]).text(),
                         spread_of(figures["false_positives"]).mean_text(1),
                         spread_of(figures["missed"]).mean_text(1),
                         spread_of(figures["seconds"]).mean_text(0));
  }
  return {lines, table};
}

/// "1", "2", … "all" in the order that was asked for.
std::vector<std::string> shots_names_of(const SweepOptions& options) {
  std::vector<std::string> names;
  for (const int64_t shots : parse_shots(options.shots)) {
    names.push_back(Cell{.shots = shots}.shots_name());
  }
  return names;
}

std::vector<Cell> cells_of(const SweepOptions& options) {
  std::vector<std::string> categories = {options.category};
  if (options.all_categories()) {
    categories = list_categories(options.dataset, options.data, options.folder());
  }
  std::vector<Cell> cells;
  for (const auto& category : categories) {
    for (const auto& settings : combinations_of(options.set)) {
      for (const int64_t shots : parse_shots(options.shots)) {
        for (int64_t seed = 0; seed < options.seeds; ++seed) {
          cells.push_back({category, settings, shots, seed});
        }
      }
    }
  }
  return cells;
}

}  // namespace

int sweep(const Arguments& arguments) {
  SweepOptions options;
  const CommonFlags common =
      parse_options(arguments,
                    "Train and evaluate over numbers of training images, seeds and options: a row "
                    "of results.csv a "
                    "run, summary.md, curve.svg. Run again, it goes on where it was stopped.",
                    options);
  require_usage(
      !Ranks::of_several(),
      "several processes can share one training, but not a sweep: start it alone (without "
      "RANK and WORLD_SIZE)");
  const auto cells = cells_of(options);
  for (const auto& cell : cells) training_of(options, cell);
  const InterruptGuard guard;
  set_threads(options.threads);
  const torch::Device device = select_device(options.device);
  const fs::path output = options.output;
  make_folder(output);
  const FolderLock lock(output, "another sweep is writing to it");
  Results results(output / "results.csv");
  check_same_runs(options, cells[0], !results.empty() || holds_files(output / "runs"));
  write_json(output / "options.json", options_to_json(options));
  const auto summarize = [&] {
    const auto [lines, table] = summary_of(cells, results);
    write_file(output / "summary.md", table);
    write_file(output / "curve.svg", curve_svg(lines, shots_names_of(options)));
    return table;
  };
  std::vector<std::string> failed;
  for (size_t i = 0; i < cells.size(); ++i) {
    if (results.has(cells[i])) continue;
    spdlog::info("run {} of {}: {}", i + 1, cells.size(), cells[i].text());
    try {
      results.add(cells[i], run_cell(options, cells[i], device));
      if (!options.keep_models) tidy(cells[i].folder(output));
    } catch (const Interrupted&) {
      throw Interrupted(fmt::format("interrupted in run {} of {}; the same command goes on", i + 1,
                                    cells.size()));
    } catch (const std::exception& error) {
      spdlog::error("{}: {}", cells[i].text(), message_of(error));
      failed.push_back(cells[i].text());
    }
    summarize();
  }
  const std::string table = summarize();
  if (common.json) {
    fmt::print("{}\n",
               dump_json(nlohmann::ordered_json{{"results", (output / "results.csv").string()},
                                                {"runs", cells.size()},
                                                {"failed", failed.size()}}));
  } else {
    fmt::print("{}\n", table);
    if (failed.size() < cells.size()) {
      fmt::print("results: {}\ncurve: {}\n", (output / "results.csv").string(),
                 (output / "curve.svg").string());
    }
  }
  require(failed.empty(), "{} of {} runs failed, first: {}", failed.size(), cells.size(),
          failed.empty() ? "" : failed[0]);
  return 0;
}

}  // namespace efficientad::cli
