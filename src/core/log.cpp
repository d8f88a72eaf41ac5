#include "efficientad/core/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

#include "efficientad/core/error.h"

namespace efficientad {

void start_logging(const std::string& level) {
  const auto number = spdlog::level::from_str(level);
  require_usage(number != spdlog::level::off || level == "off",
                "log level \"{}\" is none of trace, debug, info, warn, error, off", level);
  auto logger = spdlog::get("efficientad");
  if (!logger) logger = spdlog::stderr_color_mt("efficientad");
  logger->set_pattern("[%H:%M:%S] %^%v%$");
  logger->set_level(number);
  spdlog::set_default_logger(logger);
}

}  // namespace efficientad
