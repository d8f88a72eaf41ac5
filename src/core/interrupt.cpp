#include "efficientad/core/interrupt.h"

#include <atomic>
#include <csignal>
#include <cstdint>
#include <ctime>

namespace efficientad {

namespace {

/// Launchers send a signal that their processes got too, in the same moment.
constexpr int64_t kOneRequestMilliseconds = 1000;

// Lock-free, so that a signal handler may use them.
std::atomic<bool> requested = false;
std::atomic<bool> at_once = false;
std::atomic<int64_t> requested_at = 0;
static_assert(std::atomic<int64_t>::is_always_lock_free);
struct sigaction previous_int;
struct sigaction previous_term;
struct sigaction previous_hup;

int64_t now_milliseconds() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{time.tv_sec} * 1000 + time.tv_nsec / 1'000'000;
}

void on_signal(int signal) {
  const int64_t now = now_milliseconds();
  if (!requested && !at_once) {
    requested_at = now;
  } else if (at_once || now - requested_at > kOneRequestMilliseconds) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  requested = true;
}

}  // namespace

InterruptGuard::InterruptGuard() {
  requested = false;
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, &previous_int);
  sigaction(SIGTERM, &action, &previous_term);
  sigaction(SIGHUP, nullptr, &previous_hup);
  // nohup wants it to be ignored.
  if (previous_hup.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
}

InterruptGuard::~InterruptGuard() {
  sigaction(SIGINT, &previous_int, nullptr);
  sigaction(SIGTERM, &previous_term, nullptr);
  sigaction(SIGHUP, &previous_hup, nullptr);
}

InterruptsEnd::InterruptsEnd() { at_once = true; }

InterruptsEnd::~InterruptsEnd() { at_once = false; }

bool interrupt_requested() { return requested; }

void request_interrupt(bool value) { requested = value; }

}  // namespace efficientad
