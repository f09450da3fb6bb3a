"""gradient_stats against explicit per-sample gradients, the batch factor by enumeration, the running sums of a walk."""

from __future__ import annotations

import doctest
import itertools
from dataclasses import dataclass, fields

import numpy as np
import pytest
from problems import LOSS_NAMES, OUTPUTS, make_point, make_problem, relative

import kdvr_fast as kd
from kdvr_fast import statistics
from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import ControlVariate, Step
from kdvr_fast.losses import LOSSES
from kdvr_fast.statistics import batch_factor, gradient_similarity, gradient_stats

TIGHT = 1e-10  # float64 sums over a few dozen rows, relative to the second moments that are subtracted
TEACHERS = ["weights", "logits", "none"]


def flat(W, b, free):
    return np.concatenate([np.asarray(W, np.float64).ravel(), np.asarray(b, np.float64) * free])


def per_sample(problem, z, alpha, W):
    """Gradients (n, k d + k), one explicit outer product a row."""
    s = np.ones(len(z)) if problem.weights is None else problem.weights
    r = s[:, None] * problem.loss.residual(problem.y, z)
    return np.array([flat(np.outer(r[i], problem.X[i]) + alpha * W, r[i], problem.fit_intercept) for i in range(len(z))])


def make_teacher(problem, kind):
    """A teacher, its weights for the penalty (zero if it has none), and its logits."""
    W, b = make_point(problem, 2)
    z = problem.X @ W.T + b
    if kind == "weights":
        return kd.Teacher.weights(W, b), W, z
    if kind == "logits":
        z = z + np.random.default_rng(9).normal(size=z.shape)
        return kd.Teacher.logits(z), 0 * W, z
    return None, 0 * W, z


def explicit(G, H, batches):
    """Every moment of the batch estimator by listing the batches: G, H (n, p) gradients of single rows."""
    g = np.array([G[list(rows)].mean(0) for rows in batches])
    h = np.array([H[list(rows)].mean(0) for rows in batches])
    mean_g, mean_h = G.mean(0), H.mean(0)
    out = {
        "mean_sq_norm": (g * g).sum(1).mean(),
        "teacher_mean_sq_norm": (h * h).sum(1).mean(),
        "cross": (g * h).sum(1).mean(),
        "variance": ((g - mean_g) ** 2).sum(1).mean(),
        "teacher_variance": ((h - mean_h) ** 2).sum(1).mean(),
        "covariance": ((g - mean_g) * (h - mean_h)).sum(1).mean(),
        "bias_sq": mean_h @ mean_h,
    }
    out["rho"] = out["cross"] / np.sqrt(out["mean_sq_norm"] * out["teacher_mean_sq_norm"])
    one = [((a - a.mean(0)) * (b - b.mean(0))).sum() for a, b in ((G, H), (G, G), (H, H))]
    out["rho_centered"] = one[0] / np.sqrt(one[1] * one[2])
    out["snr"] = out["bias_sq"] / out["teacher_mean_sq_norm"]
    return out, g, h


def compare(stats, problem, G, H, batches, with_teacher):
    expected, g, h = explicit(G, H, batches)
    scale = max(1.0, expected["mean_sq_norm"], expected["teacher_mean_sq_norm"])
    for name, value in expected.items():
        if with_teacher or name in ("mean_sq_norm", "variance"):
            assert getattr(stats, name) == pytest.approx(value, rel=TIGHT, abs=TIGHT * scale), name
        else:
            assert np.isnan(getattr(stats, name)), name
    assert relative(flat(stats.grad, stats.grad_intercept, 1), G.mean(0)) < TIGHT
    if not with_teacher:
        assert stats.teacher_grad is None and stats.teacher_grad_intercept is None
        assert stats.variance_at(0.0) == stats.variance
        return
    assert relative(flat(stats.teacher_grad, stats.teacher_grad_intercept, 1), H.mean(0)) < TIGHT
    for lam in (0.0, 0.4, 1.0):
        corrected = g - lam * h
        variance = ((corrected - corrected.mean(0)) ** 2).sum(1).mean()
        assert stats.variance_at(lam) == pytest.approx(variance, rel=TIGHT, abs=TIGHT * scale)


