"""Every example runs as a newcomer would run it, and prints what it is there to show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

import kdvr_fast as kd

EXAMPLES = Path(__file__).parents[1] / "examples"
needs_numba = pytest.mark.skipif(
    kd.backend_status()["numba"] is not None, reason=f"compiles a loss; numba: {kd.backend_status()['numba']}"
)
needs_native = pytest.mark.skipif(
    kd.backend_status()["native"] is not None,
    reason=f"examples use the default backend; native: {kd.backend_status()['native']}",
)


def run_python(*arguments: str, cwd: Path) -> str:
    """Standard output of this interpreter, which finds the package that is being tested."""
    env = {**os.environ, "PYTHONPATH": str(Path(kd.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def column(text: str, pattern: str) -> list[float]:
    return [float(number) for number in re.findall(pattern, text)]


def distil_digits(text: str) -> None:
    sgd, distilled, unbiased = column(text, r"objective ([\d.]+)")
    assert unbiased < distilled < sgd


def measure_noise(text: str) -> None:
    rows = [[float(number) for number in re.findall(r"[\d.]+", line.split("ep.")[1])] for line in text.splitlines()[1:]]
    for earlier, later in pairwise(rows):  # a better teacher: more correlated, a larger weight, less noise left
        assert later[0] > earlier[0] and later[2] > earlier[2] and later[4] < earlier[4]


def compare_methods(text: str) -> None:
    gaps = dict(zip(("SGD", "KD", "RepeatedKD", "UnbiasedKD", "SVRG"), column(text, r"f\* = ([\d.e+-]+)"), strict=False))
    assert len(text.splitlines()) == 8
    assert gaps["SVRG"] < 1e-10 < gaps["UnbiasedKD"] < 0.1 * gaps["KD"] < 0.1 * gaps["SGD"]


def nonlinear_teacher(text: str) -> None:
    sgd, distilled, unbiased = column(text, r"objective ([\d.]+)")
    assert unbiased < sgd < distilled  # the forest's bias moves plain KD away, and leaves the unbiased form alone


def rows_at_scale(text: str) -> None:
    errors, floors = column(text, r"relative error ([\d.e+-]+)"), column(text, r"(?:SGD|KD\([\d.]+\)) ([\d.]+)")
    assert len(errors) == 3 and errors[-1] < 0.01
    sgd, bold, timid, unbiased = floors[-4:]
    assert timid < sgd < bold  # kappa = 1 trusts a biased teacher too much here
    assert 0.17 < unbiased / sgd < 0.21  # 1 - 0.9^2, the teacher's correlation being 0.9


def own_losses(text: str) -> None:
    near, alone, taught = (column(text, rf"{what} ([\d.e+-]+)") for what in ("truth", "SGD", "taught"))
    assert len(near) == 4 and min(near) > 0.99
    assert all(b < 0.2 * a for a, b in zip(alone, taught, strict=True))


def few_labels(text: str) -> None:
    teacher, alone, same, everywhere = column(text, r"accuracy ([\d.]+)")
    assert alone < same < everywhere < teacher + 0.02
    assert everywhere - alone > 0.05  # of what the teacher is better, the most


CHECKS: dict[str, Callable[[str], None]] = {
    "01_distil_digits.py": distil_digits,
    "02_measure_noise.py": measure_noise,
    "03_compare_methods.py": compare_methods,
    "04_nonlinear_teacher.py": nonlinear_teacher,
    "05_rows_at_scale.py": rows_at_scale,
    "06_own_losses.py": own_losses,
    "07_few_labels.py": few_labels,
}


def test_every_example_is_checked() -> None:
    assert sorted(CHECKS) == sorted(path.name for path in EXAMPLES.glob("*.py"))


@needs_native
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_numba) if name.startswith("06") else name for name in sorted(CHECKS)]
)
def test_example(name: str, tmp_path: Path) -> None:
    CHECKS[name](run_python(str(EXAMPLES / name), cwd=tmp_path))
