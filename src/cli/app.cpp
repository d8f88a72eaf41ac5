#include "efficientad/cli/app.h"

#include <fcntl.h>
#include <torch/version.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "cli/command.h"
#include "efficientad/core/version.h"

namespace efficientad {

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
    {"serve", cli::serve, "stay loaded and score the images whose paths come on stdin"},
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

/// A file that is opened where stdin, stdout or stderr is closed would take its place, and get what
/// is printed.
void fill_standard_descriptors() {
  int file = 0;
  do {
    file = ::open("/dev/null", O_RDWR);
  } while (file >= 0 && file <= STDERR_FILENO);
  if (file >= 0) ::close(file);
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
  fill_standard_descriptors();
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
  fill_standard_descriptors();
  return guarded([&] {
    return find_command(command).function(
        {"efficientad-" + command, std::vector<std::string>(argv + 1, argv + argc)});
  });
}

}  // namespace efficientad
