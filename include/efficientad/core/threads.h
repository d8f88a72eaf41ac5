#pragma once

#include <cstdint>
#include <functional>

namespace efficientad {

/// Calls work(0) … work(threads - 1), each in its thread of the OpenMP pool that LibTorch uses too,
/// so that the two never run side by side; one after another if this is such a thread already. Of
/// exceptions that they throw, one is thrown when all are done (or at once, one after another).
void on_threads(int64_t threads, const std::function<void(int64_t)>& work);

/// Calls run(task, thread) for each task from 0 to `tasks` - 1, in this order, by whichever of at
/// most `threads` threads is free. Exceptions as with on_threads(); a thread that threw takes no
/// further task.
void run_tasks(int64_t tasks, int64_t threads, const std::function<void(int64_t, int64_t)>& run);

/// From now on LibTorch's operations use one thread when the calling thread calls them. For a
/// thread beside others that do the same: else each of them would start as many as there are cores.
void use_one_thread_here();

}  // namespace efficientad
