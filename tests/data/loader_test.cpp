#include "efficientad/data/loader.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <set>
#include <stdexcept>

namespace efficientad {
namespace {

TEST(prefetcher, hands_out_all_items_in_order) {
  for (const int threads : {1, 4}) {
    std::mutex mutex;
    std::multiset<int64_t> made;
    Prefetcher<int64_t> items(
        3, 203,
        [&](int64_t i) {
          // The later of two neighbours is ready first.
          if (i % 2 == 1) std::this_thread::sleep_for(std::chrono::microseconds(100));
          const std::lock_guard lock(mutex);
          made.insert(i);
          return i * i;
        },
        threads);
    for (int64_t i = 3; i < 203; ++i) {
      const auto item = items.next();
      ASSERT_TRUE(item.has_value());
      EXPECT_EQ(*item, i * i);
    }
    EXPECT_FALSE(items.next().has_value());
    EXPECT_FALSE(items.next().has_value());
    EXPECT_EQ(made.size(), 200U);
    EXPECT_EQ(std::set<int64_t>(made.begin(), made.end()).size(), 200U);
  }
}

TEST(prefetcher, works_ahead_but_not_further_than_told) {
  std::atomic<int64_t> started = 0;
  Prefetcher<int64_t> items(
      0, 100,
      [&](int64_t i) {
        ++started;
        return i;
      },
      /*threads=*/2, /*ahead=*/5);
  const auto settle = [&](int64_t count) {
    for (int wait = 0; wait < 5000 && started < count; ++wait) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return started.load();
  };
  EXPECT_EQ(settle(5), 5);
  items.next();
  items.next();
  EXPECT_EQ(settle(7), 7);
}

TEST(prefetcher, throws_where_the_item_would_have_come) {
  Prefetcher<int> items(
      0, 6,
      [](int64_t i) {
        if (i == 3) throw std::runtime_error("item 3 is broken");
        return static_cast<int>(i);
      },
      /*threads=*/3);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(items.next(), i);
  try {
    items.next();
    ADD_FAILURE() << "no exception";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "item 3 is broken");
  }
  EXPECT_EQ(items.next(), 4);
  EXPECT_EQ(items.next(), 5);
  EXPECT_FALSE(items.next().has_value());
}

TEST(prefetcher, can_be_left_early) {
  std::atomic<int> alive = 0;
  {
    Prefetcher<int> items(
        0, 1000000,
        [&](int64_t i) {
          ++alive;
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
          --alive;
          return static_cast<int>(i);
        },
        /*threads=*/4, /*ahead=*/1000000);
    items.next();
  }
  EXPECT_EQ(alive, 0);
}

TEST(prefetcher, moves_its_items) {
  Prefetcher<std::unique_ptr<int64_t>> items(
      0, 3, [](int64_t i) { return std::make_unique<int64_t>(i); });
  for (int64_t i = 0; i < 3; ++i) EXPECT_EQ(**items.next(), i);
}

TEST(prefetcher, takes_no_items_and_no_threads) {
  Prefetcher<int> none(5, 5, [](int64_t) { return 1; });
  EXPECT_FALSE(none.next().has_value());
  Prefetcher<int> threadless(
      0, 2, [](int64_t) { return 1; }, /*threads=*/0, /*ahead=*/0);
  EXPECT_EQ(threadless.next(), 1);
  EXPECT_EQ(threadless.next(), 1);
  EXPECT_FALSE(threadless.next().has_value());
}

}  // namespace
}  // namespace efficientad
