// Purpose: NumPy arrays to the core's views, without copies. Users are answered by kdvr_fast/_validation.py; what is checked
// here (type, shape, strides) keeps a wrong call from inside the package from reading foreign memory.
#pragma once

#include <pybind11/numpy.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>

#include "kdvr/checks.hpp"
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

// A sparse matrix as it comes from Python: values, features and offsets of its rows, number of features.
using CsrArrays = std::tuple<py::array, py::array, py::array, Index>;

// C-contiguous int32 or int64 array of `size` elements, to the pointer that fits.
inline void flat_integers(const py::array& a, Index size, const char* name, const std::int32_t*& narrow,
                          const std::int64_t*& wide) {
    if (py::isinstance<py::array_t<std::int32_t>>(a)) {
        narrow = flat<std::int32_t>(a, size, name);
    } else {
        wide = flat<std::int64_t>(a, size, name);
    }
}

// Offsets and features are checked, since they say what memory is read.
template <class T>
CsrRows<T> csr_rows(const CsrArrays& arrays, const char* name) {
    const auto& [values, index, start, d] = arrays;
    CsrRows<T> rows;
    const Index n = start.size() - 1;
    require(n >= 0, std::string(name) + ": one offset a row, and one more, expected");
    flat_integers(start, n + 1, "offsets", rows.start32, rows.start64);
    rows.values = flat<T>(values, values.size(), name);
    flat_integers(index, values.size(), "features", rows.index32, rows.index64);
    const Index stored = values.size();
    require(rows.start64 ? offsets_rise(rows.start64, n, stored) : offsets_rise(rows.start32, n, stored),
            std::string(name) + ": offsets must rise from 0 to the number of values");
    require(rows.index64 ? all_below(rows.index64, stored, d) : all_below(rows.index32, stored, d),
            std::string(name) + ": feature out of range");
    return rows;
}

// Whether rows that csr_rows takes have rising features and, if asked, neither NaN nor infinity.
template <class T>
bool csr_sound(const CsrArrays& arrays, bool finite) {
    const CsrRows<T> rows = csr_rows<T>(arrays, "X");
    const Index n = std::get<2>(arrays).size() - 1;
    const auto rise = [&](const auto* features) {
        return rows.start64 ? features_rise(features, rows.start64, n) : features_rise(features, rows.start32, n);
    };
    return (rows.index64 ? rise(rows.index64) : rise(rows.index32)) &&
           (!finite || all_finite(rows.values, std::get<0>(arrays).size()));
}

// Compact rows as they come from Python: small numbers (n, d), and scale and offset (d,), or None for 1 and 0.
using CompactArrays = std::tuple<py::array, std::optional<py::array>, std::optional<py::array>>;

inline Storage storage_of(const py::array& a, const char* name) {
    if (py::isinstance<py::array_t<std::uint8_t>>(a)) return Storage::uint8;
    if (py::isinstance<py::array_t<std::int8_t>>(a)) return Storage::int8;
    if (py::isinstance<py::array_t<std::uint16_t>>(a)) return Storage::bfloat16;
    require(a.dtype().kind() == 'f' && a.itemsize() == 2, std::string(name) + ": not a compact dtype");
    return Storage::float16;
}

template <class T>
CompactRows<T> compact_rows(const CompactArrays& arrays, const char* name) {
    const auto& [values, scale, offset] = arrays;
    require(values.ndim() == 2, std::string(name) + ": two dimensions expected");
    require(values.shape(1) <= 1 || values.strides(1) == values.itemsize(), std::string(name) + ": rows must be contiguous");
    require(scale.has_value() == offset.has_value(), std::string(name) + ": scale and offset go together");
    CompactRows<T> rows{values.data(), storage_of(values, name), values.strides(0), nullptr, nullptr};
    if (scale)
        rows.scale = flat<T>(*scale, values.shape(1), "scale"), rows.offset = flat<T>(*offset, values.shape(1), "offset");
    return rows;
}

// Virtual rows: n, d, seed, distribution, and the scale of the features, zeros behind in whole groups of 32.
using VirtualArrays = std::tuple<Index, Index, std::uint64_t, std::string, py::array>;

template <class T>
VirtualRows<T> virtual_rows(const VirtualArrays& given, const char* name) {
    const auto& [n, d, seed, distribution, scale] = given;
    require(n > 0 && d > 0, std::string(name) + ": at least one row and feature expected");
    require(distribution == "normal" || distribution == "uniform", std::string(name) + ": unknown distribution");
    return {seed, distribution == "normal" ? Distribution::normal : Distribution::uniform,
            flat<T>(scale, (d + 31) / 32 * 32, "scale")};
}

// The model that draws targets of virtual rows: coef (k, d), intercept (k,) and noise.
using ModelArrays = std::tuple<py::array, py::array, double>;

template <class T>
VirtualTargets<T> virtual_targets(const ModelArrays& given, Index k, Index d) {
    const auto& [coef, intercept, noise] = given;
    return {flat<T>(coef, k * d, "model"), flat<T>(intercept, k, "model's intercept"), static_cast<T>(noise)};
}

}  // namespace kdvr::bindings
