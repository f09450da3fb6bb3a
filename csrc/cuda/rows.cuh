// Purpose: what depends on how rows are stored, a warp to a row: logits z = W a + b with |a|^2, the product of two rows, and
// where a weight lies. Lanes take the numbers of the row; groups of outputs share what a lane has read.
#pragma once

#include "job.cuh"

namespace kdvr::cuda {

struct Dense {
    template <class T>
    KDVR_INLINE static int weight(const Job<T>& job, int j, int f) {
        return j * job.d + f;
    }

    template <class T, class F>
    KDVR_INLINE static void for_numbers(const Job<T>& job, Index row, F f) {
        const T* a = job.values + row * job.stride;
#pragma unroll 2
        for (int i = lane(); i < job.d; i += 32) f(i, a[i]);
    }

    template <class T>
    KDVR_INLINE static T dot(const Job<T>& job, Index row, Index other) {
        const T *a = job.values + row * job.stride, *b = job.values + other * job.stride;
        T total = 0;
        for (int i = lane(); i < job.d; i += 32) total += a[i] * b[i];
        return sum<T>(total);
    }
};

// The first of the non-zeros `at` .. `end` whose feature is `feature` or more.
KDVR_INLINE Index first_at_least(const int* features, Index at, Index end, int feature) {
    while (at < end) {
        const Index middle = at + (end - at) / 2;
        if (features[middle] < feature) {
            at = middle + 1;
        } else {
            end = middle;
        }
    }
    return at;
}

struct Csr {
    template <class T>
    KDVR_INLINE static int weight(const Job<T>& job, int j, int f) {
        return f * job.k + j;
    }

    template <class T, class F>
    KDVR_INLINE static void for_numbers(const Job<T>& job, Index row, F f) {
        const Index end = job.starts[row + 1];
#pragma unroll 1
        for (Index i = job.starts[row] + lane(); i < end; i += 32) f(job.features[i], job.values[i]);
    }

    template <class T>
    KDVR_INLINE static T dot(const Job<T>& job, Index row, Index other) {
        const Index end = job.starts[other + 1];
        Index at = job.starts[other];
        T total = 0;
        for (Index i = job.starts[row] + lane(); i < job.starts[row + 1]; i += 32) {
            at = first_at_least(job.features, at, end, job.features[i]);
            if (at < end && job.features[at] == job.features[i]) total += job.values[i] * job.values[at];
        }
        return sum<T>(total);
    }
};

template <class T>
constexpr T kPadding = sizeof(T) == 4 ? T(-3.0e38f) : T(-1.0e308);  // of a logit that is not there: its exponential is 0

// z (padded) = W a + b; returns |a|^2. Lanes see each other's z after the barrier of the warp that the caller makes.
template <class Rows, class T>
KDVR_INLINE T logits(const Job<T>& job, Index row, const T* W, T* z) {
    T square = 0;
    for_outputs<T>(job.k, [&](int j0, auto group) {
        constexpr int G = decltype(group)::size;
        T part[G] = {};
        Rows::for_numbers(job, row, [&](int f, T a) {
            if (j0 == 0) square += a * a;
#pragma unroll
            for (int j = 0; j < G; ++j) part[j] += W[Rows::weight(job, j0 + j, f)] * a;
        });
        const T total = sum_each<G>(part);
        if (lane() < G) z[j0 + lane()] = total + W[job.k * job.d + j0 + lane()];
    });
    for (int j = job.k + lane(); j < padded(job.k); j += 32) z[j] = kPadding<T>;
    return sum<T>(square);
}

// z = the student's logits, t = the anchor's where weights give it, seen by the whole warp; returns |a|^2, and 1 for the
// intercept.
template <class Rows, class T>
KDVR_INLINE T both_logits(const Job<T>& job, Index row, T* z, T* t) {
    T square = 0;
#pragma unroll 1  // the anchor's first
    for (int student = job.source != kWeights; student < 2; ++student) {
        square = logits<Rows>(job, row, student ? job.W : job.anchor, student ? z : t);
    }
    __syncwarp();
    return square + static_cast<T>(job.intercept);
}

}  // namespace kdvr::cuda
