#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "efficientad/core/threads.h"

namespace efficientad {

/// Makes items first, first + 1, … last - 1 in background threads and hands them out in order, at
/// most `ahead` of them ready or in the making. `make` is called from several threads at once, each
/// index once. An exception thrown by make(i) is thrown by the call of next() that would have given
/// item i; the items after it can still be had. The destructor waits for the items in the making.
/// At least one thread works, whatever `threads` says. LibTorch's operations that `make` calls use
/// one thread: each of these would else start as many as there are cores.
template <class Item>
class Prefetcher {
 public:
  Prefetcher(int64_t first, int64_t last, std::function<Item(int64_t)> make, int threads = 1,
             int64_t ahead = 8)
      : next_index_(first),
        wanted_(first),
        last_(last),
        ahead_(std::max<int64_t>({ahead, threads, 1})),
        make_(std::move(make)) {
    try {
      for (int i = 0; i < std::max(threads, 1); ++i) threads_.emplace_back([this] { work(); });
    } catch (...) {
      // The system grants no more threads: those that run must not outlive this object.
      stop();
      throw;
    }
  }

  ~Prefetcher() { stop(); }

  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  /// The next item, or nothing after the last. One thread calls this.
  std::optional<Item> next() {
    std::unique_lock lock(mutex_);
    if (wanted_ >= last_) return std::nullopt;
    ready_cv_.wait(lock, [this] { return ready_.count(wanted_) > 0; });
    auto node = ready_.extract(wanted_++);
    lock.unlock();
    room_.notify_all();
    if (node.mapped().error) std::rethrow_exception(node.mapped().error);
    return std::move(node.mapped().item);
  }

 private:
  struct Made {
    std::optional<Item> item;
    std::exception_ptr error;
  };

  void stop() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    room_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  void work() {
    use_one_thread_here();
    std::unique_lock lock(mutex_);
    for (;;) {
      room_.wait(lock, [this] {
        return stopping_ || next_index_ >= last_ || next_index_ < wanted_ + ahead_;
      });
      if (stopping_ || next_index_ >= last_) return;
      const int64_t index = next_index_++;
      lock.unlock();
      Made made;
      try {
        made.item.emplace(make_(index));
      } catch (...) {
        made.error = std::current_exception();
      }
      lock.lock();
      ready_.emplace(index, std::move(made));
      ready_cv_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable ready_cv_;
  std::condition_variable room_;
  std::map<int64_t, Made> ready_;
  int64_t next_index_;
  int64_t wanted_;
  const int64_t last_;
  const int64_t ahead_;
  bool stopping_ = false;
  std::function<Item(int64_t)> make_;
  std::vector<std::thread> threads_;
};

}  // namespace efficientad
