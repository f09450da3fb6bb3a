"""lam="auto" of deep linear models: the moments it is told, and what it leads to with teachers of every kind."""

from __future__ import annotations

import numpy as np
import pytest
from deep_problems import layers_of

import kdvr_fast as kd
from kdvr_fast import _layer_weight
from kdvr_fast._layer_weight import LayerWeight, sample_rows, sums_of_sample
from kdvr_fast._weight import Anchor
from kdvr_fast.backends.base import Pass, Sums

WIDTHS = (8, 6, 5, 2)
OPTIONS = {"loss": "squared", "batch_size": 1, "learning_rate": 0.01, "epochs": 12, "random_state": 0, "fit_intercept": False}


def problem(n=1000):
    """Rows, targets, and layers at an optimum: those of random layers with the last one fitted to what they give."""
    rng = np.random.default_rng(1)
    A = rng.standard_normal((n, WIDTHS[0]))
    *below, last = layers_of(WIDTHS)
    H = A @ below[0].T @ below[1].T
    Y = H @ last.T + 0.5 * rng.standard_normal((n, 2))
    P = np.linalg.lstsq(A, Y, rcond=None)[0].T
    layers = [*below, np.linalg.lstsq(below[1] @ below[0] @ A.T @ A @ (below[1] @ below[0]).T, H.T @ Y, rcond=None)[0].T]
    return A, Y, layers, P


def train(A, Y, layers, **options):
    near = [W + 0.1 * D for W, D in zip(layers, layers_of(WIDTHS, 7), strict=True)]
    return kd.solve(A, Y, model=kd.DeepLinear(weights=near), **{**OPTIONS, "track": "objective"} | options)


def excess(A, Y, P, run):
    return run.history["objective"][-4:].mean() - float(((A @ P.T - Y) ** 2).sum(1).mean() / 2)


def test_pairs_of_a_sample_are_the_mean_over_all_pairs():
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(2, 7, 3))
    products = {"xx": x @ x.T, "xt": x @ t.T, "tt": t @ t.T}
    read = Pass(
        Sums(rows=7, **{name: float(np.trace(p)) for name, p in products.items()}),
        *(part for g in (x, t) for part in (g[:, :2].mean(0), g[:, 2:].mean(0))),
    )
    sums = sums_of_sample(read, Sums(rows=21, loss=5.0))
    assert (sums.rows, sums.pairs, sums.loss) == (21, 21, 5.0)
    for name, p in products.items():
        assert getattr(sums, name) == pytest.approx(3 * np.trace(p))
        assert getattr(sums, f"pair_{name}") / 21 == pytest.approx((p.sum() - np.trace(p)) / 42)
    assert sums_of_sample(Pass(Sums(rows=1, xx=2.0), x[0, :2], x[0, 2:]), Sums(rows=4)).pairs == 0


