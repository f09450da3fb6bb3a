// Purpose: compact rows in a pass with one output, or two with a teacher's: decoded in registers where they are used, twice.
// So little is computed with a number then that writing it to scratch and reading it back twice would take most of the time.
//   logits:    z[i, o] = <a_i, w_o>, norm[i] = |a_i|^2,    a_i = scale u_i + offset
//   gradient:  G[o, :] += sum_i q[i, o] a_i = scale (sum_i q[i, o] u_i) + offset (sum_i q[i, o])
// Rows are read one at a time, as dense ones are. The numbers that do not fill a vector lie in its last lanes, read with those
// before them; factors of 0 silence the lanes that are not theirs.
#pragma once

#include "decode.hpp"
#include "kernels.hpp"

namespace kdvr::KDVR_ISA {

template <class T, class From>
KDVR_INLINE Vec<T> load_last(const typename From::type* u, Index d) {
    constexpr Index L = kLanes<T>;
    if (d >= L) return From::template load<T>(u + d - L);
    typename From::type lanes[L] = {};
    for (Index j = 0; j < d; ++j) lanes[L - d + j] = u[j];
    return From::template load<T>(lanes);
}

// p[d - rest .. d) in the last lanes, zeros before them.
template <class T>
KDVR_INLINE Vec<T> last_lanes(const T* p, Index d, Index rest) {
    T lanes[kLanes<T>] = {};
    for (Index j = 0; j < rest; ++j) lanes[kLanes<T> - rest + j] = p[d - rest + j];
    return load(lanes);
}

template <class T>
KDVR_INLINE Vec<T> last_ones(Index rest) {
    T lanes[kLanes<T>] = {};
    for (Index j = 0; j < rest; ++j) lanes[kLanes<T> - 1 - j] = T(1);
    return load(lanes);
}

// C outputs. Raw: one scale for all features and no offset, so that sums are scaled instead of numbers.
template <class T, class From, int C, bool Raw>
void compact_logits_of(const CompactBlock<T>& block, const T* w, Index ld, T* z, const RowProducts<T>& products) {
    constexpr Index L = kLanes<T>;
    const Index d = block.d, rest = d % L;
    const T factor = Raw ? block.one_scale : T(1);
    const Vec<T> last_scale = Raw ? last_ones<T>(rest) : last_lanes(block.scale, d, rest);
    const Vec<T> last_offset = Raw ? Vec<T>{} : last_lanes(block.offset, d, rest);
    Vec<T> last_w[C];
#pragma GCC unroll 2
    for (int c = 0; c < C; ++c) last_w[c] = last_lanes(w + c * ld, d, rest);
    for (Index i = 0; i < block.rows; ++i) {
        const auto* const u = static_cast<const typename From::type*>(block.row[i]);
        Vec<T> acc[2][C + 1] = {};
        const auto add_vector = [&](Vec<T>* sums, Index j) __attribute__((always_inline)) {
            Vec<T> x = From::template load<T>(u + j);
            if constexpr (!Raw) x = x * load(block.scale + j) + load(block.offset + j);
#pragma GCC unroll 2
            for (int c = 0; c < C; ++c) sums[c] += x * load(w + c * ld + j);
            sums[C] += x * x;
        };
        Index j = 0;
        for (; j + 2 * L <= d; j += 2 * L) add_vector(acc[0], j), add_vector(acc[1], j + L);
        if (j + L <= d) add_vector(acc[0], j);
        if (rest > 0) {
            const Vec<T> x = load_last<T, From>(u, d) * last_scale + last_offset;
#pragma GCC unroll 2
            for (int c = 0; c < C; ++c) acc[1][c] += x * last_w[c];
            acc[1][C] += x * x;
        }
        T out[4];
        sum4<T>(acc[0][0] + acc[1][0], acc[0][1] + acc[1][1], C > 1 ? acc[0][C] + acc[1][C] : Vec<T>{}, Vec<T>{}, out);
#pragma GCC unroll 2
        for (int c = 0; c < C; ++c) z[2 * i + c] = factor * out[c];
        if (products.norm) products.norm[i] = factor * factor * out[C] + products.one;
    }
}

// The sum of one vector from column j on joins G; Last: its numbers lie in the last lanes.
template <class T, bool Last>
KDVR_INLINE void add_compact(const CompactBlock<T>& block, Vec<T> acc, T sum_q, Index j, double* sum) {
    if constexpr (Last) {
        T lanes[2 * kLanes<T>] = {};
        store<T>(lanes, acc);
        acc = load(lanes + kLanes<T> - (block.d - j));
    }
    const Vec<T> g = block.scale ? load_part(block.scale, j, block.d) * acc + load_part(block.offset, j, block.d) * sum_q
                                 : block.one_scale * acc;
    update_doubles<T>(sum + j, g, [](Vec<double> total, Vec<double> more) { return total + more; });
}

// C outputs x J vectors from column j on. The same columns of the coming rows are asked for, since multiplications alone would
// let memory rest.
template <class T, class From, int C, int J, bool Last>
KDVR_INLINE void compact_gradient_tile(const CompactBlock<T>& block, const T* q, Index ldq, const T* sum_q, Index j,
                                       double* sum, Index ld) {
    using Item = typename From::type;
    constexpr Index L = kLanes<T>, line = 64, bytes = J * L * static_cast<Index>(sizeof(Item));
    Vec<T> acc[C][J] = {};
    for (Index i = 0; i < block.rows; ++i) {
        const auto* const u = static_cast<const Item*>(block.row[i]);
        const auto* const coming = static_cast<const char*>(block.coming[i]) + j * static_cast<Index>(sizeof(Item));
#pragma GCC unroll 4
        for (Index at = 0; at < bytes; at += line) __builtin_prefetch(coming + at, 0, 2);
        Vec<T> x[J];
#pragma GCC unroll 4
        for (int v = 0; v < J; ++v) x[v] = Last ? load_last<T, From>(u, block.d) : From::template load<T>(u + j + v * L);
#pragma GCC unroll 2
        for (int c = 0; c < C; ++c) {
            const Vec<T> coefficient = splat(q[i * ldq + c]);
#pragma GCC unroll 4
            for (int v = 0; v < J; ++v) acc[c][v] += coefficient * x[v];
        }
    }
#pragma GCC unroll 2
    for (int c = 0; c < C; ++c) {
#pragma GCC unroll 4
        for (int v = 0; v < J; ++v) add_compact<T, Last>(block, acc[c][v], sum_q[c], j + v * L, sum + c * ld);
    }
}

template <class T, class From, int C>
void compact_gradient_of(const CompactBlock<T>& block, const T* q, Index ldq, const T* sum_q, Columns columns, double* sum,
                         Index ld) {
    constexpr Index L = kLanes<T>;
    Index j = columns.from;
    for (; j + 4 * L <= columns.to; j += 4 * L) compact_gradient_tile<T, From, C, 4, false>(block, q, ldq, sum_q, j, sum, ld);
    for (; j + L <= columns.to; j += L) compact_gradient_tile<T, From, C, 1, false>(block, q, ldq, sum_q, j, sum, ld);
    if (j < columns.to) compact_gradient_tile<T, From, C, 1, true>(block, q, ldq, sum_q, j, sum, ld);
}

template <class T, class From>
struct CompactOne {
    static void logits(const CompactBlock<T>& block, const T* w, Index ld, Index outputs, T* z,
                       const RowProducts<T>& products) {
        if (block.scale) {
            return outputs == 1 ? compact_logits_of<T, From, 1, false>(block, w, ld, z, products)
                                : compact_logits_of<T, From, 2, false>(block, w, ld, z, products);
        }
        return outputs == 1 ? compact_logits_of<T, From, 1, true>(block, w, ld, z, products)
                            : compact_logits_of<T, From, 2, true>(block, w, ld, z, products);
    }
    static void gradient(const CompactBlock<T>& block, const T* q, Index ldq, const T* sum_q, Columns columns, Index outputs,
                         double* sum, Index ld) {
        return outputs == 1 ? compact_gradient_of<T, From, 1>(block, q, ldq, sum_q, columns, sum, ld)
                            : compact_gradient_of<T, From, 2>(block, q, ldq, sum_q, columns, sum, ld);
    }
};

// f(CompactOne of the storage).
template <class T, class F>
KDVR_INLINE void with_storage(Storage storage, const F& f) {
    switch (storage) {
        case Storage::uint8:
            return f(CompactOne<T, FromUint8>{});
        case Storage::int8:
            return f(CompactOne<T, FromInt8>{});
        case Storage::float16:
            return f(CompactOne<T, FromFloat16>{});
        case Storage::bfloat16:
            return f(CompactOne<T, FromBfloat16>{});
    }
}

template <class T>
void compact_logits(const CompactBlock<T>& block, const T* w, Index ld, Index outputs, T* z, const RowProducts<T>& products) {
    with_storage<T>(block.storage, [&](auto rows) { rows.logits(block, w, ld, outputs, z, products); });
}

template <class T>
void compact_gradient(const CompactBlock<T>& block, const T* q, Index ldq, const T* sum_q, Columns columns, Index outputs,
                      double* sum, Index ld) {
    with_storage<T>(block.storage, [&](auto rows) { rows.gradient(block, q, ldq, sum_q, columns, outputs, sum, ld); });
}

}  // namespace kdvr::KDVR_ISA
