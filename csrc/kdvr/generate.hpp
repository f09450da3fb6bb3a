// Purpose: virtual rows and their targets, made where they are read; the specification is kdvr_fast/_virtual.py.
// Random words come from Philox4x32 with seven rounds (the fewest that pass BigCrush), counter (block, stream, row) and key
// seed, so that a number depends on seed, row and place alone. Stream 0 makes features, 32 of eight blocks: lane l = 2m + (0 or
// 1) is word 0 or 1 of block m and makes feature l, word 2 or 3 makes feature l + 16, and where numbers are normal both
// together make both (Box and Muller). Stream 1 makes targets, lanes being rows. Source: J. Salmon et al., "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include "residuals.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace kdvr::KDVR_ISA {

// 32-bit words in 64-bit lanes; the upper halves are whatever is left there.
using Wide = Simd<double>::Int;

// Some lanes of a vector of T, in integers of 32 bits.
template <class T, class I>
using Lanes32 = typename Packed<I, static_cast<int>(kLanes<T> * 4)>::type;

template <class V, class P>
KDVR_INLINE V load_as(const P* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

// The full products of the lower halves.
KDVR_INLINE Wide multiply_words(Wide a, std::uint64_t b) {
#if defined(__AVX512F__) && KDVR_BYTES == 64
    return (Wide)_mm512_maskz_mul_epu32(0xff, (__m512i)a, _mm512_set1_epi64(static_cast<long long>(b)));
#elif defined(__AVX2__) && KDVR_BYTES == 32
    return (Wide)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(static_cast<long long>(b)));
#elif defined(__SSE2__)
    return (Wide)_mm_mul_epu32((__m128i)a, _mm_set1_epi64x(static_cast<long long>(b)));
#elif defined(__ARM_NEON)
    return (Wide)vmull_u32(vmovn_u64((uint64x2_t)a), vdup_n_u32(static_cast<std::uint32_t>(b)));
#else
    return (a & 0xffffffff) * b;
#endif
}

struct Words {
    Wide word[4];

    // Lower halves of words 2 h and 2 h + 1, in turn.
    KDVR_INLINE Wide pairs(int h) const { return (word[2 * h] & 0xffffffff) | (word[2 * h + 1] << 32); }
};

// The seed's words as each round adds them.
struct Keys {
    std::uint64_t key[7][2];

    KDVR_INLINE explicit Keys(std::uint64_t seed) {
        std::uint64_t k0 = seed & 0xffffffff, k1 = seed >> 32;
        for (auto& round : key) {
            round[0] = k0, round[1] = k1;
            k0 = (k0 + 0x9e3779b9) & 0xffffffff, k1 = (k1 + 0xbb67ae85) & 0xffffffff;
        }
    }
};

KDVR_INLINE Words philox(Wide block, std::uint64_t stream, Wide row, const Keys& keys) {
    Wide c0 = block, c1 = Wide{} + stream, c2 = row, c3 = row >> 32;
#pragma GCC unroll 7
    for (const auto& key : keys.key) {
        const Wide p0 = multiply_words(c0, 0xd2511f53), p1 = multiply_words(c2, 0xcd9e8d57);
        c0 = (p1 >> 32) ^ c1 ^ key[0], c1 = p1;
        c2 = (p0 >> 32) ^ c3 ^ key[1], c3 = p0;
    }
    return {{c0, c1, c2, c3}};
}

// (w + 1/2) / 2^32, in (0, 1]
template <class T>
KDVR_INLINE Vec<T> unit(const std::uint32_t* w) {
    return __builtin_convertvector(load_as<Lanes32<T, std::uint32_t>>(w), Vec<T>) * T(0x1p-32) + T(0x1p-33);
}

// log(u) for 0 < u <= 1: u = m 2^e, sqrt(1/2) <= m < sqrt(2), log(m) = 2 atanh((m - 1) / (m + 1)); relative error of some eps.
template <class T>
KDVR_INLINE Vec<T> log_unit(Vec<T> u) {
    using S = Simd<T>;
    constexpr int terms = sizeof(T) == 4 ? 5 : 11;
    const auto above = (typename S::Signed)u - S::root_half;
    const Vec<T> e = __builtin_convertvector(above >> S::mantissa_bits, Vec<T>);
    const Vec<T> m = (Vec<T>)((above & S::mantissa) + S::root_half);
    const Vec<T> s = (m - T(1)) / (m + T(1)), s2 = s * s;
    Vec<T> p = splat<T>(T(2) / T(2 * terms - 1));
#pragma GCC unroll 16
    for (int i = terms - 2; i >= 0; --i) p = p * s2 + T(2) / T(2 * i + 1);
    return e * T(0.693147180559945309417232) + p * s;
}

