#pragma once

#include <string>
#include <vector>

namespace efficientad {

/// Runs `efficientad COMMAND …`. Returns the exit status: 0 done, 1 failed, 2 bad usage or
/// configuration. Catches every exception and prints it as one line on stderr.
int run(int argc, char** argv);

/// Runs one command as a program of its own: the same function as `efficientad <command> …`.
int run_command(const std::string& command, int argc, char** argv);

}  // namespace efficientad
