// Purpose: compact rows of problems with one output, for readings that take no step and ask for no products of neighbours.
// See compact_one.hpp and rows.hpp.
#include <algorithm>  // all_of
#include <stdexcept>  // logic_error
#include <vector>

#include "../dispatch.hpp"
#include "rows.hpp"

namespace kdvr {

namespace {

template <class T>
class CompactOneReader final : public Reader<T> {
  public:
    CompactOneReader(const Problem<T>& p, Index max_rows) : p_(p), row_(static_cast<std::size_t>(max_rows)), coming_(row_) {
        const CompactRows<T>& X = p.compact;
        all_ = {row_.data(), coming_.data(), 0, p.X.d, X.storage, X.scale, X.offset, T(1)};
        if (!X.scale) return;
        const auto all = [&](const T* v, T value) { return std::all_of(v, v + p.X.d, [&](T x) { return x == value; }); };
        if (all(X.scale, X.scale[0]) && all(X.offset, T(0))) {
            all_.one_scale = X.scale[0];
            all_.scale = all_.offset = nullptr;
        }
    }

    void point(const std::int64_t* rows, Index count) override {
        all_.rows = count;
        for (Index i = 0; i < count; ++i) row_[static_cast<std::size_t>(i)] = p_.compact.row(rows[i]);
    }
    void step_on() override {}
    void forget() override {}
    bool has_before() const override { return false; }
    Index entries() const override { return all_.rows * p_.X.d; }
    // Where nothing more comes, a row that is there already.
    void expect(const std::int64_t* rows, Index count) override {
        for (Index i = 0; i < all_.rows; ++i) {
            const auto at = static_cast<std::size_t>(i);
            coming_[at] = i < count ? p_.compact.row(rows[i]) : row_[at];
        }
    }

    void multiply(const Multiplication<T>& m, const Weights<T>& w) override {
        CompactBlock<T> some = all_;
        some.row += m.from, some.rows = m.count;
        kernels<T>().compact_logits(some, w.w.data(), p_.layout().output, m.both ? 2 : 1, m.z, m.products);
    }
    void add_double(const T* q, Index ldq, bool both, const Layout&, double* sum) const override {
        const Index outputs = both ? 2 : 1, ld = p_.layout().output;
        T sum_q[2] = {};
        for (Index i = 0; all_.scale && i < all_.rows; ++i) {
            for (Index o = 0; o < outputs; ++o) sum_q[o] += q[i * ldq + o];
        }
        for_columns<T>(p_.X.d, useful_threads(entries() * outputs, p_.threads),
                       [&](Columns columns) { kernels<T>().compact_gradient(all_, q, ldq, sum_q, columns, outputs, sum, ld); });
    }
    std::unique_ptr<Descent<T>> descend(const Course<T>&) override {
        throw std::logic_error("these rows are for reading, not for steps");
    }

  private:
    const Problem<T>& p_;
    std::vector<const void*> row_, coming_;
    CompactBlock<T> all_;
};

}  // namespace

template <class T>
std::unique_ptr<Reader<T>> reader_in_order(const Problem<T>& p, Index max_rows) {
    if (p.is_compact() && p.k == 1) return std::make_unique<CompactOneReader<T>>(p, max_rows);
    return p.is_sparse() ? sparse_reader(p, max_rows) : dense_reader(p, max_rows);
}

template std::unique_ptr<Reader<float>> reader_in_order(const Problem<float>&, Index);
template std::unique_ptr<Reader<double>> reader_in_order(const Problem<double>&, Index);

}  // namespace kdvr
