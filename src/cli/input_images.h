#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace efficientad::cli {

/// What could not be used, and why.
struct Failure {
  std::string path;
  std::string reason;
};

struct InputImages {
  std::vector<std::filesystem::path> images;
  std::vector<Failure> failures;
};

/// The images that files, folders (searched recursively) and globs stand for, each once, in the
/// order given. A path that stands for nothing is a failure, like an image that cannot be read.
/// What lies in the folder of results, if one is given, is passed over where a folder above it is
/// searched; to name an image there that a result could replace is a UsageError. Throws Error if
/// there is no image at all.
InputImages find_images(const std::vector<std::string>& paths,
                        const std::optional<std::filesystem::path>& results);

}  // namespace efficientad::cli
