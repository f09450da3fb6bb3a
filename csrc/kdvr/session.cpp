#include "session.hpp"

#include <algorithm>  // copy_n, fill_n, min, transform

#include "dispatch.hpp"

namespace kdvr {

namespace {

// Multiply-adds that take as long as what a step does to a weight whatever its rows hold: momentum comes from memory, and a
// compression draws numbers or sorts.
Index work_per_weight(const Step& step) {
    if (step.compression.kind != CompressionKind::none) return 256;
    return step.moves_all() ? 16 : 0;
}

}  // namespace

// What one epoch's steps share: the block of rows, what travels with the weights, and the numbers of the update.
template <class T>
class Session<T>::Stepper {
  public:
    Stepper(Session& s, const Step& step, const ControlVariate& v, Index steps)
        : variate(v),
          statistics(step.statistics),
          pairs_every(step.pairs_every),
          block(s.p_, v.update_table ? step.batch_size : 0, Block<T>::rows_in_step(s.p_, step.batch_size)),
          compressor(step.compression, s.p_.layout()),
          s_(s),
          batch_size_(step.batch_size),
          l1_(static_cast<T>(step.l1)) {
        const Layout layout = s.p_.layout();
        const Index w = layout.size, b = s.p_.intercepts();
        const bool velocity = step.momentum != 0;
        if (velocity) s.velocity_w_.reserve(w), s.velocity_b_.reserve(b);
        if (step.average) s.average_w_.reserve(w), s.average_b_.reserve(b);
        const Plane<T> coef = {s.weights_.w.data(),
                               velocity ? s.velocity_w_.data() : nullptr,
                               v.use_mean ? s.mean_w_.data() : nullptr,
                               step.average ? s.average_w_.data() : nullptr,
                               s.p_.is_sparse() ? 1 : layout.k,
                               s.p_.is_sparse() ? w : layout.output};
        intercept = {s.weights_.b.data(),
                     velocity ? s.velocity_b_.data() : nullptr,
                     v.use_mean ? s.mean_b_.data() : nullptr,
                     step.average ? s.average_b_.data() : nullptr,
                     1,
                     b};
        update.mean_scale = static_cast<T>(v.lam), update.l2 = static_cast<T>(step.l2);
        update.momentum = static_cast<T>(step.momentum), update.nesterov = step.nesterov;
        sum_b = Buffer<double>(b);
        if (s.p_.part_rows() > 0) parts = Buffer<T>(std::min(kMaxChunks, block.max_rows() / s.p_.part_rows()) * layout.size);
        descent = block.rows().descend(
            {s.weights_, coef, s.mean_w_.data(), s.averaged_, step, v.lam, v.source == AnchorKind::weights, steps});
    }

    void start(Index t, Index rows, double rate) {
        update.scale = T(1) / static_cast<T>(rows);
        update.rate = static_cast<T>(rate);
        update.threshold = update.rate * l1_;
        if (intercept.average) update.average_weight = 1.0 / static_cast<double>(++s_.averaged_);
        sum_b.clear();
        descent->begin(update, t, rate, rows <= block.max_rows());
    }

    void step_intercept() {
        if (!s_.p_.fit_intercept) return;
        Update<T> free = update;
        free.l2 = free.threshold = T(0);
        kernels<T>().step(sum_b.data(), intercept, free);
    }

    // Steps first .. last - 1 in one loop, where batches are of one row and there is a loop for such steps; else false.
    bool singles(const Route& route, Index first, Index last, Sums& sums) {
        if (batch_size_ != 1 || pairs_every != 1 || variate.update_table || variate.temperature != 0) return false;
        const Problem<T>& p = s_.p_;
        job_.order = route.order, job_.first = first, job_.last = last, job_.steps = route.rows;
        job_.rates = route.rates, job_.one_rate = route.n_rates == 1;
        job_.loss = p.loss, job_.anchor = variate.source, job_.lam = static_cast<T>(variate.lam);
        job_.target = p.y.values.data, job_.target_stride = p.y.values.stride, job_.weights = p.weights;
        job_.table = s_.table_.data(), job_.anchor_w = s_.weights_.anchor_w(), job_.anchor_b = s_.weights_.anchor_b()[0];
        job_.statistics = statistics, job_.fit_intercept = p.fit_intercept;
        job_.b = intercept.w, job_.mean_b = intercept.mean ? intercept.mean[0] : T(0);
        job_.average_b = intercept.average, job_.averaged = &s_.averaged_, job_.sums = &sums;
        return descent->singles(job_);
    }

