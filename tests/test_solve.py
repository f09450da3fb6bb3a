"""`solve` as a whole: sampling, schedules, averaging, divergence, interrupts, callbacks, results, backends."""

from __future__ import annotations

import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from problems import LOSS_NAMES, make_point, make_problem, relative

import kdvr_fast as kd
from kdvr_fast import backends
from kdvr_fast._order import shuffled_rows

EPS = np.finfo(float).eps
P = make_problem("softmax", n=23, d=4)


def train(problem=P, **options):
    options = {"loss": problem.loss, "epochs": 3, "batch_size": 4, "random_state": 0} | options
    return kd.solve(problem.X, problem.y, **options)


def stacked(run):
    return np.column_stack([run.coef, run.intercept])


# -- what is computed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("method", [kd.SGD(), kd.SVRG(), kd.SAGA()], ids=repr)
def test_sample_weights_mean_repetition(loss, method, backend):
    """Full-batch steps and the objective are those of the repeated rows, for every loss."""
    problem = make_problem(loss, n=17, d=3)
    times = np.random.default_rng(5).integers(0, 4, 17)
    rows = np.repeat(np.arange(17), times)
    options = {
        "loss": loss,
        "method": method,
        "epochs": 6,
        "alpha": 0.1,
        "l1_ratio": 0.3,
        "track": "objective",
        "backend": backend,
    }
    options["coef_init"] = make_point(problem)[0]
    weighted = kd.solve(problem.X, problem.y, batch_size=17, sample_weight=times, **options)
    repeated = kd.solve(problem.X[rows], problem.y[rows], batch_size=len(rows), **options)
    assert relative(stacked(weighted), stacked(repeated)) < 1e3 * EPS
    np.testing.assert_allclose(weighted.history["objective"], repeated.history["objective"], rtol=1e3 * EPS)
    np.testing.assert_allclose(weighted.history["grad_norm"], repeated.history["grad_norm"], rtol=1e4 * EPS)


def test_sample_weights_have_no_scale(backend):
    s = np.arange(23.0)
    one, other = (train(sample_weight=c * s, backend=backend) for c in (1.0, 1024.0))
    assert np.array_equal(one.coef, other.coef)


def test_average_is_the_mean_over_the_steps_asked_for(backend):
    """One step an epoch, so that each step's weights are known from shorter runs."""
    options = {"batch_size": 23, "backend": backend}
    steps = [stacked(train(epochs=e, **options)) for e in range(1, 6)]
    assert relative(stacked(train(epochs=5, average=True, **options)), np.mean(steps, 0)) < 1e2 * EPS
    assert relative(stacked(train(epochs=5, average=3, **options)), np.mean(steps[3:], 0)) < 1e2 * EPS
    assert relative(stacked(train(epochs=5, average=0, **options)), np.mean(steps, 0)) < 1e2 * EPS


def test_tracking_and_callbacks_see_the_averaged_weights(backend):
    seen = []
    run = train(average=1, epochs=2, track="objective", callbacks=[lambda p: seen.append(p.coef) or None], backend=backend)
    assert np.array_equal(seen[-1], run.coef)
    again = train(
        P, epochs=1, coef_init=run.coef, intercept_init=run.intercept, learning_rate=1e-14, track="objective", backend=backend
    )
    assert again.history["objective"][0] == pytest.approx(run.history["objective"][-1], rel=1e-12)


def test_learning_rates_arrive_step_by_step(backend):
    """A schedule of our own that moves in one step only: the result is one step of plain SGD."""

    class Once:
        def values(self, epoch, n_steps, epochs):
            rates = np.zeros(n_steps)
            if epoch == 1:
                rates[2] = 0.3
            return rates

    order = np.random.default_rng(0).permutation(23)
    run = train(order=np.tile(order, 3), learning_rate=Once(), backend=backend)
    single = train(order=order[8:12], epochs=1, learning_rate=0.3, backend=backend)
    assert relative(stacked(run), stacked(single)) < 1e2 * EPS


@pytest.mark.parametrize("bad", [np.ones(2), np.array([np.nan]), np.array([-0.1])])
def test_a_schedule_that_gives_wrong_rates_is_refused(bad):
    class Bad:
        def values(self, epoch, n_steps, epochs):
            return bad

    with pytest.raises(ValueError, match=r"gave rates of shape .* in epoch 1; expected one or 6 of them, finite"):
        train(learning_rate=Bad(), backend="reference")


