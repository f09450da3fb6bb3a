// Purpose: how all rows are read at once: in parts of whole blocks, each with sums of its own, or as one part whose blocks are
// shared out. The first way keeps the threads apart for milliseconds, not microseconds; it is taken where the sums are small
// beside the rows, which depends on the problem alone, so that the result has the same bits at any number of threads.
#pragma once

#include <algorithm>  // min
#include <functional>

#include "rows/rows.hpp"

namespace kdvr {

// Called about every ten milliseconds from inside a loop; stops it by throwing.
using Poll = std::function<void()>;

// Multiply-adds between two polls and two looks at the loss: about ten milliseconds.
constexpr Index kWorkBetweenPolls = Index{1} << 27;

class Parts {
  public:
    // Whether the sums of a part, so many numbers, are small beside what the rows add to them.
    static bool apart(Index additions, Index sums) { return additions >= kAdditionsASum * kMostParts * sums; }

    // Blocks of at most `block` rows; apart: in several parts.
    Parts(Index n, Index block, bool apart)
        : n_(n), block_(block), blocks_((n + block - 1) / block), count_(apart ? std::min(kMostParts, blocks_) : 1) {}

    Index count() const { return count_; }

    // f(part, first row, rows, the part's end) for all blocks, those of a part in their order, and poll() between rounds.
    template <class F>
    void read(int threads, Index work_per_row, const Poll& poll, const F& f) const {
        const Index longest = (blocks_ + count_ - 1) / count_;
        const Index round = 1 + kWorkBetweenPolls / (work_per_row * block_ * count_ + 1);
        for (Index from = 0; from < longest; from += round) {
            run(count_, threads, [&](Index part) {
                const Index first = part * blocks_ / count_, last = (part + 1) * blocks_ / count_;
                const Index end = std::min(n_, last * block_);
                for (Index b = first + from; b < std::min(last, first + from + round); ++b) {
                    f(part, b * block_, std::min(block_, n_ - b * block_), end);
                }
            });
            poll();
        }
    }

  private:
    static constexpr Index kAdditionsASum = 32, kMostParts = 8;
    Index n_, block_, blocks_, count_;
};

}  // namespace kdvr
