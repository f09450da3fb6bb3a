// Purpose: what every kernel is given, in one order for all of them (POINTERS and NUMBERS in
// kdvr_fast/backends/cuda_device.py).
//
// n rows, d features, k outputs. Weights, anchor, m, velocity and their mean are k d numbers with the k of the intercept behind
// them: (k, d) for dense rows, (d, k) for sparse ones, where the outputs of a feature are read together. r, c, q and change are
// rows of k numbers, one a row of the batch; r and c hold two batches, since the first row of one is paired with the last of
// the one before. A row of `order` that its batch has met before is stored as -1 - row: it does not count again in SAGA's mean.
#pragma once

#include "lanes.cuh"

namespace kdvr::cuda {

// What c_i is made of: nothing, the anchor's weights, a table of T, a table of probabilities in float16 (c_i = p_i - y_i).
enum Source : int { kNone, kWeights, kTable, kStored };

// Sums of a block, in the order of `sums` (kSums doubles a block, the last unused).
enum Sum : int { kLossSum, kXX, kXT, kTT, kPairXX, kPairXT, kPairTT, kSums = 8 };

template <class T>
struct Job {
    // Rows: dense with `stride` numbers from row to row, or sparse. Targets: labels, or (n, k) numbers.
    const T* values;
    const int* features;
    const Index* starts;
    const Index* labels;
    const T* targets;
    const T* sample;
    // State. gradient is scratch of two times the weights, zero between steps; sparse rows only.
    T* W;
    const T* anchor;
    T* table;
    T* m;
    T* velocity;
    double* mean;
    T* gradient;
    // The walk.
    const Index* order;
    const double* rates;
    // Scratch and results. work: 3 padded rows a warp. exploded: 1 + the step whose loss passed the limit, 0 for none.
    T* r;
    T* c;
    T* q;
    T* change;
    T* work;
    double* losses;
    double* sums;
    Index* exploded;
    // Shapes and options; k (d + 1), batch k and count are below 2^31. pairs_every is 0 without statistics, averaged -1 without
    // an average, temperature 0 for none.
    Index n, stride, count, averaged;
    int d, k, batch, pairs_every;
    int soft, intercept, source, use_mean, update_table, statistics, nesterov, constant_rate;
    double lam, temperature, inverse_temperature, l2, l1, momentum, limit;
};

#define KDVR_PARAMETERS(T)                                                                                                   \
    const T *values, const int *features, const Index *starts, const Index *labels, const T *targets, const T *sample, T *W, \
        const T *anchor, T *table, T *m, T *velocity, double *mean, T *gradient, const Index *order, const double *rates,    \
        T *r, T *c, T *q, T *change, T *work, double *losses, double *sums, Index *exploded, Index n, Index stride,          \
        Index count, Index averaged, int d, int k, int batch, int pairs_every, int soft, int intercept, int source,          \
        int use_mean, int update_table, int statistics, int nesterov, int constant_rate, double lam, double temperature,     \
        double inverse_temperature, double l2, double l1, double momentum, double limit

#define KDVR_JOB(T)                                                                                                           \
    Job<T> {                                                                                                                  \
        values, features, starts, labels, targets, sample, W, anchor, table, m, velocity, mean, gradient, order, rates, r, c, \
            q, change, work, losses, sums, exploded, n, stride, count, averaged, d, KDVR_ONE ? 1 : k, batch, pairs_every,     \
            soft, intercept, source, use_mean, update_table, statistics, nesterov, constant_rate, lam, temperature,           \
            inverse_temperature, l2, l1, momentum, limit                                                                      \
    }

KDVR_INLINE int warp_of_block() {
    return static_cast<int>(threadIdx.x) / 32;
}
KDVR_INLINE int warps_of_block() {
    return static_cast<int>(blockDim.x) / 32;
}
KDVR_INLINE int warp_of_grid() {
    return static_cast<int>(blockIdx.x) * warps_of_block() + warp_of_block();
}
KDVR_INLINE int warps_of_grid() {
    return static_cast<int>(gridDim.x) * warps_of_block();
}

// k in whole vectors of lanes.
KDVR_INLINE int padded(int k) {
    return (k + 31) / 32 * 32;
}

KDVR_INLINE Index row_of(Index entry) {
    return entry < 0 ? -1 - entry : entry;
}

template <int G>
struct Group {
    static constexpr int size = G;
};

// The largest group of outputs: their numbers are 32 bytes, a sector of memory.
template <class T>
constexpr int kWidest = 32 / static_cast<int>(sizeof(T));

// Runs f(first output, Group of so many) over outputs 0 .. k - 1: groups of kWidest while there are so many, then halves of
// that.
template <class T, class F>
KDVR_INLINE void for_outputs(int k, F f) {
    int j = 0;
    for (; j + kWidest<T> <= k; j += kWidest<T>) f(j, Group<kWidest<T>>{});
    if constexpr (kWidest<T> > 4) {
        if (j + 4 <= k) f(j, Group<4>{}), j += 4;
    }
    if (j + 2 <= k) f(j, Group<2>{}), j += 2;
    if (j < k) f(j, Group<1>{});
}

}  // namespace kdvr::cuda
