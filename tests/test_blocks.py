"""Shuffling by blocks: a permutation, made of windows that come from few places, and the same walk however it is handed out."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from kdvr_fast import Blocks, solve

SIZES = st.integers(1, 120)


@settings(max_examples=80, deadline=None)
@given(n=SIZES, rows=SIZES, window=SIZES, batch=SIZES, seed=st.integers(0, 99))
def test_every_row_once_in_windows_of_whole_batches(n: int, rows: int, window: int, batch: int, seed: int) -> None:
    batch = min(batch, n)
    walk = Blocks(rows, window).walk(np.random.default_rng(seed), n, batch)
    parts = [walk.part(w).rows for w in range(walk.windows)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    assert all(len(part) == walk.size for part in parts[:-1])
    assert walk.size % batch == 0
    most = -(-walk.size // rows) + 2  # the short last block may be one of them
    assert all(len(walk.ranges(w)) <= most and len(np.unique(part // rows)) <= most for w, part in enumerate(parts))


@settings(max_examples=60, deadline=None)
@given(n=SIZES, data=st.data())
def test_a_walk_cut_anywhere_is_the_same_walk(n: int, data: st.DataObject) -> None:
    walk = Blocks(rows=3, window=10).walk(np.random.default_rng(0), n, 1)
    whole = np.concatenate([walk.part(w).rows for w in range(walk.windows)])
    cut = data.draw(st.integers(0, n))
    found = [(place, part) for ends in ((0, cut), (cut, n)) for place, part in walk.parts(*ends)]
    assert np.concatenate([part.rows for _, part in found]).tolist() == whole.tolist()
    assert [place for place, _ in found] == np.cumsum([0] + [len(part) for _, part in found])[:-1].tolist()


def test_rows_of_a_window_are_mixed_and_epochs_differ() -> None:
    order = Blocks(rows=10, window=500).order(1000, batch_size=10, epochs=2, random_state=3)
    assert not np.array_equal(order[0], order[1])
    neighbours = np.abs(np.diff(order[0])) == 1
    assert neighbours.mean() < 0.05  # in blocks as they lie nearly all would be
    assert np.abs(np.corrcoef(np.arange(1000), order[0])[0, 1]) < 0.2  # blocks come from everywhere


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_run_by_blocks_is_the_run_with_that_order(dtype: type[np.floating]) -> None:
    rng = np.random.default_rng(0)
    X, blocks = rng.standard_normal((203, 6)).astype(dtype), Blocks(rows=8, window=40)
    y = X[:, :2].argmax(axis=1)
    order = blocks.order(203, batch_size=7, epochs=3, random_state=5)
    options = {"loss": "softmax", "batch_size": 7, "epochs": 3, "alpha": 1e-2, "momentum": 0.5}
    drawn, given_ = solve(X, y, sampling=blocks, random_state=5, **options), solve(X, y, order=order, **options)
    assert np.array_equal(drawn.coef, given_.coef) and np.array_equal(drawn.intercept, given_.intercept)
    sparse = solve(sp.csr_matrix(X), y, sampling=blocks, random_state=5, **options)
    np.testing.assert_allclose(sparse.coef, given_.coef, rtol=0, atol=1000 * np.finfo(dtype).eps)


def test_a_batch_of_all_rows_has_no_variance() -> None:
    X = np.random.default_rng(0).standard_normal((30, 2))
    run = solve(X, X.sum(axis=1), loss="squared", batch_size=30, epochs=2, sampling=Blocks(rows=7), random_state=0)
    assert run.history["variance"].tolist() == [0, 0]


def test_what_blocks_do_not_go_with() -> None:
    X, y = np.ones((4, 1)), np.ones(4)
    with pytest.raises(ValueError, match="order and sampling=Blocks are both given"):
        solve(X, y, loss="squared", batch_size=1, epochs=1, sampling=Blocks(), order=np.arange(4))
    with pytest.raises(ValueError, match="rows of Blocks=0 must be at least 1"):
        Blocks(rows=0)
    with pytest.raises(TypeError, match="window of Blocks must be an integer"):
        Blocks(window=1.5)  # type: ignore[arg-type]
