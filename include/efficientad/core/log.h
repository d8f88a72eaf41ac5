#pragma once

#include <spdlog/spdlog.h>

#include <string>

namespace efficientad {

/// Sends the program's log to stderr, "info" and above by default: plain lines with a short time.
/// `level` is one of trace, debug, info, warn, error, off.
void start_logging(const std::string& level);

}  // namespace efficientad
