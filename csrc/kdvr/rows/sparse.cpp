// Purpose: sparse rows, weights feature-major; a step costs O(non-zeros of the batch x k). See rows.hpp, ../sparse_kernels.hpp.
// Momentum and compression move every weight in every step, so with them a step costs O(k d) as for dense rows.
#include <vector>

#include "../dispatch.hpp"
#include "rows.hpp"

namespace kdvr {

namespace {

// A matrix of weights up to this size stays in the caches next to the processor.
constexpr Index kNearBytes = 256 * 1024;

template <class T>
class SparseReader final : public Reader<T> {
  public:
    SparseReader(const Problem<T>& p, Index max_rows)
        : p_(p), stride_(p.layout().feature), kernel_(*kernels<T>().sparse[p.sparse.index64 ? 1 : 0]) {
        a_.resize(static_cast<std::size_t>(max_rows)), coming_.resize(a_.size());
    }

    void point(const std::int64_t* rows, Index count) override {
        count_ = count, entries_ = 0;
        for (Index i = 0; i < count; ++i) {
            SparseRow<T>& a = a_[static_cast<std::size_t>(i)] = p_.sparse.row(rows[i]);
            entries_ += a.count;
        }
    }
    void step_on() override {
        has_before_ = count_ > 0;
        if (has_before_) before_ = a_[static_cast<std::size_t>(count_ - 1)];
    }
    void forget() override { count_ = 0; }
    bool has_before() const override { return has_before_; }
    Index entries() const override { return entries_; }

    void expect(const std::int64_t* rows, Index count) override {
        for (Index i = 0; i < count; ++i) coming_[static_cast<std::size_t>(i)] = p_.sparse.row(rows[i]);
    }
    void multiply(const Multiplication<T>& m, const Weights<T>& w) override {
        prefetch(m.coming);
        const SparseRow<T>* const rows = a_.data() + m.from;
        kernel_.logits(rows, m.count, w.w.data(), m.both ? w.anchor_w() : nullptr, w.scale, p_.k, p_.kp(), m.z);
        if (!m.products.norm && !m.products.pair) return;
        const SparseRow<T>* before = m.from > 0 ? rows - 1 : has_before_ ? &before_ : nullptr;
        if (m.products.pair) scratch_[m.chunk].reserve(p_.X.d);
        kernel_.row_products(rows, m.count, before, m.products, scratch_[m.chunk].data());
    }
    void add_double(const T* q, Index ldq, bool both, const Layout& layout, double* sum) const override {
        for_features([&](Index from, Index to) {
            kernel_.add_double(a_.data(), count_, q, ldq, from, to, p_.k, layout.feature, sum);
            if (!both) return;
            kernel_.add_double(a_.data(), count_, q + p_.k, ldq, from, to, p_.k, layout.feature, sum + layout.size);
        });
    }
    std::unique_ptr<Descent<T>> descend(const Course<T>& course) override;

    // f(from, to) for ranges of features, one a thread. Each feature adds up its rows in their order, however it is cut.
    template <class F>
    void for_features(F&& f) const {
        const Index d = p_.X.d, n = std::min<Index>(useful_threads(entries_ * p_.k, p_.threads), d);
        run(n, static_cast<int>(n), [&](Index i) { f(i * d / n, (i + 1) * d / n); });
    }
    const Problem<T>& problem() const { return p_; }
    const SparseKernels<T>& kernel() const { return kernel_; }
    const SparseRow<T>* rows() const { return a_.data(); }
    Index count() const { return count_; }

  private:
    void prefetch(Range coming) const {
        const SparseRow<T>* const rows = coming_.data() + coming.from;
        const Index count = coming.to - coming.from;
        kernel_.prefetch(rows, count);
        for (const T* w : prefetched_) {
            if (w) kernel_.prefetch_weights(rows, count, p_.k, stride_, w);
        }
    }

    const Problem<T>& p_;
    Index stride_, count_ = 0, entries_ = 0;
    const SparseKernels<T>& kernel_;
    bool has_before_ = false;
    SparseRow<T> before_;
    std::vector<SparseRow<T>> a_, coming_;
    const T* prefetched_[3] = {};  // matrices too large to stay near
    Buffer<T> scratch_[kMaxChunks];
};

template <class T>
class SparseDescent final : public Descent<T> {
  public:
    SparseDescent(const SparseReader<T>& reader, const Course<T>& course)
        : reader_(reader), course_(course), kernel_(reader.kernel()), dense_(course.step.moves_all()) {
        const Layout layout = reader.problem().layout();
        const Step& step = course.step;
        const bool drifts = course.coef.mean && course.lam != 0;
        lazy_ = {course.coef.w,
                 drifts ? course.coef.mean : nullptr,
                 dense_ ? nullptr : course.coef.average,
                 nullptr,
                 nullptr,
                 nullptr,
                 nullptr,
                 1.0,
                 course.lam,
                 step.l1,
                 step.l2,
                 layout.d,
                 layout.k,
                 layout.feature};
        if (dense_) {
            sum_ = Buffer<double>(layout.size);
        } else if (drifts || step.l1 > 0 || step.average) {
            seen_ = Buffer<Index>(layout.d);
            clock_ = Buffer<double>(3 * (course.steps + 1));
            lazy_.seen = seen_.data(), lazy_.path = clock_.data();
            lazy_.scales = lazy_.path + course.steps + 1, lazy_.moments = lazy_.scales + course.steps + 1;
        }
        if (lazy_.average) scale_average(static_cast<double>(course.averaged));
    }
    SparseDescent(const SparseDescent&) = delete;
    SparseDescent& operator=(const SparseDescent&) = delete;
    ~SparseDescent() override {
        settle();
        if (lazy_.average && course_.averaged > 0) scale_average(1.0 / static_cast<double>(course_.averaged));
    }