@pytest.mark.parametrize("teacher", TEACHERS)
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_every_field_against_explicit_gradients(backend, loss, teacher):
    for weighted, intercept, alpha in itertools.product([False, True], [False, True], [0.0, 0.3]):
        problem = make_problem(loss, n=31, weighted=weighted, fit_intercept=intercept, dense=alpha > 0)
        W, b = make_point(problem)
        given, theta, teacher_z = make_teacher(problem, teacher)
        teacher_alpha = alpha if teacher == "weights" else 0.0
        stats = gradient_stats(
            problem.X,
            problem.y,
            W,
            intercept=b if intercept else None,
            loss=loss,
            teacher=given,
            sample_weight=None if problem.weights is None else 3 * problem.weights,  # any scale means the same
            alpha=alpha,
            teacher_alpha=teacher_alpha,
            backend=backend,
        )
        z = problem.X @ W.T + b
        G = per_sample(problem, z, alpha, W)
        H = per_sample(problem, teacher_z, teacher_alpha, theta)
        compare(stats, problem, G, H, [(i,) for i in range(31)], given is not None)
        s = 1 if problem.weights is None else problem.weights
        value = (s * LOSSES[loss].value(problem.y, z)).mean()
        assert stats.loss == pytest.approx(value, rel=TIGHT)
        assert stats.objective == pytest.approx(value + alpha / 2 * (W**2).sum(), rel=TIGHT)
        assert (stats.n, stats.batch_size, stats.sampling) == (31, 1, "replacement")


@pytest.mark.parametrize("sampling", ["replacement", "shuffle"])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_batches_by_enumeration(backend, loss, sampling):
    """All batches of b of 5 rows, listed: every moment is that of the batch estimator, penalties included."""
    problem = make_problem(loss, n=5, d=3, weighted=True)
    (W, b), (teacher, theta, teacher_z) = make_point(problem), make_teacher(problem, "weights")
    G, H = per_sample(problem, problem.X @ W.T + b, 0.2, W), per_sample(problem, teacher_z, 0.1, theta)
    for size in range(1, 6):
        batches = list(
            itertools.product(range(5), repeat=size) if sampling == "replacement" else itertools.combinations(range(5), size)
        )
        stats = gradient_stats(
            problem.X,
            problem.y,
            W,
            intercept=b,
            loss=loss,
            teacher=teacher,
            sample_weight=problem.weights,
            alpha=0.2,
            teacher_alpha=0.1,
            batch_size=size,
            sampling=sampling,
            backend=backend,
        )
        compare(stats, problem, G, H, batches, True)


def test_full_batch_without_replacement_has_no_variance():
    problem = make_problem("squared", n=1)
    stats = gradient_stats(
        problem.X, problem.y, make_point(problem)[0], loss="squared", sampling="shuffle", backend="reference"
    )
    assert stats.variance == 0 and batch_factor(1, 1, "shuffle") == 0 and batch_factor(7, 7, "shuffle") == 0


def test_perfect_teacher_has_correlation_one(backend):
    problem = make_problem("softmax")
    W, b = make_point(problem)
    stats = gradient_stats(
        problem.X, problem.y, W, intercept=b, loss="softmax", teacher=kd.Teacher.weights(W, b), backend=backend
    )
    assert stats.rho == pytest.approx(1, abs=TIGHT) and stats.rho_centered == pytest.approx(1, abs=TIGHT)
    assert stats.variance_at(1.0) == pytest.approx(0, abs=TIGHT * stats.mean_sq_norm)


@dataclass
class CountingSession:
    """Passes everything on and counts the reads of all rows."""

    inner: object
    reads: list

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def evaluate(self, *args):
        self.reads.append("evaluate")
        return self.inner.evaluate(*args)

    def anchor_at(self, *args, cached, mean):
        self.reads += ["anchor_at"] if cached or mean else []
        return self.inner.anchor_at(*args, cached=cached, mean=mean)

    def anchor_table(self, values, *, mean):
        self.reads += ["anchor_table"] if mean else []
        return self.inner.anchor_table(values, mean=mean)


