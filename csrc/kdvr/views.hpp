// Purpose: non-owning views of the caller's data. Nothing here copies, allocates or frees.
// Shapes: n rows of d features, k outputs. A row's features are contiguous; rows may lie any distance apart.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kdvr {

using Index = std::ptrdiff_t;

// n x d matrix, row i at data + i * stride.
template <class T>
struct DenseRows {
    const T* data = nullptr;
    Index n = 0;
    Index d = 0;
    Index stride = 0;

    const T* row(Index i) const { return data + i * stride; }
};

// A row of a sparse matrix: `count` numbers and the features they belong to, rising. The index type is that of the matrix.
template <class T>
struct SparseRow {
    const T* value = nullptr;
    const void* index = nullptr;
    Index count = 0;
};

// n x d matrix in compressed sparse rows. Of each pair of pointers one is null: features and offsets come in 32 or 64 bits.
template <class T>
struct CsrRows {
    const T* values = nullptr;
    const std::int32_t* index32 = nullptr;
    const std::int64_t* index64 = nullptr;
    const std::int32_t* start32 = nullptr;
    const std::int64_t* start64 = nullptr;

    constexpr std::int64_t start(Index i) const { return start64 ? start64[i] : start32[i]; }
    constexpr std::int64_t count(Index i) const { return start(i + 1) - start(i); }
    SparseRow<T> row(Index i) const {
        const std::int64_t at = start(i);
        return {values + at, index64 ? static_cast<const void*>(index64 + at) : index32 + at, start(i + 1) - at};
    }
};

// Offsets pass 2^31 without harm, and 32 bits are widened before they are used.
namespace detail {
constexpr std::int64_t kFarStarts[] = {0, std::int64_t{5} << 31, (std::int64_t{5} << 31) + 7};
constexpr std::int32_t kNearStarts[] = {0, 2147483640, 2147483647};
static_assert(CsrRows<float>{nullptr, nullptr, nullptr, nullptr, kFarStarts}.start(1) == 10737418240);
static_assert(CsrRows<float>{nullptr, nullptr, nullptr, nullptr, kFarStarts}.count(0) == 10737418240);
static_assert(CsrRows<float>{nullptr, nullptr, nullptr, nullptr, kFarStarts}.count(1) == 7);
static_assert(CsrRows<float>{nullptr, nullptr, nullptr, kNearStarts, nullptr}.count(1) == 7);
}  // namespace detail

// How compact rows are stored; bfloat16 is the upper half of a float.
enum class Storage { uint8, int8, float16, bfloat16 };

// n x d matrix of small numbers u that stand for x = scale u + offset, row i at `stride` bytes times i. scale and offset are d
// numbers each, or null for 1 and 0.
template <class T>
struct CompactRows {
    const void* data = nullptr;
    Storage storage = Storage::uint8;
    Index stride = 0;
    const T* scale = nullptr;
    const T* offset = nullptr;

    const void* row(Index i) const { return static_cast<const char*>(data) + i * stride; }
    Index item() const { return storage == Storage::uint8 || storage == Storage::int8 ? 1 : 2; }
};

// Rows of compact ones, gathered for one kernel call: pointers to them and to as many that will be gathered next. scale and
// offset are d numbers each; or null, where all features have one_scale and no offset.
template <class T>
struct CompactBlock {
    const void* const* row = nullptr;
    const void* const* coming = nullptr;
    Index rows = 0;
    Index d = 0;
    Storage storage = Storage::uint8;
    const T* scale = nullptr;
    const T* offset = nullptr;
    T one_scale = T(1);
};

// What the numbers of virtual rows are drawn from: mean 0 and variance 1, then scaled.
enum class Distribution { normal, uniform };

// Rows that are not stored: row i follows from the seed and i, see generate.hpp. scale is one number a feature, in whole groups
// of 32 with zeros behind; null where rows are not virtual.
template <class T>
struct VirtualRows {
    std::uint64_t seed = 0;
    Distribution distribution = Distribution::normal;
    const T* scale = nullptr;
};

// Targets of virtual rows, drawn from a model of coef (k x d) and intercept (k). noise: the standard deviation of values, the
// share of classes that are drawn uniformly. coef is null where targets are stored.
template <class T>
struct VirtualTargets {
    const T* coef = nullptr;
    const T* intercept = nullptr;
    T noise = T(0);
};

// What the rows should give: integer labels (softmax), n x k numbers, or a model that draws either.
template <class T>
struct Targets {
    const std::int64_t* labels = nullptr;
    DenseRows<T> values;
    VirtualTargets<T> model;
};

// Rows gathered for one kernel call: pointers to `rows` rows of d features each.
template <class T>
struct RowBlock {
    const T* const* a = nullptr;
    Index rows = 0;
    Index d = 0;
};

}  // namespace kdvr
