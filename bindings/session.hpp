// Purpose: a core session as a Python class.
#pragma once

#include <pybind11/stl.h>

#include <initializer_list>
#include <map>
#include <variant>

#include "convert.hpp"

namespace kdvr::bindings {

using Arrays = std::map<std::string, py::array>;
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

template <class T>
void bind_session(py::module_& m, const char* name, const char* doc);
template <class T>
void bind_deep(py::module_& m, const char* name, const char* doc);

}  // namespace kdvr::bindings
