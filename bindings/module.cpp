// Purpose: kdvr_fast._core, the compiled half of backends/native.py. Loops run without the GIL and poll() for signals.
#include "kdvr/dispatch.hpp"
#include "kdvr/machine.hpp"
#include "kdvr/shuffle.hpp"
#include "session.hpp"

namespace kdvr::bindings {
namespace {

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
