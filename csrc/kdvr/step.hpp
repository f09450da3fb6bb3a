// Purpose: the two products of a step, as register tiles, and the update fused to the second one.
//   logits:    z[i, o] = <a_i, w_o>            tile of R rows x C outputs, vectors run along d
//   gradient:  G[o, :] = sum_i q[i, o] a_i     tile of C outputs x J vectors, summed over the block's rows
// Tile sizes fill the registers. AVX-512 and NEON have 32: 5 x 5 sums + 5 rows + 1 weight; 5 x 4 sums + 4 vectors + 1
// coefficient. The others have 16: 3 x 4 + 3 + 1 and 3 x 3 + 3 + 1. Floor: 2 k d multiply-adds a row (3 k d with a teacher on
// the fly); loads stay under one per two multiply-adds. Shapes: see kernels.hpp; W and G are padded to ld with zeros, rows are
// not and end in a masked load.
#pragma once

#include "kernels.hpp"
#include "simd.hpp"

namespace kdvr::KDVR_ISA {

#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int kTileRows = 5, kTileOutputs = 5, kTileClasses = 5, kTileVectors = 4;
#else
constexpr int kTileRows = 3, kTileOutputs = 4, kTileClasses = 3, kTileVectors = 3;
#endif

// Coming rows that a tile of R rows x C outputs asks for on its way: a tile of few outputs is the only one for its rows and
// asks for as many, of several tiles each takes a share.
template <int R, int C>
constexpr int kComingRows = C < 3 ? R : 3;

// R x C inner products over d; few of them are summed in several chains, since one multiply-add takes four cycles.
// With their norms, or these and the products with the row before, which for the first of them is `before`: they follow in
// `out`. A tile of one or two outputs has registers for them, and spares the rows' second reading.
enum class With { logits, norms, pairs };

template <class T, int R, int C, With W, int P = kComingRows<R, C>>
void logits_tile(const T* const* a, const T* before, const char* const* ahead, Index item, Index d, const T* w, Index ld,
                 T* out) {
    constexpr Index L = kLanes<T>;
    constexpr bool norms = W != With::logits, pairs = W == With::pairs;
    constexpr int N = R * C + (pairs ? 2 * R : norms ? R : 0), U = N >= 8 ? 1 : 2;
    Vec<T> acc[U][N] = {};
    const auto multiply_rows = [&](Vec<T>* sums, const Vec<T>* x, Vec<T> x_before) __attribute__((always_inline)) {
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            if constexpr (norms) sums[R * C + r] += x[r] * x[r];
            if constexpr (pairs) sums[R * C + R + r] += x[r] * (r > 0 ? x[r - 1] : x_before);
        }
    };
    Index j = 0;
    for (; j + U * L <= d; j += U * L) {
#pragma GCC unroll 4
        for (int u = 0; u < U; ++u) {
#pragma GCC unroll 8
            for (int p = 0; p < P; ++p) __builtin_prefetch(ahead[p] + (j + u * L) * item, 0, 2);
            Vec<T> x[R];
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) x[r] = load(a[r] + j + u * L);
#pragma GCC unroll 8
            for (int c = 0; c < C; ++c) {
                const Vec<T> y = load(w + c * ld + j + u * L);
#pragma GCC unroll 8
                for (int r = 0; r < R; ++r) acc[u][r * C + c] += x[r] * y;
            }
            multiply_rows(acc[u], x, pairs ? load(before + j + u * L) : Vec<T>{});
        }
    }
    for (; j < d; j += L) {
        Vec<T> x[R];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            x[r] = load_part(a[r], j, d);
#pragma GCC unroll 8
            for (int c = 0; c < C; ++c) acc[0][r * C + c] += x[r] * load(w + c * ld + j);
        }
        multiply_rows(acc[0], x, pairs ? load_part(before, j, d) : Vec<T>{});
    }
#pragma GCC unroll 4
    for (int u = 1; u < U; ++u) {
#pragma GCC unroll 32
        for (int i = 0; i < N; ++i) acc[0][i] += acc[u][i];
    }
    const Vec<T> zero{};
