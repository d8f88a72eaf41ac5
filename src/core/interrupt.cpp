#include "efficientad/core/interrupt.h"

#include <csignal>

namespace efficientad {

namespace {

volatile std::sig_atomic_t requested = 0;
struct sigaction previous_int;
struct sigaction previous_term;

void on_signal(int signal) {
  if (requested != 0) {
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
}

InterruptGuard::~InterruptGuard() {
  sigaction(SIGINT, &previous_int, nullptr);
  sigaction(SIGTERM, &previous_term, nullptr);
}

bool interrupt_requested() { return requested != 0; }

void request_interrupt(bool value) { requested = value ? 1 : 0; }

}  // namespace efficientad
