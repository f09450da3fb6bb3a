"""A run that is cut and goes on from its checkpoint ends with the bits of the run that was never cut; another is refused."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from problems import make_point, make_problem
from scipy.sparse import csr_array

import kdvr_fast as kd
from kdvr_fast import _identity, _keeping, _store, synthetic

N, D, EPOCHS = 40, 6, 5
METHODS = {
    "SGD": kd.SGD(),
    "KD": kd.KD(0.6),
    "KD tempered": kd.KD(0.5, temperature=2.0),
    "KD teacher_alpha": kd.KD(0.5, teacher_alpha=0.1),
    "KD auto": kd.KD("auto"),
    "KD geometric": kd.KD(kd.Geometric(0.9, factor=0.7)),
    "RepeatedKD": kd.RepeatedKD(0.5, refresh=2),
    "UnbiasedKD": kd.UnbiasedKD(),
    "UnbiasedKD auto": kd.UnbiasedKD("auto"),
    "SVRG": kd.SVRG(refresh=2, start=1),
    "SVRG auto": kd.SVRG("auto"),
    "LSVRG": kd.LSVRG(0.1),
    "LSVRG auto": kd.LSVRG(0.3, lam="auto"),
    "SAGA": kd.SAGA(),
}
OPTIONS = {
    "plain": {},
    "momentum": {"momentum": 0.9, "nesterov": True},
    "average": {"average": 2, "l1_ratio": 0.3},
    "replacement": {"sampling": "replacement", "batch_size": 1},
    "cosine": {"learning_rate": kd.Cosine(0.1, warmup=1.5)},
    "on the fly": {"cache_anchor": False},
    "tracked, tol": {"track": ("objective", "statistics"), "tol": 1e-9},
    "l1, tol": {"l1_ratio": 0.3, "tol": 1e-9, "learning_rate": kd.Inverse(0.1, decay=1.0)},
    "random": {"compress": kd.RandomK(0.7)},
    "rounding": {"compress": kd.StochasticRounding(5)},
}


class Cut(Exception):
    pass


def cut_after(epochs):
    def callback(progress):
        if progress.epoch == epochs:
            raise Cut

    return callback


def rows(loss, sparse, dtype=np.float64):
    problem = make_problem(loss, n=N, d=D, dtype=dtype, density=0.5)
    return csr_array(problem.X) if sparse else problem.X, problem.y, problem


def teacher_for(method, problem):
    return kd.Teacher.weights(*make_point(problem, 7)) if method.plan().teacher == "required" else None


def same_run(one, other):
    np.testing.assert_array_equal(one.coef, other.coef)
    np.testing.assert_array_equal(one.intercept, other.intercept)
    for name in one.history.columns:
        if name != "seconds":
            np.testing.assert_array_equal(one.history[name], other.history[name], err_msg=name)
    assert (one.status, one.epochs, one.message, one.random_state) == (
        other.status, other.epochs, other.message, other.random_state,
    )  # fmt: skip
    assert len(one.history.stats) == len(other.history.stats)
    for a, b in zip(one.history.stats, other.history.stats, strict=True):
        for name, value in vars(a).items():
            np.testing.assert_array_equal(value, getattr(b, name), err_msg=name)


def cut_and_resume(path, cuts, call):
    """Whole and cut at the ends of some epochs; each piece starts from the file alone."""
    whole = call()
    for epoch in cuts:
        with pytest.raises(Cut):
            call(callbacks=[cut_after(epoch)], checkpoint=kd.Checkpoint(path, resume=True))
    same_run(whole, call(checkpoint=kd.Checkpoint(path, resume=True)))
    same_run(whole, call(checkpoint=kd.Checkpoint(path, resume=True)))  # of a run that has ended


def allowed(method, name):
    return not (method.plan().full_batch or (name == "on the fly" and method.plan().update_table))


@pytest.mark.filterwarnings("ignore::kdvr_fast.ConvergenceWarning")
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "csr"])
@pytest.mark.parametrize("options", list(OPTIONS))
@pytest.mark.parametrize("method", list(METHODS))
def test_a_resumed_run_has_the_bits_of_the_uninterrupted_one(tmp_path, method, options, sparse):
    method, name = METHODS[method], options
    if not allowed(method, name):
        pytest.skip("not a combination of solve")
    X, y, problem = rows("softmax", sparse, np.float32 if name == "plain" else np.float64)
    given = {"loss": "softmax", "method": method, "teacher": teacher_for(method, problem), "epochs": EPOCHS, "batch_size": 4}
    given |= {"alpha": 0.01, "random_state": 3} | OPTIONS[name]
    if method.plan().lam == "auto" and name in ("random", "rounding"):
        given["alpha"] = 0.0
    cut_and_resume(tmp_path / "run.kdvr", (1, 4), lambda **more: kd.solve(X, y, **given, **more))


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("method", ["SGD", "KD auto", "UnbiasedKD auto", "SVRG", "LSVRG", "SAGA"])
def test_on_every_backend_and_loss(tmp_path, backend, method, loss):
    X, y, problem = rows(loss, False)
    method = METHODS[method]
    given = {"loss": loss, "method": method, "teacher": teacher_for(method, problem), "epochs": EPOCHS, "backend": backend}
    given |= {"momentum": 0.5, "random_state": 3}
    cut_and_resume(
        tmp_path / "run.kdvr", (2,), lambda **more: kd.solve(X, y[:, 0] if loss == "logistic" else y, **given, **more)
    )


@pytest.mark.parametrize("teacher", ["logits", "probabilities"])
@pytest.mark.parametrize("method", ["KD", "KD auto", "RepeatedKD", "UnbiasedKD"])
def test_stored_teachers_come_from_the_call(tmp_path, method, teacher):
    X, y, problem = rows("softmax", False)
    Z = X @ make_point(problem, 7)[0].T
    P = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
    given = {"loss": "softmax", "method": METHODS[method], "epochs": EPOCHS, "random_state": 3}
    given["teacher"] = kd.Teacher.logits(Z) if teacher == "logits" else kd.Teacher.probabilities(P)
    path = tmp_path / "run.kdvr"
    cut_and_resume(path, (1, 3), lambda **more: kd.solve(X, y, **given, **more))
    if method == "KD":
        size = path.stat().st_size
        more = kd.solve(np.tile(X, (50, 1)), np.tile(y, 50), **given | {"teacher": kd.Teacher.logits(np.tile(Z, (50, 1)))},
                        checkpoint=kd.Checkpoint(tmp_path / "more.kdvr"))  # fmt: skip
        assert more.epochs == EPOCHS and (tmp_path / "more.kdvr").stat().st_size < 1.1 * size  # nothing as long as the rows


@pytest.mark.parametrize("method", ["SGD", "UnbiasedKD", "SVRG", "LSVRG"])
@pytest.mark.parametrize("seed", [3, None])
def test_deep_models(tmp_path, backend, method, seed):
    X, y, problem = rows("softmax", False)
    method = METHODS[method]
    given = {"loss": "softmax", "method": method, "teacher": teacher_for(method, problem), "epochs": EPOCHS, "backend": backend}
    given |= {"model": kd.DeepLinear((5, 4)), "momentum": 0.9, "alpha": 0.01}
    first = kd.solve(X, y, **given, random_state=seed)
    path = tmp_path / "run.kdvr"
    with pytest.raises(Cut):
        kd.solve(X, y, **given, random_state=first.random_state, callbacks=[cut_after(2)], checkpoint=kd.Checkpoint(path))
    again = kd.solve(X, y, **given, random_state=seed, checkpoint=kd.Checkpoint(path, resume=True))
    same_run(first, again)
    for one, other in zip(first.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_any_generator(tmp_path, bits):
    X, y, _ = rows("softmax", False)
    given = {"loss": "softmax", "method": kd.LSVRG(), "epochs": 4}
    cut_and_resume(
        tmp_path / "run.kdvr", (2,), lambda **more: kd.solve(X, y, random_state=np.random.Generator(bits(5)), **given, **more)
    )
    if bits is not np.random.PCG64:
        with pytest.raises(ValueError, match=f"was a generator of {bits.__name__}"):
            kd.solve(X, y, random_state=np.random.default_rng(5), **given,
                     checkpoint=kd.Checkpoint(tmp_path / "run.kdvr", resume=True))  # fmt: skip


def test_a_given_order_and_more_epochs(tmp_path):
    X, y, _ = rows("softmax", False)
    order = np.random.default_rng(0).integers(0, N, (EPOCHS, 17))
    call = {"loss": "softmax", "momentum": 0.9, "random_state": 0}
    cut_and_resume(tmp_path / "a", (2,), lambda **more: kd.solve(X, y, order=order, epochs=EPOCHS, **call, **more))
    kd.solve(X, y, epochs=3, **call, checkpoint=kd.Checkpoint(tmp_path / "b"))
    longer = kd.solve(X, y, epochs=7, **call, checkpoint=kd.Checkpoint(tmp_path / "b", resume=True))
    same_run(kd.solve(X, y, epochs=7, **call), longer)
    with pytest.raises(ValueError, match="7 finished epochs, more than epochs=6"):
        kd.solve(X, y, epochs=6, **call, checkpoint=kd.Checkpoint(tmp_path / "b", resume=True))


@pytest.mark.parametrize("method", [kd.KD(0.5), kd.RepeatedKD(0.5, refresh=5)], ids=repr)
def test_a_short_run_goes_on_for_longer(tmp_path, method):
    """Whether an anchor is stored does not follow from the epochs asked for at first."""
    X, y, problem = rows("softmax", False)
    teacher = teacher_for(method, problem)
    call = {"loss": "softmax", "method": method, "teacher": teacher, "random_state": 1}
    kd.solve(X, y, epochs=2, **call, checkpoint=kd.Checkpoint(tmp_path / "a"))
    longer = kd.solve(X, y, epochs=7, **call, checkpoint=kd.Checkpoint(tmp_path / "a", resume=True))
    same_run(kd.solve(X, y, epochs=7, **call), longer)


def test_a_loss_of_the_same_name_is_another(tmp_path):
    X, y, _ = rows("squared", False)
    losses = [kd.Loss.custom(lambda y, z, c=c: c * (z - y) ** 2, lambda y, z, c=c: 2 * c * (z - y), name="own") for c in (1, 2)]
    call = {"learning_rate": 0.01, "random_state": 1, "backend": "reference"}
    kd.solve(X, y, loss=losses[0], epochs=1, **call, checkpoint=kd.Checkpoint(tmp_path / "a"))
    kd.solve(X, y, loss=losses[0], epochs=2, **call, checkpoint=kd.Checkpoint(tmp_path / "a", resume=True))
    with pytest.raises(ValueError, match="is of another run: loss"):
        kd.solve(X, y, loss=losses[1], epochs=3, **call, checkpoint=kd.Checkpoint(tmp_path / "a", resume=True))


def test_every_is_kept_and_the_end_always(tmp_path):
    X, y, _ = rows("softmax", False)
    call, path = {"loss": "softmax", "random_state": 0}, tmp_path / "run.kdvr"
    seen = []
    with pytest.raises(Cut):
        kd.solve(X, y, epochs=9, **call, callbacks=[cut_after(5)], checkpoint=kd.Checkpoint(path, every=3))
    resume = kd.Checkpoint(path, every=3, resume=True)
    kd.solve(X, y, epochs=7, **call, callbacks=[lambda p: seen.append(p.epoch)], checkpoint=resume)
    assert seen == [4, 5, 6, 7]
    stopped = kd.solve(
        X, y, epochs=9, **call, callbacks=[lambda p: p.epoch == 8], checkpoint=kd.Checkpoint(path, 3, resume=True)
    )
    assert str(stopped.status) == "stopped"
    same_run(kd.solve(X, y, epochs=9, **call), kd.solve(X, y, epochs=9, **call, checkpoint=resume))


@pytest.mark.parametrize("method", ["SGD", "UnbiasedKD", "LSVRG"])
@pytest.mark.parametrize("kind", ["compact", "virtual"])
def test_compact_and_virtual_rows(tmp_path, method, kind):
    method, rng = METHODS[method], np.random.default_rng(2)
    if kind == "compact":
        X, y = kd.Compact(rng.integers(0, 255, (N, D)).astype(np.uint8), scale=1 / 255), rng.integers(0, 4, N)
        other = kd.Compact(X.values, scale=1 / 254)
    else:
        X, other = (synthetic.VirtualRows(200, D, seed=seed) for seed in (1, 2))
        y = synthetic.VirtualTargets(X, rng.normal(size=(4, D)), loss="softmax")
    teacher = kd.Teacher.weights(rng.normal(size=(4, D))) if method.plan().teacher == "required" else None
    given = {"loss": "softmax", "method": method, "teacher": teacher, "epochs": EPOCHS, "momentum": 0.5, "random_state": 1}
    cut_and_resume(tmp_path / "run.kdvr", (2,), lambda **more: kd.solve(X, y, **given, **more))
    with pytest.raises(ValueError, match=f"X is {kind}"):
        kd.solve(other, y if kind == "compact" else replace(y, rows=other), **given,
                 checkpoint=kd.Checkpoint(tmp_path / "run.kdvr", resume=True))  # fmt: skip


def test_a_checkpoint_is_not_written_more_often_than_asked(tmp_path, monkeypatch):
    X, y, _ = rows("softmax", False)
    now, written = [0.0], []
    monkeypatch.setattr(_keeping, "perf_counter", lambda: now[0])
    monkeypatch.setattr(_store, "write", lambda *a: written.append(a[3]["epochs"]))

    def tick(progress):
        now[0] += 1.0

    kd.solve(X, y, loss="softmax", epochs=8, callbacks=[tick], checkpoint=kd.Checkpoint(tmp_path / "run.kdvr", seconds=3))
    assert written == [0, 4, 7, 8]


def test_a_run_cut_before_its_first_epoch_ends(tmp_path):
    """The criterion's first pass is made once, and counted once."""
    X, y, _ = rows("softmax", False)
    call = {"loss": "softmax", "random_state": 0, "tol": 0.5, "method": kd.SGD(), "epochs": 30}
    path = tmp_path / "run.kdvr"

    class Schedule:
        def values(self, epoch, n_steps, epochs):
            if raising:
                raise Cut
            return np.full(1, 0.05)

    raising = False
    whole = kd.solve(X, y, learning_rate=Schedule(), **call)
    calls = iter([False, True])  # the first rate is asked for before the walk
    Schedule.values = lambda self, *_: (_ for _ in ()).throw(Cut()) if next(calls) else np.full(1, 0.05)
    with pytest.raises(Cut):
        kd.solve(X, y, learning_rate=Schedule(), **call, checkpoint=kd.Checkpoint(path))
    Schedule.values = lambda self, *_: np.full(1, 0.05)
    same_run(whole, kd.solve(X, y, learning_rate=Schedule(), **call, checkpoint=kd.Checkpoint(path, resume=True)))


