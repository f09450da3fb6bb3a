// Watches every access of instrumented code (-fsanitize=thread, with these functions in place of its library): races, and
// shared memory that is read before it is written.
//
// Two accesses of a word, one of them a write and not both atomic, race unless something orders them: the same thread, a
// barrier of the block between them, or a barrier of their warp. Blocks of a launch are never ordered. A shuffle orders no
// memory.
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <string>
#include <vector>

#include "runtime.hpp"

namespace shim {
namespace {

struct Access {
    Moment at{~0u, 0, 0, 0};
    void* pc = nullptr;
    bool atomic = false;
    bool any() const { return at.block != ~0u; }
};

// Reads of a word since it was written: of each warp the last, and whether other lanes read in the same stretch between
// barriers.
struct Read : Access {
    bool several = false;
};

struct Word {
    Access write;
    std::vector<Read> reads;
};

struct Watched {
    Region region;
    bool shared;
    std::vector<Word> words;
};

std::vector<Region> buffers;
std::vector<Watched> watched;
bool active = false;
std::string report;
std::set<std::pair<void*, void*>> seen;

bool ordered(const Access& before, const Moment& now) {
    const Moment& then = before.at;
    if (then.block != now.block) return false;
    if (then.thread == now.thread || then.block_barriers != now.block_barriers) return true;
    return then.thread / 32 == now.thread / 32 && then.warp_barriers != now.warp_barriers;
}

unsigned long place(void* pc) {
    Dl_info info;
    return dladdr(pc, &info) ? static_cast<unsigned long>(static_cast<char*>(pc) - static_cast<char*>(info.dli_fbase)) - 1 : 0;
}

void tell(const char* what, const Watched& in, uintptr_t address, const Access& before, const Access& after) {
    if (!seen.insert({before.pc, after.pc}).second) return;
    char line[256];
    snprintf(line, sizeof line, "%s: %s memory, byte %lu of %lu: block %u thread %u at %#lx, block %u thread %u at %#lx\n",
             what, in.shared ? "shared" : "global", static_cast<unsigned long>(address - in.region.begin),
             static_cast<unsigned long>(in.region.bytes), before.at.block, before.at.thread, place(before.pc), after.at.block,
             after.at.thread, place(after.pc));
    report += line;
}

void remember_read(Word& word, const Access& access) {
    for (Read& read : word.reads) {
        if (read.at.block != access.at.block || read.at.thread / 32 != access.at.thread / 32) continue;
        const bool same_stretch =
            read.at.block_barriers == access.at.block_barriers && read.at.warp_barriers == access.at.warp_barriers;
        const bool several = same_stretch && (read.several || read.at.thread != access.at.thread);
        static_cast<Access&>(read) = access;
        read.several = several;
        return;
    }
    Read read;
    static_cast<Access&>(read) = access;
    word.reads.push_back(read);
}

void look(Watched& in, uintptr_t address, const Access& access, bool reads, bool writes) {
    Word& word = in.words[(address - in.region.begin) / 4];
    if (in.shared && reads && !word.write.any()) tell("read before it is written", in, address, access, access);
    if (word.write.any() && !(word.write.atomic && access.atomic) && !ordered(word.write, access.at))
        tell(writes ? "race of two writes" : "race of a write and a read", in, address, word.write, access);
    if (!writes) return remember_read(word, access);
    for (const Read& read : word.reads) {
        Access other = read;
        if (read.several && read.at.thread == access.at.thread) other.at.thread ^= 1;  // another lane of that warp
        if (!(read.atomic && access.atomic) && !ordered(other, access.at))
            tell("race of a read and a write", in, address, other, access);
    }
    word.reads.clear();
    word.write = access;
}

void access(void* pointer, size_t bytes, bool reads, bool writes, bool atomic, void* pc) {
    if (!active || on_own_stack(pointer)) return;
    const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
    const auto after = std::upper_bound(watched.begin(), watched.end(), address,
                                        [](uintptr_t a, const Watched& w) { return a < w.region.begin; });
    if (after == watched.begin()) return;
    Watched& in = *(after - 1);
    if (address >= in.region.begin + in.region.bytes) return;
    const Access one{now(), pc, atomic};
    const uintptr_t end = std::min(address + bytes, in.region.begin + in.region.bytes);
    for (uintptr_t a = address & ~uintptr_t{3}; a < end; a += 4) look(in, a, one, reads, writes);
}

void add(const Region& region, bool shared) {
    watched.push_back({region, shared, std::vector<Word>((region.bytes + 3) / 4)});
}

}  // namespace

void watch_launch() {
    watched.clear();
    for (const Region& region : buffers) add(region, false);
    for (const Region& region : shared_regions()) add(region, true);
    std::sort(watched.begin(), watched.end(),
              [](const Watched& a, const Watched& b) { return a.region.begin < b.region.begin; });
    report.clear();
    seen.clear();
    active = true;
}

void watch_block() {
    for (Watched& in : watched)
        if (in.shared) std::fill(in.words.begin(), in.words.end(), Word{});
}

void watch_end() {
    active = false;
}

void note_atomic(void* address, int bytes, void* pc) {
    access(address, static_cast<size_t>(bytes), true, true, true, pc);
}

}  // namespace shim

#define SHIM_PUBLIC extern "C" __attribute__((visibility("default")))
#define SHIM_HOOKS(n)                                                        \
    SHIM_PUBLIC void __tsan_read##n(void* p) {                               \
        shim::access(p, n, true, false, false, __builtin_return_address(0)); \
    }                                                                        \
    SHIM_PUBLIC void __tsan_write##n(void* p) {                              \
        shim::access(p, n, false, true, false, __builtin_return_address(0)); \
    }                                                                        \
    SHIM_PUBLIC void __tsan_unaligned_read##n(void* p) {                     \
        shim::access(p, n, true, false, false, __builtin_return_address(0)); \
    }                                                                        \
    SHIM_PUBLIC void __tsan_unaligned_write##n(void* p) {                    \
        shim::access(p, n, false, true, false, __builtin_return_address(0)); \
    }
SHIM_HOOKS(1)
SHIM_HOOKS(2)
SHIM_HOOKS(4)
SHIM_HOOKS(8)
SHIM_HOOKS(16)
SHIM_PUBLIC void __tsan_read_range(void* p, size_t n) {
    shim::access(p, n, true, false, false, __builtin_return_address(0));
}
SHIM_PUBLIC void __tsan_write_range(void* p, size_t n) {
    shim::access(p, n, false, true, false, __builtin_return_address(0));
}
SHIM_PUBLIC void __tsan_init() {}
SHIM_PUBLIC void __tsan_func_entry(void*) {}
SHIM_PUBLIC void __tsan_func_exit() {}
SHIM_PUBLIC void __tsan_vptr_read(void*) {}
SHIM_PUBLIC void __tsan_vptr_update(void*, void*) {}

// Global memory that kernels may touch.
SHIM_PUBLIC void shim_buffers(const shim::Region* regions, size_t count) {
    shim::buffers.assign(regions, regions + count);
}
// What was found in the last launch, a line each; empty if nothing was.
SHIM_PUBLIC const char* shim_report() {
    return shim::report.c_str();
}
