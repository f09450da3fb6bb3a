"""Estimators against `solve`: what they hand over, teachers of every kind, rows without labels, the ends of a fit."""

from __future__ import annotations

import doctest
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import log_softmax, softmax
from sklearn import exceptions
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_diabetes, load_iris, make_classification
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import LinearSVC

import kdvr_fast as kd
from kdvr_fast._layers import product
from kdvr_fast.estimators import _classifier, _regressor

TIGHT = {"tol": 1e-10, "alpha": 1e-2}


def classes3(n: int = 120, d: int = 6, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    return make_classification(n, d, n_informative=d - 1, n_redundant=0, n_classes=3, random_state=seed)


def some_proba(n: int, k: int, seed: int = 1) -> NDArray[np.float64]:
    return softmax(np.random.default_rng(seed).normal(size=(n, k)), axis=1)


def objective(
    est: kd.KDClassifier, X: NDArray[np.float64], targets: NDArray[np.float64], weight: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """The gradient of mean s_i l(targets_i, z_i) + alpha/2 |W|^2 over W and b, of any number of classes, from the formulas."""
    P = est.predict_proba(X)
    s = np.ones(len(X)) if weight is None else weight / weight.mean()
    R = s[:, None] * (P - targets) / len(X)
    if len(est.classes_) == 2:
        R = R[:, 1:]
    return np.vstack([(R.T @ X + est.alpha * est.coef_).reshape(-1, 1), R.sum(axis=0).reshape(-1, 1)])


def one_hot(y: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    return np.eye(k)[y]


# -- what is minimised -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 3, 5])
def test_default_without_a_teacher_is_the_minimum_of_the_regularised_loss(k: int) -> None:
    X, y = classes3()
    y = np.where(y < k, y, 0) if k < 3 else (np.arange(len(y)) % k)
    est = kd.KDClassifier(**TIGHT).fit(X, y)
    assert np.abs(objective(est, X, one_hot(y, k))).max() < 1e-8
    reference = LogisticRegression(C=1 / (len(X) * est.alpha), tol=1e-10, max_iter=2000).fit(X, y)
    np.testing.assert_allclose(est.predict_proba(X), reference.predict_proba(X), atol=1e-5)


@given(st.integers(2, 4), st.floats(0.0, 1.0), st.booleans(), st.sampled_from([np.float32, np.float64]), st.booleans())
def test_labelled_rows_mix_label_and_teacher_and_others_have_the_teacher_alone(
    k: int, lam: float, logits: bool, dtype: type, sparse: bool
) -> None:
    rng = np.random.default_rng(k)
    X = rng.normal(size=(40, 5)).astype(dtype)
    y = np.arange(40) % k
    few = np.where(np.arange(40) < 3 * k, y, -1)
    if k == 2:
        few = np.where(few < 0, -1, few + 1)  # classes 1 and 2
    Z = rng.normal(size=(40, k))
    P = softmax(Z, axis=1)
    est = kd.KDClassifier(kd.LBFGS(lam=lam), tol="auto" if dtype is np.float32 else 1e-9, alpha=1e-2)
    est.fit(csr_array(X) if sparse else X, few, **({"teacher_logits": Z} if logits else {"teacher_proba": P}))
    assert est.coef_.dtype == dtype and est.predict_proba(X).dtype == dtype
    labelled = (np.arange(40) < 3 * k)[:, None]
    wanted = np.where(labelled, (1 - lam) * one_hot(y, k) + lam * P, P)
    assert np.abs(objective(est, X.astype(np.float64), wanted)).max() < (3e-4 if dtype is np.float32 else 1e-7)
    assert est.lam_ == pytest.approx(lam)


def test_without_a_teacher_minus_one_is_a_label() -> None:
    X, y = classes3()
    assert kd.KDClassifier().fit(X, y - 1).classes_.tolist() == [-1, 0, 1]


def test_minus_one_and_one_are_two_classes_with_a_teacher_too() -> None:
    X, y = classes3()
    signs = np.where(y > 0, 1, -1)
    est = kd.KDClassifier().fit(X, signs, teacher_proba=some_proba(len(X), 2))
    assert est.classes_.tolist() == [-1, 1]
    forest = RandomForestClassifier(5, random_state=0).fit(X, y - 1)
    assert kd.KDClassifier(teacher=forest).fit(X, y - 1).classes_.tolist() == [-1, 0, 1]  # -1 is a class of the teacher


@pytest.mark.parametrize("method", [kd.KD(0.4), kd.UnbiasedKD(lam="auto"), kd.KD(0.5, temperature=2.0)])
@pytest.mark.parametrize("k", [2, 3])
def test_a_fit_is_one_call_of_solve(method: kd.Method, k: int) -> None:
    X, y = classes3()
    y = np.minimum(y, k - 1)
    Z = np.random.default_rng(0).normal(size=(len(X), k))
    est = kd.KDClassifier(
        method, learning_rate=kd.Inverse(0.1, 0.5), batch_size=7, max_iter=4, tol=None, momentum=0.5, random_state=3, average=1
    ).fit(X, y, teacher_logits=Z, sample_weight=1 + y)
    run = kd.solve(
        X, y, loss="softmax" if k == 3 else "logistic", method=method, learning_rate=kd.Inverse(0.1, 0.5), batch_size=7,
        epochs=4, alpha=1e-4, momentum=0.5, random_state=3, average=1, sample_weight=1 + y,
        teacher=kd.Teacher.logits(Z if k == 3 else Z[:, 1] - Z[:, 0]),
    )  # fmt: skip
    np.testing.assert_array_equal(est.coef_, run.coef)
    np.testing.assert_array_equal(est.intercept_, run.intercept)
    assert est.n_iter_ == 4 and est.loss_curve_ == run.history["loss"].tolist()
    assert est.lam_ == run.history["lam"][-1] and est.loss_ == run.loss


def test_log_probabilities_do_not_round_to_minus_infinity() -> None:
    X, y = classes3()
    for labels in (y, np.minimum(y, 1)):
        est = kd.KDClassifier().fit(X, labels)
        far = 1e4 * X
        assert (est.predict_proba(far) == 0).any() and np.isfinite(est.predict_log_proba(far)).all()
        Z = est.decision_function(X)
        Z = Z if Z.ndim == 2 else np.column_stack([np.zeros(len(X)), Z])
        np.testing.assert_allclose(est.predict_log_proba(X), log_softmax(Z, axis=1), rtol=1e-12)


def test_soft_targets_are_probabilities_of_numbered_classes() -> None:
    X, _ = classes3()
    for k in (2, 3):
        P = some_proba(len(X), k)
        est = kd.KDClassifier(**TIGHT).fit(X, P)
        assert est.classes_.tolist() == list(range(k))
        assert np.abs(objective(est, X, P)).max() < 1e-8
    with pytest.raises(ValueError, match=r"row \d+ sums to 0\.5"):
        kd.KDClassifier().fit(X, P / 2)


def test_class_weight_multiplies_sample_weight_and_leaves_rows_without_a_label() -> None:
    X, y = classes3()
    y[:5] = -1
    P, s = some_proba(len(X), 3), np.random.default_rng(0).uniform(0.5, 2, len(X))
    wanted = np.where(y == 1, 4.0, np.where(y == 2, 0.5, 1.0)) * s
    weighted = kd.KDClassifier(class_weight={1: 4.0, 2: 0.5}, **TIGHT).fit(X, y, s, teacher_proba=P)
    same = kd.KDClassifier(**TIGHT).fit(X, y, wanted, teacher_proba=P)
    np.testing.assert_allclose(weighted.coef_, same.coef_, rtol=1e-9)
    with pytest.raises(ValueError, match="class_weight needs labels"):
        kd.KDClassifier(class_weight="balanced").fit(X, P)


def test_balanced_weights_mean_repetition() -> None:
    X, y = classes3()
    times = 1 + (np.arange(len(y)) % 3)
    a = kd.KDClassifier(class_weight="balanced", **TIGHT).fit(X, y, times)
    b = kd.KDClassifier(class_weight="balanced", **TIGHT).fit(X.repeat(times, axis=0), y.repeat(times))
    np.testing.assert_allclose(a.coef_, b.coef_, rtol=1e-6)


# -- teachers ----------------------------------------------------------------------------------------------------------


def test_a_fitted_classifier_of_other_class_order_and_more_classes_teaches() -> None:
    X, y = classes3()
    names = np.array(["wren", "ant", "cow"])[y]
    forest = RandomForestClassifier(10, random_state=0).fit(X, names)
    some = names != "wren"
    est = kd.KDClassifier(teacher=forest, **TIGHT).fit(X[some], names[some])
    assert est.classes_.tolist() == ["ant", "cow", "wren"]
    codes = np.searchsorted(est.classes_, names[some])
    wanted = (one_hot(codes, 3) + forest.predict_proba(X[some])) / 2
    assert np.abs(objective(est, X[some], wanted)).max() < 1e-8


class Reversed(ClassifierMixin, BaseEstimator):
    """A classifier whose classes are in falling order, and of the first two classes only."""

    def fit(self, X: NDArray[np.float64], y: NDArray[np.int64]) -> Reversed:
        self.forest_ = RandomForestClassifier(5, random_state=0).fit(X[y < 2], y[y < 2])
        self.classes_ = self.forest_.classes_[::-1]
        return self

    def predict_proba(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.forest_.predict_proba(X)[:, ::-1]


def test_a_teachers_columns_are_put_in_order() -> None:
    X, y = classes3()
    teacher = Reversed().fit(X, y)
    two = y < 2
    est = kd.KDClassifier(teacher=teacher, **TIGHT).fit(X[two], y[two])
    wanted = (one_hot(y[two], 2) + teacher.forest_.predict_proba(X[two])) / 2
    assert np.abs(objective(est, X[two], wanted)).max() < 1e-8
    part = kd.KDClassifier(kd.KD(0.5), teacher=teacher, random_state=0).partial_fit(X, y, classes=[0, 1, 2])
    P = np.column_stack([teacher.forest_.predict_proba(X), np.zeros(len(X))])  # it knows nothing of the third
    same = kd.KDClassifier(kd.KD(0.5), random_state=0).partial_fit(X, y, classes=[0, 1, 2], teacher_proba=P)
    np.testing.assert_array_equal(part.coef_, same.coef_)


def test_a_classifier_without_probabilities_is_certain_of_its_labels() -> None:
    X, y = classes3()
    svm = LinearSVC().fit(X, y)
    a = kd.KDClassifier(teacher=svm).fit(X, y)
    b = kd.KDClassifier().fit(X, y, teacher_proba=one_hot(svm.predict(X), 3))
    np.testing.assert_array_equal(a.coef_, b.coef_)


def test_two_classes_take_the_second_alone_or_both() -> None:
    X, y = classes3()
    y = y > 0
    P, Z = some_proba(len(X), 2), np.random.default_rng(0).normal(size=(len(X), 2))
    fits = [
        (kd.KDClassifier().fit(X, y, teacher_proba=P), kd.KDClassifier().fit(X, y, teacher_proba=P[:, 1])),
        (kd.KDClassifier().fit(X, y, teacher_logits=Z), kd.KDClassifier().fit(X, y, teacher_logits=Z[:, 1] - Z[:, 0])),
    ]
    for both, second in fits:
        np.testing.assert_array_equal(both.coef_, second.coef_)
        assert both.coef_.shape == (1, X.shape[1]) and both.decision_function(X).shape == (len(X),)


def test_self_is_a_first_fit_and_then_rounds_with_the_one_before() -> None:
    X, y = classes3()
    few = np.where(np.arange(len(y)) < 30, y, -1)
    est = kd.KDClassifier(kd.LBFGS(lam=0.8), teacher="self", rounds=2).fit(X, few)
    before = kd.KDClassifier().fit(X[:30], y[:30])
    for _ in range(2):
        before = kd.KDClassifier(kd.LBFGS(lam=0.8)).fit(X, few, teacher_logits=before.decision_function(X))
    np.testing.assert_allclose(est.coef_, before.coef_, rtol=1e-6)
    sgd = kd.KDClassifier(kd.KD(0.5, teacher_alpha=1e-4), teacher="self", max_iter=3, tol=None, random_state=0).fit(X, y)
    assert sgd.n_iter_ == 3  # a teacher of weights: only these take teacher_alpha


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"teacher_proba": some_proba(120, 4)}, "expected 3 columns"),
        ({"teacher_proba": some_proba(119, 3)}, "has 119 rows, X has 120"),
        ({"teacher_proba": np.full((120, 3), 0.5)}, "row 0 sums to 1.5"),
        ({"teacher_proba": np.full((120, 3), np.nan)}, "holds nan in row 0"),
        ({"teacher_proba": some_proba(120, 3), "teacher_logits": some_proba(120, 3)}, "both given"),
    ],
)
def test_bad_teacher_outputs_say_where(given: dict[str, NDArray[np.float64]], message: str) -> None:
    X, y = classes3()
    with pytest.raises(ValueError, match=message):
        kd.KDClassifier().fit(X, y, **given)


