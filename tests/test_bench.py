"""The benchmarks' arithmetic, and that what is compared is the same thing. Timings are not tested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cli import run
from test_data import write_mnist
from test_examples import needs_native

import kdvr_fast as kd
from kdvr_fast.bench import BATCHES, PASSES, SOLVES, MachineSpeed, floor, run_bench

DISTORTING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
COMPARE = Path(__file__).parents[1] / "benchmarks" / "compare"


@pytest.mark.parametrize(
    ("shape", "teacher", "expected"),
    [
        ((1000, 100, 1), False, (4e5 / 1e9, "memory")),
        ((1000, 100, 10), False, (1e5 * 10 * 2 / 2e9, "arithmetic")),
        ((1000, 100, 3), True, (1e5 * 3 * 4 / 2e9, "arithmetic")),
    ],
)
def test_the_floor_is_the_slower_of_reading_and_computing(shape: Any, teacher: bool, expected: tuple[float, str]) -> None:
    machine = MachineSpeed("any", 1, fma_peak=2e9, read_bandwidth=1e9)
    seconds, bound = floor(*shape, teacher, machine)
    assert (seconds, bound) == (pytest.approx(expected[0]), expected[1])


def test_the_floor_of_stored_bytes_is_a_quarter_of_that_of_floats() -> None:
    machine = MachineSpeed("any", 1, fma_peak=1e12, read_bandwidth=1e9)
    assert floor(1000, 100, 1, False, machine, itemsize=1) == (pytest.approx(1e5 / 1e9), "memory")


@needs_native
def test_bench_json_has_every_shape_and_method_and_figures_that_agree() -> None:
    code, out, err = run("bench", "--scale", "0.001", "--rounds", "1", "--json")
    report = json.loads(out)
    assert code == 0 and "pass over" in err
    assert [(p["d"], p["k"], p["dtype"], p["teacher"]) for p in report["passes"]] == [
        (*shape, t) for _, *shape in PASSES for t in (False, True)
    ]
    for p in report["passes"]:
        assert p["bytes_per_second"] == pytest.approx(p["rows_per_second"] * p["d"] * np.dtype(p["dtype"]).itemsize)
        assert p["floor_fraction"] > 0 and p["bound"] in ("memory", "arithmetic")
    assert [(e["method"], e["batch_size"]) for e in report["epochs"]] == [(name, b) for name in SOLVES for b in BATCHES]
    n, d, _ = report["epoch_shape"]
    assert (n, d) == (max(BATCHES), 784)
    for e in report["epochs"]:
        assert e["rows_per_second"] * e["seconds"] == pytest.approx(n)
    assert report["machine"]["fma_peak"] > 0 and report["machine"]["read_bandwidth"] > 0 and report["rounds"] == 1


@needs_native
def test_bench_prints_both_tables() -> None:
    code, out, _ = run("bench", "--scale", "0.001", "--rounds", "1")
    assert code == 0 and "multiply-adds/s" in out and "one fused pass" in out
    assert all(name in out for name in SOLVES)


def test_every_stochastic_method_is_timed() -> None:
    assert {type(method) for method, _ in SOLVES.values()} >= {m for m in kd.METHODS if m.__name__ != "LBFGS"}


def test_bench_without_the_extension_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdvr_fast.backends.native.NativeBackend.unavailable", lambda self: "it was not built")
    with pytest.raises(RuntimeError, match="it was not built"):
        run_bench(scale=0.001, rounds=1)


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison's modules, importable as its runner imports them."""
    monkeypatch.syspath_prepend(str(COMPARE))


def _task(**options: Any) -> Any:
    from tasks import Data, Task

    rng = np.random.default_rng(0)
    X = rng.random((203, 12), dtype=np.float32)
    y = rng.integers(3, size=203)
    teacher = rng.standard_normal((3, 12)).astype(np.float32), rng.standard_normal(3).astype(np.float32)
    return Task("small", Data("small", X, y, "softmax"), lam=0.7, learning_rate=0.1, teacher=teacher, **options)


