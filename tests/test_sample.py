"""Newton's steps that begin at the optimum of a sample of the rows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from problems import make_point, make_problem, relative, to_csr

import kdvr_fast as kd
from kdvr_fast import _sample
from kdvr_fast.lbfgs import Descent

N = 8000


def rows(n=N, seed=0, **options):
    """Enough rows for a sample, sorted by label, and few positives."""
    problem = make_problem("logistic", n=n, d=6, seed=seed, density=0.6, **options)
    W, b = make_point(problem)
    p = 1 / (1 + np.exp(-(problem.X @ W.T + b - 1)))
    y = (np.random.default_rng(seed).random((n, 1)) < p).astype(problem.X.dtype)
    order = np.argsort(y[:, 0], kind="stable")
    weights = None if problem.weights is None else problem.weights[order]
    problem = dataclasses.replace(problem, X=problem.X[order], y=y[order], weights=weights)
    return dataclasses.replace(problem, X=to_csr(problem.X))


def fit(problem, **options):
    options = {"loss": "logistic", "method": kd.LBFGS(), "alpha": 1e-4, "sample_weight": problem.weights} | options
    return kd.solve(problem.X, problem.y[:, 0], fit_intercept=problem.fit_intercept, **options)


@pytest.fixture
def jumps(monkeypatch):
    """The samples that runs began with."""
    seen, jump = [], Descent._jump

    def noticed(self, sample):
        seen.append(sample)
        jump(self, sample)

    monkeypatch.setattr(Descent, "_jump", noticed)
    return seen


def without(monkeypatch):
    monkeypatch.setattr("kdvr_fast.lbfgs.sample_of", lambda job, kind: None)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("lam", [0.0, 0.6])
def test_it_leads_to_the_same_optimum_from_nearby(lam, weighted, fit_intercept, backend, jumps, monkeypatch):
    problem = rows(weighted=weighted, fit_intercept=fit_intercept)
    W, b = make_point(problem)
    logits = problem.X[:] @ W.T + b
    for teacher in (None,) if lam == 0 else (kd.Teacher.weights(W, b), kd.Teacher.logits(logits)):
        options = {"method": kd.LBFGS(lam=lam), "teacher": teacher, "tol": 1e-8, "backend": backend}
        with monkeypatch.context() as patch:
            without(patch)
            plain = fit(problem, **options)
        jumps.clear()
        run = fit(problem, **options)
        assert len(jumps) == 1 and jumps[0].n == 1024
        assert run.status is plain.status is kd.Status.CONVERGED
        assert relative(run.coef, plain.coef) < 1e-6 and run.epochs <= plain.epochs + 1
        first, second = run.history["objective"][:2] - plain.history["objective"][-1]
        # the sample's optimum is off by about p / 2m = 0.003; columns "objective" know nothing of the teacher
        assert abs(first) < 0.01 and abs(second) < 0.5 * abs(first)


def test_the_sample_is_of_all_parts_of_the_rows(backend, jumps):
    problem = rows(weighted=True)
    fit(problem, backend=backend)
    sample = jumps[0].problem
    assert abs(sample.y.mean() - problem.y.mean()) < 1 / 1024  # sorted rows: as many of each label
    assert sample.weights.mean() == pytest.approx(1, rel=1e-12) and sample.X.shape == (1024, 6)
    first = fit(problem, backend=backend)
    assert np.array_equal(first.coef, fit(problem, backend=backend).coef)


def test_reads_of_a_sample_are_parts_of_reads(backend, jumps, monkeypatch):
    runs, prepare = [], Descent.prepare
    monkeypatch.setattr(Descent, "prepare", lambda self: runs.append(self) or prepare(self))
    run = fit(rows(), method=kd.LBFGS(max_iter=1), backend=backend)
    whole, part = runs
    assert run.epochs == 1 and part.finished.epochs >= 1
    assert run.history["grad_evals"][0] == whole.cost.grad_evals == pytest.approx(2 + part.cost.grad_evals * 1024 / N)


def test_where_it_cannot_pay_it_is_not_made(backend, jumps):
    problem = rows()
    start = np.full((1, 6), 0.1)
    fit(problem, coef_init=start, backend=backend)
    fit(problem, intercept_init=[0.5], backend=backend)
    fit(rows(n=2000), backend=backend)
    fit(problem, method=kd.LBFGS(precondition="diagonal", max_iter=2), backend=backend)
    squared = make_problem("squared", n=N, d=6, k=1)
    kd.solve(squared.X, squared.y, loss="squared", method=kd.LBFGS(), backend=backend)
    assert not jumps


def test_a_start_that_is_worse_is_not_taken(backend, jumps, monkeypatch):
    problem = rows()
    with monkeypatch.context() as patch:
        without(patch)
        plain = fit(problem, tol=1e-8, backend=backend)
    make = _sample.sample_of

    def contrary(job, kind):
        sample = make(job, kind)
        return None if sample is None else dataclasses.replace(
            sample, problem=dataclasses.replace(sample.problem, y=1 - sample.problem.y)
        )  # fmt: skip

    monkeypatch.setattr("kdvr_fast.lbfgs.sample_of", contrary)
    run = fit(problem, tol=1e-8, backend=backend)
    assert len(jumps) == 1 and np.array_equal(run.coef, plain.coef) and run.epochs == plain.epochs
    assert run.history["grad_evals"][0] > plain.history["grad_evals"][0]


def test_a_sample_that_diverges_is_left_alone(backend, jumps, monkeypatch):
    problem = rows()
    passed, calls = Descent._pass, []

    def exploding(self, weights):
        if self.enough is not None:
            calls.append(1)
            raise kd.DivergenceError(1, np.inf, 0.0)
        return passed(self, weights)

    monkeypatch.setattr(Descent, "_pass", exploding)
    run = fit(problem, tol=1e-8, backend=backend)
    assert calls and run.status is kd.Status.CONVERGED


def test_weights_of_zero_in_all_the_sample(backend, jumps):
    """Only the last row counts, and the sample need not have it."""
    problem = rows(fit_intercept=False)
    weights = np.zeros(N)
    weights[-1] = 1.0
    run = fit(dataclasses.replace(problem, weights=weights), alpha=1e-2, tol=1e-8, backend=backend)
    assert run.status is kd.Status.CONVERGED
