// Purpose: compact rows (uint8, int8, float16, bfloat16) to T, once a block, into scratch that the other kernels read.
// Formula: x_j = scale_j u_j + offset_j. Decoding once costs five operations a vector; decoding in each of the three sweeps
// over a block (logits, row products, gradient) would cost nine, and would need every kernel once more for every type.
#pragma once

#include "simd.hpp"

namespace kdvr::KDVR_ISA {

template <class S, int Bytes>
struct Packed {
    typedef S type __attribute__((vector_size(Bytes)));
};

// kLanes<T> small integers, widened. GCC 12 takes the plain conversion apart, element by element, hence the instructions by
// name.
template <class T, class S>
KDVR_INLINE typename Simd<T>::Signed load_small(const S* p) {
    using Signed = typename Simd<T>::Signed;
#if defined(__AVX512F__) && KDVR_BYTES == 64
    if constexpr (sizeof(T) == 4) {
        if constexpr (sizeof(S) == 2)
            return (Signed)_mm512_maskz_cvtepu16_epi32(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
        const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        return (Signed)(S(-1) < S(0) ? _mm512_maskz_cvtepi8_epi32(0xffff, v) : _mm512_maskz_cvtepu8_epi32(0xffff, v));
    }
#elif defined(__AVX2__) && KDVR_BYTES == 32
    if constexpr (sizeof(T) == 4) {
        if constexpr (sizeof(S) == 2)
            return (Signed)_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
        const __m128i v = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
        return (Signed)(S(-1) < S(0) ? _mm256_cvtepi8_epi32(v) : _mm256_cvtepu8_epi32(v));
    }
#endif
    typename Packed<S, static_cast<int>(kLanes<T> * static_cast<Index>(sizeof(S)))>::type v;
    std::memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, Signed);
}

struct FromUint8 {
    using type = std::uint8_t;
    template <class T>
    static KDVR_INLINE Vec<T> load(const type* p) {
        return __builtin_convertvector(load_small<T>(p), Vec<T>);
    }
};

struct FromInt8 {
    using type = std::int8_t;
    template <class T>
    static KDVR_INLINE Vec<T> load(const type* p) {
        return __builtin_convertvector(load_small<T>(p), Vec<T>);
    }
};

// AVX-512 has an instruction. Elsewhere exponent and mantissa move to their places in a T; the product corrects the exponent's
// bias, subnormals included. Finite only.
struct FromFloat16 {
    using type = std::uint16_t;
    template <class T>
    static KDVR_INLINE Vec<T> load(const type* p) {
#if defined(__AVX512F__) && KDVR_BYTES == 64
        if constexpr (sizeof(T) == 4) {
            const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
            return (Vec<T>)_mm512_maskz_cvtph_ps(0xffff, bits);
        }
#endif
        constexpr int shift = Simd<T>::mantissa_bits - 10, top = static_cast<int>(sizeof(T)) * 8 - 16;
        const auto bits = (typename Simd<T>::Int)load_small<T>(p);
        const Vec<T> size = (Vec<T>)((bits & 0x7fff) << shift) * (sizeof(T) == 4 ? T(0x1p112) : T(0x1p1008));
        return (Vec<T>)((typename Simd<T>::Int)size | ((bits & 0x8000) << top));
    }
};

// The upper half of a float.
struct FromBfloat16 {
    using type = std::uint16_t;
    template <class T>
    static KDVR_INLINE Vec<T> load(const type* p) {
        if constexpr (sizeof(T) == 4) {
            return (Vec<T>)((typename Simd<T>::Int)load_small<T>(p) << 16);
        } else {
            Vec<T> v;
            for (Index j = 0; j < kLanes<T>; ++j) {
                const std::uint32_t bits = static_cast<std::uint32_t>(p[j]) << 16;
                float x;
                std::memcpy(&x, &bits, sizeof x);
                v[j] = static_cast<T>(x);
            }
            return v;
        }
    }
};

// x[0 .. d) from u; scale and offset are d numbers each, or null for 1 and 0. x has room for whole vectors, zeros beyond d.
template <class T, class From>
void decode_row(const typename From::type* u, const T* scale, const T* offset, Index d, T* x) {
    constexpr Index L = kLanes<T>;
    const Index full = d / L * L;
    if (scale) {
#pragma GCC unroll 4
        for (Index j = 0; j < full; j += L) store<T>(x + j, From::template load<T>(u + j) * load(scale + j) + load(offset + j));
    } else {
#pragma GCC unroll 4
        for (Index j = 0; j < full; j += L) store<T>(x + j, From::template load<T>(u + j));
    }
    if (full < d) {
        typename From::type tail[L] = {};
        std::memcpy(tail, u + full, static_cast<std::size_t>(d - full) * sizeof(tail[0]));
        const Vec<T> v = From::template load<T>(tail);
        store<T>(x + full, scale ? v * load_part(scale, full, d) + load_part(offset, full, d) : v);
    }
}

template <class T>
void decode(const CompactRows<T>& rows, Index row, Index d, T* x) {
    const void* const u = rows.row(row);
    const T *scale = rows.scale, *offset = rows.offset;
    switch (rows.storage) {
        case Storage::uint8:
            return decode_row<T, FromUint8>(static_cast<const std::uint8_t*>(u), scale, offset, d, x);
        case Storage::int8:
            return decode_row<T, FromInt8>(static_cast<const std::int8_t*>(u), scale, offset, d, x);
        case Storage::float16:
            return decode_row<T, FromFloat16>(static_cast<const std::uint16_t*>(u), scale, offset, d, x);
        case Storage::bfloat16:
            return decode_row<T, FromBfloat16>(static_cast<const std::uint16_t*>(u), scale, offset, d, x);
    }
}

}  // namespace kdvr::KDVR_ISA
