#include "efficientad/core/interrupt.h"

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <thread>

namespace efficientad {
namespace {

TEST(Interrupt, OneRequestMayComeTwice) {
  const InterruptGuard guard;
  EXPECT_FALSE(interrupt_requested());
  // As a launcher does that got the signal too.
  std::raise(SIGTERM);
  std::raise(SIGTERM);
  EXPECT_TRUE(interrupt_requested());
}

TEST(InterruptDeathTest, ASecondRequestEndsTheProgram) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const InterruptGuard guard;
        std::raise(SIGINT);
        std::this_thread::sleep_for(std::chrono::milliseconds(1100));
        std::raise(SIGINT);
      },
      testing::KilledBySignal(SIGINT), "");
}

TEST(InterruptDeathTest, AWaitThatNothingElseEndsIsEnded) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const InterruptGuard guard;
        const InterruptsEnd here;
        std::raise(SIGTERM);
      },
      testing::KilledBySignal(SIGTERM), "");
}

TEST(Interrupt, ALostTerminalIsARequestUnlessItIsToBeIgnored) {
  const auto original = std::signal(SIGHUP, SIG_DFL);
  {
    const InterruptGuard guard;
    std::raise(SIGHUP);
    EXPECT_TRUE(interrupt_requested());
  }
  std::signal(SIGHUP, SIG_IGN);
  {
    const InterruptGuard guard;
    std::raise(SIGHUP);
    EXPECT_FALSE(interrupt_requested());
  }
  EXPECT_EQ(std::signal(SIGHUP, original), SIG_IGN);
}

}  // namespace
}  // namespace efficientad