    const ControlVariate& variate;
    bool statistics;
    Index pairs_every;
    Block<T> block;
    Plane<T> intercept{};
    Update<T> update{};
    Buffer<double> sum_b;
    Buffer<T> parts;
    std::unique_ptr<Descent<T>> descent;
    Compressor<T> compressor;

  private:
    Session& s_;
    Index batch_size_;
    T l1_;
    SingleJob<T> job_{};
};

template <class T>
Session<T>::Session(const Problem<T>& problem)
    : p_(problem), weights_(p_), norms_(p_.keeps_norms() ? p_.X.n : 0), mean_w_(p_.layout().size), mean_b_(p_.intercepts()) {
    std::fill_n(norms_.data(), norms_.size(), T(-1));
    if (p_.keeps_norms()) p_.norms = norms_.data();
    alone_ = p_;
    alone_.threads = 1;
}

// The weights that rows are read at, kept from one reading to the next: wide weights cost more to allocate than to use.
template <class T>
Weights<T>& Session<T>::read_at(const T* coef, const T* intercept) {
    if (!read_at_) read_at_ = std::make_unique<Weights<T>>(p_);
    pack(coef, intercept, read_at_->w.data(), read_at_->b.data());
    return *read_at_;
}

template <class T>
void Session<T>::set_weights(const T* coef, const T* intercept) {
    pack(coef, intercept, weights_.w.data(), weights_.b.data());
    velocity_w_ = Buffer<T>();
    velocity_b_ = Buffer<T>();
    average_w_ = Buffer<double>();
    average_b_ = Buffer<double>();
    averaged_ = 0;
    compressed_ = 0;
}

template <class T>
void Session<T>::weights(T* coef, T* intercept) const {
    unpack(weights_.w.data(), weights_.b.data(), coef, intercept);
}

template <class T>
void Session<T>::average(T* coef, T* intercept) const {
    if (averaged_ == 0) return weights(coef, intercept);
    const auto narrow = [](double value) { return static_cast<T>(value); };
    p_.layout().unpack(average_w_.data(), coef, p_.threads, narrow);
    std::transform(average_b_.data(), average_b_.data() + p_.k, intercept, narrow);
}

template <class T>
void Session<T>::set_mean(const T* coef, const T* intercept) {
    pack(coef, intercept, mean_w_.data(), mean_b_.data());
}

template <class T>
void Session<T>::set_mean(const Buffer<double>& coef, const Buffer<double>& intercept) {
    const std::vector<T> m(coef.data(), coef.data() + coef.size());
    const std::vector<T> m_b(intercept.data(), intercept.data() + intercept.size());
    set_mean(m.data(), m_b.data());
}

template <class T>
std::optional<Pass> Session<T>::anchor_at(const T* coef, const T* intercept, bool cached, bool mean, const Poll& poll) {
    cached_ = cached, mean_ = mean;
    pack(coef, intercept, weights_.anchor_w(), weights_.anchor_b());
    return rebuild_anchor(poll);
}

// Residuals and mean gradient at the anchor's weights, as far as they were asked for.
template <class T>
std::optional<Pass> Session<T>::rebuild_anchor(const Poll& poll) {
    if (!cached_ && !mean_) return std::nullopt;
    if (cached_) table_.reserve(p_.X.n * p_.k);
    Weights<T> at(p_);
    std::copy_n(weights_.anchor_w(), weights_.size, at.w.data());
    std::copy_n(weights_.anchor_b(), p_.intercepts(), at.b.data());
    Pass result = pass(at, ControlVariate{}, cached_ ? table_.data() : nullptr, poll);
    if (mean_) {
        set_mean(result.grad, result.grad_intercept);
    }
    return result;
}

template <class T>
std::optional<Pass> Session<T>::anchor_table(const T* values, bool mean, const Poll& poll) {
    table_.reserve(p_.X.n * p_.k);
    std::copy_n(values, p_.X.n * p_.k, table_.data());
    if (!mean) return std::nullopt;
    ControlVariate variate;
    variate.source = AnchorKind::table;
    Pass result = pass(weights_, variate, nullptr, poll);
    set_mean(result.anchor_grad, result.anchor_grad_intercept);
    return result;
}

template <class T>
Walk Session<T>::epoch(const Route& route, const Step& step, const ControlVariate& variate, const Poll& poll) {
    const Index b = step.batch_size, steps = (route.rows + b - 1) / b;
    const Index work_per_row = p_.row_entries() * p_.k * (variate.source == AnchorKind::weights ? 3 : 2) + 1;
    const Index work_per_step = work_per_weight(step) * p_.k * p_.X.d;
    Stepper stepper(*this, step, variate, steps);
    Walk walk;
    Sums seen;
    Index work = 0, refreshed = 0;
    for (Index t = 0; t < steps;) {
        if (refreshed < route.n_refresh && route.refresh_at[refreshed] == t) {
            ++refreshed;
            stepper.descent->settle();
            std::copy_n(weights_.w.data(), weights_.size, weights_.anchor_w());
            std::copy_n(weights_.b.data(), p_.intercepts(), weights_.anchor_b());
            if (std::optional<Pass> done = rebuild_anchor(poll)) walk.passes.push_back(std::move(*done));
        }
        const Index pause = std::min(steps, refreshed < route.n_refresh ? route.refresh_at[refreshed] : steps);
        const Index last = std::min(pause, t + kWorkBetweenPolls / work_per_row + 1);
        if (stepper.singles(route, t, last, walk.sums)) {
            work += (last - t) * work_per_row;
            t = last;
        } else {
            const Index count = std::min(b, route.rows - t * b);
            stepper.start(t, count, route.rates[route.n_rates == 1 ? 0 : t]);
            take_step(stepper, {route.order + t * b, count, route.rows - t * b}, walk.sums);
            work += count * work_per_row + work_per_step;
            ++t;
        }
        walk.steps = t;
        if (work > kWorkBetweenPolls || t == steps) {
            walk.exploded = !in_bounds(walk.sums, seen, route.loss_limit);
            if (walk.exploded) break;
            seen = walk.sums;
            work = 0;
            poll();
        }
    }
    return walk;
}

// The next block's rows are asked for ahead of time, since an epoch walks memory in random order.
template <class T>
void Session<T>::take_step(Stepper& stepper, const Batch& batch, Sums& sums) {
    const ControlVariate& variate = stepper.variate;
    Block<T>& block = stepper.block;
    Descent<T>& descent = *stepper.descent;
    const T* table = variate.source == AnchorKind::table ? table_.data() : nullptr;
    const Index ldq = p_.kp(), size = block.max_rows();
    for (Index at = 0; at < batch.count; at += size) {
        block.gather(batch.rows + at, std::min(size, batch.count - at), variate.update_table ? at : 0, table);
        const Index next = at + block.count();
        const Index coming = p_.is_virtual() ? 0 : std::min(block.count(), batch.left - next);
        const Index parts = block.part_count();
        T* const to = parts > 0 ? stepper.parts.data() : nullptr;
        descent.meet();
        block.run(weights_,
                  {variate, stepper.statistics, false, stepper.pairs_every, ldq, p_.k, batch.rows + next, coming, table, to},
                  sums, stepper.sum_b.data());
        if (parts > 0) {
            descent.add_parts(to, parts);
        } else {
            descent.add(block.q(), ldq);
        }
    }
    descent.end(batch.rows, batch.count);
    stepper.compressor.apply(weights_.w.data(), compressed_++);
    stepper.step_intercept();
    if (variate.update_table) update_table(stepper, batch);
}

// table_i <- r_i and m += 1/n sum s_i (new - old) (x) a_i. Rows are taken one after the other, so one met twice counts once.
template <class T>
void Session<T>::update_table(Stepper& stepper, const Batch& batch) {
    Block<T>& block = stepper.block;
    const Index ldq = p_.kp(), size = block.max_rows();
    const T share = T(1) / static_cast<T>(p_.X.n);
    for (Index at = 0; at < batch.count; at += size) {
        block.point(batch.rows + at, std::min(size, batch.count - at), at);
        for (Index i = 0; i < block.count(); ++i) {
            T* const old = table_.data() + batch.rows[at + i] * p_.k;
            T* const q = block.q() + i * ldq;
            const T scale = block.weight(i) * share;
            for (Index c = 0; c < p_.k; ++c) {
                q[c] = scale * (block.r(i)[c] - old[c]);
                old[c] = block.r(i)[c];
                mean_b_[c] += q[c];
            }
        }
        stepper.descent->move_mean(block.q(), ldq);
    }
}

template class Session<float>;
template class Session<double>;

}  // namespace kdvr
