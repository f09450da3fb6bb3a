"""The order of an epoch: a permutation, uniform, and the same with the compiled extension and without."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdvr_fast._order import order_of, shuffled_rows

LAST = 2**64 - 1


@given(st.lists(st.integers(0, LAST), max_size=50))
def test_compiled_and_python_make_the_same_of_any_words(words):
    core = pytest.importorskip("kdvr_fast._core")
    array = np.array(words, np.uint64)
    order = core.shuffled(array)
    assert order.dtype == np.int64 and np.array_equal(np.sort(order), np.arange(len(words)))
    np.testing.assert_array_equal(order, order_of(array))


def test_the_ends_of_the_words():
    assert order_of(np.zeros(4, np.uint64)).tolist() == [3, 0, 1, 2]  # j = 0: each new row goes to the front
    assert order_of(np.full(4, LAST, np.uint64)).tolist() == [0, 1, 2, 3]  # j = i: each stays where it is


@pytest.mark.parametrize("generator", [np.random.PCG64, np.random.MT19937, np.random.SFC64])
def test_every_order_is_equally_likely(generator):
    """24 orders of 4 rows: chi-squared with 23 degrees of freedom passes 70 once in a million samples."""
    rng = np.random.Generator(generator(0))
    counts = dict.fromkeys(itertools.permutations(range(4)), 0)
    for _ in range(4800):
        counts[tuple(shuffled_rows(rng, 4).tolist())] += 1
    assert sum((c - 200) ** 2 / 200 for c in counts.values()) < 70


def test_long_orders_mix_everything():
    n = 100_000
    order = shuffled_rows(np.random.default_rng(0), n)
    assert np.array_equal(np.sort(order), np.arange(n))
    # ranks of neighbours, and of rows with their places, are uncorrelated: 5 standard deviations of 1 / sqrt(n)
    for other in (np.arange(n), np.roll(order, 1)):
        assert abs(np.corrcoef(order, other)[0, 1]) < 5 / np.sqrt(n)


def test_without_the_extension(monkeypatch):
    from kdvr_fast.backends import native

    compiled = shuffled_rows(np.random.default_rng(3), 100)
    monkeypatch.setattr(native, "_core", None)
    np.testing.assert_array_equal(shuffled_rows(np.random.default_rng(3), 100), compiled)
