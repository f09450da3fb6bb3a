// Purpose: a problem opened: weights, anchor, momentum and average, and the two loops over the data, epoch and pass.
// The contract, with formulas and shapes, is kdvr_fast/backends/base.py: Session.
#pragma once

#include <functional>
#include <limits>
#include <optional>
#include <vector>

#include "block.hpp"

namespace kdvr {

// Called about every ten milliseconds from inside a loop; stops it by throwing.
using Poll = std::function<void()>;

// Multiply-adds between two polls and two looks at the loss: about ten milliseconds.
constexpr Index kWorkBetweenPolls = Index{1} << 27;

// One read of all rows. Gradients are means over n, k x d and k, in double.
struct Pass {
    Sums sums;
    std::vector<double> grad, grad_intercept;
    std::vector<double> anchor_grad, anchor_grad_intercept;  // empty without an anchor
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

template <class T>
class Session {
  public:
    explicit Session(const Problem<T>& problem);
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    Index k() const { return p_.k; }
    Index d() const { return p_.X.d; }
    Index n() const { return p_.X.n; }
    bool has_table() const { return table_.size() > 0; }

    // coef: k x d, intercept: k, both contiguous.
    void set_weights(const T* coef, const T* intercept);
    void weights(T* coef, T* intercept) const;
    void average(T* coef, T* intercept) const;
    void set_mean(const T* coef, const T* intercept);

    std::optional<Pass> anchor_at(const T* coef, const T* intercept, bool cached, bool mean, const Poll& poll);
    std::optional<Pass> anchor_table(const T* values, bool mean, const Poll& poll);

    Walk epoch(const Route& route, const Step& step, const ControlVariate& variate, const Poll& poll);
    Pass evaluate(const T* coef, const T* intercept, const ControlVariate& variate, const Poll& poll);

  private:
    class Stepper;
    struct Batch {
        const std::int64_t* rows;
        Index count, left;  // rows of this batch; rows to walk from here to the end of the epoch
    };

    // All rows once, at the weights `w`: pass.cpp.
    Pass pass(Weights<T>& w, const ControlVariate& variate, T* residuals_out, const Poll& poll);
    std::optional<Pass> rebuild_anchor(const Poll& poll);
    void take_step(Stepper& stepper, const Batch& batch, Sums& sums);
    void update_table(Stepper& stepper, const Batch& batch);
    void unpack(const T* w, const T* b, T* coef, T* intercept) const;
    void pack(const T* coef, const T* intercept, T* w, T* b) const;

    Problem<T> p_;
    Weights<T> weights_;
    Buffer<T> mean_w_, mean_b_, velocity_w_, velocity_b_, table_;
    Buffer<double> average_w_, average_b_;
    Index averaged_ = 0;
    bool cached_ = false, mean_ = false;
};

extern template class Session<float>;
extern template class Session<double>;

}  // namespace kdvr
