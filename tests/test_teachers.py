"""Teachers: every kind gives the same run as the weights it came from; what does not fit is refused."""

from __future__ import annotations

import numpy as np
import pytest
from problems import LOSS_NAMES, make_point, make_problem, relative

import kdvr_fast as kd
from kdvr_fast.losses import LOSSES

EPS = np.finfo(float).eps


class Predictor:
    """A fitted estimator in the manner of scikit-learn; remembers how it was asked."""

    def __init__(self, outputs, classes):
        self.outputs, self.classes_, self.asked = outputs, classes, []

    def predict_proba(self, A):
        self.asked.append(len(A))
        P = self.outputs(A)
        return np.hstack([1 - P, P]) if P.shape[1] == 1 else P

    def predict(self, A):
        self.asked.append(len(A))
        return self.outputs(A)


def make_teachers(problem, W, b):
    """The teacher z = W a + b in every form its loss allows."""
    link = problem.loss.link

    def outputs(A):
        return link(A @ W.T + b)

    Z = problem.X @ W.T + b
    teachers = {"logits": kd.Teacher.logits(Z)}
    teachers["estimator"] = kd.Teacher.estimator(Predictor(outputs, np.arange(max(2, problem.n_outputs))))
    if problem.loss.name != "squared":
        teachers["probabilities"] = kd.Teacher.probabilities(link(Z))
    return teachers


def coefficients(problem, method, teacher, backend="reference"):
    run = kd.solve(
        problem.X,
        problem.y,
        loss=problem.loss,
        method=method,
        teacher=teacher,
        batch_size=4,
        epochs=3,
        random_state=0,
        sample_weight=problem.weights,
        backend=backend,
    )
    return np.column_stack([run.coef, run.intercept])


TEMPERED = kd.KD(lam=0.7, temperature=2.5)
METHODS = (kd.KD(lam=0.7), TEMPERED, kd.UnbiasedKD(), kd.RepeatedKD(refresh=2))
COMBINATIONS = [(loss, m) for loss in LOSS_NAMES for m in METHODS if loss != "squared" or m != TEMPERED]


@pytest.mark.parametrize(("loss", "method"), COMBINATIONS, ids=repr)
@pytest.mark.parametrize("dense", [False, True])
def test_all_forms_of_a_teacher_agree(loss, method, dense, backend):
    problem = make_problem(loss, n=21, d=3, weighted=True, dense=dense)
    W, b = make_point(problem)
    expected = coefficients(problem, method, kd.Teacher.weights(W, b), backend)
    for kind, teacher in make_teachers(problem, W, b).items():
        # 18 steps of size one; a power and a normalisation add a few roundings to each table entry
        assert relative(coefficients(problem, method, teacher, backend), expected) < 1e3 * EPS, kind


def test_two_softmax_classes_keep_both_columns_at_a_temperature():
    problem = make_problem("softmax", n=21, d=3, k=2)
    W, b = make_point(problem)
    method = kd.KD(temperature=3.0)
    expected = coefficients(problem, method, kd.Teacher.weights(W, b))
    for teacher in make_teachers(problem, W, b).values():
        assert relative(coefficients(problem, method, teacher), expected) < 1e3 * EPS


def test_single_output_arrays_may_be_flat():
    problem = make_problem("logistic", n=21, d=3)
    W, b = make_point(problem)
    P = LOSSES["logistic"].link(problem.X @ W.T + b)
    flat, column = (coefficients(problem, kd.KD(), kd.Teacher.probabilities(p)) for p in (P[:, 0], P))
    assert np.array_equal(flat, column)
    assert np.array_equal(
        coefficients(problem, kd.KD(), kd.Teacher.weights(W[0], b)), coefficients(problem, kd.KD(), kd.Teacher.weights(W, b))
    )


def test_tables_are_read_from_a_read_only_memory_map(tmp_path):
    problem = make_problem("softmax", n=21, d=3)
    Z = problem.X @ make_point(problem)[0].T
    np.save(tmp_path / "z.npy", Z)
    stored = np.load(tmp_path / "z.npy", mmap_mode="r")
    assert np.array_equal(
        coefficients(problem, kd.KD(), kd.Teacher.logits(stored)), coefficients(problem, kd.KD(), kd.Teacher.logits(Z))
    )