template <class T>
KDVR_INLINE Vec<T> square_root(Vec<T> v) {
    for (Index l = 0; l < kLanes<T>; ++l)
        v[l] = sizeof(T) == 4 ? T(__builtin_sqrtf(float(v[l]))) : T(__builtin_sqrt(double(v[l])));
    return v;
}

// (-1)^i / (2 i + Odd)!
template <int Odd, int Terms>
struct Coefficients {
    double of[Terms];

    constexpr Coefficients() : of{1} {
        for (int i = 1; i < Terms; ++i) of[i] = -of[i - 1] / ((2 * i - 1 + Odd) * (2 * i + Odd));
    }
};

// Two independent normal numbers a lane: r cos(t) and r sin(t), r^2 = -2 log(u). The angle is a half turn of word v, its lowest
// bit the half.
template <class T>
struct Normals {
    Vec<T> r, x;

    KDVR_INLINE Normals(const std::uint32_t* u, const std::uint32_t* v) {
        const auto turn = load_as<Lanes32<T, std::int32_t>>(v);
        x = __builtin_convertvector(turn, Vec<T>) * T(3.14159265358979323846 * 0x1p-32);
        const Vec<T> half = T(1) - T(2) * __builtin_convertvector(turn & 1, Vec<T>);
        r = half * square_root<T>(T(-2) * log_unit<T>(unit<T>(u)));
    }
    KDVR_INLINE Vec<T> cosine() const { return r * series<0>(); }
    KDVR_INLINE Vec<T> sine() const { return r * x * series<1>(); }

  private:
    // Taylor's series in x^2, |x| <= pi / 2, of cos(x) or of sin(x) / x.
    template <int Odd>
    KDVR_INLINE Vec<T> series() const {
        constexpr int terms = sizeof(T) == 4 ? 7 : 12;
        constexpr Coefficients<Odd, terms> c;
        const Vec<T> x2 = x * x;
        Vec<T> p = splat(T(c.of[terms - 1]));
#pragma GCC unroll 16
        for (int i = terms - 2; i >= 0; --i) p = p * x2 + T(c.of[i]);
        return p;
    }
};

// Features j .. j + 31 of a row, as far as there are d, from eight blocks of words.
template <class T, Distribution D>
KDVR_INLINE void group(const std::uint32_t (*w)[16], const T* scale, Index j, Index d, T* x) {
#pragma GCC unroll 8
    for (Index l = 0; l < 16; l += kLanes<T>) {
        const Index at = j + l, second = at + 16;
        if (at >= d) return;
        if constexpr (D == Distribution::normal) {
            const Normals<T> two(w[0] + l, w[1] + l);
            store<T>(x + at, two.cosine() * load(scale + at));
            if (second < d) store<T>(x + second, two.sine() * load(scale + second));
        } else {
            constexpr T root12 = T(3.46410161513775458705);  // of variance one
            store<T>(x + at, (unit<T>(w[0] + l) - T(0.5)) * root12 * load(scale + at));
            if (second < d) store<T>(x + second, (unit<T>(w[1] + l) - T(0.5)) * root12 * load(scale + second));
        }
    }
}

template <class T, Distribution D>
void generate_rows(const VirtualRows<T>& from, const std::int64_t* rows, Index count, Index d, T* x, Index ld) {
    constexpr Index blocks = kLanes<double>;
    const Keys keys(from.seed);
    alignas(64) std::uint32_t w[2][16];
    Wide first{};
    for (Index m = 0; m < blocks; ++m) first[m] = static_cast<std::uint64_t>(m);
    for (Index i = 0; i < count; ++i) {
        const Wide row = Wide{} + static_cast<std::uint64_t>(rows[i]);
        for (Index j = 0; j < d; j += 32) {
#pragma GCC unroll 4
            for (Index m = 0; m < 8; m += blocks) {
                const Words words = philox(first + static_cast<std::uint64_t>(j / 4 + m), 0, row, keys);
                const Wide low = words.pairs(0), high = words.pairs(1);
                std::memcpy(w[0] + 2 * m, &low, sizeof low);
                std::memcpy(w[1] + 2 * m, &high, sizeof high);
            }
            group<T, D>(w, from.scale, j, d, x + i * ld);
        }
    }
}

