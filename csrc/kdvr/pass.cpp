// Purpose: one pass over all rows, in their order: sums, mean gradients, residuals.
// Threads share the rows in segments, each summed up alone and added in its turn, so that they meet once in ten milliseconds.
// Where a matrix of sums is large (wide sparse rows), there is one segment, and threads share its blocks.
#include <algorithm>  // clamp, copy_n, min
#include <deque>
#include <numeric>  // iota

#include "session.hpp"

namespace kdvr {

namespace {

constexpr Index kRowsInOrder = 64;  // of a block then: in cache, and few enough switches between reading and adding up
constexpr Index kMostSegments = 8;
constexpr Index kSegmentedBytes = 2 << 20;  // of one segment's sums

// Rows from .. to - 1 at the weights, summed up.
template <class T>
class Segment {
  public:
    // most_chunks: that a block is cut into, for the problem's threads.
    Segment(const Problem<T>& p, const ControlVariate& v, const T* table, Index most_chunks)
        : variate_(v),
          table_(table),
          anchored_(v.source != AnchorKind::none),
          outputs_(anchored_ ? 2 * p.k : p.k),
          ldq_(anchored_ ? p.k + p.kp() : p.kp()),
          layout_(p.sums()),
          problem_(p),
          block_(p, 0, in_order() ? kRowsInOrder : 0, most_chunks),
          sum_w(anchored_ ? 2 * layout_.size : layout_.size),
          sum_b(outputs_),
          rows_(static_cast<std::size_t>(2 * block_.max_rows())) {}

    Index block_rows() const { return block_.max_rows(); }

    void add(Weights<T>& w, Index from, Index to, T* residuals_out) {
        const Index k = problem_.k;
        for (Index at = from; at < to; at += block_.max_rows()) {
            const Index count = std::min(block_.max_rows(), to - at);
            const Index coming = in_order() ? 0 : std::min(count, to - at - count);
            std::iota(rows_.begin(), rows_.begin() + count + coming, at);
            block_.forget();
            block_.gather(rows_.data(), count, 0, table_);
            block_.run(w, {variate_, true, false, true, ldq_, outputs_, rows_.data() + count, coming, table_}, sums,
                       sum_b.data());
            block_.rows().add_double(block_.q(), ldq_, anchored_, layout_, sum_w.data());
            if (!residuals_out) continue;
            for (Index i = 0; i < count; ++i) std::copy_n(block_.r(i), k, residuals_out + (at + i) * k);
        }
    }

    // Moves the sums to those of the pass.
    void hand_over(Sums& all, Buffer<double>& all_w, Buffer<double>& all_b) {
        all.add(sums);
        sums = Sums{};
        const auto move = [](Buffer<double>& from, Buffer<double>& to) {
            for (Index i = 0; i < from.size(); ++i) to[i] += from[i];
            from.clear();
        };
        move(sum_w, all_w), move(sum_b, all_b);
    }

  private:
    // One output of dense rows leaves so little to compute that memory sets the pace, and nothing feeds a processor as well as
    // its own prefetcher where rows are read one by one; requests of ours, or several rows at a time, halve the rate.
    bool in_order() const { return problem_.k == 1 && !problem_.is_sparse(); }

    const ControlVariate& variate_;
    const T* table_;
    bool anchored_;
    Index outputs_, ldq_;
    Layout layout_;
    const Problem<T>& problem_;
    Block<T> block_;
    Sums sums;
    Buffer<double> sum_w, sum_b;
    std::vector<std::int64_t> rows_;  // of a block and of the next
};

}  // namespace

// residuals_out: n x k, the plain residuals of the student; or null.
template <class T>
Pass Session<T>::pass(Weights<T>& w, const ControlVariate& variate, T* residuals_out, const Poll& poll) {
    const bool anchored = variate.source != AnchorKind::none;
    const Index n = p_.X.n, k = p_.k, outputs = anchored ? 2 * k : k;
    const Layout layout = p_.sums();
    const T* table = variate.source == AnchorKind::table ? table_.data() : nullptr;
    Buffer<double> sum_w(anchored ? 2 * layout.size : layout.size), sum_b(outputs);
    const bool segmented = sum_w.size() * static_cast<Index>(sizeof(double)) <= kSegmentedBytes;

    Problem<T> alone = p_;
    if (segmented) alone.threads = 1;
    std::deque<Segment<T>> segments;  // stay where they are
    segments.emplace_back(alone, variate, table, segmented ? 1 : kMaxChunks);
    const Index unit = segments[0].block_rows(), row_work = p_.row_entries() * 2 * outputs + 1;
    const Index shared = segmented ? kMostSegments : 1, even = (n + shared - 1) / shared;
    const Index size = (std::clamp<Index>(even, 1, kWorkBetweenPolls / row_work + 1) + unit - 1) / unit * unit;
    while (static_cast<Index>(segments.size()) < std::min(shared, (n + size - 1) / size)) {
        segments.emplace_back(alone, variate, table, 1);
    }

    Pass result;
    const auto count = static_cast<Index>(segments.size());
    for (Index at = 0; at < n; at += count * size) {
        const int threads = segmented ? useful_threads(std::min(n - at, count * size) * row_work, p_.threads) : 1;
        run(count, threads, [&](Index i) {
            const Index from = std::min(n, at + i * size);
            segments[static_cast<std::size_t>(i)].add(w, from, std::min(n, from + size), residuals_out);
        });
        for (Segment<T>& segment : segments) segment.hand_over(result.sums, sum_w, sum_b);
        poll();
    }
    result.sums.pairs = 0;

    const double share = 1.0 / static_cast<double>(n);
    const auto means = [&](bool second, std::vector<double>& g, std::vector<double>& g_b) {
        g.resize(static_cast<std::size_t>(k * p_.X.d));
        layout.unpack(sum_w.data() + (second ? layout.size : 0), g.data(), [&](double value) { return value * share; });
        for (Index c = 0; c < k; ++c) g_b.push_back(p_.fit_intercept ? sum_b[c + (second ? k : 0)] * share : 0.0);
    };
    means(false, result.grad, result.grad_intercept);
    if (anchored) means(true, result.anchor_grad, result.anchor_grad_intercept);
    return result;
}

template Pass Session<float>::pass(Weights<float>&, const ControlVariate&, float*, const Poll&);
template Pass Session<double>::pass(Weights<double>&, const ControlVariate&, double*, const Poll&);

}  // namespace kdvr