@pytest.mark.parametrize("teacher", TEACHERS)
def test_one_read_of_the_data(teacher, monkeypatch):
    problem, reads = make_problem("softmax"), []

    class Counting:
        def open(self, problem, n_threads=None):
            return CountingSession(get_backend("reference").open(problem), reads)

    monkeypatch.setattr(statistics, "backend_for", lambda name, problem, work: Counting())
    given = make_teacher(problem, teacher)[0]
    gradient_stats(problem.X, problem.y, make_point(problem)[0], loss="softmax", teacher=given)
    assert reads == ["evaluate"]


def pair_walk(n):
    """A walk of n^2 + 1 rows that meets every ordered pair (i, j), i = j included, exactly once (an Eulerian circuit)."""
    left = {i: list(range(n)) for i in range(n)}
    stack, walk = [0], []
    while stack:
        if left[stack[-1]]:
            stack.append(left[stack[-1]].pop())
        else:
            walk.append(stack.pop())
    assert sorted(itertools.pairwise(walk)) == list(itertools.product(range(n), repeat=2))
    return np.array(walk, np.int64)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_pair_sums_are_unbiased_for_squared_mean_gradients(backend, loss, batch_size):
    """Over all pairs of independent draws they average to |grad f(x)|^2, <grad f(x), grad f(theta)> and |grad f(theta)|^2."""
    problem = make_problem(loss, n=6, weighted=True)
    W, b = make_point(problem)
    session = get_backend(backend).open(problem)
    session.set_weights(W, b)
    session.anchor_at(*make_point(problem, 2), cached=False, mean=False)
    walk = session.epoch(pair_walk(6), np.zeros(1), Step(batch_size=batch_size), ControlVariate(0.5, "weights"))
    G = per_sample(problem, problem.X @ W.T + b, 0, W)
    H = per_sample(problem, make_teacher(problem, "weights")[2], 0, W)
    g, h, s = G.mean(0), H.mean(0), walk.sums
    scale = TIGHT * ((G * G).sum(1).max() + (H * H).sum(1).max())
    assert s.pairs == 36
    assert s.pair_xx / s.pairs == pytest.approx(g @ g, abs=scale)
    assert s.pair_xt / s.pairs == pytest.approx(g @ h, abs=scale)
    assert s.pair_tt / s.pairs == pytest.approx(h @ h, abs=scale)


def test_pair_sums_of_shuffled_epochs():
    """Neighbours of a permutation are never equal: their mean falls short of |grad f(x)|^2 by variance / (n - 1)."""
    problem = make_problem("softmax", n=5)
    W, b = make_point(problem)
    session = get_backend("reference").open(problem)
    session.set_weights(W, b)
    orders = itertools.permutations(range(5))
    walks = [session.epoch(np.array(rows, np.int64), np.zeros(1), Step(), ControlVariate()).sums for rows in orders]
    one = gradient_stats(problem.X, problem.y, W, intercept=b, loss="softmax", backend="reference")
    squared = np.vdot(one.grad, one.grad) + np.vdot(one.grad_intercept, one.grad_intercept)
    assert np.mean([s.pair_xx / s.pairs for s in walks]) == pytest.approx(squared - one.variance / 4, rel=TIGHT)


