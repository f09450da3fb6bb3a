// Purpose: logits -> residuals -> correction by the control variate -> sums, row by row; see ResidualJob in kernels.hpp.
// Sums accumulate lane-wise in T over a block (at most kBlockRows rows) and in double from block to block.
#pragma once

#include "losses.hpp"
#include "residuals_one.hpp"

namespace kdvr::KDVR_ISA {

// p = link((z + b) / temperature); returns the log-partition there.
template <class T, class Loss>
KDVR_INLINE T predict(const T* z, const T* b, T inverse_temperature, Index k, T* p) {
    for (Index j = 0; j < k; j += kLanes<T>) store<T>(p + j, (load(z + j) + load(b + j)) * inverse_temperature);
    return Loss::link(p, k);
}

// p -= y for the target of row i.
template <class T>
KDVR_INLINE void subtract_target(const ResidualJob<T>& job, Index i, T* p) {
    if (job.label) {
        // as a vector: one number stored would hold up the vector that is loaded next
        const Index label = job.label[i], at = label / kLanes<T> * kLanes<T>;
        store<T>(p + at, load(p + at) - unit<T>(label - at));
        return;
    }
    const T* y = job.target[i];
    for (Index j = 0; j < job.k; j += kLanes<T>) store<T>(p + j, load(p + j) - load_part(y, j, job.k));
}

// <y_i, z_i + b>
template <class T>
KDVR_INLINE T target_dot_logits(const ResidualJob<T>& job, Index i, const T* z) {
    if (job.label) return z[job.label[i]] + job.intercept[job.label[i]];
    const T* y = job.target[i];
    Vec<T> dot{};
    for (Index j = 0; j < job.k; j += kLanes<T>) dot += load_part(y, j, job.k) * (load(z + j) + load(job.intercept + j));
    return sum<T>(dot);
}

// c_i, given r_i; the three rows of the table in ResidualJob.
template <class T, class Loss>
KDVR_INLINE void anchor_row(const ResidualJob<T>& job, Index i, const T* z, const T* r, T* c) {
    if (job.temperature == T(0)) {
        if (job.anchor == AnchorKind::weights) {
            predict<T, Loss>(z + job.kp, job.anchor_intercept, T(1), job.k, c);
            subtract_target(job, i, c);
        } else {
            for (Index j = 0; j < job.k; j += kLanes<T>) store<T>(c + j, load_part(job.table[i], j, job.k));
        }
        return;
    }
    const T inverse = T(1) / job.temperature;
    T* const t = job.q + i * job.ldq;  // free as scratch until q_i is written
    if (job.anchor == AnchorKind::weights) {
        predict<T, Loss>(z + job.kp, job.anchor_intercept, inverse, job.k, t);
    } else {
        for (Index j = 0; j < job.k; j += kLanes<T>) store<T>(t + j, load_part(job.table[i], j, job.k));
    }
    predict<T, Loss>(z, job.intercept, inverse, job.k, c);
    for (Index j = 0; j < job.k; j += kLanes<T>) {
        store<T>(c + j, load(r + j) - job.temperature * (load(c + j) - load(t + j)));
    }
}

template <class T, class Loss>
void residual_rows(const ResidualJob<T>& job) {
    constexpr Index L = kLanes<T>;
    const bool anchored = job.anchor != AnchorKind::none;
    double loss = 0;
    Vec<T> xx{}, xt{}, tt{}, pair_xx{}, pair_xt{}, pair_tt{};
    for (Index i = 0; i < job.rows; ++i) {
        const T* z = job.z + i * 2 * job.kp;
        T* const r = job.r + i * job.kp;
        T* const c = job.c + i * job.kp;
        T* const q = job.q + i * job.ldq;
        const T s = job.weight[i];

        const T partition = predict<T, Loss>(z, job.intercept, T(1), job.k, r);
        const T y_dot_z = target_dot_logits(job, i, z);
        subtract_target(job, i, r);
        if (anchored) anchor_row<T, Loss>(job, i, z, r, c);

        Vec<T> rr{};
        const bool paired = job.norm && (i > 0 || job.paired);
        const T norm = job.norm ? s * s * job.norm[i] : T(0);
        const T pair = paired ? s * job.weight[i - 1] * job.pair[i] : T(0);
        for (Index j = 0; j < job.k; j += L) {
            const Vec<T> rj = load(r + j);
            rr += rj * rj;
            if (paired) pair_xx += pair * rj * load(r + j - job.kp);
            if (!anchored) {
                store<T>(q + j, s * rj);
                continue;
            }
            const Vec<T> cj = load(c + j);
            store<T>(q + j, job.stacked ? s * rj : s * (rj - job.lam * cj));
            if (!job.norm) continue;
            xt += norm * rj * cj;
            tt += norm * cj * cj;
            if (!paired) continue;
            const Vec<T> c_before = load(c + j - job.kp);
            pair_xt += pair * (rj * c_before + cj * load(r + j - job.kp));
            pair_tt += pair * cj * c_before;
        }
        xx += norm * rr;
        if (job.stacked && anchored) {
            for (Index j = 0; j < job.k; j += L) store<T>(q + job.k + j, s * load(c + j));
        }
        loss += static_cast<double>(s * Loss::value(partition, y_dot_z, sum<T>(rr)));
    }
    job.sums->loss += loss;
    job.sums->xx += static_cast<double>(sum<T>(xx));
    job.sums->xt += static_cast<double>(sum<T>(xt));
    job.sums->tt += static_cast<double>(sum<T>(tt));
    job.sums->pair_xx += static_cast<double>(sum<T>(pair_xx));
    job.sums->pair_xt += static_cast<double>(sum<T>(pair_xt)) / 2;
    job.sums->pair_tt += static_cast<double>(sum<T>(pair_tt));
}

template <class T>
void residuals(const ResidualJob<T>& job) {
    switch (job.loss) {
        case LossKind::squared:
            return job.k == 1 ? residuals_of_lanes<T, Squared<T>>(job) : residual_rows<T, Squared<T>>(job);
        case LossKind::logistic:
            return residuals_of_lanes<T, Logistic<T>>(job);
        case LossKind::softmax:
            return residual_rows<T, Softmax<T>>(job);
    }
}

}  // namespace kdvr::KDVR_ISA
