"""Reading IDX files: round trips over every type and shape, and each way a file can be wrong."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from kdvr_fast.data import load_digits, load_mnist, read_idx

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx_bytes(values: NDArray[Any]) -> bytes:
    head = bytes([0, 0, CODES[values.dtype.name], values.ndim])
    shape = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return head + shape + values.astype(values.dtype.newbyteorder(">")).tobytes()


def write_mnist(directory: Path, n: int = 6, n_labels: int | None = None) -> NDArray[np.uint8]:
    rng = np.random.default_rng(n)
    images = rng.integers(0, 256, (n, 4, 5), dtype=np.uint8)
    labels = rng.integers(0, 10, n_labels or n, dtype=np.uint8)
    (directory / "train-images-idx3-ubyte").write_bytes(idx_bytes(images))
    (directory / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    (directory / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images[:2])))
    (directory / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(labels[:2]))
    return images


@settings(max_examples=40, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(sorted(CODES)), packed=st.booleans())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, dtype: str, packed: bool) -> None:
    values = data.draw(hnp.arrays(dtype, hnp.array_shapes(max_dims=4, max_side=5)))
    path = tmp_path_factory.mktemp("idx") / "values"
    raw = idx_bytes(values)
    path.write_bytes(gzip.compress(raw) if packed else raw)
    back = read_idx(path)
    assert back.dtype == values.dtype and back.dtype.isnative
    np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", r"not an IDX file: it starts with bytes \(none\)"),
        (b"\x89PNG", r"not an IDX file: it starts with bytes 89 50 4e 47"),
        (bytes([0, 0, 7, 1, 0, 0, 0, 1, 5]), r"not an IDX file.*00 00 07 01"),
        (bytes([0, 0, 8, 3, 0, 0, 0, 1]), r"truncated: a header of 3 dimensions takes 16 bytes, the file has 8"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 3, 7]), r"truncated: shape \(3,\) of uint8 takes 3 bytes, the file has 1"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 1, 7, 7]), r"too long: shape \(1,\) of uint8 takes 1 bytes, the file has 2"),
        (gzip.compress(bytes(100), mtime=0)[:-12], r"damaged gzip archive"),
    ],
)
def test_bad_file_is_named_with_what_is_wrong(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "broken"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=f"broken: {message}"):
        read_idx(path)


def test_mnist_files_plain_and_compressed(tmp_path: Path) -> None:
    images = write_mnist(tmp_path)
    for dtype in (np.float32, np.float64):
        split = load_mnist(tmp_path, dtype)
        assert split.X.dtype == dtype and split.X.flags.c_contiguous and split.y.dtype == np.int64
        np.testing.assert_array_equal(split.X, images.reshape(6, 20).astype(dtype) / np.asarray(255, dtype))
        assert split.X_test.shape == (2, 20) and split.y_test.shape == (2,)


def test_mnist_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such directory; expected the MNIST files train-images"):
        load_mnist(tmp_path / "nowhere")
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"found neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte\.gz"):
        load_mnist(tmp_path)


def test_mnist_parts_that_do_not_fit_together(tmp_path: Path) -> None:
    write_mnist(tmp_path, n_labels=7)
    with pytest.raises(ValueError, match=r"has 6 images and .* has 7 labels"):
        load_mnist(tmp_path)
    write_mnist(tmp_path)
    swapped = (tmp_path / "t10k-labels-idx1-ubyte").read_bytes()
    (tmp_path / "train-images-idx3-ubyte").write_bytes(swapped)
    with pytest.raises(ValueError, match="expected uint8 images of 3 dimensions, found uint8 of shape"):
        load_mnist(tmp_path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_digits(dtype: type[np.floating]) -> None:
    split = load_digits(dtype)
    assert split.X.dtype == dtype and split.X.flags.c_contiguous
    assert split.X.min() == 0 and split.X.max() == 1
    assert len(split.X) + len(split.X_test) == 1797
    assert set(split.y) == set(split.y_test) == set(range(10))
