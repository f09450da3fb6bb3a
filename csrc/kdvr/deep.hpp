// Purpose: steps of a deep linear model z = W_L ... W_1 a + b. The contract is kdvr_fast/backends/deep.py; full passes are
// those of a linear session at the product.
//
// With A_l = W_L ... W_{l+1} and R_l = R_{l-1} W_l^T the gradient of layer l is A_l^T R_{l-1}, a sum over "rows":
//   collapsed: k rows.        R_0 = G = sum_i q_i (x) a_i at the product P = A_0,  A_L = I
//   by layers: the batch's.   R_0 = the rows a_i, R_l = h_l,  A_L = q, so that A_l holds the errors sent back
// and both ways take the same three products: R_{l-1} W_l^T (the rows of W_l times those of R), A_l W_l (a sum of the rows of
// W_l), and A_l^T R_{l-1} with the step on the rows of W_l. Collapsed, the product with the new weights follows in the panel
// that was just stepped, so that a layer is read twice a step: 3 k h_l h_{l-1} multiply-adds a layer and step is the floor.
// The anchor's own rows, -lam A_l(theta) and R_l(theta), stand behind the student's.
// Shapes: W_l (h_l, ld(h_{l-1})), A_l and R_l (rows, ld(h_l)), P (k, ld(d)), with ld(h) = h in whole vectors.
#pragma once

#include <vector>

#include "session.hpp"

namespace kdvr {

struct DeepStep {
    Index batch_size = 1;
    double l2 = 0, momentum = 0;
    bool nesterov = false, collapse = true;
};

template <class T>
class Deep {
  public:
    // linear: has the data and, for AnchorKind::table, the table; outlives this. widths: d, h_1, .., k.
    // own: the anchor's residuals go through its own layers.
    Deep(const Session<T>& linear, const std::vector<Index>& widths, bool own);
    Deep(const Deep&) = delete;
    Deep& operator=(const Deep&) = delete;

    const Session<T>& linear() const { return linear_; }
    Index size() const { return size_; }  // numbers in all layers
    Index mean_size() const { return own_ ? size_ : linear_.k() * linear_.d(); }

    // layers: all, one behind the other, contiguous.
    void set_weights(const T* layers, const T* intercept);
    void weights(T* layers, T* intercept) const { write(&Layer::w, b_, layers, intercept); }
    bool has_velocity() const { return velocity_b_.size() > 0; }
    void velocity(T* layers, T* intercept) const { write(&Layer::velocity, velocity_b_, layers, intercept); }
    void set_velocity(const T* layers, const T* intercept);
    // The anchor's product (k x d), and its layers where they are used.
    void set_anchor(const T* coef, const T* intercept, const T* layers);
    void set_mean(const T* mean, const T* intercept);

    // Passes are never made, refreshes not taken.
    Walk epoch(const Route& route, const DeepStep& step, const ControlVariate& variate, const Poll& poll);

  private:
    struct Layer {
        Index out, in, ld;
        Index chunks;                        // of its rows, that threads share; they follow from shapes alone
        Buffer<T> w, theta, velocity, mean;  // theta, velocity and mean are empty where they are not used
    };
    enum class When { never, before, after };
    static constexpr Index kPanel = 64;  // rows of a layer that are stepped and multiplied while a cache holds them

    void read(const T* layers, Buffer<T> Layer::* where);
    void write(Buffer<T> Layer::* where, const Buffer<T>& b, T* layers, T* intercept) const;
    void begin(const DeepStep& step, const ControlVariate& variate);
    void collapse();
    void take_step(const std::int64_t* rows, Index count, Index left, Sums& sums);
    void step_collapsed();
    void step_by_layers(Index count, Sums& sums);
    void step_intercept(Index count);

    void point(const std::int64_t* rows, Index count, bool copy);
    void residuals(Index from, Index count, Sums& sums);
    void gather_gradient(const std::int64_t* coming, Index count, Index left, Sums& sums);

    void forward(std::size_t l, const T* w, Index first, Index rows);
    void turn(const T* A, Index ld, Index rows, Index columns);
    void sweep(std::size_t l, const T* w, When step, Index rows, T* product);
    void step_rows(std::size_t l, Index from, Index to, Columns columns);
    void add_parts(Index count, Index rows, Index columns, T* sum);

    Index ld(std::size_t level) const { return padded<T>(widths_[level]); }
    bool stacked() const { return own_ && variate_.source != AnchorKind::none; }

    const Session<T>& linear_;
    const Problem<T>& p_;
    std::vector<Index> widths_;
    bool own_;
    Index size_ = 0;
    std::vector<Layer> layers_;                                     // layers_[l - 1] is W_l
    Buffer<T> b_, velocity_b_, mean_b_, anchor_b_, mean_, anchor_;  // mean_ and anchor_: k x ld(d), of the product

    DeepStep step_;
    ControlVariate variate_;
    Update<T> update_{};
    Index rows_ = 0;                                // rows of A_l and R_l of a step: k, or those of the batch
    std::vector<Buffer<T>> up_, fresh_, down_;      // A_l; A_l of the stepped layers, l < L; R_l
    std::vector<std::vector<const T*>> down_rows_;  // the rows of R_l, student's and anchor's
    Buffer<T> turned_, parts_, scratch_;
    Buffer<double> sum_b_;

    // The batch's rows, as in Block.
    Buffer<T> copied_, z_, q_, r_, c_, weight_;
    std::vector<const T*> a_, target_, table_;
    std::vector<const char*> coming_;
    std::vector<std::int64_t> label_;
    Index ldq_ = 0;
};

extern template class Deep<float>;
extern template class Deep<double>;

}  // namespace kdvr
