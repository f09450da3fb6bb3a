// Purpose: the targets of a block of virtual rows, drawn where the rows have just been made.
#pragma once

#include <algorithm>  // copy_n
#include <vector>

#include "dispatch.hpp"
#include "rows/rows.hpp"

namespace kdvr {

template <class T>
class Drawn {
  public:
    Drawn(const Problem<T>& p, Index max_rows)
        : p_(p), model_(p), z_(max_rows * 2 * p.kp()), value_(max_rows * p.k), row_(static_cast<std::size_t>(max_rows)) {
        p.layout().pack(p.y.model.coef, model_.w.data(), 1);
        std::copy_n(p.y.model.intercept, p.k, model_.b.data());
        if (p.loss == LossKind::softmax) {
            for (Index i = 0; i < z_.size(); ++i) z_[i] = T(-1e30);  // padding, as in Block
        }
    }

    // Where the numbers of the block's row i will be.
    const T* value(Index i) const { return value_.data() + i * p_.k; }
    void point(const std::int64_t* rows, Index count) { std::copy_n(rows, count, row_.data()); }

    // Of the reader's rows from .. from + count - 1, which are chunk number `chunk` of a block; labels go to `label`.
    void draw(Reader<T>& reader, Index chunk, Index from, Index count, std::int64_t* label) {
        DrawJob<T> job{};
        job.loss = p_.loss, job.rows = count, job.k = p_.k, job.kp = p_.kp();
        job.row = row_.data() + from, job.seed = p_.generated.seed, job.noise = p_.y.model.noise;
        job.z = z_.data() + from * 2 * p_.kp(), job.intercept = model_.b.data();
        job.value = value_.data() + from * p_.k, job.label = p_.has_labels() ? label + from : nullptr;
        reader.multiply({chunk, from, count, {0, 0}, false, job.z, {}}, model_);
        kernels<T>().draw(job);
    }

  private:
    const Problem<T>& p_;
    Weights<T> model_;
    Buffer<T> z_, value_;
    std::vector<std::int64_t> row_;
};

}  // namespace kdvr
