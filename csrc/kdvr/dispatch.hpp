// Purpose: which instruction sets this processor runs, and the kernel table of the one in use.
#pragma once

#include <string>
#include <vector>

#include "kernels.hpp"

namespace kdvr {

// Names of the instruction sets compiled in and supported here, slowest first. The first runs on every processor
// of the architecture: "neon" on 64-bit ARM, elsewhere "baseline".
std::vector<std::string> available_isas();

// The one in use: the last of available_isas(), or the environment variable KDVR_ISA.
// Throws std::invalid_argument when KDVR_ISA names one that is not available, listing those that are.
std::string current_isa();

template <class T>
const Kernels<T>& kernels();

}  // namespace kdvr
