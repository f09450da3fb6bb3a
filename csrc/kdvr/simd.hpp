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
    typedef std::uint32_t Int __attribute__((vector_size(KDVR_BYTES)));
    typedef std::int32_t Signed __attribute__((vector_size(KDVR_BYTES)));
    typedef float Half __attribute__((vector_size(KDVR_BYTES / 2)));
    static constexpr float log2e = 1.44269504088896341f, ln2_hi = 0.693359375f, ln2_lo = -2.12194440e-4f;
    static constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it leaves the rounded integer in the low mantissa bits
    static constexpr float exp_lowest = -87.0f;  // exp of anything below is 0 here; e^-87 = 1.6e-38
    static constexpr int mantissa_bits = 23, exp_terms = 8;
    static constexpr std::int32_t mantissa = (1 << 23) - 1, root_half = 0x3f3504f3;  // sqrt(1/2), its bits
};

template <>
struct Simd<double> {
    typedef double Vec __attribute__((vector_size(KDVR_BYTES)));
    typedef std::uint64_t Int __attribute__((vector_size(KDVR_BYTES)));
    typedef std::int64_t Signed __attribute__((vector_size(KDVR_BYTES)));
    static constexpr double log2e = 1.4426950408889634074, ln2_hi = 6.93145751953125e-1, ln2_lo = 1.42860682030941723212e-6;
    static constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
    static constexpr double exp_lowest = -708.0;
    static constexpr int mantissa_bits = 52, exp_terms = 14;
    static constexpr std::int64_t mantissa = (std::int64_t{1} << 52) - 1, root_half = 0x3fe6a09e667f3bcd;
};

template <class T>
using Vec = typename Simd<T>::Vec;

template <class T>
constexpr Index kLanes = KDVR_BYTES / static_cast<Index>(sizeof(T));

// 0, 1, .. as template arguments, for shuffles (std::integer_sequence would do, but nothing of std:: is to be instantiated
// here).
template <int...>
struct Lanes {};
template <int N, int... L>
struct MakeLanes : MakeLanes<N - 1, N - 1, L...> {};
template <int... L>
struct MakeLanes<0, L...> {
    using type = Lanes<L...>;
};
template <class T>
using LaneList = typename MakeLanes<static_cast<int>(kLanes<T>)>::type;

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
    return x - Vec<T>{};  // not +, which would make 0 of -0 and so cannot be left out
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

template <class T, int... L>
KDVR_INLINE typename Simd<T>::Signed lane_numbers(Lanes<L...>) {
    return typename Simd<T>::Signed{L...};
}

// 1 in one lane, 0 in the others.
template <class T>
KDVR_INLINE Vec<T> unit(Index lane) {
    using Signed = typename Simd<T>::Signed;
    const Signed wanted = static_cast<decltype(Signed{}[0])>(lane) - Signed{};
    return lane_numbers<T>(LaneList<T>{}) == wanted ? splat<T>(1) : Vec<T>{};
}

template <class T>
KDVR_INLINE Vec<T> larger(Vec<T> a, Vec<T> b) {
    return a > b ? a : b;
}

template <class T>
KDVR_INLINE Vec<T> absolute(Vec<T> v) {
    return v < T(0) ? -v : v;
}

// Lanes of (v, w) picked by a rule: Pick::lane(l, lanes) < lanes is of v, else of w.
template <class T, class Pick, int... L>
KDVR_INLINE Vec<T> shuffle_lanes(Vec<T> v, Vec<T> w, Lanes<L...>) {
    return __builtin_shufflevector(v, w, Pick::lane(L, static_cast<int>(sizeof...(L)))...);
}

template <class T, class Pick>
KDVR_INLINE Vec<T> shuffle(Vec<T> v, Vec<T> w) {
    return shuffle_lanes<T, Pick>(v, w, LaneList<T>{});
}

