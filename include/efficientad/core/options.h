#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <vector>

#include "efficientad/core/error.h"
#include "efficientad/core/json.h"

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
// Fields are bool, int64_t, double, std::string or std::vector<std::string>.

/// The options as JSON, one key a field.
template <class Options>
nlohmann::ordered_json options_to_json(const Options& options) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  const_cast<Options&>(options).visit(
      [&](const std::string& name, const auto& field, const OptionInfo&) { json[name] = field; });
  return json;
}

namespace internal {

template <class T>
bool json_fits(const nlohmann::json& value) {
  if constexpr (std::is_same_v<T, bool>) return value.is_boolean();
  if constexpr (std::is_same_v<T, int64_t>) {
    constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
    return value.is_number_integer() &&
           (!value.is_number_unsigned() || value.get<uint64_t>() <= kMost);
  }
  if constexpr (std::is_same_v<T, double>) return value.is_number();
  if constexpr (std::is_same_v<T, std::string>) return value.is_string();
  if constexpr (std::is_same_v<T, std::vector<std::string>>) {
    if (!value.is_array()) return false;
    for (const auto& item : value) {
      if (!item.is_string()) return false;
    }
    return true;
  }
}

inline std::string range_text(const OptionInfo& info) {
  const bool open_below = info.minimum < -1e299;
  const bool open_above = info.maximum > 1e299;
  if (open_below && open_above) return "a finite number";
  if (open_above) return fmt::format("at least {}", info.minimum);
  if (open_below) return fmt::format("at most {}", info.maximum);
  return fmt::format("from {} to {}", info.minimum, info.maximum);
}

template <class T>
const char* type_name() {
  if constexpr (std::is_same_v<T, bool>) return "true or false";
  if constexpr (std::is_same_v<T, int64_t>) return "a whole number";
  if constexpr (std::is_same_v<T, double>) return "a number";
  if constexpr (std::is_same_v<T, std::string>) return "a string";
  if constexpr (std::is_same_v<T, std::vector<std::string>>) return "a list of strings";
}

}  // namespace internal

/// Sets the fields that `json` names. Throws UsageError, naming `where` and the key, for a key that
/// is no option (and lists those there are) or a value of another type.
template <class Options>
void options_from_json(const nlohmann::json& json, const std::string& where, Options& options) {
  require_usage(json.is_object(), "{}: expected a JSON object of options, found {}", where,
                json.type_name());
  std::vector<std::string> names;
  options.visit([&](const std::string& name, auto& field, const OptionInfo&) {
    using T = std::decay_t<decltype(field)>;
    names.push_back(name);
    const auto found = json.find(name);
    if (found == json.end()) return;
    require_usage(internal::json_fits<T>(*found), "{}: {} must be {}, but is {}", where, name,
                  internal::type_name<T>(), brief_json(*found));
    field = found->template get<T>();
    if constexpr (std::is_same_v<T, std::string>) {
      require_usage(field.find('\0') == std::string::npos, "{}: {} holds a NUL character", where,
                    name);
    }
  });
  for (const auto& [key, value] : json.items()) {
    bool known = false;
    for (const auto& name : names) known = known || name == key;
    require_usage(known, "{}: unknown option {}; known are {}", where, key, join(names, 100));
  }
}

/// Checks choices, ranges and required fields. Throws UsageError naming the option.
template <class Options>
void check_options(const Options& options) {
  const_cast<Options&>(options).visit([&](const std::string& name, const auto& field,
                                          const OptionInfo& info) {
    using T = std::decay_t<decltype(field)>;
    if constexpr (std::is_same_v<T, int64_t> || std::is_same_v<T, double>) {
      const double value = static_cast<double>(field);
      require_usage(value >= info.minimum && value <= info.maximum, "{} is {}, but must be {}",
                    name, field, internal::range_text(info));
    }
    if constexpr (std::is_same_v<T, std::string>) {
      bool permitted = info.choices.empty();
      for (const auto& choice : info.choices) permitted = permitted || choice == field;
      require_usage(permitted, "{} is \"{}\", but must be one of {}", name, field,
                    join(info.choices));
    }
    if constexpr (std::is_same_v<T, std::string> || std::is_same_v<T, std::vector<std::string>>) {
      require_usage(!info.required || !field.empty(), "{} is missing", name);
    }
  });
}

}  // namespace efficientad
