"""What scikit-learn asks of SGDClassifier and SGDRegressor where it is meant for any such estimator, asked of ours."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.datasets import load_iris, make_blobs
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.preprocessing import scale

import kdvr_fast as kd

SGD = {"method": kd.SGD(), "random_state": 0}
BOTH = pytest.mark.parametrize("make", [kd.KDClassifier, kd.KDRegressor])


def blobs(centers: int = 2, n: int = 120) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    X, y = make_blobs(n, 4, centers=centers, cluster_std=2.0, random_state=0)
    return scale(X), y


def fitted(make: Any, **options: Any) -> Any:
    X, y = blobs()
    return make(**({**SGD, "tol": None, "max_iter": 5} | options)).fit(X, y)


@BOTH
def test_attributes_are_those_of_scikit_learn(make: Any) -> None:
    X, y = blobs()
    ours = fitted(make)
    theirs = (SGDClassifier if make is kd.KDClassifier else SGDRegressor)(max_iter=5, tol=None).fit(X, y)
    for name in ("coef_", "intercept_", "n_iter_", "n_features_in_"):
        assert np.shape(getattr(ours, name)) == np.shape(getattr(theirs, name)), name
    assert ours.predict(X).shape == theirs.predict(X).shape


@BOTH
def test_a_seed_replays_a_fit_and_another_does_not(make: Any) -> None:
    np.testing.assert_array_equal(fitted(make).coef_, fitted(make).coef_)
    assert not np.array_equal(fitted(make).coef_, fitted(make, random_state=1).coef_)
    states = [fitted(make, random_state=np.random.RandomState(5)).coef_ for _ in range(2)]
    np.testing.assert_array_equal(*states)
    rng = np.random.RandomState(5)
    assert not np.array_equal(fitted(make, random_state=rng).coef_, fitted(make, random_state=rng).coef_)
    X, y = blobs()
    generators = [fitted(make, random_state=np.random.default_rng(5), early_stopping=True).fit(X, y).coef_ for _ in range(2)]
    np.testing.assert_array_equal(*generators)


@BOTH
def test_warm_start_goes_on_and_a_cold_one_does_not(make: Any) -> None:
    X, y = blobs()
    first = fitted(make, warm_start=True)
    curve = first.loss_curve_
    assert first.fit(X, y).loss_curve_[0] < curve[0]
    again = fitted(make).fit(X, y)
    np.testing.assert_array_equal(again.coef_, fitted(make).coef_)
    with pytest.raises(ValueError, match="the last fit had 1 output"):
        first.fit(X[:, :3], y)


@BOTH
def test_warm_start_of_a_converged_fit_ends_at_once(make: Any) -> None:
    X, y = blobs(3)
    est = make(warm_start=True).fit(X, y)
    coef = est.coef_
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert est.fit(X, y).n_iter_ <= 1
        assert est.fit(X, y, teacher_logits=np.zeros((len(y), 1 if make is kd.KDRegressor else 3))).n_iter_ >= 1
        assert est.fit(X, y).lam_ == 0.0
    np.testing.assert_allclose(est.coef_, coef, atol=1e-5)


def test_warm_start_keeps_the_classes() -> None:
    X, y = blobs(3)
    est = kd.KDClassifier(warm_start=True).fit(X, y)
    some = y != 1
    assert est.fit(X[some], y[some]).classes_.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="y holds 7 in row 0"):
        est.fit(X, np.where(np.arange(len(y)) == 0, 7, y))


@BOTH
def test_more_patience_and_a_smaller_tol_take_longer(make: Any) -> None:
    X, y = blobs()
    lengths = [make(**SGD, tol=1e-3, n_iter_no_change=n).fit(X, y).n_iter_ for n in (1, 3, 8)]
    assert lengths == sorted(lengths) and lengths[0] < lengths[2]
    assert make(**SGD, tol=1e-1).fit(X, y).n_iter_ < make(**SGD, tol=1e-5).fit(X, y).n_iter_
    with pytest.raises(ValueError, match="n_iter_no_change=0"):
        make(n_iter_no_change=0).fit(X, y)


@BOTH
def test_averaging_is_the_mean_of_the_iterates(make: Any) -> None:
    X, y = blobs()
    iterates: list[NDArray[np.float64]] = []
    each_step = {"batch_size": len(X), "learning_rate": 0.1}  # one step an epoch: the callback sees all iterates
    make(**SGD, **each_step, max_iter=6, tol=None, callbacks=lambda p: iterates.append(p.coef)).fit(X, y)
    mean = make(**SGD, **each_step, max_iter=6, tol=None, average=True).fit(X, y)
    late = make(**SGD, **each_step, max_iter=6, tol=None, average=4).fit(X, y)
    np.testing.assert_allclose(np.atleast_2d(mean.coef_), np.mean(iterates, axis=0), rtol=1e-12)
    np.testing.assert_allclose(np.atleast_2d(late.coef_), np.mean(iterates[4:], axis=0), rtol=1e-12)


@BOTH
def test_sparse_and_dense_rows_give_the_same_weights(make: Any) -> None:
    X, y = blobs()
    X = np.where(np.abs(X) < 0.7, 0.0, X)
    dense, sparse = make(**SGD, max_iter=5, tol=None).fit(X, y), make(**SGD, max_iter=5, tol=None).fit(csr_array(X), y)
    np.testing.assert_allclose(dense.coef_, sparse.coef_, rtol=1e-10)
    np.testing.assert_allclose(dense.predict(X), sparse.predict(csr_array(X)), rtol=1e-10)


@BOTH
def test_sparse_rows_out_of_order_are_put_in_order_and_left_alone(make: Any) -> None:
    X, y = blobs()
    rows = csr_array(X)
    indices = np.arange(X.shape[1])[::-1]
    turned = csr_array((X[:, indices].ravel(), np.tile(indices, len(X)), np.arange(len(X) + 1) * X.shape[1]), shape=X.shape)
    kept = turned.indices.copy()
    np.testing.assert_array_equal(make(**SGD).fit(turned, y).coef_, make(**SGD).fit(rows, y).coef_)
    np.testing.assert_array_equal(turned.indices, kept)


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_of_rows_is_that_of_weights_and_outputs(make: Any, dtype: type) -> None:
    X, y = blobs()
    X = X.astype(dtype)
    est = make(**SGD).fit(X, y)
    assert est.coef_.dtype == est.intercept_.dtype == dtype
    outputs = est.decision_function(X) if make is kd.KDClassifier else est.predict(X)
    assert outputs.dtype == dtype


def test_float32_and_float64_agree() -> None:
    X, y = blobs(3)
    a, b = (kd.KDClassifier(**SGD).fit(X.astype(t), y) for t in (np.float32, np.float64))
    assert abs(a.n_iter_ - b.n_iter_) <= 1
    np.testing.assert_allclose(a.coef_, b.coef_, atol=1e-2)


def test_weights_of_zero_are_rows_that_are_not_there() -> None:
    X, y = blobs()
    s = (np.arange(len(y)) % 2).astype(float)
    weighted, part = kd.KDClassifier(tol=1e-9).fit(X, y, s), kd.KDClassifier(tol=1e-9).fit(X[s > 0], y[s > 0])
    np.testing.assert_allclose(weighted.coef_, part.coef_, rtol=1e-5)
    with pytest.raises(ValueError, match="sample_weight"):
        kd.KDClassifier().fit(X, y, np.arange(7))
    with pytest.raises(ValueError, match="negative"):
        kd.KDClassifier().fit(X, y, -np.ones(len(y)))


def test_equal_class_weights_change_nothing_and_unequal_ones_move_the_boundary() -> None:
    X, y = blobs()
    plain = kd.KDClassifier().fit(X, y)
    np.testing.assert_allclose(kd.KDClassifier(class_weight={0: 3.0, 1: 3.0}).fit(X, y).coef_, plain.coef_, rtol=1e-6)
    heavy = kd.KDClassifier(class_weight={0: 100.0}).fit(X, y)
    assert (heavy.predict(X) == 0).sum() > (plain.predict(X) == 0).sum()


def test_balanced_weights_lift_a_rare_class() -> None:
    X, y = blobs(3, 600)
    keep = (y != 2) | (np.arange(len(y)) % 20 == 0)
    X, y = X[keep], y[keep]
    recall = [
        (est.predict(X)[y == 2] == 2).mean() for est in (kd.KDClassifier(class_weight=w).fit(X, y) for w in (None, "balanced"))
    ]
    assert recall[1] >= recall[0] and recall[1] > 0.6


# -- partial_fit -------------------------------------------------------------------------------------------------------


def test_partial_fit_needs_classes_first_and_keeps_them() -> None:
    X, y = blobs(3)
    est = kd.KDClassifier(**SGD)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        est.partial_fit(X, y)
    est.partial_fit(X[y == 0], y[y == 0], classes=[2, 1, 0])
    assert est.coef_.shape == (3, 4) and est.classes_.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"classes are \[0, 1\], the first call had"):
        est.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="which is none of the classes"):
        est.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="3 features, but KDClassifier is expecting 4"):
        est.partial_fit(X[:, :3], y)
    for _ in range(30):
        est.partial_fit(X, y)
    assert est.score(X, y) > 0.8 and est.n_iter_ == len(est.loss_curve_) == 31


@BOTH
def test_the_first_partial_fit_is_an_epoch_of_fit_and_later_ones_go_on(make: Any) -> None:
    X, y = blobs()
    classes = {"classes": [0, 1]} if make is kd.KDClassifier else {}
    one = make(**SGD, learning_rate=0.05, tol=None, max_iter=1).fit(X, y)
    part = make(**SGD, learning_rate=0.05).partial_fit(X, y, **classes)
    np.testing.assert_array_equal(part.coef_, one.coef_)
    one.partial_fit(X, y)
    part.partial_fit(X, y)
    np.testing.assert_array_equal(part.coef_, one.coef_)
    assert part.n_iter_ == 2


@BOTH
@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"average": True}, {"momentum": 0.5, "nesterov": True, "average": 2}])
def test_partial_fit_keeps_momentum_and_average(make: Any, options: dict[str, Any]) -> None:
    X, y = blobs()
    classes = {"classes": [0, 1]} if make is kd.KDClassifier else {}
    options = {"method": kd.SGD(), "learning_rate": 0.02, **options}
    whole = make(**options, random_state=np.random.default_rng(0), max_iter=4, tol=None).fit(X, y)
    parts = make(**options, random_state=np.random.default_rng(0))
    for _ in range(4):
        parts.partial_fit(X, y, **classes)
    np.testing.assert_array_equal(parts.coef_, whole.coef_)
    np.testing.assert_array_equal(parts.intercept_, whole.intercept_)


@BOTH
def test_partial_fit_walks_along_the_schedules(make: Any) -> None:
    X, y = blobs()
    rates: list[float] = []
    est = make(**SGD, learning_rate=kd.Exponential(0.1, 0.5), callbacks=lambda p: rates.append(p.row["learning_rate"]))
    for _ in range(3):
        est.partial_fit(X, y, **({"classes": [0, 1]} if make is kd.KDClassifier else {}))
    assert rates == pytest.approx([0.1, 0.05, 0.025])
    t, weights = np.zeros((len(X), 1)), []
    taught = make(kd.KD(kd.Geometric(0.8, 0.5)), random_state=0)
    for _ in range(3):
        taught.partial_fit(X, y, teacher_logits=t[:, 0], **({"classes": [0, 1]} if make is kd.KDClassifier else {}))
        weights.append(taught.lam_)
    assert weights == pytest.approx([0.8, 0.4, 0.2])


def test_partial_fit_takes_rows_without_a_label() -> None:
    X, y = blobs(3)
    P = kd.KDClassifier().fit(X, y).predict_proba(X)
    est = kd.KDClassifier(random_state=0)
    for _ in range(40):
        est.partial_fit(X, np.full(len(y), -1), classes=[0, 1, 2], teacher_proba=P)
    assert est.score(X, y) > 0.8
    teacher = kd.KDClassifier().fit(X, y)
    assert kd.KDClassifier(teacher=teacher).partial_fit(X[:5], y[:5]).classes_.tolist() == [0, 1, 2]


def test_partial_fit_refuses_what_needs_all_rows() -> None:
    X, y = blobs()
    for options, message in (
        ({"method": kd.SVRG()}, "SVRG comes back to them"),
        ({"method": kd.LBFGS()}, "LBFGS comes back to them"),
        ({"early_stopping": True}, "has no end of its own"),
        ({"class_weight": "balanced"}, "needs all labels at once"),
        ({"teacher": "self"}, "learns from all"),
    ):
        with pytest.raises(ValueError, match=message):
            kd.KDClassifier(**options).partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="lam='auto' is estimated over epochs"):
        kd.KDClassifier(kd.KD(lam="auto")).partial_fit(X, y, classes=[0, 1], teacher_logits=y)


def test_multiclass_reaches_what_scikit_learn_reaches() -> None:
    X, y = load_iris(return_X_y=True)
    X = scale(X)
    theirs = SGDClassifier(loss="log_loss", random_state=0).fit(X, y).score(X, y)
    for method in (kd.SGD(), kd.SVRG(), kd.SAGA(), kd.LBFGS()):
        assert kd.KDClassifier(method, random_state=0).fit(X, y).score(X, y) > theirs - 0.03


def test_one_class_is_an_error() -> None:
    X, y = blobs()
    with pytest.raises(ValueError, match="y names one class, 0"):
        kd.KDClassifier().fit(X, np.zeros(len(y), int))


def test_divergence_is_an_error() -> None:
    X, y = blobs()
    with pytest.raises(kd.DivergenceError, match="lower learning_rate"):
        kd.KDRegressor(learning_rate=1e3).fit(X, y)
