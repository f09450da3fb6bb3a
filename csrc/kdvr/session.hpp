// Purpose: a problem opened: weights, anchor, momentum and average, and the two loops over the data, epoch and pass.
// The contract, with formulas and shapes, is kdvr_fast/backends/base.py: Session.
#pragma once

#include <algorithm>  // copy_n, min
#include <cmath>      // isfinite
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "block.hpp"
#include "compress.hpp"
#include "parts.hpp"
#include "span.hpp"

namespace kdvr {

// One read of all rows. Gradients are means over n, k x d and k, in double.
struct Pass {
    Sums sums;
    Buffer<double> grad, grad_intercept;
    Buffer<double> anchor_grad, anchor_grad_intercept;  // empty without an anchor
};

// What an epoch leaves to the next besides matrices.
struct Carried {
    Index averaged = 0;                 // steps in the running average
    std::uint64_t compressed = 0;       // steps so far that ended with a compression
    bool velocity = false;              // whether there is a momentum buffer
    bool cached = false, mean = false;  // what was asked of the last anchor at weights
};

struct Walk {
    Sums sums;
    Index steps = 0;
    std::vector<Pass> passes;
    bool exploded = false;
};

// The row sequence of one epoch and what changes along it.
struct Route {
    const std::int64_t* order = nullptr;
    Index rows = 0;
    const double* rates = nullptr;  // one a step, or a single one for all
    Index n_rates = 0;
    const std::int64_t* refresh_at = nullptr;  // sorted steps
    Index n_refresh = 0;
    double loss_limit = std::numeric_limits<double>::max();
};

// Whether the mean loss of the rows walked between two looks is finite and at most the limit.
inline bool in_bounds(const Sums& now, const Sums& before, double limit) {
    const double loss = now.loss - before.loss;
    return std::isfinite(loss) && loss / (now.rows - before.rows) <= limit;
}

// Rows of a block that is read in order, at most: few switches between reading and adding up.
constexpr Index kRowsInOrder = 64;

// What one part of a pass adds up.
template <class T>
struct Reading {
    Reading(const Problem<T>& p, bool apart, Index size, Index outputs)
        : asks(!p.is_virtual() && (p.k > 1 || p.is_sparse() || p.is_compact())),
          block(p, 0, std::min(p.k == 1 && !p.is_sparse() ? kRowsInOrder : kMostRows, Block<T>::rows_in_cache(p)),
                apart ? 1 : kMaxChunks, true),
          sum_w(size),
          sum_b(outputs),
          rows(static_cast<std::size_t>(2 * block.max_rows())) {}

    void clear() {
        sums = Sums{};
        sum_w.clear(), sum_b.clear();
    }

    // One output of dense rows leaves so little to compute that memory sets the pace, and nothing feeds a processor as well as
    // its own prefetcher where rows are read one by one; requests of ours, or several rows at a time, halve the rate. Compact
    // rows are a quarter or half of the bytes and leave memory time to rest.
    bool asks;
    Block<T> block;
    Sums sums;
    Buffer<double> sum_w, sum_b;
    std::vector<std::int64_t> rows;  // of a block and of the next
};

template <class T>
class Session {
  public:
    explicit Session(const Problem<T>& problem);
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    Index k() const { return p_.k; }
    Index d() const { return p_.X.d; }
    Index n() const { return p_.X.n; }
    bool is_sparse() const { return p_.is_sparse(); }
    bool fit_intercept() const { return p_.fit_intercept; }
    const Problem<T>& problem() const { return p_; }
    const T* table() const { return table_.data(); }
    bool has_table() const { return table_.size() > 0; }

    // coef: k x d, intercept: k, both contiguous.
    void set_weights(const T* coef, const T* intercept);
    void weights(T* coef, T* intercept) const;
    void average(T* coef, T* intercept) const;
    void set_mean(const T* coef, const T* intercept);

    // What an epoch leaves to the next: state.cpp. Matrices as above; the running average is that of double numbers.
    Carried carried() const;
    void velocity(T* coef, T* intercept) const;
    void running_average(double* coef, double* intercept) const;
    void mean(T* coef, T* intercept) const;
    void anchor(T* coef, T* intercept) const;
    // After set_weights: velocity and average may be null.
    void carry_on(const Carried& carried, const T* velocity, const T* velocity_intercept, const double* average,
                  const double* average_intercept);
    // An anchor at weights as anchor_at left it, but for the mean. Without its table (n x k) that takes a pass.
    void place_anchor(const T* coef, const T* intercept, const T* table, bool cached, bool mean, const Poll& poll);

    std::optional<Pass> anchor_at(const T* coef, const T* intercept, bool cached, bool mean, const Poll& poll);
    std::optional<Pass> anchor_table(const T* values, bool mean, const Poll& poll);

    Walk epoch(const Route& route, const Step& step, const ControlVariate& variate, const Poll& poll);
    Pass evaluate(const T* coef, const T* intercept, const ControlVariate& variate, const Poll& poll);
    // z: n x k, without the anchor.
    void logits(const T* coef, const T* intercept, T* z, const Poll& poll);
    // G (p x p, p = d + 1 with an intercept) = sum of weight_i a_i a_i^T over some sparse rows; see gram.hpp.
    void gram(const std::int64_t* rows, const double* weights, Index count, double* G, const Poll& poll) const;
    // Sparse rows: weights (k x d) from numbers C (k x n) of the rows, and their logits (k x n) without intercepts; see
    // span.hpp.
    void combine(const T* C, T* coef, const Poll& poll) { span().combine(C, coef, poll); }
    void images(const T* C, T* Z, const Poll& poll) { span().images(C, Z, poll); }

  private:
    class Stepper;
    struct Batch {
        const std::int64_t* rows;
        Index count, left;  // rows of this batch; rows to walk from here to the end of the epoch
    };

    // All rows once, at the weights `w`: pass.cpp.
    Pass pass(Weights<T>& w, const ControlVariate& variate, T* residuals_out, const Poll& poll);
    Weights<T>& read_at(const T* coef, const T* intercept);
    Span<T>& span() {
        if (!span_) span_ = std::make_unique<Span<T>>(p_);
        return *span_;
    }
    void set_mean(const Buffer<double>& coef, const Buffer<double>& intercept);
    std::optional<Pass> rebuild_anchor(const Poll& poll);
    void take_step(Stepper& stepper, const Batch& batch, Sums& sums);
    void update_table(Stepper& stepper, const Batch& batch);
    template <class U>
    void unpack(const U* w, const U* b, U* coef, U* intercept) const {
        p_.layout().unpack(w, coef, p_.threads, [](U value) { return value; });
        std::copy_n(b, p_.k, intercept);
    }
    template <class U>
    void pack(const U* coef, const U* intercept, U* w, U* b) const {
        p_.layout().pack(coef, w, p_.threads);
        std::copy_n(intercept, p_.k, b);
    }

    Problem<T> p_, alone_;  // the same, with one thread
    Weights<T> weights_;
    Buffer<T> norms_, mean_w_, mean_b_, velocity_w_, velocity_b_, table_;
    Buffer<double> average_w_, average_b_;
    Index averaged_ = 0;
    std::uint64_t compressed_ = 0;
    bool cached_ = false, mean_ = false;
    std::unique_ptr<Weights<T>> read_at_;
    std::unique_ptr<Span<T>> span_;
    std::vector<std::unique_ptr<Reading<T>>> readings_;
};

extern template class Session<float>;
extern template class Session<double>;

}  // namespace kdvr
