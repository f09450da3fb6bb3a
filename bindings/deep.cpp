// Purpose: steps of a deep linear model as a Python class.
#include "kdvr/deep.hpp"

#include "session.hpp"

namespace kdvr::bindings {

namespace {

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

}  // namespace

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

template void bind_deep<float>(py::module_&, const char*, const char*);
template void bind_deep<double>(py::module_&, const char*, const char*);

}  // namespace kdvr::bindings
