// Purpose: one step on a batch, in two halves with a barrier between them: `forward` takes the batch's rows to residuals,
// `descend` takes these to new weights. The walk kernel runs both in one block, step after step; large batches get a launch for
// each.
#pragma once

#include "residual.cuh"
#include "rows.cuh"

namespace kdvr::cuda {

// Where a batch lies in the walk, and in the scratch that holds two of them.
template <class T>
struct Batch {
    Index first;
    int size;
    T *r, *c;
    const T *r_before, *c_before;  // the last row of the batch before

    KDVR_INLINE Batch(const Job<T>& job, Index step) {
        first = step * job.batch;
        size = job.count - first < job.batch ? static_cast<int>(job.count - first) : job.batch;
        const Index numbers = static_cast<Index>(job.batch) * job.k, half = (step & 1) * numbers, other = numbers - half,
                    last = numbers - job.k;
        r = job.r + half, c = job.c + half;
        r_before = job.r + other + last, c_before = job.c + other + last;
    }
};

// The warp's next three padded rows of scratch.
template <class T>
KDVR_INLINE T* work_of_warp(const Job<T>& job, Index warp) {
    return job.work + warp * 3 * padded(job.k);
}

// Residuals of a batch: r, c, q = s (r - lam c), the change of SAGA's mean, losses. Warp `warp` of `warps` takes every warps-th
// row.
template <class Rows, class T>
KDVR_INLINE void forward(const Job<T>& job, Index step, int warp, int warps, WarpSums& sums) {
    const Batch<T> batch(job, step);
    const int k = job.k;
    T *const z = work_of_warp(job, warp), *const t = z + padded(k), *const p = t + padded(k);
    const T lam = static_cast<T>(job.lam), share = T(1) / static_cast<T>(job.n);
    for (int i = warp; i < batch.size; i += warps) {
        const Index entry = job.order[batch.first + i], row = row_of(entry);
        const T s = job.sample[row], norm = both_logits<Rows>(job, row, z, t);
        const RowSums<T> found = residuals(job, row, z, t, p);
        for (int j = lane(); j < k; j += 32) {
            const T r = z[j], c = job.source == kNone ? T(0) : t[j];
            batch.r[i * k + j] = r;
            batch.c[i * k + j] = c;
            job.q[i * k + j] = s * (r - lam * c);
            if (job.update_table) job.change[i * k + j] = entry < 0 ? T(0) : s * (r - c) * share;
        }
        if (lane() == 0) job.losses[i] = static_cast<double>(s * found.loss);
        sums.add(found, s, job.statistics ? norm : T(0));
        __syncwarp();  // before the next row's logits take the place of these
    }
}

// Products of rows of the batch with the rows before them in the walk.
template <class Rows, class T>
KDVR_INLINE void pairs(const Job<T>& job, Index step, int warp, int warps, WarpSums& sums) {
    if (job.pairs_every == 0) return;
    const Batch<T> batch(job, step);
    for (int i = warp; i < batch.size; i += warps) {
        const int at = static_cast<int>(batch.first) + i;
        if (at == 0 || at % job.pairs_every != 0) continue;
        const Index row = row_of(job.order[at]), other = row_of(job.order[at - 1]);
        const T dot = Rows::dot(job, row, other) + static_cast<T>(job.intercept);
        const T *r = batch.r + i * job.k, *c = batch.c + i * job.k;
        const T *r_before = i > 0 ? r - job.k : batch.r_before, *c_before = i > 0 ? c - job.k : batch.c_before;
        T xx = 0, xt = 0, tt = 0;
        for (int j = lane(); j < job.k; j += 32) {
            xx += r[j] * r_before[j];
            xt += r[j] * c_before[j] + c[j] * r_before[j];
            tt += c[j] * c_before[j];
        }
        const double weight =
            static_cast<double>(job.sample[row]) * static_cast<double>(job.sample[other]) * static_cast<double>(dot);
        xx = sum<T>(xx), xt = sum<T>(xt), tt = sum<T>(tt);
        if (lane() != 0) continue;
        sums.values[kPairXX] += weight * static_cast<double>(xx);
        sums.values[kPairXT] += weight * static_cast<double>(xt) / 2;
        sums.values[kPairTT] += weight * static_cast<double>(tt);
    }
}

// One warp: whether the batch's mean loss passed the limit (at most the largest number over the batch's size) or is not finite.
template <class T>
KDVR_INLINE void watch(const Job<T>& job, Index step) {
    const Batch<T> batch(job, step);
    double total = 0;
    for (int i = lane(); i < batch.size; i += 32) total += job.losses[i];
    total = sum<double>(total);
    if (lane() == 0 && job.exploded[0] == 0 && !(total <= job.limit * batch.size)) job.exploded[0] = step + 1;
}

// table_i <- r_i; threads share the numbers.
template <class T>
KDVR_INLINE void update_table(const Job<T>& job, Index step, int thread, int threads) {
    if (!job.update_table) return;
    const Batch<T> batch(job, step);
    for (int at = thread; at < batch.size * job.k; at += threads) {
        const Index entry = job.order[batch.first + at / job.k];
        if (entry >= 0) job.table[entry * job.k + at % job.k] = batch.r[at];
    }
}

// How a weight moves in one step, given the batch's sum of q (x) a and, for SAGA, of change (x) a.
template <class T>
struct Mover {
    const Job<T>& job;
    T rate, share, lam, momentum;
    double average_share;