#pragma GCC unroll 8
    for (int i = 0; i < N; i += 4) {
        sum4<T>(acc[0][i], i + 1 < N ? acc[0][i + 1] : zero, i + 2 < N ? acc[0][i + 2] : zero, i + 3 < N ? acc[0][i + 3] : zero,
                out + i);
    }
}

template <class T>
struct LogitsTile {
    void (*run)(const T* const* a, const T* before, const char* const* ahead, Index item, Index d, const T* w, Index ld,
                T* out);
    Index ahead;
};

template <class T, int R, int C, With W>
constexpr LogitsTile<T> kLogitsTile = {logits_tile<T, R, C, W>, kComingRows<R, C>};

// One row, nothing asked for.
template <class T, With W>
KDVR_INLINE LogitsTile<T> logits_tile_in_order(Index outputs) {
    return {outputs == 1 ? logits_tile<T, 1, 1, W, 0> : logits_tile<T, 1, 2, W, 0>, 0};
}

template <class T, int R>
KDVR_INLINE LogitsTile<T> logits_tile_of(Index outputs, With with) {
    if (with == With::norms) return outputs == 1 ? kLogitsTile<T, R, 1, With::norms> : kLogitsTile<T, R, 2, With::norms>;
    if (with == With::pairs) return outputs == 1 ? kLogitsTile<T, R, 1, With::pairs> : kLogitsTile<T, R, 2, With::pairs>;
    if constexpr (kTileOutputs > 4) {
        if (outputs == 5) return kLogitsTile<T, R, 5, With::logits>;
    }
    constexpr LogitsTile<T> small[4] = {kLogitsTile<T, R, 1, With::logits>, kLogitsTile<T, R, 2, With::logits>,
                                        kLogitsTile<T, R, 3, With::logits>, kLogitsTile<T, R, 4, With::logits>};
    return small[outputs - 1];
}

template <class T>
KDVR_INLINE LogitsTile<T> logits_tile_of(Index rows, Index outputs, With with, bool in_order) {
    if (in_order) {
        return with == With::logits  ? logits_tile_in_order<T, With::logits>(outputs)
               : with == With::norms ? logits_tile_in_order<T, With::norms>(outputs)
                                     : logits_tile_in_order<T, With::pairs>(outputs);
    }
    if constexpr (kTileRows > 3) {
        if (rows == 5) return logits_tile_of<T, 5>(outputs, with);
        if (rows == 4) return logits_tile_of<T, 4>(outputs, with);
    }
    return rows == 3   ? logits_tile_of<T, 3>(outputs, with)
           : rows == 2 ? logits_tile_of<T, 2>(outputs, with)
                       : logits_tile_of<T, 1>(outputs, with);
}

// Blocks of nearly equal size: 10 rows in tiles of at most 4 go as 4, 3, 3 and never as 4, 4, 2.
KDVR_INLINE Index blocks(Index count, Index most) {
    return (count + most - 1) / most;
}
KDVR_INLINE Index block_start(Index i, Index count, Index n) {
    return i * count / n;
}

// <a, b>; four chains, since one multiply-add takes four cycles.
template <class T>
KDVR_INLINE T product(const T* a, const T* b, Index d) {
    constexpr Index L = kLanes<T>;
    Vec<T> s0{}, s1{}, s2{}, s3{};
    Index j = 0;
    for (; j + 4 * L <= d; j += 4 * L) {
        s0 += load(a + j) * load(b + j), s1 += load(a + j + L) * load(b + j + L);
        s2 += load(a + j + 2 * L) * load(b + j + 2 * L), s3 += load(a + j + 3 * L) * load(b + j + 3 * L);
    }
    for (; j < d; j += L) s0 += load_part(a, j, d) * load_part(b, j, d);
    return sum<T>((s0 + s1) + (s2 + s3));
}

template <class T>
KDVR_INLINE void row_products(const RowBlock<T>& block, const T* before, const RowProducts<T>& out) {
    for (Index i = 0; i < block.rows; ++i) {
        const T* const a = block.a[i];
        if (out.norm) out.norm[i] = product(a, a, block.d) + out.one;
        if (!out.pair) continue;
        const T* const b = i > 0 ? block.a[i - 1] : before;
        out.pair[i] = b && out.wants_pair(i) ? product(a, b, block.d) + out.one : T(0);
    }
}

