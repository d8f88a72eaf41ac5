#pragma once

#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "support/temp_dir.h"

/// What a program left behind.
struct ProgramResult {
  int status = -1;
  std::string out;
  std::string err;
};

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// Runs `program` through the shell with `arguments` as typed there and gathers its exit status and
/// what it prints.
inline ProgramResult run_program(const std::string& program, const std::string& arguments) {
  const TempDir dir;
  const auto out = dir.path / "out";
  const auto err = dir.path / "err";
  const std::string line =
      "'" + program + "' " + arguments + " >" + out.string() + " 2>" + err.string() + " </dev/null";
  ProgramResult result;
  const int status = std::system(line.c_str());
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  result.out = read_text(out);
  result.err = read_text(err);
  return result;
}
