// Purpose: the losses, one struct each. A loss is its link and its log-partition A: predictions p = link(z), residual p - y,
// value A(z) - <y, z> (softmax, logistic) or |z - y|^2 / 2 (squared).
// Shapes: a row is k numbers in whole vectors; lanes beyond k hold `padding` (block.hpp) in z, and every link gives 0 there.
// Source: arXiv:2305.17581, Proposition 1 (the residual is linear in the target for all three).
#pragma once

#include <cmath>

#include "kernels.hpp"
#include "simd.hpp"

namespace kdvr::KDVR_ISA {

template <class T>
struct Squared {
    // p = v; no partition is needed: the value comes from the residual.
    static KDVR_INLINE T link(T*, Index) { return T(0); }
    static KDVR_INLINE T value(T, T, T residual_sq) { return T(0.5) * residual_sq; }
};

template <class T>
struct Logistic {
    // p = 1 / (1 + e^-v) from e = exp(-|v|), which cannot overflow. k = 1, so lane 0 alone has a partition log(1 + e^v).
    static KDVR_INLINE T link(T* p, Index k) {
        const T v = p[0];
        const T partition = (v > T(0) ? v : T(0)) + std::log1p(exp_nonpositive<T>(-absolute<T>(splat(v)))[0]);
        for (Index j = 0; j < k; j += kLanes<T>) {
            const Vec<T> x = load(p + j);
            const Vec<T> e = exp_nonpositive<T>(-absolute<T>(x));
            store<T>(p + j, (x < T(0) ? e : splat<T>(1)) / (T(1) + e));
        }
        return partition;
    }
    static KDVR_INLINE T value(T partition, T y_dot_z, T) { return partition - y_dot_z; }
};

template <class T>
struct Softmax {
    // p = e^(v - max) / sum, partition max + log(sum).
    static KDVR_INLINE T link(T* p, Index k) {
        Vec<T> top = load(p);
        for (Index j = kLanes<T>; j < k; j += kLanes<T>) top = larger<T>(top, load(p + j));
        const T shift = largest<T>(top);
        Vec<T> total{};
        for (Index j = 0; j < k; j += kLanes<T>) {
            const Vec<T> e = exp_nonpositive<T>(load(p + j) - shift);
            store<T>(p + j, e);
            total += e;
        }
        const T normaliser = sum<T>(total);
        const T inverse = T(1) / normaliser;
        for (Index j = 0; j < k; j += kLanes<T>) store<T>(p + j, load(p + j) * inverse);
        return shift + std::log(normaliser);
    }
    static KDVR_INLINE T value(T partition, T y_dot_z, T) { return partition - y_dot_z; }
};

}  // namespace kdvr::KDVR_ISA