template <class T>
void logits(const RowBlock<T>& block, const Ahead& ahead, const T* w, Index ld, Index k, Index outputs, T* z, Index kp,
            const T* before, const RowProducts<T>& products) {
    T out[kTileRows * kTileOutputs + 2 * kTileRows + 4];
    const bool in_tiles = products.norm && outputs <= 2, in_order = outputs <= 2 && ahead.rows == 0;
    const With with = !in_tiles ? With::logits : products.pair ? With::pairs : With::norms;
    const Index nr = in_order ? block.rows : blocks(block.rows, kTileRows), nc = blocks(outputs, kTileOutputs);
    Index asked = 0;
    for (Index ic = 0; ic < nc; ++ic) {
        const Index c0 = block_start(ic, outputs, nc), C = block_start(ic + 1, outputs, nc) - c0;
        for (Index ir = 0; ir < nr; ++ir) {
            const Index r0 = block_start(ir, block.rows, nr), R = block_start(ir + 1, block.rows, nr) - r0;
            const LogitsTile<T> tile = logits_tile_of<T>(R, C, with, in_order);
            const char* coming[kTileRows];
            for (Index p = 0; p < tile.ahead; ++p) {  // a row of this very block where there is nothing more to ask for
                coming[p] = asked < ahead.rows ? ahead.row[asked++] : reinterpret_cast<const char*>(block.a[r0]);
            }
            const T* const previous = r0 > 0 ? block.a[r0 - 1] : before ? before : block.a[0];
            tile.run(block.a + r0, previous, coming, ahead.item, block.d, w + c0 * ld, ld, out);
            for (Index r = 0; r < R; ++r) {
                T* const zr = z + (r0 + r) * 2 * kp;
                for (Index c = 0; c < C; ++c) zr[c0 + c < k ? c0 + c : kp + c0 + c - k] = out[r * C + c];
                if (!in_tiles) continue;
                products.norm[r0 + r] = out[R * C + r] + products.one;
                if (products.pair) {
                    products.pair[r0 + r] = products.wants_pair(r0 + r) ? out[R * C + R + r] + products.one : T(0);
                }
            }
        }
    }
    if (!in_tiles && (products.norm || products.pair)) row_products(block, before, products);
    if (products.pair && !before) products.pair[0] = T(0);
    for (; asked < ahead.rows; ++asked) {
        for (Index j = 0; j < block.d * ahead.item; j += 64) __builtin_prefetch(ahead.row[asked] + j, 0, 2);
    }
}

// What an update asks for besides the gradient's sum. A batch of ten rows notices every product: there the update of a vector
// takes one multiplication (bare), two (L2) or five and more (m, momentum, L1, average) to the ten of its sum.
enum class Extras { none, l2, all };

template <class T>
KDVR_INLINE Extras extras(const Plane<T>& plane, const Update<T>& u) {
    if (plane.mean || plane.velocity || plane.average || u.threshold > T(0)) return Extras::all;
    return u.l2 != T(0) ? Extras::l2 : Extras::none;
}

// One vector of the update in kernels.hpp, at offset o of the plane.
template <class T, Extras E>
KDVR_INLINE void step_vector(Vec<T> total, Index o, const Plane<T>& plane, const Update<T>& u) {
    Vec<T> w = load(plane.w + o);
    if constexpr (E == Extras::none) {
        store<T>(plane.w + o, w - (u.rate * u.scale) * total);
        return;
    }
    if constexpr (E == Extras::l2) {
        store<T>(plane.w + o, w - ((u.rate * u.scale) * total + (u.rate * u.l2) * w));
        return;
    }
    Vec<T> g = u.scale * total + u.l2 * w;
    if (plane.mean) g += u.mean_scale * load(plane.mean + o);
    if (plane.velocity) {
        const Vec<T> v = u.momentum * load(plane.velocity + o) + g;
        store<T>(plane.velocity + o, v);
        g = u.nesterov ? g + u.momentum * v : v;
    }
    w -= u.rate * g;
    if (u.threshold > T(0)) {
        const Vec<T> size = absolute<T>(w) - u.threshold;
        const Vec<T> kept = size > T(0) ? size : Vec<T>{};
        w = w < T(0) ? -kept : kept;
    }
    store<T>(plane.w + o, w);
    if (plane.average) {
        update_doubles<T>(plane.average + o, w, [&](Vec<double> m, Vec<double> x) { return m + u.average_weight * (x - m); });
    }
}