@dataclass(frozen=True)
class Still:
    """A learning rate of zero: the weights stay, so running figures can be compared with exact ones."""

    def values(self, epoch, n_steps, epochs):
        return np.zeros(1)


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_history_agrees_with_exact_statistics_when_nothing_moves(backend, loss):
    problem = make_problem(loss, n=9)
    (W, b), (teacher, _, _) = make_point(problem), make_teacher(problem, "weights")
    options = {"loss": loss, "teacher": teacher, "backend": backend}
    # every pair once, and one row more than n times each: the moments below weigh rows as the walk does
    walk = pair_walk(9)
    X, y = problem.X, problem.y[:, 0] if loss == "logistic" else problem.y
    run = kd.solve(
        X,
        y,
        method=kd.KD(lam=0.6),
        learning_rate=Still(),
        batch_size=3,
        epochs=1,
        order=walk[None],
        coef_init=W,
        intercept_init=b,
        track=("statistics", "objective"),
        **options,
    )
    exact = gradient_stats(X, y, W, intercept=b, batch_size=3, **options)
    for f in fields(exact):
        tracked, asked = getattr(run.stats, f.name), getattr(exact, f.name)
        assert tracked == asked if isinstance(asked, str) else np.allclose(tracked, asked, rtol=TIGHT, atol=TIGHT), f.name
    extra = per_sample(problem, problem.X @ W.T + b, 0, W)[0], per_sample(problem, make_teacher(problem, "weights")[2], 0, W)[0]
    one = gradient_stats(X, y, W, intercept=b, **options)
    moments = [
        (81 * value + p @ q) / 82  # row 0 is met ten times
        for value, (p, q) in zip(
            (one.mean_sq_norm, one.cross, one.teacher_mean_sq_norm),
            ((extra[0], extra[0]), (extra[0], extra[1]), (extra[1], extra[1])),
            strict=True,
        )
    ]
    (row,) = run.history
    mean_xt = np.vdot(one.grad, one.teacher_grad) + np.vdot(one.grad_intercept, one.teacher_grad_intercept)
    mean_xx = np.vdot(one.grad, one.grad) + np.vdot(one.grad_intercept, one.grad_intercept)
    assert row["mean_sq_norm"] == pytest.approx(moments[0], rel=TIGHT)
    assert row["cross"] == pytest.approx(moments[1], rel=TIGHT, abs=TIGHT)
    assert row["teacher_mean_sq_norm"] == pytest.approx(moments[2], rel=TIGHT)
    assert row["running_grad_norm"] == pytest.approx(np.sqrt(mean_xx), rel=TIGHT)
    assert row["grad_norm"] == pytest.approx(np.sqrt(mean_xx), rel=TIGHT)
    assert row["objective"] == pytest.approx(exact.objective, rel=TIGHT)
    assert row["sgd_variance"] == pytest.approx((moments[0] - mean_xx) / 3, rel=TIGHT)
    second = moments[0] - 1.2 * moments[1] + 0.36 * moments[2]
    assert row["variance"] == pytest.approx((second - (mean_xx - 1.2 * mean_xt + 0.36 * one.bias_sq)) / 3, rel=TIGHT)


@pytest.mark.parametrize("loss", ["logistic", "softmax"])
def test_gradient_similarity(backend, loss):
    """The cosine of the two forms, from gradients written out; one at T = 1."""
    problem, T, lam = make_problem(loss, weighted=True), 3.0, 0.6
    (W, b), link = make_point(problem), LOSSES[loss].link
    z, A = problem.X @ W.T + b, np.hstack([problem.X, np.ones((23, 1))])
    y = np.eye(OUTPUTS[loss])[problem.y] if problem.y.ndim == 1 else problem.y
    s = problem.weights[:, None]
    for kind in ("weights", "logits"):
        teacher, _, t = make_teacher(problem, kind)
        standard = (s * ((1 - lam) * (link(z) - y) + lam * T * (link(z / T) - link(t / T)))).T @ A
        shift = (s * (link(z) - y - lam * (link(t) - y))).T @ A
        cosine = np.vdot(standard, shift) / np.linalg.norm(standard) / np.linalg.norm(shift)
        options = {
            "intercept": b,
            "loss": loss,
            "teacher": teacher,
            "lam": lam,
            "sample_weight": problem.weights,
            "backend": backend,
        }
        assert gradient_similarity(problem.X, problem.y, W, temperature=T, **options) == pytest.approx(cosine, abs=TIGHT)
        assert gradient_similarity(problem.X, problem.y, W, temperature=1.0, **options) == pytest.approx(1, abs=TIGHT)
    assert abs(cosine - 1) > 1e-4  # the case must be able to tell the two apart


