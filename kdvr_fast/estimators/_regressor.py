"""KDRegressor: least squares with a teacher."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.metrics import r2_score

from ..backends.base import FloatArray
from ._attributes import all_or_nothing
from ._base import KDEstimator, weights_of
from ._guide import Guide, ask_regressor, value_guide
from ._task import Task


class KDRegressor(MultiOutputMixin, RegressorMixin, KDEstimator):  # type: ignore[misc]
    """Linear least squares with a teacher: `KDClassifier` with the squared loss |z - y|^2 / 2 and values in place of classes.

    The teacher's values t_i are given to `fit` as teacher_logits, or a fitted regressor is the `teacher`, whose predict is
    asked. A row without a target needs no mark: pass the teacher's value as its y. All parameters but class_weight and all
    attributes but classes_ are those of `KDClassifier`, with R^2 in place of accuracy.

    Attributes:
        coef_: (d,), or (k, d) where y is (n, k). intercept_: (1,) or (k,).

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.ensemble import RandomForestRegressor
        >>> from kdvr_fast import KDRegressor
        >>> X, y = load_diabetes(return_X_y=True)
        >>> forest = RandomForestRegressor(random_state=0).fit(X, y)
        >>> student = KDRegressor(teacher=forest).fit(X, y)
        >>> student.coef_.shape, round(student.score(X, y), 2)
        ((10,), 0.51)

    Source: arXiv:2305.17581.
    """

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        teacher_logits: ArrayLike | None = None,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
    ) -> KDRegressor:
        """Fit.

        Args:
            X: (n, d) rows: an array, CSR, or a pandas or polars frame; float32 stays float32.
            y: (n,) or (n, k) values.
            sample_weight: (n,), not negative; they mean repetition.
            teacher_logits: the teacher's predicted values, of y's shape; the squared loss has no link, so these are outputs.
            X_val, y_val: rows and values that early_stopping looks at, in place of rows that it holds out.

        Returns:
            The estimator.
        """
        with all_or_nothing(self):
            rows, targets = self._read(X, y, multi_output=True, y_numeric=True)
            task, score = self._hold_out(self._task(X, rows, targets, sample_weight, teacher_logits), X_val, y_val)
            self._learn(task, score)
        return self

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None, *, teacher_logits: ArrayLike | None = None
    ) -> KDRegressor:
        """Walk once over some rows, from where the last call or fit ended: with `SGD` or `KD`, one epoch of their schedules.

        Momentum and average go on from call to call.

        The arguments are those of `fit`. learning_rate="auto", or None, follows from the rows of each call.
        """
        first = not hasattr(self, "coef_")
        with all_or_nothing(self):
            rows, targets = self._read(X, y, reset=first, multi_output=True, y_numeric=True)
            self._walk(self._task(X, rows, targets, sample_weight, teacher_logits), first=first)
        return self

    def predict(self, X: ArrayLike) -> FloatArray:
        """Values, (n,) or (n, k) as y was."""
        Z = self._outputs(X)
        return Z[:, 0] if self.coef_.ndim == 1 else Z

    # -- what the base asks for ----------------------------------------------------------------------------------------

    def _task(self, X: Any, rows: Any, y: NDArray[Any], sample_weight: Any, given: ArrayLike | None) -> Task:
        self._one_target = y.ndim == 1
        y = y.astype(rows.dtype, copy=False)
        k = 1 if y.ndim == 1 else y.shape[1]
        if given is not None and self.teacher is not None:
            raise ValueError("the estimator has a teacher and fit got another's outputs: leave one of them out")
        guide: Guide | None = value_guide(given, len(y), k)
        if self.teacher is not None and not self._teaches_itself:
            guide = value_guide(ask_regressor(self.teacher, X), len(y), k)
        return Task(rows, y, "squared", k, weights_of(sample_weight, rows), guide)

    def _shape(self, coef: FloatArray, intercept: FloatArray) -> None:
        self.coef_, self.intercept_ = (coef[0] if self._one_target else coef), intercept

    def _held_targets(self, y_val: Any) -> NDArray[Any]:
        return np.asarray(y_val, np.float64)

    def _score_held(self, outputs: FloatArray, task: Task) -> float:
        return float(r2_score(task.y, outputs, sample_weight=task.weight))
