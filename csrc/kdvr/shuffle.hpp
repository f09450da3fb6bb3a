// Purpose: a random order of 0 .. n - 1 from random words, by Fisher and Yates' shuffle written from the inside out:
//   for i = 0 .. n - 1:   j = floor(word_i (i + 1) / 2^64);   order[i] = order[j];   order[j] = i
// j is uniform on 0 .. i up to n / 2^64 (Lemire's product without his rejection), so every word is used and none is asked for
// again. The same in Python is kdvr_fast/_order.py. Source: D. Lemire, ACM TOMACS 29 (2019), 3.
#pragma once

#include "views.hpp"

namespace kdvr {

// The upper half of the product of two 64-bit numbers.
inline std::uint64_t upper_product(std::uint64_t a, std::uint64_t b) {
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint64_t>(static_cast<Wide>(a) * b >> 64);
}

inline void shuffle(const std::uint64_t* words, Index n, std::int64_t* order) {
    for (Index i = 0; i < n; ++i) {
        const auto j = static_cast<Index>(upper_product(words[i], static_cast<std::uint64_t>(i) + 1));
        order[i] = i;  // read again where j = i
        order[i] = order[j];
        order[j] = i;
    }
}

}  // namespace kdvr