template <class T, Extras E>
struct StepSink {
    const Plane<T>& plane;
    const Update<T>& update;
    KDVR_INLINE void operator()(Index c, Index j, Vec<T> g) const { step_vector<T, E>(g, c * plane.ld + j, plane, update); }
};

template <class T>
struct SetSink {
    T* sum;
    Index ld;
    KDVR_INLINE void operator()(Index c, Index j, Vec<T> g) const { store<T>(sum + c * ld + j, g); }
};

template <class T>
struct AddSink {
    T* sum;
    Index ld;
    KDVR_INLINE void operator()(Index c, Index j, Vec<T> g) const {
        T* const p = sum + c * ld + j;
        store<T>(p, load(p) + g);
    }
};

template <class T>
struct AddDoubleSink {
    double* sum;
    Index ld;
    KDVR_INLINE void operator()(Index c, Index j, Vec<T> g) const {
        update_doubles<T>(sum + c * ld + j, g, [](Vec<double> total, Vec<double> x) { return total + x; });
    }
};

// C outputs x J vectors from column j on; Masked: one vector that the row ends in.
template <class T, int C, int J, bool Masked, class Sink>
KDVR_INLINE void gradient_tile(const RowBlock<T>& block, const T* q, Index ldq, Index c0, Index j, const Sink& sink) {
    constexpr Index L = kLanes<T>;
    Vec<T> acc[C][J] = {};
    for (Index i = 0; i < block.rows; ++i) {
        const T* a = block.a[i] + j;
        Vec<T> x[J];
#pragma GCC unroll 8
        for (int v = 0; v < J; ++v) {
            if constexpr (Masked) {
                x[v] = load_first(a, block.d - j);
            } else {
                x[v] = load(a + v * L);
            }
        }
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) {
            const Vec<T> coefficient = splat(q[i * ldq + c0 + c]);
#pragma GCC unroll 8
            for (int v = 0; v < J; ++v) acc[c][v] += coefficient * x[v];
        }
    }
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
#pragma GCC unroll 8
        for (int v = 0; v < J; ++v) sink(c0 + c, j + v * L, acc[c][v]);
    }
}

template <class T, int C, class Sink>
void gradient_columns(const RowBlock<T>& block, const T* q, Index ldq, Index c0, Index j, Index vectors, const Sink& sink) {
    if (vectors == 0) return gradient_tile<T, C, 1, true>(block, q, ldq, c0, j, sink);
    if (vectors == 4) return gradient_tile<T, C, 4, false>(block, q, ldq, c0, j, sink);
    if (vectors == 3) return gradient_tile<T, C, 3, false>(block, q, ldq, c0, j, sink);
    if (vectors == 2) return gradient_tile<T, C, 2, false>(block, q, ldq, c0, j, sink);
    return gradient_tile<T, C, 1, false>(block, q, ldq, c0, j, sink);
}

// All outputs of `vectors` full vectors from column j on (0 vectors: the masked last one).
template <class T, class Sink>
KDVR_INLINE void gradient_strip(const RowBlock<T>& block, const T* q, Index ldq, Index outputs, Index j, Index vectors,
                                const Sink& sink) {
    const Index nc = blocks(outputs, kTileClasses);
    for (Index ic = 0; ic < nc; ++ic) {
        const Index c0 = block_start(ic, outputs, nc), C = block_start(ic + 1, outputs, nc) - c0;
        if constexpr (kTileClasses > 3) {
            if (C == 5) gradient_columns<T, 5>(block, q, ldq, c0, j, vectors, sink);
            if (C == 4) gradient_columns<T, 4>(block, q, ldq, c0, j, vectors, sink);
        }
        if (C == 3) gradient_columns<T, 3>(block, q, ldq, c0, j, vectors, sink);
        if (C == 2) gradient_columns<T, 2>(block, q, ldq, c0, j, vectors, sink);
        if (C == 1) gradient_columns<T, 1>(block, q, ldq, c0, j, vectors, sink);
    }
}

