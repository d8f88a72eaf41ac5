#include "efficientad/train/ranks.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <optional>
#include <string>

#include "efficientad/core/error.h"
#include "support/expect_error.h"

namespace efficientad {
namespace {

/// While one lives, of the variables that launchers set these alone are there.
class Environment {
 public:
  explicit Environment(const std::map<std::string, std::string>& values) {
    for (const char* name : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_PROCID",
                             "SLURM_NTASKS", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"}) {
      const char* before = std::getenv(name);
      before_[name] = before == nullptr ? std::nullopt : std::optional<std::string>(before);
      unsetenv(name);
    }
    for (const auto& [name, value] : values) setenv(name.c_str(), value.c_str(), 1);
  }
  ~Environment() {
    for (const auto& [name, value] : before_) {
      if (value) {
        setenv(name.c_str(), value->c_str(), 1);
      } else {
        unsetenv(name.c_str());
      }
    }
  }

 private:
  std::map<std::string, std::optional<std::string>> before_;
};

bool several(const std::map<std::string, std::string>& values) {
  const Environment environment(values);
  return Ranks::of_several();
}

TEST(RanksOfTheEnvironment, AreThoseOfTorchrunSlurmAndOpenMpi) {
  EXPECT_FALSE(several({}));
  EXPECT_FALSE(several({{"RANK", "0"}, {"WORLD_SIZE", "1"}}));
  EXPECT_TRUE(several({{"RANK", "1"}, {"WORLD_SIZE", "2"}}));
  // A batch job has these though it is one process.
  EXPECT_FALSE(several({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}}));
  EXPECT_TRUE(several({{"SLURM_PROCID", "3"}, {"SLURM_NTASKS", "4"}, {"MASTER_ADDR", "node"}}));
  EXPECT_FALSE(several({{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "4"}}));
  EXPECT_TRUE(several(
      {{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "4"}, {"MASTER_ADDR", "node"}}));
  // torchrun within a Slurm job.
  EXPECT_FALSE(several({{"RANK", "0"},
                        {"WORLD_SIZE", "1"},
                        {"SLURM_PROCID", "3"},
                        {"SLURM_NTASKS", "4"},
                        {"MASTER_ADDR", "node"}}));
}

TEST(RanksOfTheEnvironment, ThatContradictThemselvesAreErrors) {
  EXPECT_ERROR(several({{"RANK", "2"}, {"WORLD_SIZE", "2"}}), Error,
               "RANK is 2 and WORLD_SIZE is 2");
  EXPECT_ERROR(several({{"WORLD_SIZE", "2"}}), Error, "RANK is -1 and WORLD_SIZE is 2");
  EXPECT_ERROR(several({{"RANK", "0"}}), Error, "both are needed");
  EXPECT_ERROR(several({{"RANK", "zero"}, {"WORLD_SIZE", "2"}}), Error,
               "RANK is \"zero\", but should be a whole number");
  EXPECT_ERROR(several({{"RANK", "-1"}, {"WORLD_SIZE", "2"}}), Error, "whole number");
  EXPECT_ERROR(several({{"RANK", "0"}, {"WORLD_SIZE", "12345678901"}}), Error, "whole number");
  const auto made = [](const std::map<std::string, std::string>& values) {
    const Environment environment(values);
    const Ranks ranks;
  };
  EXPECT_ERROR(made({{"RANK", "0"}, {"WORLD_SIZE", "2"}}), Error,
               "MASTER_ADDR and MASTER_PORT do not say");
  EXPECT_ERROR(made({{"RANK", "0"},
                     {"WORLD_SIZE", "2"},
                     {"MASTER_ADDR", "localhost"},
                     {"MASTER_PORT", "70000"}}),
               Error, "do not say");
}

}  // namespace
}  // namespace efficientad
