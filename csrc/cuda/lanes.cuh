// Purpose: a warp as a vector of 32 lanes, one number a thread, with the names of simd.hpp, so that losses.hpp is one file for
// processors and devices. Every function that combines lanes must be reached by the whole warp.
#pragma once

#define KDVR_ISA cuda
#define KDVR_INLINE __device__ __forceinline__

namespace kdvr {

using Index = long long;

namespace cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

template <class T>
using Vec = T;

template <class T>
constexpr Index kLanes = 32;

KDVR_INLINE int lane() {
    return static_cast<int>(threadIdx.x) % 32;
}

template <class T>
KDVR_INLINE T load(const T* p) {
    return p[lane()];
}

template <class T>
KDVR_INLINE void store(T* p, T v) {
    p[lane()] = v;
}

template <class T>
KDVR_INLINE T splat(T x) {
    return x;
}

template <class T>
KDVR_INLINE T larger(T a, T b) {
    return a > b ? a : b;
}

template <class T>
KDVR_INLINE T absolute(T v) {
    return v < T(0) ? -v : v;
}

template <class T>
KDVR_INLINE T sum(T v) {
    for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(kAllLanes, v, step);
    return v;
}

template <class T>
KDVR_INLINE T largest(T v) {
    for (int step = 16; step > 0; step /= 2) v = larger<T>(v, __shfl_xor_sync(kAllLanes, v, step));
    return v;
}

// Lane l gets the sum over all lanes of v[l % P], P a power of two up to 32: P - 1 shuffles and one for each halving that is
// left, where P sums one by one take 5 P.
template <int P, int All = P, class T>
KDVR_INLINE T sum_each(T (&v)[P]) {
    if constexpr (P == 1) {
#pragma unroll
        for (int step = All; step < 32; step *= 2) v[0] += __shfl_xor_sync(kAllLanes, v[0], step);
        return v[0];
    } else {
        constexpr int half = P / 2;
        const bool upper = (lane() & half) != 0;
        T left[half];
#pragma unroll
        for (int i = 0; i < half; ++i) {
            const T kept = upper ? v[i + half] : v[i], sent = upper ? v[i] : v[i + half];
            left[i] = kept + __shfl_xor_sync(kAllLanes, sent, half);
        }
        return sum_each<half, All>(left);
    }
}

KDVR_INLINE float exponential(float x) {
    return expf(x);
}
KDVR_INLINE double exponential(double x) {
    return exp(x);
}
KDVR_INLINE float logarithm(float x) {
    return logf(x);
}
KDVR_INLINE double logarithm(double x) {
    return log(x);
}
KDVR_INLINE float logarithm_1p(float x) {
    return log1pf(x);
}
KDVR_INLINE double logarithm_1p(double x) {
    return log1p(x);
}

template <class T>
KDVR_INLINE T exp_nonpositive(T x) {
    return exponential(x);
}

}  // namespace cuda
}  // namespace kdvr