def test_large_data_are_sampled_evenly_and_always_alike(monkeypatch):
    assert np.array_equal(sample_rows(5), np.arange(5))
    monkeypatch.setattr(_layer_weight, "_ROWS", 10)
    rows = sample_rows(1003)
    assert np.array_equal(rows, sample_rows(1003)) and np.array_equal(rows * 10 // 1003, np.arange(10))
    assert len(np.unique(rows - np.arange(10) * 1003 // 10)) > 5


def test_a_gradient_that_moves_with_the_student_is_not_that_of_the_anchors_pass():
    for layered, penalty in ((True, 2.0), (False, None)):
        weight = LayerWeight(kd.KD(lam="auto").plan(), 0.0, True, 10, layered=layered)
        weight.anchored(Anchor(mean_sq=3.0, loss=1.0, penalty=2.0))
        assert weight.state()["anchor"] == {"mean_sq": None, "loss": 1.0, "penalty": penalty}


@pytest.mark.parametrize("teacher", ["same shape", "linear", "outputs"])
def test_the_weight_is_that_of_the_exact_statistics(backend, teacher):
    """Unbiased KD with steps that move nothing: Cov / Var of whole gradients, as `layer_stats` and `optimal_lambda` have it."""
    A, Y, layers, _ = problem(200)
    theta = [W + 0.1 * D for W, D in zip(layers, layers_of(WIDTHS, 9), strict=True)]
    product = theta[2] @ theta[1] @ theta[0]
    guide = {
        "same shape": kd.Teacher.layers(theta),
        "linear": kd.Teacher.weights(product),
        "outputs": kd.Teacher.logits(A @ product.T),
    }[teacher]
    method = kd.UnbiasedKD(lam="auto")
    run = train(A, Y, layers, method=method, teacher=guide, learning_rate=1e-15, epochs=2, backend=backend)
    form = "parameter" if teacher == "same shape" else "logit"
    stats = kd.layer_stats(A, Y, run.weights, loss="squared", teacher=guide, form=form)
    assert run.history["lam"][1] == pytest.approx(np.clip(stats.covariance / stats.teacher_variance, 0, 1), rel=1e-9)
    assert 0.1 < run.history["lam"][1] < 1


def test_some_rows_are_enough(monkeypatch):
    A, Y, layers, _ = problem(3000)
    guide = kd.Teacher.layers([W + 0.1 * D for W, D in zip(layers, layers_of(WIDTHS, 9), strict=True)])
    options = {"method": kd.UnbiasedKD(lam="auto"), "teacher": guide, "epochs": 3}
    exact = train(A, Y, layers, **options)
    monkeypatch.setattr(_layer_weight, "_ROWS", 600)
    sampled = train(A, Y, layers, **options)
    np.testing.assert_allclose(sampled.history["lam"][1:], exact.history["lam"][1:], atol=0.1)
    # a pass at the anchor, and after each look both gradients of the rows that were read
    assert np.diff(sampled.history["grad_evals"]).tolist() == pytest.approx([1.2, 1.2])
    assert np.diff(exact.history["grad_evals"]).tolist() == pytest.approx([2, 2])


@pytest.mark.parametrize("method", [kd.KD(lam="auto"), kd.KD(lam="auto", form="parameter"), kd.UnbiasedKD(lam="auto")], ids=str)
def test_a_good_teacher_is_followed(method, backend):
    A, Y, layers, P = problem()
    guide = kd.Teacher.layers(layers)
    alone, taught = train(A, Y, layers), train(A, Y, layers, method=method, teacher=guide, backend=backend)
    assert excess(A, Y, P, taught) < 0.5 * excess(A, Y, P, alone)
    lam = taught.history["lam"]
    assert lam[-1] > 0.5 and (lam >= 0).all() and (lam <= 1).all()


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        (method, kind)
        for method in (kd.KD(lam="auto"), kd.KD(lam="auto", form="parameter"), kd.UnbiasedKD(lam="auto"))
        for kind in ("random", "adversarial", "table")
        if kind != "table" or method != kd.KD(lam="auto", form="parameter")  # which has a teacher with layers
    ],
    ids=str,
)
def test_a_useless_teacher_does_no_harm(method, kind):
    A, Y, layers, _ = problem()
    guide = {
        "random": kd.Teacher.layers(layers_of(WIDTHS, 11)),
        "adversarial": kd.Teacher.layers([*layers[:-1], -layers[-1]]),
        "table": kd.Teacher.logits(5 * np.random.default_rng(3).standard_normal(Y.shape)),
    }[kind]
    alone, taught = train(A, Y, layers), train(A, Y, layers, method=method, teacher=guide)
    assert taught.history["objective"][-4:].mean() < 1.02 * alone.history["objective"][-4:].mean()


@pytest.mark.parametrize("method", [kd.RepeatedKD, kd.SVRG, kd.LSVRG])
def test_snapshots_have_a_weight_of_their_own(method):
    A, Y, layers, P = problem()
    alone, run = train(A, Y, layers), train(A, Y, layers, method=method(lam="auto"))
    assert excess(A, Y, P, run) < 0.8 * excess(A, Y, P, alone)
    assert run.history["lam"][-1] > 0.3


def test_what_is_tracked_does_not_change_it_and_a_resumed_run_is_the_same(tmp_path):
    A, Y, layers, _ = problem(200)
    options = {"method": kd.UnbiasedKD(lam="auto"), "teacher": kd.Teacher.layers(layers_of(WIDTHS, 9)), "epochs": 4}
    plain = train(A, Y, layers, **options)
    tracked = train(A, Y, layers, **options | {"track": ("objective", "statistics"), "n_threads": 2})
    assert np.array_equal(plain.history["lam"], tracked.history["lam"])

    def cut(progress):
        if progress.epoch == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(A, Y, layers, **options, callbacks=[cut], checkpoint=kd.Checkpoint(tmp_path / "run.kdvr"))
    again = train(A, Y, layers, **options, checkpoint=kd.Checkpoint(tmp_path / "run.kdvr", resume=True))
    assert all(np.array_equal(a, b) for a, b in zip(plain.weights, again.weights, strict=True))
    assert np.array_equal(plain.history["lam"], again.history["lam"])


def test_statistics_that_are_turned_off_are_missed():
    A, Y, layers, _ = problem(20)
    with pytest.raises(ValueError, match="statistics=True"):
        train(A, Y, layers, method=kd.UnbiasedKD(lam="auto"), teacher=kd.Teacher.layers(layers), statistics=False)
