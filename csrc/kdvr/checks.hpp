// Purpose: one pass over arrays from outside that says whether they hold what they should. What is wrong, and where, is for the
// caller to find out: almost always nothing is. Loops are free of jumps, so that the compiler makes vectors of them.
#pragma once

#include <algorithm>  // min
#include <cstring>    // memcpy
#include <limits>
#include <type_traits>  // conditional_t, make_unsigned_t

#include "views.hpp"

namespace kdvr {

// Whether all of v[0 .. size) lie in [0, limit).
template <class I>
bool all_below(const I* v, Index size, Index limit) {
    using Unsigned = std::make_unsigned_t<I>;  // in which negative numbers are large ones
    const auto most = static_cast<Unsigned>(std::min<Index>(limit - 1, std::numeric_limits<I>::max()));
    Unsigned wrong = limit < 1 && size > 0;
    for (Index i = 0; i < size; ++i) wrong |= static_cast<Unsigned>(v[i]) > most;
    return wrong == 0;
}

// Whether v[0 .. size) holds neither NaN nor infinity: exponents that are all ones.
template <class T>
bool all_finite(const T* v, Index size) {
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    constexpr Bits exponent = sizeof(T) == 4 ? Bits{0x7f800000} : static_cast<Bits>(0x7ff0000000000000);
    Bits wrong = 0;
    for (Index i = 0; i < size; ++i) {
        Bits bits;
        std::memcpy(&bits, v + i, sizeof bits);
        wrong |= (bits & exponent) == exponent;
    }
    return wrong == 0;
}

// Whether features rise within each of n rows. Falls are counted over the whole array at once, and must be
// as many as there are at the starts of rows, where they mean nothing. start: n + 1 offsets, rising from 0.
template <class I, class Start>
bool features_rise(const I* feature, const Start* start, Index n) {
    constexpr Index block = 1 << 16;  // counted in the features' type
    const auto size = static_cast<Index>(start[n]);
    Index falls = 0, allowed = 0;
    for (Index at = 1; at < size; at += block) {
        I count = 0;
        for (Index i = at; i < std::min(at + block, size); ++i) count += feature[i] <= feature[i - 1];
        falls += static_cast<Index>(count);
    }
    for (Index r = 1; r < n; ++r) {
        const auto s = static_cast<Index>(start[r]);
        if (s != static_cast<Index>(start[r - 1]) && s < size) allowed += feature[s] <= feature[s - 1];
    }
    return falls == allowed;
}

// Whether offsets rise from 0 to `size`.
template <class Start>
bool offsets_rise(const Start* start, Index n, Index size) {
    Start wrong = start[0] != 0 || static_cast<Index>(start[n]) != size;
    for (Index i = 0; i < n; ++i) wrong |= start[i + 1] < start[i];
    return wrong == 0;
}

}  // namespace kdvr
