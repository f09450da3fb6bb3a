"""Parquet, Arrow and CSV: columns to rows, categories to features, what is missing, and the errors that name row and column."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kdvr_fast as kd

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
from pyarrow import csv, feather  # noqa: E402

SHARED = Path(os.environ.get("KDVR_DATA", Path(__file__).parents[2] / "shared" / "data"))
COLUMNS = kd.Columns(features=["size", "place", "count"], categorical=["place"])
TABLE = pa.table(
    {
        "size": [1.5, 2.0, -3.0, 0.5],
        "place": ["oslo", "bern", "oslo", "rome"],
        "count": pa.array([7, 0, 2, 1], pa.int16()),
        "late": [True, False, True, True],
        "kind": ["b", "a", "b", "c"],
        "p": [0.25, 0.5, 1.0, 0.0],
        "when": pa.array([1, 2, 3, 4], pa.timestamp("s")),
    }
)
ROWS = [[1.5, 7, 0, 1, 0], [2, 0, 1, 0, 0], [-3, 2, 0, 1, 0], [0.5, 1, 0, 0, 1]]  # size, count; bern, oslo, rome


def written(path: Path, table: Any = TABLE, **options: Any) -> Path:
    """The table as a file of the kind that its name says."""
    if path.suffix == ".parquet":
        pq.write_table(table, path, **options)
    elif path.suffix == ".feather":
        feather.write_feather(table, path, **options)
    else:
        csv.write_csv(table, path, csv.WriteOptions(delimiter="\t" if path.suffix == ".tsv" else ","))
    return path


@pytest.mark.parametrize("name", ["t.parquet", "t.feather", "t.csv", "t.tsv", "t.csv.gz"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(written(tmp_path / "plain.csv").read_bytes()))
    else:
        written(path)
    data = kd.open_data(path, y="late", columns=COLUMNS)
    assert data.rows[:].toarray().tolist() == ROWS and data.sparse and data.dtype == np.float32
    assert data.y[:].tolist() == [1, 0, 1, 1]
    assert data.feature_names == ["size", "count", "place=bern", "place=oslo", "place=rome"]
    assert data.categories == {"place": ["bern", "oslo", "rome"]}
    options: dict[str, Any] = {"loss": "logistic", "batch_size": 2, "epochs": 2, "random_state": 0, "sampling": kd.Blocks()}
    X = data.rows[:]
    assert np.array_equal(kd.solve(data, **options).coef, kd.solve(X, data.y[:], **options).coef)


@settings(max_examples=15, deadline=None)
@given(group=st.integers(1, 60), cut=st.integers(1, 199), dictionary=st.booleans())
def test_neither_row_groups_nor_shards_matter(
    tmp_path_factory: pytest.TempPathFactory, group: int, cut: int, dictionary: bool
) -> None:
    folder = tmp_path_factory.mktemp("t")
    rng = np.random.default_rng(0)
    places = pa.array(rng.choice(["a", "b", "c"], 200))
    table = pa.table({"x": rng.standard_normal(200), "place": places.dictionary_encode() if dictionary else places})
    table = table.append_column("y", pa.array(rng.integers(0, 3, 200)))
    (folder / "shards").mkdir()
    written(folder / "shards" / "0.parquet", table.slice(0, cut), row_group_size=group)
    written(folder / "shards" / "1.parquet", table.slice(cut), row_group_size=group)
    columns = kd.Columns(categorical=["place"])
    whole, shards = (
        kd.open_data(path, y="y", columns=columns) for path in (written(folder / "whole.parquet", table), folder / "shards")
    )
    assert (whole.rows[:] != shards.rows[:]).nnz == 0 and np.array_equal(whole.y[:], shards.y[:])
    options: dict[str, Any] = {"loss": "softmax", "epochs": 1, "random_state": 0}
    assert np.array_equal(kd.solve(whole, **options).coef, kd.solve(shards, **options).coef)


def test_dense_rows_lists_and_teacher_columns(tmp_path: Path) -> None:
    vectors = np.arange(12, dtype=np.float32).reshape(4, 3)
    table = TABLE.append_column("v", pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 3))
    table = table.append_column("w", pa.array([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0], [0.0, 1.0]]))
    path = written(tmp_path / "t.parquet", table)
    columns = kd.Columns(features=["v", "size"], scale={"size": 2.0})
    data = kd.open_data(path, y="kind", classes="fit", teacher_proba=["w"], columns=columns, dtype=np.float64)
    assert not data.sparse and data.feature_names == ["v[0]", "v[1]", "v[2]", "size"]
    assert data.rows[:].tolist() == np.column_stack([vectors, [3, 4, -6, 1]]).tolist()
    assert data.y[:].tolist() == [1, 0, 1, 2] and data.classes == ["a", "b", "c"]
    assert data.teacher.kind == "probabilities" and data.teacher.source[1:3].tolist() == [[0.5, 0.5], [1, 0]]
    with pytest.raises(ValueError, match="teacher"):  # three classes, a teacher of two
        kd.solve(data, loss="softmax", method=kd.KD(), teacher=data.teacher, batch_size=1)
    soft = kd.open_data(path, y="p", teacher_proba="p", columns=columns)
    run = kd.solve(soft, loss="logistic", method=kd.KD(0.5), teacher=soft.teacher, batch_size=1, epochs=1, random_state=0)
    held = kd.Teacher.probabilities(np.array([0.25, 0.5, 1, 0], np.float32))
    options: dict[str, Any] = {"batch_size": 1, "epochs": 1, "random_state": 0, "sampling": kd.Blocks()}
    again = kd.solve(soft.rows[:], soft.y[:], loss="logistic", method=kd.KD(0.5), teacher=held, **options)
    assert np.array_equal(run.coef, again.coef)
    both = kd.open_data(path, y=["size", "p"], columns=kd.Columns(features=["count"]))
    assert both.y[:].tolist() == TABLE.select(["size", "p"]).to_pandas().to_numpy().tolist()


def with_gaps(**columns: Any) -> Any:
    return pa.table({"x": [1.0, 2.0, 3.0], "place": ["a", "b", "a"], "y": [0.0, 1.0, 2.0]} | columns)


def test_missing_values(tmp_path: Path) -> None:
    def opened(table: Any, **policy: Any) -> kd.DataSet:
        path = written(tmp_path / "t.parquet", table)
        return kd.open_data(path, y="y", columns=kd.Columns(categorical=["place"], **policy))

    for gap, where in (
        ({"x": [1.0, None, 3.0]}, "column 'x' misses a value in row 1"),
        ({"x": [1.0, 2.0, float("nan")]}, "column 'x' misses a value in row 2"),
        ({"place": ["a", None, "a"]}, "column 'place' misses a value in row 1"),
        ({"y": [0.0, 1.0, None]}, "the target 'y' misses a value in row 2"),
    ):
        with pytest.raises(ValueError, match=where):
            opened(with_gaps(**gap))
        row = int(where[-1])
        dropped = opened(with_gaps(**gap), missing="drop")
        assert dropped.y[:].tolist() == [y for i, y in enumerate([0.0, 1.0, 2.0]) if i != row]
    lists = pa.array([[1.0], [None], [3.0]], pa.list_(pa.float64(), 1))
    with pytest.raises(ValueError, match="column 'x' misses a value in row 1"):
        opened(with_gaps(x=lists))
    assert opened(with_gaps(x=lists), missing="drop").rows[:].toarray().tolist() == [[1, 1, 0], [3, 1, 0]]
    assert opened(with_gaps(x=[1.0, None, 3.0]), missing="zero").rows[:].toarray().tolist() == [[1, 1, 0], [0, 0, 1], [3, 1, 0]]
    zero = opened(with_gaps(place=["a", None, "a"]), missing="zero", categories={"place": ["b", "a"]})
    assert zero.rows[:].toarray().tolist() == [[1, 0, 1], [2, 0, 0], [3, 0, 1]]


def test_categories_that_are_given(tmp_path: Path) -> None:
    path = written(tmp_path / "t.parquet")

    def opened(known: list[Any], **policy: str) -> kd.DataSet:
        columns = kd.Columns(features=["place"], categorical=["place"], categories={"place": known}, **policy)
        return kd.open_data(path, y="late", columns=columns)

    assert opened(["rome", "oslo", "bern"]).rows[:].toarray().tolist() == [[0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
    with pytest.raises(ValueError, match=r"column 'place' holds a value that is not among its categories in row 1: 'bern'"):
        opened(["rome", "oslo"])
    assert opened(["rome", "oslo"], unknown="zero").rows[:].toarray().tolist() == [[0, 1], [0, 0], [0, 1], [1, 0]]
    with pytest.raises(TypeError, match="the values given for column 'place' are not of its type string"):
        opened([1, 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y": "lat"}, "there is no column 'lat'; the columns are size, place"),
        ({"y": 3}, "y of a table: pass the name of a column"),
        ({"y": "late"}, "the feature 'place' is string, not a number: leave it out of the features"),
        ({"y": "late", "columns": kd.Columns(features=["when"])}, "the feature 'when' is timestamp"),
        (
            {"columns": kd.Columns(["when"], ["when"])},
            r"column 'when' holds .*datetime.*, and categories and classes are text or",
        ),
        ({"y": "kind", "columns": kd.Columns(features=["size"])}, "the target 'kind' is string: pass classes='fit'"),
        (
            {"y": "kind", "classes": ["a"], "columns": kd.Columns(features=["size"])},
            "'kind' holds a value that is not among its classes in row 0: 'b'",
        ),
        ({"y": "size", "columns": kd.Columns(features=["size"])}, "column 'size' is a feature and a target"),
        ({"columns": kd.Columns(features=["size"], categorical=["place"])}, "'place' is not among the features size"),
        ({"columns": kd.Columns(features=["size"], scale={"p": 2})}, "scale is given for 'p', which is not read"),
        ({"columns": kd.Columns(features=["size"], missing="drop"), "y": "late", "scale": 2.0}, "scale=2 is for rows of one"),
    ],
)
def test_bad_columns(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = written(tmp_path / "t.parquet")
    with pytest.raises((ValueError, TypeError), match=message):
        kd.open_data(path, **options)
    assert not list(tmp_path.glob("*.tmp"))


def test_columns_that_contradict_themselves() -> None:
    with pytest.raises(TypeError, match=r"categorical must be a list of column names: pass \['place'\]"):
        kd.Columns(categorical="place")
    with pytest.raises(ValueError, match="categories are given for 'x', which is not in categorical"):
        kd.Columns(categories={"x": [1]})
    with pytest.raises(ValueError, match="scale is given for 'x', which is categorical"):
        kd.Columns(categorical=["x"], scale={"x": 2.0})
    with pytest.raises(ValueError, match="missing='skip' is unknown"):
        kd.Columns(missing="skip")


def test_csv_numbers_that_become_fractions_late(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "1,2\n" * 300_000 + "1.5,2\n")  # more than what is looked at for the types
    data = kd.open_data(path, y="y")
    assert data.shape == (300_001, 1) and data.rows[300_000:].tolist() == [[1.5]]
    path.write_text("a,y\n1,2\n3\n")
    with pytest.raises(ValueError, match=r"t\.csv: .*Expected 2 columns, got 1"):
        kd.open_data(path, y="y")


def test_shards_with_other_columns(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    written(tmp_path / "s" / "0.parquet", TABLE)
    written(tmp_path / "s" / "1.parquet", TABLE.drop_columns(["count"]))
    with pytest.raises(ValueError, match=r"1\.parquet: there is no column 'count', which 0\.parquet has"):
        kd.open_data(tmp_path / "s", y="late", columns=COLUMNS)


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    path = written(tmp_path / "t.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'kdvr_fast\[arrow\]'"):
        kd.open_data(path, y="late", columns=COLUMNS)


@pytest.mark.skipif(not (SHARED / "flights").is_dir(), reason="no data in ../shared/data or KDVR_DATA")
def test_flights(tmp_path: Path) -> None:
    places = ["origin", "destination"]
    columns = kd.Columns(features=["distance", *places], categorical=places, scale={"distance": 1e-3, "delay": 1e-2})
    path = SHARED / "flights" / "vega_flights-3m.parquet"
    data = kd.open_data(path, y="delay", columns=columns, cache=tmp_path, memory_limit=50_000_000)
    assert data.shape == (3_000_000, 1 + 229 + 228) and data.sparse
    table = next(pq.ParquetFile(path).iter_batches(batch_size=1000)).to_pandas()
    some = data.rows[:1000].toarray()
    names = list(data.feature_names)
    assert (some[np.arange(1000), [names.index(f"origin={x}") for x in table["origin"]]] == 1).all()
    np.testing.assert_allclose(some.sum(axis=1) - 2, table["distance"] / 1000, atol=1e-5)
    run = kd.solve(data, loss="squared", batch_size=1, learning_rate=0.005, epochs=1, random_state=0, statistics=False)
    assert run.history["loss"][-1] < 0.5 * float(np.mean(data.y[:] ** 2))
