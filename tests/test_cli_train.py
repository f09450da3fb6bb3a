"""`kdvr train` and the commands around it: folders, settings, exit codes, and runs that are killed at any moment."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array, save_npz
from sklearn.datasets import dump_svmlight_file
from test_cli import run
from typer.testing import CliRunner

import kdvr_fast as kd
from kdvr_fast import _cli_data, _cli_run, _spec, cli

KILLS = int(os.environ.get("KDVR_KILLS", "2"))
PROGRAM = [sys.executable, "-c", "import sys; sys.argv[0] = 'kdvr'; from kdvr_fast.cli import main; main()"]


@pytest.fixture
def rows(tmp_path):
    """Files of a small task with three classes, 1, 2 and 5."""
    rng = np.random.default_rng(0)
    W = rng.normal(size=(3, 6))
    for name, n in (("", 90), ("_test", 40)):
        X = rng.normal(size=(n, 6))
        np.save(tmp_path / f"X{name}.npy", X)
        np.save(tmp_path / f"y{name}.npy", np.array([1, 2, 5])[(X @ W.T).argmax(axis=1)])
    return tmp_path


def started(*arguments, cwd):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(kd.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    return subprocess.Popen([*PROGRAM, *map(str, arguments)], cwd=cwd, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def same_model(one: Path, other: Path) -> None:
    a, b = kd.load(one / "model.safetensors"), kd.load(other / "model.safetensors")
    np.testing.assert_array_equal(a.coef, b.coef)
    np.testing.assert_array_equal(a.intercept, b.intercept)
    logs = [[json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()] for folder in (one, other)]
    for rows in logs:
        for row in rows:
            del row["seconds"]
    assert logs[0] == logs[1]


# -- a run and its folder ----------------------------------------------------------------------------------------------


def test_a_run_leaves_all_that_it_should(rows):
    out = rows / "run"
    code, text, err = run("train", str(rows / "X.npy"), "--labels", str(rows / "y.npy"), "--epochs", "7", "--alpha", "0.01",
                          "--validation", str(rows / "X_test.npy"), "--validation-labels", str(rows / "y_test.npy"),
                          "--learning-rate", "cosine:0.3,warmup=1", "--seed", "4", "--output-dir", str(out))  # fmt: skip
    assert code == 0, err
    assert "train: rows 90" in text and "validation: rows 40" in text and str(out.resolve()) in text and "7/7 epochs" in err
    assert sorted(p.name for p in out.iterdir()) == [
        "checkpoint.safetensors", "config.toml", "log.jsonl", "metrics.json", "model.safetensors"
    ]  # fmt: skip
    expected = kd.solve(np.load(rows / "X.npy"), _cli_data.encode(np.load(rows / "y.npy"), "softmax")[0], loss="softmax",
                        epochs=7, alpha=0.01, learning_rate=kd.Cosine(0.3, warmup=1.0), random_state=4)  # fmt: skip
    model, metrics = kd.load(out / "model.safetensors"), json.loads((out / "metrics.json").read_text())
    np.testing.assert_array_equal(model.coef, expected.coef)
    assert model.classes.tolist() == [1, 2, 5] and model.classes.dtype.kind == "i"
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == expected.history["loss"].tolist() and lines[0]["objective"] is None
    assert metrics["train"]["accuracy"] == np.mean(model.predict(np.load(rows / "X.npy")) == np.load(rows / "y.npy"))
    assert metrics["validation"]["rows"] == 40 and metrics["epochs"] == 7


def test_settings_come_from_a_file_and_options_override_them(rows):
    (rows / "run.toml").write_text(
        'data = "X.npy"\nlabels = "y.npy"\nepochs = 3\nseed = 1\nmethod = "svrg:refresh=2"\nalpha = 1\n'
    )
    for name, seed in (("a", "1"), ("b", "2")):
        more = ("--seed", seed) if name == "b" else ()
        assert run("train", "--config", str(rows / "run.toml"), "--output-dir", str(rows / name), *more)[0] == 0
        settings = _cli_run.Folder(rows / name).settings()
        assert (settings.seed, settings.method, settings.epochs, settings.alpha) == (int(seed), "svrg:refresh=2", 3, 1)
    again = run("train", "--config", str(rows / "b" / "config.toml"), "--output-dir", str(rows / "c"), "--json")
    assert again[0] == 0 and json.loads(again[1])["epochs"] == 3
    same_model(rows / "b", rows / "c")
    assert not np.array_equal(kd.load(rows / "a" / "model.safetensors").coef, kd.load(rows / "b" / "model.safetensors").coef)


def test_a_deep_linear_model_goes_through_all_commands(rows):
    """Trained, gone on with, scored, a teacher with its layers, its noise layer by layer."""
    X, y = str(rows / "X.npy"), str(rows / "y.npy")
    deep, again = str(rows / "deep"), str(rows / "again")
    train = ("train", X, "--labels", y, "--hidden", "8, 5", "--init", "orthogonal", "--seed", "3")
    assert run(*train, "--epochs", "4", "--output-dir", deep)[0] == 0
    labels = _cli_data.encode(np.load(y), "softmax")[0]
    model = kd.DeepLinear(widths=(8, 5), init="orthogonal")
    expected = kd.solve(np.load(X), labels, loss="softmax", model=model, epochs=4, learning_rate="auto", random_state=3)
    saved = kd.load(rows / "deep" / "model.safetensors")
    assert len(saved.layers) == 3 and all(np.array_equal(a, b) for a, b in zip(saved.layers, expected.weights, strict=True))
    assert run(*train, "--epochs", "2", "--output-dir", again)[0] == 0
    assert run("train", "--resume", again, "--epochs", "4")[0] == 0
    same_model(rows / "deep", rows / "again")
    predicted = saved.predict(np.load(X))
    assert json.loads(run("eval", deep, X, "--labels", y, "--json")[1])["accuracy"] == np.mean(predicted == np.load(y))
    assert run("predict", deep, X)[1].split() == [str(label) for label in predicted]
    student = ("--method", "kd:lam=0.5,form=parameter", "--teacher", deep, "--output-dir", str(rows / "student"))
    assert run(*train, *student)[0] == 0  # form="parameter" needs the teacher's layers
    code, out, _ = run("stats", X, "--labels", y, "--model", str(rows / "student"), "--teacher", deep, "--json")
    figures, at = json.loads(out), kd.load(rows / "student" / "model.safetensors")
    options = {"intercept": at.intercept, "loss": "softmax", "teacher": saved.teacher()}
    stats = kd.layer_stats(np.load(X), labels, at.layers, **options)
    assert code == 0 and figures["covariance"] == stats.covariance
    assert [layer["rho"] for layer in figures["layers"]] == [layer.rho for layer in stats.layers]
    table = run("stats", X, "--labels", y, "--model", deep)[1].splitlines()
    assert table[0].split() == ["all", "layer", "1", "layer", "2", "layer", "3"] and len(table[1].split()) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--hidden", "8,x"), "hidden='8,x': 'x' is no width"),
        (("--hidden", ""), "hidden='': '' is no width"),
        (("--hidden", "8,0"), r"widths\[1\]=0"),
        (("--init", "gaussian"), "init='gaussian' is how layers begin, and there are none"),
        (("--hidden", "8", "--init", "zero"), "init='zero' is unknown"),
        (("--hidden", "8", "--method", "lbfgs"), "LBFGS is made for convex problems"),
    ],
)
def test_layers_that_make_no_sense(rows, options, message):
    with pytest.raises(ValueError, match=message):
        run("train", str(rows / "X.npy"), "--labels", str(rows / "y.npy"), *options, "--output-dir", str(rows / "run"))
    assert not (rows / "run" / "config.toml").exists()


def test_more_epochs_and_a_tolerance_that_is_not_reached(rows, recwarn):
    """--resume --epochs goes on where a run had ended; what was not reached stands in the message, once."""
    train = ("train", str(rows / "X.npy"), "--labels", str(rows / "y.npy"), "--learning-rate", "0.1", "--tol", "1e-9")
    assert run(*train, "--epochs", "2", "--output-dir", str(rows / "a"))[0] == 0
    code, out, _ = run("train", "--resume", str(rows / "a"), "--epochs", "5")
    assert code == 0 and "take more epochs" in out and not recwarn.list
    assert run(*train, "--epochs", "5", "--output-dir", str(rows / "b"))[0] == 0
    same_model(rows / "a", rows / "b")
    assert _cli_run.Folder(rows / "a").settings().epochs == 5
    result = CliRunner().invoke(cli.app, ["train", "--resume", str(rows / "a"), "--epochs", "4"])
    assert "has 5 finished epochs, more than epochs=4" in str(result.exception)
    assert _cli_run.Folder(rows / "a").settings().epochs == 5  # as it was


def test_a_chain_of_commands(rows):
    """Teacher, its outputs, a student of either, scores, predictions, noise, ONNX."""
    X, y, Xt, yt = (str(rows / f"{name}.npy") for name in ("X", "y", "X_test", "y_test"))
    big, out, P = str(rows / "big"), str(rows / "out.npy"), str(rows / "P.npy")
    assert run("train", X, "--labels", y, "--method", "lbfgs", "--alpha", "0.01", "--tol", "1e-6", "--output-dir", big)[0] == 0
    assert run("teacher", big, X, out)[0] == 0 and run("teacher", big, X, P, "--proba")[0] == 0
    np.testing.assert_array_equal(np.load(out), kd.load(rows / "big" / "model.safetensors").decision_function(np.load(X)))
    np.testing.assert_allclose(np.load(P).sum(axis=1), 1)
    for name, given in {"model": ("--teacher", f"{big}/model.safetensors"), "logits": ("--teacher-logits", out)}.items():
        student = str(rows / name)
        assert run("train", X, "--labels", y, "--method", "kd:lam=0.7", *given, "--output-dir", student)[0] == 0
    before = kd.load(rows / "big" / "model.safetensors").coef
    assert run("train", "--resume", big)[0] == 0  # L-BFGS begins again, to the same bits
    np.testing.assert_array_equal(kd.load(rows / "big" / "model.safetensors").coef, before)
    a, b = (kd.load(rows / name / "model.safetensors").coef for name in ("model", "logits"))
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    scores = json.loads(run("eval", big, Xt, "--labels", yt, "--json")[1])
    lines = run("predict", big, Xt)[1].splitlines()
    assert scores["accuracy"] == np.mean(np.array(lines, int) == np.load(yt)) and scores["rows"] == 40
    assert len(run("predict", big, Xt, "--proba")[1].splitlines()[0].split("\t")) == 3
    assert run("predict", big, Xt, "--out", str(rows / "p.npy"))[0] == 0
    assert np.load(rows / "p.npy").tolist() == [int(line) for line in lines]
    noise = json.loads(
        run("stats", X, "--labels", y, "--model", str(rows / "model"), "--teacher", f"{big}/model.safetensors", "--json")[1]
    )
    assert 0 < noise["rho"] <= 1 and noise["n"] == 90
    assert "variance" in run("stats", X, "--labels", y)[1]
    pytest.importorskip("onnx", reason="to_onnx needs onnx")
    assert run("convert", big, str(rows / "big.onnx"))[0] == 0 and (rows / "big.onnx").stat().st_size > 0


def test_rows_of_every_format_are_the_same_task(rows):
    X, y = np.load(rows / "X.npy"), np.load(rows / "y.npy")
    X[np.abs(X) < 0.5] = 0
    np.save(rows / "X.npy", X)
    save_npz(rows / "X.npz", csr_array(X).tocsr())
    dump_svmlight_file(X, y, str(rows / "X.svm"), zero_based=False)
    (rows / "y.txt").write_text("\n".join(map(str, y)))
    assert run("convert", str(rows / "X.svm"), str(rows / "again.npz"), "--labels-out", str(rows / "again.npy"),
               "--dtype", "float64")[0] == 0  # fmt: skip
    assert run("convert", str(rows / "X.npz"), str(rows / "dense.npy"), "--dtype", "float64")[0] == 0
    np.testing.assert_array_equal(np.load(rows / "dense.npy"), X)
    made = {}
    for name, labels in {
        "X.npy": "y.npy",
        "X.npz": "y.txt",
        "X.svm": None,
        "again.npz": "again.npy",
        "dense.npy": "y.txt",
    }.items():
        given = () if labels is None else ("--labels", str(rows / labels))
        out = rows / name.replace(".", "_")
        assert run("train", str(rows / name), *given, "--epochs", "2", "--learning-rate", "0.1", "--dtype", "float64",
                   "--output-dir", str(out))[0] == 0  # fmt: skip
        made[name] = kd.load(out / "model.safetensors")
        assert made[name].classes.tolist() == [1, 2, 5]
    for model in made.values():
        np.testing.assert_allclose(model.coef, made["X.npy"].coef, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_other_losses(rows, loss):
    y = np.load(rows / "y.npy")
    np.save(rows / "y.npy", y.astype(float) if loss == "squared" else np.where(y == 1, "no", "yes"))
    out = rows / "run"
    assert run("train", str(rows / "X.npy"), "--labels", str(rows / "y.npy"), "--loss", loss, "--learning-rate", "0.01",
               "--output-dir", str(out))[0] == 0  # fmt: skip
    assert kd.load(out / "model.safetensors").loss == loss
    lines = run("predict", str(out), str(rows / "X.npy"))[1].splitlines()
    assert len(lines) == 90 and (loss == "squared" or set(lines) == {"no", "yes"})


def test_the_log_of_a_resumed_run_has_each_epoch_once_from_its_first_line_on(rows):
    """A kill may come after a line and before the checkpoint of its epoch; the line goes when the run goes on."""
    folder = _cli_run.Folder(rows / "run")
    config = _cli_run.Config(str(rows / "X.npy"), str(rows / "y.npy"), epochs=3)
    _cli_run.run(config, folder)
    with folder.log.open("a") as file:
        file.write('{"epoch": 4.0}\n{"epo')
    seen = []
    _cli_run.run(replace(config, epochs=5), folder, [lambda p: seen.append(folder.log.read_text())])
    for text, epochs in zip(seen, (4, 5), strict=True):
        assert [json.loads(line)["epoch"] for line in text.splitlines()] == list(range(1, epochs + 1))


# -- wrong use ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("X.npy",), 1, "has no targets"),
        (("X.npy", "--labels", "y_test.npy"), 1, "has 90 rows and"),
        (("none.npy", "--labels", "y.npy"), 1, "no such file"),
        (("X.npy", "--labels", "y.npy", "--method", "kd"), 1, "KD needs a teacher"),
        (("X.npy", "--labels", "y.npy", "--method", "sgdd"), 1, "begins with none of sgd, kd"),
        (("X.npy", "--labels", "y.npy", "--loss", "logistic"), 1, "needs exactly two classes, the targets have 3"),
        (("X.npy", "--labels", "y.npy", "--learning-rate", "1e6", "--loss", "squared"), 3, "training diverged in epoch"),
        (("X.npy", "--labels", "y.npy", "--teacher", "y.npy", "--method", "kd"), 1, "no kdvr-model file"),
        (("--epochs", "3"), 2, "no data"),
        (("--config", "bad.toml"), 2, "there is no setting 'epoch'"),
        (("--config", "type.toml"), 2, "epochs = '3' is of the wrong type"),
        (("--config", "toml.toml"), 2, "no TOML file"),
        (("--resume", "nowhere"), 1, "no run is there"),
        (("--resume", "nowhere", "--alpha", "1"), 2, "leave out --alpha"),
        (("X.npy", "--epochs", "0"), 2, "--epochs"),
    ],
)
def test_errors_are_a_line_and_a_code(rows, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(rows)
    Path("bad.toml").write_text('data = "X.npy"\nepoch = 3\n')
    Path("type.toml").write_text('data = "X.npy"\nepochs = "3"\n')
    Path("toml.toml").write_text("data = [\n")
    monkeypatch.setattr("sys.argv", ["kdvr", "train", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == code
    captured = capsys.readouterr()
    assert message in " ".join(captured.err.replace("│", " ").split()) and captured.out == ""
    assert code == 3 or not Path("kdvr_run", "config.toml").exists()  # what was refused can be called again, mended


def test_a_folder_with_a_run_is_not_written_over(rows):
    train = ("train", str(rows / "X.npy"), "--labels", str(rows / "y.npy"), "--epochs", "1", "--output-dir", str(rows / "run"))
    assert run(*train)[0] == 0
    before = {path.name: path.read_bytes() for path in (rows / "run").iterdir()}
    result = CliRunner().invoke(cli.app, list(train))
    assert isinstance(result.exception, FileExistsError) and "has a run: go on with `kdvr train --resume" in str(
        result.exception
    )
    assert {path.name: path.read_bytes() for path in (rows / "run").iterdir()} == before


def test_eval_names_a_class_that_the_model_has_not(rows):
    run("train", str(rows / "X.npy"), "--labels", str(rows / "y.npy"), "--epochs", "1", "--output-dir", str(rows / "run"))
    y = np.load(rows / "y_test.npy")
    y[7] = 9
    np.save(rows / "y_test.npy", y)
    result = CliRunner().invoke(
        cli.app, ["eval", str(rows / "run"), str(rows / "X_test.npy"), "--labels", str(rows / "y_test.npy")]
    )
    assert "target 9 in row 7 is no class of the model; it has [1, 2, 5]" in str(result.exception)


def test_a_model_without_classes_knows_its_labels_by_their_numbers(rows):
    """Some of its classes, and no others, are looked at: the k-th that is there is not the k-th of the model."""
    X, y = np.load(rows / "X.npy"), np.load(rows / "y.npy")
    y = np.searchsorted([1, 2, 5], y)
    fitted = kd.solve(X, y, loss="softmax", method=kd.LBFGS(), alpha=1e-3)
    kd.save(fitted, rows / "m.safetensors")
    some = y > 0
    np.save(rows / "some.npy", X[some]), np.save(rows / "labels.npy", y[some])
    code, text, err = run("eval", str(rows / "m.safetensors"), str(rows / "some.npy"), "--labels", str(rows / "labels.npy"),
                          "--json")  # fmt: skip
    assert code == 0, err
    assert json.loads(text)["accuracy"] == (fitted.predict(X[some]) == y[some]).mean() > 0.9


def test_a_teacher_of_other_classes_or_of_values_is_refused(rows):
    X, y = np.load(rows / "X.npy"), np.load(rows / "y.npy")
    shifted = kd.solve(X, np.searchsorted([1, 2, 5], y), loss="softmax", epochs=1)
    values = kd.solve(X, np.eye(3)[np.searchsorted([1, 2, 5], y)], loss="squared", learning_rate=0.01, epochs=1)
    of_others = r"knows the classes \[0, 1, 2\], the targets are \[1, 2, 5\]"
    for made, message in ((shifted, of_others), (values, "has loss='squared'")):
        kd.save(made, rows / "t")
        with pytest.raises(ValueError, match=message):
            run("train", str(rows / "X.npy"), "--labels", str(rows / "y.npy"), "--method", "kd:lam=0.5",
                "--teacher", str(rows / "t"), "--output-dir", str(rows / "out"))  # fmt: skip


def test_targets_that_are_no_numbers_are_refused(rows):
    y = np.load(rows / "y.npy").astype(float)
    y[7] = np.nan
    np.save(rows / "ynan.npy", y)
    with pytest.raises(ValueError, match="target nan in row 7 is no class"):
        run("train", str(rows / "X.npy"), "--labels", str(rows / "ynan.npy"), "--output-dir", str(rows / "out"))


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("sgd", kd.SGD()),
        ("kd:0.7", kd.KD(0.7)),
        ("kd:lam=auto,teacher_alpha=0.1", kd.KD("auto", teacher_alpha=0.1)),
        ("repeatedkd:lam=geometric(0.9;0.5;0.8),refresh=3", kd.RepeatedKD(kd.Geometric(0.9, 0.5, 0.8), 3)),
        ("lbfgs:memory=5,precondition=none", kd.LBFGS(memory=5, precondition="none")),
    ],
)
def test_methods_as_words(text, made):
    assert _spec.method(text) == made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kd:lam", "lam.*'lam'|outside|must be"),
        ("kd:rho=1", "kd has no option 'rho'; it has lam, temperature"),
        ("sgd:1", "sgd has no option"),
        ("kd:lam=0.1,lam=0.2", "lam stands there twice"),
        ("kd:lam=2", "outside its range"),
        ("kd:form=__import__('os')", "is neither a number, a word"),
    ],
)
def test_words_that_are_no_method(text, message):
    with pytest.raises((ValueError, TypeError), match=message):
        _spec.method(text)


def test_learning_rates_as_words():
    assert _spec.learning_rate("auto") == "auto" and _spec.learning_rate("0.5") == 0.5 and _spec.learning_rate(2) == 2
    assert _spec.learning_rate("exponential:0.1,factor=0.9") == kd.Exponential(0.1, 0.9)
    with pytest.raises(ValueError, match="decay is missing; write inverse:decay=VALUE"):
        _spec.learning_rate("inverse:0.5")


# -- runs that are cut -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A run of some seconds, its folder when nothing cut it, and how to start it in another one."""
    folder = tmp_path_factory.mktemp("long")
    rng = np.random.default_rng(1)
    X = rng.normal(size=(1500, 60))
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", (X @ rng.normal(size=(60, 5)) + rng.normal(size=(1500, 5))).argmax(axis=1))
    (folder / "run.toml").write_text(
        'data = "X.npy"\nlabels = "y.npy"\nmethod = "svrg:lam=auto,refresh=3"\nmomentum = 0.5\naverage = true\n'
        "epochs = 400\nlearning_rate = 0.002\nalpha = 0.001\nseed = 5\ncheckpoint_seconds = 0.02\n"
    )
    start = time.perf_counter()
    process = started("train", "--config", "run.toml", "--output-dir", "whole", cwd=folder)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return folder, time.perf_counter() - start