    void begin(const Update<T>& update, Index t, double rate, bool whole) override {
        update_ = update, t_ = t, rate_ = rate, whole_ = whole;
        if (!whole && sum_.size() == 0) sum_ = Buffer<double>(reader_.problem().layout().size);
    }
    void meet() override {
        if (lazy_.seen) kernel_.catch_up(lazy_, reader_.rows(), reader_.count(), t_);
    }
    void add(const T* q, Index ldq) override {
        if (dense_ || !whole_) return reader_.add_double(q, ldq, false, reader_.problem().layout(), sum_.data());
        advance();
        add_to(course_.coef.w, q, ldq, of_gradient());
    }
    void end(const std::int64_t* rows, Index count) override {
        if (dense_) {
            kernels<T>().step(sum_.data(), course_.coef, update_);
            sum_.clear();
        } else if (!whole_) {
            advance();
            for (Index i = 0; i < count; ++i) {
                const SparseRow<T> row = reader_.problem().sparse.row(rows[i]);
                kernel_.take(&row, 1, sum_.data(), of_gradient(), lazy_.stride, course_.coef.w);
            }
        }
    }
    void move_mean(const T* q, Index ldq) override {
        if (lazy_.seen) kernel_.catch_up(lazy_, reader_.rows(), reader_.count(), steps_);
        add_to(course_.mean, q, ldq, T(1));
    }
    void settle() override {
        if (dense_) return;
        kernel_.settle(lazy_, steps_);
        course_.weights.scale = T(1);
    }
    bool singles(SingleJob<T>& job) override {
        if (dense_ || lazy_.k != 1) return false;
        scratch_.reserve(2 * lazy_.d);
        job.lazy = &lazy_, job.X = &reader_.problem().sparse, job.scratch = scratch_.data();
        kernel_.singles(job);
        steps_ = job.last;
        return true;
    }

  private:
    void advance() {
        kernel_.advance(lazy_, t_, rate_);
        course_.weights.scale = static_cast<T>(lazy_.scale);
        steps_ = t_ + 1;
    }
    T of_gradient() const { return static_cast<T>(-rate_ * static_cast<double>(update_.scale) / lazy_.scale); }
    void add_to(T* w, const T* q, Index ldq, T scale) const {
        reader_.for_features([&](Index from, Index to) {
            kernel_.add(reader_.rows(), reader_.count(), q, ldq, scale, from, to, lazy_.k, lazy_.stride, w);
        });
    }
    void scale_average(double factor) {
        for (Index i = 0; i < lazy_.d * lazy_.stride; ++i) lazy_.average[i] *= factor;
    }

    const SparseReader<T>& reader_;
    Course<T> course_;
    const SparseKernels<T>& kernel_;
    bool dense_, whole_ = true;
    Lazy<T> lazy_;
    Buffer<Index> seen_;
    Buffer<double> clock_, sum_;
    Buffer<T> scratch_;
    Update<T> update_{};
    Index t_ = 0, steps_ = 0;
    double rate_ = 0;
};

template <class T>
std::unique_ptr<Descent<T>> SparseReader<T>::descend(const Course<T>& course) {
    if (p_.layout().size * static_cast<Index>(sizeof(T)) > kNearBytes) {
        prefetched_[0] = course.coef.w, prefetched_[1] = course.coef.mean;
        prefetched_[2] = course.anchored ? course.weights.anchor_w() : nullptr;
    }
    return std::make_unique<SparseDescent<T>>(*this, course);
}

}  // namespace

template <class T>
std::unique_ptr<Reader<T>> sparse_reader(const Problem<T>& p, Index max_rows) {
    return std::make_unique<SparseReader<T>>(p, max_rows);
}

template std::unique_ptr<Reader<float>> sparse_reader(const Problem<float>&, Index);
template std::unique_ptr<Reader<double>> sparse_reader(const Problem<double>&, Index);

}  // namespace kdvr
