// Kernels for AVX2 with fused multiply-add.
#define KDVR_ISA avx2
#define KDVR_BYTES 32
#include "table.hpp"
