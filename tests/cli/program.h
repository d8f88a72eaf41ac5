#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

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

/// Starts `program` without a shell between, so that it can be killed; what it prints on stderr
/// goes to `err`. Arguments have no blanks. `variables` are added to the environment.
inline pid_t start_program(const std::string& program, const std::string& arguments,
                           const std::string& err = "/dev/null",
                           const std::vector<std::pair<std::string, std::string>>& variables = {}) {
  std::vector<std::string> words = {program};
  std::istringstream text(arguments);
  for (std::string word; text >> word;) words.push_back(word);
  std::vector<char*> pointers;
  for (auto& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
    const int nowhere = open("/dev/null", O_RDWR);
    dup2(nowhere, STDIN_FILENO);
    dup2(nowhere, STDOUT_FILENO);
    dup2(open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), STDERR_FILENO);
    execv(pointers[0], pointers.data());
    _exit(127);
  }
  return child;
}
