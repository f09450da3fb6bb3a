// Purpose: what depends on how rows are stored, behind two interfaces: Reader (gathering, products) and Descent (applying
// steps). There is one of each for every kind of rows, dense.cpp and sparse.cpp; blocks, anchors, tables, statistics and the
// loops over the data are written once. A call covers a chunk of rows or a step, so that its being virtual costs nothing.
#pragma once

#include <algorithm>  // copy_n, min, transform
#include <memory>

#include "../buffer.hpp"
#include "../control_variate.hpp"
#include "../sparse_kernels.hpp"
#include "../threads.hpp"

namespace kdvr {

// Where W[c, j] lies among the `size` numbers of one matrix of weights.
struct Layout {
    Index k, d, output, feature, size;

    Index at(Index c, Index j) const { return c * output + j * feature; }

    // k x d, contiguous, from or to this layout; f(value) converts. Feature-major weights change places in tiles of kTile
    // features, so that whole cache lines are written, shared out among threads.
    template <class To, class From, class F>
    void unpack(const From* w, To* coef, int threads, const F& f) const {
        if (feature == 1) {
            for (Index c = 0; c < k; ++c) std::transform(w + c * output, w + c * output + d, coef + c * d, f);
            return;
        }
        for_tiles(threads, [&](Index from, Index to) {
            for (Index c = 0; c < k; ++c) {
                for (Index j = from; j < to; ++j) coef[c * d + j] = f(w[at(c, j)]);
            }
        });
    }
    template <class T>
    void pack(const T* coef, T* w, int threads) const {
        if (feature == 1) {
            for (Index c = 0; c < k; ++c) std::copy_n(coef + c * d, d, w + c * output);
            return;
        }
        for_tiles(threads, [&](Index from, Index to) {
            for (Index j = from; j < to; ++j) {
                for (Index c = 0; c < k; ++c) w[at(c, j)] = coef[c * d + j];
            }
        });
    }

  private:
    template <class F>
    void for_tiles(int threads, const F& f) const {
        constexpr Index kTile = 16, kSmall = Index{1} << 16;
        const Index tiles = (d + kTile - 1) / kTile, n = std::min<Index>(tiles, d * k < kSmall ? 1 : 8);
        run(n, threads, [&](Index i) {
            for (Index t = i * tiles / n; t < (i + 1) * tiles / n; ++t) f(t * kTile, std::min(d, (t + 1) * kTile));
        });
    }
};

// The data of one fit, validated by the caller. Rows are sparse where `sparse` has offsets, compact where `compact` has data
// and virtual where `generated` has a scale; X then holds n and d alone.
template <class T>
struct Problem {
    DenseRows<T> X;
    CsrRows<T> sparse;
    CompactRows<T> compact;
    VirtualRows<T> generated;
    Targets<T> y;
    const T* weights = nullptr;  // n, mean one, or null
    T* norms = nullptr;          // n: |a_i|^2 (+1 with an intercept) of the rows met so far, -1 of others; null: not kept
    LossKind loss = LossKind::squared;
    Index k = 1;
    bool fit_intercept = true;
    int threads = 1;

    // Numbers between the outputs of one row and those of the next: whole vectors of outputs, or rows side by side in a vector.
    Index kp() const { return k == 1 ? 1 : padded<T>(k); }
    Index intercepts() const { return padded<T>(k); }
    bool is_sparse() const { return sparse.start32 || sparse.start64; }
    bool is_compact() const { return compact.data != nullptr; }
    bool is_virtual() const { return generated.scale != nullptr; }
    // Whether targets are integers; they are drawn where rows are virtual.
    bool has_labels() const { return y.labels || (y.model.coef && loss == LossKind::softmax); }
    // With one or two outputs norms come with the logits, from the same registers; else they are a tenth of an epoch's
    // products.
    bool keeps_norms() const { return k > 2 && !is_virtual(); }
    Layout layout() const { return layout_of(kp()); }
    // Of sums in double: rows of k doubles need less padding than rows of k floats.
    Layout sums() const { return layout_of(k == 1 ? 1 : padded<double>(k)); }
    // Rows from which on a part of a step is worth a sum of its own, so that one thread takes them from logits to gradient
    // while its second-level cache holds them; 0: none is.
    Index part_rows() const {
        constexpr Index rows = 32, most_rows = 512 * 1024, most_sum = 128 * 1024;  // bytes
        constexpr auto item = static_cast<Index>(sizeof(T));
        const bool fits = rows * X.d * item <= most_rows && layout().size * item <= most_sum;
        return fits && !is_sparse() ? rows : 0;
    }
    // Numbers that a row holds, on average.
    Index row_entries() const { return is_sparse() ? static_cast<Index>(sparse.start(X.n) - sparse.start(0)) / X.n : X.d; }

  private:
    Layout layout_of(Index stride) const {
        const Index d = X.d;
        if (is_sparse()) return {k, d, 1, stride, padded<T>(d * stride)};
        return {k, d, padded<T>(d), 1, k * padded<T>(d)};
    }
};

// Student and anchor, one behind the other, and their intercepts, 2 rows of k in whole vectors. The student's weights are scale
// * w.
template <class T>
struct Weights {
    Buffer<T> w, b;
    Index size, intercepts;
    T scale = 1;

