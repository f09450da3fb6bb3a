"""learning_rate="auto" of deep linear models: its constants against dense algebra, and runs that it carries."""

from __future__ import annotations

import numpy as np
import pytest
from deep_problems import WIDTHS, layers_of
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import LOSS_NAMES, OUTPUTS, make_problem, to_csr

import kdvr_fast as kd
from kdvr_fast import _layer_rate
from kdvr_fast._layer_rate import LayerRate, amplification, least_norm
from kdvr_fast._layers import Network, join, product


def norm(layers):
    return np.linalg.norm(product(layers), 2) if len(layers) else 1.0


def kappa(layers, s):
    L = len(layers)
    return sum((max(norm(layers[at + 1 :]), s ** (L - 1 - at)) * max(norm(layers[:at]), s**at)) ** 2 for at in range(L))


@settings(max_examples=30)
@given(
    widths=st.lists(st.integers(1, 70), min_size=2, max_size=6),
    s=st.sampled_from([1e-3, 1.0, 1.3]),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_the_amplification_is_that_of_the_products(widths, s, seed, dtype):
    layers = [W.astype(dtype) for W in layers_of(widths, seed)]
    assert amplification(layers, s) == pytest.approx(kappa(layers, s), rel=5e-3)


def test_the_same_layers_have_the_same_bits():
    layers = layers_of((300, 200, 250), 0)
    assert len({amplification(layers, 1.0) for _ in range(5)}) == 1


def test_layers_of_zero_count_with_their_least_norm():
    layers = [np.zeros((80, 90)), np.zeros((70, 80)), np.zeros((2, 70))]
    assert amplification(layers, 1.5) == pytest.approx(3 * 1.5**4)


@pytest.mark.parametrize("hidden", WIDTHS, ids=str)
def test_no_curvature_is_larger_where_residuals_are_zero(hidden):
    """Of the squared loss of one row, along random moves and the steepest, by differences: at most kappa |a|^2."""
    layers = layers_of((6, *hidden, 3))
    network, rng = Network((6, *hidden, 3)), np.random.default_rng(0)
    flat, a = join(layers, np.dtype(float)), np.random.default_rng(1).normal(size=6)
    z, h = network.product(flat) @ a, 1e-6
    bound, largest = amplification(layers, 1e-9) * (a @ a), 0.0
    moves = [rng.normal(size=network.size) for _ in range(20)] + [network.pull(flat, np.outer(u, a)) for u in np.eye(3)]
    for move in moves:
        move = move / np.linalg.norm(move)
        largest = max(largest, float(((network.product(flat + h * move) @ a - z) ** 2).sum()) / h**2)
    assert 0.05 * bound < largest <= bound * (1 + 1e-4)


@pytest.mark.parametrize("rows", ["dense", "sparse", "compact"])
def test_the_least_norm_makes_room_for_residuals(rows):
    X = (20 * np.random.default_rng(0).normal(size=(50, 6))).astype(np.int8) / 32
    kinds = {"dense": X, "sparse": to_csr(X), "compact": kd.Compact((32 * X).astype(np.int8), scale=1 / 32, dtype=np.float64)}
    layers, b = layers_of((6, 4, 3)), np.ones(3)
    problem = make_problem("squared", 50, 6, 3)
    problem = type(problem)(kinds[rows], 1000 * problem.y, problem.loss, 3)
    r = X @ product(layers).T + b - problem.y
    expected = np.sqrt((r**2).sum() / (X**2).sum()) ** 0.5
    assert expected > 3 and least_norm(problem, Network((6, 4, 3)), join(layers, np.dtype(float)), b) == pytest.approx(expected)
    still = type(problem)(kinds[rows], X @ product(layers).T + b, problem.loss, 3)
    assert least_norm(still, Network((6, 4, 3)), join(layers, np.dtype(float)), b) == 1.0
    nothing = type(problem)(np.zeros((50, 6)), problem.y, problem.loss, 3)
    assert least_norm(nothing, Network((6, 4, 3)), join(layers, np.dtype(float)), b) == 1.0


def train(problem, **options):
    return kd.solve(
        problem.X, problem.y, loss=problem.loss.name, **{"learning_rate": "auto", "random_state": 0, "epochs": 3} | options
    )


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("method", [kd.SGD(), kd.SVRG()], ids=str)
def test_one_layer_has_the_rate_of_the_linear_model(backend, loss, method):
    problem = make_problem(loss, 60, 6, OUTPUTS[loss])
    options = {"method": method, "batch_size": 7, "momentum": 0.5, "alpha": 0.1, "backend": backend}
    deep, linear = train(problem, model=kd.DeepLinear(widths=()), **options), train(problem, **options)
    np.testing.assert_allclose(deep.history["learning_rate"], linear.history["learning_rate"], rtol=1e-12)


def test_it_follows_the_layers_from_epoch_to_epoch(tmp_path):
    problem = make_problem("softmax", 300, 40, 3, dtype=np.float32)
    model = kd.DeepLinear(weights=layers_of((40, 50, 36, 3)))
    linear = kd.auto_learning_rate(problem.X, "softmax", batch_size=10)
    runs = [train(problem, model=model, epochs=epochs) for epochs in (1, 2, 3)]
    rates = runs[2].history["learning_rate"]
    assert rates[0] == pytest.approx(linear / kappa([W.astype(np.float32) for W in model.weights], 1.0), rel=5e-3)
    for run, rate in zip(runs, rates[1:], strict=False):
        assert rate == pytest.approx(linear / kappa(run.weights, 1.0), rel=5e-3)
    assert abs(rates[2] / rates[0] - 1) > 0.01
    threads = train(problem, model=model, n_threads=2)
    assert all(np.array_equal(a, b) for a, b in zip(threads.weights, runs[2].weights, strict=True))

    def cut(progress):
        if progress.epoch == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(problem, model=model, callbacks=[cut], checkpoint=kd.Checkpoint(tmp_path / "run.kdvr"))
    again = train(problem, model=model, checkpoint=kd.Checkpoint(tmp_path / "run.kdvr", resume=True))
    assert all(np.array_equal(a, b) for a, b in zip(again.weights, runs[2].weights, strict=True))


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("model", [kd.DeepLinear(widths=h, init=i) for h, i in [((8,), "balanced"), ((9, 9, 9), "gaussian")]])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_it_carries_a_run(loss, model, scale):
    """Rows and (squared) targets of any size: the loss falls and nothing explodes."""
    rng = np.random.default_rng(0)
    X = scale * rng.normal(size=(200, 8))
    Z = X @ rng.normal(size=(8, 3)) / scale
    y = {"squared": 3 * Z, "logistic": (Z[:, 0] > 0).astype(float), "softmax": Z.argmax(1)}[loss]
    for method, batch_size, momentum in ((kd.SGD(), 1, 0.0), (kd.SGD(), 20, 0.9), (kd.SVRG(), 20, 0.5)):
        options = {"batch_size": batch_size, "momentum": momentum, "learning_rate": "auto", "epochs": 15, "random_state": 0}
        run = kd.solve(X, y, loss=loss, model=model, method=method, track="objective", **options)
        objective = run.history["objective"]
        assert objective[-1] < objective[0] and np.all(np.diff(objective) < 0.05 * objective[0])


def test_a_given_rate_is_left_alone():
    problem = make_problem("softmax", 40, 6, 3)
    run = train(problem, model=kd.DeepLinear(widths=(5,)), learning_rate=kd.Exponential(0.1, 0.5))
    assert run.history["learning_rate"].tolist() == [0.1, 0.05, 0.025]
    assert LayerRate(0.5, 1.0).at([np.eye(2), np.eye(2)]) == 0.25
    assert _layer_rate._norm([]) == 1.0
