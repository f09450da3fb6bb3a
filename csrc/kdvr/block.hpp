// Purpose: rows gathered for one sweep, with the scratch that their logits and residuals live in, shared out among threads.
// A block is at most max_rows() rows, few enough that a second sweep (the gradient) finds them in the second-level cache.
// Logits and residuals go in chunks of rows, gradients with them (parts) or in ranges of features (rows/). How a block is cut
// depends on its size alone, and sums of chunks are added in their order, so the result has the same bits at any number of
// threads.
#pragma once

#include <algorithm>  // clamp, copy_n, fill_n, max
#include <memory>
#include <vector>

#include "dispatch.hpp"
#include "drawn.hpp"

namespace kdvr {

template <class T>
class Block {
  public:
    // keep: rows whose residuals must outlive their block (SAGA updates the table when the batch is done).
    // rows: of a block at most. chunks: that a block is cut into at most. in_order: no steps and no pairs.
    Block(const Problem<T>& p, Index keep, Index rows, Index chunks = kMaxChunks, bool in_order = false)
        : p_(p), kp_(p.kp()), max_rows_(rows), max_chunks_(chunks) {
        const auto m = static_cast<std::size_t>(max_rows_);
        const Index kept = std::max(keep, max_rows_);
        reader_ = in_order        ? reader_in_order(p, max_rows_)
                  : p.is_sparse() ? sparse_reader(p, max_rows_)
                                  : dense_reader(p, max_rows_);
        label_.resize(m), target_.resize(m), table_.resize(m);
        z_ = Buffer<T>(max_rows_ * 2 * kp_);
        q_ = Buffer<T>(max_rows_ * (p.k + kp_));
        r_ = Buffer<T>((kept + 1) * kp_);  // slot 0: the row before
        c_ = Buffer<T>((kept + 1) * kp_);
        weight_ = Buffer<T>(kept + 1);
        norm_ = Buffer<T>(max_rows_);
        pair_ = Buffer<T>(max_rows_);
        columns_ = Buffer<double>(kMaxChunks * 2 * p.k);
        if (p.is_virtual()) targets_ = std::make_unique<Drawn<T>>(p, max_rows_);
        // Squared: 0 - 0 = 0. Logistic and softmax: exp(-1e30) = 0. Set once; kernels write only the k real logits of a row.
        const T padding = p.loss == LossKind::squared ? T(0) : T(-1e30);
        for (Index i = 0; i < z_.size(); ++i) z_[i] = padding;
    }

    // 512 KiB of rows fit a current second-level cache, 8 rows keep the tiles full, kMostRows share out well.
    static Index rows_in_cache(const Problem<T>& p) {
        constexpr Index bytes = 512 * 1024;
        return std::clamp<Index>(bytes / (std::max<Index>(p.row_entries(), 1) * static_cast<Index>(sizeof(T))), 8, kMostRows);
    }

    // A step's block may be as long as all its parts.
    static Index rows_in_step(const Problem<T>& p, Index batch) {
        return std::min(batch,
                        p.part_rows() > 0 ? kMaxChunks * std::min(2 * p.part_rows(), rows_in_cache(p)) : rows_in_cache(p));
    }

    Index max_rows() const { return max_rows_; }
    Index count() const { return count_; }
    Reader<T>& rows() { return *reader_; }
    const T* r(Index i) const { return r_.data() + (offset_ + i + 1) * kp_; }
    const T* c(Index i) const { return c_.data() + (offset_ + i + 1) * kp_; }
    T weight(Index i) const { return weight_[offset_ + i + 1]; }
    T* q() { return q_.data(); }

    // The next block has no row before it.
    void forget() {
        count_ = walked_ = 0;
        reader_->forget();
    }

    // Points at `count` rows whose residuals lie, or will lie, in the slots from `offset` on.
    void point(const std::int64_t* rows, Index count, Index offset) {
        count_ = count, offset_ = offset;
        reader_->point(rows, count);
    }

    // Makes ready for run(): rows, targets, weights, and the table's rows (n x k, or null). The last row of the block before
    // becomes the neighbour of this block's first.
    void gather(const std::int64_t* rows, Index count, Index offset, const T* table) {
        reader_->step_on();
        if (reader_->has_before() && offset == 0) {
            std::copy_n(r(count_ - 1), kp_, r_.data());
            std::copy_n(c(count_ - 1), kp_, c_.data());
            weight_[0] = weight(count_ - 1);
        }
        point(rows, count, offset);
        first_ = walked_, walked_ += count;
        if (targets_) targets_->point(rows, count);
        order_ = rows, normed_ = p_.norms != nullptr;
        for (Index i = 0; i < count; ++i) {
            const auto at = static_cast<std::size_t>(i);
            const Index row = rows[i];
            if (normed_) normed_ = (norm_[i] = p_.norms[row]) >= T(0);
            weight_[offset + i + 1] = p_.weights ? p_.weights[row] : T(1);
            if (targets_) {
                target_[at] = targets_->value(i);
            } else if (p_.y.labels) {
                label_[at] = p_.y.labels[row];
            } else {
                target_[at] = p_.y.values.row(row);
            }
            if (table) table_[at] = table + row * p_.k;
        }
    }