@pytest.mark.parametrize("method", [kd.SGD(), kd.SAGA()], ids=repr)
def test_the_automatic_rate_is_that_of_the_theory(method, backend):
    options = {"batch_size": 4, "alpha": 0.1, "sample_weight": np.arange(23.0), "momentum": 0.5}
    run = train(method=method, learning_rate="auto", backend=backend, **options)
    recursive = isinstance(method, kd.SAGA)
    expected = kd.auto_learning_rate(P.X, "softmax", sampling="shuffle", fit_intercept=True, recursive=recursive, **options)
    assert run.history["learning_rate"] == pytest.approx(expected, rel=1e2 * EPS)


@pytest.mark.parametrize("method", [kd.SVRG(), kd.LSVRG(), kd.SAGA()], ids=repr)
def test_variance_reduction_reaches_the_optimum(method, backend):
    problem = make_problem("squared", n=40, d=3, k=1)
    A = np.column_stack([problem.X, np.ones(40)])
    optimum = np.linalg.lstsq(A, problem.y[:, 0], rcond=None)[0]
    run = train(problem, method=method, learning_rate="auto", batch_size=1, epochs=100, backend=backend)
    assert relative(stacked(run)[0], optimum) < 1e-6
    assert relative(stacked(train(problem, learning_rate="auto", batch_size=1, epochs=100, backend=backend))[0], optimum) > 1e-3


# -- sampling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", ["shuffle", "replacement"])
def test_a_seed_replays_the_bits(sampling, backend):
    options = {"sampling": sampling, "method": kd.LSVRG(), "backend": backend}
    first, second, other = train(**options), train(**options, n_threads=2), train(**options | {"random_state": 1})
    assert np.array_equal(first.coef, second.coef) and not np.array_equal(first.coef, other.coef)
    assert first.random_state == 0
    drawn = train(**options | {"random_state": None})
    assert np.array_equal(drawn.coef, train(**options | {"random_state": drawn.random_state}).coef)
    generated = train(**options | {"random_state": np.random.default_rng(0)})
    assert np.array_equal(generated.coef, first.coef) and generated.random_state is None


def test_shuffling_draws_a_new_order_each_epoch(backend):
    rng = np.random.default_rng(0)
    order = np.array([shuffled_rows(rng, 23) for _ in range(3)])
    assert not np.array_equal(order[0], order[1])
    assert np.array_equal(train(order=order, backend=backend).coef, train(backend=backend).coef)
    assert np.array_equal(train(order=order.ravel(), backend=backend).coef, train(backend=backend).coef)


def test_an_order_of_part_of_the_rows_counts_for_its_part(backend):
    run = train(order=np.arange(23, dtype=np.int64)[:21], epochs=3, backend=backend)
    assert run.history["grad_evals"] == pytest.approx(np.arange(1, 4) * 7 / 23, rel=4 * EPS)


# -- ends --------------------------------------------------------------------------------------------------------------


def test_divergence_is_an_error_with_the_last_good_weights(backend):
    problem = make_problem("squared", n=23, d=4, k=1)

    class Explode:
        def values(self, epoch, n_steps, epochs):
            return np.full(1, 0.01 if epoch < 2 else 1e9)

    with pytest.raises(
        kd.DivergenceError, match=r"diverged in epoch 3: running loss .* at learning_rate=1e\+09; lower learning_rate"
    ) as caught:
        train(problem, epochs=5, learning_rate=Explode(), backend=backend)
    error = caught.value
    assert isinstance(error, ArithmeticError) and error.epoch == 3 and not error.value < 1e6
    assert error.result.status is kd.Status.DIVERGED and "learning_rate" in error.result.status.remedy
    good = train(problem, epochs=2, learning_rate=0.01, backend=backend)
    assert np.array_equal(stacked(error.result), stacked(good))
    assert error.result.epochs == len(error.result.history) == 2


def test_a_divergence_survives_a_process_boundary():
    """joblib and multiprocessing send exceptions by pickle; one that does not load there hangs the pool."""
    with pytest.raises(kd.DivergenceError) as caught, np.errstate(all="ignore"):
        train(make_problem("squared", n=23, d=4), learning_rate=1e9, backend="reference")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value) and copy.epoch == 1 and copy.value == caught.value.value
    assert np.array_equal(copy.result.coef, caught.value.result.coef)


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_exploding_run_never_returns(loss, dtype, backend):
    problem = make_problem(loss, n=23, d=4, dtype=dtype)
    with np.errstate(all="ignore"), pytest.raises(kd.DivergenceError):
        train(problem, epochs=50, learning_rate=1e30, backend=backend)


def test_far_initial_weights_are_no_divergence(backend):
    problem = make_problem("squared", n=23, d=4, k=1)
    far = train(problem, coef_init=np.full((1, 4), 1e9), learning_rate=0.01, backend=backend)
    assert far.status is kd.Status.COMPLETED
    still = kd.solve(problem.X, np.zeros(23), loss="squared", coef_init=np.ones((1, 4)), backend=backend)
    assert still.status is kd.Status.COMPLETED


