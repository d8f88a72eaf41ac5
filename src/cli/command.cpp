#include "cli/command.h"

#include <torch/version.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "efficientad/core/error.h"
#include "efficientad/core/file.h"
#include "efficientad/core/json.h"
#include "efficientad/core/log.h"
#include "efficientad/core/version.h"

namespace efficientad::cli {

namespace {

/// Lists an option that is also positional under "Positionals" only.
class Formatter : public CLI::Formatter {
 public:
  std::string make_group(std::string group, bool is_positional,
                         std::vector<const CLI::Option*> options) const override {
    if (!is_positional) {
      std::erase_if(options, [](const CLI::Option* o) { return o->get_positional(); });
    }
    return CLI::Formatter::make_group(std::move(group), is_positional, std::move(options));
  }
};

std::string flag_name(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

std::string help_of(const OptionInfo& info) {
  std::string help = info.help;
  if (info.required) help += " (required)";
  if (!info.choices.empty()) {
    help += " {";
    for (size_t i = 0; i < info.choices.size(); ++i) {
      help += (i > 0 ? "|" : "") + info.choices[i];
    }
    help += "}";
  }
  return help;
}

void add_flag(CLI::App& app, const Option& option, bool& field) {
  const std::string name = flag_name(option.name);
  const std::string help = help_of(option.info);
  // The switch that would change the default is shown, the other is understood too.
  auto* on = app.add_flag_callback(
      "--" + name, [&field] { field = true; }, help);
  auto* off = app.add_flag_callback(
      "--no-" + name, [&field] { field = false; }, "not: " + help);
  (field ? on : off)->group("");
}

template <class T>
void add_value(CLI::App& app, const Option& option, T& field) {
  const std::string name = flag_name(option.name);
  auto* added = app.add_option((option.info.positional ? name + "," : "") + "--" + name, field,
                               help_of(option.info));
  added->capture_default_str();
  if constexpr (std::is_arithmetic_v<T>) {
    added->check([](const std::string& value) {
      return value.empty() ? std::string("is empty, but should be a number") : std::string();
    });
  }
  if constexpr (!std::is_same_v<T, std::vector<std::string>>) added->take_last();
}

void add_option(CLI::App& app, const Option& option) {
  std::visit(
      [&](auto* field) {
        if constexpr (std::is_same_v<decltype(field), bool*>) {
          add_flag(app, option, *field);
        } else {
          add_value(app, option, *field);
        }
      },
      option.field);
}

void add_common(CLI::App& app, CommonFlags& common) {
  app.formatter(std::make_shared<Formatter>());
  app.add_option("--config", common.config, "JSON file of options; flags override it");
  app.add_option("--log-level", common.log_level, "how much to log on stderr")
      ->check(CLI::IsMember({"debug", "info", "warn", "error", "off"}))
      ->capture_default_str();
  app.add_flag("--json", common.json, "print the result as one line of JSON on stdout");
  app.set_version_flag(
      "--version", std::string("efficientad ") + version() + " (LibTorch " + TORCH_VERSION + ")");
  app.set_help_flag("-h,--help", "print this help");
}

void parse(CLI::App& app, std::vector<std::string> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    // CLI11 would take a file or folder "[a]" for a list of one, where it expects a list.
    std::error_code ignored;
    if (!values[i].starts_with('[') || !values[i].ends_with(']') ||
        !std::filesystem::exists(values[i], ignored)) {
      continue;
    }
    const auto* option = i > 0 ? app.get_option_no_throw(values[i - 1]) : nullptr;
    const bool of_one_value = option != nullptr && option->get_expected_max() == 1;
    if (!of_one_value) values[i] = "./" + values[i];
  }
  std::reverse(values.begin(), values.end());
  try {
    app.parse(values);
  } catch (const CLI::Success& success) {
    app.exit(success);
    throw Answered{};
  } catch (const CLI::ParseError& error) {
    throw UsageError(std::string(error.what()) + "; see " + app.get_name() + " --help");
  }
}

std::string config_path(const std::vector<std::string>& values) {
  CLI::App app;
  app.allow_extras();
  app.set_help_flag();
  for (const auto& value : values) {
    if (value == "--config=") throw UsageError("config is empty");
  }
  std::string path;
  const auto* option = app.add_option("--config", path);
  std::vector<std::string> reversed(values.rbegin(), values.rend());
  try {
    app.parse(reversed);
  } catch (const CLI::ParseError& error) {
    throw UsageError(error.what());
  }
  if (path.empty() && option->count() > 0) throw UsageError("config is empty");
  if (path.empty()) return path;
  if (!std::filesystem::exists(path)) throw UsageError(path + ": no such configuration file");
  return path;
}

/// In the order of ResultKind.
constexpr std::array<const char*, 5> kHeld = {"a training", "an evaluation", "results of infer",
                                              "results of probe-shift", "a scores.csv of its own"};
constexpr std::array<const char*, 4> kNames = {"training", "report", "results", "shifts"};

/// Whose results a folder holds, by its files.
std::optional<ResultKind> results_in(const std::filesystem::path& folder) {
  std::error_code ignored;
  const auto has = [&](const char* name) {
    return std::filesystem::exists(folder / name, ignored);
  };
  for (const char* name : {"train_log.csv", "checkpoint.safetensors", "cross_fit", "replaced"}) {
    if (has(name)) return ResultKind::kTraining;
  }
  // Of one category, or of all.
  if (has("report.json") || (has("summary.md") && has("index.html"))) {
    return ResultKind::kEvaluation;
  }
  if (has("shifts.csv")) return ResultKind::kShifts;
  if (!has("scores.csv")) return std::nullopt;
  const std::string scores = read_file(folder / "scores.csv");
  const std::string columns = scores.substr(0, scores.find('\n'));
  if (columns.find("label") != std::string::npos) return ResultKind::kEvaluation;
  return columns.find("latency_ms") != std::string::npos ? ResultKind::kInference
                                                         : ResultKind::kOthers;
}

nlohmann::json read_config(const std::string& path) {
  try {
    return read_json(path);
  } catch (const Error& error) {
    throw UsageError(error.what());
  }
}

}  // namespace

CommonFlags internal::parse_options(const Arguments& arguments, const std::string& description,
                                    const std::vector<Option>& options) {
  const std::string config = config_path(arguments.values);
  if (!config.empty()) {
    efficientad::internal::options_from_json(read_config(config), config, options);
  }
  CLI::App app(description, arguments.program);
  CommonFlags common;
  for (const auto& option : options) add_option(app, option);
  add_common(app, common);
  parse(app, arguments.values);
  start_logging(common.log_level);
  efficientad::internal::check_options(options);
  return common;
}

void make_result_folder(const std::filesystem::path& folder, ResultKind kind) {
  const std::optional<ResultKind> found = results_in(folder);
  require_usage(!found || *found == kind, "{}: holds {}; choose another output folder, such as {}",
                folder.string(), found ? kHeld.at(static_cast<size_t>(*found)) : "",
                (folder / kNames.at(static_cast<size_t>(kind))).string());
  make_folder(folder);
}

}  // namespace efficientad::cli
