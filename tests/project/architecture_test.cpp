#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>

namespace {

namespace fs = std::filesystem;

/// What each module may include (the table in CONTRIBUTING.md).
const std::map<std::string, std::set<std::string>> kMayInclude = {
    {"core", {}},
    {"data", {"core"}},
    {"nn", {"core"}},
    {"engine", {"core", "nn"}},
    {"detect", {"core", "nn", "engine"}},
    {"train", {"core", "data", "nn", "detect"}},
    {"eval", {"core", "data", "detect"}},
    {"cli", {"core", "data", "nn", "engine", "detect", "train", "eval"}},
};

/// Libraries that only some files may include.
struct Restricted {
  const char* include;
  const char* permitted;
};
constexpr Restricted kRestricted[] = {
    {"CLI/", R"(src/cli/.*)"},
    {"opencv2/", R"(src/data/(image|video|tiff)\.cpp|src/eval/.*)"},
    {"ATen/cuda/", R"(src/engine/cuda/.*)"},
    {"c10/cuda/", R"(src/engine/cuda/.*)"},
    {"cuda_", R"(src/engine/cuda/.*)"},
};

TEST(Architecture, IncludesFollowTheModuleTable) {
  const fs::path root = EFFICIENTAD_SOURCE_DIR;
  const std::regex include(R"(^\s*#include\s+[<"]([^>"]+)[>"])");
  int64_t files = 0;
  int64_t arrows = 0;
  for (const fs::path& top : {root / "include" / "efficientad", root / "src"}) {
    for (const auto& entry : fs::recursive_directory_iterator(top)) {
      const std::string ending = entry.path().extension().string();
      if (ending != ".h" && ending != ".cpp" && ending != ".cu") continue;
      const fs::path relative = fs::relative(entry.path(), top);
      if (!relative.has_parent_path()) continue;
      const std::string module = relative.begin()->string();
      ASSERT_EQ(kMayInclude.count(module), 1u) << entry.path() << " is in no known module";
      const std::string place = fs::relative(entry.path(), root).string();
      ++files;
      std::ifstream file(entry.path());
      for (std::string line; std::getline(file, line);) {
        std::smatch match;
        if (!std::regex_search(line, match, include)) continue;
        const std::string name = match[1];
        for (const auto& rule : kRestricted) {
          if (name.rfind(rule.include, 0) == 0) {
            EXPECT_TRUE(std::regex_match(place, std::regex(rule.permitted)))
                << place << " may not include " << name;
          }
        }
        std::string other = name;
        if (other.rfind("efficientad/", 0) == 0) other = other.substr(12);
        const std::string target = other.substr(0, other.find('/'));
        if (kMayInclude.count(target) == 0 || target == module) continue;
        ++arrows;
        EXPECT_TRUE(kMayInclude.at(module).count(target) > 0)
            << place << ": " << module << " may not include " << target;
      }
    }
  }
  EXPECT_GT(files, 50);
  EXPECT_GT(arrows, 50);
}

}  // namespace
