#include "deep.hpp"

#include <algorithm>  // clamp, copy_n, fill_n, max, min

#include "dispatch.hpp"

namespace kdvr {

namespace {

// Rows of a layer, and columns of them, that are stepped and multiplied while the first-level cache holds them.
constexpr Index kPanel = 64;
template <class T>
constexpr Index kPart = 2 * kColumns<T>;

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

// -- the rows of a batch ------------------------------------------------------------------------------------------------------

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

// sum = the sum of `count` parts, one behind the other.
template <class T>
void Deep<T>::add_parts(Index count, Index rows, Index columns, T* sum) {
    const Index ld = padded<T>(columns);
    std::fill_n(sum, rows * ld, T(0));
    Update<T> add{};
    add.scale = T(1), add.rate = T(-1);
    for_columns<T>(columns, useful_threads(count * rows * columns, p_.threads), [&](Columns some) {
        kernels<T>().parts_step(parts_.data(), count, some, {sum, nullptr, nullptr, nullptr, rows, ld}, add);
    });
}

// -- the three products -------------------------------------------------------------------------------------------------------

// R_l = R_{l-1} W^T for some of its rows.
template <class T>
void Deep<T>::forward(std::size_t l, const T* w, Index first, Index rows) {
    const Layer& layer = layers_[l - 1];
    const T* const from = l == 1 && !step_.collapse ? a_[0] : down_rows_[l - 1][static_cast<std::size_t>(first)];
    T* const to = &down_[l][first * ld(l)];
    const Index n = layer.chunks;
    run(n, useful_threads(layer.out * layer.in * rows, p_.threads), [&](Index c) {
        const T* row[kPanel];
        T* const z = &scratch_[c * kPanel * 2 * rows];
        const Index end = (c + 1) * layer.out / n;
        for (Index at = c * layer.out / n; at < end; at += kPanel) {
            const Index some = std::min(kPanel, end - at);
            for (Index i = 0; i < some; ++i) row[i] = w + (at + i) * layer.ld;
            const char* coming[kPanel];
            const Index next = std::min(kPanel, end - at - some);
            for (Index i = 0; i < next; ++i) coming[i] = reinterpret_cast<const char*>(w + (at + some + i) * layer.ld);
            kernels<T>().logits({row, some, layer.in}, {coming, next, static_cast<Index>(sizeof(T))}, from, layer.ld, rows,
                                rows, z, rows, nullptr, {});
            for (Index j = 0; j < rows; ++j) {
                for (Index i = 0; i < some; ++i) to[j * ld(l) + at + i] = z[i * 2 * rows + j];
            }
        }
    });
}

// turned_ = A^T, contiguous.
template <class T>
void Deep<T>::turn(const T* A, Index ld, Index rows, Index columns) {
    for (Index j = 0; j < columns; ++j) {
        for (Index i = 0; i < rows; ++i) turned_[j * rows + i] = A[i * ld + j];
    }
}

// product = turned_^T W (none where it is null), with the rows of W, before or after they are stepped.
template <class T>
void Deep<T>::sweep(std::size_t l, const T* w, When step, Index rows, T* product) {
    const Layer& layer = layers_[l - 1];
    const Index n = layer.chunks;
    run(n, useful_threads(layer.out * layer.in * rows, p_.threads), [&](Index c) {
        const T* row[kPanel];
        const Index first = c * layer.out / n, end = (c + 1) * layer.out / n;
        T* const to = n > 1 ? &parts_[c * rows * layer.ld] : product;
        for (Index at = first; at < end; at += kPanel) {
            const Index some = std::min(kPanel, end - at);
            const T* const q = &turned_[at * rows];
            for (Index from = 0; from < layer.in; from += kPart<T>) {
                const Columns columns = {from, std::min(from + kPart<T>, layer.in)};
                if (step == When::before) step_rows(l, at, at + some, columns);
                for (Index i = 0; product && i < some; ++i) row[i] = w + (at + i) * layer.ld + from;
                const RowBlock<T> block = {row, some, columns.to - from};
                if (product && at == first) kernels<T>().gradient_part(block, q, rows, rows, to + from, layer.ld);
                if (product && at > first) {
                    kernels<T>().gradient_add(block, q, rows, {0, block.d}, rows, to + from, layer.ld);
                }
                if (step == When::after) step_rows(l, at, at + some, columns);
            }
        }
    });
    if (product && n > 1) add_parts(n, rows, layer.in, product);
}

// W -= rate (scale A_l^T R_{l-1} + ...), rows from .. to - 1.
template <class T>
void Deep<T>::step_rows(std::size_t l, Index from, Index to, Columns columns) {
    Layer& layer = layers_[l - 1];
    const Index at = from * layer.ld;
    const RowBlock<T> rows = {down_rows_[l - 1].data(), stacked() ? 2 * rows_ : rows_, layer.in};
    kernels<T>().gradient_step(rows, &up_[l][from], ld(l), columns,
                               {&layer.w[at], step_.momentum != 0 ? &layer.velocity[at] : nullptr,
                                variate_.use_mean && own_ ? &layer.mean[at] : nullptr, nullptr, to - from, layer.ld},
                               update_);
}

template class Deep<float>;
template class Deep<double>;

}  // namespace kdvr