def test_bad_combinations_are_refused_before_anything_starts() -> None:
    X, y = classes3()
    P, forest = some_proba(len(X), 3), RandomForestClassifier(3, random_state=0).fit(X, y)
    for est, fit, message in (
        (kd.KDClassifier(kd.KD()), {}, "KD needs a teacher"),
        (kd.KDClassifier(kd.SVRG()), {"teacher_proba": P}, "SVRG takes no teacher"),
        (kd.KDClassifier(teacher=forest), {"teacher_proba": P}, "leave one of them out"),
        (kd.KDClassifier(kd.LBFGS(), momentum=0.9), {}, "takes no momentum"),
        (kd.KDClassifier(teacher="it"), {}, "pass 'self' or a fitted estimator"),
        (kd.KDClassifier(), {"X_val": X, "y_val": y}, "are for early_stopping=True"),
        (kd.KDClassifier(early_stopping=True), {"X_val": X}, "go together"),
        (kd.KDClassifier(early_stopping=True), {"X_val": X, "y_val": y + 7}, "none of the classes"),
        (kd.KDClassifier(early_stopping=True), {"X_val": X[:9], "y_val": y}, "X_val has 9 rows"),
        (kd.KDClassifier(early_stopping=True, validation_fraction=1.5), {}, "validation_fraction=1.5"),
        (kd.KDClassifier(early_stopping=True, validation_fraction=0.001), {}, "validation_fraction=0.001 of 120"),
        (kd.KDClassifier(tol="small"), {}, "tol='small' is unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            est.fit(X, y, **fit)
        assert not hasattr(est, "coef_")
    with pytest.raises(TypeError, match="method must be None or an instance"):
        kd.KDClassifier("sgd").fit(X, y)
    with pytest.raises(exceptions.NotFittedError):
        kd.KDClassifier(teacher=LogisticRegression()).fit(X, y)
    with pytest.raises(ValueError, match="y holds 9 in row 3, which is none of the classes"):
        kd.KDClassifier(teacher=forest).fit(X, np.where(np.arange(len(y)) == 3, 9, y))
    with pytest.raises(TypeError, match="is no classifier"):
        kd.KDClassifier(teacher=RandomForestRegressor(2).fit(X, y)).fit(X, y)


def test_regressor_learns_the_mean_of_target_and_teacher() -> None:
    X, y = load_diabetes(return_X_y=True)
    forest = RandomForestRegressor(5, random_state=0).fit(X, y)
    t = forest.predict(X)
    est = kd.KDRegressor(kd.LBFGS(lam=0.3), teacher=forest, **TIGHT).fit(X, y)
    plain = kd.KDRegressor(**TIGHT).fit(X, 0.7 * y + 0.3 * t)
    np.testing.assert_allclose(est.coef_, plain.coef_, rtol=1e-6)
    assert est.coef_.shape == (10,) and est.intercept_.shape == (1,)
    two = kd.KDRegressor(**TIGHT).fit(X, np.column_stack([y, t]), teacher_logits=np.column_stack([t, y]))
    assert two.coef_.shape == (2, 10) and two.predict(X).shape == (len(X), 2)
    np.testing.assert_allclose(two.coef_[0], two.coef_[1], rtol=1e-6)
    with pytest.raises(ValueError, match="teacher_logits has shape"):
        kd.KDRegressor().fit(X, y, teacher_logits=np.column_stack([t, t]))
    own = kd.KDRegressor(teacher="self").fit(X, y)
    assert own.score(X, y) > 0.4


# -- the end of a fit --------------------------------------------------------------------------------------------------


def test_warns_in_scikit_learns_words_where_max_iter_comes_first() -> None:
    X, y = classes3()
    for est in (kd.KDClassifier(max_iter=2), kd.KDClassifier(kd.SGD(), learning_rate=1e-3, max_iter=2)):
        with pytest.warns(exceptions.ConvergenceWarning, match="max_iter") as caught:
            est.fit(X, y)
        assert len(caught) == 1 and issubclass(caught[0].category, kd.ConvergenceWarning)
        assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kd.KDClassifier(max_iter=2, tol=None).fit(X, y).n_iter_ == 2
        kd.KDClassifier().fit(X, y)
        assert kd.KDClassifier(kd.SGD()).fit(X, y).n_iter_ < 1000


def test_the_loss_ends_a_walk_after_n_iter_no_change_epochs_without_a_fall() -> None:
    X, y = classes3()
    est = kd.KDClassifier(kd.SGD(), tol=1e-2, n_iter_no_change=4, random_state=0).fit(X, y)
    curve = np.array(est.loss_curve_)
    best = np.minimum.accumulate(np.append(np.inf, curve))[:-1]
    waited = curve > best - 1e-2 * curve[0]
    assert waited[-4:].all() and not any(waited[i : i + 4].all() for i in range(len(curve) - 4))


def test_early_stopping_keeps_the_best_epoch() -> None:
    X, y = classes3(400, 12)
    est = kd.KDClassifier(kd.SGD(), learning_rate=0.3, early_stopping=True, n_iter_no_change=6, max_iter=80, random_state=0)
    est.fit(X[:200], y[:200], X_val=X[200:], y_val=y[200:])
    scores = est.validation_scores_
    assert est.score(X[200:], y[200:]) == pytest.approx(est.best_validation_score_) == max(scores)
    assert len(scores) == est.n_iter_ == int(np.argmax(scores)) + 1 + 6
    held = kd.KDClassifier(kd.SGD(), early_stopping=True, validation_fraction=0.25, random_state=0).fit(X, y)
    assert 0 < held.best_validation_score_ <= 1
    again = kd.KDClassifier(kd.SGD(), random_state=0).fit(X, y)
    assert not hasattr(again, "validation_scores_")


def test_rows_held_out_have_labels_and_are_not_learned_from() -> None:
    X, y = classes3()
    few = np.where(np.arange(len(y)) < 60, y, -1)
    seen: list[int] = []
    learned: list[int] = []
    rows = np.arange(len(y), dtype=float)

    class Spy(kd.KDClassifier):
        def _score_held(self, outputs, task):  # type: ignore[no-untyped-def]
            seen.extend(task.X[:, -1].astype(int).tolist())
            return super()._score_held(outputs, task)

        def _train(self, task, *others):  # type: ignore[no-untyped-def]
            learned.extend(task.X[:, -1].astype(int).tolist())
            super()._train(task, *others)

    Spy(early_stopping=True, validation_fraction=0.2, max_iter=1, tol=None).fit(
        np.column_stack([X, rows]), few, teacher_proba=some_proba(len(X), 3)
    )
    assert len(seen) == 12 and max(seen) < 60
    assert sorted(seen + learned) == list(range(len(y)))


def test_callbacks_see_each_epoch_and_may_end_the_fit() -> None:
    X, y = classes3()
    seen: list[int] = []

    def stop(progress: kd.Progress) -> bool:
        seen.append(progress.epoch)
        return progress.epoch == 3

    est = kd.KDClassifier(kd.SGD(), callbacks=[stop], random_state=0).fit(X, y)
    assert seen == [1, 2, 3] and est.n_iter_ == 3
    assert kd.KDClassifier(callbacks=stop).fit(X, y).n_iter_ == 3


def test_an_interrupt_goes_on_to_the_caller_with_the_epochs_finished() -> None:
    X, y = classes3()

    def interrupt(progress: kd.Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    est = kd.KDClassifier(kd.SGD(), callbacks=[interrupt])
    with pytest.warns(RuntimeWarning, match="interrupted"), pytest.raises(KeyboardInterrupt):
        est.fit(X, y)
    assert est.n_iter_ == 2 and est.predict(X).shape == y.shape


def test_verbose_shows_loss_and_rate_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    X, y = classes3()
    kd.KDClassifier(kd.SGD(), verbose=1, max_iter=3, tol=None).fit(X, y)
    out, err = capfd.readouterr()
    assert out == "" and "3/3" in err and "loss" in err and "rows/s" in err
    kd.KDClassifier().fit(X, y)
    assert capfd.readouterr() == ("", "")


def test_a_deep_linear_model_keeps_its_layers_and_goes_on_from_them() -> None:
    X, y = load_iris(return_X_y=True)
    model = kd.DeepLinear(widths=(5,))
    est = kd.KDClassifier(model=model, learning_rate=0.05, max_iter=20, tol=None, random_state=0, warm_start=True).fit(X, y)
    np.testing.assert_allclose(est.layers_[1] @ est.layers_[0], est.coef_, rtol=1e-12)
    first = est.loss_curve_
    assert est.fit(X, y).loss_curve_[0] < first[0]
    part = kd.KDClassifier(model=model, learning_rate=0.05, random_state=0)
    for _ in range(3):
        part.partial_fit(X, y, classes=[0, 1, 2])
    assert part.loss_curve_[2] < part.loss_curve_[0] and part.layers_[0].shape == (5, 4)
    est = kd.KDClassifier(max_iter=5, tol=None, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="no layers to go on from"):
        est.set_params(model=model).fit(X, y)


def test_early_stopping_keeps_the_layers_of_the_best_epoch(tmp_path: Path) -> None:
    X, y = load_iris(return_X_y=True)
    seen: list[kd.Progress] = []
    est = kd.KDClassifier(
        model=kd.DeepLinear(widths=(5, 4)),
        early_stopping=True,
        learning_rate=0.2,  # so large that the last epoch is not the best
        max_iter=30,
        tol=None,
        random_state=0,
        warm_start=True,
        callbacks=[seen.append],
    ).fit(X, y)
    best = int(np.argmax(est.validation_scores_))
    assert 0 < best < 29 and len(seen) == 30
    for layer, there, last in zip(est.layers_, seen[best].weights or (), seen[-1].weights or (), strict=True):
        np.testing.assert_array_equal(layer, there)
        assert not np.array_equal(layer, last)
    np.testing.assert_allclose(product(est.layers_), est.coef_, rtol=1e-12)
    kd.save(est, tmp_path / "model.safetensors")
    layers = kd.load(tmp_path / "model.safetensors").layers
    assert layers is not None and all(np.array_equal(a, b) for a, b in zip(layers, est.layers_, strict=True))
    est.set_params(max_iter=1, learning_rate=1e-12).fit(X, y)
    for again, layer in zip(est.layers_, layers, strict=True):
        np.testing.assert_allclose(again, layer, rtol=1e-9)


def test_a_deep_linear_model_needs_no_rate() -> None:
    X, y = load_iris(return_X_y=True)
    est = kd.KDClassifier(model=kd.DeepLinear(widths=(5,)), max_iter=200, tol=None, random_state=0).fit(X, y)
    assert est.score(X, y) > 0.9


def test_docstrings() -> None:
    assert doctest.testmod(_classifier).failed == 0
    assert doctest.testmod(_regressor).failed == 0


def test_a_ridge_classifier_may_teach() -> None:
    X, y = classes3()
    assert kd.KDClassifier(teacher=RidgeClassifier().fit(X, y)).fit(X, y).score(X, y) > 0.5
