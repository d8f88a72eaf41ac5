#include "efficientad/core/options.h"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "efficientad/core/error.h"
#include "efficientad/core/json.h"

namespace efficientad::internal {

namespace {

bool json_fits(const nlohmann::json& value, const bool&) { return value.is_boolean(); }

bool json_fits(const nlohmann::json& value, const int64_t&) {
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
  return value.is_number_integer() &&
         (!value.is_number_unsigned() || value.get<uint64_t>() <= kMost);
}

bool json_fits(const nlohmann::json& value, const double&) { return value.is_number(); }

bool json_fits(const nlohmann::json& value, const std::string&) { return value.is_string(); }

bool json_fits(const nlohmann::json& value, const std::vector<std::string>&) {
  return value.is_array() &&
         std::all_of(value.begin(), value.end(), [](const auto& item) { return item.is_string(); });
}

const char* type_name(const bool&) { return "true or false"; }
const char* type_name(const int64_t&) { return "a whole number"; }
const char* type_name(const double&) { return "a number"; }
const char* type_name(const std::string&) { return "a string"; }
const char* type_name(const std::vector<std::string>&) { return "a list of strings"; }

std::string range_text(const OptionInfo& info) {
  const bool open_below = info.minimum < -1e299;
  const bool open_above = info.maximum > 1e299;
  if (open_below && open_above) return "a finite number";
  if (open_above) return fmt::format("at least {}", info.minimum);
  if (open_below) return fmt::format("at most {}", info.maximum);
  return fmt::format("from {} to {}", info.minimum, info.maximum);
}

}  // namespace

nlohmann::ordered_json options_to_json(const std::vector<Option>& options) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& option : options) {
    std::visit([&](const auto* field) { json[option.name] = *field; }, option.field);
  }
  return json;
}

void options_from_json(const nlohmann::json& json, const std::string& where,
                       const std::vector<Option>& options) {
  require_usage(json.is_object(), "{}: expected a JSON object of options, found {}", where,
                json.type_name());
  std::vector<std::string> names;
  for (const auto& option : options) {
    names.push_back(option.name);
    const auto found = json.find(option.name);
    if (found == json.end()) continue;
    std::visit(
        [&](auto* field) {
          require_usage(json_fits(*found, *field), "{}: {} must be {}, but is {}", where,
                        option.name, type_name(*field), brief_json(*found));
          found->get_to(*field);
        },
        option.field);
    if (const auto* text = std::get_if<std::string*>(&option.field)) {
      require_usage((*text)->find('\0') == std::string::npos, "{}: {} holds a NUL character", where,
                    option.name);
    }
  }
  for (const auto& [key, value] : json.items()) {
    require_usage(std::find(names.begin(), names.end(), key) != names.end(),
                  "{}: unknown option {}; known are {}", where, key, join(names, 100));
  }
}

void check_options(const std::vector<Option>& options) {
  for (const auto& [name, any_field, info] : options) {
    std::visit(
        [&, &name = name, &info = info](const auto* field) {
          using T = std::decay_t<decltype(*field)>;
          if constexpr (std::is_same_v<T, int64_t> || std::is_same_v<T, double>) {
            const double value = static_cast<double>(*field);
            require_usage(value >= info.minimum && value <= info.maximum,
                          "{} is {}, but must be {}", name, *field, range_text(info));
          }
          if constexpr (std::is_same_v<T, std::string>) {
            const auto& choices = info.choices;
            require_usage(choices.empty() ||
                              std::find(choices.begin(), choices.end(), *field) != choices.end(),
                          "{} is \"{}\", but must be one of {}", name, *field, join(choices));
          }
          if constexpr (std::is_same_v<T, std::string> ||
                        std::is_same_v<T, std::vector<std::string>>) {
            require_usage(!info.required || !field->empty(), "{} is missing", name);
          }
        },
        any_field);
  }
}

}  // namespace efficientad::internal
