// Purpose: the rows of one kernel call, gathered, with the scratch that their logits and residuals live in.
// A block is at most max_rows() rows, few enough that a second sweep (the gradient) finds them in the second-level cache.
#pragma once

#include <algorithm>  // clamp, copy_n, max
#include <vector>

#include "buffer.hpp"
#include "control_variate.hpp"
#include "kernels.hpp"

namespace kdvr {

// The data of one fit, validated by the caller.
template <class T>
struct Problem {
    DenseRows<T> X;
    Targets<T> y;
    const T* weights = nullptr;  // n, mean one, or null
    LossKind loss = LossKind::squared;
    Index k = 1;
    bool fit_intercept = true;

    Index kp() const { return padded<T>(k); }
    Index ld() const { return padded<T>(X.d); }
};

// Student and anchor, one behind the other: 2k rows of ld, so that one product gives the logits of both.
// Intercepts: 2 rows of kp.
template <class T>
struct Weights {
    Buffer<T> w, b;
    Index k, ld, kp;

    explicit Weights(const Problem<T>& p) : w(2 * p.k * p.ld()), b(2 * p.kp()), k(p.k), ld(p.ld()), kp(p.kp()) {}
    T* anchor_w() { return w.data() + k * ld; }
    T* anchor_b() { return b.data() + kp; }
};

template <class T>
class Block {
  public:
    // keep: rows whose residuals must outlive their block (SAGA updates the table when the batch is done).
    Block(const Problem<T>& p, Index keep) : p_(p), kp_(p.kp()), max_rows_(rows_in_cache(p)), kept_(std::max(keep, max_rows_)) {
        const auto m = static_cast<std::size_t>(max_rows_);
        a_.resize(m), coming_.resize(m), label_.resize(m), target_.resize(m), table_.resize(m);
        z_ = Buffer<T>(max_rows_ * 2 * kp_);
        q_ = Buffer<T>(max_rows_ * (p.k + kp_));
        r_ = Buffer<T>((kept_ + 2) * kp_);  // slot 0: the row before; one slot of scratch at the end
        c_ = Buffer<T>((kept_ + 2) * kp_);
        weight_ = Buffer<T>(kept_ + 1);
        norm_ = Buffer<T>(max_rows_);
        pair_ = Buffer<T>(max_rows_);
        // Squared: 0 - 0 = 0. Logistic and softmax: exp(-1e30) = 0. Set once; kernels write only the k real logits of a row.
        const T padding = p.loss == LossKind::squared ? T(0) : T(-1e30);
        for (Index i = 0; i < z_.size(); ++i) z_[i] = padding;
    }

    Index max_rows() const { return max_rows_; }
    Index count() const { return count_; }
    RowBlock<T> rows() const { return {a_.data(), count_, p_.X.d}; }
    const T* r(Index i) const { return r_.data() + (offset_ + i + 1) * kp_; }
    const T* c(Index i) const { return c_.data() + (offset_ + i + 1) * kp_; }
    T weight(Index i) const { return weight_[offset_ + i + 1]; }
    T* q() { return q_.data(); }

    // The next block has no row before it.
    void forget() { count_ = 0; }

    // Points at `count` rows whose residuals lie, or will lie, in the slots from `offset` on.
    void point(const std::int64_t* rows, Index count, Index offset) {
        count_ = count, offset_ = offset;
        for (Index i = 0; i < count; ++i) a_[static_cast<std::size_t>(i)] = p_.X.row(rows[i]);
    }

    // Makes ready for run(): rows, targets, weights, and the table's rows (n x k, or null). The last row of the block before
    // becomes the neighbour of this block's first.
    void gather(const std::int64_t* rows, Index count, Index offset, const T* table) {
        before_ = count_ > 0 ? a_[static_cast<std::size_t>(count_ - 1)] : nullptr;
        if (before_ && offset == 0) {
            std::copy_n(r(count_ - 1), kp_, r_.data());
            std::copy_n(c(count_ - 1), kp_, c_.data());
            weight_[0] = weight(count_ - 1);
        }
        point(rows, count, offset);
        for (Index i = 0; i < count; ++i) {
            const auto at = static_cast<std::size_t>(i);
            const Index row = rows[i];
            weight_[offset + i + 1] = p_.weights ? p_.weights[row] : T(1);
            if (p_.y.labels) {
                label_[at] = p_.y.labels[row];
            } else {
                target_[at] = p_.y.values.row(row);
            }
            if (table) table_[at] = table + row * p_.k;
        }
    }

    // Asks the cache for rows that come next.
    void prefetch(const Kernels<T>& kernel, const std::int64_t* rows, Index count) {
        for (Index i = 0; i < count; ++i) coming_[static_cast<std::size_t>(i)] = p_.X.row(rows[i]);
        kernel.prefetch({coming_.data(), count, p_.X.d});
    }

    // Logits, residuals and sums of the gathered rows at `w`. q() then holds s (r - lam c), or [s r, s c] when stacked.
    void run(const Kernels<T>& kernel, Weights<T>& w, const ControlVariate& v, bool statistics, bool stacked, Index ldq,
             Sums& sums) {
        const Index outputs = v.source == AnchorKind::weights ? 2 * p_.k : p_.k;
        kernel.logits(rows(), w.w.data(), w.ld, p_.k, outputs, z_.data(), kp_);
        if (statistics) {
            kernel.row_products(rows(), before_, p_.fit_intercept ? T(1) : T(0), norm_.data(), pair_.data());
            sums.pairs += static_cast<double>(before_ ? count_ : count_ - 1);
        }
        sums.rows += static_cast<double>(count_);
        ResidualJob<T> job{};
        job.loss = p_.loss, job.anchor = v.source, job.stacked = stacked;
        job.rows = count_, job.k = p_.k, job.kp = kp_;
        job.lam = static_cast<T>(v.lam), job.temperature = static_cast<T>(v.temperature);
        job.z = z_.data(), job.intercept = w.b.data(), job.anchor_intercept = w.anchor_b();
        job.label = p_.y.labels ? label_.data() : nullptr;
        job.target = target_.data(), job.table = table_.data();
        job.weight = weight_.data() + offset_ + 1;
        job.r = r_.data() + (offset_ + 1) * kp_, job.c = c_.data() + (offset_ + 1) * kp_;
        job.q = q_.data(), job.ldq = ldq;
        job.norm = statistics ? norm_.data() : nullptr, job.pair = pair_.data();
        job.sums = &sums;
        kernel.residuals(job);
    }

    // total[o] += sum_i q[i, o] for o < outputs: the intercept's share of the gradient.
    void add_columns(Index outputs, Index ldq, double* total) const {
        for (Index i = 0; i < count_; ++i) {
            for (Index o = 0; o < outputs; ++o) total[o] += static_cast<double>(q_[i * ldq + o]);
        }
    }

  private:
    // 128 KiB of rows fit the second-level cache of every processor in use, beside the weights; 8 rows keep the tiles full.
    static Index rows_in_cache(const Problem<T>& p) {
        constexpr Index bytes = 128 * 1024;
        return std::clamp<Index>(bytes / (std::max<Index>(p.X.d, 1) * static_cast<Index>(sizeof(T))), 8, 128);
    }

    const Problem<T>& p_;
    Index kp_, max_rows_, kept_, count_ = 0, offset_ = 0;
    const T* before_ = nullptr;
    std::vector<const T*> a_, coming_, target_, table_;
    std::vector<std::int64_t> label_;
    Buffer<T> z_, q_, r_, c_, weight_, norm_, pair_;
};

}  // namespace kdvr
