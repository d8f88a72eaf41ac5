#include "efficientad/core/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

namespace efficientad {

void start_logging(const std::string& level) {
  auto logger = spdlog::get("efficientad");
  if (!logger) logger = spdlog::stderr_color_mt("efficientad");
  logger->set_pattern("[%H:%M:%S] %^%v%$");
  logger->set_level(spdlog::level::from_str(level));
  spdlog::set_default_logger(logger);
}

}  // namespace efficientad