def test_the_first_epoch_s_loss_raises_the_limit(backend):
    """One row, so that each step multiplies the loss by 121: 1.8e6 times the null model's after three, yet no explosion."""

    class Rise:
        def values(self, epoch, n_steps, epochs):
            return np.full(1, 12.0 if epoch == 0 else 1e-14)

    options = {"loss": "squared", "fit_intercept": False, "batch_size": 1, "learning_rate": Rise(), "backend": backend}
    run = kd.solve([[1.0]], [1.0], order=np.zeros((2, 3), np.int64), epochs=2, **options)
    assert run.history["loss"] == pytest.approx(np.array([(1 + 121 + 121**2) / 3, 121**3]) / 2, rel=1e-9)


def test_a_true_answer_of_a_callback_stops(backend):
    seen = []

    def stop_at_two(progress):
        seen.append(progress)
        return progress.epoch == 2

    run = train(epochs=9, callbacks=[stop_at_two], backend=backend)
    assert run.status is kd.Status.STOPPED and run.epochs == len(run.history) == 2
    assert [p.epoch for p in seen] == [1, 2] and seen[0].epochs == 9
    assert seen[1].row == run.history.rows[1]
    assert np.array_equal(run.coef, train(epochs=2, backend=backend).coef)


def test_a_callback_cannot_change_the_run(backend):
    def spoil(progress):
        progress.coef[:] = np.nan
        progress.row["loss"] = 0.0

    spoiled, clean = train(callbacks=[spoil], backend=backend), train(backend=backend)
    assert np.array_equal(spoiled.coef, clean.coef) and np.array_equal(spoiled.history["loss"], clean.history["loss"])


def test_an_error_in_a_callback_passes_through_with_the_result():
    def fail(progress):
        if progress.epoch == 2:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        train(epochs=5, callbacks=[fail], backend="reference")
    assert np.array_equal(caught.value.result.coef, train(epochs=2, backend="reference").coef)


