// Purpose: the second product of a step on dense rows,  G[o, :] = sum_i q[i, o] a_i,  and the update fused to it.
// A tile is C outputs x J vectors, summed over the block's rows. Floor: k d multiply-adds a row. Shapes: see kernels.hpp; W and
// G are padded to ld with zeros, rows are not and end in a masked load.
#pragma once

#include "tiles.hpp"

namespace kdvr::KDVR_ISA {

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
