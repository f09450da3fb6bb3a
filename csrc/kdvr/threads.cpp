#include "threads.hpp"

#include <algorithm>  // min
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>  // pthread_atfork
#endif
#if defined(__x86_64__)
#include <immintrin.h>  // _mm_pause
#endif

namespace kdvr::detail {

namespace {

// About 50 microseconds: longer than the serial part of a step, shorter than anyone notices.
constexpr int kSpins = 1 << 10;

void pause() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

class Pool {
  public:
    // False, and nothing done, when another job is running.
    bool try_run(Index tasks, int helpers, void (*call)(void*, Index), void* context) {
        const std::unique_lock<std::mutex> only(busy_, std::try_to_lock);
        if (!only) return false;
        grow(helpers);
        call_ = call, context_ = context, tasks_ = tasks;
        next_.store(0, std::memory_order_relaxed);
        working_.store(helpers, std::memory_order_relaxed);
        // The number of helpers rides in the low bits, so that a helper who is not wanted never looks at the job.
        const std::uint64_t job = ((job_.load(std::memory_order_relaxed) >> kHelperBits) + 1) << kHelperBits;
        job_.store(job | static_cast<std::uint64_t>(helpers));
        if (sleeping_.load() > 0) {
            {
                const std::lock_guard<std::mutex> lock(sleep_);
            }
            wake_.notify_all();
        }
        work();
        while (working_.load(std::memory_order_acquire) > 0) pause();
        return true;
    }

  private:
    static constexpr int kHelperBits = 10;
    static_assert(kMaxThreads < (1 << kHelperBits));

    void grow(int helpers) {
        while (static_cast<int>(threads_.size()) < helpers) {
            const int index = static_cast<int>(threads_.size());
            threads_.emplace_back([this, index, seen = job_.load()] { serve(index, seen); });
            threads_.back().detach();
        }
    }

    void work() {
        for (Index i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < tasks_;) call_(context_, i);
    }

    void serve(int index, std::uint64_t seen) {
        for (;;) {
            seen = next_job(seen);
            if (index >= static_cast<int>(seen & ((1u << kHelperBits) - 1))) continue;
            work();
            working_.fetch_sub(1, std::memory_order_release);
        }
    }

    std::uint64_t next_job(std::uint64_t seen) {
        for (int i = 0; i < kSpins; ++i) {
            const std::uint64_t job = job_.load(std::memory_order_acquire);
            if (job != seen) return job;
            pause();
        }
        std::unique_lock<std::mutex> lock(sleep_);
        ++sleeping_;
        wake_.wait(lock, [&] { return job_.load() != seen; });
        --sleeping_;
        return job_.load();
    }

    std::mutex busy_, sleep_;
    std::condition_variable wake_;
    std::vector<std::thread> threads_;
    std::atomic<int> sleeping_{0};
    void (*call_)(void*, Index) = nullptr;
    void* context_ = nullptr;
    Index tasks_ = 0;
    alignas(64) std::atomic<std::uint64_t> job_{0};
    alignas(64) std::atomic<Index> next_{0};
    alignas(64) std::atomic<int> working_{0};
};

// Never destroyed: its helpers are detached and may be asleep in it when the process ends.
std::atomic<Pool*> current{nullptr};

Pool& pool() {
    static std::once_flag once;
    std::call_once(once, [] {
        current = new Pool;
#if defined(__unix__) || defined(__APPLE__)
        // Threads do not survive a fork and its mutexes may be held: the child leaves the old pool as it is.
        pthread_atfork(nullptr, nullptr, [] { current = new Pool; });
#endif
    });
    return *current.load();
}

}  // namespace

void run_tasks(Index tasks, int threads, void (*call)(void*, Index), void* context) {
    const int helpers = static_cast<int>(std::min<Index>({tasks, threads, kMaxThreads})) - 1;
    if (pool().try_run(tasks, helpers, call, context)) return;
    for (Index i = 0; i < tasks; ++i) call(context, i);
}

}  // namespace kdvr::detail
