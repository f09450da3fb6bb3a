"""The cases of tests/test_parity.py on a GPU: the same rows, the same tolerances, the same reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import test_parity as parity
import test_state as state
from hypothesis import HealthCheck, given, settings
from problems import LOSS_NAMES, VARIATES, make_problem, prepare, variates_of
from test_parity import Case, cases, compare

from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import LARGEST, Step
from kdvr_fast.backends.cuda_device import Tuning

KINDS = [(loss, kind) for loss in LOSS_NAMES for kind in variates_of(loss)]
WAYS = {  # each way a step and a pass can go, whatever the size of the case
    "alone": Tuning(walk_work=2**62),
    "launches": Tuning(walk_work=0),
    "products": Tuning(walk_work=0, fused_outputs=1),
}
both_types = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture(params=WAYS)
def way(request):
    """The device of `backend="cuda"` goes this way."""
    device = get_backend("cuda").device
    before, device.tuning = device.tuning, WAYS[request.param]
    yield
    device.tuning = before


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_random_sessions(way, case):
    compare("cuda", case)


@both_types
@pytest.mark.parametrize(("loss", "kind"), KINDS)
def test_every_kind(way, loss, kind, dtype):
    parity.test_every_kind("cuda", loss, kind, dtype)


@pytest.mark.parametrize("d", [1, 31, 32, 33, 63, 64, 65, 130])
def test_every_tail(way, d):
    parity.test_every_tail("cuda", d)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 7, 8, 9, 15, 31, 32, 33, 40, 65])
@both_types
def test_every_number_of_outputs(way, k, dtype):
    for layout in ("plain", "csr"):
        case = Case("squared", "weights+mean", 70, 40, k, Step(batch_size=9), dtype, layout, density=0.3, weighted=True)
        compare("cuda", replace(case, layout=layout))


@both_types
@pytest.mark.parametrize("loss", ["logistic", "softmax"])
def test_extreme_logits(way, loss, dtype):
    parity.test_extreme_logits("cuda", loss, dtype)


@pytest.mark.parametrize("kind", ["none", "weights+mean", "saga"])
def test_a_session_starts_afresh_with_set_weights(way, kind):
    parity.test_a_session_starts_afresh_with_set_weights("cuda", kind)


@pytest.mark.parametrize(("rate", "limit"), [(1e-9, LARGEST), (1e4, 50.0), (1e300, LARGEST)])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_explosions_are_seen(way, loss, rate, limit):
    parity.test_explosions_are_seen("cuda", loss, rate, limit)


def test_an_explosion_stops_a_long_epoch_early():
    parity.test_an_explosion_stops_a_long_epoch_early("cuda")


@both_types
@pytest.mark.parametrize("density", [1.0, 0.2])
def test_the_same_bits_every_time(way, dtype, density):
    problem = make_problem("softmax", 3000, 40, 10, dtype=dtype, weighted=True)
    problem = replace(problem, X=parity.lay_out(problem.X, "plain" if density == 1 else "csr"))
    results = []
    for _ in range(3):
        session = get_backend("cuda").open(problem)
        prepare(session, problem, VARIATES["saga"])
        walk = session.epoch(np.arange(3000), np.array([0.01]), Step(batch_size=64), VARIATES["saga"])
        read = session.evaluate(*session.weights(), VARIATES["saga"])
        results.append([*session.weights(), read.grad, read.anchor_grad, np.array([walk.sums.xt, walk.sums.pair_xt])])
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("sparse", [False, True])
def test_a_cached_anchor_is_made_again_and_renewed_as_before(way, sparse):
    state.test_a_cached_anchor_is_made_again_and_renewed_as_before("cuda", sparse)


def test_without_an_anchor_a_state_fits_other_rows_and_leaves_their_anchor(way):
    state.test_without_an_anchor_a_state_fits_other_rows_and_leaves_their_anchor("cuda")
