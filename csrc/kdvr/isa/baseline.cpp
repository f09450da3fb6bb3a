// Kernels for any x86-64 (SSE2), and for processors without kernels of their own.
#define KDVR_ISA baseline
#define KDVR_BYTES 16
#include "table.hpp"
