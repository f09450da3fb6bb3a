"""Models go to files and to other libraries, and predict the same there; what is no model is told from one."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from problems import OUTPUTS, make_problem

import kdvr_fast as kd
from kdvr_fast import _store

LOSSES = ("squared", "logistic", "softmax")


def fitted(loss, *, dtype=np.float64, deep=False, k=None, **options):
    problem = make_problem(loss, n=60, d=5, k=k, dtype=dtype, seed=2)
    y = problem.y[:, 0] if loss == "logistic" else problem.y
    model = kd.DeepLinear((4, 3)) if deep else None
    return kd.solve(problem.X, y, loss=loss, model=model, epochs=3, random_state=0, **options), problem.X


def with_names(run, classes):
    names = tuple(f"column {i} ä" for i in range(run.coef.shape[1]))
    layers = None if run.weights is None else tuple(run.weights)
    return kd.Model(run.coef, run.intercept, run.loss, layers, classes, names, {"note": "1"})


CLASSES = {
    "none": None,
    "numbers": np.array([3, 5, 7, 11]),
    "halves": np.array([0.5, 1.5, 2.5, 9.0]),
    "text": np.array(["a", "ß", "c c", ""]),
    "objects": np.array(["a", "b", "c", "d"], object),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_saved_result_is_loaded_to_the_bit(tmp_path, loss, deep, dtype):
    run, X = fitted(loss, dtype=dtype, deep=deep)
    kd.save(run, tmp_path / "m")
    model = kd.load(tmp_path / "m")
    assert model.coef.dtype == dtype and model.loss == loss
    for name in ("coef", "intercept"):
        np.testing.assert_array_equal(getattr(model, name), getattr(run, name))
    np.testing.assert_array_equal(model.decision_function(X), run.decision_function(X))
    np.testing.assert_array_equal(model.predict(X), run.predict(X))
    assert (model.layers is None) == (not deep)
    for one, other in zip(model.layers or (), run.weights or (), strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.info["method"] == "SGD()" and model.info["random_state"] == 0
    assert model.teacher().kind == "weights" and (model.teacher().factors is None) == (not deep)


@pytest.mark.parametrize("classes", list(CLASSES))
def test_classes_and_names_come_along(tmp_path, classes):
    run, X = fitted("softmax")
    model = with_names(run, CLASSES[classes])
    kd.save(model, tmp_path / "m")
    again = kd.load(tmp_path / "m")
    assert again.feature_names == model.feature_names and again.info == {"note": "1"}
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    if classes != "none":
        assert again.classes.dtype.kind == ("U" if classes == "objects" else model.classes.dtype.kind)
        assert set(again.predict(X).tolist()) <= set(CLASSES[classes].tolist())
    np.testing.assert_allclose(again.predict_proba(X).sum(axis=1), 1)


def test_an_estimator_is_a_model(tmp_path):
    """By what a fit leaves, whatever the estimator is called."""

    class Estimator:
        def fit(self):
            run, _ = fitted("logistic")
            self.coef_, self.intercept_, self.loss_ = run.coef, run.intercept, run.loss
            self.classes_, self.feature_names_in_ = np.array(["no", "yes"]), np.array(list("abcde"), object)
            return self

    with pytest.raises(TypeError, match="got Estimator: fit it first"):
        kd.save(Estimator(), tmp_path / "m")
    kd.save(Estimator().fit(), tmp_path / "m")
    model, (run, X) = kd.load(tmp_path / "m"), fitted("logistic")
    assert model.feature_names == tuple("abcde")
    np.testing.assert_array_equal(model.predict(X), np.array(["no", "yes"])[run.predict(X)])
    with pytest.raises(TypeError, match="got int"):
        kd.save(3, tmp_path / "m")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("k", [None, 2])
@pytest.mark.parametrize("classes", ["none", "text"])
def test_scikit_learn_predicts_the_same(loss, k, classes):
    k = OUTPUTS[loss] if k is None or loss == "logistic" else k
    run, X = fitted(loss, k=k)
    given = None if classes == "none" or loss == "squared" else CLASSES[classes][: max(2, k)]
    model = kd.Model(run.coef, run.intercept, loss, classes=given)
    other = model.to_sklearn()
    if loss == "squared":
        np.testing.assert_allclose(other.predict(X), model.predict(X), rtol=1e-12)
    else:
        np.testing.assert_array_equal(other.predict(X), model.predict(X))
        np.testing.assert_allclose(other.predict_proba(X), model.predict_proba(X), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("deep", [False, True])
def test_torch_gives_the_same_logits(deep, dtype):
    torch = pytest.importorskip("torch", reason="to_torch needs torch")
    run, X = fitted("softmax", deep=deep, dtype=dtype)
    module = kd.Model.of(run).to_torch()
    z = module(torch.from_numpy(X)).detach().numpy()
    assert z.dtype == dtype
    np.testing.assert_allclose(z, run.decision_function(X), rtol=100 * np.finfo(dtype).eps, atol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("classes", list(CLASSES))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_onnxruntime_predicts_the_same(tmp_path, loss, deep, dtype, classes):
    pytest.importorskip("onnx", reason="to_onnx needs onnx")
    runtime = pytest.importorskip("onnxruntime", reason="a runtime for ONNX")
    run, X = fitted(loss, deep=deep, dtype=dtype)
    given = None if CLASSES[classes] is None or loss == "squared" else CLASSES[classes][: max(2, len(run.coef))]
    model = with_names(run, given)
    model.to_onnx(tmp_path / "m.onnx")
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    slack = {"rtol": 100 * np.finfo(dtype).eps, "atol": 100 * np.finfo(dtype).eps}
    for rows in (X, X[:1]):
        if loss == "squared":
            (values,) = session.run(["values"], {"X": rows})
            np.testing.assert_allclose(values, model.decision_function(rows), **slack)
        else:
            label, P = session.run(["label", "probabilities"], {"X": rows})
            assert label.tolist() == model.predict(rows).tolist()
            np.testing.assert_allclose(P, model.predict_proba(rows), **slack)


def test_a_tie_is_the_same_class_everywhere():
    runtime = pytest.importorskip("onnxruntime", reason="a runtime for ONNX")
    for loss, k in (("logistic", 1), ("softmax", 3)):
        model = kd.Model(np.zeros((k, 2)), np.zeros(k), loss)
        session = runtime.InferenceSession(model.to_onnx().SerializeToString(), providers=["CPUExecutionProvider"])
        assert session.run(["label"], {"X": np.ones((1, 2))})[0].tolist() == [0] == model.predict(np.ones((1, 2))).tolist()


# -- files that are no models ------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    kd.save(fitted("softmax")[0], tmp_path / "m")
    return tmp_path / "m"


def test_every_truncation_and_every_flipped_byte_is_told(file):
    whole = file.read_bytes()
    for size in [*range(0, len(whole), 7), len(whole) - 1]:
        file.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"truncated, damaged or no kdvr-model file|no format of ours"):
            kd.load(file)
    rng = np.random.default_rng(0)
    for at in [*rng.choice(len(whole), 150, replace=False).tolist(), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(bytes(damaged))
        try:
            model = kd.load(file)
        except ValueError as error:
            assert str(file) in str(error)
        else:  # a byte that means nothing: a space of the header
            np.testing.assert_array_equal(model.coef, fitted("softmax")[0].coef)


def test_a_place_that_takes_no_file_is_named_with_what_to_do(tmp_path, monkeypatch):
    run = kd.solve([[0.0], [1.0]], [0, 1], loss="logistic", batch_size=1, epochs=1)
    with pytest.raises(FileNotFoundError, match=r"nowhere: there is no folder .*none; make it first") as caught:
        kd.save(run, tmp_path / "none" / "nowhere")
    assert ".tmp" not in str(caught.value)
    with pytest.raises(IsADirectoryError, match="is a folder; name a file in it"):
        kd.save(run, tmp_path)

    def full(aside, contents):
        raise OSError(28, "No space left on device", str(aside))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"cannot be written: No space left on device: '.*/model'") as caught:
        kd.save(run, tmp_path / "model")
    assert ".tmp" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_foreign_files(tmp_path):
    path = tmp_path / "m"
    with pytest.raises(FileNotFoundError, match="no such file; expected a kdvr-model file"):
        kd.load(path)
    for content in (
        b"",
        b"hello",
        b"\x93NUMPY" + bytes(200),
        struct.pack("<Q", 1 << 60) + bytes(64),
        b"PK\x03\x04" + bytes(99),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="truncated, damaged or no kdvr-model file"):
            kd.load(path)
    from safetensors.numpy import save_file

    save_file({"weight": np.eye(2)}, path)
    with pytest.raises(ValueError, match="has no format of ours, expected a kdvr-model file"):
        kd.load(path)
    X, y = np.eye(3), np.array([0, 1, 2])
    kd.solve(X, y, loss="softmax", epochs=1, batch_size=1, checkpoint=kd.Checkpoint(tmp_path / "c"))
    with pytest.raises(ValueError, match="is a kdvr-checkpoint file, expected a kdvr-model file"):
        kd.load(tmp_path / "c")
    with pytest.raises(ValueError, match="is a kdvr-model file, expected a kdvr-checkpoint file"):
        kd.save(kd.solve(X, y, loss="softmax", epochs=1, batch_size=1), tmp_path / "d")
        kd.solve(X, y, loss="softmax", batch_size=1, checkpoint=kd.Checkpoint(tmp_path / "d", resume=True))


def test_a_later_version_says_so(file):
    data, arrays = _store.read(file, "kdvr-model", 1)
    _store.write(file, "kdvr-model", 2, data, arrays)
    with pytest.raises(ValueError, match="version '2', this kdvr_fast reads up to 1; install a later one"):
        kd.load(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "hinge"}, "loss='hinge' is unknown"),
        ({"feature_names": ["a"]}, "there are 1 feature_names and 5 features"),
        ({"classes": ["a"]}, "there are 1 classes"),
        ({"layers": 2}, "layer.0"),
        ({"info": None}, None),
    ],
)
def test_sound_files_with_unsound_contents(file, change, message):
    data, arrays = _store.read(file, "kdvr-model", 1)
    _store.write(file, "kdvr-model", 1, data | change, arrays)
    if message is None:
        assert kd.load(file).info is None
        return
    with pytest.raises(ValueError, match=f"no sound kdvr-model file: .*{message}"):
        kd.load(file)
    text = json.dumps(data)
    assert "__reduce__" not in text and "pickle" not in text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((np.ones(3), np.zeros(1), "squared"), r"coef is float64 \(3,\)"),
        ((np.ones((1, 3), int), np.zeros(1, int), "squared"), "coef is int64"),
        ((np.ones((2, 3)), np.zeros(1), "softmax"), "intercept has shape"),
        ((np.full((2, 3), np.nan), np.zeros(2), "softmax"), "coef"),
        ((np.ones((2, 3)), np.zeros(2), "squared", None, np.arange(2)), "there are 2 classes"),
        ((np.ones((1, 3)), np.zeros(1), "squared", (np.ones((2, 3)), np.zeros((1, 2)))), "product of the layers is not coef"),
    ],
)
def test_what_a_model_is_made_of_is_checked(given, message):
    with pytest.raises(ValueError, match=message):
        kd.Model(*given)


def test_a_loss_of_ones_own_is_code_and_not_saved(tmp_path):
    own = kd.Loss.custom(lambda y, z: (z - y) ** 2 / 2, lambda y, z: z - y, name="mine")
    run = kd.solve(np.eye(3), np.arange(3.0), loss=own, backend="reference", batch_size=1, epochs=1)
    with pytest.raises(ValueError, match="'mine' is custom, and a model file holds no code"):
        kd.save(run, tmp_path / "m")


def test_what_predicting_refuses():
    run, X = fitted("squared")
    model = kd.Model.of(run)
    with pytest.raises(ValueError, match="X has 4 features, the model has 5"):
        model.predict(X[:, :4])
    with pytest.raises(ValueError, match="no probabilities"):
        model.predict_proba(X)


def test_the_estimators_of_this_package(tmp_path):
    pytest.importorskip("kdvr_fast.estimators", reason="estimators are not in this tree")
    pandas = pytest.importorskip("pandas", reason="frames have names of features")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 4))
    y = np.array(["low", "mid", "high"], object)[np.digitize(X[:, 0], [-0.5, 0.5])]
    frame = pandas.DataFrame(X, columns=list("abcd"))
    for keep in (slice(None), y != "mid"):
        classifier = kd.KDClassifier().fit(frame[keep], y[keep])
        kd.save(classifier, tmp_path / "m")
        model = kd.load(tmp_path / "m")
        assert model.feature_names == tuple("abcd") and model.classes.tolist() == classifier.classes_.tolist()
        np.testing.assert_array_equal(model.predict(X), classifier.predict(frame))
        np.testing.assert_allclose(model.predict_proba(X), classifier.predict_proba(frame), rtol=1e-12)
        assert (model.to_sklearn().predict(frame) == classifier.predict(frame)).all()
    for targets in (X[:, 0], X[:, :2]):
        regressor = kd.KDRegressor().fit(X, targets)
        kd.save(regressor, tmp_path / "m")
        np.testing.assert_allclose(kd.load(tmp_path / "m").predict(X), regressor.predict(X), rtol=1e-12, atol=1e-14)


def test_frames_are_taken_by_name_and_integers_as_numbers():
    pd = pytest.importorskip("pandas")
    run, X = fitted("softmax")
    names = tuple("abcde")
    model = kd.Model(run.coef, run.intercept, run.loss, feature_names=names)
    frame = pd.DataFrame({name: X[:, i] for i, name in enumerate(names)})
    for given in (frame, frame[list("edcba")], frame.assign(more=1.0)):
        np.testing.assert_array_equal(model.predict(given), run.predict(X))
    with pytest.raises(ValueError, match="X has no column 'b'; the model was fitted on"):
        model.predict(frame.drop(columns="b"))
    np.testing.assert_array_equal(model.decision_function(np.ones((2, 5), int)), model.decision_function(np.ones((2, 5))))
