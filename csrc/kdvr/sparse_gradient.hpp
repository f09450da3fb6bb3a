// Purpose: the second product of a step on sparse rows,  w_j += a_ij q_i  for the non-zeros of the block; see
// sparse_kernels.hpp. Floor: a load and a store of k numbers a non-zero. Shapes: as in sparse_logits.hpp.
#pragma once

#include "sparse_logits.hpp"

namespace kdvr::KDVR_ISA {

// First position of the row whose feature is at least j.
template <class T, class I>
KDVR_INLINE Index position(const SparseRow<T>& a, Index j) {
    const I* const index = static_cast<const I*>(a.index);
    Index low = 0, high = a.count;
    while (low < high) {
        const Index middle = low + (high - low) / 2;
        if (static_cast<Index>(index[middle]) < j) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// The part of the row whose features lie in [from, to).
template <class T, class I>
KDVR_INLINE SparseRow<T> part(const SparseRow<T>& a, Index from, Index to) {
    const I* const index = static_cast<const I*>(a.index);
    const bool all = a.count == 0 || static_cast<Index>(index[a.count - 1]) < to;
    const Index first = from > 0 ? position<T, I>(a, from) : 0, last = all ? a.count : position<T, I>(a, to);
    return {a.value + first, index + first, last - first};
}

template <class T, class I>
KDVR_INLINE void sparse_add_of(const SparseRow<T>& a, const T* q, T scale, Index k, Index stride, T* w) {
    constexpr Index L = kLanes<T>;
    const I* const index = static_cast<const I*>(a.index);
    if (k == 1) {
        const T step = scale * q[0];
        for (Index i = 0; i < a.count; ++i) w[index[i]] += step * a.value[i];
        return;
    }
    for_groups(vectors<T>(k), [&](Index j0, auto group) __attribute__((always_inline)) {
        constexpr int J = decltype(group)::size;
        Vec<T> step[J];
#pragma GCC unroll 4
        for (int j = 0; j < J; ++j) step[j] = scale * load(q + (j0 + j) * L);
        for (Index i = 0; i < a.count; ++i) {
            T* const p = w + static_cast<Index>(index[i]) * stride + j0 * L;
#pragma GCC unroll 4
            for (int j = 0; j < J; ++j) store<T>(p + j * L, load(p + j * L) + a.value[i] * step[j]);
        }
    });
}

template <class T, class I>
void sparse_add(const SparseRow<T>* a, Index rows, const T* q, Index ldq, T scale, Index from, Index to, Index k, Index stride,
                T* w) {
    for (Index r = 0; r < rows; ++r) sparse_add_of<T, I>(part<T, I>(a[r], from, to), q + r * ldq, scale, k, stride, w);
}

template <class T, class I>
void sparse_add_double(const SparseRow<T>* a, Index rows, const T* q, Index ldq, Index from, Index to, Index k, Index stride,
                       double* total) {
    constexpr Index L = kLanes<double>;
    const Index n = vectors<double>(k);
    for (Index r = 0; r < rows; ++r) {
        const SparseRow<T> row = part<T, I>(a[r], from, to);
        const I* const index = static_cast<const I*>(row.index);
        const T* const qr = q + r * ldq;
        if (k == 1) {
            const double step = static_cast<double>(qr[0]);
            for (Index i = 0; i < row.count; ++i) total[index[i]] += step * static_cast<double>(row.value[i]);
            continue;
        }
        for_groups(n, [&](Index j0, auto group) __attribute__((always_inline)) {
            constexpr int J = decltype(group)::size;
            Vec<double> step[J];
#pragma GCC unroll 4
            for (int j = 0; j < J; ++j) {
                double wide[L] = {};
                for (Index c = 0; c < L && (j0 + j) * L + c < k; ++c) wide[c] = static_cast<double>(qr[(j0 + j) * L + c]);
                step[j] = load(wide);
            }
            for (Index i = 0; i < row.count; ++i) {
                double* const p = total + static_cast<Index>(index[i]) * stride + j0 * L;
                const double x = static_cast<double>(row.value[i]);
#pragma GCC unroll 4
                for (int j = 0; j < J; ++j) store<double>(p + j * L, load(p + j * L) + x * step[j]);
            }
        });
    }
}

template <class T, class I>
void sparse_take(const SparseRow<T>* a, Index rows, double* total, T scale, Index stride, T* w) {
    for (Index r = 0; r < rows; ++r) {
        const I* const index = static_cast<const I*>(a[r].index);
        for (Index i = 0; i < a[r].count; ++i) {
            const Index at = static_cast<Index>(index[i]) * stride;
            for (Index c = at; c < at + stride; ++c) {
                w[c] += scale * static_cast<T>(total[c]);
                total[c] = 0;
            }
        }
    }
}

}  // namespace kdvr::KDVR_ISA
