// Purpose: readings of all rows in their order: sums and mean gradients, residuals, logits. See parts.hpp.
#include <algorithm>  // copy_n, min
#include <numeric>    // iota

#include "gram.hpp"
#include "session.hpp"

namespace kdvr {

template <class T>
Pass Session<T>::evaluate(const T* coef, const T* intercept, const ControlVariate& variate, const Poll& poll) {
    Weights<T>& at = read_at(coef, intercept);
    if (variate.source == AnchorKind::weights) {
        std::copy_n(weights_.anchor_w(), weights_.size, at.anchor_w());
        std::copy_n(weights_.anchor_b(), p_.intercepts(), at.anchor_b());
    }
    return pass(at, variate, nullptr, poll);
}

// All rows once, at the weights `w`. residuals_out: n x k, the plain residuals of the student; or null.
template <class T>
Pass Session<T>::pass(Weights<T>& w, const ControlVariate& variate, T* residuals_out, const Poll& poll) {
    const bool anchored = variate.source != AnchorKind::none;
    const Index n = p_.X.n, k = p_.k;
    const Layout layout = p_.sums();
    const Index outputs = anchored ? 2 * k : k, ldq = anchored ? k + p_.kp() : p_.kp();
    const Index size = anchored ? 2 * layout.size : layout.size;
    const T* table = variate.source == AnchorKind::table ? table_.data() : nullptr;
    const Index work_per_row = p_.row_entries() * outputs;
    const bool apart = Parts::apart(n * work_per_row, size);
    const auto room = [&] { return std::make_unique<Reading<T>>(apart ? alone_ : p_, apart, size, outputs); };
    if (!readings_.empty() && readings_[0]->sum_w.size() != size) readings_.clear();
    for (const auto& reading : readings_) reading->clear();
    if (readings_.empty()) readings_.push_back(room());
    Reading<T>& all = *readings_[0];
    const Parts cut(n, all.block.max_rows(), apart);
    while (static_cast<Index>(readings_.size()) < cut.count()) readings_.push_back(room());
    cut.read(useful_threads(n * work_per_row, p_.threads), 2 * work_per_row + 1, poll,
             [&](Index part, Index at, Index count, Index end) {
                 Reading<T>& to = *readings_[static_cast<std::size_t>(part)];
                 const Index coming = to.asks ? std::min(count, end - at - count) : 0;
                 std::iota(to.rows.begin(), to.rows.begin() + count + coming, at);
                 to.block.forget();
                 to.block.gather(to.rows.data(), count, 0, table);
                 to.block.run(w, {variate, true, true, 0, ldq, outputs, to.rows.data() + count, coming, table}, to.sums,
                              to.sum_b.data());
                 to.block.rows().add_double(to.block.q(), ldq, anchored, layout, to.sum_w.data());
                 if (residuals_out) {
                     for (Index i = 0; i < count; ++i) std::copy_n(to.block.r(i), k, residuals_out + (at + i) * k);
                 }
             });
    for (std::size_t i = 1; i < readings_.size(); ++i) {
        const Reading<T>& part = *readings_[i];
        all.sums.add(part.sums);
        for (Index j = 0; j < size; ++j) all.sum_w[j] += part.sum_w[j];
        for (Index o = 0; o < outputs; ++o) all.sum_b[o] += part.sum_b[o];
    }
    Pass result;
    result.sums = all.sums;
    result.sums.pairs = result.sums.pair_xx = result.sums.pair_xt = result.sums.pair_tt = 0;

    const double share = 1.0 / static_cast<double>(n);
    const auto means = [&](bool second, Buffer<double>& g, Buffer<double>& g_b) {
        g = Buffer<double>(k * p_.X.d, Unset{}), g_b = Buffer<double>(k);
        layout.unpack(all.sum_w.data() + (second ? layout.size : 0), g.data(), p_.threads,
                      [&](double value) { return value * share; });
        if (!p_.fit_intercept) return;
        for (Index c = 0; c < k; ++c) g_b[c] = all.sum_b[c + (second ? k : 0)] * share;
    };
    means(false, result.grad, result.grad_intercept);
    if (anchored) means(true, result.anchor_grad, result.anchor_grad_intercept);
    return result;
}

template <class T>
void Session<T>::logits(const T* coef, const T* intercept, T* z, const Poll& poll) {
    const Index k = p_.k, kp = p_.kp(), most = Block<T>::rows_in_cache(p_);
    const Weights<T>& at = read_at(coef, intercept);
    struct Room {
        std::unique_ptr<Reader<T>> reader;
        Buffer<T> z;
        std::vector<std::int64_t> rows;
    };
    const Parts cut(p_.X.n, most, true);
    std::vector<Room> rooms;
    for (Index i = 0; i < cut.count(); ++i) {
        rooms.push_back({reader_in_order(alone_, most), Buffer<T>(most * 2 * kp),
                         std::vector<std::int64_t>(static_cast<std::size_t>(most))});
    }
    const Index work_per_row = p_.row_entries() * k + 1;
    cut.read(useful_threads(p_.X.n * work_per_row, p_.threads), work_per_row, poll,
             [&](Index part, Index first, Index count, Index) {
                 Room& room = rooms[static_cast<std::size_t>(part)];
                 std::iota(room.rows.begin(), room.rows.begin() + count, first);
                 room.reader->point(room.rows.data(), count);
                 room.reader->multiply({0, 0, count, {0, 0}, false, room.z.data(), {}}, at);
                 for (Index i = 0; i < count; ++i) {
                     for (Index c = 0; c < k; ++c) z[(first + i) * k + c] = room.z[i * 2 * kp + c] + at.b[c];
                 }
             });
}

template <class T>
void Session<T>::gram(const std::int64_t* rows, const double* weights, Index count, double* G, const Poll& poll) const {
    Gram<T>(p_.sparse, p_.X.d, p_.fit_intercept, rows, weights, count, G).sum(p_.threads, kWorkBetweenPolls, poll);
}

template Pass Session<float>::pass(Weights<float>&, const ControlVariate&, float*, const Poll&);
template Pass Session<float>::evaluate(const float*, const float*, const ControlVariate&, const Poll&);
template void Session<float>::logits(const float*, const float*, float*, const Poll&);
template void Session<float>::gram(const std::int64_t*, const double*, Index, double*, const Poll&) const;
template Pass Session<double>::pass(Weights<double>&, const ControlVariate&, double*, const Poll&);
template Pass Session<double>::evaluate(const double*, const double*, const ControlVariate&, const Poll&);
template void Session<double>::logits(const double*, const double*, double*, const Poll&);
template void Session<double>::gram(const std::int64_t*, const double*, Index, double*, const Poll&) const;

}  // namespace kdvr
