"""A session's state: what goes from one epoch to the next through plain arrays is what stays inside, to the last bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from problems import LOSS_NAMES, OUTPUTS, VARIATES, make_point, make_problem, prepare, to_csr, variates_of

from kdvr_fast import backend_status, get_backend
from kdvr_fast._layers import Network
from kdvr_fast.backends.base import Compression, ControlVariate, Step

STEPS = {
    "plain": Step(batch_size=4),
    "l1": Step(batch_size=3, l1=0.01, l2=0.1),
    "momentum": Step(batch_size=4, momentum=0.9, l2=0.1),
    "nesterov": Step(batch_size=5, momentum=0.5, nesterov=True),
    "average": Step(batch_size=1, average=True, l2=0.1),
    "momentum, average": Step(batch_size=4, momentum=0.5, average=True),
    "rounding": Step(batch_size=4, compression=Compression("rounding", levels=64, seed=3)),
}
RATES = np.array([0.05])


def order(n, seed):
    return np.random.default_rng(seed).permutation(n)


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@examples(max_examples=80)
@given(
    backend=st.sampled_from([name for name, reason in backend_status().items() if reason is None]),
    loss=st.sampled_from(LOSS_NAMES),
    kind=st.sampled_from(list(VARIATES)),
    step=st.sampled_from(list(STEPS)),
    sparse=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
    intercept=st.booleans(),
    data=st.data(),
)
def test_a_state_carries_an_epoch_to_another_session(backend, loss, kind, step, sparse, dtype, intercept, data):
    kind = kind if kind in variates_of(loss) else "none"
    problem = make_problem(loss, dtype=dtype, density=0.5 if sparse else 1.0, fit_intercept=intercept, weighted=True)
    if sparse:
        problem = replace(problem, X=to_csr(problem.X))
    options, variate = STEPS[step], VARIATES[kind]
    whole, first, second = (get_backend(backend).open(problem) for _ in range(3))
    for session in (whole, first):
        prepare(session, replace(problem, X=problem.X), variate)
        session.epoch(order(problem.n, 0), RATES, options, variate)
    # a stored teacher cannot be made again; that of an anchor can
    state = first.state(anchor=True, table=variate.source == "table")
    if data.draw(st.booleans()):  # the first session goes on without any effect on what it gave
        first.epoch(order(problem.n, 5), RATES, options, variate)
    second.set_state(state)
    for session in (whole, second):
        session.epoch(order(problem.n, 1), RATES, options, variate)
    same(whole.state(anchor=True, table=True), second.state(anchor=True, table=True))
    for one, other in zip(whole.average(), second.average(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_cached_anchor_is_made_again_and_renewed_as_before(backend, sparse):
    problem = make_problem("softmax", n=50, density=0.5 if sparse else 1.0)
    problem = replace(problem, X=to_csr(problem.X)) if sparse else problem
    variate, step = ControlVariate(lam=1.0, source="table", use_mean=True), Step(batch_size=4)
    whole, other = (get_backend(backend).open(problem) for _ in range(2))
    whole.set_weights(*make_point(problem))
    whole.anchor_at(*make_point(problem, 3), cached=True, mean=True)
    whole.epoch(order(50, 0), RATES, step, variate, refresh_at=[5])
    state = whole.state(anchor=True)
    assert "table" not in state and state["anchor_flags"].tolist() == [True, True]
    other.set_state(state)
    for refresh_at in ([], [2, 7]):
        walks = [s.epoch(order(50, 1), RATES, step, variate, refresh_at=refresh_at) for s in (whole, other)]
        assert walks[0].sums == walks[1].sums and len(walks[1].passes) == len(refresh_at)
    same(whole.state(anchor=True, table=True), other.state(anchor=True, table=True))


def test_without_an_anchor_a_state_fits_other_rows_and_leaves_their_anchor(backend):
    """What streams: weights, momentum and average go from block to block, whose anchors are their own."""
    problem = make_problem("squared", n=20)
    part = replace(problem, X=problem.X[:11], y=problem.y[:11])
    step = Step(batch_size=3, momentum=0.9, average=True)
    variate = VARIATES["table+mean"]
    large, small, alone = get_backend(backend).open(problem), *(get_backend(backend).open(part) for _ in range(2))
    prepare(large, problem, ControlVariate())
    large.epoch(order(20, 0), RATES, step, ControlVariate())
    for session in (small, alone):
        prepare(session, part, variate)
    before = small.state(anchor=True, table=True)
    small.set_state(large.state())
    after = small.state(anchor=True, table=True)
    for name in ("anchor", "mean", "table", "anchor_flags"):
        np.testing.assert_array_equal(before[name], after[name])
    same(large.state(), small.state())
    small.set_state(alone.state())  # neither momentum nor average: both are gone again
    assert set(small.state()) == {"coef", "intercept", "counts"}


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("loss", ["squared", "softmax"])
def test_deep_sessions_too(backend, own, cached, loss):
    problem = make_problem(loss, n=30, d=6)
    network = Network((6, 4, OUTPUTS[loss]), own)
    rng = np.random.default_rng(4)
    flat, anchor = (rng.normal(size=network.size) / 2 for _ in range(2))
    b = np.zeros(OUTPUTS[loss])
    step = Step(batch_size=4, momentum=0.9, l2=0.01)
    variate = ControlVariate(lam=0.8, source="table" if cached else "weights", use_mean=True)
    whole, other = (get_backend(backend).open_deep(problem, network) for _ in range(2))
    whole.set_weights(flat, b)
    whole.anchor_at(anchor, b, cached=cached, mean=True)
    whole.epoch(order(30, 0), RATES, step, variate, refresh_at=[3])
    other.set_state(whole.state(anchor=True))
    for session in (whole, other):
        session.epoch(order(30, 1), RATES, step, variate, refresh_at=[2])
    same(whole.state(anchor=True), other.state(anchor=True))
    other.set_state({name: v for name, v in whole.state().items() if "velocity" not in name})
    assert "velocity" not in other.state()
