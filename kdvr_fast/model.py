"""Models in files: what `save` writes and `load` gives back. Nothing in a file can be made to run.

A file is safetensors with JSON in its metadata, versioned and with a checksum (`_store.py`). Arrays: "coef" (k, d),
"intercept" (k,), of a deep model also "layer.0", "layer.1", ..; "classes" where these are numbers. JSON: the loss, names of
features, classes that are text, and where the model came from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _store
from . import _validation as check
from ._layers import product
from ._rows import is_compact, is_sparse
from ._version import __version__
from .backends.base import FloatArray
from .losses import LOSSES, Loss
from .result import Result, predictions

if TYPE_CHECKING:
    from .teachers import Teacher

_KIND, _VERSION = "kdvr-model", 1


@dataclass(frozen=True, eq=False)
class Model:
    """A fitted model, z = W a + b, without what fitted it; made by `Model.of` or `load`.

    coef (k, d), intercept (k,): float32 or float64. loss: a name of `LOSSES`, which says what z means. layers: W_1 .. W_L of a
    `DeepLinear` model, whose product coef is. classes: values of the labels 0 .. k-1 (0 and 1 for "logistic"), None: these
    themselves. feature_names: of X's columns, None where there were none. info: where the model came from, as JSON takes it;
    "table" in it says which columns `kdvr train` read, and how.

    >>> import tempfile
    >>> import kdvr_fast as kd
    >>> run = kd.solve([[0.0], [1.0]], [0, 1], loss="softmax", batch_size=1, backend="reference")
    >>> path = tempfile.mkdtemp() + "/model.safetensors"
    >>> kd.save(run, path)
    >>> kd.load(path).predict([[-1.0], [2.0]]).tolist()
    [0, 1]
    """

    coef: FloatArray
    intercept: FloatArray
    loss: str
    layers: tuple[FloatArray, ...] | None = None
    classes: NDArray[Any] | None = None
    feature_names: tuple[str, ...] | None = None
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check.choice(self.loss, tuple(LOSSES), "loss")
        coef, b = self.coef, self.intercept
        if coef.ndim != 2 or coef.dtype not in (np.float32, np.float64) or coef.dtype != b.dtype:
            raise ValueError(
                f"coef is {coef.dtype} {coef.shape}, intercept {b.dtype}; expected (k, d), both float32 or float64"
            )
        check.shape(b, (len(coef),), "intercept", "one number an output")
        check.finite(coef, "coef")
        check.finite(b, "intercept")
        names, classes = self.feature_names, self.classes
        if names is not None and len(names) != coef.shape[1]:
            raise ValueError(f"there are {len(names)} feature_names and {coef.shape[1]} features")
        if classes is not None and (self._values or len(classes) != self._n_classes):
            raise ValueError(
                f"there are {len(classes)} classes, loss={self.loss!r} with {len(coef)} outputs has {self._n_classes}"
            )
        if self.layers is not None:
            P = product(check.layers(self.layers, "layers"))
            if P.shape != coef.shape or not np.allclose(P, coef, rtol=1e-3, atol=1e-3 * float(np.abs(coef).max(initial=0.0))):
                raise ValueError("the product of the layers is not coef")

    @classmethod
    def of(cls, fitted: Any) -> Model:
        """The model of a `Result`, or of a fitted estimator of this package.

        Raises TypeError for anything else, ValueError for a `Loss.custom`, whose functions are code.
        """
        if isinstance(fitted, Model):
            return fitted
        if isinstance(fitted, Result):
            if isinstance(fitted.loss, Loss):
                raise ValueError(
                    f"loss {fitted.loss.name!r} is custom, and a model file holds no code: save coef and intercept"
                )
            layers = None if fitted.weights is None else tuple(fitted.weights)
            info = {"method": repr(fitted.method), "epochs": fitted.epochs, "status": str(fitted.status)}
            info |= {"backend": fitted.backend, "random_state": fitted.random_state, "kdvr_fast": __version__}
            return cls(fitted.coef, fitted.intercept, fitted.loss, layers, info=info)
        if not all(hasattr(fitted, name) for name in ("coef_", "intercept_", "loss_")):
            raise TypeError(
                f"a model is made of a Result or a fitted estimator of kdvr_fast, got {type(fitted).__name__}"
                + (": fit it first" if hasattr(fitted, "fit") else "")
            )
        layers, names = getattr(fitted, "layers_", None), getattr(fitted, "feature_names_in_", None)
        coef = np.atleast_2d(fitted.coef_)
        return cls(
            coef,
            np.broadcast_to(fitted.intercept_, len(coef)).astype(coef.dtype),
            fitted.loss_,
            None if layers is None else tuple(layers),
            getattr(fitted, "classes_", None),
            None if names is None else tuple(str(name) for name in names),
            {"estimator": type(fitted).__name__, "kdvr_fast": __version__},
        )

    @property
    def _values(self) -> bool:
        """Whether the outputs are values, not classes."""
        return LOSSES[self.loss].targets == "real"

    @property
    def _n_classes(self) -> int:
        return 2 if len(self.coef) == 1 else len(self.coef)

    @property
    def labels(self) -> NDArray[Any] | None:
        """The class of each number that `solve` knows: `classes`, or 0, 1, .. where there are none. None for values."""
        return None if self._values else np.arange(self._n_classes) if self.classes is None else self.classes

    def decision_function(self, X: ArrayLike) -> FloatArray:
        """Logits z = W a + b, (n, k), of X's dtype; for the squared loss these are the predicted values.

        A frame's columns are taken by name where the model has names.
        """
        A = check.features(self._in_order(X))[:]
        if A.shape[1] != self.coef.shape[1]:
            raise ValueError(f"X has {A.shape[1]} features, the model has {self.coef.shape[1]}")
        Z: FloatArray = A @ self.coef.T.astype(A.dtype) + self.intercept.astype(A.dtype)
        return Z

    def _in_order(self, X: Any) -> Any:
        """Rows as they are multiplied: frames and integers as numbers, columns in the model's order."""
        if is_sparse(X) or is_compact(X) or isinstance(X, np.memmap):
            return X
        if self.feature_names is not None and hasattr(X, "columns"):
            missing = [name for name in self.feature_names if name not in X.columns]
            if missing:
                raise ValueError(f"X has no column {missing[0]!r}; the model was fitted on {list(self.feature_names[:10])}")
            X = X[list(self.feature_names)]
        A = np.ascontiguousarray(X)
        return A.astype(self.coef.dtype) if A.dtype.kind in "biu" else A

    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """Probabilities of the classes, (n, classes). Raises ValueError for the squared loss."""
        if self._values:
            raise ValueError(f"loss={self.loss!r} has no probabilities; use predict")
        P: FloatArray = LOSSES[self.loss].link(self.decision_function(X))
        return np.hstack([1 - P, P]) if P.shape[1] == 1 else P

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Classes (n,), or for squared values: (n,) if there is one output, else (n, k)."""
        made = predictions(self.decision_function(X), LOSSES[self.loss])
        return made if self.classes is None else self.classes[made]

    def teacher(self) -> Teacher:
        """The model as a teacher, with its layers where it has any."""
        from .teachers import Teacher

        if self.layers is not None:
            return Teacher.layers(self.layers, self.intercept)
        return Teacher.weights(self.coef, self.intercept)

    def to_sklearn(self) -> Any:
        """A fitted scikit-learn model that predicts the same: LogisticRegression, or LinearRegression for the squared loss."""
        from ._export import to_sklearn

        return to_sklearn(self)

    def to_torch(self) -> Any:
        """A torch module that gives the logits: Linear, or a Sequential of these for layers. Needs torch."""
        from ._export import to_torch

        return to_torch(self)

    def to_onnx(self, path: str | Path | None = None) -> Any:
        """An ONNX model, written to `path` if that is given. Needs `kdvr_fast[onnx]`.

        Input "X" (n, d) of coef's dtype. Outputs: "label" (n,) and "probabilities" (n, classes), or for the squared loss
        "values" (n, k).
        """
        from ._export import to_onnx

        return to_onnx(self, None if path is None else Path(path))


def save(fitted: Any, path: str | Path) -> None:
    """Write a `Result`, a fitted estimator of this package or a `Model` to a file, over what is there, in one step.

    Raises as `Model.of` does, and OSError where the file cannot be written.
    """
    model = Model.of(fitted)
    arrays: dict[str, NDArray[Any]] = {"coef": model.coef, "intercept": model.intercept}
    arrays |= {f"layer.{i}": W for i, W in enumerate(model.layers or ())}
    text, classes = None, model.classes
    if classes is not None and classes.dtype.kind in "biuf":
        arrays["classes"] = classes
    elif classes is not None:
        text = classes.tolist()
        if not all(isinstance(one, str) for one in text):
            raise TypeError(f"classes are {classes.dtype}; a model file holds numbers or text")
    data = {"loss": model.loss, "feature_names": model.feature_names, "classes": text, "layers": len(model.layers or ())}
    _store.write(Path(path), _KIND, _VERSION, data | {"info": model.info}, arrays)


def load(path: str | Path) -> Model:
    """Read a model that `save` wrote.

    Raises FileNotFoundError, or ValueError for a file that is truncated, damaged, of a later version or something else.
    """
    data, arrays = _store.read(Path(path), _KIND, _VERSION)
    try:
        classes = arrays.get("classes") if data["classes"] is None else np.array(data["classes"])
        names = None if data["feature_names"] is None else tuple(data["feature_names"])
        layers = tuple(arrays[f"layer.{i}"] for i in range(data["layers"])) or None
        return Model(arrays["coef"], arrays["intercept"], data["loss"], layers, classes, names, data["info"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no sound {_KIND} file: {error}") from error
