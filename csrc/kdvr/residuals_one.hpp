// Purpose: residuals of problems with one output, where rows take the lanes: sixteen floats a vector instead of one. Formulas,
// structs and sums as in residuals.hpp.
#pragma once

#include "losses.hpp"

namespace kdvr::KDVR_ISA {

// Numbers i of a pair (even) and i + 1 (odd), of two vectors of pairs.
template <int Second>
struct OfPairs {
    static constexpr int lane(int l, int) { return 2 * l + Second; }
};

// The row before each row: lane l - 1, and for the first the last of the vector before, which comes first.
struct Before {
    static constexpr int lane(int l, int lanes) { return lanes - 1 + l; }
};

// Lanes first .. of what a row's number is found at through a pointer, zeros behind them.
template <class T>
KDVR_INLINE Vec<T> gather(const T* const* p, Index count) {
    Vec<T> v{};
    for (Index l = 0; l < count; ++l) v[l] = *p[l];
    return v;
}

template <class T>
KDVR_INLINE void store_first(T* p, Vec<T> v, Index count) {
    if (count == kLanes<T>) return store<T>(p, v);
    for (Index l = 0; l < count; ++l) p[l] = v[l];
}

// Sum of s * loss. The logarithms of the logistic loss are those of a product, one a lane: log(1 + e) of kMostRows rows add up
// before a double overflows. A weight other than one takes its own logarithm.
template <class T, class Loss>
struct LossOfLanes;

template <class T>
struct LossOfLanes<T, Squared<T>> {
    Vec<T> total{};

    KDVR_INLINE void add(Vec<T> s, Vec<T>, Vec<T>, Vec<T> r, Vec<T>) { total += s * (T(0.5) * (r * r)); }
    KDVR_INLINE double value() const { return static_cast<double>(sum<T>(total)); }
};

template <class T>
struct LossOfLanes<T, Logistic<T>> {
    Vec<T> total{};
    double product[kLanes<T>], logarithms = 0;

    KDVR_INLINE LossOfLanes() {
        for (double& p : product) p = 1;
    }
    KDVR_INLINE void add(Vec<T> s, Vec<T> v, Vec<T> y, Vec<T>, Vec<T> e) {
        total += s * ((v > T(0) ? v : Vec<T>{}) - y * v);
        const auto whole = s == T(1);
        const auto multiply = [](Vec<double> p, Vec<double> x) __attribute__((always_inline)) { return p + p * x; };
        update_doubles<T>(product, whole ? e : Vec<T>{}, multiply);
        for (Index l = 0; l < kLanes<T>; ++l) {
            if (!whole[l] && s[l] != T(0)) logarithms += static_cast<double>(s[l]) * std::log1p(static_cast<double>(e[l]));
        }
    }
    KDVR_INLINE double value() const {
        double all = 1;
        for (double p : product) all *= p;
        return static_cast<double>(sum<T>(total)) + logarithms + std::log(all);
    }
};

template <class T, class Loss>
void residuals_of_lanes(const ResidualJob<T>& job) {
    constexpr Index L = kLanes<T>;
    const bool anchored = job.anchor != AnchorKind::none, on_the_fly = job.anchor == AnchorKind::weights;
    const T b = job.intercept[0], anchor_b = job.anchor_intercept[0];
    LossOfLanes<T, Loss> loss;
    Vec<T> xx{}, xt{}, tt{}, pair_xx{}, pair_xt{}, pair_tt{};
    Vec<T> r_before{}, c_before{}, s_before{};
    if (job.paired) r_before += job.r[-1], c_before += anchored ? job.c[-1] : T(0), s_before += job.weight[-1];
    for (Index i = 0; i < job.rows; i += L) {
        const Index n = job.rows - i < L ? job.rows - i : L;
        const T* const pairs = job.z + 2 * i;
        const Vec<T> z0 = load_part(pairs, 0, 2 * n), z1 = 2 * n > L ? load_part(pairs, L, 2 * n) : Vec<T>{};
        const Vec<T> v = shuffle<T, OfPairs<0>>(z0, z1) + b, va = shuffle<T, OfPairs<1>>(z0, z1) + anchor_b;
        const Vec<T> s = load_part(job.weight, i, i + n), y = gather(job.target + i, n);

        Vec<T> e, unused, c{};
        const Vec<T> r = Loss::link(v, e) - y;
        loss.add(s, v, y, r, e);
        if (anchored) {
            const Vec<T> table = on_the_fly ? Vec<T>{} : gather(job.table + i, n);
            if (job.temperature == T(0)) {
                c = on_the_fly ? Loss::link(va, unused) - y : table;
            } else {
                const T inverse = T(1) / job.temperature;
                const Vec<T> t = on_the_fly ? Loss::link(va * inverse, unused) : table;
                c = r - job.temperature * (Loss::link(v * inverse, unused) - t);
            }
            store_first(job.c + i, c, n);
        }
        store_first(job.r + i, r, n);
        if (job.stacked && anchored) {
            for (Index l = 0; l < n; ++l) {
                T* const q = job.q + (i + l) * job.ldq;
                q[0] = s[l] * r[l], q[1] = s[l] * c[l];
            }
        } else {
            store_first(job.q + i, anchored ? s * (r - job.lam * c) : s * r, n);
        }
        if (!job.norm) continue;
        const Vec<T> norm = s * s * load_part(job.norm, i, i + n);
        xx += norm * r * r, xt += norm * r * c, tt += norm * c * c;
        const Vec<T> r0 = shuffle<T, Before>(r_before, r), c0 = shuffle<T, Before>(c_before, c);
        const Vec<T> pair = s * shuffle<T, Before>(s_before, s) * load_part(job.pair, i, i + n);
        pair_xx += pair * r * r0, pair_xt += pair * (r * c0 + c * r0), pair_tt += pair * c * c0;
        r_before = r, c_before = c, s_before = s;
    }
    Sums& sums = *job.sums;
    sums.loss += loss.value();
    if (!job.norm) return;
    sums.xx += static_cast<double>(sum<T>(xx));
    sums.xt += static_cast<double>(sum<T>(xt));
    sums.tt += static_cast<double>(sum<T>(tt));
    sums.pair_xx += static_cast<double>(sum<T>(pair_xx));
    sums.pair_xt += static_cast<double>(sum<T>(pair_xt)) / 2;
    sums.pair_tt += static_cast<double>(sum<T>(pair_tt));
}

}  // namespace kdvr::KDVR_ISA
