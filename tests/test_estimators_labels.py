"""Labels that are missing, of text or of one class; teachers' columns by name; fits that are refused and leave nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.special import softmax
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier

import kdvr_fast as kd

X, Y = make_classification(90, 6, n_informative=5, n_redundant=0, n_classes=3, random_state=0)
P = softmax(np.random.default_rng(1).normal(size=(90, 3)), axis=1)
NAMES = np.array(["ant", "bee", "cow"])
FEW = np.where(np.arange(90) < 30, Y, -1)


def text_with(mark: Any) -> Any:
    """The labels as text, all but 30 of them replaced by a mark."""
    labels = NAMES[Y].astype(object)
    labels[30:] = mark
    return labels


# -- rows without a label ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.asarray, pd.Series])
def test_minus_one_beside_text_marks_rows_without_a_label(kind: Any) -> None:
    est = kd.KDClassifier().fit(X, kind(text_with(-1)), teacher_proba=P)
    assert est.classes_.tolist() == NAMES.tolist()
    np.testing.assert_array_equal(est.coef_, kd.KDClassifier().fit(X, FEW, teacher_proba=P).coef_)


@pytest.mark.parametrize("mark", [None, np.nan, pd.NA])
@pytest.mark.parametrize("given", [{}, {"teacher_proba": P}])
def test_other_marks_of_missing_labels_are_refused_with_the_row_and_the_remedy(mark: Any, given: dict[str, Any]) -> None:
    for labels in (text_with(mark), pd.Series(text_with(mark))):
        with pytest.raises(ValueError, match=r"in row 30; with a teacher -1 marks rows without a label"):
            kd.KDClassifier().fit(X, labels, **given)
    with pytest.raises(ValueError, match=r"nan in row \d+; with a teacher -1"):
        kd.KDClassifier().fit(X, np.where(Y == 0, np.nan, Y), **given)


def test_text_that_stands_for_a_mark_is_refused_with_a_teacher() -> None:
    for labels, mark in ((text_with(""), "''"), (text_with(-1).astype(str), "'-1'")):
        with pytest.raises(ValueError, match=rf"y holds the text {mark} in row 30: .* the number -1"):
            kd.KDClassifier().fit(X, labels, teacher_proba=P)
    assert kd.KDClassifier().fit(X, text_with("")).classes_.tolist() == ["", *NAMES]  # a label like any other


def test_text_and_numbers_are_no_labels_of_one_kind() -> None:
    with pytest.raises(ValueError, match=r"y holds -1 in row 30 and text elsewhere: .* need a teacher"):
        kd.KDClassifier().fit(X, text_with(-1))
    with pytest.raises(ValueError, match=r"y holds 7 in row 30 and text elsewhere"):
        kd.KDClassifier().fit(X, text_with(7), teacher_proba=P)


@pytest.mark.parametrize(("labels", "named"), [((2, -1), "one class, 2"), ((-1, -1), "no class"), ((0, -1), "one class, 0")])
def test_minus_one_is_no_class_beside_a_single_other_one(labels: tuple[int, int], named: str) -> None:
    """But -1 and 1 are two classes, as they are for a support vector machine."""
    y = np.where(np.arange(90) < 30, *labels)
    two = P[:, :2] / P[:, :2].sum(axis=1, keepdims=True)
    for outputs in (P, two):
        with pytest.raises(ValueError, match=f"y names {named};.* -1 marks rows without a label. What y does not name"):
            kd.KDClassifier().fit(X, y, teacher_proba=outputs)
    assert kd.KDClassifier().fit(X, np.where(Y > 0, 1, -1), teacher_proba=two).classes_.tolist() == [-1, 1]


# -- a teacher's columns by name ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
@pytest.mark.parametrize("labels", [Y, NAMES[Y], Y + 5.0])
def test_columns_of_a_frame_are_taken_by_the_names_of_classes(labels: Any, frame: Any, logits: bool) -> None:
    outputs, name = (np.log(P), "teacher_logits") if logits else (P, "teacher_proba")
    classes = np.unique(labels)
    mixed = frame({str(classes[c]): outputs[:, c] for c in (2, 0, 1)})
    a = kd.KDClassifier().fit(X, labels, **{name: mixed})
    b = kd.KDClassifier().fit(X, labels, **{name: outputs})
    np.testing.assert_array_equal(a.coef_, b.coef_)
    c = kd.KDClassifier(kd.KD(0.5), random_state=0).partial_fit(X, labels, classes, **{name: mixed})
    d = kd.KDClassifier(kd.KD(0.5), random_state=0).partial_fit(X, labels, classes, **{name: outputs})
    np.testing.assert_array_equal(c.coef_, d.coef_)


def test_columns_that_are_merely_numbered_are_those_of_the_sorted_classes() -> None:
    plain = kd.KDClassifier().fit(X, NAMES[Y], teacher_proba=P).coef_
    for outputs in (pd.DataFrame(P), pl.DataFrame(P), pd.DataFrame(P, columns=["0", "1", "2"])):
        np.testing.assert_array_equal(kd.KDClassifier().fit(X, NAMES[Y], teacher_proba=outputs).coef_, plain)
    two = pd.DataFrame(P[:, :2] / P[:, :2].sum(axis=1, keepdims=True))
    assert kd.KDClassifier().fit(X, np.where(Y > 0, 1, -1), teacher_proba=two).classes_.tolist() == [-1, 1]


def test_columns_name_the_classes_that_no_row_is_labelled_with() -> None:
    two = np.where(Y == 2, -1, Y)
    with pytest.raises(ValueError, match=r"expected 2 columns, for the classes \[0, 1\]; if there are more classes"):
        kd.KDClassifier().fit(X, two, teacher_proba=P)
    plain = kd.KDClassifier(kd.KD(0.5), random_state=0).partial_fit(X, two, [0, 1, 2], teacher_proba=P)
    for outputs in (pd.DataFrame(P), pl.DataFrame(P[:, ::-1].copy(), schema=["2", "1", "0"])):
        est = kd.KDClassifier().fit(X, two, teacher_proba=outputs)
        assert est.classes_.tolist() == [0, 1, 2] and est.classes_.dtype == np.int64
        part = kd.KDClassifier(kd.KD(0.5), random_state=0).partial_fit(X, two, [0, 1, 2], teacher_proba=outputs)
        np.testing.assert_array_equal(part.coef_, plain.coef_)


@pytest.mark.parametrize(
    ("columns", "labels", "message"),
    [
        (["ant", "bee", "dog"], NAMES[Y], "none for the class 'cow'"),
        (["ant", "bee", "bee"], NAMES[Y % 2], "one of them twice"),
        (["0", "1", "x"], Y % 2, "has a column 'x', and the labels are numbers"),
    ],
)
def test_columns_of_other_names_are_refused(columns: list[str], labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kd.KDClassifier().fit(X, labels, teacher_proba=pd.DataFrame(P, columns=columns))


def test_a_single_column_is_of_the_second_class() -> None:
    labels = NAMES[Y % 2]
    est = kd.KDClassifier().fit(X, labels, teacher_proba=pd.DataFrame({"bee": P[:, 0]}))
    np.testing.assert_array_equal(est.coef_, kd.KDClassifier().fit(X, labels, teacher_proba=P[:, 0]).coef_)
    with pytest.raises(ValueError, match="only column is named 'ant'; one column is of the second class, 'bee'"):
        kd.KDClassifier().fit(X, labels, teacher_proba=pd.DataFrame({"ant": P[:, 0]}))


def test_a_frame_of_other_classes_than_the_first_call_had_is_refused() -> None:
    est = kd.KDClassifier(kd.KD(0.5)).partial_fit(X, Y, [0, 1, 2], teacher_proba=P)
    with pytest.raises(ValueError, match="none for the class 2"):
        est.partial_fit(X, Y, teacher_proba=pd.DataFrame(P, columns=[0, 1, 3]))


# -- all or nothing ----------------------------------------------------------------------------------------------------


def raising(progress: kd.Progress) -> None:
    raise OSError("no room")


@pytest.mark.parametrize("fitted", [False, True])
def test_a_fit_that_is_refused_leaves_the_estimator_as_it_was(fitted: bool) -> None:
    wide, odd = X[:, :4], np.where(np.arange(90) == 3, 9, Y)
    for options, arguments, keywords in (
        ({"callbacks": raising}, (wide, Y + 7), {}),
        ({"method": kd.KD(0.5)}, (wide, Y + 7), {}),  # which needs a teacher
        ({}, (wide, Y + 7), {"sample_weight": -np.ones(90)}),
        ({}, (wide, Y + 7), {"teacher_proba": P[:, :2]}),
        ({"early_stopping": True}, (wide, Y + 7), {"X_val": wide, "y_val": odd}),
        ({"method": kd.SGD(), "learning_rate": 1e30, "teacher": "self"}, (wide, Y + 7), {}),
    ):
        est = kd.KDClassifier()
        if fitted:
            est.fit(X, Y)
        est.set_params(**options)
        before = dict(vars(est))
        with pytest.raises((ValueError, OSError, kd.DivergenceError)):
            est.fit(*arguments, **keywords)
        assert vars(est).keys() == before.keys() and all(vars(est)[name] is before[name] for name in before)
        if fitted:
            assert est.set_params(callbacks=()).score(X, Y) > 0.5


def test_partial_fits_and_regressors_that_are_refused_leave_nothing_either() -> None:
    est = kd.KDClassifier(kd.KD(0.5))
    with pytest.raises(ValueError, match="needs a teacher"):
        est.partial_fit(X, Y, [0, 1, 2])
    assert not hasattr(est, "classes_") and not hasattr(est, "n_features_in_")
    for fit in ("fit", "partial_fit"):
        values = kd.KDRegressor(kd.SGD(), callbacks=raising, max_iter=2)
        with pytest.raises(OSError, match="no room"):
            getattr(values, fit)(X, Y.astype(float))
        assert not hasattr(values, "n_features_in_") and not hasattr(values, "_one_target")


def test_an_interrupt_before_the_first_epoch_keeps_the_last_fit() -> None:
    est = kd.KDClassifier().fit(X, Y)

    class Interrupting(RandomForestClassifier):  # type: ignore[misc]
        def predict_proba(self, X: Any) -> Any:
            raise KeyboardInterrupt

    est.set_params(teacher=Interrupting(2).fit(X[:, :4], Y + 5))
    with pytest.raises(KeyboardInterrupt):
        est.fit(X[:, :4], Y)
    assert est.n_features_in_ == 6 and est.classes_.tolist() == [0, 1, 2]
