#pragma once

#include <spdlog/spdlog.h>

#include <string>

namespace efficientad {

/// Sends the program's log to stderr: plain lines with a short time. `level` is the least that is
/// shown, one of trace, debug, info, warn, error, off; UsageError for a name that spdlog does not
/// know. The library logs to spdlog's default logger, which this replaces; without it, it is the
/// one that the program set, or spdlog's own, which writes to stdout.
void start_logging(const std::string& level);

}  // namespace efficientad
