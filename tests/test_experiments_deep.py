"""E8: its constants are those of the problem, its floors lie below the bound, and its reading says so where they do not."""

from __future__ import annotations

import numpy as np
import pytest
from test_examples import needs_native
from test_experiments import small

from kdvr_fast._layers import Network
from kdvr_fast.experiments import e8
from kdvr_fast.experiments._runner import execute

pytestmark = needs_native


def gradients(task, flat, network):
    return e8._row_gradients(task.A, task.Y, network.split(flat))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_constants_are_those_of_the_optimum(depth):
    """Gradient and Hessian by differences; the inequalities on small moves, which nearly attain them."""
    task = e8.problem(50, 4, 2, 5, depth)
    network = Network((4, *[5] * (depth - 1), 2))
    flat = np.concatenate([W.ravel() for W in task.layers])
    assert np.abs(gradients(task, flat, network).mean(0)).max() < 1e-13 and task.gap(network.product(flat)) < 1e-25
    h, eye = 1e-5, np.eye(network.size)
    hessian = np.array(
        [(gradients(task, flat + h * e, network) - gradients(task, flat - h * e, network)).mean(0) / (2 * h) for e in eye]
    )
    sizes, V = np.linalg.eigh(hessian)
    inside = sizes > 1e-6
    assert inside.sum() == 8  # as many as the product has numbers
    np.testing.assert_allclose([task.mu, task.L_full], [sizes[inside].min(), sizes.max()], rtol=1e-7)
    rng, largest = np.random.default_rng(0), 0.0
    for _ in range(200):
        step = 1e-5 * V[:, inside] @ (rng.normal(size=8) / np.sqrt(sizes[inside]))
        gap = task.gap(network.product(flat + step))
        moved = gradients(task, flat + step, network) - gradients(task, flat, network)
        squared = float((gradients(task, flat + step, network).mean(0) ** 2).sum())
        assert squared >= 2 * task.mu * gap * (1 - 1e-3)
        largest = max(largest, float((moved**2).sum(1).mean()) / (2 * gap))
    assert 0.5 * task.L < largest <= task.L * (1 + 1e-3)


def test_floors_bounds_and_the_optimum(tmp_path):
    settings = {"relaxations": 20, "depths": [2], "teacher_distances": [0.0, 0.03, 0.1], "lams": [0.0, 1.0]}
    record = execute(small("e8", **settings), tmp_path, seeds=1, quick=True, jobs=1)
    trend, kd, unbiased, own, converged = record["reading"]
    assert trend.startswith("By its best weight the nearer teacher gives the lower floor")
    assert all("lies below its PL bound in all 4 cells" in sentence for sentence in (kd, unbiased, own))
    assert "Depth 2" in converged and converged.endswith("it converges.")


def test_the_reading_says_where_it_fails(tmp_path, monkeypatch):
    exact = e8.bound
    monkeypatch.setattr(e8, "bound", lambda s, kind, *cell: exact(s, kind, *cell) * (1e-3 if kind == "KD" else 1))
    settings = {"relaxations": 1, "depths": [2], "teacher_distances": [0.0, 0.1], "lams": [0.0, 1.0]}
    record = execute(small("e8", **settings), tmp_path, seeds=1, quick=True, jobs=1)
    assert record["reading"][1] == "KD: the floor does NOT lie below its PL bound in 2 of 2 cells."
    assert "does NOT converge" in record["reading"][-1]
