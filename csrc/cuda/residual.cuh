// Purpose: logits of a row -> its residuals r and c, its loss and their products, by one warp (formulas:
// kdvr_fast/backends/base.py; the losses themselves: ../kdvr/losses.hpp). Output j belongs to lane j % 32 throughout, so that
// no lane reads what another wrote.
#pragma once

#include "job.cuh"
#include "kdvr/losses.hpp"

namespace kdvr::cuda {

template <class T>
struct RowSums {
    T loss = 0, rr = 0, rc = 0, cc = 0;
};

// p (padded) = link(z / temperature), which may be in place; returns the log-partition there.
template <class T, class Rule>
KDVR_INLINE T predict(const T* z, T inverse_temperature, int k, T* p) {
    for (int j = 0; j < k; j += 32) store<T>(p + j, load(z + j) * inverse_temperature);
    return Rule::link(p, k);
}

// A float16 that is neither negative nor infinite. CuPy has subnormal floats flushed, so that none may appear on the way.
KDVR_INLINE float widened(unsigned short number) {
    const unsigned bits = number & 0x7fffu;
    if (bits < 1u << 10) return static_cast<float>(bits) * 5.9604644775390625e-8f;  // subnormal: a multiple of 2^-24
    return __uint_as_float((bits << 13) + (112u << 23));                            // exponents from base 15 to 127
}

// A number of a teacher's table: what the anchor's c_j is, or is made of (`kStored`: before the target is taken off).
template <class T>
KDVR_INLINE T table_number(const Job<T>& job, Index at) {
    if (job.source == kTable) return job.table[at];
    return static_cast<T>(widened(reinterpret_cast<const unsigned short*>(job.table)[at]));
}

// y_j of a row.
template <class T>
KDVR_INLINE T target(const Job<T>& job, Index row, int j) {
    if (job.soft) return job.targets[row * job.k + j];
    return job.labels[row] == j ? T(1) : T(0);
}

// Several outputs. In: z and, for an anchor given by weights, its logits in t, both padded; p is scratch. Out: r in z, c in t.
template <class T, class Rule>
KDVR_INLINE RowSums<T> residual_row(const Job<T>& job, Index row, T* z, T* t, T* p) {
    const int k = job.k;
    const T temperature = static_cast<T>(job.temperature), cooled = static_cast<T>(job.inverse_temperature);
    const T partition = predict<T, Rule>(z, T(1), k, p);
    T y_dot_z = 0, rr = 0, rc = 0, cc = 0;
    if (job.source == kWeights) predict<T, Rule>(t, temperature == T(0) ? T(1) : cooled, k, t);
    for (int j = lane(); j < k; j += 32) {
        const T y = target(job, row, j), r = p[j] - y;
        y_dot_z += y != T(0) ? y * z[j] : T(0);
        rr += r * r;
        p[j] = r;
        if (job.source == kTable || job.source == kStored) {
            t[j] = table_number(job, row * k + j) - (job.source == kStored ? y : T(0));
        } else if (job.source == kWeights && temperature == T(0)) {
            t[j] -= y;
        }
    }
    if (job.source != kNone && temperature != T(0)) {
        predict<T, Rule>(z, cooled, k, z);
        for (int j = lane(); j < k; j += 32) t[j] = p[j] - temperature * (z[j] - t[j]);
    }
    for (int j = lane(); j < k; j += 32) {
        z[j] = p[j];
        if (job.source == kNone) continue;
        rc += p[j] * t[j];
        cc += t[j] * t[j];
    }
    RowSums<T> sums;
    sums.rr = sum<T>(rr);
    sums.loss = Rule::value(partition, sum<T>(y_dot_z), sums.rr);
    if (job.source != kNone) sums.rc = sum<T>(rc), sums.cc = sum<T>(cc);
    return sums;
}

template <class T>
KDVR_INLINE T loss_of_one(Squared<T>, T, T, T r, T) {
    return T(0.5) * r * r;
}

template <class T>
KDVR_INLINE T loss_of_one(Logistic<T>, T z, T y, T, T e) {
    return larger<T>(z, T(0)) + logarithm_1p(e) - y * z;
}

// One output: all lanes work out the same numbers.
template <class T, class Rule>
KDVR_INLINE RowSums<T> residual_one(const Job<T>& job, Index row, T* z, T* t) {
    const T value = z[0], anchor_value = job.source == kWeights ? t[0] : T(0), y = job.targets[row];
    const T temperature = static_cast<T>(job.temperature), cooled = static_cast<T>(job.inverse_temperature);
    T e = 0, unused = 0;
    const T r = Rule::link(value, e) - y;
    T c = 0;
    if (job.source == kTable || job.source == kStored) c = table_number(job, row) - (job.source == kStored ? y : T(0));
    if (temperature == T(0)) {
        if (job.source == kWeights) c = Rule::link(anchor_value, unused) - y;
    } else if (job.source != kNone) {
        if (job.source == kWeights) c = Rule::link(anchor_value * cooled, unused);
        c = r - temperature * (Rule::link(value * cooled, unused) - c);
    }
    __syncwarp();  // all lanes have read z and t
    if (lane() == 0) z[0] = r, t[0] = c;
    RowSums<T> sums;
    sums.loss = loss_of_one(Rule{}, value, y, r, e);
    sums.rr = r * r, sums.rc = r * c, sums.cc = c * c;
    return sums;
}

// z becomes r and t becomes c (untouched without an anchor). The warp's lanes must see z and t.
template <class T>
KDVR_INLINE RowSums<T> residuals(const Job<T>& job, Index row, T* z, T* t, T* p) {
    if constexpr (KDVR_ONE) {
        return residual_one<T, KDVR_LOSS<T>>(job, row, z, t);
    } else {
        return residual_row<T, KDVR_LOSS<T>>(job, row, z, t, p);
    }
}

// Sums over the rows that a warp met, in shared memory, a line a warp; its first lane adds.
struct WarpSums {
    double* values;

    KDVR_INLINE WarpSums() {
        __shared__ double lines[32 * kSums];
        values = lines + warp_of_block() * kSums;
        if (lane() < kSums) values[lane()] = 0;
        __syncwarp();
    }

    template <class T>
    KDVR_INLINE void add(const RowSums<T>& row, T s, T norm) {
        if (lane() != 0) return;
        const double weight = static_cast<double>(s) * static_cast<double>(s) * static_cast<double>(norm);
        values[kLossSum] += static_cast<double>(s) * static_cast<double>(row.loss);
        values[kXX] += weight * static_cast<double>(row.rr);
        values[kXT] += weight * static_cast<double>(row.rc);
        values[kTT] += weight * static_cast<double>(row.cc);
    }

    // Adds the lines of the block, in the order of its warps, to the block's place in memory. All threads take part.
    KDVR_INLINE void finish(double* sums) {
        __syncthreads();
        if (threadIdx.x >= kSums) return;
        const double* lines = values + threadIdx.x;  // of the first warp
        double total = 0;
        for (int w = 0; w < warps_of_block(); ++w) total += lines[w * kSums];
        sums[static_cast<Index>(blockIdx.x) * kSums + threadIdx.x] += total;
    }
};

}  // namespace kdvr::cuda
