// Purpose: how large the register tiles of dense products are, and how counts are cut into them.
// Tile sizes fill the registers. AVX-512 and NEON have 32: 5 x 5 sums + 5 rows + 1 weight; 5 x 4 sums + 4 vectors + 1
// coefficient. The others have 16: 3 x 4 + 3 + 1 and 3 x 3 + 3 + 1. Loads stay under one per two multiply-adds.
#pragma once

#include "kernels.hpp"
#include "simd.hpp"

namespace kdvr::KDVR_ISA {

#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int kTileRows = 5, kTileOutputs = 5, kTileClasses = 5, kTileVectors = 4;
#else
constexpr int kTileRows = 3, kTileOutputs = 4, kTileClasses = 3, kTileVectors = 3;
#endif

// Blocks of nearly equal size: 10 rows in tiles of at most 4 go as 4, 3, 3 and never as 4, 4, 2.
KDVR_INLINE Index blocks(Index count, Index most) {
    return (count + most - 1) / most;
}
KDVR_INLINE Index block_start(Index i, Index count, Index n) {
    return i * count / n;
}

}  // namespace kdvr::KDVR_ISA
