// Between the runtime, the kernels' library and what watches memory.
#pragma once

#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda_shim.hpp"

namespace shim {

struct Shape {
    unsigned blocks, threads, dynamic_bytes, seed;
};

struct Region {
    uintptr_t begin, bytes;
};

// Runs a kernel's body in every thread; nullptr, or what went wrong (the text lives until the next launch).
const char* launch(const Shape& shape, const std::function<void()>& body);

// A kernel and its arguments, which stand where `arguments` points, one after the other.
template <class... P, size_t... I>
const char* run(void (*kernel)(P...), void* const* arguments, const Shape& shape, std::index_sequence<I...>) {
    return launch(shape, [=] { kernel(*static_cast<P*>(arguments[I])...); });
}
template <class... P>
const char* run(void (*kernel)(P...), void* const* arguments, const Shape& shape) {
    return run(kernel, arguments, shape, std::index_sequence_for<P...>{});
}

// Sizes of a kernel's parameters, negative for floating numbers, into `out` (room for 64); how many there are.
template <class... P>
int slots(void (*)(P...), int* out) {
    const int sizes[] = {(std::is_floating_point_v<P> ? -1 : 1) * static_cast<int>(sizeof(P))..., 0};
    memcpy(out, sizes, sizeof...(P) * sizeof(int));
    return sizeof...(P);
}

// Of the thread that runs: its number in the block, the block's, and how many barriers of the block and of its warp it has
// passed.
struct Moment {
    unsigned block, thread, block_barriers, warp_barriers;
};
Moment now();
bool on_own_stack(const void* address);
const std::vector<Region>& shared_regions();

// What watches memory: detect.cpp, or unwatched.cpp, which does nothing.
void watch_launch();
void watch_block();
void watch_end();

}  // namespace shim