def test_an_estimator_is_asked_in_chunks(monkeypatch):
    monkeypatch.setattr("kdvr_fast.teachers._CHUNK_ROWS", 8)
    problem = make_problem("softmax", n=21, d=3)
    W, b = make_point(problem)
    teacher = make_teachers(problem, W, b)["estimator"]
    whole = coefficients(problem, kd.KD(), kd.Teacher.weights(W, b))
    assert relative(coefficients(problem, kd.KD(), teacher), whole) < 1e3 * EPS
    assert teacher.source.asked == [8, 8, 5]


def test_half_precision_tables_are_taken():
    problem = make_problem("softmax", n=21, d=3, dtype=np.float32)
    W, b = make_point(problem)
    P = LOSSES["softmax"].link(problem.X @ W.T + b)
    half, full = (coefficients(problem, kd.KD(), kd.Teacher.probabilities(p)) for p in (P.astype(np.float16), P))
    assert relative(half, full) < 10 * np.finfo(np.float16).eps


def softmax_data():
    return make_problem("softmax", n=21, d=3)


def bad_row(values, row, column, value):
    values = values.copy()
    values[row, column] = value
    return values


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda p, P: kd.Teacher.probabilities(bad_row(P, 5, 0, 0.9)),
            ValueError,
            r"teacher probabilities: row 5 sums to 1.65; .*divide",
        ),
        (
            lambda p, P: kd.Teacher.probabilities(bad_row(P, 5, 2, -0.1)),
            ValueError,
            r"holds -0.1 in row 5, column 2, outside \[0, 1\]",
        ),
        (
            lambda p, P: kd.Teacher.probabilities(bad_row(P, 20, 1, np.nan)),
            ValueError,
            "probabilities holds nan in row 20, column 1",
        ),
        (lambda p, P: kd.Teacher.logits(bad_row(P, 3, 3, np.inf)), ValueError, "teacher logits holds inf in row 3, column 3"),
        (lambda p, P: kd.Teacher.logits(P[:-1]), ValueError, "teacher logits have 20 rows, X has 21"),
        (
            lambda p, P: kd.Teacher.logits(P[:, :3]),
            ValueError,
            r"y holds label 3 in row \d+; .* have 3 outputs, for labels 0 .. 2",
        ),
        (lambda p, P: kd.Teacher.logits(P[:, :, None]), ValueError, r"teacher logits have shape \(21, 4, 1\)"),
        (lambda p, P: kd.Teacher.logits(P * 1j), TypeError, "teacher logits has dtype complex128; real numbers"),
        (lambda p, P: kd.Teacher.weights(np.zeros((4, 5))), ValueError, "teacher weights have 5 features, X has 3"),
        (
            lambda p, P: kd.Teacher.weights(bad_row(np.zeros((4, 3)), 2, 1, np.nan)),
            ValueError,
            "weights holds nan in row 2, column 1",
        ),
        (
            lambda p, P: kd.Teacher.weights(np.zeros((4, 3)), np.zeros(3)),
            ValueError,
            r"teacher intercept has shape \(3,\); expected \(4,\)",
        ),
        (lambda p, P: kd.Teacher.estimator(object()), TypeError, "needs predict or predict_proba, object has neither"),
        (
            lambda p, P: kd.Teacher.estimator(Predictor(lambda A: P, [0, 2, 1, 3])),
            ValueError,
            r"classes_ are \[0, 2, 1, 3\]; they must be",
        ),
        (
            lambda p, P: kd.Teacher.estimator(Predictor(lambda A: P[:, :3], range(4))),
            ValueError,
            r"output has shape \(21, 3\); expected",
        ),
        (lambda p, P: np.zeros((4, 3)), TypeError, r"teacher must be a Teacher, such as Teacher.weights\(W, b\), got ndarray"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(make, error, message):
    problem = softmax_data()
    P = np.full((21, 4), 0.25)
    with pytest.raises(error, match=message):
        coefficients(problem, kd.KD(), make(problem, P))


def test_a_teacher_of_another_loss_is_refused():
    binary, squared = make_problem("logistic", n=21, d=3), make_problem("squared", n=21, d=3, k=1)
    with pytest.raises(ValueError, match=r"loss='logistic' takes the probability of class 1 alone: pass P\[:, 1\]"):
        coefficients(binary, kd.KD(), kd.Teacher.probabilities(np.full((21, 2), 0.5)))
    with pytest.raises(ValueError, match=r"loss='squared' has no probabilities; .* as Teacher.logits"):
        coefficients(squared, kd.KD(), kd.Teacher.probabilities(np.full((21, 1), 0.5)))
    with pytest.raises(ValueError, match="teacher has 3 classes; loss='logistic' needs exactly 0 and 1"):
        coefficients(binary, kd.KD(), kd.Teacher.estimator(Predictor(None, range(3))))
    unfitted = Predictor(None, None)
    del unfitted.classes_
    with pytest.raises(ValueError, match="the teacher Predictor has no classes_; fit it first"):
        coefficients(binary, kd.KD(), kd.Teacher.estimator(unfitted))
    with pytest.raises(ValueError, match=r"teacher has 2 output\(s\) but y has 1"):
        coefficients(squared, kd.KD(), kd.Teacher.weights(np.zeros((2, 3))))


@pytest.mark.parametrize(
    ("method", "kind", "options", "message"),
    [
        (kd.KD(), None, {}, "KD needs a teacher: pass teacher=Teacher.weights"),
        (kd.SVRG(), "weights", {}, r"SVRG takes no teacher; leave it out, or use KD\(lam=0.0\)"),
        (
            kd.KD(teacher_alpha=0.1),
            "logits",
            {},
            "teacher_alpha is the L2 term of a linear teacher; a teacher of logits has no weights",
        ),
        (
            kd.KD(),
            "logits",
            {"cache_anchor": False},
            "cache_anchor=False: only Teacher.weights is computed on the fly, not .* logits",
        ),
        (kd.SAGA(), None, {"cache_anchor": False}, "cache_anchor=False: SAGA is its table"),
        (
            kd.KD(temperature=2.0),
            "weights",
            {"cache_anchor": True},
            "cache_anchor=True: a tempered linear teacher is computed on the fly",
        ),
    ],
)
def test_combinations_without_meaning_are_refused(method, kind, options, message):
    p = softmax_data()
    teacher = {"weights": kd.Teacher.weights(np.zeros((4, 3))), "logits": kd.Teacher.logits(np.zeros((21, 4))), None: None}[
        kind
    ]
    with pytest.raises(ValueError, match=message):
        kd.solve(p.X, p.y, loss="softmax", method=method, teacher=teacher, backend="reference", **options)


def test_temperature_has_no_meaning_for_the_squared_loss():
    p = make_problem("squared", n=21, d=3, k=1)
    with pytest.raises(ValueError, match=r"temperature=2\.0 has no meaning for loss='squared'"):
        coefficients(p, kd.KD(temperature=2.0), kd.Teacher.weights(np.zeros((1, 3))))


@pytest.mark.parametrize("tail", ["uniform", "renormalise"])
@pytest.mark.parametrize("m", [1, 3, 6])
def test_top_k_probabilities_equal_the_table_they_stand_for(tail, m):
    rng = np.random.default_rng(m)
    n, k = 40, 6
    P = rng.dirichlet(np.ones(k), n)
    indices = np.argsort(-P, axis=1)[:, :m]
    values = np.take_along_axis(P, indices, axis=1)
    full = np.zeros((n, k))
    for i in range(n):
        kept = {int(c): float(v) for c, v in zip(indices[i], values[i], strict=True)}
        for c in range(k):
            if tail == "uniform" and m < k:
                full[i, c] = kept.get(c, (1 - sum(kept.values())) / (k - m))
            else:
                full[i, c] = kept.get(c, 0.0) / sum(kept.values())
    X, y = rng.standard_normal((n, 5)), rng.integers(0, k, n)
    options = {"loss": "softmax", "method": kd.UnbiasedKD(), "learning_rate": 0.1, "epochs": 2, "random_state": 0}
    top = kd.solve(X, y, teacher=kd.Teacher.top_k(indices.astype(np.int16), values, k, tail=tail), **options)
    table = kd.solve(X, y, teacher=kd.Teacher.probabilities(full), **options)
    np.testing.assert_allclose(top.coef, table.coef, rtol=1e-12, atol=1e-14)


def test_top_k_in_half_precision_from_a_memory_map(tmp_path):
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.ones(20), 30)
    indices = np.argsort(-P, axis=1)[:, :4].astype(np.uint8)
    np.save(tmp_path / "i.npy", indices)
    np.save(tmp_path / "v.npy", np.take_along_axis(P, indices.astype(np.int64), axis=1).astype(np.float16))
    stored = (np.load(tmp_path / name, mmap_mode="r") for name in ("i.npy", "v.npy"))
    teacher = kd.Teacher.top_k(*stored, n_outputs=20)
    run = kd.solve(np.eye(30), rng.integers(0, 20, 30), loss="softmax", method=kd.KD(0.5), teacher=teacher, epochs=1)
    assert np.isfinite(run.coef).all()


