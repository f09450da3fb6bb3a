// Purpose: products with the transpose of sparse rows A (n x d). Weights A^T C in the span of the rows are told by C, and their
// logits are A A^T C:
//   combine:  W = A^T C        images:  Z = A A^T C        C, Z (k x n), W (k x d), each contiguous
// For A^T the rows are copied by columns, once: a column's sum is then a product like that of a row and stays in registers,
// where sums over rows would walk through d x k numbers at random (20 newsgroups: a quarter of the time). Fewer than 2^31 rows.
// Every number is a sum of one thread in a fixed order, so that the result has the same bits at any number of threads.
#pragma once

#include <algorithm>  // copy_n, min
#include <array>
#include <utility>  // exchange
#include <vector>

#include "dispatch.hpp"
#include "parts.hpp"

namespace kdvr {

template <class T>
class Span {
  public:
    explicit Span(const Problem<T>& p) : p_(p), values_(entries(p), Unset{}), rows_(entries(p), Unset{}), starts_(p.X.d + 1) {
        if (p.sparse.index64) {
            transpose(p.sparse.index64);
        } else {
            transpose(p.sparse.index32);
        }
        columns_.values = values_.data(), columns_.index32 = rows_.data(), columns_.start64 = starts_.data();
        C_ = Buffer<T>(p.X.n * p.kp()), W_ = Buffer<T>(p.X.d * p.kp());
    }

    void combine(const T* C, T* W, const Poll& poll) {
        pack(C);
        multiply(columns_, p_.X.d, C_.data(), poll, [&](Index j, const T* w) { spread(w, W + j, p_.X.d); });
    }

    void images(const T* C, T* Z, const Poll& poll) {
        pack(C);
        multiply(columns_, p_.X.d, C_.data(), poll, [&](Index j, const T* w) { std::copy_n(w, p_.k, &W_[j * p_.kp()]); });
        multiply(p_.sparse, p_.X.n, W_.data(), poll, [&](Index i, const T* z) { spread(z, Z + i, p_.X.n); });
    }

  private:
    static constexpr Index kParts = 64, kRows = 64;

    static Index entries(const Problem<T>& p) { return p.sparse.start(p.X.n) - p.sparse.start(0); }

    // Each thread counts and copies some of the rows; where a number goes to depends on none of it. No more counters than
    // numbers: they would take more memory than the rows.
    template <class I>
    void transpose(const I* index) {
        const CsrRows<T>& A = p_.sparse;
        const Index parts = std::min<Index>(p_.threads, 1 + entries(p_) / p_.X.d), n = p_.X.n;
        std::vector<std::vector<Index>> at(static_cast<std::size_t>(parts),
                                           std::vector<Index>(static_cast<std::size_t>(p_.X.d)));
        const auto each = [&](const auto& f) {
            run(parts, p_.threads, [&](Index part) {
                Index* const of = at[static_cast<std::size_t>(part)].data();
                for (Index i = part * n / parts; i < (part + 1) * n / parts; ++i) {
                    for (Index e = A.start(i); e < A.start(i + 1); ++e) f(i, e, of[index[e]]);
                }
            });
        };
        each([](Index, Index, Index& count) { ++count; });
        Index total = 0;
        for (Index j = 0; j < p_.X.d; ++j) {
            for (std::vector<Index>& of : at) total += std::exchange(of[static_cast<std::size_t>(j)], total);
            starts_[j + 1] = total;
        }
        each([&](Index i, Index e, Index& to) {
            values_[to] = A.values[e], rows_[to] = static_cast<std::int32_t>(i);
            ++to;
        });
    }

    void pack(const T* C) {
        const Index n = p_.X.n, step = (n + kParts - 1) / kParts;
        run(kParts, useful_threads(n * p_.k, p_.threads), [&](Index part) {
            for (Index i = part * step; i < std::min(n, (part + 1) * step); ++i) {
                for (Index c = 0; c < p_.k; ++c) C_[i * p_.kp() + c] = C[c * n + i];
            }
        });
    }

    void spread(const T* from, T* to, Index stride) const {
        for (Index c = 0; c < p_.k; ++c) to[c * stride] = from[c];
    }

    // put(r, k products of row r with w), in parts of about as many non-zeros each.
    template <class F>
    void multiply(const CsrRows<T>& A, Index count, const T* w, const Poll& poll, const F& put) const {
        const SparseKernels<T>& kernel = *kernels<T>().sparse[A.index64 ? 1 : 0];
        const Index work = (A.start(count) - A.start(0)) * p_.k + count, round = 1 + kWorkBetweenPolls * kParts / work;
        std::vector<Index> cuts{0};
        for (Index r = 0; r < count && static_cast<Index>(cuts.size()) < kParts; ++r) {
            if ((A.start(r + 1) - A.start(0)) * kParts >= (A.start(count) - A.start(0)) * static_cast<Index>(cuts.size()))
                cuts.push_back(r + 1);
        }
        cuts.push_back(count);
        const Index parts = static_cast<Index>(cuts.size()) - 1;
        for (Index from = 0; from < parts; from += round) {
            run(std::min(round, parts - from), useful_threads(work, p_.threads), [&](Index task) {
                const auto part = static_cast<std::size_t>(from + task);
                const Index first = cuts[part], last = cuts[part + 1];
                std::array<SparseRow<T>, kRows> rows;
                Buffer<T> z(2 * kRows * p_.kp());
                for (Index at = first; at < last; at += kRows) {
                    const Index some = std::min(kRows, last - at);
                    for (Index i = 0; i < some; ++i) rows[static_cast<std::size_t>(i)] = A.row(at + i);
                    kernel.logits(rows.data(), some, w, nullptr, T(1), p_.k, p_.kp(), z.data());
                    for (Index i = 0; i < some; ++i) put(at + i, z.data() + 2 * i * p_.kp());
                }
            });
            poll();
        }
    }

    const Problem<T>& p_;
    Buffer<T> values_;
    Buffer<std::int32_t> rows_;
    Buffer<std::int64_t> starts_;
    CsrRows<T> columns_;
    Buffer<T> C_, W_;  // k numbers a row or feature, at stride kp
};

}  // namespace kdvr
