// Purpose: one vector type per element type, for the instruction set of the including translation unit.
// The including file defines KDVR_ISA (a namespace) and KDVR_BYTES (16, 32 or 64). GCC and Clang vector extensions carry the
// arithmetic, so that the same source serves SSE2, AVX2, AVX-512 and NEON; only masked loads use intrinsics.
//
// Nothing here may instantiate a std:: template or define an ordinary inline function: the linker keeps one copy of those for
// all instruction sets, possibly the AVX-512 one. Everything lives in namespace KDVR_ISA and is always inlined.
#pragma once

#include <cstdint>
#include <cstring>

#include "views.hpp"

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#define KDVR_INLINE inline __attribute__((always_inline))

namespace kdvr::KDVR_ISA {

template <class T>
struct Simd;

template <>
struct Simd<float> {
    typedef float Vec __attribute__((vector_size(KDVR_BYTES)));
    typedef std::int32_t Int __attribute__((vector_size(KDVR_BYTES)));
    typedef double Wide __attribute__((vector_size(2 * KDVR_BYTES)));
    typedef float Quad __attribute__((vector_size(16)));
    static constexpr float log2e = 1.44269504088896341f, ln2_hi = 0.693359375f, ln2_lo = -2.12194440e-4f;
    static constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it leaves the rounded integer in the low mantissa bits
    static constexpr float exp_lowest = -87.0f;  // exp of anything below is 0 here; e^-87 = 1.6e-38
    static constexpr int mantissa_bits = 23, exp_terms = 8;
};

template <>
struct Simd<double> {
    typedef double Vec __attribute__((vector_size(KDVR_BYTES)));
    typedef std::int64_t Int __attribute__((vector_size(KDVR_BYTES)));
    typedef Vec Wide;
    typedef double Quad __attribute__((vector_size(32)));
    static constexpr double log2e = 1.4426950408889634074, ln2_hi = 6.93145751953125e-1, ln2_lo = 1.42860682030941723212e-6;
    static constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
    static constexpr double exp_lowest = -708.0;
    static constexpr int mantissa_bits = 52, exp_terms = 14;
};

template <class T>
using Vec = typename Simd<T>::Vec;

template <class T>
constexpr Index kLanes = KDVR_BYTES / static_cast<Index>(sizeof(T));

template <class T>
KDVR_INLINE Vec<T> load(const T* p) {
    Vec<T> v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

template <class T>
KDVR_INLINE void store(T* p, Vec<T> v) {
    std::memcpy(p, &v, sizeof v);
}

template <class T>
KDVR_INLINE Vec<T> splat(T x) {
    return Vec<T>{} + x;
}

// The first `count` lanes (0 < count <= lanes) from memory, zeros behind; touches nothing past p[count - 1].
template <class T>
KDVR_INLINE Vec<T> load_first(const T* p, Index count) {
#if defined(__AVX512F__) && KDVR_BYTES == 64
    if constexpr (sizeof(T) == 4) {
        return (Vec<T>)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p);
    } else {
        return (Vec<T>)_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << count) - 1), p);
    }
#elif defined(__AVX2__) && KDVR_BYTES == 32
    if constexpr (sizeof(T) == 4) {
        const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        return (Vec<T>)_mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lane));
    } else {
        const __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
        return (Vec<T>)_mm256_maskload_pd(p, _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), lane));
    }
#else
    Vec<T> v{};
    for (Index j = 0; j < count; ++j) v[j] = p[j];
    return v;
#endif
}

// Vector number `at / lanes` of an array of `size` numbers: whole where it fits, masked where the array ends.
template <class T>
KDVR_INLINE Vec<T> load_part(const T* p, Index at, Index size) {
    return at + kLanes<T> <= size ? load(p + at) : load_first(p + at, size - at);
}

template <class T>
KDVR_INLINE Vec<T> larger(Vec<T> a, Vec<T> b) {
    return a > b ? a : b;
}

template <class T>
KDVR_INLINE Vec<T> absolute(Vec<T> v) {
    return v < T(0) ? -v : v;
}

// Four vectors to four sums at once: halves are folded until one quad of lanes is left, then the quads are transposed and
// added. About six operations a sum, where summing each vector alone takes about ten.
template <class T>
KDVR_INLINE void sum4(const Vec<T>& v0, const Vec<T>& v1, const Vec<T>& v2, const Vec<T>& v3, T* out) {
    using Quad = typename Simd<T>::Quad;
    Quad q[4];
    const Vec<T> v[4] = {v0, v1, v2, v3};
    constexpr Index quads = kLanes<T> / 4;
    if constexpr (quads == 0) {  // two doubles in a vector
        for (int i = 0; i < 4; ++i) out[i] = v[i][0] + v[i][1];
        return;
    } else {
        for (int i = 0; i < 4; ++i) {
            Quad part[quads];
            std::memcpy(part, &v[i], sizeof part);
            q[i] = part[0];
            if constexpr (quads == 2) q[i] = part[0] + part[1];
            if constexpr (quads == 4) q[i] = (part[0] + part[1]) + (part[2] + part[3]);
        }
        const Quad a = __builtin_shufflevector(q[0], q[1], 0, 4, 2, 6) + __builtin_shufflevector(q[0], q[1], 1, 5, 3, 7);
        const Quad b = __builtin_shufflevector(q[2], q[3], 0, 4, 2, 6) + __builtin_shufflevector(q[2], q[3], 1, 5, 3, 7);
        const Quad s = __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
        std::memcpy(out, &s, sizeof s);
    }
}

template <class T>
KDVR_INLINE T sum(Vec<T> v) {
    T out[4];
    const Vec<T> zero{};
    sum4<T>(v, zero, zero, zero, out);
    return out[0];
}

template <class T>
KDVR_INLINE T largest(Vec<T> v) {
    T lane[kLanes<T>];
    std::memcpy(lane, &v, sizeof lane);
    for (Index half = kLanes<T> / 2; half > 0; half /= 2) {
        for (Index j = 0; j < half; ++j) lane[j] = lane[j] > lane[j + half] ? lane[j] : lane[j + half];
    }
    return lane[0];
}

// exp(x) for x <= 0. x = n ln2 + f, |f| <= ln2 / 2; Taylor in f to relative error 5e-9 (float), 4e-18 (double); 2^n by exponent
// bits. Error below 1.5 ulp (tests/test_native.py measures it); exactly 0 below exp_lowest; NaN stays NaN.
template <class T>
KDVR_INLINE Vec<T> exp_nonpositive(Vec<T> x) {
    using S = Simd<T>;
    using Int = typename S::Int;
    constexpr T inverse_factorial[14] = {
        T(1),        T(1),         T(1) / 2,      T(1) / 6,       T(1) / 24,       T(1) / 120,       T(1) / 720,
        T(1) / 5040, T(1) / 40320, T(1) / 362880, T(1) / 3628800, T(1) / 39916800, T(1) / 479001600, T(1) / 6227020800.0};
    const Vec<T> shifted = x * S::log2e + S::magic;
    const Vec<T> n = shifted - S::magic;
    const Vec<T> f = (x - n * S::ln2_hi) - n * S::ln2_lo;
    Vec<T> p = splat<T>(inverse_factorial[S::exp_terms - 1]);
#pragma GCC unroll 16
    for (int i = S::exp_terms - 2; i >= 0; --i) p = p * f + inverse_factorial[i];
    const Vec<T> y = (Vec<T>)((Int)p + ((Int)shifted << S::mantissa_bits));
    return x < S::exp_lowest ? Vec<T>{} : y;
}

}  // namespace kdvr::KDVR_ISA
