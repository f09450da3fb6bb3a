// Purpose: the losses, one struct each. A loss is its link and its log-partition A: predictions p = link(z), residual p - y,
// value A(z) - <y, z> (softmax, logistic) or |z - y|^2 / 2 (squared).
// Shapes: link(T*, k) takes one row, k numbers in whole vectors; lanes beyond k hold `padding` (block.hpp) in z, and every link
// gives 0 there. link(Vec, e) takes one output of as many rows as there are lanes.
// Source: arXiv:2305.17581, Proposition 1 (the residual is linear in the target for all three).
#pragma once

#ifdef KDVR_CUDA  // a warp is a vector of 32 lanes
#include "lanes.cuh"
#else
#include <cmath>

#include "kernels.hpp"
#include "simd.hpp"
#endif

namespace kdvr::KDVR_ISA {

#ifndef KDVR_CUDA
template <class T>
KDVR_INLINE T logarithm(T x) {
    return std::log(x);
}
#endif

template <class T>
struct Squared {
    // p = v; no partition is needed: the value comes from the residual.
    static KDVR_INLINE T link(T*, Index) { return T(0); }
    static KDVR_INLINE T value(T, T, T residual_sq) { return T(0.5) * residual_sq; }
    static KDVR_INLINE Vec<T> link(Vec<T> v, Vec<T>&) { return v; }
};

template <class T>
struct Logistic {
    // One output: lanes are rows. e = exp(-|v|), which cannot overflow, gives the prediction and the partition log(1 + e^v) =
    // max(v, 0) + log(1 + e).
    static KDVR_INLINE Vec<T> link(Vec<T> v, Vec<T>& e) {
        e = exp_nonpositive<T>(-absolute<T>(v));
        return (v < T(0) ? e : splat<T>(1)) / (T(1) + e);
    }
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
        return shift + logarithm(normaliser);
    }
    static KDVR_INLINE T value(T partition, T y_dot_z, T) { return partition - y_dot_z; }
};

}  // namespace kdvr::KDVR_ISA
