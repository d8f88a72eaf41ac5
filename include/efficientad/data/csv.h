#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace efficientad {

/// The rows of a CSV file (RFC 4180, in UTF-8, with or without its mark) by the names in its first
/// line. Throws Error if it cannot be read, lacks one of `needed`, or a row has another number of
/// fields.
std::vector<std::map<std::string, std::string>> read_csv(const std::filesystem::path& file,
                                                         const std::vector<std::string>& needed);

}  // namespace efficientad
