"""What the two estimators share: parameters, fits as runs of `solve`, rows held out, the attributes that a fit leaves."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn import exceptions
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import train_test_split
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .. import _validation as check
from .._job import Callback, Progress
from ..backends.base import FloatArray
from ..deep import DeepLinear
from ..methods import LBFGS, Method
from ..result import ConvergenceWarning, Result, Status
from ..schedules import LearningRate
from ._guide import Guide
from ._run import choose_method, from_zero, piece, run, seed, tolerances, without_teacher
from ._task import Task
from ._watch import Bar, Patience, Score


class NotConverged(ConvergenceWarning, exceptions.ConvergenceWarning):  # type: ignore[misc]
    """max_iter came before tol was met. It is kdvr_fast's ConvergenceWarning and scikit-learn's."""


class KDEstimator(BaseEstimator, ABC):  # type: ignore[misc]
    """Parameters and attributes are described in `KDClassifier`."""

    coef_: FloatArray
    intercept_: FloatArray
    n_iter_: int
    loss_curve_: list[float]
    loss_: str

    def __init__(
        self,
        method: Method | None = None,
        *,
        model: DeepLinear | None = None,
        teacher: Any = None,
        rounds: int = 1,
        learning_rate: float | LearningRate | str | None = None,
        batch_size: int | None = None,
        max_iter: int = 1000,
        tol: float | str | None = "auto",
        alpha: float = 1e-4,
        l1_ratio: float = 0.0,
        fit_intercept: bool = True,
        momentum: float = 0.0,
        nesterov: bool = False,
        average: bool | int = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        random_state: Any = None,
        n_threads: int | None = None,
        backend: str = "auto",
        verbose: int = 0,
        callbacks: Sequence[Callback] | Callback = (),
    ) -> None:
        self.method = method
        self.model = model
        self.teacher = teacher
        self.rounds = rounds
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.momentum = momentum
        self.nesterov = nesterov
        self.average = average
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_threads = n_threads
        self.backend = backend
        self.verbose = verbose
        self.callbacks = callbacks

    def __sklearn_clone__(self) -> Any:
        """A copy without what was fitted, but with the same teacher: it is data of this estimator, and stays fitted."""
        parameters = self.get_params(deep=False)
        copy = type(self)(**{name: v if name == "teacher" else clone(v, safe=False) for name, v in parameters.items()})
        if hasattr(self, "_metadata_request"):
            copy._metadata_request = deepcopy(self._metadata_request)
        return copy

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # -- what the two differ in ----------------------------------------------------------------------------------------

    @abstractmethod
    def _held_targets(self, y_val: Any) -> NDArray[Any]:
        """Targets of the caller's validation rows, as those of a task."""

    @abstractmethod
    def _score_held(self, outputs: FloatArray, task: Task) -> float:
        """The score of outputs (n, k) on held-out rows."""

    def _shape(self, coef: FloatArray, intercept: FloatArray) -> None:
        """Set coef_ and intercept_ from (k, d) and (k,)."""
        self.coef_, self.intercept_ = coef, intercept

    # -- rows in, outputs out ------------------------------------------------------------------------------------------

    def _read_rows(self, X: Any) -> Any:
        """New rows, as many features as there were in fit."""
        return _canonical(validate_data(self, X, reset=False, **_kept(X)))

    def _read(self, X: Any, y: Any, *, reset: bool = True, **checks: Any) -> tuple[Any, NDArray[Any]]:
        """Rows and targets, checked as scikit-learn does; float32 stays, sparse rows become CSR."""
        rows, targets = validate_data(self, X, y, reset=reset, **_kept(X), **checks)
        return _canonical(rows), targets

    def _outputs(self, X: Any) -> FloatArray:
        """Logits or values (n, k) of new rows."""
        check_is_fitted(self)
        return _linear(self._read_rows(X), np.atleast_2d(self.coef_), self.intercept_)

    # -- fits ----------------------------------------------------------------------------------------------------------

    @property
    def _teaches_itself(self) -> bool:
        if isinstance(self.teacher, str) and self.teacher != "self":
            raise ValueError(f"teacher={self.teacher!r} is unknown; pass 'self' or a fitted estimator")
        return isinstance(self.teacher, str)

    def _learn(self, task: Task, score: Score | None) -> None:
        """A fit: of the task, or with teacher="self" of its labelled rows and then, `rounds` times, of all of them."""
        p = self.get_params(deep=False)
        start = self._go_on(task) if self.warm_start and hasattr(self, "coef_") else {}
        if not self._teaches_itself:
            self._train(task, choose_method(p, taught=task.guide is not None), score, start)
            return
        method = choose_method(p, taught=True)
        alone = task if task.labelled is None else task.rows(task.labelled)
        self._train(alone, without_teacher(method), score, start, "teacher")
        for number in range(check.count(self.rounds, "rounds", low=1)):
            weights = np.atleast_2d(self.coef_), self.intercept_
            guide = Guide(_linear(task.X, *weights), logits=True, weights=weights)
            self._train(replace(task, guide=guide), method, score, {}, f"round {number + 1}")

    def _train(self, task: Task, method: Method, score: Score | None, start: dict[str, Any], what: str = "fit") -> None:
        """Run to the end, keep what came of it, and warn where max_iter was the end."""
        p, full = self.get_params(deep=False), method.plan().full_batch is not None
        gradient, margin = tolerances(self.tol, task.X.dtype)
        watch = Patience(margin, check.count(self.n_iter_no_change, "n_iter_no_change", low=1), score)
        callbacks: list[Callback] = [] if full and score is None else [watch]
        with ExitStack() as stack:
            if self.verbose:
                callbacks.append(stack.enter_context(Bar(task.n, what)))
            if isinstance(method, LBFGS) and gradient:
                start = start | {"tol": from_zero(p, task, method, start, gradient) if start else gradient}
                stack.enter_context(warnings.catch_warnings())  # it is given below, as scikit-learn's
                warnings.simplefilter("ignore", ConvergenceWarning)
            result = run(p, task, method, callbacks, **start)
        self._keep(result, watch)
        exhausted = full and result.epochs < self.max_iter  # rounding hides any further decrease
        if result.status is Status.COMPLETED and margin is not None and not (exhausted and self.tol == "auto"):
            moving = "loss fell" if score is None else "validation score rose"
            said = f"{self.max_iter} epochs were run and the {moving} to the end: take a larger max_iter or tol"
            warnings.warn(result.message if full else said, NotConverged, stacklevel=4)

    def _walk(self, task: Task, *, first: bool) -> None:
        """One epoch over rows that come in pieces."""
        if self._teaches_itself:
            raise ValueError("partial_fit sees a part of the rows, and teacher='self' learns from all: use fit")
        done = 0 if first else self.n_iter_
        method, options = piece(self.get_params(deep=False), taught=task.guide is not None, done=done)
        start = {} if first else self._go_on(task, keep_pace=True)
        losses: list[float] = [] if first else self.loss_curve_
        result = run(self.get_params(deep=False), task, method, [], **start, **options)
        self._keep(result, Patience(None, 1, None))
        self.n_iter_, self.loss_curve_ = done + result.epochs, losses + self.loss_curve_

    def _go_on(self, task: Task, *, keep_pace: bool = False) -> dict[str, Any]:
        """Where the last fit ended, as options of `solve`; with its momentum and average if the pace is kept."""
        coef = np.atleast_2d(self.coef_)
        if coef.shape != (task.k, task.X.shape[1]):
            raise ValueError(
                f"the last fit had {coef.shape[0]} output(s) and {coef.shape[1]} features, these rows have {task.k} and "
                f"{task.X.shape[1]}: use warm_start=False, or clone the estimator"
            )
        start: dict[str, Any] = {"intercept_init": self.intercept_} if self.fit_intercept else {}
        pace = {} if self._pace is None or not keep_pace else {"walk": self._pace}
        if self.model is None:
            return pace or start | {"coef_init": coef}
        if not hasattr(self, "layers_"):
            raise ValueError("the last fit had no layers to go on from: use warm_start=False, or model=None")
        return (pace or start) | {"model": DeepLinear(weights=self.layers_)}

    def _keep(self, result: Result, watch: Patience) -> None:
        """Set the attributes of a run, and pass an interrupt on."""
        best: Result | Progress = result if watch.kept is None else watch.kept
        self._shape(best.coef, best.intercept)
        self.history_ = result.history
        self.n_iter_ = result.epochs
        self._pace = result.walk if watch.kept is None else None
        self.loss_curve_ = result.history["loss"].tolist()
        nothing = result.method.lam if isinstance(result.method, LBFGS) else 0.0  # where a warm start left nothing to do
        self.lam_ = float(result.history["lam"][-1]) if result.epochs else nothing
        self.loss_ = str(result.loss)
        for name in ("layers_", "validation_scores_", "best_validation_score_"):
            if hasattr(self, name):
                delattr(self, name)
        if watch.score is not None:
            self.validation_scores_, self.best_validation_score_ = watch.scores, watch.best
        if best.weights is not None:
            self.layers_ = best.weights
        if result.status is Status.INTERRUPTED:
            raise KeyboardInterrupt

    def _hold_out(self, task: Task, X_val: Any, y_val: Any) -> tuple[Task, Score | None]:
        """The rows to learn from, and the score of weights on those held out, or on the caller's own."""
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val go together: pass both or neither")
        if not self.early_stopping:
            if X_val is not None:
                raise ValueError("X_val and y_val are for early_stopping=True: set it, or leave them out")
            return task, None
        if X_val is not None:
            held = Task(self._read_rows(X_val), self._held_targets(y_val), task.loss, task.k)
            if held.n != len(held.y):
                raise ValueError(f"X_val has {held.n} rows and y_val has {len(held.y)}")
        else:
            task, held = _split(task, self.validation_fraction, seed(self.random_state))
        return task, lambda coef, intercept: self._score_held(_linear(held.X, coef, intercept), held)


