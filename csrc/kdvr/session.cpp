#include "session.hpp"

#include <algorithm>  // copy_n, fill, min
#include <numeric>    // iota

#include "dispatch.hpp"

namespace kdvr {

namespace {

// Multiply-adds between two polls and two looks at the loss: about ten milliseconds.
constexpr Index kWorkBetweenPolls = Index{1} << 27;

bool in_bounds(const Sums& now, const Sums& before, double limit) {
    return now.loss - before.loss <= limit * (now.rows - before.rows);  // false for NaN
}

}  // namespace

// What one epoch's steps share: the block of rows, what travels with the weights, and the numbers of the update.
template <class T>
class Session<T>::Stepper {
  public:
    Stepper(Session& s, const Step& step, const ControlVariate& v)
        : variate(v),
          statistics(step.statistics),
          block(s.p_, v.update_table ? step.batch_size : 0),
          s_(s),
          l1_(static_cast<T>(step.l1)) {
        const Index w = s.p_.k * s.p_.ld(), b = s.p_.kp();
        const bool velocity = step.momentum != 0;
        if (velocity) s.velocity_w_.reserve(w), s.velocity_b_.reserve(b);
        if (step.average) s.average_w_.reserve(w), s.average_b_.reserve(b);
        coef = {s.weights_.w.data(),
                velocity ? s.velocity_w_.data() : nullptr,
                v.use_mean ? s.mean_w_.data() : nullptr,
                step.average ? s.average_w_.data() : nullptr,
                s.p_.k,
                s.p_.ld()};
        intercept = {s.weights_.b.data(),
                     velocity ? s.velocity_b_.data() : nullptr,
                     v.use_mean ? s.mean_b_.data() : nullptr,
                     step.average ? s.average_b_.data() : nullptr,
                     1,
                     s.p_.kp()};
        update.mean_scale = static_cast<T>(v.lam), update.l2 = static_cast<T>(step.l2);
        update.momentum = static_cast<T>(step.momentum), update.nesterov = step.nesterov;
        sum_b = Buffer<double>(b);
        if (step.batch_size > block.max_rows()) sum_w = Buffer<double>(w);
    }

    void start(Index rows, double rate) {
        update.scale = T(1) / static_cast<T>(rows);
        update.rate = static_cast<T>(rate);
        update.threshold = update.rate * l1_;
        if (coef.average) update.average_weight = 1.0 / static_cast<double>(++s_.averaged_);
        sum_b.clear();
        if (sum_w.size() > 0) sum_w.clear();
    }

    void step_intercept() {
        if (!s_.p_.fit_intercept) return;
        Update<T> free = update;
        free.l2 = free.threshold = T(0);
        kernels<T>().step(sum_b.data(), intercept, free);
    }

    const ControlVariate& variate;
    bool statistics;
    Block<T> block;
    Plane<T> coef{}, intercept{};
    Update<T> update{};
    Buffer<double> sum_w, sum_b;  // sum_w: batches of several blocks only

