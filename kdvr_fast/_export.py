"""Models for scikit-learn, torch and onnxruntime. W (k, d), b (k,), z = W a + b."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _store
from .losses import LOSSES

if TYPE_CHECKING:
    from .model import Model

_OPSET, _IR = 17, 8  # of 2022: what runtimes in use read


def _values(model: Model) -> bool:
    """Whether the outputs are values, not classes."""
    return LOSSES[model.loss].targets == "real"


def to_sklearn(model: Model) -> Any:
    """See `Model.to_sklearn`."""
    from sklearn.linear_model import LinearRegression, LogisticRegression

    W, b = model.coef, model.intercept
    made = LinearRegression() if _values(model) else LogisticRegression()
    if _values(model):
        made.coef_, made.intercept_ = (W[0], b[0]) if len(W) == 1 else (W, b)
    else:
        two = len(W) == 2  # scikit-learn keeps the difference of two classes
        made.coef_, made.intercept_ = (W[1:] - W[:1], b[1:] - b[:1]) if two else (W, b)
        made.classes_ = np.arange(max(2, len(W))) if model.classes is None else model.classes
        made.n_iter_ = np.array([model.info.get("epochs", 0)], np.int32)
    made.n_features_in_ = W.shape[1]
    if model.feature_names is not None:
        made.feature_names_in_ = np.array(model.feature_names, object)
    return made


def to_torch(model: Model) -> Any:
    """See `Model.to_torch`."""
    try:
        import torch
    except ImportError as error:
        raise ImportError("to_torch needs torch: pip install torch") from error

    def linear(W: Any, b: Any = None) -> Any:
        dtype = torch.float64 if W.dtype == np.float64 else torch.float32
        layer = torch.nn.Linear(W.shape[1], W.shape[0], bias=b is not None, dtype=dtype)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(np.array(W)))
            if b is not None:
                layer.bias.copy_(torch.from_numpy(np.array(b)))
        return layer

    if model.layers is None:
        return linear(model.coef, model.intercept)
    *first, last = model.layers
    return torch.nn.Sequential(*(linear(W) for W in first), linear(last, model.intercept))


def to_onnx(model: Model, path: Path | None) -> Any:
    """See `Model.to_onnx`."""
    try:
        import onnx
        from onnx import helper, numpy_helper
    except ImportError as error:
        raise ImportError("to_onnx needs onnx: pip install 'kdvr_fast[onnx]'") from error
    layers, dtype = model.layers or (model.coef,), helper.np_dtype_to_tensor_dtype(model.coef.dtype)
    names = ["X", *(f"h{i}" for i in range(1, len(layers))), "values" if _values(model) else "z"]
    constants = {f"W{i}": W for i, W in enumerate(layers)} | {"b": model.intercept}
    inputs = [[name, f"W{i}"] for i, name in enumerate(names[:-1])]
    inputs[-1].append("b")
    nodes = [helper.make_node("Gemm", one, [to], transB=1) for one, to in zip(inputs, names[1:], strict=True)]
    k, d = model.coef.shape
    if _values(model):
        outputs = [helper.make_tensor_value_info("values", dtype, ["n", k])]
    else:
        more, of_classes, outputs = _onnx_classes(model, dtype)
        nodes += more
        constants |= of_classes
    graph = helper.make_graph(
        nodes,
        "kdvr_fast",
        [helper.make_tensor_value_info("X", dtype, ["n", d])],
        outputs,
        [numpy_helper.from_array(np.ascontiguousarray(v), name) for name, v in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR, producer_name="kdvr_fast")
    onnx.checker.check_model(made)
    if path is not None:
        _store.replace_file(path, lambda aside: onnx.save(made, aside))
    return made


def _onnx_classes(model: Model, dtype: int) -> tuple[list[Any], dict[str, Any], list[Any]]:
    """From logits "z" to "label" and "probabilities": nodes, constants, outputs."""
    from onnx import TensorProto, helper

    node, k = helper.make_node, len(model.coef)
    classes = np.arange(max(2, k)) if model.classes is None else model.classes
    text = classes.dtype.kind not in "biuf"
    constants: dict[str, Any] = {"classes": classes.astype(object) if text else classes}
    if k == 1:
        constants |= {"zero": np.zeros(1, model.coef.dtype), "one": np.ones(1, model.coef.dtype), "axis": np.array([1])}
        nodes = [
            node("Sigmoid", ["z"], ["p"]),
            node("Sub", ["one", "p"], ["q"]),
            node("Concat", ["q", "p"], ["probabilities"], axis=1),
            node("Greater", ["z", "zero"], ["above"]),
            node("Cast", ["above"], ["numbers"], to=TensorProto.INT64),
            node("Squeeze", ["numbers", "axis"], ["number"]),
        ]
    else:  # of equal ones the first, as in NumPy
        nodes = [node("Softmax", ["z"], ["probabilities"], axis=1), node("ArgMax", ["z"], ["number"], axis=1, keepdims=0)]
    nodes.append(node("Gather", ["classes", "number"], ["label"]))
    kind = TensorProto.STRING if text else helper.np_dtype_to_tensor_dtype(classes.dtype)
    outputs = [
        helper.make_tensor_value_info("label", kind, ["n"]),
        helper.make_tensor_value_info("probabilities", dtype, ["n", len(classes)]),
    ]
    return nodes, constants, outputs
