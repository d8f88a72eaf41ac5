#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "efficientad/core/error.h"
#include "efficientad/core/file.h"
#include "efficientad/core/json.h"
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
CommonFlags parse_options(const Arguments& arguments, const std::string& description,
                          const std::vector<Option>& options);
}  // namespace internal

/// Defaults, then the JSON file of --config, then flags, then check_options(). A flag is the
/// field's name with hyphens. Throws UsageError; throws Answered after printing help or version.
template <class Options>
CommonFlags parse_options(const Arguments& arguments, const std::string& description,
                          Options& options) {
  return internal::parse_options(arguments, description, list_options(options));
}

/// What a command's results are.
enum class ResultKind { kTraining, kEvaluation, kInference, kShifts, kOthers };

/// Makes a folder for results. Throws UsageError if another command's are in it, whose options.json
/// or scores.csv these would replace.
void make_result_folder(const std::filesystem::path& folder, ResultKind kind);

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
int serve(const Arguments& arguments);
int sweep(const Arguments& arguments);
int synth(const Arguments& arguments);
int threshold(const Arguments& arguments);
int train(const Arguments& arguments);
int verify(const Arguments& arguments);

}  // namespace efficientad::cli
