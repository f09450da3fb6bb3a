// Purpose: NumPy arrays to the core's views, without copies. Users are answered by kdvr_fast/_validation.py; what is checked
// here (type, shape, strides) keeps a wrong call from inside the package from reading foreign memory.
#pragma once

#include <pybind11/numpy.h>

#include <stdexcept>
#include <string>

#include "kdvr/views.hpp"

namespace kdvr::bindings {

namespace py = pybind11;

inline void require(bool condition, const std::string& message) {
    if (!condition) throw std::invalid_argument(message);
}

// (n, d) of T with unit stride along d.
template <class T>
DenseRows<T> dense_rows(const py::array& a, const char* name) {
    require(py::isinstance<py::array_t<T>>(a), std::string(name) + ": wrong dtype");
    require(a.ndim() == 2, std::string(name) + ": two dimensions expected");
    const Index item = static_cast<Index>(sizeof(T));
    require(a.shape(1) <= 1 || a.strides(1) == item, std::string(name) + ": rows must be contiguous");
    require(a.strides(0) % item == 0, std::string(name) + ": row stride is not a whole number of elements");
    return {static_cast<const T*>(a.data()), a.shape(0), a.shape(1), a.strides(0) / item};
}

// C-contiguous array of T with `size` elements; its data.
template <class T>
const T* flat(const py::array& a, Index size, const char* name) {
    require(py::isinstance<py::array_t<T>>(a), std::string(name) + ": wrong dtype");
    require((a.flags() & py::array::c_style) != 0, std::string(name) + ": C order expected");
    require(a.size() == size, std::string(name) + ": " + std::to_string(size) + " elements expected");
    return static_cast<const T*>(a.data());
}

// Whether all of v[0 .. size) lie in [0, limit).
inline bool all_below(const std::int64_t* v, Index size, Index limit) {
    bool good = true;
    for (Index i = 0; i < size; ++i) good &= v[i] >= 0 && v[i] < limit;
    return good;
}

}  // namespace kdvr::bindings