    // What a sweep over the block's rows gives: q = s (r - lam c), or [s r, s c] when stacked, in rows of ldq.
    struct Sweep {
        const ControlVariate& variate;
        bool statistics, stacked;
        Index pairs_every;  // of so many rows one is paired with the row before it, with statistics; 0: none
        Index ldq;
        Index outputs;               // columns of q that are used
        const std::int64_t* coming;  // rows that the next block will gather, to be asked for ahead of time
        Index n_coming;
        const T* table = nullptr;  // n x k, where the rows of a table are asked for with them
        T* parts = nullptr;        // where sums of the parts go, see part_count
    };

    // Parts that a step's rows are cut into, each with a sum of its own; 0: the block's gradient is one.
    Index part_count() const {
        const Index rows = p_.part_rows();
        return rows > 0 && count_ >= 2 * rows ? std::min(count_ / rows, max_chunks_) : 0;
    }

    // Logits, residuals, sums and the column sums of q (the intercept's gradient) of the gathered rows at `w`.
    void run(Weights<T>& w, const Sweep& sweep, Sums& sums, double* column_sums) {
        expect(sweep);
        const Index outputs = sweep.variate.source == AnchorKind::weights ? 2 * p_.k : p_.k;
        const Index n = sweep.parts ? part_count() : chunks();
        kdvr::run(n, useful_threads(reader_->entries() * outputs, p_.threads), [&](Index c) { run_chunk(w, sweep, c, n); });
        for (Index c = 0; c < n; ++c) {
            sums.add(part_[c]);
            if (c > 0 && sweep.statistics && sweep.pairs_every > 0)
                add_pair(chunk_start(c, n), sweep.variate.source != AnchorKind::none, sums);
            for (Index o = 0; o < sweep.outputs; ++o) column_sums[o] += columns_[c * 2 * p_.k + o];
        }
        if (!p_.norms || normed_ || !sweep.statistics) return;
        for (Index i = 0; i < count_; ++i) p_.norms[order_[i]] = norm_[i];
    }

  private:
    void expect(const Sweep& sweep) {
        reader_->expect(sweep.coming, sweep.n_coming);
        // first, since the processor drops requests that come in a crowd and the others are more often in cache
        for (Index i = 0; sweep.table && i < sweep.n_coming; ++i) prefetch_outputs(sweep.table + sweep.coming[i] * p_.k);
        for (Index i = 0; i < sweep.n_coming; ++i) {
            const Index row = sweep.coming[i];
            if (p_.weights) __builtin_prefetch(p_.weights + row);
            if (p_.norms) __builtin_prefetch(p_.norms + row);
            if (p_.y.labels) {
                __builtin_prefetch(p_.y.labels + row);
            } else {
                prefetch_outputs(p_.y.values.row(row));
            }
        }
    }
    // Rows of numbers that the residuals will want after the logits.
    void expect_outputs(const Sweep& sweep, Index from, Index rows) const {
        for (Index i = from; i < from + rows; ++i) {
            if (!p_.has_labels()) prefetch_outputs(target_[static_cast<std::size_t>(i)]);
            if (sweep.variate.source == AnchorKind::table) prefetch_outputs(table_[static_cast<std::size_t>(i)]);
        }
    }
    void prefetch_outputs(const T* p) const {
        constexpr Index line = 64 / static_cast<Index>(sizeof(T));
        for (Index j = 0; j < p_.k; j += line) __builtin_prefetch(p + j);
        __builtin_prefetch(p + p_.k - 1);  // a row begins anywhere in a line
    }

    // Up to 15 rows stay together; from 16 on a chunk has at least 8.
    Index chunks() const { return count_ < 16 ? 1 : std::min<Index>(count_ / 8, max_chunks_); }
    Index chunk_start(Index c, Index n) const { return c * count_ / n; }

