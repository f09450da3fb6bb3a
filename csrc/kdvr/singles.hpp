// Purpose: stochastic gradient steps of one sparse row and one output, in one loop. A row has a dozen non-zeros, so a step
// takes some tens of nanoseconds and leaves no time to go through blocks. Same formulas as residuals.hpp, gradient.hpp and
// sparse_lazy.hpp.
#pragma once

#include "losses.hpp"
#include "sparse_gradient.hpp"
#include "sparse_lazy.hpp"

namespace kdvr::KDVR_ISA {

constexpr Index kRowsAhead = 8;  // a row's numbers are asked for this many steps before it is met, its offset twice as many

template <class T, class I>
KDVR_INLINE void ask_for(const SingleJob<T>& job, Index t) {
    if (t + 2 * kRowsAhead < job.steps) {
        const Index row = job.order[t + 2 * kRowsAhead];
        if (job.X->start64) {
            __builtin_prefetch(job.X->start64 + row);
        } else {
            __builtin_prefetch(job.X->start32 + row);
        }
    }
    if (t + kRowsAhead < job.steps) {
        const Index row = job.order[t + kRowsAhead];
        const SparseRow<T> a = job.X->row(row);
        __builtin_prefetch(a.value);
        __builtin_prefetch(a.value + a.count);
        __builtin_prefetch(a.index);
        __builtin_prefetch(static_cast<const I*>(a.index) + a.count);
        __builtin_prefetch(job.target + row * job.target_stride);
    }
}

// A short vector: what is done to one number is done to it, since the compiler makes jumps of choices between scalars.
template <class T>
struct Short;
template <>
struct Short<float> {
    typedef float Vec __attribute__((vector_size(16)));
    typedef std::uint32_t Int __attribute__((vector_size(16)));
};
template <>
struct Short<double> {
    typedef double Vec __attribute__((vector_size(16)));
    typedef std::uint64_t Int __attribute__((vector_size(16)));
};

// exp(x) for x <= 0 as early as possible: 2^t, t = x log2(e) = n + f, with the polynomial in f as a tree. t has the relative
// rounding error that x itself, a sum of products, has already. Exactly 0 below exp_lowest; NaN stays NaN.
template <class T>
KDVR_INLINE typename Short<T>::Vec exp_soon(typename Short<T>::Vec x) {
    using S = Simd<T>;
    using V = typename Short<T>::Vec;
    using Int = typename Short<T>::Int;
    constexpr int terms = S::exp_terms;
    const V shifted = x * S::log2e + S::magic, n = shifted - S::magic, f = x * S::log2e - n;
    V c[terms], power = f;
    T coefficient = 1;  // ln(2)^i / i!
#pragma GCC unroll 16
    for (int i = 0; i < terms; ++i) {
        if (i > 0) coefficient *= T(0.693147180559945309417) / static_cast<T>(i);
        c[i] = V{} + coefficient;
    }
#pragma GCC unroll 8
    for (int count = terms; count > 1; count = (count + 1) / 2) {
#pragma GCC unroll 8
        for (int i = 0; i < count / 2; ++i) c[i] = c[2 * i] + c[2 * i + 1] * power;
        if (count % 2 == 1) c[count / 2] = c[count - 1];
        power *= power;
    }
    const V y = (V)((Int)c[0] + ((Int)shifted << S::mantissa_bits));
    return x < S::exp_lowest ? V{} : y;
}

// A step is as long as its chain of operations, so the logarithm of the logistic loss is put off: log(1 + e) of many rows is
// the logarithm of a product.
struct LossSum {
    double total = 0, product = 1;
    int factors = 0;