// Rows of d numbers, ld apart, with room for whole vectors; scale is there for whole groups of 32 features, zeros beyond d.
template <class T>
void generate(const VirtualRows<T>& from, const std::int64_t* rows, Index count, Index d, T* x, Index ld) {
    if (from.distribution == Distribution::normal) {
        generate_rows<T, Distribution::normal>(from, rows, count, d, x, ld);
    } else {
        generate_rows<T, Distribution::uniform>(from, rows, count, d, x, ld);
    }
}

// Words 0 to 3 of a block of stream 1, of up to 16 rows.
struct RowWords {
    alignas(64) std::uint32_t word[4][16];

    KDVR_INLINE RowWords(const std::int64_t* rows, Index count, std::uint64_t block, const Keys& keys) {
        constexpr Index L = kLanes<double>;
        std::uint64_t row[16] = {};
        for (Index i = 0; i < count; ++i) row[i] = static_cast<std::uint64_t>(rows[i]);
        for (Index i = 0; i < count; i += L) {
            const Words words = philox(Wide{} + block, 1, load_as<Wide>(row + i), keys);
            for (int h = 0; h < 4; ++h) {
                const auto narrow = __builtin_convertvector(words.word[h], Lanes32<double, std::uint32_t>);
                std::memcpy(word[h] + i, &narrow, sizeof narrow);
            }
        }
    }
};

template <class T>
KDVR_INLINE void draw_values(const DrawJob<T>& job, const Keys& keys, const std::int64_t* rows, Index count, const T* z,
                             T* value) {
    for (Index c = 0; c < job.k; ++c) {
        const RowWords w(rows, count, static_cast<std::uint64_t>(c), keys);
        T e[16];
        for (Index i = 0; i < count; i += kLanes<T>) store<T>(e + i, Normals<T>(w.word[0] + i, w.word[2] + i).cosine());
        for (Index i = 0; i < count; ++i) value[i * job.k + c] = z[i * 2 * job.kp + c] + job.intercept[c] + job.noise * e[i];
    }
}

// Where noise asks for it, a class is drawn anew, uniformly: word 1 decides, word 2 draws.
template <class T>
void draw_classes(const DrawJob<T>& job, const Keys& keys, const std::int64_t* rows, Index count, T* z, T* value,
                  std::int64_t* label) {
    constexpr Index L = kLanes<T>;
    const RowWords w(rows, count, 0, keys);
    T u[16], v[16], p[16] = {};
    for (Index i = 0; i < 16; i += L) store<T>(u + i, unit<T>(w.word[0] + i)), store<T>(v + i, unit<T>(w.word[1] + i));
    if (job.loss == LossKind::logistic) {
        Vec<T> unused;
        for (Index i = 0; i < count; ++i) p[i] = z[i * 2 * job.kp] + job.intercept[0];
        for (Index i = 0; i < 16; i += L) store<T>(p + i, Logistic<T>::link(load(p + i), unused));
    }
    const auto classes = static_cast<std::uint64_t>(job.loss == LossKind::logistic ? 2 : job.k);
    for (Index i = 0; i < count; ++i) {
        std::int64_t drawn = u[i] < p[i];
        if (job.loss == LossKind::softmax) {
            T* const q = z + (2 * i + 1) * job.kp;
            predict<T, Softmax<T>>(z + 2 * i * job.kp, job.intercept, T(1), job.k, q);
            T reached = q[0];
            for (drawn = 0; u[i] >= reached && drawn < job.k - 1;) reached += q[++drawn];
        }
        if (v[i] <= job.noise) drawn = static_cast<std::int64_t>(w.word[2][i] * classes >> 32);
        if (label) {
            label[i] = drawn;
        } else {
            value[i] = static_cast<T>(drawn);
        }
    }
}

template <class T>
void draw(const DrawJob<T>& job) {
    const Keys keys(job.seed);
    for (Index i = 0; i < job.rows; i += 16) {
        const Index count = job.rows - i < 16 ? job.rows - i : 16;
        T* const z = job.z + i * 2 * job.kp;
        if (job.loss == LossKind::squared) {
            draw_values<T>(job, keys, job.row + i, count, z, job.value + i * job.k);
        } else {
            draw_classes<T>(job, keys, job.row + i, count, z, job.value + i, job.label ? job.label + i : nullptr);
        }
    }
}

}  // namespace kdvr::KDVR_ISA
