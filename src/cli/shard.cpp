#include "cli/shard.h"

#include <regex>

#include "efficientad/core/error.h"

namespace efficientad::cli {

std::vector<std::string> shard_of(const std::vector<std::string>& categories,
                                  const std::string& shard) {
  if (shard.empty()) return categories;
  static const std::regex kForm("([0-9]{1,6})/([0-9]{1,6})");
  std::smatch parts;
  size_t index = 0;
  size_t count = 0;
  if (std::regex_match(shard, parts, kForm)) {
    index = std::stoul(parts[1]);
    count = std::stoul(parts[2]);
  }
  require_usage(index >= 1 && index <= count,
                "shard is \"{}\", but must be i/n with i from 1 to n, as in 2/4", shard);
  std::vector<std::string> mine;
  for (size_t i = index - 1; i < categories.size(); i += count) mine.push_back(categories[i]);
  return mine;
}

}  // namespace efficientad::cli
