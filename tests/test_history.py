"""The history's columns against figures worked out another way."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
from problems import LOSS_NAMES, make_point, make_problem

import kdvr_fast as kd
from kdvr_fast.history import COLUMNS, History, make_row

EPS = np.finfo(float).eps
STILL = 1e-20  # a learning rate below the rounding of any weight: an epoch measures the initial ones


def train(problem, **options):
    return kd.solve(
        problem.X,
        problem.y,
        **(
            {"loss": problem.loss, "sample_weight": problem.weights, "fit_intercept": problem.fit_intercept, "random_state": 0}
            | {"epochs": 1, "batch_size": 4}
            | options
        ),
    )


def objective(problem, P, alpha=0.0, l1_ratio=0.0):
    """The stated objective at P = (W, b), written out."""
    W, b = P[:, :-1], P[:, -1]
    s = np.ones(len(problem.X)) if problem.weights is None else problem.weights
    mean = (s * problem.loss.value(problem.y, problem.X @ W.T + b)).sum() / s.sum()
    return mean + alpha * ((1 - l1_ratio) / 2 * (W**2).sum() + l1_ratio * np.abs(W).sum())


def slopes(function, P, step=1e-6):
    """Central differences, error of order step^2."""
    out = np.zeros_like(P)
    for at in np.ndindex(*P.shape):
        e = np.zeros_like(P)
        e[at] = step
        out[at] = (function(P + e) - function(P - e)) / (2 * step)
    return out


def per_sample_gradients(problem, P):
    """(n, k (d + 1)) gradients of s_i loss_i."""
    A = np.column_stack([problem.X, np.full(len(problem.X), float(problem.fit_intercept))])
    s = np.ones(len(A)) if problem.weights is None else problem.weights
    r = s[:, None] * problem.loss.residual(problem.y, A @ P.T)
    return (r[:, :, None] * A[:, None, :]).reshape(len(A), -1)


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("l1_ratio", [0.0, 0.4])
def test_tracked_objective_and_gradient_norm(loss, l1_ratio, backend):
    problem = make_problem(loss, n=23, d=4, weighted=True)
    run = train(problem, alpha=0.02, l1_ratio=l1_ratio, epochs=2, track="objective", backend=backend)
    P = np.column_stack([run.coef, run.intercept])
    assert np.all(P != 0)  # so that the objective has a gradient
    assert run.history["objective"][-1] == pytest.approx(objective(problem, P, 0.02, l1_ratio), rel=1e2 * EPS)
    gradient = slopes(lambda Q: objective(problem, Q, 0.02, l1_ratio), P)
    assert run.history["grad_norm"][-1] == pytest.approx(np.linalg.norm(gradient), rel=1e-6)


def test_gradient_norm_is_zero_where_the_penalty_holds_the_weights_at_zero(backend):
    problem = make_problem("squared", n=23, d=4, k=1, fit_intercept=False)
    strong = train(problem, alpha=50.0, l1_ratio=1.0, learning_rate=0.01, track="objective", backend=backend)
    assert not strong.coef.any() and strong.history["grad_norm"].tolist() == [0.0]


def test_loss_is_the_mean_before_each_update(backend):
    problem = make_problem("softmax", n=23, d=4, weighted=True)
    run = train(problem, learning_rate=STILL, backend=backend)
    assert run.history["loss"][0] == pytest.approx(np.log(4), rel=1e2 * EPS)


@pytest.mark.parametrize("y_kind", ["labels", "dense"])
def test_accuracy_counts_weighted_rows(y_kind, backend):
    problem = make_problem("softmax", n=53, d=4, weighted=True, dense=y_kind == "dense")
    run = train(problem, epochs=3, track="accuracy", backend=backend)
    truth = problem.y if y_kind == "labels" else problem.y.argmax(1)
    right = (problem.X @ run.coef.T + run.intercept).argmax(1) == truth
    assert run.history["accuracy"][-1] == pytest.approx((problem.weights * right).sum() / problem.weights.sum(), rel=1e2 * EPS)
    assert np.array_equal(run.predict(problem.X) == truth, right)


@pytest.mark.parametrize("method", [kd.SGD(), kd.KD(lam=0.7), kd.UnbiasedKD(lam=0.4)], ids=repr)
def test_free_moments_of_a_still_epoch(method, backend):
    """Shuffled rows are met once each, so the second moments are exact; mean gradients come from 20000 pairs of neighbours."""
    problem = make_problem("softmax", n=20_000, d=3, weighted=True)
    # shifted rows and unequal classes, so that mean gradients are not small beside their spread
    problem = dataclasses.replace(problem, X=problem.X + 2, y=problem.y // 3)
    theta, start = (np.column_stack(make_point(problem, seed)) for seed in (1, 2))
    teacher = kd.Teacher.weights(theta[:, :-1], theta[:, -1]) if method.plan().teacher == "required" else None
    initial = {"coef_init": start[:, :-1], "intercept_init": start[:, -1]}
    run = train(problem, method=method, teacher=teacher, learning_rate=STILL, batch_size=10, backend=backend, **initial)
    row = run.history.rows[0]
    g, h = per_sample_gradients(problem, start), per_sample_gradients(problem, theta)
    exact = 1e4 * EPS  # sums of 20000 terms
    assert row["mean_sq_norm"] == pytest.approx((g**2).sum(1).mean(), rel=exact)
    if teacher is None:
        assert np.isnan([row["teacher_mean_sq_norm"], row["cross"], row["teacher_distance"], row["teacher_cosine"]]).all()
    else:
        assert row["teacher_mean_sq_norm"] == pytest.approx((h**2).sum(1).mean(), rel=exact)
        assert row["cross"] == pytest.approx((g * h).sum(1).mean(), rel=exact)
        distance, cosine = np.linalg.norm(start - theta), np.vdot(start, theta) / np.linalg.norm(start) / np.linalg.norm(theta)
        assert row["teacher_distance"] == pytest.approx(distance, rel=1e2 * EPS)
        assert row["teacher_cosine"] == pytest.approx(cosine, rel=1e2 * EPS)
    lam = getattr(method, "lam", 0.0)
    n, b = len(g), 10
    assert (g.mean(0) ** 2).sum() > 0.1 * (g**2).sum(1).mean()
    for name, corrected in (("sgd_variance", g), ("variance", g - lam * h)):
        spread = ((corrected - corrected.mean(0)) ** 2).sum(1).mean()
        # a pair product <u, v> of independent rows has standard deviation at most E|u|^2; five of them over sqrt(pairs)
        error = 5 * (corrected**2).sum(1).mean() / np.sqrt(n)
        assert abs(row[name] / ((n - b) / (b * (n - 1))) - spread) < error, name
    assert abs(row["running_grad_norm"] ** 2 - (g.mean(0) ** 2).sum()) < 5 * (g**2).sum(1).mean() / np.sqrt(n)


@pytest.mark.parametrize(("sampling", "factor"), [("shuffle", (40 - 4) / (4 * 39)), ("replacement", 1 / 4), ("order", 1 / 4)])
def test_the_variance_is_that_of_the_batches_that_ran(sampling, factor, backend):
    problem = make_problem("squared", n=40, d=3, k=1)
    # one fixed walk, given as an order or drawn with the same seed, differs from a batch of one by the factor alone
    options = {"order": np.arange(40)} if sampling == "order" else {"sampling": sampling}
    one, four = (train(problem, batch_size=b, learning_rate=STILL, backend=backend, **options).history for b in (1, 4))
    assert four["variance"][0] / one["variance"][0] == pytest.approx(factor, rel=1e2 * EPS)


def test_statistics_false_leaves_the_free_columns_empty_and_the_weights_alone(backend):
    problem = make_problem("softmax", n=23, d=4)
    options = {"method": kd.SVRG(), "epochs": 3, "backend": backend}
    on, off = train(problem, **options), train(problem, statistics=False, **options)
    assert np.array_equal(on.coef, off.coef)
    free = ["running_grad_norm", "mean_sq_norm", "teacher_mean_sq_norm", "cross", "variance", "sgd_variance"]
    for column in free:
        assert np.isnan(off.history[column]).all() and np.isfinite(on.history[column]).all()
    assert np.array_equal(on.history["loss"], off.history["loss"])


def test_tracked_statistics_are_those_of_gradient_stats(backend):
    problem = make_problem("softmax", n=23, d=4, weighted=True)
    theta, b = make_point(problem)
    teacher = kd.Teacher.weights(theta, b)
    options = {"method": kd.KD(teacher_alpha=0.2), "teacher": teacher, "alpha": 0.1, "epochs": 3, "backend": backend}
    run = train(problem, track=("statistics", "objective"), **options)
    expected = kd.gradient_stats(
        problem.X,
        problem.y,
        run.coef,
        intercept=run.intercept,
        loss="softmax",
        teacher=teacher,
        alpha=0.1,
        teacher_alpha=0.2,
        batch_size=4,
        sampling="shuffle",
        sample_weight=problem.weights,
        backend=backend,
    )
    assert len(run.history.stats) == 3 and run.history.stats[-1] is run.stats
    for name in ("loss", "objective", "mean_sq_norm", "teacher_mean_sq_norm", "cross", "variance", "rho", "snr", "bias_sq"):
        assert getattr(run.stats, name) == pytest.approx(getattr(expected, name), rel=1e3 * EPS), name
    assert run.stats.objective == pytest.approx(run.history["objective"][-1], rel=1e2 * EPS)
    assert train(problem, **options).stats is None


def test_the_distance_to_a_snapshot_is_known_unless_it_was_taken_midway(backend):
    problem = make_problem("softmax", n=23, d=4)
    svrg = train(problem, method=kd.SVRG(refresh=3), epochs=4, backend=backend).history["teacher_distance"]
    assert np.isfinite(svrg).all() and svrg[0] < svrg[1] < svrg[2] and svrg[3] < svrg[2]
    assert np.isnan(train(problem, method=kd.LSVRG(probability=0.9), backend=backend).history["teacher_distance"]).all()
    assert np.isnan(train(problem, method=kd.SAGA(), backend=backend).history["teacher_distance"]).all()


def test_lam_rate_and_epochs_are_recorded(backend):
    problem = make_problem("softmax", n=20, d=4)
    rates = kd.Inverse(0.1, decay=1.0)
    method = kd.SVRG(lam=kd.Geometric(0.8, factor=0.5), start=1)
    history = train(problem, method=method, learning_rate=rates, epochs=3, backend=backend).history
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["lam"].tolist() == [0.0, 0.4, 0.2]
    assert history["learning_rate"] == pytest.approx(0.1 / (1 + np.arange(3) + 4 / 5), rel=4 * EPS)
    assert np.all(np.diff(history["seconds"]) > 0)


def test_a_history_reads_like_a_table():
    rows = [make_row(epoch=1, loss=0.5, grad_evals=1), make_row(epoch=2, loss=0.25, grad_evals=2)]
    history = History(rows)
    assert len(history) == 2 and history.columns == tuple(COLUMNS)
    assert history["loss"].dtype == np.float64 and history["loss"].tolist() == [0.5, 0.25]
    assert [row["epoch"] for row in history] == [1.0, 2.0]
    with pytest.raises(KeyError, match="'los' is no column of the history; there are epoch, loss"):
        history["los"]
    frame = history.to_pandas()
    assert list(frame.columns) == list(COLUMNS) and frame["loss"].tolist() == [0.5, 0.25]


def test_singular_values_are_columns_of_the_table():
    pytest.importorskip("pandas")
    model = kd.DeepLinear(widths=(3,))
    options = {"loss": "squared", "epochs": 2, "random_state": 0, "learning_rate": 0.01, "backend": "reference"}
    X, Y = np.random.default_rng(0).normal(size=(2, 20, 3))
    history = kd.solve(X, Y[:, :2], model=model, track="statistics", **options).history
    frame = history.to_pandas()
    assert list(frame.columns) == [*COLUMNS, "singular_value_1", "singular_value_2"]
    np.testing.assert_array_equal(frame[["singular_value_1", "singular_value_2"]], history.singular_values)
    for other in ({"model": model}, {"track": "statistics"}):
        history = kd.solve(X, Y[:, :2], **other, **options).history
        with pytest.raises(AttributeError, match='DeepLinear model and with track="statistics"'):
            history.singular_values  # noqa: B018 - it raises
        assert list(history.to_pandas().columns) == list(COLUMNS)


def test_a_missing_pandas_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="to_pandas needs pandas: pip install pandas"):
        History().to_pandas()


def test_a_plot_shows_the_columns():
    from matplotlib.figure import Figure

    history = History([make_row(epoch=1, loss=0.5, grad_evals=1), make_row(epoch=2, loss=0.25, grad_evals=2)])
    ax = history.plot(ax=Figure().subplots(), label="run")
    assert ax.lines[0].get_xydata().tolist() == [[1, 0.5], [2, 0.25]]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.lines[0].get_label()) == ("grad_evals", "loss", "run")
    with pytest.raises(ValueError, match="y='los' is unknown; choose one of 'epoch'"):
        history.plot(y="los")


@pytest.mark.parametrize("sampling", ["shuffle", "replacement"])
def test_the_running_variance_is_unbiased_however_rows_are_drawn(sampling):
    """With weights that stand still its mean over epochs is the exact one; on 6 rows the samplings differ by a fifth."""
    rng = np.random.default_rng(3)
    X, y, W = rng.standard_normal((6, 3)), rng.standard_normal(6), rng.standard_normal((1, 3))
    teacher = kd.Teacher.weights(rng.standard_normal((1, 3)))
    run = kd.solve(
        X, y, loss="squared", method=kd.KD(lam=0.5), teacher=teacher, coef_init=W, fit_intercept=False, learning_rate=1e-15,
        batch_size=2, epochs=4000, sampling=sampling, random_state=0,
    )  # fmt: skip
    exact = kd.gradient_stats(X, y, W, loss="squared", teacher=teacher, batch_size=2, sampling=sampling)
    assert run.history["sgd_variance"].mean() == pytest.approx(exact.variance, rel=0.05)
    assert run.history["variance"].mean() == pytest.approx(exact.variance_at(0.5), rel=0.05)


def test_one_row_has_norms_but_no_spread(backend):
    run = kd.solve([[3.0, 4.0]], [2.0], loss="squared", batch_size=1, epochs=1, fit_intercept=False, backend=backend)
    assert run.history["mean_sq_norm"][0] == pytest.approx(2.0**2 * 25)
    assert np.isnan(run.history["variance"][0])
