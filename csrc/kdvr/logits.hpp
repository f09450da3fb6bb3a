// Purpose: the first product of a step on dense rows,  z[i, o] = <a_i, w_o>,  and the rows' products with each other.
// A tile is R rows x C outputs, vectors run along d. Floor: k d multiply-adds a row (2 k d with a teacher on the fly). Shapes:
// see kernels.hpp; W is padded to ld with zeros, rows are not and end in a masked load.
#pragma once

#include "tiles.hpp"

namespace kdvr::KDVR_ISA {

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

}  // namespace kdvr::KDVR_ISA