    KDVR_INLINE void multiply(double factor) {
        product *= factor;
        if (++factors == 512) fold();  // factors are at most 2
    }
    void fold() {
        total += std::log(product);
        product = 1, factors = 0;
    }
};

// One output: the prediction link(z) = share * rest, in two factors since the last one is there last, and the loss.
template <class T, class Loss>
struct Single;

template <class T>
struct Single<T, Squared<T>> {
    T share = 1, rest;
    explicit KDVR_INLINE Single(T z) : rest(z) {}
    KDVR_INLINE void add_loss(LossSum& sum, T weight, T y, T z) const {
        sum.total += static_cast<double>(weight * Squared<T>::value(T(0), T(0), (z - y) * (z - y)));
    }
};

template <class T>
struct Single<T, Logistic<T>> {
    T e, share, rest;  // e = exp(-|z|), of which both signs of z make a prediction and a loss without overflow
    explicit KDVR_INLINE Single(T z) {
        using V = typename Short<T>::Vec;
        using Int = typename Short<T>::Int;
        const V v = V{} + z, exponential = exp_soon<T>((V)((Int)v | (Int)-V{}));  // with the sign bit set
        e = exponential[0], share = (v < T(0) ? exponential : V{} + T(1))[0], rest = T(1) / (T(1) + e);
    }
    KDVR_INLINE void add_loss(LossSum& sum, T weight, T y, T z) const {
        sum.total += static_cast<double>(weight * ((z > 0 ? z : T(0)) - y * z));
        if (weight == T(1)) {
            sum.multiply(1 + static_cast<double>(e));
        } else {
            sum.total += static_cast<double>(weight * std::log1p(e));
        }
    }
};

template <class T>
struct Products {
    T z, pair;  // <a, v>, <a, before>
};

// Puts the row down in `place` and multiplies it by the weights and by the row before; the places of a feature lie side by
// side.
template <class T, class I>
KDVR_INLINE Products<T> meet(const SparseRow<T>& a, const T* v, const T* before, T* place) {
    const I* const index = static_cast<const I*>(a.index);
    Products<T> sums{};
    for (Index i = 0; i < a.count; ++i) {
        const auto j = static_cast<Index>(index[i]);
        sums.z += a.value[i] * v[j], sums.pair += a.value[i] * before[2 * j];
        place[2 * j] = a.value[i];
    }
    return sums;
}

// Takes the row's step, v += moved a, and takes the row away from its place.
template <class T, class I>
KDVR_INLINE void leave(const SparseRow<T>& a, T moved, T* v, T* place) {
    const I* const index = static_cast<const I*>(a.index);
    for (Index i = 0; i < a.count; ++i) {
        const auto j = static_cast<Index>(index[i]);
        v[j] += moved * a.value[i];
        place[2 * j] = T(0);
    }
}

// Second moments of the row at hand and its products with the row before; formulas in backends/base.py: Sums.
template <class T>
KDVR_INLINE void add_statistics(const RowBefore<T>& now, const RowBefore<T>& before, T norm, T pair, bool anchored,
                                Sums& sums) {
    const double n = static_cast<double>(now.weight * now.weight * norm);
    const double p = static_cast<double>(now.weight * before.weight * pair);  // before.weight is 0 where there is no row before
    const double x = static_cast<double>(now.r), x0 = static_cast<double>(before.r);
    sums.xx += n * x * x, sums.pair_xx += p * x * x0;
    if (!anchored) return;
    const double t = static_cast<double>(now.c), t0 = static_cast<double>(before.c);
    sums.xt += n * x * t, sums.tt += n * t * t;
    sums.pair_xt += p * (x * t0 + t * x0) / 2, sums.pair_tt += p * t * t0;
}

// The products of a row are taken before the step of the row before has reached the weights, so that they need not wait for
// it: <a_t, v + moved a_{t-1}> = <a_t, v> + moved <a_t, a_{t-1}>, of which the statistics need the last product anyway. From
// residual to residual the chain is then one multiply-add and the link, and no row waits for another one's memory.
// With L1 or an average the steps that a feature missed must follow the step that it was in, and a step is taken at once.
template <class T, class I, class Loss>
void single_steps(SingleJob<T>& job) {
    Lazy<T>& lazy = *job.lazy;
    const bool ahead = !lazy.seen || (lazy.l1 == 0 && !lazy.average);
    const bool anchored = job.anchor != AnchorKind::none, statistics = job.statistics;
    const T one = job.fit_intercept ? T(1) : T(0);
    LossSum loss;
    Sums sums;
    RowBefore<T> last = job.before;
    T moved = 0, b = *job.b;
    for (Index t = job.first; t < job.last; ++t) {
        ask_for<T, I>(job, t);
        const Index row = job.order[t];
        const SparseRow<T> a = job.X->row(row);
        const T weight = job.weights ? job.weights[row] : T(1), y = job.target[row * job.target_stride];
        if (lazy.seen) catch_up_row<T, I>(lazy, a, t);
        T c = 0;
        if (job.anchor == AnchorKind::table) c = job.table[row];
        if (job.anchor == AnchorKind::weights) {
            const Single<T, Loss> at(sparse_dot<T, I>(a, job.anchor_w) + job.anchor_b);
            c = at.share * at.rest - y;
        }
        T *const place = job.scratch + t % 2, *const before = job.scratch + (t + 1) % 2;
        const Products<T> products = meet<T, I>(a, lazy.v, before, place);
        leave<T, I>(last.row, moved, lazy.v, before);
        const T scale = static_cast<T>(lazy.scale);
        const double rate = job.rates[job.one_rate ? 0 : t];
        sparse_advance_inline(lazy, t, rate);
        const T factor = weight * static_cast<T>(-rate / lazy.scale), offset = factor * (y + job.lam * c);

        const T z = scale * (products.z + moved * products.pair) + b;
        const Single<T, Loss> at(z);
        moved = (factor * at.share) * at.rest - offset;
        if (!ahead) {
            sparse_add_of<T, I>(a, &moved, T(1), 1, 1, lazy.v);
            moved = 0;
        }
        const T r = at.share * at.rest - y;
        if (job.fit_intercept) b -= static_cast<T>(rate) * (weight * (r - job.lam * c) + job.lam * job.mean_b);
        if (job.average_b) *job.average_b += (static_cast<double>(b) - *job.average_b) / static_cast<double>(++*job.averaged);
        at.add_loss(loss, weight, y, z);
        const RowBefore<T> now = {a, r, c, weight};
        if (statistics) add_statistics<T>(now, last, sparse_norm(a) + one, products.pair + one, anchored, sums);
        last = now;
    }
    if (moved != 0) sparse_add_of<T, I>(last.row, &moved, T(1), 1, 1, lazy.v);
    loss.fold();
    *job.b = b, job.before = last;
    sums.loss = loss.total, sums.rows = static_cast<double>(job.last - job.first);
    if (job.statistics) sums.pairs = sums.rows - (job.sums->rows > 0 ? 0 : 1);
    job.sums->add(sums);
}

template <class T, class I>
void sparse_singles(SingleJob<T>& job) {
    if (job.loss == LossKind::logistic) {
        single_steps<T, I, Logistic<T>>(job);
    } else {  // softmax has more than one output
        single_steps<T, I, Squared<T>>(job);
    }
}

template <class T, class I>
constexpr SparseKernels<T> sparse_table = {
    sparse_logits<T, I>,           sparse_row_products<T, I>, sparse_add<T, I>, sparse_add_double<T, I>, sparse_take<T, I>,
    sparse_catch_up<T, I>,         sparse_advance<T>,         sparse_settle<T>, sparse_singles<T, I>,    sparse_prefetch<T, I>,
    sparse_prefetch_weights<T, I>,
};

}  // namespace kdvr::KDVR_ISA