  private:
    Session& s_;
    T l1_;
};

template <class T>
Session<T>::Session(const Problem<T>& problem) : p_(problem), weights_(p_), mean_w_(p_.k * p_.ld()), mean_b_(p_.kp()) {}

template <class T>
void Session<T>::pack(const T* coef, const T* intercept, T* w, T* b) const {
    for (Index c = 0; c < p_.k; ++c) std::copy_n(coef + c * p_.X.d, p_.X.d, w + c * p_.ld());
    std::copy_n(intercept, p_.k, b);
}

template <class T>
void Session<T>::unpack(const T* w, const T* b, T* coef, T* intercept) const {
    for (Index c = 0; c < p_.k; ++c) std::copy_n(w + c * p_.ld(), p_.X.d, coef + c * p_.X.d);
    std::copy_n(b, p_.k, intercept);
}

template <class T>
void Session<T>::set_weights(const T* coef, const T* intercept) {
    pack(coef, intercept, weights_.w.data(), weights_.b.data());
    velocity_w_ = Buffer<T>();
    velocity_b_ = Buffer<T>();
    average_w_ = Buffer<double>();
    average_b_ = Buffer<double>();
    averaged_ = 0;
}

template <class T>
void Session<T>::weights(T* coef, T* intercept) const {
    unpack(weights_.w.data(), weights_.b.data(), coef, intercept);
}

template <class T>
void Session<T>::average(T* coef, T* intercept) const {
    if (averaged_ == 0) return weights(coef, intercept);
    for (Index c = 0; c < p_.k; ++c) {
        for (Index j = 0; j < p_.X.d; ++j) coef[c * p_.X.d + j] = static_cast<T>(average_w_[c * p_.ld() + j]);
        intercept[c] = static_cast<T>(average_b_[c]);
    }
}

template <class T>
void Session<T>::set_mean(const T* coef, const T* intercept) {
    pack(coef, intercept, mean_w_.data(), mean_b_.data());
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
    std::copy_n(weights_.anchor_w(), p_.k * p_.ld(), at.w.data());
    std::copy_n(weights_.anchor_b(), p_.kp(), at.b.data());
    Pass result = pass(at, ControlVariate{}, cached_ ? table_.data() : nullptr, poll);
    if (mean_) {
        const std::vector<T> m(result.grad.begin(), result.grad.end());
        const std::vector<T> m_b(result.grad_intercept.begin(), result.grad_intercept.end());
        set_mean(m.data(), m_b.data());
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
    const std::vector<T> m(result.anchor_grad.begin(), result.anchor_grad.end());
    const std::vector<T> m_b(result.anchor_grad_intercept.begin(), result.anchor_grad_intercept.end());
    set_mean(m.data(), m_b.data());
    return result;
}

template <class T>
Walk Session<T>::epoch(const Route& route, const Step& step, const ControlVariate& variate, const Poll& poll) {
    const Index b = step.batch_size, steps = (route.rows + b - 1) / b;
    const Index work_per_row = p_.X.d * p_.k * (variate.source == AnchorKind::weights ? 3 : 2) + 1;
    Stepper stepper(*this, step, variate);
    Walk walk;
    Sums seen;
    Index work = 0, refreshed = 0;
    for (Index t = 0; t < steps; ++t) {
        if (refreshed < route.n_refresh && route.refresh_at[refreshed] == t) {
            ++refreshed;
            std::copy_n(weights_.w.data(), p_.k * p_.ld(), weights_.anchor_w());
            std::copy_n(weights_.b.data(), p_.kp(), weights_.anchor_b());
            if (std::optional<Pass> done = rebuild_anchor(poll)) walk.passes.push_back(std::move(*done));
        }
        const Index count = std::min(b, route.rows - t * b);
        stepper.start(count, route.rates[route.n_rates == 1 ? 0 : t]);
        take_step(stepper, {route.order + t * b, count, route.rows - t * b}, walk.sums);
        walk.steps = t + 1;
        work += count * work_per_row;
        if (work > kWorkBetweenPolls || t + 1 == steps) {
            walk.exploded = !in_bounds(walk.sums, seen, route.loss_limit);
            if (walk.exploded) break;
            seen = walk.sums;
            work = 0;
            poll();
        }
    }
    return walk;
}

// A batch of one block goes from residuals straight to the weights; a longer one is summed first. The next block's rows are
// asked for ahead of time: an epoch walks memory in random order, and on 60,000 x 784 floats batches of 10 take 12 percent less
// time, of 1 20 percent.
template <class T>
void Session<T>::take_step(Stepper& stepper, const Batch& batch, Sums& sums) {
    const Kernels<T>& kernel = kernels<T>();
    const ControlVariate& variate = stepper.variate;
    Block<T>& block = stepper.block;
    const T* table = variate.source == AnchorKind::table ? table_.data() : nullptr;
    const Index ldq = p_.kp(), size = block.max_rows();
    for (Index at = 0; at < batch.count; at += size) {
        block.gather(batch.rows + at, std::min(size, batch.count - at), variate.update_table ? at : 0, table);
        const Index next = at + block.count(), coming = std::min(block.count(), batch.left - next);
        block.run(kernel, weights_, {variate, stepper.statistics, false, ldq, p_.k, batch.rows + next, coming}, sums,
                  stepper.sum_b.data());
        block.for_columns(p_.k, [&](Columns columns) {
            if (batch.count <= size) {
                kernel.gradient_step(block.rows(), block.q(), ldq, columns, stepper.coef, stepper.update);
            } else {
                kernel.gradient_add_double(block.rows(), block.q(), ldq, columns, p_.k, stepper.sum_w.data(), p_.ld());
            }
        });
    }
    if (batch.count > size) kernel.step(stepper.sum_w.data(), stepper.coef, stepper.update);
    stepper.step_intercept();
    if (variate.update_table) update_table(block, batch);
}

// table_i <- r_i and m += 1/n sum s_i (new - old) (x) a_i. Rows are taken one after the other, so one met twice counts once.
template <class T>
void Session<T>::update_table(Block<T>& block, const Batch& batch) {
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
        block.for_columns(p_.k, [&](Columns columns) {
            kernels<T>().gradient_add(block.rows(), block.q(), ldq, columns, p_.k, mean_w_.data(), p_.ld());
        });
    }
}

template <class T>
Pass Session<T>::evaluate(const T* coef, const T* intercept, const ControlVariate& variate, const Poll& poll) {
    Weights<T> at(p_);
    pack(coef, intercept, at.w.data(), at.b.data());
    std::copy_n(weights_.anchor_w(), p_.k * p_.ld(), at.anchor_w());
    std::copy_n(weights_.anchor_b(), p_.kp(), at.anchor_b());
    return pass(at, variate, nullptr, poll);
}

// All rows once, at the weights `w`. residuals_out: n x k, the plain residuals of the student; or null.
template <class T>
Pass Session<T>::pass(Weights<T>& w, const ControlVariate& variate, T* residuals_out, const Poll& poll) {
    const bool anchored = variate.source != AnchorKind::none;
    const Index n = p_.X.n, d = p_.X.d, k = p_.k, ld = p_.ld();
    const Index outputs = anchored ? 2 * k : k, ldq = anchored ? k + p_.kp() : p_.kp();
    const T* table = variate.source == AnchorKind::table ? table_.data() : nullptr;
    Block<T> block(p_, 0);
    Buffer<double> sum_w(outputs * ld), sum_b(outputs);
    std::vector<std::int64_t> rows(static_cast<std::size_t>(block.max_rows()));
    Pass result;
    Index work = 0;
    for (Index at = 0; at < n; at += block.max_rows()) {
        const Index count = std::min(block.max_rows(), n - at);
        std::iota(rows.begin(), rows.begin() + count, at);
        block.forget();
        block.gather(rows.data(), count, 0, table);
        block.run(kernels<T>(), w, {variate, true, true, ldq, outputs, nullptr, 0}, result.sums, sum_b.data());
        block.for_columns(outputs, [&](Columns columns) {
            kernels<T>().gradient_add_double(block.rows(), block.q(), ldq, columns, outputs, sum_w.data(), ld);
        });
        if (residuals_out) {
            for (Index i = 0; i < count; ++i) std::copy_n(block.r(i), k, residuals_out + (at + i) * k);
        }
        work += count * (d * 2 * outputs + 1);
        if (work > kWorkBetweenPolls) work = 0, poll();
    }
    result.sums.pairs = result.sums.pair_xx = result.sums.pair_xt = result.sums.pair_tt = 0;

    const double share = 1.0 / static_cast<double>(n);
    const auto means = [&](Index first, std::vector<double>& g, std::vector<double>& g_b) {
        for (Index c = first; c < first + k; ++c) {
            for (Index j = 0; j < d; ++j) g.push_back(sum_w[c * ld + j] * share);
            g_b.push_back(p_.fit_intercept ? sum_b[c] * share : 0.0);
        }
    };
    means(0, result.grad, result.grad_intercept);
    if (anchored) means(k, result.anchor_grad, result.anchor_grad_intercept);
    return result;
}

template class Session<float>;
template class Session<double>;

}  // namespace kdvr
