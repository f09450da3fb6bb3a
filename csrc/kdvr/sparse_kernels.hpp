// Purpose: the kernels on sparse rows that one instruction set provides, and the plain structs they take. See kernels.hpp.
//
// Weights are feature-major, so that a non-zero touches the k numbers of its feature side by side: w_j at w + j * stride,
// stride 1 for one output and kp otherwise. A step costs O(k) a non-zero; what happens to every feature in every step (decay,
// the constant lam m, L1, the average) is made up for when a feature is met again, see Lazy.
#pragma once

#include "kernels.hpp"

namespace kdvr {

// Weights in the middle of an epoch. With s_t = prod (1 - rate_t l2), the weights after t steps are w = s_t v, and in v the
// step without data, w <- shrink((1 - rate l2) w - rate lam m, rate l1), is
//     v <- shrink(v - p lam m_j, p l1),     p = rate_t / s_{t+1}.
// It is the proximal step of a function of one variable that is linear on both sides of 0. Such steps add up (p -> sum of p)
// except for the one in which v passes 0, and v passes 0 at most once; so the steps seen[j] .. t - 1 that feature j missed take
// a fixed number of operations and, for a passage, a binary search in `path`. The same linear pieces give the sum of w.
template <class T>
struct Lazy {
    T* v;             // d x stride
    const T* mean;    // m, d x stride, or null
    double* average;  // sum of w over the steps, d x stride, or null
    Index* seen;      // d: the steps that v_j has been through; null if no step changes a feature that it does not meet
    double* path;     // steps + 1: path[t] = sum of p over the steps before t
    double* scales;   // steps + 1: sum of s_1 .. s_t, for the average
    double* moments;  // steps + 1: sum of s_1 path[1] .. s_t path[t], for the average
    double scale;     // s_t
    double lam, l1, l2;
    Index d, k, stride;
};

// The row before another one in the walk; empty and of weight 0 where there is none.
template <class T>
struct RowBefore {
    SparseRow<T> row;
    T r, c, weight;
};

// Steps `first` to `last` - 1, each of one row with one output; formulas as in ResidualJob and Update, without temperature and
// momentum. What changes along the way (lazy, b, before, the sums) is left so that the next call can go on.
template <class T>
struct SingleJob {
    Lazy<T>* lazy;
    const CsrRows<T>* X;
    const std::int64_t* order;  // one row a step, `steps` in all
    Index first, last, steps;
    const double* rates;  // one a step, or a single one for all
    bool one_rate;
    LossKind loss;
    AnchorKind anchor;
    const T* target;  // of row i: target[i * target_stride]
    Index target_stride;
    const T* weights;  // n, or null
    const T* table;    // n, for AnchorKind::table
    const T* anchor_w;
    T anchor_b, lam;
    bool statistics, fit_intercept;
    T *b, mean_b;       // intercept, and m's
    double* average_b;  // running mean, or null
    Index* averaged;
    RowBefore<T> before;
    T* scratch;  // d x 2: at [2j + t % 2] the row of step t, as long as the row after it is not done; zeros elsewhere
    Sums* sums;
};

// One table for each type of index. Rows may be empty.
template <class T>
struct SparseKernels {
    using Row = SparseRow<T>;
    // z_i = scale <a_i, w> in k numbers, and <a_i, anchor> kp behind them unless anchor is null. z: rows x 2kp.
    void (*logits)(const Row*, Index rows, const T* w, const T* anchor, T scale, Index k, Index kp, T* z);
    // As in Kernels; scratch: d zeros, and zeros again afterwards.
    void (*row_products)(const Row*, Index rows, const Row* before, const RowProducts<T>&, T* scratch);
    // w_j += scale sum_i a_ij q_i, or without a scale into doubles, over the features in [from, to).
    void (*add)(const Row*, Index rows, const T* q, Index ldq, T scale, Index from, Index to, Index k, Index stride, T* w);
    void (*add_double)(const Row*, Index rows, const T* q, Index ldq, Index from, Index to, Index k, Index stride, double* sum);
    // w_j += scale sum_j and sum_j = 0 for every feature of the rows.
    void (*take)(const Row*, Index rows, double* sum, T scale, Index stride, T* w);
    // Takes the rows' features through the steps that they missed before step t.
    void (*catch_up)(const Lazy<T>&, const Row*, Index rows, Index t);
    // Counts step t: s_{t+1} and the sums up to it. Where s leaves its range, all weights are settled first.
    void (*advance)(Lazy<T>&, Index t, double rate);
    // All features after t steps, with scale 1: the weights themselves.
    void (*settle)(Lazy<T>&, Index t);
    // Steps of one row and one output each.
    void (*singles)(SingleJob<T>&);
    // Asks the cache for the rows, and for the k numbers that w has for each of their features.
    void (*prefetch)(const Row*, Index rows);
    void (*prefetch_weights)(const Row*, Index rows, Index k, Index stride, const T* w);
};

}  // namespace kdvr
