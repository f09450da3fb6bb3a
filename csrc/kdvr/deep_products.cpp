// Purpose: the three products of a layer of a deep linear model, the step among them. See deep.hpp.
#include <algorithm>  // fill_n, min

#include "deep.hpp"
#include "dispatch.hpp"

namespace kdvr {

namespace {

// Columns of a layer's rows that are stepped and multiplied while the first-level cache holds a panel of them.
template <class T>
constexpr Index kPart = 2 * kColumns<T>;

}  // namespace

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

template void Deep<float>::forward(std::size_t, const float*, Index, Index);
template void Deep<float>::turn(const float*, Index, Index, Index);
template void Deep<float>::sweep(std::size_t, const float*, When, Index, float*);
template void Deep<float>::step_rows(std::size_t, Index, Index, Columns);
template void Deep<float>::add_parts(Index, Index, Index, float*);
template void Deep<double>::forward(std::size_t, const double*, Index, Index);
template void Deep<double>::turn(const double*, Index, Index, Index);
template void Deep<double>::sweep(std::size_t, const double*, When, Index, double*);
template void Deep<double>::step_rows(std::size_t, Index, Index, Columns);
template void Deep<double>::add_parts(Index, Index, Index, double*);

}  // namespace kdvr
