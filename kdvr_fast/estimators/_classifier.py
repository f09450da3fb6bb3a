"""KDClassifier: logistic regression for two classes, softmax for more, with a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_expit, log_softmax
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_is_fitted

from .._job import Callback
from ..backends.base import FloatArray
from ..deep import DeepLinear
from ..losses import LOSSES
from ..methods import Method
from ..result import predictions
from ..schedules import LearningRate
from ._attributes import all_or_nothing
from ._base import KDEstimator, weights_of
from ._guide import Guide, ask_classifier, class_guide, column_classes
from ._labels import Labels, named_labels, read_labels, whole
from ._task import Task


class KDClassifier(ClassifierMixin, KDEstimator):  # type: ignore[misc]
    """A linear classifier with a teacher: logistic regression for two classes, softmax for more.

    With a_i the rows, z_i = W a_i + b, y_i the labels, t_i the teacher's probabilities and l the cross-entropy, `KD` and
    `LBFGS` minimise, up to a constant,

        mean over i of s_i f_i  +  alpha ((1 - l1_ratio)/2 |W|^2 + l1_ratio |W|_1),    s_i the sample weights, of mean one
        f_i = (1 - lam) l(y_i, z_i) + lam l(t_i, z_i)      of a row with a label
        f_i = l(t_i, z_i)                                  of a row without one: t_i stands for y_i

    (`KD` has the form at a temperature). `UnbiasedKD`, `SVRG`, `LSVRG` and `SAGA` minimise the same with lam = 0, and use lam
    to lessen the noise of their steps.

    The teacher is given to `fit`, row by row, as teacher_proba or teacher_logits (cut together with X in cross-validation; with
    metadata routing ask for it by ``set_fit_request(teacher_proba=True)``), or to the constructor. With a teacher y = -1 marks
    rows without a label (beside text in an array of dtype object), unless -1 is a class of the teacher, or the labels are -1
    and 1, which are two classes. Without a teacher -1 is a label like any other. Classes that no row is labelled with are
    known from a teacher that is an estimator, or from a frame of outputs whose columns are named by the classes.

    Args:
        method: one of `kdvr_fast.METHODS`, such as ``KD(lam=0.7)`` or ``UnbiasedKD(lam="auto")``. None: `LBFGS`, since it needs
            no learning rate, gives the same result for every random_state, and ends where the gradient says so; or steps on
            batches, `SGD()` or with a teacher `KD()`, where learning_rate, batch_size, momentum or average asks for them, with
            a `model`, and in partial_fit. With a teacher lam is 0.5: half the weight is the labels', half the teacher's.
        model: None, or a `DeepLinear`.
        teacher: a fitted classifier of any kind; its predict_proba is asked, or without one predict, whose labels count as
            certain. It may know classes that y does not name, and `clone` keeps it fitted. Or "self": the estimator is first
            fitted to the labelled rows without a teacher, then `rounds` times, from zero, with its predecessor as the teacher.
        rounds: of teacher="self", at least 1.
        learning_rate: a number, a schedule, or "auto", from the smoothness of the data; None is "auto" where there are batches.
        batch_size: rows a step, at most all; None is 10.
        max_iter: epochs, or iterations of `LBFGS` (in place of its own max_iter), at most.
        tol: "auto", a number, or None to run all of max_iter. `LBFGS` ends when the gradient's norm is tol times that at zero
            weights, "auto" being the root of the eps of X's dtype, or what rounding lets be reached. All others end when for
            n_iter_no_change epochs in a row the loss of the walk did not fall by more than tol times the first epoch's, or with
            early_stopping the validation accuracy did not rise by more than tol; "auto" is 1e-4. A `ConvergenceWarning` says
            where max_iter came first.
        alpha, l1_ratio, fit_intercept, momentum, nesterov, average, n_threads, backend, callbacks: as in `kdvr_fast.solve`.
        class_weight: None, a dict of weights by class, or "balanced": n / (k times the class's sum of sample weights).
        early_stopping: look at the accuracy on validation_fraction of the labelled rows, drawn by class, or on X_val and y_val;
            the weights of the best epoch are kept.
        warm_start: fit goes on from the weights of the last one.
        random_state: seed, Generator or RandomState.
        verbose: 1 shows a progress bar on standard error, with the loss and rows a second.

    Attributes:
        coef_ (k, d), intercept_ (k,): k = 1 for two classes. Of X's dtype. classes_ (classes,): sorted.
        n_features_in_, feature_names_in_: as in scikit-learn. n_iter_: epochs run, or iterations;
            0 where a warm start began at the minimum.
        history_: the `History` of the last run; loss_curve_: its column "loss", of partial_fit of all calls.
        lam_: the last epoch's distillation weight, what lam="auto" came to.
        loss_: "logistic" or "softmax". layers_: the factors of coef_, of a `DeepLinear` model.
        validation_scores_, best_validation_score_: with early_stopping.

    Raises:
        ValueError, TypeError: bad input; the message says where and what to do. kdvr_fast.DivergenceError: the loss exploded.
        KeyboardInterrupt: after Ctrl-C, with the attributes of the epochs finished.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.ensemble import RandomForestClassifier
        >>> from kdvr_fast import KDClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> forest = RandomForestClassifier(random_state=0).fit(X, y)
        >>> few = y.copy()
        >>> few[10:50], few[60:100], few[110:] = -1, -1, -1
        >>> student = KDClassifier(teacher=forest).fit(X, few)
        >>> student.coef_.shape, round(student.score(X, y), 2)
        ((3, 4), 0.98)

    Source: Hinton, Vinyals and Dean, arXiv:1503.02531; arXiv:2305.17581.
    """

    classes_: NDArray[Any]

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
        class_weight: Any = None,
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
        super().__init__(
            method,
            model=model,
            teacher=teacher,
            rounds=rounds,
            learning_rate=learning_rate,
            batch_size=batch_size,
            max_iter=max_iter,
            tol=tol,
            alpha=alpha,
            l1_ratio=l1_ratio,
            fit_intercept=fit_intercept,
            momentum=momentum,
            nesterov=nesterov,
            average=average,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            warm_start=warm_start,
            random_state=random_state,
            n_threads=n_threads,
            backend=backend,
            verbose=verbose,
            callbacks=callbacks,
        )
        self.class_weight = class_weight

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        teacher_proba: ArrayLike | None = None,
        teacher_logits: ArrayLike | None = None,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
    ) -> KDClassifier:
        """Fit.

        Args:
            X: (n, d) rows: an array, CSR, or a pandas or polars frame; float32 stays float32.
            y: (n,) labels of any kind, -1 in rows without one (see the class); or (n, k) probabilities of the classes 0 .. k-1.
            sample_weight: (n,), not negative; they mean repetition.
            teacher_proba: (n, k) the teacher's probabilities of the sorted classes; (n,) of the second of two. The columns of a
                frame are taken by their names, those of the classes, in any order.
            teacher_logits: the same before the softmax; of two classes their difference counts, (n,) is that.
            X_val, y_val: rows and labels that early_stopping looks at, in place of rows that it holds out.

        Returns:
            The estimator.
        """
        with all_or_nothing(self):
            rows, targets = self._read(X, whole(y), multi_output=True)
            known = self.classes_ if self.warm_start and hasattr(self, "classes_") else None
            labels, guide = self._labels_and_guide(X, targets, known, teacher_proba, teacher_logits)
            self.classes_ = labels.classes
            task, score = self._hold_out(self._task(rows, labels, guide, sample_weight), X_val, y_val)
            self._learn(task, score)
        return self

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        teacher_proba: ArrayLike | None = None,
        teacher_logits: ArrayLike | None = None,
    ) -> KDClassifier:
        """Walk once over some rows, from where the last call or fit ended: with `SGD` or `KD`, one epoch of their schedules.

        Momentum and average go on from call to call.

        classes: all there will be, needed in the first call, unless a teacher that is an estimator names them. The other
        arguments are those of `fit`. learning_rate="auto", or None, follows from the rows of each call.
        """
        first = not hasattr(self, "coef_")
        with all_or_nothing(self):
            rows, targets = self._read(X, whole(y), reset=first, multi_output=True)
            if isinstance(self.class_weight, str):
                raise ValueError(f"class_weight={self.class_weight!r} needs all labels at once: pass the weights as a dict")
            known = None if classes is None else np.unique(np.asarray(classes))
            if not first:
                if known is not None and not np.array_equal(known, self.classes_):
                    raise ValueError(f"classes are {known.tolist()}, the first call had {self.classes_.tolist()}")
                known = self.classes_
            elif known is None and not hasattr(self.teacher, "classes_"):
                raise ValueError("classes must be passed on the first call to partial_fit: later rows may have other labels")
            labels, guide = self._labels_and_guide(X, targets, known, teacher_proba, teacher_logits)
            self.classes_ = labels.classes
            self._walk(self._task(rows, labels, guide, sample_weight), first=first)
        return self

    def decision_function(self, X: ArrayLike) -> FloatArray:
        """Logits (n, k) of the classes; of two classes (n,), the second's."""
        Z = self._outputs(X)
        return Z[:, 0] if len(self.classes_) == 2 else Z

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable class of each row, (n,)."""
        codes = predictions(self._outputs(X), LOSSES[self.loss_])
        return np.asarray(self.classes_[codes])

    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """Probabilities (n, classes), in the order of classes_."""
        P = LOSSES[self._fitted_loss].link(self._outputs(X))
        return np.hstack([1 - P, P]) if P.shape[1] == 1 else P

    def predict_log_proba(self, X: ArrayLike) -> FloatArray:
        """Their logarithms, exact where the probabilities themselves would round to 0."""
        Z = self._outputs(X)
        if Z.shape[1] == 1:
            return np.asarray(log_expit(np.hstack([-Z, Z])))
        return np.asarray(log_softmax(Z, axis=1))

    # -- what the base asks for ----------------------------------------------------------------------------------------

    @property
    def _fitted_loss(self) -> str:
        check_is_fitted(self)
        return str(self.loss_)

    def _labels_and_guide(
        self, X: Any, y: NDArray[Any], known: NDArray[Any] | None, proba: ArrayLike | None, logits: ArrayLike | None
    ) -> tuple[Labels, Guide | None]:
        """Which classes there are, and what the teacher says about each row."""
        arrays = proba is not None or logits is not None
        if arrays and self.teacher is not None:
            raise ValueError("the estimator has a teacher and fit got another's outputs: leave one of them out")
        if self.teacher is None or self._teaches_itself:
            if known is None and arrays:
                columns = column_classes(logits if proba is None else proba, named_labels(y))
                known = None if columns is None else np.unique(np.asarray(columns))
            labels = read_labels(y, known, taught=arrays or self._teaches_itself)
            return labels, class_guide(proba, logits, len(y), labels.classes)
        P = ask_classifier(self.teacher, X)
        theirs = getattr(self.teacher, "classes_", None)
        labels = read_labels(y, known if known is not None or theirs is None else np.asarray(theirs), taught=True)
        if theirs is not None:
            P = _in_order(P, np.asarray(theirs), labels.classes)
        return labels, class_guide(P, None, len(y), labels.classes)

    def _task(self, X: Any, labels: Labels, guide: Guide | None, sample_weight: Any) -> Task:
        k, y = len(labels.classes), labels.values
        two = k == 2
        labelled = None if labels.soft or (y >= 0).all() else y >= 0
        y = y[:, 1] if labels.soft and two else y
        weight = self._class_weighted(weights_of(sample_weight, X), labels)
        return Task(X, y, "logistic" if two else "softmax", 1 if two else k, weight, guide, labelled)

    def _class_weighted(self, weight: NDArray[Any] | None, labels: Labels) -> NDArray[Any] | None:
        """Weights times those of the classes; rows without a label keep theirs."""
        if self.class_weight is None:
            return weight
        if labels.soft:
            raise ValueError("class_weight needs labels, and y holds probabilities: pass sample_weight")
        there = labels.values >= 0
        codes, k = labels.values[there], len(labels.classes)
        s = np.ones(len(there)) if weight is None else weight.astype(np.float64)
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":  # of weights, which mean repetition
            each = np.bincount(codes, s[there], k)
            of_class = np.divide(each.sum(), k * each, out=np.zeros(k), where=each > 0)
        else:
            of_class = compute_class_weight(self.class_weight, classes=labels.classes, y=labels.classes[codes])
        s[there] *= of_class[codes]
        return s

    def _held_targets(self, y_val: Any) -> NDArray[Any]:
        return read_labels(whole(y_val), self.classes_, taught=False).best

    def _score_held(self, outputs: FloatArray, task: Task) -> float:
        y = task.y.argmax(axis=1) if task.y.ndim == 2 else task.y > 0.5 if task.y.dtype.kind == "f" else task.y
        return float(accuracy_score(y, predictions(outputs, LOSSES[task.loss]), sample_weight=task.weight))


def _in_order(P: NDArray[Any], theirs: NDArray[Any], classes: NDArray[Any]) -> NDArray[Any]:
    """A teacher's columns in the order of the classes; those that it does not know have probability 0."""
    if P.ndim != 2 or P.shape[1] != len(theirs):
        raise ValueError(f"the teacher's predict_proba has shape {P.shape}; expected {len(theirs)} columns, one a class")
    if np.array_equal(theirs, classes):
        return P
    there, ours = theirs.tolist(), classes.tolist()
    strangers = [label for label in there if label not in ours]
    if strangers:
        raise ValueError(f"the teacher knows class {strangers[0]!r}, which is none of {ours}")
    out = np.zeros((len(P), len(ours)), P.dtype)
    out[:, [ours.index(label) for label in there]] = P
    return out
