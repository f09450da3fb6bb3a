"""Every compiled backend against the reference: losses, variates, step options, dtypes, shapes, strides, extreme values.

The learning rate stays below the stability limit of every row, so a step does not amplify earlier rounding errors and those of
T steps add up: errors of weights are eps x T x (size of the weights), and all other tolerances follow from that one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from problems import (
    LOSS_NAMES,
    VARIATES,
    every_compiled_backend,
    make_point,
    make_problem,
    make_table,
    prepare,
    row_norms,
    to_csr,
    variates_of,
)

from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import LARGEST, Problem, Step

SLACK = 2  # the bounds are products of maxima and so generous already: random cases stay below a tenth of them at 1
ROUNDINGS = 32  # where numbers are compared directly: a dot product of a few dozen terms in another order, an exp, an update
# of the random comparison; runs under each instruction set take fewer
EXAMPLES = int(os.environ.get("KDVR_PARITY_EXAMPLES", "200"))
SHAPES = {  # n, d, largest k; tall and wide rows take an engine over its blocks of rows, within a batch and within a pass
    "small": st.tuples(st.integers(1, 80), st.integers(1, 70), st.just(40)),
    "tall": st.tuples(st.integers(129, 400), st.integers(1, 9), st.just(6)),
    "wide": st.tuples(st.integers(1, 60), st.integers(600, 2600), st.just(4)),
}
LAYOUTS = ("plain", "wide", "every other row", "backwards", "read-only")
SPARSE = {"csr": np.int32, "csr, 64 bits": np.int64}  # sparse rows, and the type of their features


@dataclass(frozen=True)
class Case:
    """One comparison; everything random in it follows from the seed."""

    loss: str
    kind: str
    n: int
    d: int
    k: int
    step: Step
    dtype: type = np.float64
    layout: str = "plain"
    fit_intercept: bool = True
    weighted: bool = False
    dense: bool = False
    cached: bool = False
    refresh: bool = False
    scale: float = 1.0
    density: float = 1.0
    seed: int = 0

    @property
    def variate(self):
        return VARIATES[self.kind]


@st.composite
def cases(draw):
    loss = draw(st.sampled_from(LOSS_NAMES))
    shape = draw(st.sampled_from(["small", "small", "tall", "wide"]))
    n, d, most_outputs = draw(SHAPES[shape])
    momentum = draw(st.sampled_from([0.0, 0.0, 0.5, 0.9]))
    step = Step(
        batch_size=draw(st.integers(1 if n <= 80 else n // 20, n)),
        l2=draw(st.sampled_from([0.0, 0.01])),
        l1=draw(st.sampled_from([0.0, 0.003])),
        momentum=momentum,
        nesterov=momentum > 0 and draw(st.booleans()),
        average=draw(st.booleans()),
        statistics=draw(st.booleans()),
        pairs_every=draw(st.sampled_from([1, 1, 2, 7])),
    )
    return Case(
        loss=loss,
        kind=draw(st.sampled_from(variates_of(loss))),
        n=n,
        d=d,
        k=1 if loss == "logistic" else draw(st.integers(2 if loss == "softmax" else 1, most_outputs)),
        step=step,
        dtype=draw(st.sampled_from([np.float32, np.float64])),
        layout=draw(st.sampled_from([*LAYOUTS, *SPARSE, *SPARSE])),
        fit_intercept=draw(st.booleans()),
        weighted=draw(st.booleans()),
        dense=draw(st.booleans()),
        cached=draw(st.booleans()),
        refresh=draw(st.booleans()),
        scale=draw(st.sampled_from([1e-3, 1.0, 30.0])),
        density=draw(st.sampled_from([1.0, 0.5, 0.05])),
        seed=draw(st.integers(0, 2**16)),
    )


def lay_out(X, layout):
    """The same rows in another place in memory: features contiguous, rows anywhere, or sparse."""
    n, d = X.shape
    if layout in SPARSE:
        return to_csr(X, SPARSE[layout])
    if layout == "wide":
        wide = np.full((n, d + 5), np.nan, X.dtype)
        wide[:, 2 : 2 + d] = X
        return wide[:, 2 : 2 + d]
    if layout == "every other row":
        tall = np.full((2 * n, d), np.nan, X.dtype)
        tall[::2] = X
        return tall[::2]
    if layout == "backwards":
        return X[::-1].copy()[::-1]
    X = X.copy()
    X.flags.writeable = layout != "read-only"
    return X


def make_case_problem(case: Case) -> Problem:
    problem = make_problem(
        case.loss,
        case.n,
        case.d,
        case.k,
        dtype=case.dtype,
        seed=case.seed,
        weighted=case.weighted,
        fit_intercept=case.fit_intercept,
        dense=case.dense,
        scale=case.scale,
        density=case.density,
    )
    return replace(problem, X=lay_out(problem.X, case.layout))


def start(session, problem, case):
    """Weights and anchor; `cached` fills the table from weights instead of from given rows."""
    if case.cached and case.variate.source == "table" and case.variate.temperature is None:
        session.set_weights(*make_point(problem))
        return session.anchor_at(*make_point(problem, 2), cached=True, mean=case.variate.use_mean)
    return prepare(session, problem, case.variate)


def can_refresh(case):
    """A refresh repeats the last `anchor_at`, so there must have been one."""
    variate = case.variate
    return case.refresh and (
        variate.source == "weights" or (case.cached and variate.source == "table" and not variate.temperature)
    )


def learning_rate(problem, step):
    """Half the stability limit of the worst row; momentum multiplies the effective rate by 1 / (1 - momentum)."""
    s = 1.0 if problem.weights is None else problem.weights.max()
    L = problem.loss.smoothness * s * row_norms(problem).max() + step.l2
    return 0.5 * (1 - step.momentum) / L if L > 0 else 1.0


def run(backend, case, problem):
    """Everything a session can show: passes, walks, weights, averages."""
    variate, step = case.variate, case.step
    rng = np.random.default_rng(case.seed)
    session = get_backend(backend).open(problem)
    reads = [start(session, problem, case), session.evaluate(*make_point(problem, 5), variate)]
    walks = []
    for _ in range(2):
        order = rng.integers(0, case.n, case.n + 3)
        n_steps = -(-len(order) // step.batch_size)
        rates = learning_rate(problem, step) * np.linspace(1, 0.5, n_steps)
        refresh_at = sorted({0, n_steps // 2}) if can_refresh(case) else []
        walks.append(session.epoch(order, rates, step, variate, refresh_at=refresh_at))
    reads += [read for walk in walks for read in walk.passes] + [session.evaluate(*make_point(problem, 5), variate)]
    return reads, walks, session.weights(), session.average()


@dataclass(frozen=True)
class Tolerance:
    """Absolute tolerances of weights, of residuals times |a| (entries of a gradient), and of second moments, per row."""

    weights: float
    gradient: float
    moment: float
    loss: float


def tolerance(case, problem, weights) -> Tolerance:
    eps = np.finfo(case.dtype).eps
    a = np.sqrt(row_norms(problem).max()) or 1.0  # of rows that are all 0 any bound will do
    s = 1.0 if problem.weights is None else float(problem.weights.max())
    y = 1.0 if problem.y.ndim == 1 else float(np.linalg.norm(problem.y.astype(np.float64), axis=1).max())
    points = (make_point(problem), make_point(problem, 2), make_point(problem, 5), weights)
    W = max(np.linalg.norm(np.column_stack(p).astype(np.float64)) for p in points) + (1 + y) / a
    T = 1.0 if case.variate.temperature is None else case.variate.temperature
    steps = 2 * (case.n + 3) / case.step.batch_size
    error = SLACK * eps * (steps + 4) * W * T * s  # of weights
    r, dr = s * (a * W + y + 1), s * a * error  # of residuals: their size and their error
    return Tolerance(error, dr * a, 2 * r * dr * a * a, r * dr)


def close(a, b, tolerance, what):
    assert a.dtype == b.dtype and a.shape == b.shape, what
    worst = np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0)
    assert worst <= tolerance, f"{what}: {worst:.3g} > {tolerance:.3g}"


def close_sums(a, b, allowed: Tolerance):
    assert a.rows == b.rows and a.pairs == b.pairs
    for name in ("loss", "xx", "xt", "tt", "pair_xx", "pair_xt", "pair_tt"):
        bound = max(a.rows, 1) * (allowed.loss if name == "loss" else allowed.moment)
        worst = abs(getattr(a, name) - getattr(b, name))
        assert worst <= bound, f"{name}: {worst:.3g} > {bound:.3g}"


def close_passes(a, b, allowed: Tolerance):
    assert (a is None) == (b is None)
    if a is None:
        return
    close_sums(a.sums, b.sums, allowed)
    for name in ("grad", "grad_intercept", "anchor_grad", "anchor_grad_intercept"):
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None) == (y is None), name
        if x is not None:
            assert x.dtype == np.float64
            close(x, y, allowed.gradient, name)


def compare(backend, case):
    problem = make_case_problem(case)
    expected = run("reference", case, problem)
    got = run(backend, case, problem)
    allowed = tolerance(case, problem, expected[2])
    assert len(got[0]) == len(expected[0])
    for a, b in zip(got[0], expected[0], strict=True):
        close_passes(a, b, allowed)
    for a, b in zip(got[1], expected[1], strict=True):
        assert (a.steps, a.exploded) == (b.steps, False)
        close_sums(a.sums, b.sums, allowed)
    for name, a, b in zip(("weights", "average"), got[2:], expected[2:], strict=True):
        close(a[0], b[0], allowed.weights, name)
        close(a[1], b[1], allowed.weights, name + " intercept")


@every_compiled_backend
@settings(max_examples=EXAMPLES, deadline=None)
@given(case=cases())
@example(case=Case("softmax", "saga", 300, 4, 3, Step(batch_size=300)))  # a batch of one block in parts
@example(case=Case("softmax", "saga", 1300, 5, 3, Step(batch_size=1100, momentum=0.5)))  # and of several such blocks
@example(case=Case("softmax", "weights+mean", 300, 900, 40, Step(batch_size=300)))  # sums too large for parts
@example(case=Case("softmax", "saga", 1, 1, 2, Step(), dtype=np.float32))
@example(case=Case("squared", "weights+mean", 80, 70, 40, Step(batch_size=80, momentum=0.9, average=True), weighted=True))
@example(case=Case("softmax", "saga", 1, 1, 2, Step(), dtype=np.float32, layout="csr", density=0.0))
@example(case=Case("squared", "weights+mean", 60, 30, 1, Step(l1=0.1, average=True), layout="csr", density=0.05, refresh=True))
@example(case=Case("logistic", "tempered-table", 5, 17, 1, Step(batch_size=3), dtype=np.float32, layout="wide"))
def test_random_sessions(backend, case):
    compare(backend, case)


@every_compiled_backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("loss", "kind"), [(loss, kind) for loss in LOSS_NAMES for kind in variates_of(loss)])
def test_every_kind(backend, loss, kind, dtype):
    """What the random cases may miss: each loss, variate and dtype once, at an awkward shape, dense and sparse."""
    step = Step(batch_size=4, l2=0.01, l1=0.001, momentum=0.5, average=True)
    k = {"squared": 3, "logistic": 1, "softmax": 11}[loss]
    case = Case(loss, kind, 29, 37, k, step, dtype, weighted=True, refresh=True, seed=7)
    compare(backend, case)
    for index, layout in enumerate(SPARSE):  # without momentum, which moves all weights in every step
        lazy = replace(step, batch_size=1 + 3 * index, momentum=0.0)
        compare(backend, replace(case, layout=layout, density=0.2, step=lazy))


@every_compiled_backend
@pytest.mark.parametrize("d", [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 130])
def test_every_tail(backend, d):
    """Feature counts around every vector width, with k around it too."""
    for k in (2, d % 33 + 2):
        for dtype in (np.float32, np.float64):
            compare(backend, Case("softmax", "weights+mean", 9, d, k, Step(batch_size=2), dtype, "wide"))


@every_compiled_backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", ["logistic", "softmax"])
def test_extreme_logits(backend, loss, dtype):
    """Logits of 1e4 and more: residuals are 0 and 1 to the last bit, so nothing is excused by cancellation."""
    problem = make_problem(loss, 200, 10, dtype=dtype, scale=1e3, weighted=True)
    W, b = make_point(problem, scale=5.0)
    z = np.sort(np.abs(problem.X @ W.T + b) if loss == "logistic" else problem.X @ W.T + b, axis=1)
    margin = z[:, -1] if loss == "logistic" else z[:, -1] - z[:, -2]
    keep = margin > 200  # exp(-200) is nothing beside 1, and 200 is far above the rounding errors of z
    problem = replace(problem, X=problem.X[keep].copy(), y=problem.y[keep], weights=problem.weights[keep])
    n, eps = len(problem.X), float(np.finfo(dtype).eps)
    assert n > 100 and np.abs(z).max() > 1e4
    reads, steps = [], []
    for name in ("reference", backend):
        session = get_backend(name).open(problem)
        session.anchor_at(*make_point(problem, 2, scale=5.0), cached=False, mean=False)
        session.set_weights(W, b)
        reads.append(session.evaluate(W, b, VARIATES["none"]))
        walk = session.epoch(np.arange(n), np.array([1e-6]), Step(batch_size=n), VARIATES["none"])
        steps.append(session.weights())
        assert np.isfinite(walk.sums.loss) and not walk.exploded
    a, b = reads
    assert b.sums.loss == pytest.approx(a.sums.loss, rel=ROUNDINGS * eps)
    assert b.sums.xx == pytest.approx(a.sums.xx, rel=ROUNDINGS * eps)
    np.testing.assert_allclose(b.grad, a.grad, rtol=0, atol=ROUNDINGS * eps * np.abs(problem.X).max())
    np.testing.assert_allclose(steps[1][0], steps[0][0], rtol=ROUNDINGS * eps, atol=ROUNDINGS * eps)


@every_compiled_backend
@pytest.mark.parametrize("kind", ["none", "weights+mean", "saga"])
def test_a_session_starts_afresh_with_set_weights(backend, kind):
    """Velocity and average are forgotten, a given constant part is used, arrays that go out are copies."""
    problem, step = make_problem("softmax"), Step(batch_size=5, momentum=0.9, average=True)
    variate, order = VARIATES[kind], np.arange(23)
    session = get_backend(backend).open(problem)
    results = []
    for _ in range(2):
        prepare(session, problem, variate)
        session.set_mean(*make_point(problem, 3))
        session.epoch(order, np.array([0.1]), step, variate)
        results.append((*session.weights(), *session.average()))
        session.weights()[0][:] = 99
    reference = get_backend("reference").open(problem)
    prepare(reference, problem, variate)
    reference.set_mean(*make_point(problem, 3))
    reference.epoch(order, np.array([0.1]), step, variate)
    for first, second, expected in zip(*results, (*reference.weights(), *reference.average()), strict=True):
        assert np.array_equal(first, second)
        np.testing.assert_allclose(first, expected, rtol=0, atol=ROUNDINGS * 10 * np.finfo(float).eps)


@every_compiled_backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_at_any_thread_count(backend, dtype):
    problem = make_problem("softmax", 3000, 20, dtype=dtype, weighted=True)
    variate, results = VARIATES["weights+mean"], []
    for n_threads in (None, 1, 2, 5):
        session = get_backend(backend).open(problem, n_threads)
        prepare(session, problem, variate)
        walk = session.epoch(np.arange(3000), np.array([0.05]), Step(batch_size=8), variate, refresh_at=[100])
        read = session.evaluate(*make_point(problem), variate)
        results.append(
            [*session.weights(), read.grad, read.anchor_grad, np.array([read.sums.xt, walk.sums.xt, walk.sums.pair_xt])]
        )
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


@every_compiled_backend
@pytest.mark.parametrize(("rate", "limit"), [(1e-9, LARGEST), (1e4, 50.0), (1e300, LARGEST)])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_explosions_are_seen(backend, loss, rate, limit):
    """By the limit where the loss grows beyond it, and by NaN whatever the limit."""
    problem, flags = make_problem(loss), []
    for name in ("reference", backend):
        session = get_backend(name).open(problem)
        session.set_weights(*make_point(problem))
        with np.errstate(all="ignore"):
            walk = session.epoch(
                np.tile(np.arange(23), 5), np.array([rate]), Step(batch_size=2), VARIATES["none"], loss_limit=limit
            )
        flags.append(walk.exploded)
    assert flags == [rate > 1e-9 and (loss == "squared" or limit == 50.0)] * 2


@every_compiled_backend
def test_an_explosion_stops_a_long_epoch_early(backend):
    problem = make_problem("squared", 100, 64, 32)
    session = get_backend(backend).open(problem)
    order = np.random.default_rng(0).integers(0, 100, 200_000)
    walk = session.epoch(order, np.array([1.0]), Step(batch_size=10), VARIATES["none"])
    assert walk.exploded and walk.steps < 10_000


def test_the_table_helper_gives_distinct_rows():
    """A guard on the tests: a constant table would hide a backend that reads the wrong row."""
    problem = make_problem("softmax")
    assert len(np.unique(make_table(problem, VARIATES["table"]), axis=0)) == len(problem.X)
