#include "efficientad/core/json.h"

#include <algorithm>
#include <set>
#include <vector>

#include "efficientad/core/error.h"

namespace efficientad {

template <class Json>
Json parse_json(std::string_view text, const std::string& where) {
  constexpr size_t kDeepest = 64;
  std::vector<std::set<std::string>> keys;
  const auto check = [&](int /*depth*/, typename Json::parse_event_t event, Json& parsed) {
    using Event = typename Json::parse_event_t;
    switch (event) {
      case Event::object_start:
      case Event::array_start:
        keys.emplace_back();
        require(keys.size() <= kDeepest, "{}: its JSON is nested deeper than {} levels", where,
                kDeepest);
        break;
      case Event::object_end:
      case Event::array_end:
        keys.pop_back();
        break;
      case Event::key: {
        const auto& key = parsed.template get_ref<const std::string&>();
        require(keys.back().insert(key).second, "{}: gives {} twice", where, brief_json(parsed));
        break;
      }
      case Event::value:
        break;
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), check);
  } catch (const nlohmann::json::parse_error& error) {
    const std::string_view before = text.substr(0, error.byte > 0 ? error.byte - 1 : 0);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const size_t column = before.size() - (before.rfind('\n') + 1) + 1;
    throw Error(fmt::format("{}: no valid JSON at line {}, column {}", where, line, column));
  } catch (const nlohmann::json::out_of_range&) {
    throw Error(fmt::format("{}: its JSON holds a number that is too large", where));
  }
}

template <class Json>
std::string dump_json(const Json& value, int indent) {
  return value.dump(indent, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

template std::string dump_json(const nlohmann::json&, int);
template std::string dump_json(const nlohmann::ordered_json&, int);

template <class Json>
std::string brief_json(const Json& value) {
  constexpr size_t kMost = 100;
  std::string text = dump_json(value);
  if (text.size() <= kMost) return text;
  size_t end = kMost;
  while ((static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // Not inside a character.
  return text.substr(0, end) + "…";
}

template std::string brief_json(const nlohmann::json&);
template std::string brief_json(const nlohmann::ordered_json&);

template nlohmann::json parse_json(std::string_view, const std::string&);
template nlohmann::ordered_json parse_json(std::string_view, const std::string&);

}  // namespace efficientad