    explicit Weights(const Problem<T>& p)
        : w(2 * p.layout().size), b(2 * p.intercepts()), size(p.layout().size), intercepts(p.intercepts()) {}
    T* anchor_w() { return w.data() + size; }
    const T* anchor_w() const { return w.data() + size; }
    T* anchor_b() { return b.data() + intercepts; }
    const T* anchor_b() const { return b.data() + intercepts; }
};

// To share a job out costs about half a microsecond; 150,000 multiply-adds take one thread ten of them or less.
inline int useful_threads(Index work, int threads) {
    return work < 150000 ? 1 : threads;
}

struct Range {
    Index from, to;
};

// Products of the rows from .. from + count - 1 with the weights (both: and with the anchor's) and with each other; `coming`
// are the expected rows that memory is asked for meanwhile. z, norm and pair as in Kernels, for the first of these rows.
template <class T>
struct Multiplication {
    Index chunk, from, count;
    Range coming;
    bool both;
    T* z;
    RowProducts<T> products;
};

// Chunks that a block is cut into at most.
constexpr Index kMaxChunks = 8;

// f(columns) for ranges that together cover d columns once; each takes whole tiles of the gradient.
template <class T, class F>
void for_columns(Index d, int threads, F&& f) {
    constexpr Index unit = kColumns<T>;
    const Index units = (d + unit - 1) / unit, n = threads > 1 ? std::min<Index>(units, kMaxChunks) : 1;
    run(n, threads, [&](Index i) { f(Columns{i * units / n * unit, std::min(d, (i + 1) * units / n * unit)}); });
}

// What the steps of one epoch work on. Matrices have the problem's layout.
template <class T>
struct Course {
    Weights<T>& weights;
    Plane<T> coef;          // null where unused
    T* mean;                // coef.mean, for a table that is updated
    const Index& averaged;  // steps in the average
    const Step& step;
    double lam;
    bool anchored;  // the anchor's weights are read along
    Index steps;
};

// The weights on their way through an epoch: begin, then meet and add for each block of the batch, then end.
template <class T>
class Descent {
  public:
    virtual ~Descent() = default;
    // Step number t; whole: the batch is a single block.
    virtual void begin(const Update<T>& update, Index t, double rate, bool whole) = 0;
    // The reader's rows are about to be multiplied by the weights.
    virtual void meet() = 0;
    // sum_i q_i (x) a_i over the reader's rows joins the step.
    virtual void add(const T* q, Index ldq) = 0;
    // The same, there in parts; see Reader::set_part.
    virtual void add_parts(const T*, Index) {}
    // The batch is complete: these are its rows.
    virtual void end(const std::int64_t* rows, Index count) = 0;
    // m += sum_i q_i (x) a_i over the reader's rows, for the steps to come.
    virtual void move_mean(const T* q, Index ldq) = 0;
    // Makes course.weights and the average what they are called.
    virtual void settle() = 0;
    // Takes steps of one row and one output in a loop of their own, in place of all that stands above; the part of the job that
    // depends on the rows is filled in here. False, and nothing done, if there is no such loop for these rows or this course.
    virtual bool singles(SingleJob<T>&) { return false; }
};

// Some rows of X, pointed at, and the row before them.
template <class T>
class Reader {
  public:
    virtual ~Reader() = default;
    virtual void point(const std::int64_t* rows, Index count) = 0;
    // Keeps the last row pointed at as the one before the next.
    virtual void step_on() = 0;
    virtual void forget() = 0;
    virtual bool has_before() const = 0;
    // Numbers that the rows hold.
    virtual Index entries() const = 0;
    // Rows that will be pointed at next; multiply() asks memory for a part of them.
    virtual void expect(const std::int64_t* rows, Index count) = 0;
    virtual void multiply(const Multiplication<T>&, const Weights<T>&) = 0;
    // sum += sum_i q_i (x) a_i; both: rows of q hold k + k numbers, the second k for a second matrix behind the first. The
    // layout of a matrix is that of the weights or that of sums.
    virtual void add_double(const T* q, Index ldq, bool both, const Layout& layout, double* sum) const = 0;
    // sum = sum_i q_i (x) a_i over the rows from .. from + count - 1; q begins with the first of them. Where there are parts,
    // see Problem::part_rows.
    virtual void set_part(Index, Index, const T*, Index, T*) const {}
    virtual std::unique_ptr<Descent<T>> descend(const Course<T>& course) = 0;
};

// max_rows: most rows that are pointed at at once. Compact and virtual rows are dense ones, once decoded or generated.
template <class T>
std::unique_ptr<Reader<T>> dense_reader(const Problem<T>& p, Index max_rows);
template <class T>
std::unique_ptr<Reader<T>> sparse_reader(const Problem<T>& p, Index max_rows);
// For products and sums alone, of rows in their order: no steps, no products of neighbours.
template <class T>
std::unique_ptr<Reader<T>> reader_in_order(const Problem<T>& p, Index max_rows);

}  // namespace kdvr
