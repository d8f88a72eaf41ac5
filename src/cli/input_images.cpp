#include "cli/input_images.h"

#include <glob.h>

#include <set>

#include "efficientad/core/error.h"
#include "efficientad/core/file.h"
#include "efficientad/data/image.h"

namespace efficientad::cli {

namespace fs = std::filesystem;

namespace {

/// The files that a glob pattern matches, sorted.
std::vector<fs::path> matches_of(const std::string& pattern) {
  glob_t found{};
  const int status = ::glob(pattern.c_str(), GLOB_BRACE | GLOB_TILDE, nullptr, &found);
  std::vector<fs::path> paths;
  if (status == 0) paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  require(status == 0 || status == GLOB_NOMATCH, "{}: the pattern cannot be searched for", pattern);
  return paths;
}

/// Collects images for find_images().
class Finder {
 public:
  explicit Finder(const std::optional<fs::path>& results) {
    if (!results) return;
    results_ = plain_path(*results / "");
    drawn_ = {plain_path(*results / "heatmaps"), plain_path(*results / "maps")};
  }

  void add_image(const fs::path& path) {
    require_usage(!is_drawn(path),
                  "{}: lies where results are written to; choose another output folder",
                  path.string());
    if (seen_.insert(plain_path(path)).second) found.images.push_back(path);
  }

  void add_folder(const fs::path& folder) {
    const auto images = list_images(folder, /*recursive=*/true);
    if (images.empty()) found.failures.push_back({folder.string(), "the folder holds no images"});
    // From above, all results are passed over; inside, only what a run would write again.
    const bool above = results_.empty() || !is_below(plain_path(folder), results_);
    for (const auto& image : images) {
      const bool result = above ? is_result(image) : is_drawn(image) && !is_drawn(folder);
      if (!result) add_image(image);
    }
  }

  void add(const fs::path& path) {
    if (fs::is_directory(path)) {
      add_folder(path);
    } else {
      add_image(path);
    }
  }

  InputImages found;

 private:
  bool is_result(const fs::path& path) const {
    return !results_.empty() && is_below(plain_path(path), results_);
  }

  bool is_drawn(const fs::path& path) const {
    for (const auto& folder : drawn_) {
      if (is_below(plain_path(path), folder)) return true;
    }
    return false;
  }

  fs::path results_;
  std::vector<fs::path> drawn_;
  std::set<fs::path> seen_;
};

}  // namespace

InputImages find_images(const std::vector<std::string>& paths,
                        const std::optional<fs::path>& results) {
  Finder finder(results);
  InputImages& found = finder.found;
  for (const auto& path : paths) {
    std::error_code error;
    if (fs::exists(path, error)) {
      finder.add(path);
      continue;
    }
    if (path.find_first_of("*?[{~") == std::string::npos) {
      found.failures.push_back({path, "there is no such file or folder"});
      continue;
    }
    const auto matches = matches_of(path);
    if (matches.empty()) found.failures.push_back({path, "the pattern matches nothing"});
    for (const auto& match : matches) finder.add(match);
  }
  if (!found.images.empty()) return found;
  std::vector<std::string> reasons;
  for (const auto& failure : found.failures) {
    reasons.push_back(failure.path + ": " + failure.reason);
  }
  throw Error(reasons.empty() ? "there are no images to score"
                              : "there are no images to score: " + join(reasons, 3));
}

}  // namespace efficientad::cli
