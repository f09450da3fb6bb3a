"""Layer statistics of deep linear models against torch's gradients of every single row, and along runs."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from dataclasses import replace
from time import sleep

import numpy as np
import pytest
from deep_problems import layers_of, torch_loss
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import LOSS_NAMES, make_problem, to_csr

import kdvr_fast as kd
from kdvr_fast import synthetic
from kdvr_fast._layers import Network, join, product
from kdvr_fast.backends import get_backend, layer_pass
from kdvr_fast.backends.base import ControlVariate
from kdvr_fast.backends.deep import DeepSession
from kdvr_fast.statistics import batch_factor

MOMENTS = ("mean_sq_norm", "teacher_mean_sq_norm", "cross", "variance", "teacher_variance", "covariance", "bias_sq")


def row_gradients(torch, loss, problem, layers, b, residuals=None):
    """(n, p) of each layer, W_1 first, the last with the intercept: of each row's loss, or of <residuals_i, z_i>."""
    parameters = [torch.tensor(W) for W in [*layers, b]]

    def value(parameters, a, y, q):
        z = a
        for W in parameters[:-1]:
            z = W @ z
        z = z + parameters[-1]
        return (q * z).sum() if residuals is not None else torch_loss(torch, loss, y[None], z[None])

    q = torch.from_numpy(np.zeros((problem.n, len(b))) if residuals is None else residuals)
    each = torch.func.vmap(torch.func.grad(value), in_dims=(None, 0, 0, 0))
    grads = [
        g.reshape(problem.n, -1).numpy() for g in each(parameters, torch.from_numpy(problem.X), torch.from_numpy(problem.y), q)
    ]
    s = np.ones((problem.n, 1)) if problem.weights is None else problem.weights[:, None]
    return [s * g for g in [*grads[:-2], np.hstack(grads[-2:])]]


def moments_of(x, t, b, factor):
    """What `MOMENTS` names, from all row gradients (n, p)."""
    mx, mt = x.mean(0), t.mean(0)
    variance, teacher_variance, covariance = (
        factor * ((u * v).sum(1).mean() - mu @ mv) for u, v, mu, mv in ((x, x, mx, mx), (t, t, mt, mt), (x, t, mx, mt))
    )
    return (
        mx @ mx + variance,
        mt @ mt + teacher_variance,
        mx @ mt + covariance,
        variance,
        teacher_variance,
        covariance,
        mt @ mt,
    )


def assert_moments(stats, x, t, b, sampling):
    expected = moments_of(x, t, b, batch_factor(len(x), b, sampling))
    got = [getattr(stats, name) for name in MOMENTS]
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12 * max(map(abs, expected)))


@settings(max_examples=25, deadline=None)
@given(
    loss=st.sampled_from(LOSS_NAMES),
    hidden=st.lists(st.integers(1, 12), max_size=4).map(tuple),
    n=st.integers(2, 40),
    d=st.integers(1, 9),
    form=st.sampled_from(["logit", "parameter"]),
    rows=st.sampled_from(["dense", "sparse"]),
    weighted=st.booleans(),
    fit_intercept=st.booleans(),
    sampling=st.sampled_from(["shuffle", "replacement"]),
    seed=st.integers(0, 1000),
)
def test_moments_are_those_of_all_row_gradients(loss, hidden, n, d, form, rows, weighted, fit_intercept, sampling, seed):
    torch = pytest.importorskip("torch")
    problem = make_problem(loss, n, d, seed=seed, weighted=weighted, fit_intercept=fit_intercept, density=0.7)
    k = problem.n_outputs
    layers, theta = layers_of((d, *hidden, k), seed), layers_of((d, *hidden, k), seed + 1)
    b, theta_b = np.linspace(-1, 1, k) * fit_intercept, np.linspace(1, 0.5, k) * fit_intercept
    batch = min(3, n)
    stats = kd.layer_stats(
        problem.X if rows == "dense" else to_csr_matrix(problem.X),
        problem.y,
        layers,
        intercept=b,
        loss=loss,
        teacher=kd.Teacher.layers(theta, theta_b),
        form=form,
        sample_weight=problem.weights,
        batch_size=batch,
        sampling=sampling,
        fit_intercept=fit_intercept,
    )
    x = row_gradients(torch, loss, problem, layers, b)
    own = row_gradients(torch, loss, problem, theta, theta_b)
    c = kd.LOSSES[loss].residual(problem.y, problem.X @ product(theta).T + theta_b)
    through = row_gradients(torch, loss, problem, layers, b, c)
    if not fit_intercept:
        x, own, through = ([*g[:-1], g[-1][:, :-k]] for g in (x, own, through))
    t = own if form == "parameter" else through
    for at, layer in enumerate(stats.layers):
        assert_moments(layer, x[at], t[at], batch, sampling)
    x, t, own, through = (np.hstack(g) for g in (x, t, own, through))
    assert_moments(stats, x, t, batch, sampling)
    whole = np.append(stats.grad, stats.grad_intercept[: k * fit_intercept])
    np.testing.assert_allclose(whole, x.mean(0), rtol=0, atol=1e-10 * np.abs(x).max())
    np.testing.assert_allclose(stats.singular_values, np.linalg.svd(product(layers), compute_uv=False), atol=1e-12)
    logit, parameter = (x.mean(0) - 0.6 * g.mean(0) for g in (through, own))
    norms = np.linalg.norm(logit) * np.linalg.norm(parameter)
    if norms > 1e-6 * np.abs(x).max() ** 2:  # else rounding makes the direction
        assert stats.similarity(0.6) == pytest.approx(logit @ parameter / norms, abs=1e-8)