@needs_native
@pytest.mark.parametrize("batch_size", [10, 203])
@pytest.mark.parametrize("deep", [False, True])
def test_rivals_reach_the_same_weights(compare: None, batch_size: int, deep: bool) -> None:
    """All loops, over the same rows, the short last batch included; their order of summation is all that differs."""
    from rivals import deep_epochs, kd_epochs

    rng = np.random.default_rng(1)
    layers = tuple(rng.standard_normal(shape).astype(np.float32) / 3 for shape in ((6, 12), (3, 6)))
    task = _task(batch_size=batch_size, layers=layers if deep else None)
    orders = np.stack([np.random.default_rng(s).permutation(203) for s in range(3)])
    weights = {}
    for rival in deep_epochs() if deep else kd_epochs():
        if rival.unavailable(task) is None:
            rival.setup(task)
            weights[rival.name] = np.column_stack(rival.run(orders))
    assert len(weights) >= (2 if deep else 5)
    steps = orders.size / batch_size
    for name, W in weights.items():
        ours = weights["kdvr, teacher cached"]
        assert np.abs(W - ours).max() <= 10 * steps**0.5 * np.finfo(np.float32).eps * np.abs(ours).max(), name


def test_the_optimum_is_proven_and_kept(compare: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import objective

    monkeypatch.setattr(objective, "STORE", tmp_path / "optima.json")
    task = _task(alpha=1e-3)
    best = objective.optimum(task)
    f = objective.Objective(task)
    W = np.zeros((3, 12))
    around = [f.value(W + d) for d in 1e-2 * np.random.default_rng(1).standard_normal((5, 3, 12))]
    assert best < f.value(W) and best < min(around)
    stored = json.loads((tmp_path / "optima.json").read_text())["small alpha=0.001"]
    assert stored["optimum"] == best and 0 <= stored["at_most_too_large_by"] <= 1e-10 * best
    monkeypatch.setattr(objective.Objective, "minimise", lambda self: pytest.fail("it was stored"))
    assert objective.optimum(task) == best


def test_the_search_finds_the_least_effort(compare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver whose suboptimality is 1 / effort needs 1500 iterations for 1 / 1500, found to within a tenth."""
    import accuracy

    class Solver:
        def fit(self, effort: int) -> float:
            return 1 + 1 / effort

    class Objective:
        def value(self, W: float) -> float:
            return W

    search = accuracy._Search(Solver(), Objective(), 1.0, budget=1e9)  # type: ignore[arg-type]
    found = search.least_effort(1 / 1500)
    assert found is not None and 1500 <= found <= 1650 and search.tried[found][1] <= 1 / 1500
    slow = accuracy._Search(Solver(), Objective(), 1.0, budget=0.0)  # type: ignore[arg-type]
    assert slow.least_effort(1 / 1500) is None


@needs_native
def test_the_runner_writes_table_picture_and_json(
    compare: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import run as runner

    for name in DISTORTING:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    write_mnist(tmp_path / "data" / "mnist", n=300)
    options = (
        "--only",
        "kd-epochs",
        "--rounds",
        "1",
        "--threads",
        "1",
        "--data",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "out"),
    )
    monkeypatch.setattr("sys.argv", ["run.py", *options])
    runner.main()
    results = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    ours = [r for r in results if r["ours"]]
    assert ours and all(len(r["seconds"]) == 1 and r["median"] == r["seconds"][0] for r in ours)
    table = (tmp_path / "out" / "results.md").read_text()
    assert "### kd-epochs: mnist, batch 10, 1 thread" in table and table.strip() in capsys.readouterr().out
    assert (tmp_path / "out" / "results.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", DISTORTING)
def test_the_runner_refuses_a_distorted_blas(
    compare: None, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import run as runner

    monkeypatch.setenv(name, "1")
    monkeypatch.setattr("sys.argv", ["run.py", "--only", "kd-epochs"])
    with pytest.raises(SystemExit) as stop:
        runner.main()
    assert stop.value.code == 2 and name in capsys.readouterr().err
