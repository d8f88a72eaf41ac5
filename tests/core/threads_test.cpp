#include "efficientad/core/threads.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace efficientad
