"""Learning-rate and lambda schedules: formulas, ends, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kdvr_fast as kd

EPS = np.finfo(float).eps
rates = st.floats(1e-6, 1e3)
sizes = {"epochs": st.integers(1, 8), "n_steps": st.integers(1, 30)}


def whole_run(schedule, epochs, n_steps):
    """The rate of every step of a run."""
    parts = [np.broadcast_to(schedule.values(e, n_steps, epochs), n_steps) for e in range(epochs)]
    assert all(p.dtype == np.float64 for p in parts)
    return np.concatenate(parts)


@given(initial=rates, **sizes)
def test_constant(initial, epochs, n_steps):
    assert set(whole_run(kd.Constant(initial), epochs, n_steps)) == {initial}


@given(initial=rates, decay=st.floats(0, 10), power=st.floats(0.1, 2), **sizes)
def test_inverse_falls_step_by_step(initial, decay, power, epochs, n_steps):
    t = np.arange(epochs * n_steps) / n_steps
    expected = initial / (1 + decay * t) ** power
    # t is one rounding off e + j / n_steps, and the power multiplies its relative error
    np.testing.assert_allclose(
        whole_run(kd.Inverse(initial, decay, power), epochs, n_steps), expected, rtol=8 * EPS * (1 + power)
    )


@given(initial=rates, factor=st.floats(0.5, 1.5), **sizes)
def test_exponential_changes_between_epochs(initial, factor, epochs, n_steps):
    expected = initial * np.repeat(factor ** np.arange(epochs), n_steps)
    np.testing.assert_allclose(whole_run(kd.Exponential(initial, factor), epochs, n_steps), expected, rtol=8 * EPS)


@given(initial=rates, share=st.floats(0, 1), warmup=st.integers(0, 4), **sizes)
def test_cosine_rises_then_falls_to_its_end(initial, share, warmup, epochs, n_steps):
    final, total = share * initial, epochs * n_steps
    found = whole_run(kd.Cosine(initial, final, warmup), epochs, n_steps)
    rise = min(warmup * n_steps, total)
    np.testing.assert_allclose(found[:rise], initial * np.arange(1, rise + 1) / max(warmup * n_steps, 1), rtol=16 * EPS)
    rest = total - warmup * n_steps
    if rest > 0:
        expected = final + (initial - final) * (1 + np.cos(np.pi * np.arange(rest) / rest)) / 2
        # the cosine's argument is off by a few eps of pi; near its end the value itself is small
        np.testing.assert_allclose(found[rise:], expected, rtol=0, atol=64 * EPS * initial)
        assert found[rise] == pytest.approx(initial, rel=8 * EPS)


@given(initial=st.floats(0, 1), factor=st.floats(0.1, 3), cap=st.floats(0, 1), epoch=st.integers(0, 60))
def test_geometric_stays_under_its_cap(initial, factor, cap, epoch):
    found = kd.Geometric(initial, factor, cap).value(epoch)
    assert found == pytest.approx(min(cap, initial * factor**epoch), rel=1e3 * EPS, abs=1e-300)
    assert 0 <= found <= cap or found == pytest.approx(cap, rel=1e3 * EPS)


def test_geometric_survives_a_factor_that_overflows():
    assert kd.Geometric(0.1, factor=10.0, cap=0.9).value(100_000) == 0.9
    assert kd.Geometric(0.1, factor=0.1).value(100_000) == 0.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kd.Constant(0.0), r"learning_rate=0.0 is outside its range \(0, inf\)"),
        (lambda: kd.Inverse(0.1, decay=-1.0), r"decay=-1.0 is outside its range \[0, inf\)"),
        (lambda: kd.Inverse(0.1, decay=1.0, power=0.0), "power=0.0 is outside"),
        (lambda: kd.Cosine(0.1, final=-0.1), "final=-0.1 is outside"),
        (lambda: kd.Cosine(0.1, warmup=-1), "warmup=-1 is outside"),
        (lambda: kd.Exponential(0.1, factor=0.0), "factor=0.0 is outside"),
        (lambda: kd.Exponential(np.nan, factor=1.0), "initial=nan is outside"),
        (lambda: kd.Geometric(1.5, factor=0.9), r"initial of Geometric=1.5 is outside its range \[0, 1\]"),
        (lambda: kd.Geometric(0.5, factor=0.9, cap=2.0), r"cap of Geometric=2.0 is outside its range \[0, 1\]"),
    ],
)
def test_values_outside_their_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
