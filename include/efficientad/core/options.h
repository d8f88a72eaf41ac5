#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace efficientad {

/// What is said of an option beside its name and field. One declaration serves flags, JSON files
/// and the table in configs/README.md.
struct OptionInfo {
  /// One line: meaning and, where it has one, the unit.
  std::string help;
  /// Where the default comes from: "paper", or "ours: why". Empty for what is no hyper-parameter
  /// (paths, devices).
  std::string source = {};
  /// Permitted values of a string option; empty: any.
  std::vector<std::string> choices = {};
  /// Permitted range of a number, both ends included.
  double minimum = -1e300;
  double maximum = 1e300;
  /// May be given without its flag's name (a command's files).
  bool positional = false;
  /// A path or another thing without which the command cannot run.
  bool required = false;
};

// An options struct is a plain struct with a member template
//   template <class Visitor> void visit(Visitor&& visitor)
// that calls visitor(name, field, OptionInfo) once a field, in the order in which they are shown.

/// A field of an options struct.
using OptionField = std::variant<bool*, int64_t*, double*, std::string*, std::vector<std::string>*>;

struct Option {
  std::string name;
  OptionField field;
  OptionInfo info;
};

/// The options of a struct, in order; their fields are those of `options`, which must live on.
template <class Options>
std::vector<Option> list_options(Options& options) {
  std::vector<Option> list;
  options.visit([&](std::string name, auto& field, OptionInfo info) {
    list.push_back({std::move(name), &field, std::move(info)});
  });
  return list;
}

namespace internal {
nlohmann::ordered_json options_to_json(const std::vector<Option>& options);
void options_from_json(const nlohmann::json& json, const std::string& where,
                       const std::vector<Option>& options);
void check_options(const std::vector<Option>& options);
}  // namespace internal

/// The options as JSON, one key a field.
template <class Options>
nlohmann::ordered_json options_to_json(const Options& options) {
  return internal::options_to_json(list_options(const_cast<Options&>(options)));
}

/// Sets the fields that `json` names. Throws UsageError, naming `where` and the key, for a key that
/// is no option (and lists those there are) or a value of another type.
template <class Options>
void options_from_json(const nlohmann::json& json, const std::string& where, Options& options) {
  internal::options_from_json(json, where, list_options(options));
}

/// Checks choices, ranges and required fields. Throws UsageError naming the option.
template <class Options>
void check_options(const Options& options) {
  internal::check_options(list_options(const_cast<Options&>(options)));
}

}  // namespace efficientad
