"""The estimators inside scikit-learn's tools, and frames of pandas and polars."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import kdvr_fast as kd

X, Y = load_iris(return_X_y=True)
NAMES = ["sepal length", "sepal width", "petal length", "petal width"]


@pytest.fixture
def proba() -> NDArray[np.float64]:
    """A teacher's probabilities that name the row: the weights show whose they were."""
    return np.random.default_rng(0).dirichlet(np.ones(3), len(X))


@pytest.fixture
def routing() -> Iterator[None]:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def test_grid_search_over_methods_in_two_processes(proba: NDArray[np.float64]) -> None:
    search = GridSearchCV(
        make_pipeline(StandardScaler(), kd.KDClassifier(alpha=1e-3)),
        {"kdclassifier__method": [kd.LBFGS(lam=lam) for lam in (0.0, 0.9)]},
        cv=KFold(3, shuffle=True, random_state=0),
        n_jobs=2,
    ).fit(X, Y, kdclassifier__teacher_proba=proba)
    assert search.best_params_["kdclassifier__method"].lam == 0.0  # this teacher knows nothing
    assert search.best_score_ > 0.9


@pytest.mark.usefixtures("routing")
def test_teacher_outputs_are_routed_and_cut_with_the_rows(proba: NDArray[np.float64]) -> None:
    student = kd.KDClassifier().set_fit_request(teacher_proba=True, sample_weight=True).set_score_request(sample_weight=True)
    folds, weight = KFold(3, shuffle=True, random_state=0), 1.0 + np.arange(len(X)) % 2
    given = {"teacher_proba": proba, "sample_weight": weight}
    scaler = StandardScaler().set_fit_request(sample_weight=False)
    done = cross_validate(make_pipeline(scaler, student), X, Y, params=given, cv=folds, return_estimator=True)
    for (train, _), fit in zip(folds.split(X), done["estimator"], strict=True):
        by_hand = make_pipeline(clone(scaler), clone(student)).fit(
            X[train], Y[train], teacher_proba=proba[train], sample_weight=weight[train]
        )
        np.testing.assert_array_equal(fit[-1].coef_, by_hand[-1].coef_)
    search = GridSearchCV(student, {"alpha": [1e-2, 1e-4]}, n_jobs=2, cv=folds).fit(X, Y, teacher_proba=proba)
    best = clone(student).set_params(**search.best_params_).fit(X, Y, teacher_proba=proba)
    np.testing.assert_array_equal(search.best_estimator_.coef_, best.coef_)


@pytest.mark.usefixtures("routing")
def test_outputs_that_nobody_asked_for_are_not_dropped_in_silence(proba: NDArray[np.float64]) -> None:
    with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="teacher_proba"):
        cross_validate(kd.KDClassifier(), X, Y, params={"teacher_proba": proba})


def test_calibration_and_cross_validation() -> None:
    calibrated = CalibratedClassifierCV(kd.KDClassifier(), cv=3).fit(X, Y)
    assert calibrated.predict_proba(X).shape == (150, 3) and calibrated.score(X, Y) > 0.9
    assert cross_val_score(kd.KDClassifier(), X, Y, cv=3, scoring="neg_log_loss").min() > -0.3
    assert cross_val_score(kd.KDRegressor(), X, X[:, 0] + X[:, 2], cv=3).min() > 0.99
    assert cross_val_predict(kd.KDClassifier(), X, Y, cv=3, method="decision_function").shape == (150, 3)


def test_clone_keeps_a_fitted_teacher_and_metadata_requests() -> None:
    forest = RandomForestClassifier(5, random_state=0).fit(X, Y)
    est = kd.KDClassifier(kd.KD(0.3), teacher=forest, callbacks=(print,), random_state=0)
    copy = clone(est)
    assert copy.teacher is forest and copy.get_params() == est.get_params() and not hasattr(copy, "coef_")
    assert (cross_val_score(clone(kd.KDClassifier(teacher=forest)), X, Y, cv=3, n_jobs=2) > 0.8).all()
    with sklearn.config_context(enable_metadata_routing=True):
        asked = clone(kd.KDClassifier().set_fit_request(teacher_logits=True))
        assert asked.get_metadata_routing().fit.requests["teacher_logits"] is True


@pytest.mark.parametrize("target", ["classes", "values"])
def test_pickle_and_joblib_carry_everything(target: str, tmp_path: Path) -> None:
    est = kd.KDClassifier(kd.KD(0.5), teacher="self", random_state=0).fit(X, Y)
    fit = est if target == "classes" else kd.KDRegressor(early_stopping=True).fit(X, X @ np.ones(4))
    joblib.dump(fit, tmp_path / "fit.joblib")
    for copy in (pickle.loads(pickle.dumps(fit)), joblib.load(tmp_path / "fit.joblib")):
        np.testing.assert_array_equal(copy.predict(X), fit.predict(X))
        assert copy.history_["loss"].tolist() == fit.loss_curve_ and copy.n_iter_ == fit.n_iter_
        assert vars(copy).keys() == vars(fit).keys()


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_have_feature_names_and_any_labels(frame: type, proba: NDArray[np.float64]) -> None:
    rows = frame({name: X[:, j].astype(np.float32) for j, name in enumerate(NAMES)})
    series = pd.Series if frame is pd.DataFrame else pl.Series
    labels = series(np.array(["setosa", "versicolor", "virginica"])[Y].tolist())
    outputs = frame({str(c): proba[:, c] for c in range(3)})
    est = kd.KDClassifier().fit(rows, labels, teacher_proba=outputs, sample_weight=series(np.ones(len(X))))
    assert est.feature_names_in_.tolist() == NAMES and est.coef_.dtype == np.float32
    assert set(est.predict(rows)) <= {"setosa", "versicolor", "virginica"}
    plain = kd.KDClassifier().fit(X.astype(np.float32), Y, teacher_proba=proba)
    np.testing.assert_array_equal(est.coef_, plain.coef_)
    swapped = frame({name: X[:, j] for j, name in reversed(list(enumerate(NAMES)))})
    with pytest.raises(ValueError, match="feature names"):
        est.predict(swapped)


def test_a_teacher_sees_the_rows_as_they_were_given() -> None:
    rows = pd.DataFrame(X, columns=NAMES)
    teacher = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, Y)
    kd.KDClassifier(teacher=teacher).fit(rows, Y)  # an array would make it warn of missing feature names


def test_scikit_learn_is_not_imported_before_an_estimator_is_asked_for() -> None:
    code = "import sys, kdvr_fast as kd; print('sklearn' in sys.modules, 'KDClassifier' in dir(kd)); kd.KDClassifier()"
    code += "; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True"]


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'KDTransformer'"):
        kd.KDTransformer  # noqa: B018
