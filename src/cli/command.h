#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "efficientad/core/file.h"
#include "efficientad/core/options.h"

namespace efficientad::cli {

/// What a command is given: its name as typed (for help) and the arguments behind it.
struct Arguments {
  std::string program;
  std::vector<std::string> values;
};

/// Thrown when parsing already answered (help, version).
struct Answered {};

/// Switches that every command has beside its options.
struct CommonFlags {
  std::string config;
  std::string log_level = "info";
  bool json = false;
};

namespace internal {

inline std::string flag_name(std::string name) {
  for (char& c : name) {
    if (c == '_') c = '-';
  }
  return name;
}

void add_common(CLI::App& app, CommonFlags& common);
void parse(CLI::App& app, std::vector<std::string> values);
std::string config_path(const std::vector<std::string>& values);
nlohmann::json read_config(const std::string& path);
void finish(const CommonFlags& common);

}  // namespace internal

/// Defaults, then the JSON file of --config, then flags, then check_options(). A flag is the
/// field's name with hyphens. Throws UsageError; throws Answered after printing help or version.
template <class Options>
CommonFlags parse_options(const Arguments& arguments, const std::string& description,
                          Options& options) {
  const std::string config = internal::config_path(arguments.values);
  if (!config.empty()) options_from_json(internal::read_config(config), config, options);

  CLI::App app(description, arguments.program);
  CommonFlags common;
  options.visit([&](const std::string& name, auto& field, const OptionInfo& info) {
    using T = std::decay_t<decltype(field)>;
    const std::string flag = "--" + internal::flag_name(name);
    std::string help = info.help;
    if (info.required) help += " (required)";
    if (!info.choices.empty()) {
      help += " {";
      for (size_t i = 0; i < info.choices.size(); ++i) {
        help += (i > 0 ? "|" : "") + info.choices[i];
      }
      help += "}";
    }
    if constexpr (std::is_same_v<T, bool>) {
      // The switch that would change the default is shown, the other is understood too.
      auto* on = app.add_flag_callback(
          flag, [&field] { field = true; }, help);
      auto* off = app.add_flag_callback(
          "--no-" + internal::flag_name(name), [&field] { field = false; }, "not: " + help);
      (field ? on : off)->group("");
    } else {
      auto* option = app.add_option(info.positional ? internal::flag_name(name) + "," + flag : flag,
                                    field, help);
      option->capture_default_str();
      if constexpr (std::is_same_v<T, int64_t> || std::is_same_v<T, double>) {
        option->check([](const std::string& value) {
          return value.empty() ? std::string("is empty, but should be a number") : std::string();
        });
      }
      if constexpr (!std::is_same_v<T, std::vector<std::string>>) option->take_last();
    }
  });
  internal::add_common(app, common);
  internal::parse(app, arguments.values);
  internal::finish(common);
  check_options(options);
  return common;
}

/// Makes a folder for results. Throws UsageError if a training lives in it, whose options.json they
/// would replace.
void make_result_folder(const std::filesystem::path& folder);

// The commands, one file each. They return the exit status.
int bench(const Arguments& arguments);
int collect(const Arguments& arguments);
int dataset(const Arguments& arguments);
int distill(const Arguments& arguments);
int eval(const Arguments& arguments);
int infer(const Arguments& arguments);
int inspect(const Arguments& arguments);
int options_table(const Arguments& arguments);
int probe_shift(const Arguments& arguments);
int sweep(const Arguments& arguments);
int synth(const Arguments& arguments);
int threshold(const Arguments& arguments);
int train(const Arguments& arguments);
int verify(const Arguments& arguments);

}  // namespace efficientad::cli