ERRORS = [
    ({"coef": np.zeros((4, 6))}, r"coef has shape \(4, 6\); expected \(4, 7\)"),
    ({"coef": np.zeros((3, 7)), "teacher": kd.Teacher.weights(np.zeros((4, 7)))}, "teacher has 4 output.* but coef has 3"),
    ({"intercept": np.zeros(2)}, "intercept has shape"),
    ({"coef": np.full((4, 7), np.nan)}, "coef holds nan in row 0, column 0"),
    ({"sampling": "order"}, "sampling='order' is unknown; choose one of 'shuffle', 'replacement'"),
    ({"batch_size": 24}, "batch_size=24 is more than the 23 rows"),
    ({"alpha": -1.0}, "alpha=-1.0 is outside its range"),
    ({"teacher_alpha": 0.1}, "teacher_alpha needs a linear teacher"),
    ({"n_threads": 0}, "n_threads=0"),
]


@pytest.mark.parametrize(("change", "message"), ERRORS, ids=[m for _, m in ERRORS])
def test_errors(change, message):
    problem = make_problem("softmax")
    options = {"coef": make_point(problem)[0], "loss": "softmax", "backend": "reference"} | change
    with pytest.raises(ValueError, match=message):
        gradient_stats(problem.X, problem.y, **options)


def test_a_teacher_must_be_a_teacher():
    problem = make_problem("softmax")
    with pytest.raises(TypeError, match=r"teacher must be a Teacher, such as .* got ndarray"):
        gradient_stats(problem.X, problem.y, np.zeros((4, 7)), loss="softmax", teacher=np.zeros((4, 7)), backend="reference")


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_float32_memory_map(backend, loss, tmp_path):
    """Single precision rows on disk: every figure within single precision's rounding of the one in double precision."""
    problem = make_problem(loss, n=300, dtype=np.float32, weighted=True)
    np.save(tmp_path / "X.npy", problem.X)
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    (W, b), (teacher, _, _) = make_point(problem), make_teacher(problem, "weights")
    options = {
        "intercept": b,
        "loss": loss,
        "teacher": teacher,
        "sample_weight": problem.weights,
        "backend": backend,
        "alpha": 0.1,
    }
    single = gradient_stats(X, problem.y, W, **options)
    double = gradient_stats(X.astype(np.float64), problem.y, W, **options)
    for f in fields(double):
        got, exact = getattr(single, f.name), getattr(double, f.name)
        if not isinstance(exact, str | int):
            assert got.dtype == np.float64 if isinstance(exact, np.ndarray) else isinstance(got, float)
            scale = max(1.0, double.mean_sq_norm, double.teacher_mean_sq_norm)
            np.testing.assert_allclose(got, exact, rtol=0, atol=64 * np.finfo(np.float32).eps * scale, err_msg=f.name)


def test_nan_in_a_row_is_named():
    problem = make_problem("softmax")
    X = problem.X.copy()
    X[5, 2] = np.nan
    options = {"loss": "softmax", "backend": "reference"}
    with pytest.raises(ValueError, match="X holds nan in row 5, column 2"):
        gradient_stats(X, problem.y, np.zeros((4, 7)), **options)
    with pytest.raises(ValueError, match="X holds nan in row 5, column 2"):
        gradient_similarity(
            X, problem.y, np.zeros((4, 7)), teacher=kd.Teacher.logits(np.zeros((23, 4))), lam=0.5, temperature=2.0, **options
        )


def test_the_squared_loss_has_no_temperature():
    problem = make_problem("squared")
    with pytest.raises(ValueError, match="no temperature"):
        gradient_similarity(
            problem.X,
            problem.y,
            np.zeros((2, 7)),
            loss="squared",
            teacher=kd.Teacher.logits(problem.y),
            lam=0.5,
            temperature=2.0,
        )


def test_docstring_examples():
    assert doctest.testmod(statistics).failed == 0
