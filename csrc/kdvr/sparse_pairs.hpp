// Purpose: products of sparse rows with themselves and with the row before, which the statistics of every step need.
//   norm_i = |a_i|^2 + one        pair_i = <a_i, a_{i-1}> + one
// Features rise within a row, so two rows are gone through side by side: a vector of features of the one meets a few features
// of the other, each compared with all lanes, and the one that ends first moves on. No jump depends on what the rows hold, and
// nothing but the rows is read.
#pragma once

#include <type_traits>  // conditional_t

#include "simd.hpp"
#include "sparse_kernels.hpp"

namespace kdvr::KDVR_ISA {

// As many features as there are lanes, and lanes of all ones or all zeros.
template <class T, class I>
struct FeatureVec {
    typedef I Type __attribute__((vector_size(kLanes<T> * sizeof(I))));
};
template <class T, class I>
using Features = typename FeatureVec<T, I>::Type;

template <class T>
KDVR_INLINE T sparse_norm(const SparseRow<T>& a) {
    constexpr Index L = kLanes<T>;
    Vec<T> total{};
    for (Index i = 0; i < a.count; i += L) {
        const Vec<T> x = load_part(a.value, i, a.count);
        total += x * x;
    }
    return sum<T>(total);
}

// The first n features (0 < n <= lanes), feature 0 behind them.
template <class T, class I>
KDVR_INLINE Features<T, I> load_features(const I* index, Index n) {
    Features<T, I> some{}, all;
    if (n < kLanes<T>) {
        std::memcpy(&some, index, static_cast<std::size_t>(n) * sizeof(I));
        return some;
    }
    std::memcpy(&all, index, sizeof all);
    return all;
}

// The bits of x in the lane of its feature, if it is there, 0 in the others.
template <class T, class I>
KDVR_INLINE typename Simd<T>::Int put(Features<T, I> features, I feature, const T& x) {
    using Int = typename Simd<T>::Int;
    std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t> bits;
    std::memcpy(&bits, &x, sizeof x);
    return (Int) __builtin_convertvector(features == feature, typename Simd<T>::Signed) & (Int{} + bits);
}

template <class T, class I>
T sparse_pair(const SparseRow<T>& a, const SparseRow<T>& b) {
    constexpr Index L = kLanes<T>, G = L / 2;
    const I *const of_a = static_cast<const I*>(a.index), *const of_b = static_cast<const I*>(b.index);
    Vec<T> total{};
    for (Index i = 0, j = 0; i < a.count && j < b.count;) {
        const Index n = a.count - i < L ? a.count - i : L, m = b.count - j < G ? b.count - j : G;
        const Features<T, I> features = load_features<T, I>(of_a + i, n);
        typename Simd<T>::Int found{};  // what b holds for the features in the lanes
        if (m == G) {
#pragma GCC unroll 8
            for (Index u = 0; u < G; ++u) found |= put<T, I>(features, of_b[j + u], b.value[j + u]);
        } else {
            for (Index u = 0; u < m; ++u) found |= put<T, I>(features, of_b[j + u], b.value[j + u]);
        }
        total += load_part(a.value, i, a.count) * (Vec<T>)found;  // 0 behind the last
        const Index a_first = of_a[i + n - 1] < of_b[j + m - 1];
        i += a_first * L, j += (1 - a_first) * G;
    }
    return sum<T>(total);
}

template <class T, class I>
void sparse_row_products(const SparseRow<T>* a, Index rows, const SparseRow<T>* before, T one, T* norm, T* pair) {
    for (Index i = 0; i < rows; ++i) {
        norm[i] = sparse_norm(a[i]) + one;
        if (!pair) continue;
        const SparseRow<T>* const other = i > 0 ? a + i - 1 : before;
        pair[i] = other ? sparse_pair<T, I>(a[i], *other) + one : T(0);
    }
}

}  // namespace kdvr::KDVR_ISA