template <class T, class Sink>
KDVR_INLINE void gradient(const RowBlock<T>& block, const T* q, Index ldq, Columns columns, Index outputs, const Sink& sink) {
    constexpr Index L = kLanes<T>;
    const Index full = (columns.to - columns.from) / L, n = blocks(full, kTileVectors);
    for (Index i = 0; i < n; ++i) {
        const Index v0 = block_start(i, full, n), v1 = block_start(i + 1, full, n);
        gradient_strip(block, q, ldq, outputs, columns.from + v0 * L, v1 - v0, sink);
    }
    const Index rest = columns.from + full * L;
    if (rest < columns.to) gradient_strip(block, q, ldq, outputs, rest, 0, sink);
}

// f(sink) with the sink that the update asks for.
template <class T, class F>
KDVR_INLINE void with_step(const Plane<T>& plane, const Update<T>& update, const F& f) {
    switch (extras(plane, update)) {
        case Extras::none:
            return f(StepSink<T, Extras::none>{plane, update});
        case Extras::l2:
            return f(StepSink<T, Extras::l2>{plane, update});
        case Extras::all:
            return f(StepSink<T, Extras::all>{plane, update});
    }
}

template <class T>
void gradient_step(const RowBlock<T>& block, const T* q, Index ldq, Columns columns, const Plane<T>& plane,
                   const Update<T>& update) {
    with_step(plane, update,
              [&](const auto& sink) __attribute__((always_inline)) { gradient(block, q, ldq, columns, plane.rows, sink); });
}

template <class T>
void gradient_part(const RowBlock<T>& block, const T* q, Index ldq, Index outputs, T* part, Index ld) {
    gradient(block, q, ldq, {0, block.d}, outputs, SetSink<T>{part, ld});
}

template <class T>
void gradient_add(const RowBlock<T>& block, const T* q, Index ldq, Columns columns, Index outputs, T* total, Index ld) {
    gradient(block, q, ldq, columns, outputs, AddSink<T>{total, ld});
}

template <class T>
void gradient_add_double(const RowBlock<T>& block, const T* q, Index ldq, Columns columns, Index outputs, double* total,
                         Index ld) {
    gradient(block, q, ldq, columns, outputs, AddDoubleSink<T>{total, ld});
}

// sink(sum of the parts), vector by vector.
template <class T, class Sink>
KDVR_INLINE void sum_parts(const T* parts, Index count, Columns columns, Index outputs, Index ld, const Sink& sink) {
    for (Index c = 0; c < outputs; ++c) {
        for (Index j = columns.from; j < columns.to; j += kLanes<T>) {
            const T* const p = parts + c * ld + j;
            Vec<T> total = load(p);
            for (Index i = 1; i < count; ++i) total += load(p + i * outputs * ld);
            sink(c, j, total);
        }
    }
}

template <class T>
void parts_step(const T* parts, Index count, Columns columns, const Plane<T>& plane, const Update<T>& update) {
    with_step(plane, update, [&](const auto& sink) __attribute__((always_inline)) {
        sum_parts(parts, count, columns, plane.rows, plane.ld, sink);
    });
}

template <class T>
void parts_add_double(const T* parts, Index count, Columns columns, Index outputs, double* total, Index ld) {
    sum_parts(parts, count, columns, outputs, ld, AddDoubleSink<T>{total, ld});
}

template <class T>
void step(const double* total, const Plane<T>& plane, const Update<T>& update) {
    for (Index o = 0; o < plane.rows * plane.ld; o += kLanes<T>) {
        step_vector<T, Extras::all>(load_doubles<T>(total + o), o, plane, update);
    }
}

}  // namespace kdvr::KDVR_ISA
