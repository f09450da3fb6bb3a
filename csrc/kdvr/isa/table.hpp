// Purpose: the kernel table of the including instruction set. Include after defining KDVR_ISA and KDVR_BYTES, once per file.
#pragma once

#include "../compact_one.hpp"
#include "../decode.hpp"
#include "../generate.hpp"
#include "../gradient.hpp"
#include "../logits.hpp"
#include "../probes.hpp"
#include "../residuals.hpp"
#include "../singles.hpp"

namespace kdvr::KDVR_ISA {

template <class T>
constexpr Kernels<T> table = {
    logits<T>,         residuals<T>,
    gradient_step<T>,  gradient_part<T>,
    gradient_add<T>,   gradient_add_double<T>,
    parts_step<T>,     parts_add_double<T>,
    step<T>,           decode<T>,
    compact_logits<T>, compact_gradient<T>,
    generate<T>,       draw<T>,
    multiply_add<T>,   read_all<T>,
    kLanes<T>,         {&sparse_table<T, std::int32_t>, &sparse_table<T, std::int64_t>},
};

extern const Kernels<float> kernels_float;
extern const Kernels<double> kernels_double;
const Kernels<float> kernels_float = table<float>;
const Kernels<double> kernels_double = table<double>;

}  // namespace kdvr::KDVR_ISA
