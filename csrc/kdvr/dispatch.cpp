#include "dispatch.hpp"

#include <cstdlib>      // getenv
#include <stdexcept>    // invalid_argument
#include <type_traits>  // is_same_v

namespace kdvr {

#define KDVR_DECLARE(isa)                        \
    namespace isa {                              \
    extern const Kernels<float> kernels_float;   \
    extern const Kernels<double> kernels_double; \
    }
#if defined(KDVR_NEON)
KDVR_DECLARE(neon)
#else
KDVR_DECLARE(baseline)
#endif
#if defined(KDVR_X86)
KDVR_DECLARE(avx2)
KDVR_DECLARE(avx512)
#endif

namespace {

struct Entry {
    const char* name;
    bool supported;
    const Kernels<float>* f;
    const Kernels<double>* d;
};

// Slowest first; to add an instruction set, add its line here, its file in isa/ and its flags in CMakeLists.txt.
std::vector<Entry> entries() {
#if defined(KDVR_NEON)
    std::vector<Entry> all = {{"neon", true, &neon::kernels_float, &neon::kernels_double}};
#else
    std::vector<Entry> all = {{"baseline", true, &baseline::kernels_float, &baseline::kernels_double}};
#endif
#if defined(KDVR_X86)
    const bool avx2_here = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512_here = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    all.push_back({"avx2", avx2_here, &avx2::kernels_float, &avx2::kernels_double});
    all.push_back({"avx512", avx512_here, &avx512::kernels_float, &avx512::kernels_double});
#endif
    return all;
}

Entry choose() {
    const char* forced = std::getenv("KDVR_ISA");
    Entry best{};
    std::string names;
    for (const Entry& e : entries()) {
        if (!e.supported) continue;
        if (forced && e.name == std::string(forced)) return e;
        best = e;
        names += (names.empty() ? "" : ", ") + std::string(e.name);
    }
    if (forced && *forced) {
        throw std::invalid_argument("KDVR_ISA=" + std::string(forced) + " is not available on this processor: use one of " +
                                    names);
    }
    return best;
}

const Entry& current() {
    static const Entry entry = choose();
    return entry;
}

}  // namespace

std::vector<std::string> available_isas() {
    std::vector<std::string> names;
    for (const Entry& e : entries()) {
        if (e.supported) names.emplace_back(e.name);
    }
    return names;
}

std::string current_isa() {
    return current().name;
}

template <class T>
const Kernels<T>& kernels() {
    if constexpr (std::is_same_v<T, float>) {
        return *current().f;
    } else {
        return *current().d;
    }
}

template const Kernels<float>& kernels<float>();
template const Kernels<double>& kernels<double>();

}  // namespace kdvr