    void run_chunk(Weights<T>& w, const Sweep& sweep, Index chunk, Index n) {
        const Index from = chunk_start(chunk, n), rows = chunk_start(chunk + 1, n) - from;
        const Range coming = {chunk * sweep.n_coming / n, (chunk + 1) * sweep.n_coming / n};
        const RowProducts<T> products = {p_.fit_intercept ? T(1) : T(0),
                                         sweep.statistics && !normed_ ? norm_.data() + from : nullptr,
                                         sweep.statistics && sweep.pairs_every > 0 ? pair_.data() + from : nullptr,
                                         first_ + from, std::max<Index>(sweep.pairs_every, 1)};
        const bool both = sweep.variate.source == AnchorKind::weights;
        if (targets_) targets_->draw(*reader_, chunk, from, rows, label_.data());
        if (sweep.parts) expect_outputs(sweep, from, rows);
        reader_->multiply({chunk, from, rows, coming, both, z_.data() + from * 2 * kp_, products}, w);
        Sums& sums = part_[chunk] = Sums{};
        sums.rows = static_cast<double>(rows);
        if (sweep.statistics) {
            const Index alone = from > 0 || reader_->has_before() ? 0 : 1;
            for (Index i = alone; i < rows; ++i) sums.pairs += products.wants_pair(i) ? 1 : 0;
        }
        kernels<T>().residuals(residual_job(w, sweep, from, rows, sums));

        double* const columns = columns_.data() + chunk * 2 * p_.k;
        std::fill_n(columns, sweep.outputs, 0.0);
        for (Index i = from; i < from + rows; ++i) {
            for (Index o = 0; o < sweep.outputs; ++o) columns[o] += static_cast<double>(q_[i * sweep.ldq + o]);
        }
        if (!sweep.parts) return;
        reader_->set_part(from, rows, q_.data() + from * sweep.ldq, sweep.ldq, sweep.parts + chunk * p_.layout().size);
    }

    ResidualJob<T> residual_job(Weights<T>& w, const Sweep& sweep, Index from, Index rows, Sums& sums) {
        ResidualJob<T> job{};
        job.loss = p_.loss, job.anchor = sweep.variate.source, job.stacked = sweep.stacked;
        job.rows = rows, job.k = p_.k, job.kp = kp_;
        job.lam = static_cast<T>(sweep.variate.lam), job.temperature = static_cast<T>(sweep.variate.temperature);
        job.z = z_.data() + from * 2 * kp_, job.intercept = w.b.data(), job.anchor_intercept = w.anchor_b();
        job.label = p_.has_labels() ? label_.data() + from : nullptr;
        job.target = target_.data() + from, job.table = table_.data() + from;
        const Index slot = offset_ + from + 1;
        job.weight = weight_.data() + slot;
        job.r = r_.data() + slot * kp_, job.c = c_.data() + slot * kp_;
        job.paired = from == 0 && reader_->has_before();
        job.q = q_.data() + from * sweep.ldq, job.ldq = sweep.ldq;
        job.norm = sweep.statistics ? norm_.data() + from : nullptr, job.pair = pair_.data() + from;
        job.sums = &sums;
        return job;
    }

    // The pair (i - 1, i) across two chunks, which neither of them could add.
    void add_pair(Index i, bool anchored, Sums& sums) const {
        double xx = 0, xt = 0, tt = 0;
        for (Index o = 0; o < p_.k; ++o) {
            const double r1 = r(i)[o], r0 = r(i - 1)[o];
            xx += r1 * r0;
            if (!anchored) continue;
            const double c1 = c(i)[o], c0 = c(i - 1)[o];
            xt += (r1 * c0 + c1 * r0) / 2, tt += c1 * c0;
        }
        const double pair = static_cast<double>(weight(i)) * static_cast<double>(weight(i - 1)) * static_cast<double>(pair_[i]);
        sums.pair_xx += pair * xx, sums.pair_xt += pair * xt, sums.pair_tt += pair * tt;
    }

    const Problem<T>& p_;
    Index kp_, max_rows_, max_chunks_, count_ = 0, offset_ = 0;
    Index first_ = 0, walked_ = 0;         // of the walk: this block's first row, rows so far
    const std::int64_t* order_ = nullptr;  // the rows' numbers
    bool normed_ = false;                  // whether the norms of all were known
    std::unique_ptr<Reader<T>> reader_;
    std::vector<const T*> target_, table_;
    std::vector<std::int64_t> label_;
    Buffer<T> z_, q_, r_, c_, weight_, norm_, pair_;
    Sums part_[kMaxChunks];
    Buffer<double> columns_;             // column sums of q, 2k a chunk
    std::unique_ptr<Drawn<T>> targets_;  // of virtual rows
};

}  // namespace kdvr