@pytest.mark.parametrize(
    ("indices", "values", "options", "error", "message"),
    [
        ([[0, 4]], [[0.5, 0.2]], {}, ValueError, "top-k row 0: class 4 is no class; classes are 0 .. 3"),
        ([[0, 1], [2, 2]], [[0.5, 0.2]] * 2, {}, ValueError, "top-k row 1: class 2 stands twice"),
        ([[0, 1]], [[0.9, 0.2]], {}, ValueError, "top-k row 0: class 0 is in a row whose values sum to more than 1"),
        ([[0, 1]], [[0.0, 0.0]], {"tail": "renormalise"}, ValueError, "or to nothing"),
        ([[0, 1]], [[0.9, -0.1]], {}, ValueError, r"class 1 goes with a value outside \[0, 1\]"),
        ([[0, 1]], [[0.9, np.nan]], {}, ValueError, "top-k values"),
        ([[0.0, 1.0]], [[0.5, 0.2]], {}, TypeError, "class numbers are integers"),
        ([[0, 1]], [[0.5]], {}, ValueError, r"must both be \(rows, m\)"),
        ([[0, 1]], [[0.5, 0.2]], {"tail": "drop"}, ValueError, "uniform"),
    ],
)
def test_top_k_that_makes_no_sense_is_refused(indices, values, options, error, message):
    with pytest.raises(error, match=message):
        teacher = kd.Teacher.top_k(indices, values, 4, **options)
        n = len(indices)
        kd.solve(np.ones((n, 2)), np.zeros(n, int), loss="softmax", method=kd.KD(0.5), teacher=teacher, batch_size=1, epochs=1)


def test_top_k_is_for_softmax():
    with pytest.raises(ValueError, match="has no top-k classes"):
        kd.solve([[1.0]], [1.0], loss="squared", method=kd.KD(0.5), teacher=kd.Teacher.top_k([[0]], [[1.0]], 2))


def test_a_tiny_temperature_does_not_make_rows_vanish():
    table = kd.Teacher.probabilities(np.full((2, 4), 0.25)).table(
        np.ones((2, 1)), np.zeros(2, int), LOSSES["softmax"], 4, temperature=1e-3
    )
    np.testing.assert_allclose(table, 0.25)


def test_the_callers_weights_are_copied():
    W = np.ones((3, 2))
    teacher = kd.Teacher.weights(W)
    W[:] = np.nan
    assert np.array_equal(teacher.theta(np.dtype(float))[0], np.ones((3, 2)))


def test_weights_too_large_for_the_rows_are_refused():
    teacher = kd.Teacher.weights(np.array([[1.0, 1e39]]))
    with pytest.raises(ValueError, match=r"teacher weights holds 1e\+39 at \[0, 1\], too large for float32"):
        kd.solve(np.ones((3, 2), np.float32), np.ones(3), loss="squared", method=kd.KD(), teacher=teacher, batch_size=1)
