// Purpose: owned, vector-aligned memory, zeroed unless it is about to be overwritten.
#pragma once

#include <cstring>  // memset
#include <memory>   // unique_ptr
#include <new>      // aligned operator new

#include "kernels.hpp"

#if defined(__linux__)
#include <sys/mman.h>  // madvise
#endif

namespace kdvr {

struct Unset {};

template <class T>
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(Index size) : Buffer(size, Unset{}) { clear(); }
    Buffer(Index size, Unset) : size_(size), data_(static_cast<T*>(::operator new(bytes(size), alignment(size)))) {
        data_.get_deleter().alignment = alignment(size);
#if defined(__linux__)
        if (bytes(size) >= kHugePage) ::madvise(data_.get(), bytes(size), MADV_HUGEPAGE);  // advice: failing changes nothing
#endif
    }

    T* data() { return data_.get(); }
    const T* data() const { return data_.get(); }
    Index size() const { return size_; }
    T& operator[](Index i) { return data_.get()[i]; }
    const T& operator[](Index i) const { return data_.get()[i]; }
    void clear() { std::memset(static_cast<void*>(data_.get()), 0, bytes(size_)); }

    // Grows (zeroed, contents lost) when smaller than `size`.
    void reserve(Index size) {
        if (size > size_) *this = Buffer(size);
    }

  private:
    struct Free {
        std::align_val_t alignment{kVectorBytes};
        void operator()(T* p) const { ::operator delete(static_cast<void*>(p), alignment); }
    };
    // Large matrices are walked at random: with a page for each 2 MiB the processor finds them without looking in tables, and
    // the system clears them at once.
    static constexpr std::size_t kHugePage = std::size_t{1} << 21;
    static std::align_val_t alignment(Index size) {
        return std::align_val_t{bytes(size) >= kHugePage ? kHugePage : static_cast<std::size_t>(kVectorBytes)};
    }
    static std::size_t bytes(Index size) { return static_cast<std::size_t>(size) * sizeof(T); }

    Index size_ = 0;
    std::unique_ptr<T, Free> data_;
};

}  // namespace kdvr
