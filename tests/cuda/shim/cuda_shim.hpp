// CUDA C++ on the CPU: what nvcc knows and g++ does not. Included before a kernel's source, which is not changed for it.
//
// Blocks run one after the other, the threads of a block as fibers in an order that a seed gives. A `__shared__` array is a
// static one, refilled with NaN for every block (library.py finds them by their symbols). Not here: more than one dimension,
// streams, weak memory, timing. Results are emulated, never a GPU's.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __align__(n) alignas(n)
#define __launch_bounds__(...)
#define __shared__ static __attribute__((aligned(16)))  // more than 64 and the address sanitizer leaves it alone

namespace shim {

struct Index3 {
    unsigned x, y, z;
};

struct Place {
    Index3 thread, block, threads, blocks;
};

extern Place* here;  // of the fiber that runs

enum Collective { kIndex, kXor, kDown, kUp, kBarrier, kBallot, kAny, kAll };

void block_barrier(int line);
uint64_t collective(Collective what, unsigned mask, uint64_t value, int lane, int width, int line);
void note_atomic(void* address, int bytes, void* pc);
void* dynamic_shared();

template <class T>
T shuffle(Collective what, unsigned mask, T value, int lane, int line, int width = 32) {
    static_assert(sizeof(T) <= 8, "a shuffle moves up to 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = collective(what, mask, bits, lane, width, line);
    memcpy(&value, &bits, sizeof value);
    return value;
}

inline void warp_barrier(int line, unsigned mask = 0xffffffffu) {
    collective(kBarrier, mask, 0, 0, 32, line);
}

// Not instrumented, since it is the detector's own note that says it is atomic.
template <class T, class F>
__attribute__((noinline, no_sanitize("thread"))) T update(T* address, void* pc, F next) {
    note_atomic(address, sizeof(T), pc);
    const T old = *address;
    *address = next(old);
    return old;
}

}  // namespace shim

#define threadIdx (shim::here->thread)
#define blockIdx (shim::here->block)
#define blockDim (shim::here->threads)
#define gridDim (shim::here->blocks)
static const int warpSize = 32;

#define __syncthreads() shim::block_barrier(__LINE__)
#define __syncwarp(...) shim::warp_barrier(__LINE__ __VA_OPT__(, ) __VA_ARGS__)
#define __uint_as_float(bits) __builtin_bit_cast(float, static_cast<unsigned>(bits))
#define __shfl_sync(mask, v, lane, ...) shim::shuffle(shim::kIndex, mask, v, lane, __LINE__ __VA_OPT__(, ) __VA_ARGS__)
#define __shfl_xor_sync(mask, v, lane, ...) shim::shuffle(shim::kXor, mask, v, lane, __LINE__ __VA_OPT__(, ) __VA_ARGS__)
#define __shfl_down_sync(mask, v, lane, ...) shim::shuffle(shim::kDown, mask, v, lane, __LINE__ __VA_OPT__(, ) __VA_ARGS__)
#define __shfl_up_sync(mask, v, lane, ...) shim::shuffle(shim::kUp, mask, v, lane, __LINE__ __VA_OPT__(, ) __VA_ARGS__)
#define __ballot_sync(mask, p) static_cast<unsigned>(shim::collective(shim::kBallot, mask, !!(p), 0, 32, __LINE__))
#define __any_sync(mask, p) static_cast<int>(shim::collective(shim::kAny, mask, !!(p), 0, 32, __LINE__))
#define __all_sync(mask, p) static_cast<int>(shim::collective(shim::kAll, mask, !!(p), 0, 32, __LINE__))

template <class T>
T atomicAdd(T* address, T value) {
    return shim::update(address, __builtin_return_address(0), [=](T old) { return old + value; });
}
template <class T>
T atomicMax(T* address, T value) {
    return shim::update(address, __builtin_return_address(0), [=](T old) { return value > old ? value : old; });
}

#define __ldg(p) (*(p))
inline void __threadfence() {}
inline void __threadfence_block() {}
inline int __popc(unsigned v) {
    return __builtin_popcount(v);
}
inline int __popcll(unsigned long long v) {
    return __builtin_popcountll(v);
}
inline int __clz(int v) {
    return v ? __builtin_clz(static_cast<unsigned>(v)) : 32;
}
inline int __ffs(int v) {
    return __builtin_ffs(v);
}
inline float rsqrtf(float v) {
    return 1 / sqrtf(v);
}
inline double rsqrt(double v) {
    return 1 / sqrt(v);
}
template <class T>
T min(T a, T b) {
    return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
    return a < b ? b : a;
}