def _kept(X: Any) -> dict[str, Any]:
    """How `validate_data` is to read rows; of frames other than pandas' it would make float64 of float32."""
    frame = hasattr(X, "columns") and not hasattr(X, "iloc")
    single = frame and np.asarray(X[:1]).dtype == np.float32
    return {"accept_sparse": "csr", "dtype": np.float32 if single else (np.float64, np.float32), "order": "C"}


def _canonical(X: Any) -> Any:
    """Sparse rows with features that rise, each there once; a copy where they were not so."""
    if issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def _linear(X: Any, coef: FloatArray, intercept: FloatArray) -> FloatArray:
    """z = W a + b of rows, (n, k)."""
    Z: FloatArray = safe_sparse_dot(X, coef.T, dense_output=True) + intercept
    return Z


def weights_of(sample_weight: Any, X: Any) -> NDArray[Any] | None:
    """Sample weights (n,), or None."""
    return None if sample_weight is None else np.asarray(_check_sample_weight(sample_weight, X))


def _split(task: Task, fraction: float, random_state: Any) -> tuple[Task, Task]:
    """Rows to learn from and labelled rows to look at, by class where there are labels."""
    share = check.number(fraction, "validation_fraction", above=0.0, below=1.0)
    rows = np.arange(task.n) if task.labelled is None else np.flatnonzero(task.labelled)
    groups = task.y[rows] if task.y.dtype == np.int64 else None
    if isinstance(random_state, np.random.Generator):
        random_state = int(random_state.integers(2**31 - 1))
    try:
        held = train_test_split(rows, test_size=share, random_state=random_state, stratify=groups)[1]
    except ValueError as error:
        raise ValueError(
            f"validation_fraction={share:g} of {len(rows)} labelled rows: {error} Pass X_val and y_val, or early_stopping=False"
        ) from None
    rest = np.ones(task.n, bool)
    rest[held] = False
    return task.rows(rest), task.rows(held)
