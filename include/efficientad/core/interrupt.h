#pragma once

namespace efficientad {

/// While one of these lives, the first Ctrl-C (SIGINT) or SIGTERM only sets a flag, so that a loop
/// can save what it has and leave; a second one ends the program at once. The handlers that were
/// there before return with the destructor. Programs make one; libraries only ask
/// interrupt_requested().
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
};

/// True once the user has asked to stop.
bool interrupt_requested();

/// Sets or clears the flag by hand (tests).
void request_interrupt(bool requested);

}  // namespace efficientad
