// A thread of a block as a fiber: a stack of its own, entered and left by swapping the registers that a call must keep.
#pragma once

#include <sys/mman.h>

#include <new>

#include "runtime.hpp"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__)
#error "the emulator's fibers are written for x86-64"
#endif

extern "C" void shim_swap(void** from, void* to);
asm(R"(.text
.globl shim_swap
.hidden shim_swap
.type shim_swap,@function
shim_swap:
 pushq %rbp
 pushq %rbx
 pushq %r12
 pushq %r13
 pushq %r14
 pushq %r15
 movq %rsp,(%rdi)
 movq %rsi,%rsp
 popq %r15
 popq %r14
 popq %r13
 popq %r12
 popq %rbx
 popq %rbp
 ret
.size shim_swap,.-shim_swap
)");

namespace shim {

constexpr size_t kStack = 256 << 10, kGuard = 4096;

enum class State { kReady, kAtBlockBarrier, kAtCollective, kDone };

struct Fiber {
    Place place{};
    State state = State::kReady;
    void* sp = nullptr;
    char* stack = nullptr;
    // The collective where it waits, and its answer.
    Collective what = kBarrier;
    unsigned mask = 0;
    uint64_t value = 0, answer = 0;
    int lane = 0, width = 32, line = 0;
    unsigned warp_barriers = 0;

    void start(void (*entry)()) {
        if (!stack) {
            void* memory = mmap(nullptr, kGuard + kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (memory == MAP_FAILED || mprotect(memory, kGuard, PROT_NONE)) throw std::bad_alloc();
            stack = static_cast<char*>(memory) + kGuard;
        }
#if defined(__SANITIZE_ADDRESS__)
        __asan_unpoison_memory_region(stack, kStack);  // what an earlier fiber left there
#endif
        void** top = reinterpret_cast<void**>(stack + kStack);
        *--top = nullptr;
        *--top = reinterpret_cast<void*>(entry);
        for (int i = 0; i < 6; ++i) *--top = nullptr;
        sp = top;
        state = State::kReady;
        warp_barriers = 0;
    }
};

// Swaps to a fiber and back, and tells the address sanitizer whose stack it is.
class Switch {
  public:
    void enter(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
        void* fake;
        __sanitizer_start_switch_fiber(&fake, fiber.stack, kStack);
        shim_swap(&main_sp_, fiber.sp);
        __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
        shim_swap(&main_sp_, fiber.sp);
#endif
    }
    void leave(Fiber& fiber, [[maybe_unused]] bool for_good) {
#if defined(__SANITIZE_ADDRESS__)
        void* fake = nullptr;
        __sanitizer_start_switch_fiber(for_good ? nullptr : &fake, main_stack_, main_bytes_);
        shim_swap(&fiber.sp, main_sp_);
        __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
        shim_swap(&fiber.sp, main_sp_);
#endif
    }
    void arrived() {
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(nullptr, &main_stack_, &main_bytes_);
#endif
    }

  private:
    void* main_sp_ = nullptr;
#if defined(__SANITIZE_ADDRESS__)
    const void* main_stack_ = nullptr;
    size_t main_bytes_ = 0;
#endif
};

}  // namespace shim