def test_the_limit_of_the_loss_comes_along(tmp_path):
    """A resumed run explodes where the whole one does, not where numbers end."""
    X, y, _ = rows("squared", False)

    class Steep:
        def values(self, epoch, n_steps, epochs):
            return np.full(1, 0.01 if epoch < 2 else 10.0)

    call = {"loss": "squared", "learning_rate": Steep(), "batch_size": 1, "epochs": 4, "random_state": 0}
    with pytest.raises(kd.DivergenceError) as whole:
        kd.solve(X, y, **call)
    for resume in (False, True):
        with pytest.raises(kd.DivergenceError) as cut:
            kd.solve(X, y, **call, checkpoint=kd.Checkpoint(tmp_path / "run.kdvr", resume=resume))
        assert (cut.value.epoch, cut.value.value) == (whole.value.epoch, whole.value.value) and np.isfinite(cut.value.value)
        assert cut.value.result.epochs == 2


# -- what is refused ---------------------------------------------------------------------------------------------------

CALL = {"loss": "softmax", "epochs": 3, "random_state": 0, "batch_size": 4, "method": kd.KD(0.5), "track": "objective"}
OTHERS = {
    "alpha": ({"alpha": 0.1}, "options is Step"),
    "seed": ({"random_state": 1}, "seed is 1 here and 0 there"),
    "method": ({"method": kd.KD(0.6)}, r"method is KD\(lam=0.6.* here and KD\(lam=0.5"),
    "rate": ({"learning_rate": 0.1}, r"learning_rate is Constant\(value=0.1\) here"),
    "track": ({"track": ()}, r"track is \[\] here"),
    "sampling": ({"sampling": "replacement"}, "sampling is replacement here and shuffle there"),
    "average": ({"average": True}, "average is 0 here and None there"),
    "intercept": ({"fit_intercept": False}, "fit_intercept is False"),
    "init": ({"coef_init": np.ones((4, D))}, "initial weights is"),
    "weights": ({"sample_weight": np.arange(N)}, "sample_weight is .* here and None there"),
    "backend": ({"backend": "reference"}, "backend is reference here and native there"),
    "order": ({"order": np.zeros((3, 8), np.int64)}, "order is .* here and None there"),
    "mask": ({"compress": kd.Mask(0.5)}, "mask is .* here and None there"),
    "tol": ({"tol": 1e-3}, "tol is 0.001 here and None there"),
}