def wait_for(path: Path, lines: int, process: subprocess.Popen[str]) -> bool:
    """Until the log has so many lines; False if the process ends first."""
    while not (path.exists() and path.read_text().count("\n") >= lines):
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return True


def test_a_run_killed_at_any_moment_goes_on_to_the_same_bits(long):
    """KDVR_KILLS runs (2, or as many as the environment says) die by kill -9, each at a random moment, and are resumed."""
    folder, seconds = long
    rng = np.random.default_rng(int(os.environ.get("KDVR_KILL_SEED", "0")))
    found: list[int] = []
    for number in count():
        if len(found) == KILLS:
            break
        out = folder / f"killed{number}"
        process = started("train", "--config", "run.toml", "--output-dir", out.name, cwd=folder)
        if number % 5 == 4:  # at any time since the program began
            time.sleep(rng.uniform(0, seconds))
        elif wait_for(out / "log.jsonl", 1, process):  # in training
            time.sleep(rng.uniform(0, 0.4 * seconds))
        process.kill()
        process.communicate()
        if process.returncode == 0 or not (out / "config.toml").exists():
            shutil.rmtree(out, ignore_errors=True)  # it had ended or not begun, and does not count
            continue
        found.append((out / "log.jsonl").read_text().count("\n") if (out / "log.jsonl").exists() else 0)
        resumed = started("train", "--resume", out.name, cwd=folder)
        _, err = resumed.communicate(timeout=300)
        assert resumed.returncode == 0, err
        same_model(folder / "whole", out)
        assert not [p.name for p in out.iterdir() if p.name.endswith(".tmp")]
        shutil.rmtree(out)
    print(f"killed after epochs {found} of 400")
    assert any(0 < epochs < 400 for epochs in found)


def test_ctrl_c_leaves_a_checkpoint_says_how_to_go_on_and_exits_130(long):
    folder, _ = long
    out = folder / "interrupted"
    process = started("train", "--config", "run.toml", "--output-dir", out.name, cwd=folder)
    assert wait_for(out / "log.jsonl", 3, process)
    process.send_signal(signal.SIGINT)
    stdout, err = process.communicate(timeout=60)
    assert process.returncode == 130 and stdout == ""
    last = re.fullmatch(
        r"interrupted after (\d+) epochs; the checkpoint has (\d+): go on with `kdvr train --resume interrupted`",
        err.splitlines()[-1],
    )
    assert last is not None, err
    epochs, kept = map(int, last.groups())
    assert 3 <= epochs < 400 and 0 <= kept <= epochs
    assert (out / "log.jsonl").read_text().count("\n") == epochs
    assert (out / "checkpoint.safetensors").exists() and not (out / "model.safetensors").exists()
    resumed = started("train", "--resume", out.name, "--json", cwd=folder)
    stdout, err = resumed.communicate(timeout=300)
    assert resumed.returncode == 0 and json.loads(stdout)["epochs"] == 400, err
    same_model(folder / "whole", out)
