// Purpose: results of the core as Python objects, options of an epoch from Python's.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "kdvr/session.hpp"

namespace kdvr::bindings {

using Doubles = py::array_t<double>;
using SumsTuple = std::tuple<double, double, double, double, double, double, double, double, double>;
using PassTuple = std::tuple<SumsTuple, Doubles, Doubles, std::optional<Doubles>, std::optional<Doubles>>;
// kind, kept, levels, mask, seed
using CompressionTuple = std::tuple<std::string, Index, Index, std::optional<py::array>, std::uint64_t>;
using WalkTuple = std::tuple<SumsTuple, Index, std::vector<PassTuple>, bool>;

inline SumsTuple to_tuple(const Sums& s) {
    return {s.rows, s.loss, s.xx, s.xt, s.tt, s.pairs, s.pair_xx, s.pair_xt, s.pair_tt};
}

// The memory itself, not a copy.
inline Doubles to_array(Buffer<double>&& values, std::vector<py::ssize_t> shape) {
    auto kept = std::make_unique<Buffer<double>>(std::move(values));
    double* const data = kept->data();
    const py::capsule owner(kept.release(), [](void* p) { delete static_cast<Buffer<double>*>(p); });
    return Doubles(std::move(shape), data, owner);
}

inline PassTuple to_tuple(Pass&& p, Index k, Index d) {
    std::optional<Doubles> anchor, anchor_b;
    if (p.anchor_grad.size() > 0) {
        anchor = to_array(std::move(p.anchor_grad), {k, d});
        anchor_b = to_array(std::move(p.anchor_grad_intercept), {k});
    }
    return {to_tuple(p.sums), to_array(std::move(p.grad), {k, d}), to_array(std::move(p.grad_intercept), {k}), anchor,
            anchor_b};
}

// Ctrl-C inside a loop: the signal's handler runs here and its exception unwinds the loop.
inline void poll() {
    const py::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

inline LossKind loss_kind(const std::string& name) {
    if (name == "squared") return LossKind::squared;
    if (name == "logistic") return LossKind::logistic;
    if (name == "softmax") return LossKind::softmax;
    throw std::invalid_argument("unknown loss " + name);
}

inline AnchorKind anchor_kind(const std::string& name) {
    if (name == "none") return AnchorKind::none;
    if (name == "weights") return AnchorKind::weights;
    if (name == "table") return AnchorKind::table;
    throw std::invalid_argument("unknown source " + name);
}

inline ControlVariate control_variate(double lam, const std::string& source, bool use_mean, bool update_table,
                                      std::optional<double> temperature) {
    return {lam, anchor_kind(source), use_mean, update_table, temperature.value_or(0.0)};
}

// The rows of an epoch, refreshes apart.
inline Route route_of(const py::array& order, const py::array& rates, Index batch_size, Index n, double loss_limit) {
    require(batch_size > 0 && rates.size() > 0, "batch_size and learning_rates: at least one expected");
    Route route;
    route.rows = order.size();
    route.order = flat<std::int64_t>(order, route.rows, "order");
    require(all_below(route.order, route.rows, n), "order: no such row");
    route.n_rates = rates.size();
    route.rates = flat<double>(rates, route.n_rates, "learning_rates");
    require(route.n_rates == 1 || route.n_rates * batch_size >= route.rows, "learning_rates: one, or one a step, expected");
    route.loss_limit = loss_limit;
    return route;
}

}  // namespace kdvr::bindings
