#include "efficientad/core/threads.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>

namespace efficientad {
namespace {

TEST(Threads, OneThreadHereIsNoOtherThreadsMatter) {
  const int before = at::get_num_threads();
  at::set_num_threads(3);
  int here = 0;
  int beside = 0;
  std::thread([&] {
    use_one_thread_here();
    here = at::get_num_threads();
    std::thread([&] { beside = at::get_num_threads(); }).join();
  }).join();
  EXPECT_EQ(here, 1);
  EXPECT_EQ(beside, 3);
  EXPECT_EQ(at::get_num_threads(), 3);
  at::set_num_threads(before);
}

TEST(Threads, AnExceptionComesBackWhenAllAreDone) {
  for (const int64_t threads : {1, 4}) {
    std::atomic<int> done = 0;
    try {
      run_tasks(20, threads, [&](int64_t task, int64_t) {
        if (task == 5) throw std::runtime_error("task 5");
        ++done;
      });
      FAIL() << "nothing was thrown";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "task 5");
    }
    EXPECT_GE(done, 5);
    EXPECT_LT(done, 20);
  }
  // The pool goes on.
  std::atomic<int> done = 0;
  on_threads(4, [&](int64_t) { ++done; });
  EXPECT_EQ(done, 4);
}

}  // namespace
}  // namespace efficientad
