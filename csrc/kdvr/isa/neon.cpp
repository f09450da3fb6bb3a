// Kernels for NEON, which every 64-bit ARM has.
#define KDVR_ISA neon
#define KDVR_BYTES 16
#include "table.hpp"