// In every quad of lanes: low (0 1) or high (2 3) lanes of v and w, interleaved (v w v w) or side by side (v v w w).
template <bool High, bool Interleave>
struct Quads {
    static constexpr int lane(int l, int lanes) {
        const int within = l % 4, pair = High ? 2 : 0;
        const bool second = Interleave ? within % 2 == 1 : within >= 2;
        return l - within + pair + (Interleave ? within / 2 : within % 2) + (second ? lanes : 0);
    }
};

// Lane l + Distance, wrapped around: folding with it combines the halves of a vector.
template <int Distance>
struct Rotate {
    static constexpr int lane(int l, int lanes) { return (l + Distance) % lanes; }
};

// Four vectors to four sums: the quads are transposed and added, three additions for all four vectors, and the vector of quads
// that is left is folded once. Thirteen operations where four separate sums take some thirty.
template <class T>
KDVR_INLINE void sum4(Vec<T> v0, Vec<T> v1, Vec<T> v2, Vec<T> v3, T* out) {
    if constexpr (kLanes<T> == 2) {
        out[0] = v0[0] + v0[1], out[1] = v1[0] + v1[1], out[2] = v2[0] + v2[1], out[3] = v3[0] + v3[1];
    } else {
        const Vec<T> a = shuffle<T, Quads<false, true>>(v0, v1) + shuffle<T, Quads<true, true>>(v0, v1);
        const Vec<T> b = shuffle<T, Quads<false, true>>(v2, v3) + shuffle<T, Quads<true, true>>(v2, v3);
        Vec<T> s = shuffle<T, Quads<false, false>>(a, b) + shuffle<T, Quads<true, false>>(a, b);
        if constexpr (kLanes<T> >= 16) s += shuffle<T, Rotate<8>>(s, s);
        if constexpr (kLanes<T> >= 8) s += shuffle<T, Rotate<4>>(s, s);
        std::memcpy(out, &s, 4 * sizeof(T));
    }
}

template <class T>
KDVR_INLINE T sum(Vec<T> v) {
    if constexpr (kLanes<T> >= 16) v += shuffle<T, Rotate<8>>(v, v);
    if constexpr (kLanes<T> >= 8) v += shuffle<T, Rotate<4>>(v, v);
    if constexpr (kLanes<T> >= 4) v += shuffle<T, Rotate<2>>(v, v);
    return v[0] + v[1];
}

template <class T>
KDVR_INLINE T largest(Vec<T> v) {
    if constexpr (kLanes<T> >= 16) v = larger<T>(v, shuffle<T, Rotate<8>>(v, v));
    if constexpr (kLanes<T> >= 8) v = larger<T>(v, shuffle<T, Rotate<4>>(v, v));
    if constexpr (kLanes<T> >= 4) v = larger<T>(v, shuffle<T, Rotate<2>>(v, v));
    return v[0] > v[1] ? v[0] : v[1];
}

// v in double, lane by lane through f(double vector in memory, v's part) -> what goes back to memory.
template <class T, class F>
KDVR_INLINE void update_doubles(double* p, Vec<T> v, F f) {
    if constexpr (sizeof(T) == sizeof(double)) {
        store<double>(p, f(load(p), v));
    } else {
        constexpr Index half = kLanes<double>;
        typename Simd<float>::Half part[2];
        std::memcpy(part, &v, sizeof part);
        store<double>(p, f(load(p), __builtin_convertvector(part[0], Vec<double>)));
        store<double>(p + half, f(load(p + half), __builtin_convertvector(part[1], Vec<double>)));
    }
}

// One vector from as many doubles.
template <class T>
KDVR_INLINE Vec<T> load_doubles(const double* p) {
    if constexpr (sizeof(T) == sizeof(double)) {
        return load(p);
    } else {
        using Half = typename Simd<float>::Half;
        const Half part[2] = {__builtin_convertvector(load(p), Half), __builtin_convertvector(load(p + kLanes<double>), Half)};
        Vec<T> v;
        std::memcpy(&v, part, sizeof v);
        return v;
    }
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
