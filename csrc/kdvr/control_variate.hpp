// Purpose: the method of a run, as data; the engine knows no method by name. See kdvr_fast/backends/base.py: ControlVariate,
// Step.
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

// What is done with the corrected gradient.
struct Step {
    Index batch_size = 1;
    double l2 = 0, l1 = 0, momentum = 0;
    bool nesterov = false, average = false, statistics = true;
};

}  // namespace kdvr
