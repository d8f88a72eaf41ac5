#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>

#include "cli/command.h"
#include "cli/eval_options.h"
#include "cli/shard.h"
#include "efficientad/core/device.h"
#include "efficientad/core/file.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/json.h"
#include "efficientad/core/log.h"
#include "efficientad/core/progress.h"
#include "efficientad/core/version.h"
#include "efficientad/data/dataset.h"
#include "efficientad/data/saturation.h"
#include "efficientad/detect/detector.h"
#include "efficientad/eval/evaluate.h"
#include "efficientad/eval/html_report.h"
#include "efficientad/eval/report.h"

namespace efficientad::cli {

namespace fs = std::filesystem;

namespace {

using Json = nlohmann::ordered_json;

/// Where an evaluation writes: its reports, and the tree of anomaly maps of all categories.
struct Places {
  fs::path report;
  fs::path maps;
};

/// What a report depends on beside its options: program, model, engine, and names, labels, sizes
/// and times of the test images and masks.
Json inputs_of(const EvalOptions& options, const Dataset& dataset, torch::Device device) {
  uint64_t hash = hash64(nullptr, 0);
  const auto add = [&](const fs::path& file) {
    std::error_code ignored;
    const std::string state =
        fmt::format("{} {} {}\n", file.string(), fs::file_size(file, ignored),
                    fs::last_write_time(file, ignored).time_since_epoch().count());
    hash = hash64(state.data(), state.size(), hash);
  };
  for (const auto& sample : dataset.test) {
    hash = hash64(sample.defect.data(), sample.defect.size(), hash);
    add(sample.image_path);
    for (const auto& mask : sample.mask_paths) add(mask);
  }
  add(saturation_file_of(dataset));
  Json inputs = {{"program", version()}, {"test_files", hex64(hash)}};
  if (options.maps.empty()) {
    const std::string engine = resolve_engine(options.engine, device);
    inputs["model"] = hash_of_file(options.model);
    inputs["engine"] = engine;
    inputs["precision"] = resolve_engine_precision(options.precision, engine);
  }
  return inputs;
}

/// Whether a report is of these options, but for what cannot change it, and of what the files are
/// now.
bool is_current(const Json& report, const EvalOptions& options, torch::Device device) {
  if (!report.is_object() || !report.contains("options") || !report.contains("image_auroc") ||
      !report.contains("inputs") || (options.maps.empty() && !fs::exists(options.model))) {
    return false;
  }
  Json before = report.at("options");
  Json now = options_to_json(options);
  for (const char* name : {"output", "device", "threads", "batch_size", "shard"}) {
    before.erase(name);
    now.erase(name);
  }
  if (before != now) return false;
  try {
    const auto dataset = open_dataset(options.dataset, options.data, options.category,
                                      options.folder(), DatasetPart::kTest);
    return report.at("inputs") == inputs_of(options, dataset, device);
  } catch (const Error&) {
    return false;  // Who evaluates it will be told.
  }
}

/// The report in `file`, if there is one that can be read.
std::optional<Json> report_in(const fs::path& file) {
  if (!fs::exists(file)) return std::nullopt;
  try {
    return parse_json<Json>(read_file(file), file.string());
  } catch (const Error& error) {
    spdlog::warn("{}", error.what());
    return std::nullopt;
  }
}

/// Throws UsageError if the folder that the maps are to be put into holds some that no evaluation
/// of a model with this output made.
void require_own_maps(const Places& places, const std::string& category) {
  const fs::path maps = places.maps / "anomaly_maps" / category;
  std::error_code ignored;
  if (!fs::exists(maps, ignored) || fs::is_empty(maps, ignored)) return;
  const std::optional<Json> before = report_in(places.report / "options.json");
  const bool own = before && before->is_object() && before->contains("maps") &&
                   before->at("maps").is_string() && before->at("maps").get<std::string>().empty();
  require_usage(own, "{}: holds maps of something else; choose another output folder",
                maps.string());
}

/// Evaluates one category and writes its report, which is given back.
Json evaluate_one(const EvalOptions& options, const Places& places, torch::Device device) {
  const Dataset dataset = open_dataset(options.dataset, options.data, options.category,
                                       options.folder(), DatasetPart::kTest);
  // Before any of it is read: what changes meanwhile makes the report an old one.
  const Json inputs = inputs_of(options, dataset, device);
  std::optional<Detector> detector;
  if (options.maps.empty()) {
    ModelBundle bundle = load_bundle(options.model);
    const std::string engine = resolve_engine(options.engine, device);
    const std::string precision = resolve_engine_precision(options.precision, engine);
    spdlog::info("evaluate {} on {} test images of {}, engine {} in {} on {}", options.model,
                 dataset.test.size(), dataset.category, engine, precision, describe_device(device));
    warn_of_shift_average(options.model, bundle, options.shift_average);
    detector.emplace(std::move(bundle), device, engine, precision, options.shift_average);
  } else {
    require(fs::is_directory(options.maps), "{}: there is no such folder", options.maps);
    spdlog::info("evaluate the maps in {} on {} test images of {}", options.maps,
                 dataset.test.size(), dataset.category);
  }
  require_apart(dataset, places.report);
  if (detector) require_own_maps(places, dataset.category);
  make_result_folder(places.report, ResultKind::kEvaluation);
  const FolderLock lock(places.report, "another program is writing to it");
  const Json resolved = options_to_json(options);
  Progress progress("eval", static_cast<int64_t>(dataset.test.size()), "image");
  const EvaluateSettings settings = {
      .output = places.maps,
      .batch_size = options.batch_size,
      .progress = [&](int64_t done, int64_t) { progress.update(done); },
      .before_replacing =
          [&] {
            // An earlier one's; the maps are no longer its own.
            for (const char* name : {"report.json", "report.html", "scores.csv"}) {
              fs::remove(places.report / name);
            }
            // Should this be the end: whose the new ones are.
            write_json(places.report / "options.json", resolved);
          }};
  const Evaluation evaluation = detector ? evaluate(*detector, dataset, settings)
                                         : evaluate_maps(options.maps, dataset, settings);
  progress.finish();
  Json report =
      make_report(evaluation, dataset, detector ? &detector->bundle() : nullptr, resolved);
  report["inputs"] = inputs;
  write_file(places.report / "scores.csv",
             scores_csv(evaluation, /*decided=*/detector.has_value()));
  Progress drawing("report", static_cast<int64_t>(evaluation.images.size()), "image");
  const HtmlReportSettings page = {
      .train_log = detector ? fs::path(options.model).parent_path() / "train_log.csv" : fs::path(),
      .threads = torch::get_num_threads(),
      .progress = [&](int64_t done, int64_t) { drawing.update(done); }};
  write_file(places.report / "report.html", html_report(evaluation, dataset, report, page));
  drawing.finish();
  // The last: an evaluation with a report is complete.
  write_json(places.report / "report.json", report);
  return report;
}

void print_places(const Json& report, const EvalOptions& options, const Places& places) {
  fmt::print("{}\nreport: {}\nto look at: {}\nscores: {}\n", report_table(report),
             (places.report / "report.json").string(), (places.report / "report.html").string(),
             (places.report / "scores.csv").string());
  if (options.maps.empty()) {
    fmt::print("anomaly maps: {}\n",
               (places.maps / "anomaly_maps" / report.at("category").get<std::string>()).string());
  }
}

/// Every category; one that fails does not stop the others.
int evaluate_all(const EvalOptions& options, torch::Device device, bool json) {
  require_usage(!options.maps.empty() || fs::is_directory(options.model),
                "{}: with category all, model is the folder that holds the categories' trainings, "
                "as CATEGORY/model.safetensors",
                options.model);
  Json reports = Json::object();
  std::map<std::string, fs::path> pages;
  std::vector<std::string> failed;
  const auto all = list_categories(options.dataset, options.data, options.folder());
  const auto categories = shard_of(all, options.shard);
  const auto places_of = [&](const std::string& category) {
    return Places{.report = fs::path(options.output) / category, .maps = options.output};
  };
  const auto options_of = [&](const std::string& category) {
    EvalOptions one = options;
    one.category = category;
    if (options.maps.empty()) {
      one.model = (fs::path(options.model) / category / "model.safetensors").string();
    } else {
      // Not another category's, should this one have none.
      one.maps = (fs::path(options.maps) / category).string();
    }
    return one;
  };
  const auto note_page = [&](const std::string& category) {
    const fs::path page = places_of(category).report / "report.html";
    if (fs::exists(page)) pages[category] = page.lexically_relative(options.output);
  };
  for (const auto& category : categories) {
    const EvalOptions one = options_of(category);
    const Places places = places_of(category);
    try {
      const std::optional<Json> done = report_in(places.report / "report.json");
      if (options.maps.empty() && done && is_current(*done, one, device)) {
        spdlog::info("{}: is evaluated already", category);
        reports[category] = *done;
        note_page(category);
        continue;
      }
      reports[category] = evaluate_one(one, places, device);
      note_page(category);
      if (!json) print_places(reports[category], one, places);
    } catch (const Interrupted&) {
      throw;
    } catch (const std::exception& error) {
      spdlog::error("{}: {}", category, message_of(error));
      failed.push_back(category);
    }
  }
  const size_t tried = reports.size() + failed.size();
  // Those of the other shards that are there.
  for (const auto& category : all) {
    if (std::find(categories.begin(), categories.end(), category) != categories.end()) continue;
    const auto other = report_in(places_of(category).report / "report.json");
    if (!other || !is_current(*other, options_of(category), device)) continue;
    reports[category] = *other;
    note_page(category);
  }
  Json in_order = Json::object();
  for (const auto& category : all) {
    if (reports.contains(category)) in_order[category] = reports[category];
  }
  reports = in_order;
  const std::string table = reports_table(reports);
  if (!reports.empty()) {
    write_file(fs::path(options.output) / "summary.md", table);
    write_file(fs::path(options.output) / "index.html", html_index(reports, pages));
  }
  if (json) {
    fmt::print("{}\n", dump_json(reports));
  } else if (!reports.empty()) {
    fmt::print("\n{}", table);
  }
  require(failed.empty(), "{} of {} categories failed: {}", failed.size(), tried, join(failed));
  return 0;
}

}  // namespace

int eval(const Arguments& arguments) {
  EvalOptions options;
  const CommonFlags common = parse_options(
      arguments,
      "Measure a detector on the test images of a data set: report.json, report.html to look at, "
      "scores.csv and an anomaly map of each image.",
      options);
  require_usage(options.model.empty() != options.maps.empty(),
                "give a model, or the folder of maps that something else made: one of --model and "
                "--maps");
  if (!options.maps.empty()) {
    const EvalOptions defaults;
    require_usage(options.engine == defaults.engine && options.precision == defaults.precision &&
                      options.shift_average == defaults.shift_average &&
                      options.device == defaults.device &&
                      options.batch_size == defaults.batch_size,
                  "engine, device, precision, batch_size and shift_average are for --model, not "
                  "for --maps");
  }
  const InterruptGuard guard;
  set_threads(options.threads);
  const torch::Device device =
      options.maps.empty() ? select_device(options.device) : torch::Device(torch::kCPU);
  require_usage(options.all_categories() || options.shard.empty(), "shard is for category all");
  if (options.all_categories()) return evaluate_all(options, device, common.json);
  const Places places = {.report = options.output, .maps = options.output};
  const Json report = evaluate_one(options, places, device);
  if (common.json) {
    fmt::print("{}\n", dump_json(report));
  } else {
    print_places(report, options, places);
  }
  return 0;
}

}  // namespace efficientad::cli