@pytest.mark.parametrize("other", list(OTHERS))
def test_another_run_is_refused_and_named(tmp_path, other):
    X, y, problem = rows("softmax", False)
    path, teacher = tmp_path / "run.kdvr", kd.Teacher.weights(*make_point(problem, 7))
    kd.solve(X, y, **CALL, teacher=teacher, checkpoint=kd.Checkpoint(path))
    before = path.read_bytes()
    change, message = OTHERS[other]
    if other == "backend" and kd.backend_status()["native"] is not None:
        pytest.skip("there is but one backend")
    with pytest.raises(ValueError, match=message):
        kd.solve(X, y, **CALL | change, teacher=teacher, checkpoint=kd.Checkpoint(path, resume=True))
    assert path.read_bytes() == before


def test_other_data_are_refused(tmp_path):
    X, y, problem = rows("softmax", False)
    path, teacher = tmp_path / "run.kdvr", kd.Teacher.weights(*make_point(problem, 7))
    kd.solve(X, y, **CALL, teacher=teacher, checkpoint=kd.Checkpoint(path))
    resume = kd.Checkpoint(path, resume=True)
    other_X, other_y = X.copy(), y.copy()
    other_X[7, 2] += 1e-9
    other_y[11] = (y[11] + 1) % 4
    for rows_, y_, teacher_, name in (
        (other_X, y, teacher, "X is dense"),
        (X.astype(np.float32), y, teacher, "X is dense .* float32"),
        (csr_array(X), y, teacher, "X is sparse"),
        (X, other_y, teacher, "y is"),
        (X, y, kd.Teacher.weights(make_point(problem, 8)[0]), "teacher is"),
    ):
        with pytest.raises(ValueError, match=f"is of another run: .*{name}"):
            kd.solve(rows_, y_, **CALL, teacher=teacher_, checkpoint=resume)


