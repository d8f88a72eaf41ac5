#include "efficientad/cli/app.h"

#include <ATen/Version.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cli/command.h"
#include "efficientad/core/log.h"
#include "efficientad/core/version.h"

namespace efficientad {

namespace cli::internal {

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

}  // namespace

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

nlohmann::json read_config(const std::string& path) {
  try {
    return read_json(path);
  } catch (const Error& error) {
    throw UsageError(error.what());
  }
}

void finish(const CommonFlags& common) { start_logging(common.log_level); }

}  // namespace cli::internal

void cli::make_result_folder(const std::filesystem::path& folder) {
  std::error_code ignored;
  require_usage(!std::filesystem::exists(folder / "train_log.csv", ignored),
                "{}: is the folder of a training; choose another output folder, such as {}",
                folder.string(), (folder / "report").string());
  make_folder(folder);
}

namespace {

struct Command {
  const char* name;
  int (*function)(const cli::Arguments&);
  const char* help;
};

constexpr Command kCommands[] = {
    {"train", cli::train, "train a detector on images of good parts"},
    {"eval", cli::eval, "measure a detector on a data set: report, scores, anomaly maps"},
    {"infer", cli::infer, "score images, and draw heat maps"},
    {"sweep", cli::sweep, "train and evaluate over numbers of images, seeds and options"},
    {"threshold", cli::threshold, "choose a model's threshold anew"},
    {"bench", cli::bench, "time a model on this machine"},
    {"verify", cli::verify, "compare the fast engine with the reference"},
    {"probe-shift", cli::probe_shift, "measure how much a shift of an image or a defect changes"},
    {"distill", cli::distill, "distil a teacher from an ImageNet backbone"},
    {"synth", cli::synth, "make the procedural data set"},
    {"dataset", cli::dataset, "say what a data set holds, and what is wrong with it"},
    {"collect", cli::collect, "put the figures of many evaluations into one table"},
    {"inspect", cli::inspect, "say what a model or teacher file is"},
    {"options-table", cli::options_table, "print the table of all options (configs/README.md)"},
};

void print_commands(std::FILE* out) {
  fmt::print(
      out,
      "efficientad {}: visual anomaly detection with EfficientAD\n\n"
      "Usage: efficientad COMMAND [OPTIONS]   (efficientad COMMAND --help for its options)\n\n"
      "Commands:\n",
      version());
  for (const auto& command : kCommands) fmt::print(out, "  {:14} {}\n", command.name, command.help);
}

/// For users; one that cannot be shown is no reason to fail otherwise.
void print_error(const std::string& message) {
  std::fputs(("error: " + message + "\n").c_str(), stderr);
}

/// What nobody could read is no result.
void check_output() {
  require(std::fflush(stdout) == 0 && std::ferror(stdout) == 0,
          "the standard output cannot be written to");
}

/// The one place where exceptions end.
template <class Function>
int guarded(Function function) {
  try {
    int status = 0;
    try {
      status = function();
    } catch (const cli::Answered&) {
    }
    check_output();
    return status;
  } catch (const UsageError& error) {
    print_error(message_of(error));
    return 2;
  } catch (const std::bad_alloc&) {
    print_error("out of memory");
    return 1;
  } catch (const std::exception& error) {
    print_error(message_of(error));
    return 1;
  }
}

const Command& find_command(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& command : kCommands) {
    if (command.name == name) return command;
    names.emplace_back(command.name);
  }
  throw UsageError("there is no command \"" + name + "\"; commands are " + join(names));
}

}  // namespace

int run(int argc, char** argv) {
  return guarded([&] {
    const std::string first = argc > 1 ? argv[1] : "";
    if (first == "--version") {
      fmt::print("efficientad {} (LibTorch {})\n", version(), TORCH_VERSION);
      return 0;
    }
    if (first.empty() || first == "--help" || first == "-h" || first == "help") {
      print_commands(first.empty() ? stderr : stdout);
      return first.empty() ? 2 : 0;
    }
    return find_command(first).function(
        {"efficientad " + first, std::vector<std::string>(argv + 2, argv + argc)});
  });
}

int run_command(const std::string& command, int argc, char** argv) {
  return guarded([&] {
    return find_command(command).function(
        {"efficientad-" + command, std::vector<std::string>(argv + 1, argv + argc)});
  });
}

}  // namespace efficientad
