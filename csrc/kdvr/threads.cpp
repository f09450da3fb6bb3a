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

// A helper looks for work this often, about 50 microseconds, before it sleeps: longer than what lies between two jobs of a
// step.
constexpr int kSpins = 1 << 10;

void pause() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// The state of a job in one word, so that taking a task is one compare-and-swap and can never mix two jobs up:
// number of the job (26 bits), helpers that may take part (8), tasks (10), taken from the front (10) and from the back (10).
struct Ticket {
    std::uint64_t word;

    static constexpr std::uint64_t from_front = std::uint64_t{1} << 10, from_back = 1;
    static Ticket make(std::uint64_t job, Index helpers, Index tasks) {
        return {job << 38 | static_cast<std::uint64_t>(helpers) << 30 | static_cast<std::uint64_t>(tasks) << 20};
    }
    std::uint64_t job() const { return word >> 38; }
    int helpers() const { return static_cast<int>(word >> 30 & 0xff); }
    Index tasks() const { return static_cast<Index>(word >> 20 & 0x3ff); }
    Index front() const { return static_cast<Index>(word >> 10 & 0x3ff); }
    Index back() const { return static_cast<Index>(word & 0x3ff); }
    bool left() const { return front() + back() < tasks(); }
};
static_assert(kMaxThreads <= 256 && kMaxTasks < 1024);

class Pool {
  public:
    // False, and nothing done, when another job is running.
    bool try_run(Index tasks, int helpers, void (*call)(void*, Index), void* context) {
        const std::unique_lock<std::mutex> only(busy_, std::try_to_lock);
        if (!only) return false;
        grow(helpers);
        call_ = call, context_ = context;
        done_.store(0, std::memory_order_relaxed);
        ticket_.store(Ticket::make(Ticket{ticket_.load()}.job() + 1, helpers, tasks).word);
        if (sleeping_.load() > 0) {
            {
                const std::lock_guard<std::mutex> lock(sleep_);
            }
            wake_.notify_all();
        }
        while (take_one(true)) {
        }
        // Waits only for tasks that a helper has begun: one that was slow to come costs nothing. If a helper lost its processor
        // in the middle of a task, yielding gives it one.
        for (int spin = 0; done_.load(std::memory_order_acquire) < tasks; ++spin) {
            if (spin < kSpins) {
                pause();
            } else {
                std::this_thread::yield();
            }
        }
        return true;
    }

  private:
    void grow(int helpers) {
        while (static_cast<int>(threads_.size()) < helpers) {
            const int index = static_cast<int>(threads_.size());
            threads_.emplace_back([this, index] { serve(index); });
            threads_.back().detach();
        }
    }

    // Takes and does one task; false when none is left. The job cannot end, nor call_ and context_ change, before it is done.
    // Half the threads begin at the front and half at the back: so of jobs that resemble each other, a thread mostly takes the
    // same tasks, and its cache holds what it asked for on the last one's behalf.
    bool take_one(bool front) {
        Ticket t{ticket_.load()};
        do {
            if (!t.left()) return false;
        } while (!ticket_.compare_exchange_weak(t.word, t.word + (front ? Ticket::from_front : Ticket::from_back)));
        call_(context_, front ? t.front() : t.tasks() - 1 - t.back());
        done_.fetch_add(1, std::memory_order_release);
        return true;
    }

    bool wanted(int index) const {
        const Ticket t{ticket_.load()};
        return index < t.helpers() && t.left();
    }

    void serve(int index) {
        for (;;) {
            int spin = 0;
            while (!wanted(index) && ++spin < kSpins) pause();
            if (spin < kSpins) {
                take_one(index % 2 == 1);
                continue;
            }
            std::unique_lock<std::mutex> lock(sleep_);
            ++sleeping_;
            wake_.wait(lock, [&] { return wanted(index); });
            --sleeping_;
        }
    }

    std::mutex busy_, sleep_;
    std::condition_variable wake_;
    std::vector<std::thread> threads_;
    std::atomic<int> sleeping_{0};
    void (*call_)(void*, Index) = nullptr;
    void* context_ = nullptr;
    alignas(64) std::atomic<std::uint64_t> ticket_{0};
    alignas(64) std::atomic<Index> done_{0};
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
    if (tasks < kMaxTasks && pool().try_run(tasks, helpers, call, context)) return;
    for (Index i = 0; i < tasks; ++i) call(context, i);
}

}  // namespace kdvr::detail
