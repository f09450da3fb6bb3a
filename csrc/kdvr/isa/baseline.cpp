// Kernels for any x86-64 (SSE2), or NEON on ARM.
#define KDVR_ISA baseline
#define KDVR_BYTES 16
#include "table.hpp"
