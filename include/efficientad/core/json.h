#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace efficientad {

/// Parses JSON of any origin. Throws Error beginning with `where` (a file's name) if it is no JSON
/// (with line and column), gives a key of an object twice, holds a number too large for a double,
/// or is nested deeper than 64 levels. `Json` is nlohmann::json or nlohmann::ordered_json.
template <class Json>
Json parse_json(std::string_view text, const std::string& where);

extern template nlohmann::json parse_json(std::string_view, const std::string&);
extern template nlohmann::ordered_json parse_json(std::string_view, const std::string&);

/// Text of JSON, on one line if `indent` is -1. Bytes that are no UTF-8 (a file's name may hold
/// any) become U+FFFD.
template <class Json>
std::string dump_json(const Json& value, int indent = -1);

extern template std::string dump_json(const nlohmann::json&, int);
extern template std::string dump_json(const nlohmann::ordered_json&, int);

/// dump_json() for a message: long text is cut.
template <class Json>
std::string brief_json(const Json& value);

extern template std::string brief_json(const nlohmann::json&);
extern template std::string brief_json(const nlohmann::ordered_json&);

}  // namespace efficientad
