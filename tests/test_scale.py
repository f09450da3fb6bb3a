"""The experiment of virtual rows: its closed form is the exact oracle's, walks come to it, and the reading says where not."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from test_examples import needs_native
from test_experiments import small

from kdvr_fast import Teacher, synthetic
from kdvr_fast._system import peak_memory
from kdvr_fast.experiments import scale
from kdvr_fast.experiments._runner import execute
from kdvr_fast.theory import LeastSquaresOracle

pytestmark = needs_native


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("lam", [0.0, 0.4, 1.0])
def test_the_exact_floor_is_the_oracles(lam, unbiased):
    """On 216 rows whose moments are those of normal features up to the fifth, at batches of one."""
    nodes = np.array([-1.0, 0, 0, 0, 0, 1]) * np.sqrt(3)
    v, sigma, gamma = np.array([1.0, 0.5, 0.2]), 0.7, 0.05
    A = np.array(list(product(nodes, repeat=3))) * np.sqrt(v)
    A, e = np.vstack([A, A]), np.repeat([-sigma, sigma], len(A))
    rows = synthetic.VirtualRows(10, 3, spectrum=v, dtype=np.float64)
    x, theta = np.array([1.0, -1.0, 2.0]), np.array([1.3, -0.9, 2.5])
    p = synthetic.SyntheticProblem(rows, None, "squared", x[None], np.zeros(1), None, False)
    settings = {"learning_rate": gamma, "batch_size": 1, "noise": sigma}
    oracle = LeastSquaresOracle.solve(A, A @ x + e, lam=lam, learning_rate=gamma, theta=theta, unbiased=unbiased)
    expected = np.trace(np.diag(v) @ oracle.second_moment) / 2
    got = scale.exact_floor(settings, p, Teacher.weights(theta), lam, unbiased)
    assert got == pytest.approx(expected, rel=1e-10)


def test_the_best_weight_is_the_least_of_the_exact_floor():
    s = scale.configure(True, None)
    p, teacher = scale.problem(1000, 10, 10.0, 1.0, 0.9, 0)
    best = scale.weight(s, p, teacher, "KD at its best")
    around = [scale.exact_floor(s, p, teacher, best + off, False) for off in (-1e-3, 0.0, 1e-3)]
    assert 0 < best < 1 and around[1] < min(around[0], around[2])


def test_walks_come_to_the_exact_floor(tmp_path):
    experiment = small("scale", rows=[1000, 1_000_000], features=10, learning_rate=0.2)
    record = execute(experiment, tmp_path, seeds=1, quick=True, jobs=1)
    floors, over, weight, memory, speed = record["reading"]
    assert floors.startswith("At 1e+06 rows the noise floors are within 5% of the exact ones for all 4 methods")
    assert over.count(" for ") == 3 and "in closed form" in weight and "MiB at 1e+06: flat." in memory and "lambda*" in speed


def test_the_reading_says_where_it_fails(tmp_path, monkeypatch):
    exact, sizes = scale.exact_floor, iter(range(0, 10**12, 2**30))
    monkeypatch.setattr(scale, "exact_floor", lambda *cell: 1.2 * exact(*cell))
    monkeypatch.setattr(scale, "peak_memory", lambda: next(sizes))
    record = execute(small("scale", rows=[1000, 10_000], features=10), tmp_path, seeds=1, quick=True, jobs=1)
    assert "are NOT within 5%" in record["reading"][0] and ": NOT flat." in record["reading"][3]


def test_peak_memory_grows_with_what_is_held():
    before = peak_memory()
    held = np.ones(2**20 + before // 8)  # more than the process ever had
    assert before > 2**20 and peak_memory() >= held.nbytes
