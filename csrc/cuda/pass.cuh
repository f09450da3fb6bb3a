// Purpose: reads of all rows. `pass` is the fused one for dense rows of up to kMostOutputs outputs: a block takes a tile of
// rows from logits to gradient while its own cache holds them, so that memory is read once. `read_rows` gives logits or
// residuals row by row (sparse rows, tables), `finish_rows` residuals of logits that a matrix product has left (many outputs).
#pragma once

#include "residual.cuh"
#include "rows.cuh"

namespace kdvr::cuda {

constexpr int kPassWarps = 8;
constexpr int kMostOutputs = 32;

// Rows whose products a warp forms together, so that a weight is read once for all of them.
template <class T>
constexpr int kTogether = 32 / static_cast<int>(sizeof(T));

// Rows of a tile; two tiles of residuals and a row a warp lie in shared memory, in less than 48 KB.
template <class T>
constexpr int kTile = kPassWarps * kTogether<T>;

// Weights, and where the logits that they give go (rows of kMostOutputs numbers).
template <class T>
struct Side {
    const T* weights;
    T* z;
};

// W a + b of G outputs from j0 on, of one side or, in the same read, of two, for rows first .. first + kTogether - 1: sums over
// a register tile of these rows by all outputs. Rows beyond `last` repeat it and are not used. squares: adds |a|^2.
template <int G, int Sides, class T>
KDVR_INLINE void products_of_tile(const Job<T>& job, Index first, Index last, int j0, const Side<T> (&sides)[Sides],
                                  bool squares, T (&square)[kTogether<T>]) {
    constexpr int R = kTogether<T>, All = Sides * G;
    constexpr int P = R * All < 32 ? R * All : 32, rows = P / All;           // sums that lanes can hold, and their rows
    const int most = last - first < R ? static_cast<int>(last - first) : R;  // of the rows after the first
    const T* const a = job.values + first * job.stride;
    T part[R / rows][P] = {};
#pragma unroll 1
    for (int f = lane(); f < job.d; f += 32) {
        T w[All];
        const T* row = a + f;
#pragma unroll
        for (int j = 0; j < All; ++j) w[j] = sides[j / G].weights[(j0 + j % G) * job.d + f];
#pragma unroll
        for (int i = 0; i < R; ++i) {
            const T number = *row;
            if (i < most) row += job.stride;
            if (squares) square[i] += number * number;
#pragma unroll
            for (int j = 0; j < All; ++j) part[i / rows][i % rows * All + j] += w[j] * number;
        }
    }
    const int i = lane() / All, j = j0 + lane() % G;
    const Side<T> mine = sides[0], other = sides[Sides - 1];
    const bool second = lane() % All >= G;
    const T bias = (second ? other : mine).weights[job.k * job.d + j];
    T* const z = second ? other.z : mine.z;
#pragma unroll
    for (int part_of_rows = 0; part_of_rows < R / rows; ++part_of_rows) {
        const T total = sum_each<P>(part[part_of_rows]);
        if (i < rows) z[(part_of_rows * rows + i) * kMostOutputs + j] = total + bias;
    }
}

// The student's logits z and, of an anchor given by weights, t, and |a|^2. A group of outputs that leaves room in the register
// tile takes both sides in one read.
template <class T>
KDVR_INLINE void logits_of_tile(const Job<T>& job, Index first, Index last, T* z, T* t, T* norms) {
    constexpr int R = kTogether<T>;
    const bool both = job.source == kWeights;
    T square[R] = {};
    for_outputs<T>(job.k, [&](int j0, auto group) {
        constexpr int G = decltype(group)::size;
        const Side<T> student{job.W, z}, anchor{job.anchor, t};
        if constexpr (2 * G <= kWidest<T>) {
            if (both) {
                products_of_tile<G, 2, T>(job, first, last, j0, {student, anchor}, j0 == 0, square);
            } else {
                products_of_tile<G, 1, T>(job, first, last, j0, {student}, j0 == 0, square);
            }
        } else {
#pragma unroll 1
            for (int side = both; side >= 0; --side) {
                products_of_tile<G, 1, T>(job, first, last, j0, {side ? anchor : student}, j0 == 0 && side == 0, square);
            }
        }
    });
    for (int i = 0; i < R; ++i) {
        if (lane() < job.k) continue;
        z[i * kMostOutputs + lane()] = kPadding<T>;
        if (both) t[i * kMostOutputs + lane()] = kPadding<T>;
    }
    const T total = sum_each<R>(square);
    if (lane() < R) norms[lane()] = total + static_cast<T>(job.intercept);
}

// Adds sum over a tile's rows of r (x) a, and of r for the intercept, to `out` (k d + k doubles), and with Both, in the same
// read, of c (x) a to the k d + k doubles behind; threads own features.
template <bool Both, class T>
KDVR_INLINE void add_gradient(const Job<T>& job, Index first, int rows, const T* r, const T* c, double* out) {
    double* const of_c = out + (job.d + 1) * job.k;
    for (int f = threadIdx.x; f < job.d; f += blockDim.x) {
        for_outputs<T>(job.k, [&](int j0, auto group) {
            constexpr int G = decltype(group)::size;
            T part[G] = {}, part_of_c[G] = {};
            const T* a = job.values + first * job.stride + f;
#pragma unroll 2
            for (int i = 0; i < rows; ++i) {
                const T number = a[i * job.stride];
#pragma unroll
                for (int j = 0; j < G; ++j) {
                    part[j] += r[i * kMostOutputs + j0 + j] * number;
                    if (Both) part_of_c[j] += c[i * kMostOutputs + j0 + j] * number;
                }
            }
#pragma unroll
            for (int j = 0; j < G; ++j) {
                out[(j0 + j) * job.d + f] += static_cast<double>(part[j]);
                if (Both) of_c[(j0 + j) * job.d + f] += static_cast<double>(part_of_c[j]);
            }
        });
    }
    if (!job.intercept) return;
    for (int j = threadIdx.x; j < job.k; j += blockDim.x) {
        T part = 0, part_of_c = 0;
        for (int i = 0; i < rows; ++i) {
            part += r[i * kMostOutputs + j];
            if (Both) part_of_c += c[i * kMostOutputs + j];
        }
        out[job.k * job.d + j] += static_cast<double>(part);
        if (Both) of_c[job.k * job.d + j] += static_cast<double>(part_of_c);
    }
}

// All rows at W: sums of s r (x) a and, with an anchor, of s c (x) a, a block's own in `partial` (1 or 2 times k d + k
// doubles).
template <class T>
KDVR_INLINE void pass(const Job<T>& job, double* partial) {
    __shared__ T r[kTile<T> * kMostOutputs], c[kTile<T> * kMostOutputs], work[kPassWarps * kMostOutputs];
    __shared__ T norms[kTile<T>];
    WarpSums sums;
    const int parts = job.source == kNone ? 1 : 2, at = warp_of_block() * kTogether<T>;
    double* const mine = partial + static_cast<Index>(blockIdx.x) * parts * (job.d + 1) * job.k;
    for (Index first = static_cast<Index>(blockIdx.x) * kTile<T>; first < job.n;
         first += static_cast<Index>(gridDim.x) * kTile<T>) {
        const int rows = static_cast<int>(job.n - first < kTile<T> ? job.n - first : kTile<T>);
        T *const z = r + at * kMostOutputs, *const t = c + at * kMostOutputs;
        if (at < rows) logits_of_tile(job, first + at, job.n - 1, z, t, norms + at);
        __syncwarp();
        for (int i = 0; i < kTogether<T> && at + i < rows; ++i) {
            const Index row = first + at + i;
            T *const zi = z + i * kMostOutputs, *const ti = t + i * kMostOutputs;
            const T s = job.sample[row];
            sums.add(residuals(job, row, zi, ti, work + warp_of_block() * kMostOutputs), s, norms[at + i]);
            __syncwarp();
            if (lane() < job.k) {
                zi[lane()] *= s;
                if (parts == 2) ti[lane()] *= s;
            }
        }
        __syncthreads();
        if (parts == 2) {
            add_gradient<true>(job, first, rows, r, c, mine);
        } else {
            add_gradient<false>(job, first, rows, r, c, mine);
        }
        __syncthreads();
    }
    sums.finish(job.sums);
}

enum What : int { kLogits, kResiduals, kScaled };  // z; r; s r and s c, with sums

// Rows first .. first + count - 1 at W, whose numbers go to rows 0 .. count - 1 of job.r and, scaled, of job.c.
template <class Rows, class T>
KDVR_INLINE void read_rows(const Job<T>& job, Index first, Index count, Index what) {
    WarpSums sums;
    T* const z = job.work + warp_of_grid() * 3 * padded(job.k);
    T *const t = z + padded(job.k), *const p = t + padded(job.k);
    for (Index i = warp_of_grid(); i < count; i += warps_of_grid()) {
        const Index row = first + i;
        const T norm = both_logits<Rows>(job, row, z, t);
        const T s = what == kScaled ? job.sample[row] : T(1);
        if (what != kLogits) sums.add(residuals(job, row, z, t, p), s, norm);
        __syncwarp();
        for (int j = lane(); j < job.k; j += 32) {
            job.r[i * job.k + j] = s * z[j];
            if (what == kScaled && job.source != kNone) job.c[i * job.k + j] = s * t[j];
        }
        __syncwarp();
    }
    if (what == kScaled) sums.finish(job.sums);
}

// The same with what = kScaled where job.r and job.c hold products W a of the student and of an anchor given by weights; |a|^2
// is read from job.q.
template <class T>
KDVR_INLINE void finish_rows(const Job<T>& job, Index first, Index count) {
    WarpSums sums;
    const int k = job.k;
    T* const z = job.work + warp_of_grid() * 3 * padded(k);
    T *const t = z + padded(k), *const p = t + padded(k);
    for (Index i = warp_of_grid(); i < count; i += warps_of_grid()) {
        for (int j = lane(); j < padded(k); j += 32) {
            z[j] = j < k ? job.r[i * k + j] + job.W[k * job.d + j] : kPadding<T>;
            if (job.source == kWeights) t[j] = j < k ? job.c[i * k + j] + job.anchor[k * job.d + j] : kPadding<T>;
        }
        __syncwarp();
        const Index row = first + i;
        const T s = job.sample[row];
        sums.add(residuals(job, row, z, t, p), s, job.q[i] + static_cast<T>(job.intercept));
        __syncwarp();
        for (int j = lane(); j < k; j += 32) {
            job.r[i * k + j] = s * z[j];
            if (job.source != kNone) job.c[i * k + j] = s * t[j];
        }
        __syncwarp();
    }
    sums.finish(job.sums);
}

// Sparse rows stored by columns: out (d, k) = sum over a feature's rows of R_i a_if, R (n, k); a warp to a feature.
template <class T>
KDVR_INLINE void columns(const T* values, const int* rows, const Index* starts, const T* R, double* out, int d, int k) {
    for (int f = warp_of_grid(); f < d; f += warps_of_grid()) {
        for_outputs<T>(k, [&](int j0, auto group) {
            constexpr int G = decltype(group)::size;
            double part[G] = {};
            for (Index at = starts[f] + lane(); at < starts[f + 1]; at += 32) {
                const T a = values[at], *row = R + static_cast<Index>(rows[at]) * k + j0;
#pragma unroll
                for (int j = 0; j < G; ++j) part[j] += static_cast<double>(row[j] * a);
            }
            const double total = sum_each<G>(part);
            if (lane() < G) out[f * k + j0 + lane()] = total;
        });
    }
}

// out_i = sum over blocks of partial_{b, i}, in the order of the blocks.
KDVR_INLINE void reduce(const double* partial, Index blocks, Index size, double* out) {
    for (Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; i < size;
         i += static_cast<Index>(gridDim.x) * blockDim.x) {
        double total = 0;
        for (Index b = 0; b < blocks; ++b) total += partial[b * size + i];
        out[i] = total;
    }
}

}  // namespace kdvr::cuda
