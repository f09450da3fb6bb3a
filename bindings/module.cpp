// Purpose: kdvr_fast._core, the compiled half of backends/native.py. Loops run without the GIL and poll() for signals.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "arrays.hpp"
#include "kdvr/deep.hpp"
#include "kdvr/dispatch.hpp"
#include "kdvr/machine.hpp"
#include "kdvr/session.hpp"
#include "kdvr/shuffle.hpp"

namespace kdvr::bindings {
namespace {

using Doubles = py::array_t<double>;
using SumsTuple = std::tuple<double, double, double, double, double, double, double, double, double>;
using PassTuple = std::tuple<SumsTuple, Doubles, Doubles, std::optional<Doubles>, std::optional<Doubles>>;
// kind, kept, levels, mask, seed
using CompressionTuple = std::tuple<std::string, Index, Index, std::optional<py::array>, std::uint64_t>;
using Arrays = std::map<std::string, py::array>;
using WalkTuple = std::tuple<SumsTuple, Index, std::vector<PassTuple>, bool>;

SumsTuple to_tuple(const Sums& s) {
    return {s.rows, s.loss, s.xx, s.xt, s.tt, s.pairs, s.pair_xx, s.pair_xt, s.pair_tt};
}

// The memory itself, not a copy.
Doubles to_array(Buffer<double>&& values, std::vector<py::ssize_t> shape) {
    auto kept = std::make_unique<Buffer<double>>(std::move(values));
    double* const data = kept->data();
    const py::capsule owner(kept.release(), [](void* p) { delete static_cast<Buffer<double>*>(p); });
    return Doubles(std::move(shape), data, owner);
}

PassTuple to_tuple(Pass&& p, Index k, Index d) {
    std::optional<Doubles> anchor, anchor_b;
    if (p.anchor_grad.size() > 0) {
        anchor = to_array(std::move(p.anchor_grad), {k, d});
        anchor_b = to_array(std::move(p.anchor_grad_intercept), {k});
    }
    return {to_tuple(p.sums), to_array(std::move(p.grad), {k, d}), to_array(std::move(p.grad_intercept), {k}), anchor,
            anchor_b};
}

// Ctrl-C inside a loop: the signal's handler runs here and its exception unwinds the loop.
void poll() {
    const py::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

LossKind loss_kind(const std::string& name) {
    if (name == "squared") return LossKind::squared;
    if (name == "logistic") return LossKind::logistic;
    if (name == "softmax") return LossKind::softmax;
    throw std::invalid_argument("unknown loss " + name);
}

AnchorKind anchor_kind(const std::string& name) {
    if (name == "none") return AnchorKind::none;
    if (name == "weights") return AnchorKind::weights;
    if (name == "table") return AnchorKind::table;
    throw std::invalid_argument("unknown source " + name);
}

ControlVariate control_variate(double lam, const std::string& source, bool use_mean, bool update_table,
                               std::optional<double> temperature) {
    return {lam, anchor_kind(source), use_mean, update_table, temperature.value_or(0.0)};
}

// The rows of an epoch, refreshes apart.
Route route_of(const py::array& order, const py::array& rates, Index batch_size, Index n, double loss_limit) {
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

// X: an array of rows, or what sparse, compact or virtual ones are made of. y: an array, or the model of virtual rows' targets.
using RowArrays = std::variant<py::array, CsrArrays, CompactArrays, VirtualArrays>;
using TargetArrays = std::variant<py::array, ModelArrays>;

// A core session together with the arrays that it reads.
template <class T>
class Bound {
  public:
    Bound(RowArrays X, TargetArrays y, const std::string& loss, Index k, std::optional<py::array> weights, bool fit_intercept,
          int n_threads)
        : X_(std::move(X)), y_(std::move(y)), weights_(std::move(weights)) {
        Problem<T> p;
        if (const CsrArrays* sparse = std::get_if<CsrArrays>(&X_)) {
            p.sparse = csr_rows<T>(*sparse, "X");
            p.X.n = std::get<2>(*sparse).size() - 1, p.X.d = std::get<3>(*sparse);
        } else if (const CompactArrays* compact = std::get_if<CompactArrays>(&X_)) {
            p.compact = compact_rows<T>(*compact, "X");
            p.X.n = std::get<0>(*compact).shape(0), p.X.d = std::get<0>(*compact).shape(1);
        } else if (const VirtualArrays* generated = std::get_if<VirtualArrays>(&X_)) {
            p.generated = virtual_rows<T>(*generated, "X");
            p.X.n = std::get<0>(*generated), p.X.d = std::get<1>(*generated);
        } else {
            p.X = dense_rows<T>(std::get<py::array>(X_), "X");
        }
        p.loss = loss_kind(loss);
        p.k = k;
        p.fit_intercept = fit_intercept;
        require(n_threads > 0 && n_threads <= kMaxThreads, "n_threads: out of range");
        p.threads = n_threads;
        require(p.X.n > 0 && p.X.d > 0 && k > 0, "X: at least one row, feature and output expected");
        require(k > 1 || p.loss != LossKind::softmax, "k: softmax takes two outputs or more");
        require(k == 1 || p.loss != LossKind::logistic, "k: logistic takes one output");
        const ModelArrays* const model = std::get_if<ModelArrays>(&y_);
        require((model != nullptr) == p.is_virtual(), "y: virtual rows and a model of their targets go together");
        if (model) {
            p.y.model = virtual_targets<T>(*model, k, p.X.d);
        } else if (const py::array& y_array = std::get<py::array>(y_); y_array.ndim() == 1) {
            require(p.loss == LossKind::softmax, "y: labels go with softmax only");
            p.y.labels = flat<std::int64_t>(y_array, p.X.n, "y");
            require(all_below(p.y.labels, p.X.n, k), "y: label out of range");
        } else {
            p.y.values = dense_rows<T>(y_array, "y");
            require(p.y.values.n == p.X.n && p.y.values.d == k, "y: (n, k) expected");
        }
        if (weights_) p.weights = flat<T>(*weights_, p.X.n, "weights");
        session_ = std::make_unique<Session<T>>(p);
    }

    void set_weights(const py::array& coef, const py::array& intercept) { session_->set_weights(w(coef), b(intercept)); }
    void set_mean(const py::array& coef, const py::array& intercept) { session_->set_mean(w(coef), b(intercept)); }
    auto weights() const { return read(&Session<T>::weights); }
    auto average() const { return read(&Session<T>::average); }

    // What an epoch leaves to the next, by the names of backends/base.py: Session.state.
    Arrays state(bool anchor, bool table) const {
        const Session<T>& s = *session_;
        const Carried carried = s.carried();
        Arrays out;
        add(out, "coef", "intercept", &Session<T>::weights);
        if (carried.velocity) add(out, "velocity", "velocity_intercept", &Session<T>::velocity);
        if (carried.averaged > 0) add(out, "average", "average_intercept", &Session<T>::running_average);
        out["counts"] = numbers<std::int64_t>({carried.averaged, static_cast<std::int64_t>(carried.compressed)});
        if (anchor) {
            add(out, "anchor", "anchor_intercept", &Session<T>::anchor);
            add(out, "mean", "mean_intercept", &Session<T>::mean);
            out["anchor_flags"] = numbers<bool>({carried.cached, carried.mean});
        }
        if (table && s.has_table()) out["table"] = py::array_t<T>({s.n(), s.k()}, s.table());
        return out;
    }

    void set_state(const Arrays& state) {
        const Index k = session_->k(), size = k * session_->d();
        const auto has = [&](const char* name) { return state.count(name) > 0; };
        const auto get = [&](const char* name) -> const py::array& {
            require(has(name), std::string(name) + ": missing");
            return state.at(name);
        };
        const std::int64_t* const counts = flat<std::int64_t>(get("counts"), 2, "counts");
        require(counts[0] >= 0 && counts[1] >= 0, "counts: steps expected");
        require((counts[0] > 0) == has("average"), "average: it goes with its steps");
        const T *velocity = nullptr, *velocity_b = nullptr, *table = nullptr;
        const double *average = nullptr, *average_b = nullptr;
        if (has("velocity")) velocity = w(get("velocity")), velocity_b = b(get("velocity_intercept"));
        if (has("average")) {
            average = flat<double>(get("average"), size, "average");
            average_b = flat<double>(get("average_intercept"), k, "average_intercept");
        }
        set_weights(get("coef"), get("intercept"));
        session_->carry_on({counts[0], static_cast<std::uint64_t>(counts[1])}, velocity, velocity_b, average, average_b);
        if (!has("anchor_flags")) return;
        const bool* const asked = flat<bool>(get("anchor_flags"), 2, "anchor_flags");
        const T *anchor = w(get("anchor")), *anchor_b = b(get("anchor_intercept"));
        if (has("table")) table = flat<T>(get("table"), session_->n() * k, "table");
        set_mean(get("mean"), get("mean_intercept"));
        const py::gil_scoped_release release;
        session_->place_anchor(anchor, anchor_b, table, asked[0], asked[1], poll);
    }

    std::optional<PassTuple> anchor_at(const py::array& coef, const py::array& intercept, bool cached, bool mean) {
        const T *cw = w(coef), *cb = b(intercept);
        return released([&] { return session_->anchor_at(cw, cb, cached, mean, poll); });
    }

    std::optional<PassTuple> anchor_table(const py::array& values, bool mean) {
        const T* v = flat<T>(values, session_->n() * session_->k(), "values");
        return released([&] { return session_->anchor_table(v, mean, poll); });
    }

    PassTuple evaluate(const py::array& coef, const py::array& intercept, double lam, const std::string& source, bool use_mean,
                       bool update_table, std::optional<double> temperature) {
        const T *cw = w(coef), *cb = b(intercept);
        const ControlVariate v = control_variate(lam, source, use_mean, update_table, temperature);
        require(v.source != AnchorKind::table || session_->has_table(), "source: no table was stored");
        return *released([&] { return std::optional<Pass>(session_->evaluate(cw, cb, v, poll)); });
    }

    py::array_t<T> logits(const py::array& coef, const py::array& intercept) {
        const T *cw = w(coef), *cb = b(intercept);
        py::array_t<T> z({session_->n(), session_->k()});
        T* const out = z.mutable_data();
        const py::gil_scoped_release release;
        session_->logits(cw, cb, out, poll);
        return z;
    }

    py::array_t<T> combine(const py::array& C) { return multiplied(C, session_->d(), &Session<T>::combine); }
    py::array_t<T> images(const py::array& C) { return multiplied(C, session_->n(), &Session<T>::images); }

    Doubles gram(const py::array& rows, const py::array& weights) const {
        require(session_->is_sparse(), "X: sparse rows expected");
        const Index count = rows.size(), p = session_->d() + (session_->fit_intercept() ? 1 : 0);
        const std::int64_t* r = flat<std::int64_t>(rows, count, "rows");
        require(all_below(r, count, session_->n()), "rows: no such row");
        const double* t = flat<double>(weights, count, "weights");
        Doubles G({p, p});
        double* const out = G.mutable_data();
        const py::gil_scoped_release release;
        session_->gram(r, t, count, out, poll);
        return G;
    }

    WalkTuple epoch(const py::array& order, const py::array& rates, const py::array& refresh_at, double loss_limit,
                    Index batch_size, double l2, double l1, double momentum, bool nesterov, bool average, bool statistics,
                    Index pairs_every, const std::optional<CompressionTuple>& compression, double lam,
                    const std::string& source, bool use_mean, bool update_table, std::optional<double> temperature) {
        require(pairs_every > 0, "pairs_every: at least one expected");
        Route route = route_of(order, rates, batch_size, session_->n(), loss_limit);
        route.n_refresh = refresh_at.size();
        route.refresh_at = flat<std::int64_t>(refresh_at, route.n_refresh, "refresh_at");
        const Step step{batch_size, l2, l1, momentum, nesterov, average, statistics, pairs_every, compressed(compression)};
        const ControlVariate v = control_variate(lam, source, use_mean, update_table, temperature);
        require((v.source != AnchorKind::table && !update_table) || session_->has_table(), "source: no table was stored");
        Walk walk;
        {
            const py::gil_scoped_release release;
            walk = session_->epoch(route, step, v, poll);
        }
        std::vector<PassTuple> passes;
        for (Pass& p : walk.passes) passes.push_back(to_tuple(std::move(p), session_->k(), session_->d()));
        return {to_tuple(walk.sums), walk.steps, std::move(passes), walk.exploded};
    }

    const Session<T>& session() const { return *session_; }

  private:
    Compression compressed(const std::optional<CompressionTuple>& given) const {
        Compression q;
        if (!given) return q;
        const auto& [kind, kept, levels, mask, seed] = *given;
        const Index size = session_->k() * session_->d();
        q.kept = kept, q.levels = levels, q.seed = seed;
        if (kind == "mask") {
            q.kind = CompressionKind::mask;
            require(mask.has_value(), "mask: k x d truth values expected");
            q.mask = flat<bool>(*mask, size, "mask");
        } else if (kind == "random" || kind == "top") {
            q.kind = kind == "top" ? CompressionKind::top : CompressionKind::random;
            require(kept >= 1 && kept <= size, "kept: 1 to k d expected");
        } else {
            q.kind = CompressionKind::rounding;
            require(kind == "rounding" && levels >= 1, "compression: a kind and its numbers expected");
        }
        return q;
    }
    const T* w(const py::array& a) const { return flat<T>(a, session_->k() * session_->d(), "coef"); }
    const T* b(const py::array& a) const { return flat<T>(a, session_->k(), "intercept"); }

    py::array_t<T> multiplied(const py::array& C, Index columns, void (Session<T>::*multiply)(const T*, T*, const Poll&)) {
        require(session_->is_sparse() && session_->n() <= std::numeric_limits<std::int32_t>::max(), "X: sparse rows expected");
        const T* numbers = flat<T>(C, session_->k() * session_->n(), "numbers");
        py::array_t<T> product({session_->k(), columns});
        T* const out = product.mutable_data();
        const py::gil_scoped_release release;
        (session_.get()->*multiply)(numbers, out, poll);
        return product;
    }

    std::pair<py::array_t<T>, py::array_t<T>> read(void (Session<T>::*get)(T*, T*) const) const {
        py::array_t<T> coef({session_->k(), session_->d()}), intercept(session_->k());
        (session_.get()->*get)(coef.mutable_data(), intercept.mutable_data());
        return {coef, intercept};
    }

    template <class U>
    void add(Arrays& to, const char* name, const char* name_intercept, void (Session<T>::*get)(U*, U*) const) const {
        py::array_t<U> coef({session_->k(), session_->d()}), intercept(session_->k());
        (session_.get()->*get)(coef.mutable_data(), intercept.mutable_data());
        to[name] = coef, to[name_intercept] = intercept;
    }
    template <class U>
    static py::array_t<U> numbers(std::initializer_list<U> values) {
        return py::array_t<U>(static_cast<py::ssize_t>(values.size()), values.begin());
    }

    template <class F>
    std::optional<PassTuple> released(F&& f) {
        std::optional<Pass> p;
        {
            const py::gil_scoped_release release;
            p = f();
        }
        if (!p) return std::nullopt;
        return to_tuple(std::move(*p), session_->k(), session_->d());
    }

    RowArrays X_;
    TargetArrays y_;
    std::optional<py::array> weights_;
    std::unique_ptr<Session<T>> session_;
};

using DeepWalkTuple = std::tuple<SumsTuple, Index, bool>;

// The layers of a deep linear model over the data of a session, which Python keeps alive.
template <class T>
class BoundDeep {
  public:
    BoundDeep(const Bound<T>& linear, const std::vector<Index>& widths, bool own) : own_(own) {
        const Session<T>& s = linear.session();
        require(widths.size() >= 2 && widths.front() == s.d() && widths.back() == s.k(), "widths: d, .., k expected");
        for (const Index width : widths) require(width > 0, "widths: positive numbers expected");
        deep_ = std::make_unique<Deep<T>>(s, widths, own);
    }

    void set_weights(const py::array& layers, const py::array& intercept) { deep_->set_weights(all(layers), b(intercept)); }
    void set_mean(const py::array& mean, const py::array& intercept) {
        deep_->set_mean(flat<T>(mean, deep_->mean_size(), "mean"), b(intercept));
        has_mean_ = true;
    }
    void set_anchor(const py::array& coef, const py::array& intercept, const std::optional<py::array>& layers) {
        require(layers.has_value() == own_, "layers: they go with own_jacobian");
        const Session<T>& s = deep_->linear();
        deep_->set_anchor(flat<T>(coef, s.k() * s.d(), "coef"), b(intercept), layers ? all(*layers) : nullptr);
        has_anchor_ = true;
    }

    std::pair<py::array_t<T>, py::array_t<T>> weights() const { return read(&Deep<T>::weights); }
    std::optional<std::pair<py::array_t<T>, py::array_t<T>>> velocity() const {
        if (!deep_->has_velocity()) return std::nullopt;
        return read(&Deep<T>::velocity);
    }
    void set_velocity(const py::array& layers, const py::array& intercept) { deep_->set_velocity(all(layers), b(intercept)); }

    DeepWalkTuple epoch(const py::array& order, const py::array& rates, bool collapse, double loss_limit, Index batch_size,
                        double l2, double momentum, bool nesterov, double lam, const std::string& source, bool use_mean,
                        std::optional<double> temperature) {
        const Session<T>& s = deep_->linear();
        const Route route = route_of(order, rates, batch_size, s.n(), loss_limit);
        const ControlVariate v = control_variate(lam, source, use_mean, false, temperature);
        const bool anchored = has_anchor_ || (!own_ && v.source == AnchorKind::table);
        require(v.source != AnchorKind::table || s.has_table(), "source: no table was stored");
        require(v.source == AnchorKind::none || anchored, "source: no anchor was set");
        require(!use_mean || has_mean_, "use_mean: no mean was set");
        require(!use_mean || own_ || collapse, "collapse: the mean of a product goes with it");
        Walk walk;
        {
            const py::gil_scoped_release release;
            walk = deep_->epoch(route, {batch_size, l2, momentum, nesterov, collapse}, v, poll);
        }
        return {to_tuple(walk.sums), walk.steps, walk.exploded};
    }

  private:
    std::pair<py::array_t<T>, py::array_t<T>> read(void (Deep<T>::*get)(T*, T*) const) const {
        py::array_t<T> layers(deep_->size()), intercept(deep_->linear().k());
        (deep_.get()->*get)(layers.mutable_data(), intercept.mutable_data());
        return {layers, intercept};
    }
    const T* all(const py::array& a) const { return flat<T>(a, deep_->size(), "layers"); }
    const T* b(const py::array& a) const { return flat<T>(a, deep_->linear().k(), "intercept"); }

    std::unique_ptr<Deep<T>> deep_;
    bool own_, has_anchor_ = false, has_mean_ = false;
};

template <class T>
void bind_deep(py::module_& m, const char* name, const char* doc) {
    using B = BoundDeep<T>;
    py::class_<B>(m, name, doc)
        .def(py::init<const Bound<T>&, const std::vector<Index>&, bool>(), py::arg("linear"), py::arg("widths"),
             py::arg("own_jacobian"), py::keep_alive<1, 2>())
        .def("set_weights", &B::set_weights, py::arg("coef"), py::arg("intercept"))
        .def("set_mean", &B::set_mean, py::arg("mean"), py::arg("mean_intercept"))
        .def("set_anchor", &B::set_anchor, py::arg("coef"), py::arg("intercept"), py::arg("layers"))
        .def("weights", &B::weights)
        .def("velocity", &B::velocity)
        .def("set_velocity", &B::set_velocity, py::arg("coef"), py::arg("intercept"))
        .def("epoch", &B::epoch, py::arg("order"), py::arg("learning_rates"), py::kw_only(), py::arg("collapse"),
             py::arg("loss_limit"), py::arg("batch_size"), py::arg("l2"), py::arg("momentum"), py::arg("nesterov"),
             py::arg("lam"), py::arg("source"), py::arg("use_mean"), py::arg("temperature"));
}

template <class T>
void bind_session(py::module_& m, const char* name, const char* doc) {
    using B = Bound<T>;
    py::class_<B>(m, name, doc)
        .def(py::init<RowArrays, TargetArrays, const std::string&, Index, std::optional<py::array>, bool, int>(), py::arg("X"),
             py::arg("y"), py::arg("loss"), py::arg("n_outputs"), py::arg("weights"), py::arg("fit_intercept"),
             py::arg("n_threads"))
        .def("set_weights", &B::set_weights, py::arg("coef"), py::arg("intercept"))
        .def("set_mean", &B::set_mean, py::arg("mean"), py::arg("mean_intercept"))
        .def("weights", &B::weights)
        .def("average", &B::average)
        .def("state", &B::state, py::kw_only(), py::arg("anchor"), py::arg("table"))
        .def("set_state", &B::set_state, py::arg("state"))
        .def("anchor_at", &B::anchor_at, py::arg("coef"), py::arg("intercept"), py::kw_only(), py::arg("cached"),
             py::arg("mean"))
        .def("anchor_table", &B::anchor_table, py::arg("values"), py::kw_only(), py::arg("mean"))
        .def("evaluate", &B::evaluate, py::arg("coef"), py::arg("intercept"), py::kw_only(), py::arg("lam"), py::arg("source"),
             py::arg("use_mean"), py::arg("update_table"), py::arg("temperature"))
        .def("logits", &B::logits, py::arg("coef"), py::arg("intercept"))
        .def("combine", &B::combine, py::arg("numbers"))
        .def("images", &B::images, py::arg("numbers"))
        .def("gram", &B::gram, py::arg("rows"), py::arg("weights"))
        .def("epoch", &B::epoch, py::arg("order"), py::arg("learning_rates"), py::kw_only(), py::arg("refresh_at"),
             py::arg("loss_limit"), py::arg("batch_size"), py::arg("l2"), py::arg("l1"), py::arg("momentum"),
             py::arg("nesterov"), py::arg("average"), py::arg("statistics"), py::arg("pairs_every"), py::arg("compression"),
             py::arg("lam"), py::arg("source"), py::arg("use_mean"), py::arg("update_table"), py::arg("temperature"));
}

bool csr_sound_of(const CsrArrays& X, bool finite) {
    return py::isinstance<py::array_t<float>>(std::get<0>(X)) ? csr_sound<float>(X, finite) : csr_sound<double>(X, finite);
}

py::array_t<std::int64_t> shuffled(const py::array& words) {
    const std::uint64_t* const w = flat<std::uint64_t>(words, words.size(), "words");
    py::array_t<std::int64_t> order(words.size());
    shuffle(w, words.size(), order.mutable_data());
    return order;
}

double measure_fma_peak(const std::string& dtype, double seconds, int n_threads) {
    require(dtype == "float32" || dtype == "float64", "dtype: float32 or float64 expected");
    require(n_threads > 0 && n_threads <= kMaxThreads, "n_threads: out of range");
    const py::gil_scoped_release release;
    return dtype == "float32" ? fma_peak<float>(seconds, n_threads) : fma_peak<double>(seconds, n_threads);
}

double measure_read_bandwidth(Index bytes, double seconds, int n_threads) {
    require(bytes > 0, "bytes: at least one expected");
    require(n_threads > 0 && n_threads <= kMaxThreads, "n_threads: out of range");
    const py::gil_scoped_release release;
    return read_bandwidth(bytes, seconds, n_threads);
}

}  // namespace
}  // namespace kdvr::bindings

PYBIND11_MODULE(_core, m) {
    namespace b = kdvr::bindings;
    namespace py = pybind11;
    m.doc() = "Compiled core of kdvr_fast: sessions on float32 and float64 rows; see kdvr_fast.backends.base for the contract.";
    b::bind_session<float>(m, "SessionFloat32", "A problem with float32 rows.");
    b::bind_session<double>(m, "SessionFloat64", "A problem with float64 rows.");
    b::bind_deep<float>(m, "DeepFloat32", "Steps of a deep linear model on float32 rows; see kdvr_fast.backends.deep.");
    b::bind_deep<double>(m, "DeepFloat64", "Steps of a deep linear model on float64 rows.");
    m.def("isa", &kdvr::current_isa, "Instruction set in use; KDVR_ISA in the environment forces one.");
    m.def("isa_available", &kdvr::available_isas,
          "Instruction sets compiled in and supported by this processor, slowest first.");
    m.def("csr_sound", &b::csr_sound_of, py::arg("X"), py::arg("finite"),
          "Whether features rise within each row and, if asked, all values are finite. Raises ValueError where features or "
          "offsets are out of range.");
    m.def("shuffled", &b::shuffled, py::arg("words"), "The order that kdvr_fast/_order.py makes of random 64-bit words.");
    m.def("measure_fma_peak", &b::measure_fma_peak, py::arg("dtype"), py::arg("seconds") = 0.2, py::arg("n_threads") = 1,
          "Multiply-adds a second of this machine, best of the trials that fit into `seconds`.");
    m.def("measure_read_bandwidth", &b::measure_read_bandwidth, py::arg("bytes"), py::arg("seconds") = 0.5,
          py::arg("n_threads") = 1, "Bytes a second that this machine reads in order from so much memory, best of the trials.");
}
