// Purpose: the products of a step on sparse rows, and the steps that a feature misses while no row has it; see
// sparse_kernels.hpp.
//   logits:    z_i = sum_j a_ij w_j        w_j: k numbers of feature j
//   gradient:  w_j += a_ij q_i
// Floor: two loads and a store of k numbers a non-zero; with many classes the weights, not the rows, are what memory moves.
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

// -- products
// ---------------------------------------------------------------------------------------------------------------------

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

// -- gradients
// --------------------------------------------------------------------------------------------------------------------

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

// -- missed steps
// -----------------------------------------------------------------------------------------------------------------

// Sum of w over the steps from .. to - 1 of a weight that starts at v and falls by `speed` a unit of the path.
template <class T>
KDVR_INLINE double linear_sum(const Lazy<T>& z, double v, double speed, Index from, Index to) {
    const double scales = z.scales[to] - z.scales[from];
    return v * scales - speed * (z.moments[to] - z.moments[from] - z.path[from] * scales);
}

// One weight through the steps from .. to - 1; c = lam m. *total: the sum of w, or null.
template <class T>
double shrinking(const Lazy<T>& z, double v, double c, Index from, Index to, double* total) {
    while (from < to) {
        const double side = v > 0 || (v == 0 && c < 0) ? 1.0 : -1.0;
        const double speed = c + side * z.l1;
        if (v == 0 && side * speed >= 0) return v;  // L1 holds it at 0
        const double end = v - speed * (z.path[to] - z.path[from]);
        if (side * end > 0) {
            if (total) *total += linear_sum(z, v, speed, from, to);
            return end;
        }
        // It meets 0 in a step: the first one after which it would lie beyond.
        Index low = from + 1, high = to;
        while (low < high) {
            const Index middle = low + (high - low) / 2;
            if (side * (v - speed * (z.path[middle] - z.path[from])) <= 0) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        if (total) *total += linear_sum(z, v, speed, from, low - 1);
        const double p = z.path[low] - z.path[low - 1];
        const double x = v - speed * (z.path[low - 1] - z.path[from]) - p * c;
        const double size = (x < 0 ? -x : x) - p * z.l1;
        v = size > 0 ? (x < 0 ? -size : size) : 0.0;
        if (total) *total += v * (z.scales[low] - z.scales[low - 1]);
        from = low;
    }
    return v;
}

template <class T>
void shrink_feature(const Lazy<T>& z, Index j, Index from, Index t) {
    const Index at = j * z.stride;
    for (Index c = at; c < at + z.k; ++c) {
        const double drift = z.mean ? z.lam * static_cast<double>(z.mean[c]) : 0.0;
        z.v[c] = static_cast<T>(shrinking(z, static_cast<double>(z.v[c]), drift, from, t, z.average ? z.average + c : nullptr));
    }
}

// Takes feature j to step t.
template <class T>
KDVR_INLINE void catch_up_feature(const Lazy<T>& z, Index j, Index t) {
    const Index from = z.seen[j];
    if (from == t) return;
    z.seen[j] = t;
    if (z.l1 > 0) return shrink_feature(z, j, from, t);
    const Index at = j * z.stride;
    if (z.average) {
        for (Index c = at; c < at + z.k; ++c) {
            const double drift = z.mean ? z.lam * static_cast<double>(z.mean[c]) : 0.0;
            z.average[c] += linear_sum(z, static_cast<double>(z.v[c]), drift, from, t);
        }
    }
    if (!z.mean) return;
    const T moved = static_cast<T>(z.lam * (z.path[t] - z.path[from]));
    if (z.k == 1) {
        z.v[at] -= moved * z.mean[at];
        return;
    }
    const Index n = vectors<T>(z.k);
    for (Index i = 0; i < n; ++i) {
        const Index o = at + i * kLanes<T>;
        store<T>(z.v + o, load(z.v + o) - moved * load(z.mean + o));
    }
}

template <class T, class I>
KDVR_INLINE void catch_up_row(const Lazy<T>& z, const SparseRow<T>& a, Index t) {
    const I* const index = static_cast<const I*>(a.index);
    if (z.k == 1 && z.mean && !z.average && z.l1 == 0) {  // the loop of single steps with a constant part
        T* const v = z.v;
        Index* const seen = z.seen;
        const double *const path = z.path, lam = z.lam, now = path[t];
        for (Index i = 0; i < a.count; ++i) {
            const Index j = static_cast<Index>(index[i]);
            v[j] -= static_cast<T>(lam * (now - path[seen[j]])) * z.mean[j];
            seen[j] = t;
        }
        return;
    }
    for (Index i = 0; i < a.count; ++i) catch_up_feature(z, static_cast<Index>(index[i]), t);
}

template <class T, class I>
void sparse_catch_up(const Lazy<T>& z, const SparseRow<T>* a, Index rows, Index t) {
    for (Index r = 0; r < rows; ++r) catch_up_row<T, I>(z, a[r], t);
}

template <class T>
void sparse_settle(Lazy<T>& z, Index t) {
    if (z.seen) {
        for (Index j = 0; j < z.d; ++j) catch_up_feature(z, j, t);
        z.path[t] = z.scales[t] = z.moments[t] = 0;
    }
    if (z.scale == 1) return;
    const T scale = static_cast<T>(z.scale);
    for (Index i = 0; i < z.d * z.stride; ++i) z.v[i] *= scale;
    z.scale = 1;
}

// Below this s_t, v = w / s_t and the path grow too far from the weights.
constexpr double kSmallestScale = 1e-6;

template <class T>
KDVR_INLINE void sparse_advance_inline(Lazy<T>& z, Index t, double rate) {
    const double keep = 1 - rate * z.l2;
    if (!(z.scale * keep >= kSmallestScale)) {
        sparse_settle(z, t);
        for (Index i = 0; i < z.d * z.stride; ++i) z.v[i] *= static_cast<T>(keep);
    } else {
        z.scale *= keep;
    }
    if (!z.seen) return;
    z.path[t + 1] = z.path[t] + rate / z.scale;
    z.scales[t + 1] = z.scales[t] + z.scale;
    z.moments[t + 1] = z.moments[t] + z.scale * z.path[t + 1];
}

template <class T>
void sparse_advance(Lazy<T>& z, Index t, double rate) {
    sparse_advance_inline(z, t, rate);
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
