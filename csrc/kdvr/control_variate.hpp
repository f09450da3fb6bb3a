// Purpose: the method of a run, as data; the engine knows no method by name. See kdvr_fast/backends/base.py: ControlVariate,
// Compression, Step.
#pragma once

#include "kernels.hpp"

namespace kdvr {

// What is subtracted: lam * (c_i - m).
struct ControlVariate {
    double lam = 0;
    AnchorKind source = AnchorKind::none;
    bool use_mean = false;
    bool update_table = false;
    double temperature = 0;  // 0: difference of residuals
};

enum class CompressionKind { none, mask, random, top, rounding };

// The operator that all weights go through after each step: compress.hpp.
struct Compression {
    CompressionKind kind = CompressionKind::none;
    Index kept = 0, levels = 0;
    const bool* mask = nullptr;  // k x d, outlives the epoch
    std::uint64_t seed = 0;
};

// What is done with the corrected gradient.
struct Step {
    Index batch_size = 1;
    double l2 = 0, l1 = 0, momentum = 0;
    bool nesterov = false, average = false, statistics = true;
    Index pairs_every = 1;
    Compression compression;

    // Whether every step moves all weights, whatever the features of its rows.
    bool moves_all() const { return momentum != 0 || compression.kind != CompressionKind::none; }
};

}  // namespace kdvr
