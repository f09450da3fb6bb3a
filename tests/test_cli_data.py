"""What the command line reads: tables by their columns, shards, text, rows that stay in files; and what it refuses."""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import load_npz
from sklearn.datasets import dump_svmlight_file
from test_cli import run

import kdvr_fast as kd
from kdvr_fast import _cli_reading, _cli_run, _spec
from kdvr_fast._cli_reading import Reading

pa = pytest.importorskip("pyarrow", reason="tables are read by pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
csv = pytest.importorskip("pyarrow.csv")

COLUMNS = {"columns": kd.Columns(["km", "city"], ["city"], scale={"km": 1e-3})}
TRAIN = ("--target", "late", "--categorical", "city", "--features", "km,city", "--scale", "km=0.001", "--loss", "logistic",
         "--learning-rate", "0.05")  # fmt: skip


def trips(n: int, seed: int, cities: tuple[str, ...] = ("Bern", "Oslo", "Rome")) -> Any:
    rng = np.random.default_rng(seed)
    city, km = rng.choice(cities, n), rng.integers(1, 3000, n)
    late = np.where(rng.random(n) < 0.2 + 0.6 * (city == "Rome"), "yes", "no")
    return pa.table({"day": [f"day {i}" for i in range(n)], "km": km, "city": city, "late": late})


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Shards of a table, a smaller one that knows fewer cities, and one as CSV."""
    (tmp_path / "trips").mkdir()
    for i in range(2):
        pq.write_table(trips(300, i), tmp_path / "trips" / f"{i}.parquet")
    pq.write_table(trips(80, 7, ("Rome", "Bern")), tmp_path / "test.parquet")
    csv.write_csv(trips(80, 7, ("Rome", "Bern")), tmp_path / "test.csv")
    return tmp_path


def error(*arguments: Any) -> str:
    """The message of a command that is refused."""
    with pytest.raises((ValueError, TypeError, OSError, RuntimeError, ImportError)) as caught:
        run(*map(str, arguments))
    return str(caught.value)


# -- tables ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [None, "2MB"])
def test_a_folder_of_tables_is_what_the_python_interface_makes_of_it(files: Path, limit: str | None) -> None:
    given = () if limit is None else ("--memory-limit", limit, "--sampling", "blocks:rows=32,window=128")
    out = files / "run"
    assert run("train", str(files / "trips"), *TRAIN, *given, "--epochs", "3", "--output-dir", str(out))[0] == 0
    data = kd.open_data(files / "trips", y="late", classes="fit", memory_limit=2_000_000, cache=files / "cache", **COLUMNS)
    options: dict[str, Any] = {"loss": "logistic", "learning_rate": 0.05, "epochs": 3, "random_state": 0}
    if limit is None:
        expected = kd.solve(data.rows[:], data.y[:].astype(int), **options)
    else:
        expected = kd.solve(data, sampling=kd.Blocks(32, 128), **options)
    model = kd.load(out / "model.safetensors")
    np.testing.assert_array_equal(model.coef, expected.coef)
    assert model.classes.tolist() == ["no", "yes"]
    assert model.feature_names == ("km", "city=Bern", "city=Oslo", "city=Rome")
    assert bool(list(files.glob("trips.*.kdvr"))) == (limit is not None)  # what is read into memory leaves nothing behind


def test_a_model_reads_other_tables_by_the_columns_that_it_was_trained_on(files: Path) -> None:
    out = str(files / "run")
    code, text, err = run("train", str(files / "trips"), *TRAIN, "--validation", str(files / "test.parquet"), "--epochs", "5",
                          "--output-dir", out)  # fmt: skip
    assert code == 0 and "validation: rows 80" in text, err
    metrics = json.loads((files / "run" / "metrics.json").read_text())["validation"]
    for given in ((), ("--memory-limit", "2MB", "--cache", str(files / "cache"))):
        for name in ("test.parquet", "test.csv"):
            figures = json.loads(run("eval", out, str(files / name), "--json", *given)[1])
            assert figures["rows"] == 80 and figures["loss"] == pytest.approx(metrics["loss"], rel=1e-6)
            assert figures["accuracy"] == metrics["accuracy"] > 0.5
    made = run("predict", out, str(files / "test.csv"))[1].split()
    assert np.mean(np.array(made) == pq.read_table(files / "test.parquet")["late"].to_numpy()) == metrics["accuracy"]
    assert run("teacher", out, str(files / "test.csv"), str(files / "z.npy"))[0] == 0
    assert (np.load(files / "z.npy")[:, 0] > 0).tolist() == [word == "yes" for word in made]
    without = pq.read_table(files / "test.parquet").drop_columns(["late"])
    pq.write_table(without, files / "new.parquet")
    assert run("predict", out, str(files / "new.parquet"))[1].split() == made
    assert "no column 'late'" in error("eval", out, files / "new.parquet")
    pq.write_table(trips(9, 0, ("Paris",)), files / "other.parquet")
    assert "holds a value that is not among its categories in row 0: 'Paris'" in error("predict", out, files / "other.parquet")


def test_a_model_of_an_estimator_reads_the_columns_that_it_was_fitted_on(files: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.read_csv(files / "test.csv")
    frame["far"], frame["late"] = (frame["km"] > 1000).astype(float), (frame["late"] == "yes").astype(int)
    fitted = kd.KDClassifier().fit(frame[["far", "km"]] / 1000, frame["late"])
    kd.save(fitted, files / "model")
    scaled = frame.assign(far=frame["far"] / 1000, km=frame["km"] / 1000)
    scaled[["late", "km", "city", "far"]].to_csv(files / "other.csv", index=False)
    figures = json.loads(run("eval", str(files / "model"), str(files / "other.csv"), "--target", "late", "--json")[1])
    assert figures["accuracy"] == fitted.score(frame[["far", "km"]] / 1000, frame["late"])
    assert "name a column (--target)" in error("eval", files / "model", files / "other.csv")


def test_a_model_that_does_not_say_how_its_table_is_read(files: Path) -> None:
    model = kd.Model(np.ones((1, 1)), np.zeros(1), "logistic", info={"table": {"columns": 3}})
    kd.save(model, files / "model")
    assert "does not say soundly how its table is read" in error("predict", files / "model", files / "test.csv")


def test_a_row_that_misses_a_value_is_dropped_in_training_and_never_in_predicting(files: Path) -> None:
    table = trips(60, 3)
    km = table["km"].to_pylist()
    table = table.set_column(1, "km", pa.array([None if i == 4 else v for i, v in enumerate(km)]))
    pq.write_table(table, files / "holes.parquet")
    train = ("train", files / "holes.parquet", *TRAIN, "--output-dir", files / "run")
    assert "column 'km' misses a value in row 4" in error(*train)
    assert json.loads(run(*map(str, train), "--missing", "drop", "--json")[1])["train"]["rows"] == 59
    assert json.loads(run("eval", str(files / "run"), str(files / "holes.parquet"), "--json")[1])["rows"] == 59
    assert "column 'km' misses a value in row 4" in error("predict", files / "run", files / "holes.parquet")


def test_targets_of_a_table_may_lie_in_a_file_beside_it(files: Path) -> None:
    late = pq.read_table(files / "test.parquet")["late"].to_numpy(zero_copy_only=False)
    (files / "late.txt").write_text("\n".join(late))
    options = ("--features", "km", "--scale", "km=0.001", "--loss", "logistic", "--learning-rate", "0.05", "--epochs", "2")
    for name, given in (("a", ("--labels", str(files / "late.txt"))), ("b", ("--target", "late"))):
        assert run("train", str(files / "test.csv"), *options, *given, "--output-dir", str(files / name))[0] == 0
    a, b = (kd.load(files / name / "model.safetensors") for name in "ab")
    np.testing.assert_array_equal(a.coef, b.coef)
    assert a.classes.tolist() == b.classes.tolist()
    both = error("train", files / "test.csv", *options, "--labels", files / "late.txt", "--target", "late")
    assert "both in the column 'late' and in" in both


@pytest.mark.parametrize("streams", [False, True])
def test_values_of_a_column_are_targets_of_the_squared_loss(files: Path, streams: bool) -> None:
    given = ("--memory-limit", "1MB", "--cache", str(files / "c")) if streams else ()
    out = files / "run"
    assert run("train", str(files / "test.csv"), "--target", "km", "--categorical", "city", "--features", "city", "--loss",
               "squared", "--scale", "km=0.001", "--learning-rate", "0.1", "--output-dir", str(out),
               *given)[0] == 0  # fmt: skip
    values = np.array(run("predict", str(out), str(files / "test.csv"))[1].split(), float)
    km = pq.read_table(files / "test.parquet")["km"].to_numpy() / 1000
    city = pq.read_table(files / "test.parquet")["city"].to_numpy(zero_copy_only=False)
    for name in ("Rome", "Bern"):
        assert abs(values[city == name].mean() - km[city == name].mean()) < 0.3


def test_tables_are_converted_and_measured(files: Path) -> None:
    assert "is a feature and a target" in error("convert", files / "test.csv", files / "x.npz", "--features", "km",
                                                "--labels-column", "km", "--labels-out", files / "y.npy")  # fmt: skip
    assert run("convert", str(files / "test.csv"), str(files / "x.npz"), "--features", "city", "--categorical", "city",
               "--labels-column", "km", "--labels-out", str(files / "y.npy"))[0] == 0  # fmt: skip
    assert load_npz(files / "x.npz").shape == (80, 2)
    assert np.load(files / "y.npy").tolist() == pq.read_table(files / "test.parquet")["km"].to_pylist()
    noise = run("stats", str(files / "trips"), *TRAIN[:8], "--loss", "logistic", "--json")
    assert json.loads(noise[1])["n"] == 600


# -- other files -------------------------------------------------------------------------------------------------------


def test_text_whose_last_features_are_zero_everywhere_is_as_wide_as_the_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X, y = (rng.random((60, 5)) < 0.5).astype(float), rng.choice([-1, 1], 60)
    dump_svmlight_file(X, y, str(tmp_path / "train.svm"), zero_based=False)
    X[:, 3:] = 0
    dump_svmlight_file(X, y, str(tmp_path / "test.svm"), zero_based=False)
    out = str(tmp_path / "run")
    assert run("train", str(tmp_path / "train.svm"), "--loss", "logistic", "--validation", str(tmp_path / "test.svm"),
               "--output-dir", out)[0] == 0  # fmt: skip
    model, scores = (
        kd.load(tmp_path / "run" / "model.safetensors"),
        json.loads(run("eval", out, str(tmp_path / "test.svm"), "--json")[1]),
    )
    assert scores["accuracy"] == np.mean(model.predict(X) == y) and model.classes.tolist() == [-1, 1]
    assert scores == json.loads((tmp_path / "run" / "metrics.json").read_text())["validation"]
    assert len(run("predict", out, str(tmp_path / "test.svm"))[1].split()) == 60
    dump_svmlight_file(np.ones((3, 6)), y[:3], str(tmp_path / "wide.svm"), zero_based=False)
    assert "X has 6 features, the model has 5" in error("predict", out, tmp_path / "wide.svm")


@pytest.mark.parametrize("command", ["predict", "eval", "train", "convert"])
def test_a_file_of_no_known_kind_is_told_which_kinds_there_are(files: Path, command: str) -> None:
    (files / "rows.xyz").write_text("what is this?\n")
    run("train", str(files / "trips"), *TRAIN, "--epochs", "1", "--output-dir", str(files / "run"))
    arguments = {
        "predict": (files / "run", files / "rows.xyz"),
        "eval": (files / "run", files / "rows.xyz"),
        "train": (files / "rows.xyz", "--output-dir", files / "new"),
        "convert": (files / "rows.xyz", files / "x.npy"),
    }[command]
    message = error(command, *arguments)
    assert "rows.xyz: not a known kind of file" in message
    assert all(kind in message for kind in (".npy", ".npz", "IDX", "LIBSVM", "Parquet", "Arrow", "CSV"))


def test_targets_of_no_known_kind_are_told_which_kinds_there_are(files: Path) -> None:
    np.save(files / "x.npy", np.ones((3, 2)))
    (files / "y.xyz").write_text("1\n2\n3\n")
    message = error("train", files / "x.npy", "--labels", files / "y.xyz", "--output-dir", files / "run")
    assert "targets are read from .npy, IDX, and text with one a line named .txt or .csv" in message


# -- rows that stay in files -------------------------------------------------------------------------------------------


def test_a_run_over_files_goes_on_to_the_same_bits(files: Path) -> None:
    train = ("train", str(files / "trips"), *TRAIN, "--memory-limit", "2MB", "--sampling", "blocks:rows=32,window=128")
    for name, epochs in (("whole", "5"), ("cut", "2")):
        assert run(*train, "--epochs", epochs, "--output-dir", str(files / name))[0] == 0
    assert run("train", "--resume", str(files / "cut"), "--epochs", "5")[0] == 0
    a, b = (kd.load(files / name / "model.safetensors") for name in ("whole", "cut"))
    np.testing.assert_array_equal(a.coef, b.coef)


def test_a_teacher_of_stored_outputs_stays_in_a_file_too(files: Path) -> None:
    big, z = str(files / "big"), str(files / "z.npy")
    assert run("train", str(files / "trips"), *TRAIN, "--output-dir", big)[0] == 0
    assert run("teacher", big, str(files / "trips"), z)[0] == 0
    options = ("--memory-limit", "2MB", "--epochs", "2", "--method", "kd:lam=0.5", "--sampling", "blocks:window=200")
    made = []
    for name, given in (("logits", ("--teacher-logits", z)), ("model", ("--teacher", big))):
        assert run("train", str(files / "trips"), *TRAIN, *options, *given, "--output-dir", str(files / name))[0] == 0
        made.append(kd.load(files / name / "model.safetensors").coef)
    np.testing.assert_allclose(*made, rtol=1e-5, atol=1e-6)


def test_rows_in_files_want_a_learning_rate(files: Path) -> None:
    asked = error("train", files / "trips", *TRAIN[:-2], "--memory-limit", "2MB", "--output-dir", files / "run")
    assert "the learning rate auto looks at all rows in memory: with a memory limit pass a number" in asked


def test_a_teacher_of_other_columns_is_refused(files: Path) -> None:
    other = ("--target", "late", "--features", "city", "--categorical", "city", "--loss", "logistic")
    assert run("train", str(files / "trips"), *other, "--epochs", "1", "--output-dir", str(files / "big"))[0] == 0
    pq.write_table(trips(200, 1, ("Bern", "Wien", "Rome")), files / "wien.parquet")
    said = error(
        "train", files / "wien.parquet", *other, "--method", "kd", "--teacher", files / "big", "--output-dir", files / "s"
    )
    assert "knows the features city=Bern, city=Oslo, city=Rome, the rows have city=Bern, city=Rome, city=Wien" in said


def test_values_are_no_classes_and_a_file_is_no_folder(files: Path) -> None:
    table = pa.table({"x": [1.0, 2.0, 3.0], "y": [0.25, 1.0, 2.5]})
    csv.write_csv(table, files / "v.csv")
    said = error("train", files / "v.csv", "--target", "y", "--output-dir", files / "run")
    assert "the targets are numbers such as 0.25, and loss='softmax' takes classes: choose the loss squared" in said
    text = error(
        "train", files / "test.csv", "--target", "late", "--loss", "squared", "--features", "km", "--output-dir", files / "r"
    )
    assert "the target 'late' is string: pass classes='fit' to number its values (for kdvr: choose a loss of classes)" in text
    taken = error("train", files / "test.csv", "--target", "late", "--output-dir", files / "v.csv")
    assert "v.csv is a file; name a folder for the run" in taken
    inside = error("train", files / "test.csv", *TRAIN, "--output-dir", files / "v.csv" / "run")
    assert "the folder of the run cannot be made" in inside


def test_a_folder_without_a_model_says_how_to_get_one(files: Path) -> None:
    assert "has no model.safetensors: name a model file" in error("predict", files, files / "test.csv")
    (files / "config.toml").touch()
    assert "finish the run with `kdvr train --resume" in error("eval", files, files / "test.csv")
    late = error("train", files / "test.csv", "--labels", "late", "--output-dir", files / "run")
    assert "late: there is no such file of targets; a column is --target" in late


@pytest.mark.parametrize(
    ("text", "message"),
    [("lots", "'lots' is no number of bytes; write 200MB"), ("0MB", "is no number of bytes"), ("9KB", "take .* bytes")],
)
def test_a_memory_limit_that_cannot_be(files: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run("train", str(files / "trips"), *TRAIN, "--memory-limit", text, "--output-dir", str(files / "run"))
    assert not (files / "run").exists()


def test_sizes_and_scales_and_samplings_as_words() -> None:
    sizes = {"200": 200, "200MB": 2 * 10**8, "1.5 GB": 15 * 10**8, "64kib": 1 << 16, "2g": 2 * 10**9}
    assert {text: Reading(memory_limit=text).bytes() for text in sizes} == sizes
    assert Reading(scale="a=2, b=1e-3").columns().scale == {"a": 2.0, "b": 1e-3}
    for scale in ("a", "a=x", "=2"):
        with pytest.raises(ValueError, match=r"is no COLUMN=FACTOR, such as distance=0\.001"):
            Reading(scale=scale).columns()
    assert _spec.sampling("replacement") == "replacement" and _spec.sampling("blocks:8,window=64") == kd.Blocks(8, 64)
    with pytest.raises(ValueError, match="sampling is shuffle, replacement or blocks"):
        _spec.sampling("blokcs")


# -- what is refused, and when -----------------------------------------------------------------------------------------


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "X.npy", rng.normal(size=(60, 3)))
    np.save(tmp_path / "y.npy", np.arange(60) % 2)
    np.save(tmp_path / "wide.npy", rng.normal(size=(9, 4)))
    np.save(tmp_path / "y9.npy", np.arange(9) % 2)
    np.save(tmp_path / "odd.npy", np.arange(60) % 3)
    return tmp_path


@pytest.mark.parametrize(
    ("held", "labels", "message"),
    [
        ("X.npy", "odd.npy", "target 2 in row 2 is no class of the model"),
        ("wide.npy", "y9.npy", "X has 4 features, the model has 3"),
        ("X.npy", "y9.npy", "has 60 rows and"),
        ("X.npy", None, "has no targets"),
    ],
)
def test_validation_data_are_checked_before_anything_starts(
    numbers: Path, monkeypatch: pytest.MonkeyPatch, held: str, labels: str | None, message: str
) -> None:
    monkeypatch.setattr(_cli_run, "solve", lambda *args, **options: pytest.fail("training began"))
    given = () if labels is None else ("--validation-labels", numbers / labels)
    said = error("train", numbers / "X.npy", "--labels", numbers / "y.npy", "--validation", numbers / held, *given,
                 "--output-dir", numbers / "run")  # fmt: skip
    assert message in said and not (numbers / "run").exists()


@pytest.mark.parametrize("kind", [RuntimeError, ImportError, ValueError, OSError, MemoryError])
@pytest.mark.parametrize("there", [False, True])
def test_a_run_that_is_refused_for_any_reason_leaves_the_folder_as_it_was(
    numbers: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception], there: bool
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise kind("no such engine")

    out = numbers / "deep" / "run"
    if there:
        out.mkdir(parents=True)
        (out / "notes.txt").write_text("mine")
    monkeypatch.setattr(_cli_run, "solve", refuse)
    with pytest.raises(kind, match="no such engine"):
        run("train", str(numbers / "X.npy"), "--labels", str(numbers / "y.npy"), "--output-dir", str(out))
    assert [p.name for p in out.iterdir()] == ["notes.txt"] if there else not (numbers / "deep").exists()


def test_an_error_within_training_leaves_what_the_run_can_go_on_from(numbers: Path) -> None:
    def fail(progress: kd.Progress) -> None:
        if progress.epoch == 3:
            raise RuntimeError("the power is gone")

    folder = _cli_run.Folder(numbers / "run")
    config = _cli_run.Config(str(numbers / "X.npy"), str(numbers / "y.npy"), epochs=5, checkpoint_seconds=0.0)
    with pytest.raises(RuntimeError, match="power"):
        _cli_run.run(config, folder, [fail])
    assert folder.config.exists() and folder.checkpoint.exists()
    assert run("train", "--resume", str(numbers / "run"))[0] == 0


def test_flags_of_momentum_average_sampling_and_intercept(numbers: Path) -> None:
    out = numbers / "run"
    assert run("train", str(numbers / "X.npy"), "--labels", str(numbers / "y.npy"), "--momentum", "0.5", "--nesterov",
               "--average", "--no-fit-intercept", "--sampling", "replacement", "--learning-rate", "0.1", "--epochs", "3",
               "--output-dir", str(out))[0] == 0  # fmt: skip
    expected = kd.solve(np.load(numbers / "X.npy"), np.load(numbers / "y.npy"), loss="softmax", momentum=0.5, nesterov=True,
                        average=True, fit_intercept=False, sampling="replacement", learning_rate=0.1, epochs=3,
                        random_state=0)  # fmt: skip
    np.testing.assert_array_equal(kd.load(out / "model.safetensors").coef, expected.coef)


def test_methods_that_need_all_rows_say_how_to_have_them_in_memory(files: Path) -> None:
    for given in (("--method", "lbfgs"), ("--method", "saga"), ("--hidden", "4")):
        said = error("train", files / "trips", *TRAIN, *given, "--memory-limit", "2MB", "--output-dir", files / "run")
        assert "(for kdvr: leave out the memory limit)" in said and not (files / "run").exists()


@pytest.mark.parametrize("module", [_spec, _cli_reading])
def test_examples_of_docstrings(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.failed == 0 and found.attempted > 0


def test_help_says_what_can_be_read() -> None:
    for command in ("train", "predict", "eval"):
        text = " ".join(run(command, "--help")[1].replace("│", " ").split())
        assert "Parquet" in text and "--memory-limit" in text
