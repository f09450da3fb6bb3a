// Purpose: what this machine can do at most, measured: the two floors of every kernel.
#pragma once

#include "views.hpp"

namespace kdvr {

// Multiply-adds a second in T on `threads` threads together, best of the trials that fit into `seconds`.
template <class T>
double fma_peak(double seconds, int threads);

// Bytes a second read in order from `bytes` of memory (make it larger than the caches), best of the trials that fit.
double read_bandwidth(Index bytes, double seconds, int threads);

}  // namespace kdvr
