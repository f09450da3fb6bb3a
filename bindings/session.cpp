#include "session.hpp"

namespace kdvr::bindings {

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

template void bind_session<float>(py::module_&, const char*, const char*);
template void bind_session<double>(py::module_&, const char*, const char*);

}  // namespace kdvr::bindings
