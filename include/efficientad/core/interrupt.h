#pragma once

namespace efficientad {

/// While one of these lives, the first Ctrl-C (SIGINT), SIGTERM or SIGHUP (unless nohup had it
/// ignored) only sets a flag, so that a loop can save what it has and leave. A second one, more
/// than a second later, ends the program at once (a launcher may pass on what its processes got
/// too). The handlers that were there before return with the destructor. Programs make one;
/// libraries only ask interrupt_requested().
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
};

/// While one of these lives, within an InterruptGuard, those signals end the program at once: for a
/// wait that nothing else can end, before there is anything to save.
class InterruptsEnd {
 public:
  InterruptsEnd();
  ~InterruptsEnd();
  InterruptsEnd(const InterruptsEnd&) = delete;
  InterruptsEnd& operator=(const InterruptsEnd&) = delete;
};

/// True once the user has asked to stop.
bool interrupt_requested();

/// Sets or clears the flag by hand, from any thread, for programs that are not stopped by signals.
/// It is the process's, and stays set: all trainings and evaluations stop, and so does the next
/// one if it is not cleared before.
void request_interrupt(bool requested);

}  // namespace efficientad
