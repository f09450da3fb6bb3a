// Purpose: a deep linear model's weights, its epochs and its two ways of a step. See deep.hpp.
#include "deep.hpp"

#include <algorithm>  // clamp, copy_n, fill_n, max, max_element, min

#include "dispatch.hpp"

namespace kdvr {

namespace {

// Numbers that the parts of a product may take together.
constexpr Index kMostParts = Index{1} << 22;

}  // namespace

template <class T>
Deep<T>::Deep(const Session<T>& linear, const std::vector<Index>& widths, bool own)
    : linear_(linear), p_(linear.problem()), widths_(widths), own_(own) {
    for (std::size_t l = 1; l < widths.size(); ++l) {
        const Index out = widths[l], in = widths[l - 1];
        layers_.push_back({out, in, ld(l - 1), 1, Buffer<T>(out * ld(l - 1)), {}, {}, {}});
        size_ += out * in;
    }
    b_ = Buffer<T>(p_.intercepts()), mean_b_ = Buffer<T>(p_.intercepts()), anchor_b_ = Buffer<T>(p_.intercepts());
    sum_b_ = Buffer<double>(p_.intercepts());
}

template <class T>
void Deep<T>::read(const T* layers, Buffer<T> Layer::* where) {
    for (Layer& layer : layers_) {
        Buffer<T>& to = layer.*where;
        to.reserve(layer.out * layer.ld);
        for (Index i = 0; i < layer.out; ++i, layers += layer.in) std::copy_n(layers, layer.in, &to[i * layer.ld]);
    }
}

template <class T>
void Deep<T>::set_weights(const T* layers, const T* intercept) {
    read(layers, &Layer::w);
    std::copy_n(intercept, p_.k, b_.data());
    for (Layer& layer : layers_) layer.velocity = Buffer<T>();
    velocity_b_ = Buffer<T>();
}

template <class T>
void Deep<T>::set_velocity(const T* layers, const T* intercept) {
    read(layers, &Layer::velocity);
    velocity_b_.reserve(p_.intercepts());
    std::copy_n(intercept, p_.k, velocity_b_.data());
}

template <class T>
void Deep<T>::write(Buffer<T> Layer::* where, const Buffer<T>& b, T* layers, T* intercept) const {
    for (const Layer& layer : layers_) {
        const Buffer<T>& from = layer.*where;
        for (Index i = 0; i < layer.out; ++i, layers += layer.in) std::copy_n(&from[i * layer.ld], layer.in, layers);
    }
    std::copy_n(b.data(), p_.k, intercept);
}

template <class T>
void Deep<T>::set_anchor(const T* coef, const T* intercept, const T* layers) {
    anchor_.reserve(p_.k * ld(0));
    for (Index c = 0; c < p_.k; ++c) std::copy_n(coef + c * p_.X.d, p_.X.d, &anchor_[c * ld(0)]);
    std::copy_n(intercept, p_.k, anchor_b_.data());
    if (layers) read(layers, &Layer::theta);
}

template <class T>
void Deep<T>::set_mean(const T* mean, const T* intercept) {
    std::copy_n(intercept, p_.k, mean_b_.data());
    if (own_) return read(mean, &Layer::mean);
    mean_.reserve(p_.k * ld(0));
    for (Index c = 0; c < p_.k; ++c) std::copy_n(mean + c * p_.X.d, p_.X.d, &mean_[c * ld(0)]);
}

template <class T>
Walk Deep<T>::epoch(const Route& route, const DeepStep& step, const ControlVariate& variate, const Poll& poll) {
    const Index b = step.batch_size, steps = (route.rows + b - 1) / b;
    begin(step, variate);
    Index work_per_step = 1;
    for (const Layer& layer : layers_) work_per_step += 3 * layer.out * layer.in * rows_;
    Walk walk;
    Sums seen;
    Index work = 0;
    for (Index t = 0; t < steps; ++t) {
        const Index count = std::min(b, route.rows - t * b);
        update_.scale = T(1) / static_cast<T>(count);
        update_.rate = static_cast<T>(route.rates[route.n_rates == 1 ? 0 : t]);
        take_step(route.order + t * b, count, route.rows - t * b, walk.sums);
        walk.steps = t + 1;
        work += work_per_step;
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

// Makes room for an epoch's steps; collapsed, also the products with the weights as they are.
template <class T>
void Deep<T>::begin(const DeepStep& step, const ControlVariate& variate) {
    step_ = step, variate_ = variate;
    update_ = {};
    update_.mean_scale = static_cast<T>(variate.lam), update_.l2 = static_cast<T>(step.l2);
    update_.momentum = static_cast<T>(step.momentum), update_.nesterov = step.nesterov;
    for (Layer& layer : layers_) {
        if (step.momentum != 0) layer.velocity.reserve(layer.out * layer.ld);
    }
    if (step.momentum != 0) velocity_b_.reserve(p_.intercepts());

    const Index b = step.batch_size, rows = step.collapse ? p_.k : b, all = stacked() ? 2 * rows : rows;
    const Index widest = *std::max_element(widths_.begin(), widths_.end());
    const auto room = static_cast<std::size_t>(b), levels = widths_.size();
    up_.clear(), fresh_.clear(), down_.clear();
    down_rows_.assign(levels, std::vector<const T*>(static_cast<std::size_t>(all)));
    for (std::size_t l = 0; l < levels; ++l) {
        up_.emplace_back((l == 0 ? 2 * p_.k : all) * ld(l));
        fresh_.emplace_back(step.collapse ? p_.k * ld(l) : 0);
        down_.emplace_back(l > 0 || step.collapse ? all * ld(l) : 0);
    }
    turned_ = Buffer<T>(widest * rows), scratch_ = Buffer<T>(kMaxChunks * kPanel * 2 * rows);
    Index parts = step.collapse ? kMaxChunks * all * ld(0) : 0;
    for (Layer& layer : layers_) {
        const Index product = rows * layer.ld, most = std::clamp<Index>(kMostParts / product, 1, kMaxChunks);
        layer.chunks = useful_threads(layer.out * product, 2) == 1 ? 1 : std::clamp<Index>(layer.out / kPanel, 1, most);
        parts = std::max(parts, layer.chunks * product);
    }
    parts_ = Buffer<T>(parts);
    ldq_ = stacked() ? p_.k + p_.kp() : p_.kp();
    z_ = Buffer<T>(b * 2 * p_.kp()), q_ = Buffer<T>(b * ldq_), r_ = Buffer<T>(b * p_.kp()), c_ = Buffer<T>(b * p_.kp());
    std::fill_n(z_.data(), z_.size(), p_.loss == LossKind::squared ? T(0) : T(-1e30));  // see Block
    weight_ = Buffer<T>(b);
    copied_ = Buffer<T>(step.collapse && !p_.is_sparse() && !p_.is_compact() ? 0 : b * ld(0));
    a_.resize(room), target_.resize(room), table_.resize(room), label_.resize(room), coming_.resize(room);
    rows_ = rows;
    if (step.collapse) collapse();
}

template <class T>
void Deep<T>::collapse() {
    const std::size_t top = layers_.size();
    for (Index c = 0; c < p_.k; ++c) {
        up_[top][c * ld(top) + c] = T(1);
        if (stacked()) up_[top][(p_.k + c) * ld(top) + c] = -static_cast<T>(variate_.lam);
    }
    for (std::size_t l = top; l > 0; --l) {
        turn(up_[l].data(), ld(l), p_.k, widths_[l]);
        sweep(l, layers_[l - 1].w.data(), When::never, p_.k, up_[l - 1].data());
        if (!stacked() || l == 1) continue;
        turn(&up_[l][p_.k * ld(l)], ld(l), p_.k, widths_[l]);
        sweep(l, layers_[l - 1].theta.data(), When::never, p_.k, &up_[l - 1][p_.k * ld(l - 1)]);
    }
    if (anchor_.size() > 0) std::copy_n(anchor_.data(), p_.k * ld(0), &up_[0][p_.k * ld(0)]);
    for (std::size_t l = 0; l < down_.size(); ++l) {
        for (std::size_t i = 0; i < down_rows_[l].size(); ++i) down_rows_[l][i] = &down_[l][static_cast<Index>(i) * ld(l)];
    }
}

template <class T>
void Deep<T>::take_step(const std::int64_t* rows, Index count, Index left, Sums& sums) {
    point(rows, count, copied_.size() > 0);
    if (step_.collapse) {
        gather_gradient(rows + count, count, left - count, sums);
        step_collapsed();
    } else {
        step_by_layers(count, sums);
    }
    step_intercept(count);
}

// From R_0 on. A_l of the stepped layers is in fresh_ until layer l has been stepped with the old one.
template <class T>
void Deep<T>::step_collapsed() {
    const std::size_t top = layers_.size();
    for (std::size_t l = 1; l < top; ++l) {
        forward(l, layers_[l - 1].w.data(), 0, p_.k);
        if (stacked()) forward(l, layers_[l - 1].theta.data(), p_.k, p_.k);
    }
    for (std::size_t l = top; l > 0; --l) {
        const T* const above = l == top ? up_[l].data() : fresh_[l].data();
        turn(above, ld(l), p_.k, widths_[l]);
        sweep(l, layers_[l - 1].w.data(), When::before, p_.k, l == 1 ? up_[0].data() : fresh_[l - 1].data());
        if (l < top) std::copy_n(above, p_.k * ld(l), up_[l].data());
    }
}

template <class T>
void Deep<T>::step_by_layers(Index count, Sums& sums) {
    const std::size_t top = layers_.size();
    const bool anchored = variate_.source == AnchorKind::weights;
    const T lam = static_cast<T>(variate_.lam);
    rows_ = count;
    for (std::size_t l = 0; l < top; ++l) {
        const auto n = static_cast<std::size_t>(count);
        for (std::size_t i = 0; i < n; ++i) {
            down_rows_[l][i] = l == 0 ? a_[i] : &down_[l][static_cast<Index>(i) * ld(l)];
            if (stacked()) down_rows_[l][n + i] = l == 0 ? a_[i] : &down_[l][static_cast<Index>(n + i) * ld(l)];
        }
        if (l == 0) continue;
        forward(l, layers_[l - 1].w.data(), 0, count);
        if (stacked()) forward(l, layers_[l - 1].theta.data(), count, count);
    }
    const auto logits = [&](const T* const* h, std::size_t level, const T* w, T* z) {
        kernels<T>().logits({h, count, widths_[level]}, {}, w, ld(level), p_.k, p_.k, z, p_.kp(), nullptr, {});
    };
    const T* const* const last = down_rows_[top - 1].data();
    logits(last, top - 1, layers_.back().w.data(), z_.data());
    if (anchored && own_) logits(last + count, top - 1, layers_.back().theta.data(), z_.data() + p_.kp());
    if (anchored && !own_) logits(a_.data(), 0, anchor_.data(), z_.data() + p_.kp());
    for (Index at = 0; at < count; at += kMostRows) residuals(at, std::min(kMostRows, count - at), sums);
    sums.rows += static_cast<double>(count);
    for (Index i = 0; i < count; ++i) {
        std::copy_n(&q_[i * ldq_], p_.k, &up_[top][i * ld(top)]);
        for (Index c = 0; stacked() && c < p_.k; ++c) up_[top][(count + i) * ld(top) + c] = -lam * q_[i * ldq_ + p_.k + c];
    }
    for (std::size_t l = top; l > 0; --l) {
        if (l > 1 && stacked()) {
            turn(&up_[l][count * ld(l)], ld(l), count, widths_[l]);
            sweep(l, layers_[l - 1].theta.data(), When::never, count, &up_[l - 1][count * ld(l - 1)]);
        }
        if (l > 1) turn(up_[l].data(), ld(l), count, widths_[l]);
        sweep(l, layers_[l - 1].w.data(), When::after, count, l > 1 ? up_[l - 1].data() : nullptr);
    }
}

template <class T>
void Deep<T>::step_intercept(Index count) {
    if (!p_.fit_intercept) return;
    sum_b_.clear();
    for (Index i = 0; i < count; ++i) {
        const T* const q = &q_[i * ldq_];
        for (Index c = 0; c < p_.k; ++c) {
            sum_b_[c] += static_cast<double>(q[c]);
            if (stacked()) sum_b_[c] -= variate_.lam * static_cast<double>(q[p_.k + c]);
        }
    }
    Update<T> free = update_;
    free.l2 = T(0);
    kernels<T>().step(sum_b_.data(),
                      {b_.data(), step_.momentum != 0 ? velocity_b_.data() : nullptr,
                       variate_.use_mean ? mean_b_.data() : nullptr, nullptr, 1, p_.intercepts()},
                      free);
}

template class Deep<float>;
template class Deep<double>;

}  // namespace kdvr
