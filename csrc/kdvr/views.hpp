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

// What the rows should give: either integer labels (softmax) or n x k numbers.
template <class T>
struct Targets {
    const std::int64_t* labels = nullptr;
    DenseRows<T> values;
};

// Rows gathered for one kernel call: pointers to `rows` rows of d features each.
template <class T>
struct RowBlock {
    const T* const* a = nullptr;
    Index rows = 0;
    Index d = 0;
};

}  // namespace kdvr