    KDVR_INLINE Mover(const Job<T>& given, Index step) : job(given) {
        rate = static_cast<T>(job.rates[job.constant_rate ? 0 : step]);
        share = T(1) / static_cast<T>(Batch<T>(job, step).size);
        lam = static_cast<T>(job.lam), momentum = static_cast<T>(job.momentum);
        average_share = 1.0 / static_cast<double>(job.averaged + step + 1);
    }

    // penalised: weights have L1 and L2, intercepts have not.
    KDVR_INLINE void move(int at, T sum_q, T sum_change, bool penalised) const {
        const T before = job.W[at];
        T g = sum_q * share;
        if (job.use_mean) {
            g += lam * job.m[at];
            if (job.update_table) job.m[at] += sum_change;
        }
        if (penalised) g += static_cast<T>(job.l2) * before;
        if (momentum != T(0)) {
            const T v = momentum * job.velocity[at] + g;
            job.velocity[at] = v;
            g = job.nesterov ? g + momentum * v : v;
        }
        T after = before - rate * g;
        if (penalised && job.l1 != 0) {
            const T size = absolute<T>(after) - rate * static_cast<T>(job.l1);
            if (!(size > T(0))) {
                after = size <= T(0) ? T(0) : size;  // NaN stays
            } else {
                after = after < T(0) ? -size : size;
            }
        }
        job.W[at] = after;
        if (job.averaged >= 0) job.mean[at] += (static_cast<double>(after) - job.mean[at]) * average_share;
    }
};

// The intercept: a warp to an output.
template <class T>
KDVR_INLINE void move_intercept(const Job<T>& job, Index step, int warp, int warps) {
    if (!job.intercept) return;
    const Mover<T> mover(job, step);
    const int size = Batch<T>(job, step).size, k = job.k;
    for (int j = warp; j < k; j += warps) {
        T q = 0, change = 0;
        for (int i = lane(); i < size; i += 32) {
            q += job.q[i * k + j];
            if (job.update_table) change += job.change[i * k + j];
        }
        q = sum<T>(q), change = sum<T>(change);
        if (lane() == 0) mover.move(job.k * job.d + j, q, change, false);
    }
}

// Sums over rows first .. last - 1 of the batch of q (x) a and change (x) a, for one feature and a group of outputs.
template <int G, class T>
KDVR_INLINE void gather(const Job<T>& job, Index batch_first, int first, int last, int f, int j0, T (&q)[G], T (&change)[G]) {
#pragma unroll 2
    for (int i = first; i < last; ++i) {
        const T a = job.values[row_of(job.order[batch_first + i]) * job.stride + f];
        const T *qi = job.q + i * job.k + j0, *di = job.change + i * job.k + j0;
#pragma unroll
        for (int j = 0; j < G; ++j) q[j] += qi[j] * a;
        if (!job.update_table) continue;
#pragma unroll
        for (int j = 0; j < G; ++j) change[j] += di[j] * a;
    }
}

// Dense rows, one block: a thread owns the weights of its features. Few rows leave nothing to share.
template <class T>
KDVR_INLINE void descend_alone(const Job<T>& job, Index step) {
    const Batch<T> batch(job, step);
    const Mover<T> mover(job, step);
    for (int f = threadIdx.x; f < job.d; f += blockDim.x) {
        for_outputs<T>(job.k, [&](int j0, auto group) {
            constexpr int G = decltype(group)::size;
            T q[G] = {}, change[G] = {};
            gather<G>(job, batch.first, 0, batch.size, f, j0, q, change);
#pragma unroll
            for (int j = 0; j < G; ++j) mover.move(Dense::weight(job, j0 + j, f), q[j], change[j], true);
        });
    }
}

constexpr int kStepWarps = 8;

// Dense rows, many blocks of kStepWarps warps: a block owns 32 features at a time, its warps share the rows, and their sums are
// added in the order of the warps, each warp finishing one output of the group.
template <class T>
KDVR_INLINE void descend_shared(const Job<T>& job, Index step) {
    __shared__ T shared[2][kStepWarps][kWidest<T>][32];
    const Batch<T> batch(job, step);
    const Mover<T> mover(job, step);
    const int warp = warp_of_block(), share = (batch.size + kStepWarps - 1) / kStepWarps;
    const int first = warp * share, last = first + share < batch.size ? first + share : batch.size;
    for (int f0 = static_cast<int>(blockIdx.x) * 32; f0 < job.d; f0 += static_cast<int>(gridDim.x) * 32) {
        const int f = f0 + lane();
        for_outputs<T>(job.k, [&](int j0, auto group) {
            constexpr int G = decltype(group)::size;
            T q[G] = {}, change[G] = {};
            if (f < job.d) gather<G>(job, batch.first, first, last, f, j0, q, change);
            for (int j = 0; j < G; ++j) shared[0][warp][j][lane()] = q[j], shared[1][warp][j][lane()] = change[j];
            __syncthreads();
            if (warp < G && f < job.d) {
                T total = 0, total_change = 0;
                for (int w = 0; w < kStepWarps; ++w) {
                    total += shared[0][w][warp][lane()];
                    total_change += shared[1][w][warp][lane()];
                }
                mover.move(Dense::weight(job, j0 + warp, f), total, total_change, true);
            }
            __syncthreads();
        });
    }
}

// Sparse rows: a block owns a range of features and adds the batch's rows one after the other, so that the order of every sum
// is that of the walk. Then all its weights move, or, where nothing but the gradient moves them, those of the features it met.
template <class T>
KDVR_INLINE void descend_sparse(const Job<T>& job, Index step, int part, int parts) {
    const Batch<T> batch(job, step);
    const Mover<T> mover(job, step);
    const int k = job.k;
    const int share = (job.d + parts - 1) / parts, low = part * share < job.d ? part * share : job.d;
    const int high = low + share < job.d ? low + share : job.d;
    T *const gradient = job.gradient, *const changes = gradient + (job.d + 1) * k;
    const bool everywhere = job.use_mean || job.l2 != 0 || job.l1 != 0 || job.momentum != 0 || job.averaged >= 0;
    const auto each = [&](auto f) {
        for (int i = 0; i < batch.size; ++i) {
            const Index row = row_of(job.order[batch.first + i]), begin = job.starts[row], end = job.starts[row + 1];
            const Index from = low == 0 ? begin : first_at_least(job.features, begin, end, low),
                        to = high == job.d ? end : first_at_least(job.features, from, end, high);
            const int numbers = static_cast<int>(to - from) * k;
            for (int at = threadIdx.x; at < numbers; at += blockDim.x) {
                const int j = at % k;
                const Index entry = from + at / k;
                f(job.features[entry] * k + j, i * k + j, job.values[entry]);
            }
            __syncthreads();
        }
    };
    each([&](int at, int number, T a) {
        gradient[at] += job.q[number] * a;
        if (job.update_table) changes[at] += job.change[number] * a;
    });
    const auto finish = [&](int at) {
        const T g = gradient[at], change = job.update_table ? changes[at] : T(0);
        gradient[at] = 0;
        if (job.update_table) changes[at] = 0;
        mover.move(at, g, change, true);
    };
    if (everywhere) {
        for (int at = low * k + threadIdx.x; at < high * k; at += blockDim.x) finish(at);
    } else {
        each([&](int at, int, T) {
            if (gradient[at] != T(0)) finish(at);
        });
    }
}

}  // namespace kdvr::cuda