def test_a_file_in_the_way_and_paths_that_do_not_exist(tmp_path):
    X, y, _ = rows("softmax", False)
    path = tmp_path / "run.kdvr"
    kd.solve(X, y, loss="softmax", epochs=1, checkpoint=kd.Checkpoint(path))
    with pytest.raises(FileExistsError, match="pass resume=True to go on from it, or remove it"):
        kd.solve(X, y, loss="softmax", epochs=1, checkpoint=kd.Checkpoint(path))
    with pytest.raises(FileNotFoundError, match="is no directory"):
        kd.solve(X, y, loss="softmax", checkpoint=kd.Checkpoint(tmp_path / "no" / "run.kdvr"))
    with pytest.raises(TypeError, match="checkpoint must be a Checkpoint"):
        kd.solve(X, y, loss="softmax", checkpoint=str(path))
    with pytest.raises(ValueError, match="LBFGS draws nothing"):
        kd.solve(X, y, loss="softmax", method=kd.LBFGS(), checkpoint=kd.Checkpoint(tmp_path / "b"))
    for bad in ({"every": 0}, {"every": 1.5}, {"seconds": -1}, {"resume": 1}):
        with pytest.raises((TypeError, ValueError)):
            kd.Checkpoint(path, **bad)


def test_another_instruction_set_is_a_warning(tmp_path, monkeypatch):
    X, y, _ = rows("softmax", False)
    path, call = tmp_path / "run.kdvr", {"loss": "softmax", "random_state": 0}
    kd.solve(X, y, epochs=2, **call, checkpoint=kd.Checkpoint(path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kd.solve(X, y, epochs=3, **call, checkpoint=kd.Checkpoint(path, resume=True))
    if kd.backend_status()["native"] is None:
        monkeypatch.setattr(_identity, "_isa", lambda: "abacus")
        with pytest.warns(UserWarning, match="instruction set is abacus here .* same up to rounding"):
            kd.solve(X, y, epochs=4, **call, checkpoint=kd.Checkpoint(path, resume=True))


@pytest.mark.skipif(kd.backend_status()["numba"] is not None, reason=str(kd.backend_status()["numba"]))
def test_another_processor_is_a_warning_with_numba(tmp_path, monkeypatch):
    """Its kernels are compiled for the processor that they run on."""
    from numba import config

    X, y, _ = rows("softmax", False)
    path, call = tmp_path / "run.kdvr", {"loss": "softmax", "random_state": 0, "backend": "numba"}
    kd.solve(X, y, epochs=2, **call, checkpoint=kd.Checkpoint(path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kd.solve(X, y, epochs=3, **call, checkpoint=kd.Checkpoint(path, resume=True))
    here = _identity._processor("numba")
    monkeypatch.setattr(config, "CPU_NAME", "generic")
    with pytest.warns(UserWarning, match=f"processor is generic here and {re.escape(here)} there; .* same up to rounding"):
        kd.solve(X, y, epochs=4, **call, checkpoint=kd.Checkpoint(path, resume=True))


def test_an_interrupt_says_how_to_go_on(tmp_path):
    X, y, _ = rows("softmax", False)

    def interrupt(progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.warns(RuntimeWarning, match=re.escape("call again with Checkpoint(")):
        run = kd.solve(X, y, loss="softmax", callbacks=[interrupt], checkpoint=kd.Checkpoint(tmp_path / "run.kdvr"))
    assert run.epochs == 2


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    """The disk fills up: the run ends with the error, the file is that of the epoch before, nothing else is left."""
    X, y, _ = rows("softmax", False)
    path, call = tmp_path / "run.kdvr", {"loss": "softmax", "random_state": 0, "epochs": 4}
    with pytest.raises(Cut):
        kd.solve(X, y, **call, callbacks=[cut_after(2)], checkpoint=kd.Checkpoint(path))
    before = path.read_bytes()

    def full(aside, contents):
        with aside.open("wb") as file:
            file.write(contents[: len(contents) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            kd.solve(X, y, **call, checkpoint=kd.Checkpoint(path, resume=True))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["run.kdvr"]
    same_run(kd.solve(X, y, **call), kd.solve(X, y, **call, checkpoint=kd.Checkpoint(path, resume=True)))


def test_the_file_is_plain(tmp_path):
    """Anyone reads it with safetensors alone: arrays by name, and JSON."""
    from safetensors import safe_open

    X, y, _ = rows("softmax", False)
    kd.solve(X, y, loss="softmax", epochs=2, momentum=0.5, random_state=9, checkpoint=kd.Checkpoint(tmp_path / "run.kdvr"))
    with safe_open(tmp_path / "run.kdvr", framework="numpy") as file:
        metadata = file.metadata()
        assert file.get_tensor("session.velocity").shape == (4, D) and file.get_tensor("history").shape[0] == 2
    assert metadata["format"] == "kdvr-checkpoint" and json.loads(metadata["data"])["run"]["seed"] == 9
