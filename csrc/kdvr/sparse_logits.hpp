// Purpose: the first product of a step on sparse rows,  z_i = sum_j a_ij w_j  with the k numbers w_j of feature j, the rows'
// products with each other, and requests for what is read next; see sparse_kernels.hpp.
// Floor: a load of k numbers a non-zero; with many classes the weights, not the rows, are what memory moves.
// Shapes: k numbers in whole vectors at stride kp, or one number at stride 1. I: type of the features' indices.
#pragma once

#include "simd.hpp"
#include "sparse_kernels.hpp"

namespace kdvr::KDVR_ISA {

template <class T>
KDVR_INLINE Index vectors(Index k) {
    return (k + kLanes<T> - 1) / kLanes<T>;
}

// f(first vector, number of vectors as a type) in groups of at most four.
template <int J>
struct Group {
    static constexpr int size = J;
};
template <class F>
KDVR_INLINE void for_groups(Index n, const F& f) {
    for (Index j = 0; j < n; j += 4) {
        if (n - j == 1) {
            f(j, Group<1>{});
        } else if (n - j == 2) {
            f(j, Group<2>{});
        } else if (n - j == 3) {
            f(j, Group<3>{});
        } else {
            f(j, Group<4>{});
        }
    }
}

// <a, w> of one output; four chains, since one multiply-add takes four cycles.
template <class T, class I>
KDVR_INLINE T sparse_dot(const SparseRow<T>& a, const T* w) {
    const I* const index = static_cast<const I*>(a.index);
    T s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    Index i = 0;
    for (; i + 4 <= a.count; i += 4) {
        s0 += a.value[i] * w[index[i]], s1 += a.value[i + 1] * w[index[i + 1]];
        s2 += a.value[i + 2] * w[index[i + 2]], s3 += a.value[i + 3] * w[index[i + 3]];
    }
    if (i < a.count) s1 += a.value[i] * w[index[i]];
    if (i + 1 < a.count) s2 += a.value[i + 1] * w[index[i + 1]];
    if (i + 2 < a.count) s3 += a.value[i + 2] * w[index[i + 2]];
    return (s0 + s1) + (s2 + s3);
}

template <class T, class I, int J>
KDVR_INLINE void sparse_product(const SparseRow<T>& a, const T* w, Index stride, T scale, Index size, T* z) {
    constexpr Index L = kLanes<T>;
    constexpr int U = J >= 3 ? 1 : J == 2 ? 2 : 4;
    const I* const index = static_cast<const I*>(a.index);
    Vec<T> acc[U][J] = {};
    Index i = 0;
    for (; i + U <= a.count; i += U) {
#pragma GCC unroll 4
        for (int u = 0; u < U; ++u) {
            const T* const p = w + static_cast<Index>(index[i + u]) * stride;
#pragma GCC unroll 4
            for (int j = 0; j < J; ++j) acc[u][j] += a.value[i + u] * load(p + j * L);
        }
    }
    for (; i < a.count; ++i) {
        const T* const p = w + static_cast<Index>(index[i]) * stride;
#pragma GCC unroll 4
        for (int j = 0; j < J; ++j) acc[0][j] += a.value[i] * load(p + j * L);
    }
#pragma GCC unroll 4
    for (int j = 0; j < J; ++j) {
#pragma GCC unroll 4
        for (int u = 1; u < U; ++u) acc[0][j] += acc[u][j];
        const Vec<T> out = scale * acc[0][j];
        if ((j + 1) * L <= size) {
            store<T>(z + j * L, out);
        } else {
            for (Index c = j * L; c < size; ++c) z[c] = out[c - j * L];
        }
    }
}

template <class T, class I>
KDVR_INLINE void sparse_logits_of(const SparseRow<T>& a, const T* w, T scale, Index k, Index stride, T* z) {
    if (k == 1) {
        z[0] = scale * sparse_dot<T, I>(a, w);
        return;
    }
    for_groups(vectors<T>(k), [&](Index j, auto group) __attribute__((always_inline)) {
        const Index at = j * kLanes<T>;
        sparse_product<T, I, decltype(group)::size>(a, w + at, stride, scale, k - at, z + at);
    });
}

template <class T, class I>
void sparse_logits(const SparseRow<T>* a, Index rows, const T* w, const T* anchor, T scale, Index k, Index kp, T* z) {
    for (Index r = 0; r < rows; ++r) {
        sparse_logits_of<T, I>(a[r], w, scale, k, kp, z + r * 2 * kp);
        if (anchor) sparse_logits_of<T, I>(a[r], anchor, T(1), k, kp, z + r * 2 * kp + kp);
    }
}

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

template <class T, class I>
KDVR_INLINE void scatter(const SparseRow<T>& a, T* dense) {
    const I* const index = static_cast<const I*>(a.index);
    for (Index i = 0; i < a.count; ++i) dense[index[i]] = a.value[i];
}

template <class T, class I>
KDVR_INLINE void unscatter(const SparseRow<T>& a, T* dense) {
    const I* const index = static_cast<const I*>(a.index);
    for (Index i = 0; i < a.count; ++i) dense[index[i]] = T(0);
}

template <class T, class I>
void sparse_row_products(const SparseRow<T>* a, Index rows, const SparseRow<T>* before, const RowProducts<T>& out, T* scratch) {
    for (Index i = 0; i < rows; ++i) {
        if (out.norm) out.norm[i] = sparse_norm(a[i]) + out.one;
        if (!out.pair) continue;
        const SparseRow<T>* const other = i > 0 ? a + i - 1 : before;
        out.pair[i] = T(0);
        if (!other || !out.wants_pair(i)) continue;
        scatter<T, I>(*other, scratch);
        out.pair[i] = sparse_dot<T, I>(a[i], scratch) + out.one;
        unscatter<T, I>(*other, scratch);
    }
}

template <class T, class I>
void sparse_prefetch(const SparseRow<T>* a, Index rows) {
    constexpr Index values = 64 / static_cast<Index>(sizeof(T)), features = 64 / static_cast<Index>(sizeof(I));
    for (Index r = 0; r < rows; ++r) {
        const I* const index = static_cast<const I*>(a[r].index);
        for (Index j = 0; j < a[r].count; j += values) __builtin_prefetch(a[r].value + j, 0, 2);
        for (Index j = 0; j < a[r].count; j += features) __builtin_prefetch(index + j, 0, 2);
    }
}

template <class T, class I>
void sparse_prefetch_weights(const SparseRow<T>* a, Index rows, Index k, Index stride, const T* w) {
    constexpr Index line = 64 / static_cast<Index>(sizeof(T));
    for (Index r = 0; r < rows; ++r) {
        const I* const index = static_cast<const I*>(a[r].index);
        for (Index j = 0; j < a[r].count; ++j) {
            const T* const p = w + static_cast<Index>(index[j]) * stride;
            for (Index c = 0; c < k; c += line) __builtin_prefetch(p + c, 0, 2);  // the first level is that of the row at hand
        }
    }
}

}  // namespace kdvr::KDVR_ISA
