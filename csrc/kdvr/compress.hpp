// Purpose: the operator Q of a compressed student, W <- Q(W - rate p), applied to all k x d weights after each step. What it
// does is said by kdvr_fast/backends/base.py: Compression. Numbers are counted row by row, i = c d + j; random word t k d + i
// of a run belongs to number i in step t and is that of SplitMix64, so that any backend finds it without those before. Source
// of the generator: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
#pragma once

#include <algorithm>  // max, nth_element
#include <cmath>      // abs, floor, isnan
#include <limits>
#include <utility>  // pair
#include <vector>

#include "rows/rows.hpp"

namespace kdvr {

inline std::uint64_t random_word(std::uint64_t seed, std::uint64_t number) {
    std::uint64_t x = seed + (number + 1) * 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

template <class T>
class Compressor {
  public:
    Compressor(const Compression& q, const Layout& layout) : q_(q), layout_(layout), size_(layout.k * layout.d) {
        if (q.kind == CompressionKind::random) words_.resize(static_cast<std::size_t>(size_));
        if (q.kind == CompressionKind::top) sizes_.resize(static_cast<std::size_t>(size_));
    }

    // Step number t of the run, from 0.
    void apply(T* w, std::uint64_t t) {
        const std::uint64_t first = t * static_cast<std::uint64_t>(size_);
        const auto word = [&](Index i) { return random_word(q_.seed, first + static_cast<std::uint64_t>(i)); };
        switch (q_.kind) {
            case CompressionKind::none:
                return;
            case CompressionKind::mask:
                return each(w, [&](Index i, T& x) { x = q_.mask[i] ? x : T(0); });
            case CompressionKind::random: {
                for (Index i = 0; i < size_; ++i) words_[static_cast<std::size_t>(i)] = word(i);  // no two are the same
                const std::uint64_t last = last_kept(words_);
                const T scale = static_cast<T>(static_cast<double>(size_) / static_cast<double>(q_.kept));
                return each(w, [&](Index i, T& x) { x = word(i) <= last ? x * scale : T(0); });
            }
            case CompressionKind::top: {
                each(w, [&](Index i, T& x) { sizes_[static_cast<std::size_t>(i)] = place(x, i); });
                const Place last = last_kept(sizes_);
                return each(w, [&](Index i, T& x) { x = place(x, i) <= last ? x : T(0); });
            }
            case CompressionKind::rounding: {
                double most = 0;
                each(w, [&](Index, T& x) { most = std::max(most, std::abs(static_cast<double>(x))); });
                const double levels = static_cast<double>(q_.levels), unit = most / levels;
                if (!(most > 0)) return;
                return each(w, [&](Index i, T& x) {
                    const double u = static_cast<double>(word(i) >> 11) * 0x1p-53;
                    x = static_cast<T>(std::floor(static_cast<double>(x) / most * levels + u) * unit);
                });
            }
        }
    }

  private:
    using Place = std::pair<T, Index>;  // larger numbers first, and of equal ones the first; what is no number before all

    static Place place(T x, Index i) { return {std::isnan(x) ? -std::numeric_limits<T>::infinity() : -std::abs(x), i}; }

    template <class F>
    void each(T* w, const F& f) const {
        for (Index c = 0; c < layout_.k; ++c) {
            for (Index j = 0; j < layout_.d; ++j) f(c * layout_.d + j, w[layout_.at(c, j)]);
        }
    }
    template <class Key>
    Key last_kept(std::vector<Key>& keys) const {
        const auto nth = keys.begin() + (q_.kept - 1);
        std::nth_element(keys.begin(), nth, keys.end());
        return *nth;
    }

    Compression q_;
    Layout layout_;
    Index size_;
    std::vector<std::uint64_t> words_;
    std::vector<Place> sizes_;
};

}  // namespace kdvr