def to_csr_matrix(X):
    from scipy.sparse import csr_array

    return csr_array(X)


def test_blocks_do_not_change_the_moments(monkeypatch):
    problem = make_problem("softmax", 57, 6, 3)
    layers, theta = layers_of((6, 5, 3)), layers_of((6, 5, 3), 4)
    options = {"loss": "softmax", "teacher": kd.Teacher.layers(theta), "form": "parameter"}
    whole = kd.layer_stats(problem.X, problem.y, layers, **options)
    monkeypatch.setattr(layer_pass, "_BLOCK_NUMBERS", 60)  # ten rows at once
    for most in (1, 4, 16):
        monkeypatch.setattr(layer_pass, "_PARTS", most)
        parts = kd.layer_stats(problem.X, problem.y, layers, **options)
        for a, b in zip([whole, *whole.layers], [parts, *parts.layers], strict=True):
            np.testing.assert_allclose([getattr(a, m) for m in MOMENTS], [getattr(b, m) for m in MOMENTS], rtol=1e-12)
            np.testing.assert_allclose(a.grad, b.grad, rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_at_any_thread_count(monkeypatch, dtype):
    monkeypatch.setattr(layer_pass, "_BLOCK_NUMBERS", 6000)  # a hundred rows at once
    problem = make_problem("softmax", 1111, 60, 3, dtype=dtype)
    layers, theta = layers_of((60, 50, 40, 3)), layers_of((60, 50, 40, 3), 4)
    options = {"loss": "softmax", "teacher": kd.Teacher.layers(theta), "form": "parameter"}
    one, *others = (kd.layer_stats(problem.X, problem.y, layers, n_threads=t, **options) for t in (1, 2, 5))
    for other in others:
        for a, b in zip((one, *one.layers), (other, *other.layers), strict=True):
            assert all(getattr(a, m) == getattr(b, m) for m in MOMENTS) and np.array_equal(a.grad, b.grad)


@pytest.mark.parametrize("rows", ["dense", "sparse", "compact"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_read_gives_what_a_pass_gives(backend, dtype, rows):
    """Loss, gradients of both and the sum of all layers' moments, of all rows or some, to the rounding of the type."""
    problem = make_problem("softmax", 57, 6, 3, dtype=dtype, weighted=True, density=0.7)
    if rows == "sparse":
        problem = replace(problem, X=to_csr(problem.X))
    if rows == "compact":
        problem = replace(problem, X=kd.Compact((20 * problem.X).astype(np.int8), scale=0.05, dtype=dtype))
    widths, b = (6, 5, 3), np.ones(3, dtype)
    flat, theta = (join(layers_of(widths, seed), np.dtype(dtype)) for seed in (3, 4))
    variate = ControlVariate(source="weights")
    for own in (False, True):
        session = get_backend(backend).open_deep(problem, Network(widths, own_jacobian=own))
        session.anchor_at(theta, b, cached=False, mean=False)
        whole, read = session.evaluate(flat, b, variate), session.layers(flat, b, variate).whole
        tolerance = 20 * float(np.finfo(dtype).eps)
        for name in ("grad", "grad_intercept", "anchor_grad", "anchor_grad_intercept"):
            np.testing.assert_allclose(getattr(read, name), getattr(whole, name), rtol=0, atol=tolerance)
        assert read.sums.loss == pytest.approx(whole.sums.loss, rel=tolerance) and read.sums.rows == 57
        some = np.array([3, 50, 4, 4])
        each = [session.layers(flat, b, variate, some[i : i + 1]).whole for i in range(4)]
        part = session.layers(flat, b, variate, some).whole
        for name in ("loss", "xx", "xt", "tt"):
            assert getattr(part.sums, name) == pytest.approx(sum(getattr(one.sums, name) for one in each), rel=tolerance)
        np.testing.assert_allclose(part.anchor_grad, np.mean([one.anchor_grad for one in each], axis=0), atol=tolerance)


def test_an_interrupt_ends_the_read(monkeypatch):
    monkeypatch.setattr(layer_pass, "_BLOCK_NUMBERS", 6)  # a row at once
    seen, exact = [], layer_pass._Reader._moments

    def moments(*arguments):
        seen.append(1)
        if len(seen) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        sleep(0.01)
        return exact(*arguments)

    monkeypatch.setattr(layer_pass._Reader, "_moments", moments)
    problem = make_problem("softmax", 4000, 6, 3)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            kd.layer_stats(problem.X, problem.y, layers_of((6, 3)), loss="softmax", n_threads=2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(seen) < 400  # parts that have begun do not go on to their ends, 250 rows each


def test_a_run_with_statistics_makes_one_read_an_epoch(monkeypatch, backend):
    """Its objective and the gradient's norm for tol come from the read through the layers."""
    problem = make_problem("softmax", 40, 6, 3)
    reads = {"evaluate": 0, "layers": 0}
    for name in reads:
        exact = getattr(DeepSession, name)

        def count(self, *arguments, name=name, exact=exact, **more):
            reads[name] += 1
            return exact(self, *arguments, **more)

        monkeypatch.setattr(DeepSession, name, count)
    theta = layers_of((6, 9, 3), 5)
    options = {"loss": "softmax", "method": kd.KD(0.6, form="parameter"), "teacher": kd.Teacher.layers(theta), "epochs": 3}
    options |= {"model": kd.DeepLinear(weights=layers_of((6, 9, 3))), "random_state": 0, "backend": backend, "alpha": 0.01}
    run = kd.solve(problem.X, problem.y, track=("objective", "statistics"), **options)
    assert reads["layers"] == 3 and reads["evaluate"] <= 1  # the size of the loss at given layers
    plain = kd.solve(problem.X, problem.y, track="objective", **options)
    for name in ("objective", "grad_norm"):
        np.testing.assert_allclose(run.history[name], plain.history[name], rtol=1e-12)


def test_one_layer_is_the_linear_model(backend):
    problem = make_problem("softmax", 40, 6, 3, weighted=True)
    (W,), (theta,) = layers_of((6, 3)), layers_of((6, 3), 4)
    options = {"loss": "softmax", "intercept": np.ones(3), "alpha": 0.1, "batch_size": 4, "sample_weight": problem.weights}
    linear = kd.gradient_stats(problem.X, problem.y, W, teacher=kd.Teacher.weights(theta), backend=backend, **options)
    deep = kd.layer_stats(problem.X, problem.y, [W], teacher=kd.Teacher.layers([theta]), **options)
    for stats in (deep, deep.layers[0]):
        for name in (*MOMENTS, "loss", "objective", "rho", "rho_centered", "snr"):
            assert getattr(stats, name) == pytest.approx(getattr(linear, name), rel=1e-10), name
    np.testing.assert_allclose(deep.layers[0].grad, linear.grad, atol=1e-12)
    assert deep.similarity(0.5) == pytest.approx(1.0, abs=1e-12)
    assert kd.optimal_lambda(deep, 0.1) == pytest.approx(kd.optimal_lambda(linear, 0.1), rel=1e-10)


METHODS = {
    "SGD": (kd.SGD(), None),
    "KD logit": (kd.KD(0.6, form="logit"), "layers"),
    "KD parameter": (kd.KD(0.6, form="parameter", teacher_alpha=0.02), "layers"),
    "KD probabilities": (kd.KD(0.6), "probabilities"),
    "UnbiasedKD": (kd.UnbiasedKD(0.8), "layers"),
    "SVRG": (kd.SVRG(), None),
    "LSVRG": (kd.LSVRG(0.3), None),
}


@pytest.mark.parametrize("name", METHODS)
def test_history_has_the_statistics_of_each_epoch(name, backend):
    """Those of `layer_stats` at the weights and the teacher of the run; without a pass of the run's own."""
    problem = make_problem("softmax", 40, 6, 3)
    widths, method, kind = (6, 9, 4, 3), *METHODS[name]
    theta, b = layers_of(widths, 5), np.array([0.1, 0.0, -0.2])
    P = np.random.default_rng(1).dirichlet(np.ones(3), 40)
    teacher = {None: None, "layers": kd.Teacher.layers(theta, b), "probabilities": kd.Teacher.probabilities(P)}[kind]
    options = {"loss": "softmax", "alpha": 0.01, "batch_size": 5}
    run = kd.solve(
        problem.X,
        problem.y,
        method=method,
        model=kd.DeepLinear(weights=layers_of(widths)),
        teacher=teacher,
        epochs=3,
        track="statistics",
        random_state=0,
        backend=backend,
        **options,
    )
    assert len(run.history.stats) == 3 and run.stats is run.history.stats[-1]
    own = name in ("KD parameter", "UnbiasedKD")
    options |= {"intercept": run.intercept, "sampling": "shuffle", "form": "parameter" if own else "logit"}
    expected = kd.layer_stats(problem.X, problem.y, run.weights, teacher=teacher, **options)
    names = [m for m in MOMENTS if (kind is not None or "teacher" not in m) and m not in ("cross", "covariance", "bias_sq")]
    names += ["covariance"] if kind is not None else []
    assert name not in ("SVRG", "LSVRG") or run.stats.teacher_variance > 0
    if name == "KD parameter":
        names.remove("teacher_mean_sq_norm")  # with its penalty
        shifted = expected.parameter_grad + 0.02 * np.concatenate([W.ravel() for W in theta])
        np.testing.assert_allclose(run.stats.teacher_grad, shifted, rtol=0, atol=1e-12)
        np.testing.assert_allclose(run.stats.layers[1].teacher_grad.ravel(), shifted[54:90], rtol=0, atol=1e-12)
    for a, e in zip([run.stats, *run.stats.layers], [expected, *expected.layers], strict=True):
        np.testing.assert_allclose([getattr(a, m) for m in names], [getattr(e, m) for m in names], rtol=1e-9)
    np.testing.assert_allclose(run.stats.grad, expected.grad, rtol=0, atol=1e-12)
    np.testing.assert_allclose(run.stats.singular_values, np.linalg.svd(run.coef, compute_uv=False), rtol=1e-12)
    assert run.stats.similarity(0.6) == pytest.approx(expected.similarity(0.6), nan_ok=True) or name in ("SVRG", "LSVRG")
    cosines = [stats.similarity(row["lam"]) for stats, row in zip(run.history.stats, run.history, strict=True)]
    np.testing.assert_array_equal(run.history["form_cosine"], cosines)
    assert np.isnan(cosines).all() == (kind != "layers" and name not in ("SVRG", "LSVRG"))
    assert run.history.singular_values.shape == (3, 3)
    np.testing.assert_array_equal(run.history.singular_values[-1], run.stats.singular_values)


def test_the_snapshot_of_the_last_epoch_is_the_anchor(backend):
    """SVRG: at the end of its epoch the anchor is where the epoch began."""
    problem = make_problem("softmax", 40, 6, 3)
    options = {"loss": "softmax", "method": kd.SVRG(), "batch_size": 5, "random_state": 0, "backend": backend}
    model = kd.DeepLinear(weights=layers_of((6, 9, 3)))
    before, after = (
        kd.solve(problem.X, problem.y, model=model, epochs=epochs, track="statistics", **options) for epochs in (1, 2)
    )
    snapshot = kd.Teacher.layers(before.weights, before.intercept)
    expected = kd.layer_stats(
        problem.X, problem.y, after.weights, intercept=after.intercept, loss="softmax", teacher=snapshot, form="parameter",
        batch_size=5, sampling="shuffle",
    )  # fmt: skip
    for name in MOMENTS:
        assert getattr(after.stats, name) == pytest.approx(getattr(expected, name), rel=1e-9), name
    assert after.stats.similarity(1.0) == pytest.approx(expected.similarity(1.0), rel=1e-9)


@pytest.mark.parametrize("method", [kd.SGD(), kd.SVRG()], ids=["SGD", "SVRG"])
def test_a_resumed_run_keeps_them(tmp_path, method):
    problem = make_problem("softmax", 40, 6, 3)
    model = kd.DeepLinear(weights=layers_of((6, 9, 3)))
    options = {"loss": "softmax", "method": method, "model": model, "track": "statistics", "random_state": 0}
    whole = kd.solve(problem.X, problem.y, epochs=3, **options)

    def cut(progress):
        if progress.epoch == 2:
            raise InterruptedError

    for more in ({"callbacks": [cut]}, {}):
        with nullcontext() if not more else pytest.raises(InterruptedError):
            kept = kd.Checkpoint(tmp_path / "run.kdvr", resume=True)
            resumed = kd.solve(problem.X, problem.y, epochs=3, checkpoint=kept, **options, **more)
    for a, b in zip(whole.history.stats, resumed.history.stats, strict=True):
        assert type(b) is kd.LayerStats and len(b.layers) == 2
        for one, other in zip((a, *a.layers), (b, *b.layers), strict=True):
            for name in set(vars(one)) - {"layers"}:
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"form": "both"}, ValueError, "form='both'"),
        ({"form": "parameter"}, ValueError, "form='parameter' .* 6-9-3"),
        ({"form": "parameter", "teacher": kd.Teacher.layers(layers_of((6, 4, 3)))}, ValueError, "6-9-3"),
        ({"weights": np.eye(3)}, TypeError, "list of matrices"),
        ({"weights": layers_of((5, 3))}, ValueError, r"weights\[0\] has 5 features"),
        ({"weights": layers_of((6, 2))}, ValueError, "label 2"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"intercept": np.zeros(2)}, ValueError, "intercept"),
    ],
)
def test_input_that_does_not_fit(options, error, message):
    problem = make_problem("softmax", 40, 6, 3)
    options = {"weights": layers_of((6, 9, 3)), "loss": "softmax"} | options
    with pytest.raises(error, match=message):
        kd.layer_stats(problem.X, problem.y, options.pop("weights"), **options)


def test_gradients_of_zero_have_no_cosine():
    X, y = np.eye(2), np.zeros(2)
    layers = [np.zeros((1, 2)), np.zeros((1, 1))]
    teacher = kd.Teacher.layers([np.ones((1, 2)), np.ones((1, 1))])
    stats = kd.layer_stats(X, y, layers, loss="squared", teacher=teacher, form="parameter")
    assert np.isnan(stats.similarity(0.0)) and np.isnan(stats.rho)
    assert np.isnan(kd.layer_stats(X, y, layers, loss="squared").similarity(0.5))


def test_a_nan_in_the_rows_is_found():
    problem = make_problem("softmax", 40, 6, 3)
    problem.X[3, 2] = np.nan
    with pytest.raises(ValueError, match="row 3, column 2"):
        kd.layer_stats(problem.X, problem.y, layers_of((6, 9, 3)), loss="softmax")


def test_virtual_rows_are_refused():
    p = synthetic.least_squares(100, 3, random_state=0, virtual=True)
    with pytest.raises(ValueError, match="stored rows"):
        kd.layer_stats(p.X, p.y, layers_of((3, 2, 1)), loss="squared")
