// Purpose: two loops that do nothing but multiply and add, and nothing but read: the floors that kernels are measured against.
#pragma once

#include "simd.hpp"

namespace kdvr::KDVR_ISA {

// rounds x 16 vectors of independent multiply-adds, x <- x y + z; returns a number that depends on all of them.
// Sixteen chains keep two units of four cycles' latency busy with some to spare.
template <class T>
T multiply_add(Index rounds) {
    Vec<T> x[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) x[i] = splat(T(i) / 16);
    const Vec<T> y = splat(T(0.999)), z = splat(T(1e-3));
    for (Index r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) x[i] = x[i] * y + z;
    }
    Vec<T> total{};
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) total += x[i];
    return sum<T>(total);
}

// The sum of p[0 .. size), size a multiple of 8 vectors.
template <class T>
T read_all(const T* p, Index size) {
    constexpr Index L = kLanes<T>;
    Vec<T> x[8] = {};
    for (Index j = 0; j < size; j += 8 * L) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) x[i] += load(p + j + i * L);
    }
    Vec<T> total{};
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) total += x[i];
    return sum<T>(total);
}

}  // namespace kdvr::KDVR_ISA
