// Purpose: the rows of a batch of a deep linear model, from where they are stored to the gradient at the product. See deep.hpp.
#include <algorithm>  // clamp, copy_n, fill_n, min

#include "deep.hpp"
#include "dispatch.hpp"

namespace kdvr {

// copy: as dense rows with zeros behind them.
template <class T>
void Deep<T>::point(const std::int64_t* rows, Index count, bool copy) {
    const T* const table = variate_.source == AnchorKind::table ? linear_.table() : nullptr;
    for (Index i = 0; i < count; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const Index row = rows[i];
        weight_[i] = p_.weights ? p_.weights[row] : T(1);
        if (p_.y.labels) {
            label_[at] = p_.y.labels[row];
        } else {
            target_[at] = p_.y.values.row(row);
        }
        if (table) table_[at] = table + row * p_.k;
        a_[at] = copy ? &copied_[i * ld(0)] : p_.X.row(row);
    }
    if (!copy) return;
    run(std::min<Index>(count, kMaxChunks), useful_threads(count * p_.X.d, p_.threads), [&](Index c) {
        const Index n = std::min<Index>(count, kMaxChunks);
        for (Index i = c * count / n; i < (c + 1) * count / n; ++i) {
            T* const to = &copied_[i * ld(0)];
            if (p_.is_compact()) {
                kernels<T>().decode(p_.compact, rows[i], p_.X.d, to);
            } else if (p_.is_sparse()) {
                const CsrRows<T>& A = p_.sparse;
                std::fill_n(to, p_.X.d, T(0));
                for (Index e = A.start(rows[i]); e < A.start(rows[i] + 1); ++e) {
                    to[A.index64 ? A.index64[e] : A.index32[e]] = A.values[e];
                }
            } else {
                std::copy_n(p_.X.row(rows[i]), p_.X.d, to);
            }
        }
    });
}

// q of some rows of the batch from their logits, and their losses.
template <class T>
void Deep<T>::residuals(Index from, Index count, Sums& sums) {
    const auto at = static_cast<std::size_t>(from);
    ResidualJob<T> job{};
    job.loss = p_.loss, job.anchor = variate_.source, job.stacked = stacked();
    job.rows = count, job.k = p_.k, job.kp = p_.kp();
    job.lam = static_cast<T>(variate_.lam), job.temperature = static_cast<T>(variate_.temperature);
    job.z = &z_[from * 2 * p_.kp()], job.intercept = b_.data(), job.anchor_intercept = anchor_b_.data();
    job.label = p_.y.labels ? label_.data() + at : nullptr;
    job.target = target_.data() + at, job.table = table_.data() + at, job.weight = &weight_[from];
    job.r = &r_[from * p_.kp()], job.c = &c_[from * p_.kp()];
    job.q = &q_[from * ldq_], job.ldq = ldq_;
    job.sums = &sums;
    kernels<T>().residuals(job);
}

// R_0 = sum_i q_i (x) a_i at the product, in chunks of rows; the next batch's rows are asked for meanwhile.
template <class T>
void Deep<T>::gather_gradient(const std::int64_t* coming, Index count, Index left, Sums& sums) {
    const Index k = p_.k, rows = stacked() ? 2 * k : k, n_coming = copied_.size() > 0 ? 0 : std::min(count, left);
    const Index outputs = variate_.source == AnchorKind::weights ? 2 * k : k;
    const Index n = std::clamp<Index>(count / 32, 1, kMaxChunks);
    for (Index i = 0; i < n_coming; ++i) {
        coming_[static_cast<std::size_t>(i)] = reinterpret_cast<const char*>(p_.X.row(coming[i]));
    }
    Sums part[kMaxChunks];
    run(n, useful_threads(count * p_.X.d * outputs, p_.threads), [&](Index c) {
        const Index first = c * count / n, end = (c + 1) * count / n;
        T* const to = n > 1 ? &parts_[c * rows * ld(0)] : down_[0].data();
        for (Index from = first; from < end; from += kMostRows) {
            const Index some = std::min(kMostRows, end - from);
            const RowBlock<T> block = {a_.data() + from, some, p_.X.d};
            const Index ask = std::min(from, n_coming), asked = std::min(from + some, n_coming) - ask;
            kernels<T>().logits(block, {coming_.data() + ask, asked, static_cast<Index>(sizeof(T))}, up_[0].data(), ld(0), k,
                                outputs, &z_[from * 2 * p_.kp()], p_.kp(), nullptr, {});
            residuals(from, some, part[c]);
            if (from == first) {
                kernels<T>().gradient_part(block, &q_[from * ldq_], ldq_, rows, to, ld(0));
            } else {
                kernels<T>().gradient_add(block, &q_[from * ldq_], ldq_, {0, p_.X.d}, rows, to, ld(0));
            }
        }
    });
    for (Index c = 0; c < n; ++c) sums.add(part[c]);
    sums.rows += static_cast<double>(count);
    if (n > 1) add_parts(n, rows, p_.X.d, down_[0].data());
    if (!variate_.use_mean || own_) return;
    const T times = static_cast<T>(variate_.lam) * static_cast<T>(count);
    for (Index i = 0; i < k * ld(0); ++i) down_[0][i] += times * mean_[i];
}

template void Deep<float>::point(const std::int64_t*, Index, bool);
template void Deep<float>::residuals(Index, Index, Sums&);
template void Deep<float>::gather_gradient(const std::int64_t*, Index, Index, Sums&);
template void Deep<double>::point(const std::int64_t*, Index, bool);
template void Deep<double>::residuals(Index, Index, Sums&);
template void Deep<double>::gather_gradient(const std::int64_t*, Index, Index, Sums&);

}  // namespace kdvr
