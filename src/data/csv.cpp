#include "efficientad/data/csv.h"

#include <algorithm>

#include "efficientad/core/error.h"
#include "efficientad/core/file.h"

namespace efficientad {

namespace {

using Fields = std::vector<std::string>;

/// The records of a file's text; empty lines are passed over.
std::vector<Fields> records_of(const std::string& text, const std::string& name) {
  std::vector<Fields> records;
  Fields fields;
  std::string field;
  bool quoted = false;
  bool any = false;
  const auto end_field = [&] {
    fields.push_back(std::move(field));
    field.clear();
  };
  const auto end_record = [&] {
    if (any) {
      end_field();
      records.push_back(std::move(fields));
    }
    fields.clear();
    any = false;
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c != '"') {
        field += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        field += '"';
        ++i;
      } else {
        quoted = false;
      }
    } else if (c == '"' && field.empty()) {
      quoted = true;
      any = true;
    } else if (c == ',') {
      end_field();
      any = true;
    } else if (c == '\n') {
      end_record();
    } else if (c != '\r') {
      field += c;
      any = true;
    }
  }
  require(!quoted, "{}: a quoted field does not end", name);
  end_record();
  return records;
}

}  // namespace

std::vector<std::map<std::string, std::string>> read_csv(const std::filesystem::path& file,
                                                         const std::vector<std::string>& needed) {
  std::string text = read_file(file);
  const std::string mark = "\xef\xbb\xbf";
  if (text.starts_with(mark)) text.erase(0, mark.size());
  const auto records = records_of(text, file.string());
  require(!records.empty(), "{}: is empty", file.string());
  const Fields& names = records[0];
  for (const auto& name : needed) {
    require(std::find(names.begin(), names.end(), name) != names.end(),
            "{}: its first line names no column \"{}\" (but {})", file.string(), name, join(names));
  }
  std::vector<std::map<std::string, std::string>> rows;
  for (size_t r = 1; r < records.size(); ++r) {
    require(records[r].size() == names.size(), "{}: record {} has {} fields, but the first line {}",
            file.string(), r + 1, records[r].size(), names.size());
    auto& row = rows.emplace_back();
    for (size_t i = 0; i < names.size(); ++i) row[names[i]] = records[r][i];
  }
  return rows;
}

}  // namespace efficientad
