// Purpose: the table of kernels that one instruction set provides, and the plain structs they take.
// Every instruction set compiles the same source (isa/table.hpp); dispatch.cpp picks a table once, at start.
//
// A step is   logits (and row products, for statistics) -> residuals -> gradient_*   with the row block in cache throughout.
// Shapes: W (k, ld) with ld = d rounded up to a vector, zeros beyond d. Per-row k-vectors are padded to kp, see
// Problem::kp.
#pragma once

#include "views.hpp"

namespace kdvr {

// Widest vector of any instruction set, in bytes: buffers are padded and aligned to it, so kernels need no tails on them.
constexpr Index kVectorBytes = 64;

template <class T>
constexpr Index padded(Index count) {
    constexpr Index lanes = kVectorBytes / static_cast<Index>(sizeof(T));
    return (count + lanes - 1) / lanes * lanes;
}

enum class LossKind { squared, logistic, softmax };

// Where c_i comes from; `outputs` are tempered predictions of the teacher, see ResidualJob::temperature.
enum class AnchorKind { none, weights, table };

// Sums over rows; same fields and meaning as kdvr_fast/backends/base.py: Sums.
struct Sums {
    double rows = 0, loss = 0, xx = 0, xt = 0, tt = 0, pairs = 0, pair_xx = 0, pair_xt = 0, pair_tt = 0;

    void add(const Sums& o) {
        rows += o.rows, loss += o.loss, xx += o.xx, xt += o.xt, tt += o.tt;
        pairs += o.pairs, pair_xx += o.pair_xx, pair_xt += o.pair_xt, pair_tt += o.pair_tt;
    }
};

// Residuals of a block of rows, their correction and their sums. Per-row vectors have kp lanes, zero beyond k.
//   r_i = link(z_i + b) - y_i
//   c_i = link(za_i + ba) - y_i | table_i | r_i - T (link((z_i + b) / T) - t_i),  t_i = link((za_i + ba) / T) | table_i
//   q_i = s_i (r_i - lam c_i)             or, stacked: q_i = [s_i r_i, s_i c_i] (k + k numbers)
// With one output a row's vectors are single numbers, kp = 1.
constexpr Index kMostRows = 256;  // of a job

template <class T>
struct ResidualJob {
    LossKind loss;
    AnchorKind anchor;
    bool stacked;
    Index rows, k, kp;
    T lam;
    T temperature;              // 0: difference of residuals
    const T* z;                 // rows x 2kp: student's logits, anchor's logits behind them
    const T* intercept;         // kp
    const T* anchor_intercept;  // kp
    const std::int64_t* label;  // rows, or null
    const T* const* target;     // rows pointers to k numbers, used when label is null
    const T* const* table;      // rows pointers to k numbers, for AnchorKind::table
    const T* weight;            // rows; weight[-1] belongs to the row before this block
    T* r;                       // rows x kp; row -1 is the row before, where `paired` says that it is there
    T* c;                       // rows x kp; row -1 likewise
    bool paired;                // whether the first row takes part in the pair sums
    T* q;                       // rows x ldq
    Index ldq;
    const T* norm;  // rows: |a_i|^2 (+1 with an intercept), null without statistics
    const T* pair;  // rows: <a_i, a_{i-1}> (+1 with an intercept), 0 where there is no row before
    Sums* sums;     // loss always; xx .. pair_tt with statistics
};

// Targets of virtual rows: values (rows x k numbers; logistic: 0 or 1), or labels where those are not null.
template <class T>
struct DrawJob {
    LossKind loss;
    Index rows, k, kp;
    const std::int64_t* row;  // their numbers
    std::uint64_t seed;
    T noise;
    T* z;  // rows x 2kp: the model's logits, room for as many behind them
    const T* intercept;
    T* value;
    std::int64_t* label;
};

// One parameter block: weights and what travels with them, all rows x ld. Null where unused.
template <class T>
struct Plane {
    T* w;
    T* velocity;
    const T* mean;
    double* average;
    Index rows, ld;
};

// g = scale * sum + mean_scale * mean + l2 * w;  v = momentum v + g;  p = nesterov ? g + momentum v : v
// w = soft_threshold(w - rate * p, threshold);   average += average_weight (w - average)
template <class T>
struct Update {
    T scale, mean_scale, l2, momentum, rate, threshold;
    double average_weight;
    bool nesterov;
};

// Columns [from, to) of a row; `from` is a multiple of kColumns<T>, `to` as well or d.
struct Columns {
    Index from, to;
};

// Columns that one pass of the gradient tile covers at most: four vectors of the widest instruction set.
template <class T>
constexpr Index kColumns = 4 * kVectorBytes / static_cast<Index>(sizeof(T));

// Rows that will be read soon: memory is asked for them while other rows are multiplied, a line with each vector, since a burst
// of requests would stop the multiplications until it is served. `item` is the size of one of their d numbers.
struct Ahead {
    const char* const* row = nullptr;
    Index rows = 0;
    Index item = 0;
};

template <class T>
struct SparseKernels;

// norm[i] = |a_i|^2 + one, pair[i] = <a_i, a_{i-1}> + one, or 0 where it is not wanted: of every `every`-th row of the walk, of
// which this block's first is number `first`. Null: none is wanted.
template <class T>
struct RowProducts {
    T one;
    T* norm;
    T* pair;
    Index first = 0, every = 1;

