// Purpose: G = sum_i t_i a_i a_i^T over sparse rows, in double, without making them dense: work c_i^2 / 2 of a row of c_i
// numbers. Entry (a, b) of G is written by whoever has feature a, and adds up the rows in their order, so that the result has
// the same bits however the features are shared out. Shapes: G p x p, p = d, or d + 1 where each row ends in a 1 (the
// intercept).
#pragma once

#include <algorithm>  // fill_n
#include <vector>

#include "buffer.hpp"
#include "threads.hpp"

namespace kdvr {

template <class T>
class Gram {
  public:
    // rows: `count` row numbers, and t_i for each of them.
    Gram(const CsrRows<T>& X, Index d, bool intercept, const std::int64_t* rows, const double* t, Index count, double* G)
        : X_(X), d_(d), p_(d + (intercept ? 1 : 0)), rows_(rows), t_(t), count_(count), G_(G) {}

    // poll(): called between parts of about so many multiply-adds.
    template <class F>
    void sum(int threads, Index work_between_polls, const F& poll) {
        std::fill_n(G_, p_ * p_, 0.0);
        const Index work = share(threads);
        const Index step = 1 + count_ / (work / work_between_polls + 1);
        std::vector<Buffer<double>> rooms;
        for (int i = 0; i < threads; ++i) rooms.emplace_back(p_);
        for (Index at = 0; at < count_; at += step) {
            const Index end = std::min(count_, at + step);
            run(threads, threads, [&](Index i) {
                const auto part = static_cast<std::size_t>(i);
                double* const x = rooms[part].data();
                if (X_.index64) {
                    add(X_.index64, at, end, cuts_[part], cuts_[part + 1], x);
                } else {
                    add(X_.index32, at, end, cuts_[part], cuts_[part + 1], x);
                }
            });
            poll();
        }
        for (Index a = 0; a < p_; ++a) {
            for (Index b = 0; b < a; ++b) G_[b * p_ + a] = G_[a * p_ + b];
        }
    }

  private:
    // Cuts the features into ranges of about equal work, measured on a part of the rows; returns the work of all.
    Index share(int threads) {
        constexpr Index kLooked = 1024;
        std::vector<Index> work(static_cast<std::size_t>(p_));
        const Index stride = 1 + count_ / kLooked;
        Index total = 0;
        for (Index r = 0; r < count_; r += stride) {
            const Index from = X_.start(rows_[r]), n = X_.count(rows_[r]);
            for (Index i = 0; i < n; ++i) {
                work[static_cast<std::size_t>(X_.index64 ? X_.index64[from + i] : X_.index32[from + i])] += i + 1,
                    total += i + 1;
            }
            if (p_ > d_) work.back() += n + 1, total += n + 1;
        }
        cuts_.assign(static_cast<std::size_t>(threads) + 1, p_);
        cuts_[0] = 0;
        Index done = 0;
        std::size_t next = 1;
        for (Index j = 0; j < p_ && next < static_cast<std::size_t>(threads); ++j) {
            done += work[static_cast<std::size_t>(j)];
            while (next < static_cast<std::size_t>(threads) && done * threads >= total * static_cast<Index>(next))
                cuts_[next++] = j + 1;
        }
        return total * stride;
    }

    // Rows of G in [from, to), left of the diagonal; x: room for the numbers of a row.
    template <class I>
    void add(const I* index, Index first, Index last, Index from, Index to, double* x) const {
        for (Index r = first; r < last; ++r) {
            const Index row = rows_[r], n = X_.count(row);
            const I* const j = index + X_.start(row);
            const T* const a = X_.values + X_.start(row);
            Index i = 0, end = n;
            while (i < n && j[i] < from) ++i;
            while (end > i && j[end - 1] >= to) --end;
            for (Index b = 0; b < end; ++b) x[b] = static_cast<double>(a[b]);
            for (; i < end; ++i) {
                double* const g = G_ + static_cast<Index>(j[i]) * p_;
                const double ta = t_[r] * x[i];
                for (Index b = 0; b <= i; ++b) g[j[b]] += ta * x[b];
            }
            if (p_ == d_ || from == to || to < p_) continue;
            double* const g = G_ + d_ * p_;
            for (Index b = 0; b < n; ++b) g[j[b]] += t_[r] * static_cast<double>(a[b]);
            g[d_] += t_[r];
        }
    }

    const CsrRows<T>& X_;
    Index d_, p_;
    const std::int64_t* rows_;
    const double* t_;
    Index count_;
    double* G_;
    std::vector<Index> cuts_;
};

}  // namespace kdvr
