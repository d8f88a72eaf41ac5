#include "efficientad/core/progress.h"

#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace efficientad {

namespace {

constexpr double kTerminalSeconds = 0.1;
constexpr double kLogSeconds = 10.0;
// Sooner, a rate says nothing: the first item may have been done before this was made.
constexpr double kRateSeconds = 0.5;

double seconds_since(std::chrono::steady_clock::time_point then) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - then).count();
}

}  // namespace

std::string format_duration(double seconds) {
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02d} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02d} min", whole / 3600, whole % 3600 / 60);
}

Progress::Progress(std::string what, int64_t total, std::string unit, int64_t done)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(total),
      first_(done),
      done_(done),
      terminal_(isatty(STDERR_FILENO) != 0),
      start_(std::chrono::steady_clock::now()),
      last_draw_(start_ - std::chrono::hours(1)) {}

Progress::~Progress() { finish(); }

void Progress::update(int64_t done, const std::string& note) {
  done_ = done;
  note_ = note;
  if (seconds_since(last_draw_) >= (terminal_ ? kTerminalSeconds : kLogSeconds)) draw(false);
}

void Progress::finish() {
  if (finished_) return;
  draw(true);
  finished_ = true;
}

void Progress::draw(bool last) {
  if (!spdlog::should_log(spdlog::level::info)) return;
  last_draw_ = std::chrono::steady_clock::now();
  const double seconds = seconds_since(start_);
  const auto now = static_cast<double>(done_ - first_);
  const double rate = seconds >= kRateSeconds ? now / seconds : 0;
  std::string line = fmt::format("{} {}/{} {}s", what_, done_, total_, unit_);
  if (rate > 0) {
    line += rate >= 1 ? fmt::format("  {:.1f} {}s/s", rate, unit_)
                      : fmt::format("  {:.2f} s/{}", 1 / rate, unit_);
  }
  if (last) {
    line += "  in " + format_duration(seconds);
  } else if (rate > 0) {
    line += "  " + format_duration(static_cast<double>(total_ - done_) / rate) + " left";
  }
  if (!note_.empty()) line += "  " + note_;
  if (terminal_) {
    constexpr int kBar = 20;
    const int filled =
        total_ > 0 ? static_cast<int>(std::min<int64_t>(kBar, kBar * done_ / total_)) : kBar;
    std::string bar;
    for (int i = 0; i < kBar; ++i) bar += i < filled ? "█" : "░";
    struct winsize window {};
    const size_t columns =
        ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 30 ? window.ws_col : 80;
    // The bar's cells take three bytes but one column each.
    if (line.size() + kBar + 2 > columns) line.resize(columns - kBar - 2);
    line = fmt::format("\r\033[K{} {}{}", bar, line, last ? "\n" : "");
  } else {
    line += "\n";
  }
  // If nobody can read it, the work goes on all the same.
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace efficientad
