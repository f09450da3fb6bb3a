// Purpose: the steps that a feature of sparse rows misses while no row has it, made up for when one has it again; see Lazy in
// sparse_kernels.hpp.
#pragma once

#include "sparse_logits.hpp"

namespace kdvr::KDVR_ISA {

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

}  // namespace kdvr::KDVR_ISA
