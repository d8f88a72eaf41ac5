#include "efficientad/core/interrupt.h"

#include <csignal>
#include <cstdint>
#include <ctime>

namespace efficientad {

namespace {

/// Launchers send a signal that their processes got too, in the same moment.
constexpr int64_t kOneRequestMilliseconds = 1000;

volatile std::sig_atomic_t requested = 0;
volatile std::sig_atomic_t at_once = 0;
volatile int64_t requested_at = 0;
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
  if (requested == 0 && at_once == 0) {
    requested_at = now;
  } else if (at_once != 0 || now - requested_at > kOneRequestMilliseconds) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  requested = 1;
}

}  // namespace

InterruptGuard::InterruptGuard() {
  requested = 0;
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

InterruptsEnd::InterruptsEnd() { at_once = 1; }

InterruptsEnd::~InterruptsEnd() { at_once = 0; }

bool interrupt_requested() { return requested != 0; }

void request_interrupt(bool value) { requested = value ? 1 : 0; }

}  // namespace efficientad
