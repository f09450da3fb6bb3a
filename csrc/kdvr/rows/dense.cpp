// Purpose: dense rows, and compact or virtual ones that are made into dense rows block by block; weights output-major: k rows
// of ld. See rows.hpp.
#include <utility>  // forward
#include <vector>

#include "../dispatch.hpp"
#include "rows.hpp"

namespace kdvr {

namespace {

template <class T>
class DenseReader : public Reader<T> {
  public:
    DenseReader(const Problem<T>& p, Index max_rows) : p_(p), ld_(p.layout().output) {
        a_.resize(static_cast<std::size_t>(max_rows)), coming_.resize(a_.size());
    }

    void point(const std::int64_t* rows, Index count) override {
        count_ = count;
        for (Index i = 0; i < count; ++i) a_[static_cast<std::size_t>(i)] = p_.X.row(rows[i]);
    }
    void step_on() override { before_ = count_ > 0 ? a_[static_cast<std::size_t>(count_ - 1)] : nullptr; }
    void forget() override { count_ = 0; }
    bool has_before() const override { return before_ != nullptr; }
    Index entries() const override { return count_ * p_.X.d; }

    void expect(const std::int64_t* rows, Index count) override {
        for (Index i = 0; i < count; ++i) coming_[static_cast<std::size_t>(i)] = address(rows[i]);
    }
    void multiply(const Multiplication<T>& m, const Weights<T>& w) override {
        const Ahead ahead = {coming_.data() + m.coming.from, m.coming.to - m.coming.from, item()};
        const T* before = m.from > 0 ? a_[static_cast<std::size_t>(m.from - 1)] : before_;
        kernels<T>().logits(block(m.from, m.count), ahead, w.w.data(), ld_, p_.k, m.both ? 2 * p_.k : p_.k, m.z, p_.kp(),
                            before, m.products);
    }
    void add_double(const T* q, Index ldq, bool both, const Layout&, double* sum) const override {
        const Index outputs = both ? 2 * p_.k : p_.k;
        for_columns(outputs,
                    [&](Columns columns) { kernels<T>().gradient_add_double(rows(), q, ldq, columns, outputs, sum, ld_); });
    }
    void set_part(Index from, Index count, const T* q, Index ldq, T* sum) const override {
        kernels<T>().gradient_part(block(from, count), q, ldq, p_.k, sum, ld_);
    }
    std::unique_ptr<Descent<T>> descend(const Course<T>& course) override;

    RowBlock<T> rows() const { return block(0, count_); }

    // f(columns) for ranges that together cover all columns once; `outputs` rows of q take part.
    template <class F>
    void for_columns(Index outputs, F&& f) const {
        kdvr::for_columns<T>(p_.X.d, useful_threads(entries() * outputs, p_.threads), std::forward<F>(f));
    }

  protected:
    RowBlock<T> block(Index from, Index count) const { return {a_.data() + from, count, p_.X.d}; }
    // Where a row lies in the caller's memory, and the size of one of its numbers there.
    virtual const char* address(Index row) const { return reinterpret_cast<const char*>(p_.X.row(row)); }
    virtual Index item() const { return static_cast<Index>(sizeof(T)); }

    const Problem<T>& p_;
    Index ld_, count_ = 0;
    const T* before_ = nullptr;
    std::vector<const T*> a_;
    std::vector<const char*> coming_;
};

// Rows decoded or generated when they are pointed at, by all threads; the row before them is kept aside, its place being
// overwritten.
template <class T>
class ScratchReader final : public DenseReader<T> {
  public:
    ScratchReader(const Problem<T>& p, Index max_rows)
        : DenseReader<T>(p, max_rows), made_(max_rows * this->ld_), kept_(this->ld_) {
        for (Index i = 0; i < max_rows; ++i) this->a_[static_cast<std::size_t>(i)] = made_.data() + i * this->ld_;
    }

    void point(const std::int64_t* rows, Index count) override {
        const Index d = this->p_.X.d, chunks = std::min<Index>(count, kMaxChunks);
        this->count_ = count;
        run(chunks, useful_threads(count * d, this->p_.threads), [&](Index c) {
            const Index from = c * count / chunks, to = (c + 1) * count / chunks;
            T* const x = made_.data() + from * this->ld_;
            if (this->p_.is_virtual()) {
                kernels<T>().generate(this->p_.generated, rows + from, to - from, d, x, this->ld_);
            } else {
                for (Index i = from; i < to; ++i) kernels<T>().decode(this->p_.compact, rows[i], d, x + (i - from) * this->ld_);
            }
        });
    }
    void step_on() override {
        if (this->count_ > 0) std::copy_n(made_.data() + (this->count_ - 1) * this->ld_, this->ld_, kept_.data());
        this->before_ = this->count_ > 0 ? kept_.data() : nullptr;
    }

  protected:
    const char* address(Index row) const override { return static_cast<const char*>(this->p_.compact.row(row)); }
    Index item() const override { return this->p_.compact.item(); }

  private:
    Buffer<T> made_, kept_;
};

// A batch of one block goes from residuals straight to the weights; a longer one is summed first.
template <class T>
class DenseDescent final : public Descent<T> {
  public:
    DenseDescent(const DenseReader<T>& reader, const Course<T>& course) : reader_(reader), course_(course) {}

    void begin(const Update<T>& update, Index, double, bool whole) override {
        update_ = update, whole_ = whole;
        if (whole) return;
        if (sum_.size() > 0) {
            sum_.clear();
        } else {
            sum_ = Buffer<double>(course_.coef.rows * course_.coef.ld);
        }
    }
    void meet() override {}
    void add(const T* q, Index ldq) override {
        if (!whole_) return reader_.add_double(q, ldq, false, {}, sum_.data());
        reader_.for_columns(course_.coef.rows, [&](Columns columns) {
            kernels<T>().gradient_step(reader_.rows(), q, ldq, columns, course_.coef, update_);
        });
    }
    void add_parts(const T* parts, Index count) override {
        const Plane<T>& plane = course_.coef;
        reader_.for_columns(plane.rows, [&](Columns columns) {
            if (whole_) {
                kernels<T>().parts_step(parts, count, columns, plane, update_);
            } else {
                kernels<T>().parts_add_double(parts, count, columns, plane.rows, sum_.data(), plane.ld);
            }
        });
    }
    void end(const std::int64_t*, Index) override {
        if (!whole_) kernels<T>().step(sum_.data(), course_.coef, update_);
    }
    void move_mean(const T* q, Index ldq) override {
        const Plane<T>& plane = course_.coef;
        reader_.for_columns(plane.rows, [&](Columns columns) {
            kernels<T>().gradient_add(reader_.rows(), q, ldq, columns, plane.rows, course_.mean, plane.ld);
        });
    }
    void settle() override {}

  private:
    const DenseReader<T>& reader_;
    Course<T> course_;
    Update<T> update_{};
    bool whole_ = true;
    Buffer<double> sum_;
};

template <class T>
std::unique_ptr<Descent<T>> DenseReader<T>::descend(const Course<T>& course) {
    return std::make_unique<DenseDescent<T>>(*this, course);
}

}  // namespace

template <class T>
std::unique_ptr<Reader<T>> dense_reader(const Problem<T>& p, Index max_rows) {
    if (p.is_compact() || p.is_virtual()) return std::make_unique<ScratchReader<T>>(p, max_rows);
    return std::make_unique<DenseReader<T>>(p, max_rows);
}

template std::unique_ptr<Reader<float>> dense_reader(const Problem<float>&, Index);
template std::unique_ptr<Reader<double>> dense_reader(const Problem<double>&, Index);

}  // namespace kdvr
