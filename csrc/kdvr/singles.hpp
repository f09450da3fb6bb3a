// Purpose: stochastic gradient steps of one sparse row and one output, in one loop. A row has a dozen non-zeros, so a step
// takes some tens of nanoseconds and leaves no time to go through blocks. Same formulas as residuals.hpp, step.hpp and
// sparse.hpp.
#pragma once

#include "losses.hpp"
#include "sparse.hpp"

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

// exp(x) for x <= 0, as exp_nonpositive, with the polynomial as a tree: a few products more and half the time until it is
// there.
template <class T>
KDVR_INLINE T exp_soon(T x) {
    using S = Simd<T>;
    using Int = typename S::Int;
    constexpr int terms = S::exp_terms;
    const Vec<T> v = splat(x), shifted = v * S::log2e + S::magic, n = shifted - S::magic;
    const Vec<T> f = (v - n * S::ln2_hi) - n * S::ln2_lo;
    Vec<T> c[terms], power = f;
    T factorial = 1;
#pragma GCC unroll 16
    for (int i = 0; i < terms; ++i) {
        factorial *= i > 0 ? static_cast<T>(i) : T(1);
        c[i] = splat(T(1) / factorial);
    }
#pragma GCC unroll 8
    for (int count = terms; count > 1; count = (count + 1) / 2) {
#pragma GCC unroll 8
        for (int i = 0; i < count / 2; ++i) c[i] = c[2 * i] + c[2 * i + 1] * power;
        if (count % 2 == 1) c[count / 2] = c[count - 1];
        power *= power;
    }
    const Vec<T> y = (Vec<T>)((Int)c[0] + ((Int)shifted << S::mantissa_bits));
    return x < S::exp_lowest ? T(0) : y[0];
}

// One output: p = link(z), and what the loss adds to its sum. A step is as long as its chain of operations, so the logarithm of
// the logistic loss is put off: log(1 + e) of many rows is the logarithm of a product.
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

template <class T, class Loss>
struct Single;

template <class T>
struct Single<T, Squared<T>> {
    static KDVR_INLINE T link(T z, T&) { return z; }
    static KDVR_INLINE void add(LossSum& sum, T weight, T y, T z, T) {
        sum.total += static_cast<double>(weight * Squared<T>::value(T(0), T(0), (z - y) * (z - y)));
    }
};

template <class T>
struct Single<T, Logistic<T>> {
    // e = exp(-|z|), of which both signs of z make a prediction and a loss without overflow.
    static KDVR_INLINE T link(T z, T& e) {
        e = exp_soon<T>(z < 0 ? z : -z);
        return (z < 0 ? e : T(1)) / (T(1) + e);
    }
    static KDVR_INLINE void add(LossSum& sum, T weight, T y, T z, T e) {
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
    T z, norm, pair;  // <a, v>, |a|^2, <a, before>
};

template <class T, class I>
KDVR_INLINE Products<T> sparse_products(const SparseRow<T>& a, const T* v, const T* before) {
    const I* const index = static_cast<const I*>(a.index);
    Products<T> x{}, y{};
    Index i = 0;
    for (; i + 2 <= a.count; i += 2) {
        const T a0 = a.value[i], a1 = a.value[i + 1];
        x.z += a0 * v[index[i]], y.z += a1 * v[index[i + 1]];
        x.norm += a0 * a0, y.norm += a1 * a1;
        x.pair += a0 * before[index[i]], y.pair += a1 * before[index[i + 1]];
    }
    if (i < a.count)
        x.z += a.value[i] * v[index[i]], x.norm += a.value[i] * a.value[i], x.pair += a.value[i] * before[index[i]];
    return {x.z + y.z, x.norm + y.norm, x.pair + y.pair};
}

template <class T, class I>
KDVR_INLINE void add_statistics(SingleJob<T>& job, const SparseRow<T>& a, const Products<T>& products, T weight, T r, T c) {
    const T one = job.fit_intercept ? T(1) : T(0);
    Sums& sums = *job.sums;
    const double norm = static_cast<double>(weight * weight * (products.norm + one));
    const double x = static_cast<double>(r), t = static_cast<double>(c);
    sums.xx += norm * x * x, sums.xt += norm * x * t, sums.tt += norm * t * t;
    if (sums.rows > 0) {
        const double pair = static_cast<double>(weight * job.before.weight * (products.pair + one));
        const double x0 = static_cast<double>(job.before.r), t0 = static_cast<double>(job.before.c);
        sums.pairs += 1;
        sums.pair_xx += pair * x * x0, sums.pair_xt += pair * (x * t0 + t * x0) / 2, sums.pair_tt += pair * t * t0;
        unscatter<T, I>(job.before.row, job.scratch);
    }
    scatter<T, I>(a, job.scratch);
    job.before = {a, r, c, weight};
}

template <class T, class I, class Loss>
void single_steps(SingleJob<T>& job) {
    using One = Single<T, Loss>;
    Lazy<T>& lazy = *job.lazy;
    LossSum loss;
    for (Index t = job.first; t < job.last; ++t) {
        ask_for<T, I>(job, t);
        const Index row = job.order[t];
        const SparseRow<T> a = job.X->row(row);
        const T weight = job.weights ? job.weights[row] : T(1), y = job.target[row * job.target_stride];
        if (lazy.seen) catch_up_row<T, I>(lazy, a, t);

        Products<T> products;
        if (job.statistics) {
            products = sparse_products<T, I>(a, lazy.v, job.scratch);
        } else {
            products.z = sparse_dot<T, I>(a, lazy.v);
        }
        const T z = static_cast<T>(lazy.scale) * products.z + *job.b;
        T e = 0, c = 0;
        const T r = One::link(z, e) - y;
        if (job.anchor == AnchorKind::table) c = job.table[row];
        if (job.anchor == AnchorKind::weights) {
            T unused = 0;
            c = One::link(sparse_dot<T, I>(a, job.anchor_w) + job.anchor_b, unused) - y;
        }
        One::add(loss, weight, y, z, e);
        if (job.statistics) add_statistics<T, I>(job, a, products, weight, r, c);
        job.sums->rows += 1;

        const double rate = job.rates[job.one_rate ? 0 : t];
        sparse_advance_inline(lazy, t, rate);
        const T share = weight * static_cast<T>(-rate / lazy.scale), difference = r - job.lam * c;
        sparse_add_of<T, I>(a, &difference, share, 1, 1, lazy.v);
        if (job.fit_intercept) *job.b -= static_cast<T>(rate) * (weight * difference + job.lam * job.mean_b);
        if (job.average_b)
            *job.average_b += (static_cast<double>(*job.b) - *job.average_b) / static_cast<double>(++*job.averaged);
    }
    loss.fold();
    job.sums->loss += loss.total;
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
