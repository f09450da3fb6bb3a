// Purpose: the kernels of the CUDA backend, one translation unit for nvcc and NVRTC, compiled for one kind of problem:
// KDVR_REAL (float, double), KDVR_SPARSE (0, 1), KDVR_LOSS (Squared, Logistic, Softmax) and KDVR_ONE (1: one output, 0: more).
//
// No sum depends on the number of threads that happen to run: every sum has an owner and an order, there are no atomics, and
// sums of blocks are added by a second kernel. Same launch, same bits.
#define KDVR_CUDA
#include "lanes.cuh"
#include "pass.cuh"
#include "step.cuh"

namespace kdvr::cuda {

template <class T>
KDVR_INLINE void descend(Dense, const Job<T>& job, Index step) {
    descend_alone(job, step);
}

template <class T>
KDVR_INLINE void descend(Csr, const Job<T>& job, Index step) {
    descend_sparse(job, step, 0, 1);
}

template <class T>
KDVR_INLINE void descend_part(Dense, const Job<T>& job, Index step) {
    descend_shared(job, step);
}

template <class T>
KDVR_INLINE void descend_part(Csr, const Job<T>& job, Index step) {
    descend_sparse(job, step, blockIdx.x, gridDim.x);
}

// Steps first .. last - 1 of a walk by one block, weights in global memory, which its own cache holds.
template <class Rows, class T>
KDVR_INLINE void walk(const Job<T>& job, Index first, Index last) {
    WarpSums sums;
    const int warp = warp_of_block(), warps = warps_of_block();
    for (Index step = first; step < last; ++step) {
        forward<Rows>(job, step, warp, warps, sums);
        __syncthreads();
        if (warp == 0) watch(job, step);
        pairs<Rows>(job, step, warp, warps, sums);
        update_table(job, step, threadIdx.x, blockDim.x);
        descend(Rows{}, job, step);
        move_intercept(job, step, warp, warps);
        __syncthreads();
        if (job.exploded[0] != 0) break;
    }
    sums.finish(job.sums);
}

template <class Rows, class T>
KDVR_INLINE void forward_launch(const Job<T>& job, Index step) {
    WarpSums sums;
    if (job.exploded[0] != 0) return;
    forward<Rows>(job, step, warp_of_grid(), warps_of_grid(), sums);
    sums.finish(job.sums);
}

template <class Rows, class T>
KDVR_INLINE void step_launch(const Job<T>& job, Index step) {
    WarpSums sums;
    if (warp_of_grid() == 0) watch(job, step);
    pairs<Rows>(job, step, warp_of_grid(), warps_of_grid(), sums);
    update_table(job, step, static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x), static_cast<int>(gridDim.x * blockDim.x));
    descend_part(Rows{}, job, step);
    move_intercept(job, step, warp_of_grid(), warps_of_grid());
    sums.finish(job.sums);
}

using Real = KDVR_REAL;
#if KDVR_SPARSE
using Rows = Csr;
#else
using Rows = Dense;
#endif

// Blocks of a pass on one multiprocessor. NVRTC for sm_80 would spill with the registers of two.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define KDVR_PASS_BLOCKS 1
#else
#define KDVR_PASS_BLOCKS 2
#endif

extern "C" {

__global__ void __launch_bounds__(384, 1) kdvr_walk(KDVR_PARAMETERS(Real), Index first, Index last) {
    walk<Rows>(KDVR_JOB(Real), first, last);
}

__global__ void __launch_bounds__(256, 1) kdvr_forward(KDVR_PARAMETERS(Real), Index step) {
    forward_launch<Rows>(KDVR_JOB(Real), step);
}

__global__ void __launch_bounds__(256, 1) kdvr_step(KDVR_PARAMETERS(Real), Index step) {
    step_launch<Rows>(KDVR_JOB(Real), step);
}

__global__ void __launch_bounds__(256, 1) kdvr_rows(KDVR_PARAMETERS(Real), Index first, Index rows, Index what) {
    read_rows<Rows>(KDVR_JOB(Real), first, rows, what);
}

#if KDVR_SPARSE
__global__ void __launch_bounds__(256, 1)
    kdvr_columns(const Real* values, const int* rows, const Index* starts, const Real* R, double* out, int d, int k) {
    columns(values, rows, starts, R, out, d, k);
}
#else
__global__ void __launch_bounds__(256, KDVR_PASS_BLOCKS) kdvr_pass(KDVR_PARAMETERS(Real), double* partial) {
    pass(KDVR_JOB(Real), partial);
}

__global__ void __launch_bounds__(256, 1) kdvr_finish(KDVR_PARAMETERS(Real), Index first, Index rows) {
    finish_rows(KDVR_JOB(Real), first, rows);
}
#endif

__global__ void __launch_bounds__(256, 1) kdvr_reduce(const double* partial, Index blocks, Index size, double* out) {
    reduce(partial, blocks, size, out);
}

}  // extern "C"

}  // namespace kdvr::cuda
