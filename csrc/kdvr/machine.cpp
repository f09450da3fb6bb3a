#include "machine.hpp"

#include <algorithm>  // max
#include <chrono>
#include <vector>

#include "buffer.hpp"
#include "dispatch.hpp"
#include "threads.hpp"

namespace kdvr {

namespace {

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The best rate of work(): `amount` over its time, tried until `seconds` have passed and three times at least.
template <class F>
double best_rate(double amount, double seconds, F&& work) {
    double best = 0;
    const double end = now() + seconds;
    for (int trial = 0; trial < 3 || now() < end; ++trial) {
        const double start = now();
        work();
        best = std::max(best, amount / (now() - start));
    }
    return best;
}

}  // namespace

template <class T>
double fma_peak(double seconds, int threads) {
    constexpr Index rounds = 200000;
    std::vector<T> sink(static_cast<std::size_t>(threads));
    const double amount = static_cast<double>(rounds * 16 * kernels<T>().lanes * threads);
    return best_rate(amount, seconds, [&] {
        run(threads, threads, [&](Index i) { sink[static_cast<std::size_t>(i)] = kernels<T>().multiply_add(rounds); });
    });
}

template double fma_peak<float>(double, int);
template double fma_peak<double>(double, int);

double read_bandwidth(Index bytes, double seconds, int threads) {
    constexpr Index unit = 8 * kVectorBytes;
    const Index share = std::max<Index>(bytes / threads / unit, 1) * unit / static_cast<Index>(sizeof(float));
    Buffer<float> memory(share * threads);  // zeroed: every page exists
    std::vector<float> sink(static_cast<std::size_t>(threads));
    return best_rate(static_cast<double>(memory.size()) * sizeof(float), seconds, [&] {
        run(threads, threads,
            [&](Index i) { sink[static_cast<std::size_t>(i)] = kernels<float>().read_all(memory.data() + i * share, share); });
    });
}

}  // namespace kdvr