def test_an_interrupt_in_a_callback_gives_the_last_finished_epoch(backend):
    def interrupt(progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.warns(RuntimeWarning, match="interrupted after 2 of 5 epochs: to go on, pass the result.s weights"):
        run = train(epochs=5, callbacks=[interrupt], backend=backend)
    assert run.status is kd.Status.INTERRUPTED and np.array_equal(run.coef, train(epochs=2, backend=backend).coef)


def test_a_signal_inside_an_epoch_gives_the_last_finished_epoch(backend):
    rows = {"reference": 4_000}.get(backend, 3_000_000)  # an epoch of some tenths of a second
    order = np.resize(np.arange(23), (2, rows))

    def alarm(progress):
        signal.setitimer(signal.ITIMER_REAL, 0.05)

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.warns(RuntimeWarning, match="interrupted after 1 of 2 epochs"):
            run = train(order=order, epochs=2, batch_size=1, callbacks=[alarm], backend=backend)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert run.status is kd.Status.INTERRUPTED
    assert np.array_equal(run.coef, train(order=order[:1], epochs=1, batch_size=1, backend=backend).coef)


def test_an_interrupt_before_the_first_epoch_gives_the_initial_weights(monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("kdvr_fast.backends.reference.ReferenceSession.anchor_at", interrupt)
    start = make_point(P)[0]
    with pytest.warns(RuntimeWarning, match="interrupted after 0 of 3 epochs"):
        run = train(method=kd.SAGA(), coef_init=start, backend="reference")
    assert np.array_equal(run.coef, start) and run.epochs == 0 and len(run.history) == 0


# -- results and backends ----------------------------------------------------------------------------------------------


def test_a_result_says_what_ran(backend):
    method = kd.SVRG(refresh=2)
    run = train(method=method, backend=backend)
    assert (run.backend, run.method, run.loss, run.epochs) == (backend, method, "softmax", 3)
    assert run.status is kd.Status.COMPLETED and str(run.status) == "completed" and run.status.remedy == ""
    assert run.coef.shape == (4, 4) and run.intercept.shape == (4,)


@pytest.mark.parametrize(
    ("loss", "k", "shape"), [("softmax", 4, (23,)), ("logistic", 1, (23,)), ("squared", 1, (23,)), ("squared", 2, (23, 2))]
)
def test_predictions_follow_the_logits(loss, k, shape):
    problem = make_problem(loss, n=23, d=4, k=k)
    run = train(problem, backend="reference")
    Z = problem.X @ run.coef.T + run.intercept
    np.testing.assert_allclose(run.decision_function(problem.X), Z, rtol=1e2 * EPS, atol=1e2 * EPS)
    found = run.predict(problem.X)
    assert found.shape == shape
    expected = {"softmax": Z.argmax(1), "logistic": Z[:, 0] > 0, "squared": Z.reshape(shape) if loss == "squared" else None}[
        loss
    ]
    np.testing.assert_allclose(found, expected, rtol=1e2 * EPS, atol=1e2 * EPS)
    with pytest.raises(ValueError, match="X has 3 features, the weights have 4"):
        run.predict(problem.X[:, :3])


def test_every_status_explains_itself():
    assert all(status.message for status in kd.Status)
    assert {status for status in kd.Status if not status.remedy} == {
        kd.Status.COMPLETED,
        kd.Status.CONVERGED,
        kd.Status.STOPPED,
    }


class _Missing:
    name = "native"

    def unavailable(self):
        return "no compiler was here: pip install it"

    def open(self, problem, n_threads=None):
        raise AssertionError("never opened")


def test_a_backend_that_cannot_run_says_why(monkeypatch):
    monkeypatch.setattr(backends, "BACKENDS", {"native": _Missing, "reference": backends.BACKENDS["reference"]})
    assert kd.backend_status() == {"native": "no compiler was here: pip install it", "reference": None}
    with pytest.raises(RuntimeError, match="backend='native' cannot run here: no compiler was here: pip install it"):
        train(backend="native")
    with pytest.raises(
        RuntimeError, match=r"'auto' found no compiled backend .*\(native: no compiler.*; backend='reference' runs everywhere"
    ):
        train(backend="auto")


def test_a_backend_that_cannot_be_imported_says_why(monkeypatch):
    def load():
        raise ImportError("no module of that name")

    monkeypatch.setitem(backends.BACKENDS, "native", load)
    with pytest.raises(RuntimeError, match=re.escape("it cannot be imported (no module of that name); build the package")):
        kd.get_backend("native")


def test_auto_takes_a_compiled_backend_and_records_it():
    if kd.backend_status()["native"] is not None:
        pytest.skip("no compiled backend is built here")
    assert train(backend="auto").backend == "native"


def test_importing_the_package_is_light():
    root = Path(kd.__file__).parents[1]  # the package under test, wherever the tests are started
    heavy = "{'scipy', 'sklearn', 'matplotlib', 'pandas', 'rich', 'typer', 'torch'}"
    code = f"import sys, kdvr_fast; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_infinite_loss_is_a_divergence_whatever_the_limit(backend):
    """Targets of zero give a null loss of 0, so that only a loss that is not finite can tell."""
    X = np.random.default_rng(0).standard_normal((500, 8))
    teacher = kd.Teacher.weights(np.ones((1, 8)))
    with pytest.raises(kd.DivergenceError, match="epoch 1"):
        kd.solve(
            X, np.zeros(500), loss="squared", method=kd.KD(1.0), teacher=teacher, learning_rate=1.0, batch_size=1, epochs=1,
            random_state=0, backend=backend,
        )  # fmt: skip


def test_the_automatic_rate_knows_that_l1_is_not_smooth():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((50, 3)), rng.standard_normal(50)
    rate = {
        r: kd.solve(X, y, loss="squared", learning_rate="auto", alpha=10.0, l1_ratio=r, epochs=1).history["learning_rate"][0]
        for r in (0.0, 0.25, 1.0)
    }
    for l1_ratio, got in rate.items():
        smooth = kd.auto_learning_rate(
            X, "squared", batch_size=10, alpha=10.0 * (1 - l1_ratio), fit_intercept=True, sample_weight=None,
            sampling="shuffle", recursive=False, momentum=0.0,
        )  # fmt: skip
        assert got == pytest.approx(smooth)
    assert rate[1.0] > 3 * rate[0.0]


def test_teacher_alpha_leaves_the_intercept_alone(backend):
    """The teacher's penalty is on its weights: with X = 0 only intercepts move, as without teacher_alpha."""
    X, y = np.zeros((20, 2)), np.arange(20) % 3
    teacher = kd.Teacher.weights(np.ones((3, 2)), [1.0, -2.0, 3.0])
    runs = [
        kd.solve(X, y, loss="softmax", method=kd.KD(0.5, teacher_alpha=a), teacher=teacher, random_state=0, backend=backend)
        for a in (0.0, 0.1)
    ]
    np.testing.assert_allclose(runs[0].intercept, runs[1].intercept, rtol=1e-12)
    assert np.abs(runs[1].coef).max() > 0
