"""The specification itself, against per-sample loops with explicit outer products, torch's optimiser and hand-made cases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from problems import LOSS_NAMES, VARIATES, make_point, make_problem, make_table, prepare, relative, variates_of

from kdvr_fast.backends.base import ControlVariate, Step, Sums
from kdvr_fast.backends.reference import ReferenceBackend

EXACT = 1e-12  # float64, a few hundred operations on numbers of order one: eps x 1e3
STEPS = {
    "single rows": Step(batch_size=1),
    "short last batch": Step(batch_size=4),
    "l2 and l1": Step(batch_size=4, l2=0.1, l1=0.02),
    "momentum": Step(batch_size=3, momentum=0.8, l2=0.05),
    "nesterov": Step(batch_size=3, momentum=0.8, nesterov=True, l1=0.01),
    "average": Step(batch_size=4, average=True, statistics=False),
}


def predict(loss, z):
    if loss == "squared":
        return z
    e = np.exp(z)
    return e / (1 + e) if loss == "logistic" else e / e.sum()


def loss_of(loss, z, y):
    if loss == "squared":
        return 0.5 * np.sum((z - y) ** 2)
    return np.log(1 + np.exp(z[0])) - y[0] * z[0] if loss == "logistic" else -np.sum(y * np.log(predict("softmax", z)))


class Literal:
    """One row at a time, one outer product at a time; the intercept is a column of X (of zeros where there is none)."""

    def __init__(self, problem, variate, table=None):
        n, k = len(problem.X), problem.n_outputs
        self.loss, self.variate, self.n = problem.loss.name, variate, n
        self.A = np.hstack([problem.X, np.full((n, 1), float(problem.fit_intercept))])
        self.Y = np.eye(k)[problem.y] if problem.y.ndim == 1 else problem.y
        self.s = np.ones(n) if problem.weights is None else problem.weights
        self.V = np.column_stack(make_point(problem))
        self.theta = np.column_stack(make_point(problem, 2))
        self.table = None if table is None else table.copy()
        self.velocity = self.m = np.zeros_like(self.V)
        self.iterates = []
        if variate.use_mean:
            self.m = sum(np.outer(self.row(i)[1], self.A[i]) for i in range(n)) / n

    def row(self, i):
        """s_i times residual and anchor residual of row i at the current weights."""
        z, y = self.V @ self.A[i], self.Y[i]
        r, c, T = predict(self.loss, z) - y, np.zeros_like(z), self.variate.temperature
        if self.variate.source != "none":
            teacher = self.theta @ self.A[i]
            if T is None:
                c = self.table[i] if self.table is not None else predict(self.loss, teacher) - y
            else:
                soft = self.table[i] if self.table is not None else predict(self.loss, teacher / T)
                c = r - T * (predict(self.loss, z / T) - soft)
        return self.s[i] * r, self.s[i] * c, self.s[i] * loss_of(self.loss, z, y)

    def sums(self, order):
        """The sums of one epoch without moving (learning rate 0)."""
        rows = [(*self.row(i), self.A[i]) for i in order]
        pairs = [(np.outer(p[0], p[3]), np.outer(p[1], p[3])) for p in rows]
        out = Sums(rows=len(rows), loss=sum(p[2] for p in rows), pairs=len(rows) - 1)
        for g, h in pairs:
            out.xx, out.xt, out.tt = out.xx + np.sum(g * g), out.xt + np.sum(g * h), out.tt + np.sum(h * h)
        for (g, h), (g2, h2) in itertools.pairwise(pairs):
            out.pair_xx += np.sum(g * g2)
            out.pair_xt += (np.sum(g * h2) + np.sum(h * g2)) / 2
            out.pair_tt += np.sum(h * h2)
        return out

    def epoch(self, order, rates, step):
        lam, penalised = self.variate.lam, np.ones_like(self.V)
        penalised[:, -1] = 0
        for t, start in enumerate(range(0, len(order), step.batch_size)):
            rows = order[start : start + step.batch_size]
            g = step.l2 * self.V * penalised + (lam * self.m if self.variate.use_mean else 0)
            new = {}
            for i in rows:
                r, c, _ = self.row(i)
                g = g + np.outer(r - lam * c, self.A[i]) / len(rows)
                new[i] = r
            if self.variate.update_table:
                for i, r in new.items():
                    self.m = self.m + np.outer(r - self.s[i] * self.table[i], self.A[i]) / self.n
                    self.table[i] = r / self.s[i]
            g[:, -1] *= self.A[0, -1]
            self.velocity = step.momentum * self.velocity + g
            p = g + step.momentum * self.velocity if step.nesterov else self.velocity
            V = self.V - rates[t] * p
            shrunk = np.sign(V) * np.maximum(np.abs(V) - rates[t] * step.l1, 0)
            self.V = np.where(penalised == 1, shrunk, V)
            self.iterates.append(self.V)


def make_order(problem, seed=3, epochs=2):
    """Rows with replacement: duplicates inside a batch are the case that breaks a SAGA table."""
    order = np.random.default_rng(seed).integers(0, len(problem.X), epochs * len(problem.X) + 2)
    order[:6] = [5, 5, 0, 0, 5, 5]
    return order


def make_rates(order, step):
    return np.linspace(0.1, 0.02, -(-len(order) // step.batch_size))


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
@pytest.mark.parametrize(("loss", "kind"), [(loss, kind) for loss in LOSS_NAMES for kind in variates_of(loss)])
def test_epoch_against_loops(loss, kind, step):
    variate, odd = VARIATES[kind], step.batch_size % 2 == 1
    problem = make_problem(loss, n=11, weighted=odd, fit_intercept=not odd, dense=kind.startswith("table"))
    table = make_table(problem, variate) if variate.source == "table" else None
    session = ReferenceBackend().open(problem)
    prepare(session, problem, variate)
    literal = Literal(problem, variate, table)
    order = make_order(problem)
    rates = make_rates(order, step)
    walk = session.epoch(order, rates, step, variate)
    literal.epoch(order, rates, step)
    assert walk.steps == len(rates) and not walk.exploded and not walk.passes
    assert relative(np.column_stack(session.weights()), literal.V) < EXACT
    expected = np.mean(literal.iterates, axis=0) if step.average else literal.V
    assert relative(np.column_stack(session.average()), expected) < EXACT
    if variate.update_table:
        assert relative(session.table, literal.table) < EXACT


@pytest.mark.parametrize("batch_size", [1, 4, 11])
@pytest.mark.parametrize(("loss", "kind"), [(loss, kind) for loss in LOSS_NAMES for kind in variates_of(loss)])
def test_sums_against_loops(loss, kind, batch_size):
    """At learning rate 0 nothing moves: every sum of the walk, and of a full pass, by explicit per-sample gradients."""
    variate = VARIATES[kind]
    if variate.update_table:
        variate = VARIATES["table+mean"]
    problem = make_problem(loss, n=11, weighted=batch_size > 1)
    session = ReferenceBackend().open(problem)
    prepare(session, problem, variate)
    literal = Literal(problem, variate, make_table(problem, variate) if variate.source == "table" else None)
    order = make_order(problem)
    walk = session.epoch(order, np.zeros(1), Step(batch_size=batch_size), variate)
    expected = literal.sums(order)
    read = session.evaluate(*make_point(problem), variate)
    every_row = literal.sums(np.arange(len(problem.X)))
    for name in ("rows", "loss", "xx", "xt", "tt", "pairs", "pair_xx", "pair_xt", "pair_tt"):
        scale = EXACT * (1 + abs(expected.xx) + abs(expected.tt))
        assert getattr(walk.sums, name) == pytest.approx(getattr(expected, name), rel=EXACT, abs=scale), name
        if "pair" not in name:
            assert getattr(read.sums, name) == pytest.approx(getattr(every_row, name), rel=EXACT, abs=scale), name
        else:
            assert getattr(read.sums, name) == 0
    mean = sum(np.outer(literal.row(i)[0], literal.A[i]) for i in range(literal.n)) / literal.n
    anchor = sum(np.outer(literal.row(i)[1], literal.A[i]) for i in range(literal.n)) / literal.n
    assert relative(np.column_stack([read.grad, read.grad_intercept]), mean) < EXACT
    if variate.source == "none":
        assert read.anchor_grad is None and read.anchor_grad_intercept is None
    else:
        assert relative(np.column_stack([read.anchor_grad, read.anchor_grad_intercept]), anchor) < EXACT


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_momentum_is_torch_sgd(loss, nesterov):
    torch = pytest.importorskip("torch")
    problem = make_problem(loss)
    W, b = make_point(problem)
    order, step = make_order(problem), Step(batch_size=4, momentum=0.9, nesterov=nesterov, l2=0.1)
    session = ReferenceBackend().open(problem)
    session.set_weights(W, b)
    session.epoch(order, np.array([0.05]), step, ControlVariate())
    tW, tb = torch.tensor(W, requires_grad=True), torch.tensor(b, requires_grad=True)
    groups = [{"params": [tW], "weight_decay": 0.1}, {"params": [tb], "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=nesterov)
    X, y = torch.tensor(problem.X), torch.tensor(problem.y)
    for start in range(0, len(order), 4):
        rows = torch.tensor(order[start : start + 4])
        z = X[rows] @ tW.T + tb
        optimizer.zero_grad()
        if loss == "squared":
            value = 0.5 * ((z - y[rows]) ** 2).sum(1).mean()
        elif loss == "logistic":
            value = torch.nn.functional.binary_cross_entropy_with_logits(z, y[rows])
        else:
            value = torch.nn.functional.cross_entropy(z, y[rows])
        value.backward()
        optimizer.step()
    got_W, got_b = session.weights()
    assert relative(got_W, tW.detach().numpy()) < EXACT
    assert relative(got_b, tb.detach().numpy()) < EXACT


@pytest.mark.parametrize("kind", ["none", "weights+mean", "saga"])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_integer_weights_are_repetition(loss, kind):
    """Full-batch steps and full passes on weighted rows equal those on the repeated rows."""
    variate, base = VARIATES[kind], make_problem(loss)
    counts = np.random.default_rng(5).integers(0, 4, len(base.X))
    weighted = type(base)(base.X, base.y, base.loss, base.n_outputs, counts / counts.mean(), True)
    table = make_table(base, variate)
    results = []
    for problem, rows in ((weighted, table), (_repeat(base, counts), np.repeat(table, counts, axis=0))):
        session = ReferenceBackend().open(problem)
        session.set_weights(*make_point(base))
        if variate.source == "weights":
            session.anchor_at(*make_point(base, 2), cached=False, mean=True)
        elif variate.source == "table":
            session.anchor_table(rows, mean=True)
        n = len(problem.X)
        session.epoch(np.tile(np.arange(n), 3), np.array([0.1]), Step(batch_size=n, l2=0.1), variate)
        read = session.evaluate(*session.weights(), variate)
        results.append((*session.weights(), read.grad, np.array(read.sums.loss / n)))
    for a, b in zip(*results, strict=True):
        assert relative(a, b) < EXACT


def _repeat(problem, counts):
    return type(problem)(
        np.repeat(problem.X, counts, axis=0), np.repeat(problem.y, counts, axis=0), problem.loss, problem.n_outputs, None, True
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_saga_mean_is_the_mean_of_the_table(loss, weighted):
    variate, problem = VARIATES["saga"], make_problem(loss, weighted=weighted)
    session = ReferenceBackend().open(problem)
    prepare(session, problem, variate)
    session.epoch(make_order(problem), np.array([0.05]), Step(batch_size=6), variate)
    s = np.ones(len(problem.X)) if problem.weights is None else problem.weights
    c = s[:, None] * session.table
    assert relative(session.m, c.T @ problem.X / len(c)) < EXACT
    assert relative(session.m_b, c.mean(0)) < EXACT


def test_refresh_puts_the_anchor_at_the_current_weights():
    """A refresh inside an epoch equals stopping there, moving the anchor and going on; a mean or a table needs a pass."""
    variate, step = VARIATES["table+mean"], Step(batch_size=4)
    problem = make_problem("softmax")
    order = make_order(problem)
    results = []
    for split in (False, True):
        session = ReferenceBackend().open(problem)
        session.set_weights(*make_point(problem))
        session.anchor_at(*make_point(problem, 2), cached=True, mean=True)
        if split:
            session.epoch(order[:20], np.array([0.1]), step, variate)
            session.anchor_at(*session.weights(), cached=True, mean=True)
            session.epoch(order[20:], np.array([0.1]), step, variate)
        else:
            walk = session.epoch(order, np.array([0.1]), step, variate, refresh_at=[5])
            assert len(walk.passes) == 1 and walk.passes[0].sums.rows == len(problem.X)
        results.append(np.column_stack(session.weights()))
    assert np.array_equal(*results)


def test_proximal_step_gives_exact_zeros_and_spares_the_intercept():
    problem = make_problem("squared")
    session = ReferenceBackend().open(problem)
    session.set_weights(*make_point(problem))
    session.epoch(np.arange(len(problem.X)), np.array([0.1]), Step(batch_size=1, l1=100.0), ControlVariate())
    W, b = session.weights()
    assert np.all(W == 0) and np.all(b != 0)


def test_explosion_stops_with_the_step():
    problem = make_problem("squared")
    session = ReferenceBackend().open(problem)
    session.set_weights(*make_point(problem))
    walk = session.epoch(np.arange(len(problem.X)), np.array([1e30]), Step(), ControlVariate(), loss_limit=1e6)
    assert walk.exploded and 1 <= walk.steps < 5


def test_a_session_keeps_its_own_arrays():
    """What goes in and what comes out are copies."""
    problem = make_problem("softmax")
    session = ReferenceBackend().open(problem)
    W, b = make_point(problem)
    session.set_weights(W, b)
    expected = W.copy()
    W[:] = 7
    session.weights()[0][:] = 8
    session.average()[0][:] = 9
    assert np.array_equal(session.weights()[0], expected)
