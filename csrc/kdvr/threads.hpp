// Purpose: a small pool of threads of our own. run() gives tasks 0 .. n-1 to the calling thread and its helpers; which thread
// takes which task is left open, so a task must write only what is its own and the result has the same bits at any thread
// count.
//
// Why not OpenMP: it hangs after fork and clashes between wheels. Here a forked child starts with a new, empty pool, and a
// second caller at the same time (or a task that calls run again) simply does its tasks itself. Helpers spin for a short while
// between jobs, since two jobs of one step are microseconds apart, and then sleep.
#pragma once

#include "views.hpp"

namespace kdvr {

// Most threads that a job uses, the caller included, and most tasks that it shares out (more are done by the caller alone).
constexpr int kMaxThreads = 256;
constexpr Index kMaxTasks = 1023;

namespace detail {
void run_tasks(Index tasks, int threads, void (*call)(void*, Index), void* context);
}

// f(task) for every task in [0, tasks), on at most `threads` threads. f must not throw.
template <class F>
void run(Index tasks, int threads, F&& f) {
    if (threads <= 1 || tasks <= 1) {
        for (Index i = 0; i < tasks; ++i) f(i);
        return;
    }
    detail::run_tasks(tasks, threads, [](void* context, Index i) { (*static_cast<F*>(context))(i); }, &f);
}

}  // namespace kdvr
