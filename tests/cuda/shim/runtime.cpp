// Runs a launch: blocks in a drawn order, the threads of a block as fibers until each waits or ends, again in a drawn order.
#include "runtime.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "fiber.hpp"

namespace shim {

Place* here;

namespace {

constexpr unsigned kWarp = 32;

std::vector<Fiber> fibers;
std::vector<Region> shared;
Switch swap;
Fiber* current;
const std::function<void()>* body;
unsigned n_threads, block_number, block_barriers;
void* dynamic;
std::string error;

unsigned number(const Fiber& fiber) {
    return static_cast<unsigned>(&fiber - fibers.data());
}

void fail(const Fiber& fiber, const char* what) {
    if (!error.empty()) return;
    char place[96];
    snprintf(place, sizeof place, ": line %d, block %u, thread %u", fiber.line, fiber.place.block.x, number(fiber));
    error = std::string(what) + place;
}

void wait(State state, int line) {
    current->state = state;
    current->line = line;
    swap.leave(*current, false);
}

void entry() {
    swap.arrived();
    (*body)();
    current->state = State::kDone;
    swap.leave(*current, true);
    abort();
}

int source_lane(const Fiber& fiber, int lane) {
    const int width = fiber.width, base = lane / width * width;
    int other = lane;
    if (fiber.what == kIndex) other = base + (fiber.lane & (width - 1));
    if (fiber.what == kXor) other = lane ^ fiber.lane;
    if (fiber.what == kDown) other = lane + fiber.lane;
    if (fiber.what == kUp) other = lane - fiber.lane;
    return other < base || other >= base + width ? lane : other;
}

// Whether all lanes of the mask wait at the same collective; complains about those that never can.
bool complete(Fiber* warp, unsigned lanes, unsigned lane) {
    const Fiber& fiber = warp[lane];
    if (!(fiber.mask >> lane & 1)) fail(fiber, "the lane is not in its own mask");
    bool all = true;
    for (unsigned j = 0; j < kWarp; ++j) {
        if (!(fiber.mask >> j & 1)) continue;
        if (j >= lanes) {
            fail(fiber, "the mask names a lane that does not exist");
        } else if (warp[j].state == State::kDone) {
            fail(fiber, "the mask names a lane that has ended");
        } else if (warp[j].state != State::kAtCollective) {
            all = false;
        } else if (warp[j].mask != fiber.mask || warp[j].what != fiber.what || warp[j].line != fiber.line) {
            fail(fiber, "lanes of a warp wait at different collectives");
        }
    }
    return all && error.empty();
}

void answer(Fiber* warp, const Fiber& first) {
    const unsigned mask = first.mask;
    uint64_t ballot = 0;
    for (unsigned j = 0; j < kWarp; ++j)
        if (mask >> j & 1 && warp[j].value) ballot |= uint64_t{1} << j;
    uint64_t answers[kWarp] = {};
    for (unsigned j = 0; j < kWarp; ++j) {
        if (!(mask >> j & 1)) continue;
        const Fiber& fiber = warp[j];
        if (fiber.what <= kUp) {
            const int source = source_lane(fiber, static_cast<int>(j));
            if (!(mask >> source & 1)) return fail(fiber, "a shuffle reads a lane outside its mask");
            answers[j] = warp[source].value;
        } else {
            answers[j] = fiber.what == kBallot ? ballot : fiber.what == kAny ? ballot != 0 : ballot == mask;
        }
    }
    for (unsigned j = 0; j < kWarp; ++j) {
        if (!(mask >> j & 1)) continue;
        warp[j].answer = answers[j];
        warp[j].state = State::kReady;
        if (warp[j].what == kBarrier) ++warp[j].warp_barriers;
    }
}

bool release_warps() {
    bool any = false;
    for (unsigned first = 0; first < n_threads && error.empty(); first += kWarp) {
        Fiber* warp = &fibers[first];
        const unsigned lanes = std::min(kWarp, n_threads - first);
        for (unsigned lane = 0; lane < lanes && error.empty(); ++lane) {
            if (warp[lane].state != State::kAtCollective || !complete(warp, lanes, lane)) continue;
            answer(warp, warp[lane]);
            any = true;
        }
    }
    return any;
}

// True if the block has ended or something is wrong; else its barrier is passed.
bool pass_barrier() {
    const Fiber *waiting = nullptr, *stuck = nullptr, *done = nullptr;
    for (unsigned i = 0; i < n_threads; ++i) {
        const Fiber& fiber = fibers[i];
        if (fiber.state == State::kAtCollective) stuck = &fiber;
        if (fiber.state == State::kDone) done = &fiber;
        if (fiber.state != State::kAtBlockBarrier) continue;
        if (waiting && waiting->line != fiber.line) fail(fiber, "threads of a block wait at different barriers");
        waiting = &fiber;
    }
    if (stuck) fail(*stuck, "a lane that the mask names does not come");
    if (waiting && done) fail(*waiting, "a barrier is waited for after threads of the block have ended");
    if (!error.empty() || !waiting) return true;
    ++block_barriers;
    for (unsigned i = 0; i < n_threads; ++i) fibers[i].state = State::kReady;
    return false;
}

void run_block(const Shape& shape, unsigned block, std::mt19937& random) {
    for (const Region& region : shared) memset(reinterpret_cast<void*>(region.begin), 0xff, region.bytes);
    block_number = block;
    block_barriers = 0;
    std::vector<unsigned> order(n_threads);
    for (unsigned i = 0; i < n_threads; ++i) {
        order[i] = i;
        fibers[i].place = {{i, 0, 0}, {block, 0, 0}, {shape.threads, 1, 1}, {shape.blocks, 1, 1}};
        fibers[i].start(entry);
    }
    watch_block();
    do {
        do {
            std::shuffle(order.begin(), order.end(), random);
            for (unsigned i : order) {
                if (fibers[i].state != State::kReady || !error.empty()) continue;
                current = &fibers[i];
                here = &current->place;
                swap.enter(*current);
            }
        } while (release_warps());
    } while (!pass_barrier());
}

}  // namespace

void block_barrier(int line) {
    wait(State::kAtBlockBarrier, line);
}

uint64_t collective(Collective what, unsigned mask, uint64_t value, int lane, int width, int line) {
    Fiber& fiber = *current;
    fiber.what = what;
    fiber.mask = mask;
    fiber.value = value;
    fiber.lane = lane;
    fiber.width = width;
    wait(State::kAtCollective, line);
    return fiber.answer;
}

void* dynamic_shared() {
    return dynamic;
}

Moment now() {
    return {block_number, number(*current), block_barriers, current->warp_barriers};
}

bool on_own_stack(const void* address) {
    const char* p = static_cast<const char*>(address);
    return current && p >= current->stack && p < current->stack + kStack;
}

const std::vector<Region>& shared_regions() {
    return shared;
}

const char* launch(const Shape& shape, const std::function<void()>& kernel) {
    n_threads = shape.threads;
    body = &kernel;
    error.clear();
    if (fibers.size() < n_threads) fibers.resize(n_threads);
    if (shape.dynamic_bytes) {
        dynamic = aligned_alloc(16, (shape.dynamic_bytes + 15) / 16 * 16);
        shared.push_back({reinterpret_cast<uintptr_t>(dynamic), shape.dynamic_bytes});
    }
    std::mt19937 random(shape.seed);
    std::vector<unsigned> blocks(shape.blocks);
    for (unsigned i = 0; i < shape.blocks; ++i) blocks[i] = i;
    std::shuffle(blocks.begin(), blocks.end(), random);
    watch_launch();
    for (unsigned block : blocks)
        if (error.empty()) run_block(shape, block, random);
    watch_end();
    if (shape.dynamic_bytes) {
        shared.pop_back();
        free(dynamic);
    }
    return error.empty() ? nullptr : error.c_str();
}

}  // namespace shim

// The `__shared__` arrays of the kernels' library.
extern "C" __attribute__((visibility("default"))) void shim_shared(const shim::Region* regions, size_t count) {
    shim::shared.assign(regions, regions + count);
}
extern "C" __attribute__((visibility("default"))) char shim_anchor = 0;