    bool wants_pair(Index i) const { return (first + i) % every == 0; }
};

template <class T>
struct Kernels {
    // z[i, slot(o)] = <a_i, w_o> for o < outputs: slot(o) = o for the first k outputs, kp + o - k behind them. z: rows x 2kp.
    // `before` is the row before a_0; null: pair[0] = 0. With no rows ahead, a block of one or two outputs is read row by row.
    void (*logits)(const RowBlock<T>&, const Ahead&, const T* w, Index ld, Index k, Index outputs, T* z, Index kp,
                   const T* before, const RowProducts<T>&);
    void (*residuals)(const ResidualJob<T>&);
    // The uses of  sum_i q_i (x) a_i  (outputs x d): step the weights at once, be one of the parts of a larger sum (all of
    // whose columns are written), add to a T matrix, add to a double matrix. Only the given columns are touched, so that
    // threads share one sum, each with columns of its own.
    void (*gradient_step)(const RowBlock<T>&, const T* q, Index ldq, Columns, const Plane<T>&, const Update<T>&);
    void (*gradient_part)(const RowBlock<T>&, const T* q, Index ldq, Index outputs, T* part, Index ld);
    void (*gradient_add)(const RowBlock<T>&, const T* q, Index ldq, Columns, Index outputs, T* sum, Index ld);
    void (*gradient_add_double)(const RowBlock<T>&, const T* q, Index ldq, Columns, Index outputs, double* sum, Index ld);
    // The step, or addition, of a sum that is there in parts, matrices one behind the other.
    void (*parts_step)(const T* parts, Index count, Columns, const Plane<T>&, const Update<T>&);
    void (*parts_add_double)(const T* parts, Index count, Columns, Index outputs, double* sum, Index ld);
    // The same step from a finished double sum (batches of many blocks, and the intercept).
    void (*step)(const double* sum, const Plane<T>&, const Update<T>&);
    // x = row number `row` of compact rows as d numbers, in whole vectors.
    void (*decode)(const CompactRows<T>&, Index row, Index d, T* x);
    // logits and gradient_add_double of compact rows as they are stored, for k = 1 and so for one or two outputs; z: rows x 2.
    // sum_q[o] = sum_i q[i, o], not used where there is no offset.
    void (*compact_logits)(const CompactBlock<T>&, const T* w, Index ld, Index outputs, T* z, const RowProducts<T>&);
    void (*compact_gradient)(const CompactBlock<T>&, const T* q, Index ldq, const T* sum_q, Columns, Index outputs, double* sum,
                             Index ld);
    // Some virtual rows as d numbers each, in whole vectors, ld apart; and targets of virtual rows.
    void (*generate)(const VirtualRows<T>&, const std::int64_t* rows, Index count, Index d, T* x, Index ld);
    void (*draw)(const DrawJob<T>&);
    // Floors, see probes.hpp; lanes: numbers in a vector.
    T (*multiply_add)(Index rounds);
    T (*read_all)(const T* p, Index size);
    Index lanes;
    // The same on sparse rows, features in 32 and in 64 bits: sparse_kernels.hpp.
    const SparseKernels<T>* sparse[2];
};

}  // namespace kdvr
