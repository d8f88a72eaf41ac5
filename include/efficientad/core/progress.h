#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace efficientad {

/// Progress of a long loop on stderr: on a terminal one line that is redrawn (bar, rate, time
/// left, a note), elsewhere a plain line every few seconds; nothing where the log leaves out
/// "info". Made and used by one thread.
class Progress {
 public:
  /// `what` names the work ("train"), `unit` what is counted ("step"). `done` > 0 where the work
  /// goes on from an earlier run; the rate counts only what is done now.
  Progress(std::string what, int64_t total, std::string unit, int64_t done = 0);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` of the total are done; `note` is shown behind (for example the losses).
  void update(int64_t done, const std::string& note = "");
  /// Ends the line. Called by the destructor if it was not before.
  void finish();

 private:
  void draw(bool last);

  std::string what_;
  std::string unit_;
  int64_t total_;
  int64_t first_;
  int64_t done_;
  std::string note_;
  bool terminal_;
  bool finished_ = false;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_draw_;
};

/// "43 s", "12 min 05 s", "3 h 20 min".
std::string format_duration(double seconds);

}  // namespace efficientad
