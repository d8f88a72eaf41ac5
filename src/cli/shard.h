#pragma once

#include <string>
#include <vector>

namespace efficientad::cli {

/// Part i of n of the categories, "i/n" counted from 1, as even as can be; empty: all. Throws
/// UsageError for another form.
std::vector<std::string> shard_of(const std::vector<std::string>& categories,
                                  const std::string& shard);

}  // namespace efficientad::cli
