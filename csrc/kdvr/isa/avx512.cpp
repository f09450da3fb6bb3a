// Kernels for AVX-512 F, DQ, BW, VL.
#define KDVR_ISA avx512
#define KDVR_BYTES 64
#include "table.hpp"
