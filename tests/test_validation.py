"""What `solve` refuses, each by its message; and what it takes without a copy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import kdvr_fast as kd
from kdvr_fast import _validation as check

N, D = 12, 3
X = np.random.default_rng(0).normal(size=(N, D))
LABELS = np.arange(N) % 3


def solve(X=X, y=LABELS, loss="softmax", **options):
    return kd.solve(X, y, **({"loss": loss, "epochs": 1, "backend": "reference"} | options))


def put(values, where, value):
    values = np.array(values, float)
    values[where] = value
    return values


FLOATS = np.linspace(0, 1, N)
ORDER = np.arange(N)

BAD_X = {
    "1-D": (X[:, 0], ValueError, r"X must be 2-D \(rows, features\), got shape \(12,\); .*reshape\(-1, 1\)"),
    "3-D": (X[None], ValueError, r"X must be 2-D .* got shape \(1, 12, 3\)"),
    "no rows": (X[:0], ValueError, r"X is empty: shape \(0, 3\) has no rows"),
    "no features": (X[:, :0], ValueError, r"X is empty: shape \(12, 0\) has no features"),
    "empty list": ([], ValueError, "X must be 2-D"),
    "NaN": (put(X, (7, 2), np.nan), ValueError, "X holds nan in row 7, column 2; drop or fill"),
    "inf": (put(X, (0, 1), -np.inf), ValueError, "X holds -inf in row 0, column 1"),
    "complex": (X + 0j, TypeError, r"X has dtype complex128; .* such as X\.real"),
    "object": (X.astype(object), TypeError, "X has dtype object; .* convert text and mixed columns to numbers"),
    "text list": ([["a", "b"]], TypeError, "X has dtype <U1; .* convert text"),
    "integer": (
        np.ones((N, D), int),
        TypeError,
        r"X has dtype int64; .* pass X.astype\(np.float32\) or X.astype\(np.float64\)",
    ),
    "long double": (X.astype(np.longdouble), TypeError, "X has dtype float128|X has dtype longdouble"),
    "big-endian": (X.astype(">f8"), TypeError, "X has dtype >f8"),
    "Fortran": (np.asfortranarray(X), ValueError, r"X is Fortran-ordered; .* pass np.ascontiguousarray\(X\)"),
    "strided": (
        np.zeros((N, 2 * D))[:, ::2],
        ValueError,
        r"X is strided \(16 bytes from feature to feature\); .*ascontiguousarray",
    ),
    "ragged": ([[1.0, 2.0], [3.0]], ValueError, "X is not a rectangular array"),
    "sparse": (sparse.csc_array(X), TypeError, r"X is a sparse csc_array; .* pass X.tocsr\(\)"),
}

BAD_Y = {
    "length": (LABELS[:-1], "softmax", ValueError, r"y has shape \(11,\); expected 12 rows as in X"),
    "3-D": (np.zeros((N, 1, 1)), "squared", ValueError, r"y has shape \(12, 1, 1\)"),
    "no columns": (np.zeros((N, 0)), "squared", ValueError, r"y has shape \(12, 0\)"),
    "NaN": (put(FLOATS, 4, np.nan), "squared", ValueError, "y holds nan in row 4"),
    "NaN label": (put(LABELS, 4, np.nan), "softmax", ValueError, "y holds nan in row 4"),
    "negative label": (put(LABELS, 5, -1).astype(int), "softmax", ValueError, "y holds label -1 in row 5; labels are 0 .. k-1"),
    "fraction": (put(LABELS, 5, 1.5), "softmax", ValueError, "y holds 1.5 in row 5; loss='softmax' takes integer labels"),
    "one class": (np.zeros(N, int), "softmax", ValueError, "needs at least two classes, y has 1; use loss='logistic'"),
    "text": (np.array(["a"] * N), "softmax", TypeError, "y has dtype <U1; real numbers are needed"),
    "complex": (FLOATS + 0j, "squared", TypeError, "y has dtype complex128"),
    "rows": (np.full((N, 3), 0.5), "softmax", ValueError, "y: row 0 sums to 1.5; probabilities sum to 1"),
    "binary range": (
        put(FLOATS, 3, 2.0),
        "logistic",
        ValueError,
        r"y holds 2.0 in row 3, column 0, outside \[0, 1\]; loss='logistic'",
    ),
    "binary columns": (np.full((N, 2), 0.5), "logistic", ValueError, r"y has shape \(12, 2\); loss='logistic' has one output"),
}

BAD_OPTIONS = {
    "loss": ({"loss": "hinge"}, ValueError, "loss='hinge' is unknown; choose one of 'squared', 'logistic', 'softmax'"),
    "method": ({"method": kd.KD}, TypeError, "method must be an instance of one of SGD, KD, .*, SAGA, .*such as SGD"),
    "method name": ({"method": "sgd"}, TypeError, "method must be an instance of one of .* got 'sgd'"),
    "backend": ({"backend": "fast"}, ValueError, "backend='fast' is unknown; choose one of 'auto', 'native', .*'reference'"),
    "sampling": ({"sampling": "cyclic"}, ValueError, "sampling='cyclic' is unknown; choose one of 'shuffle', 'replacement'"),
    "track": ({"track": ("loss",)}, ValueError, "track='loss' is unknown; choose one of 'objective', 'statistics', 'accuracy'"),
    "rate name": ({"learning_rate": "fast"}, ValueError, "learning_rate='fast' is unknown; choose one of 'auto'"),
    "rate": ({"learning_rate": 0.0}, ValueError, r"learning_rate=0.0 is outside its range \(0, inf\)"),
    "rate class": ({"learning_rate": kd.Cosine}, TypeError, "learning_rate must be a number, a schedule such as"),
    "rate type": (
        {"learning_rate": None},
        TypeError,
        r"learning_rate must be a number, a schedule such as Cosine\(0.1\), or 'auto'",
    ),
    "batch 0": ({"batch_size": 0}, ValueError, "batch_size=0 must be at least 1"),
    "batch n + 1": ({"batch_size": N + 1}, ValueError, "batch_size=13 is more than the 12 rows of X; choose one in 1 .. 12"),
    "batch type": ({"batch_size": 2.0}, TypeError, "batch_size must be an integer, got float 2.0"),
    "epochs": ({"epochs": 0}, ValueError, "epochs=0 must be at least 1"),
    "epochs type": ({"epochs": True}, TypeError, "epochs must be an integer, got True"),
    "alpha": ({"alpha": -0.1}, ValueError, r"alpha=-0.1 is outside its range \[0, inf\)"),
    "l1_ratio": ({"l1_ratio": 1.1}, ValueError, r"l1_ratio=1.1 is outside its range \[0, 1\]"),
    "momentum": ({"momentum": 1.0}, ValueError, r"momentum=1.0 is outside its range \[0, 1\)"),
    "momentum type": ({"momentum": "0.9"}, TypeError, "momentum must be a number, got str '0.9'"),
    "nesterov": ({"nesterov": True}, ValueError, "nesterov=True needs momentum > 0"),
    "flag": ({"fit_intercept": 1}, TypeError, "fit_intercept must be True or False, got 1"),
    "average": ({"average": 1}, ValueError, "average=1 must be in 0 .. 0"),
    "threads": ({"n_threads": 0}, ValueError, "n_threads=0 must be at least 1"),
    "seed": ({"random_state": -1}, ValueError, "random_state=-1 must be at least 0"),
    "seed type": ({"random_state": "x"}, TypeError, "random_state must be an integer or a numpy Generator, got str 'x'"),
    "callback": ({"callbacks": (print, 3)}, TypeError, "callbacks must be functions of one Progress, got 3"),
    "weight length": (
        {"sample_weight": FLOATS[1:]},
        ValueError,
        r"sample_weight has shape \(11,\); expected \(12,\), one weight",
    ),
    "weight sign": (
        {"sample_weight": put(FLOATS, 3, -2.0)},
        ValueError,
        "sample_weight holds -2 in row 3; .* cannot be negative",
    ),
    "weight zero": ({"sample_weight": np.zeros(N)}, ValueError, "sample_weight is zero in every row"),
    "weight NaN": ({"sample_weight": put(FLOATS, 3, np.nan)}, ValueError, "sample_weight holds nan in row 3"),
    "coef_init": (
        {"coef_init": np.zeros((3, 4))},
        ValueError,
        r"coef_init has shape \(3, 4\); expected \(3, 3\), \(outputs, features\)",
    ),
    "coef_init k": (
        {"coef_init": np.zeros((2, 3))},
        ValueError,
        "y holds label 2 in row 2; .* have 2 outputs, for labels 0 .. 1",
    ),
    "coef_init NaN": ({"coef_init": np.full((3, 3), np.nan)}, ValueError, "coef_init holds nan in row 0, column 0"),
    "intercept_init": ({"intercept_init": np.zeros(2)}, ValueError, r"intercept_init has shape \(2,\); expected \(3,\)"),
    "no intercept": (
        {"intercept_init": np.ones(3), "fit_intercept": False},
        ValueError,
        "intercept_init is given but fit_intercept=False",
    ),
    "order dtype": ({"order": ORDER.astype(np.int32)}, TypeError, r"order has dtype int32; .* pass order.astype\(np.int64\)"),
    "order float": ({"order": ORDER * 1.0}, TypeError, "order has dtype float64"),
    "order high": ({"order": np.r_[ORDER[:-1], N]}, ValueError, "order holds 12 at position 11; X has rows 0 .. 11"),
    "order low": ({"order": np.r_[0, -1, 2]}, ValueError, "order holds -1 at position 1"),
    "order parts": ({"order": ORDER, "epochs": 5}, ValueError, "order has 12 rows, which epochs=5 does not divide"),
    "order shape": (
        {"order": ORDER.reshape(2, 6), "epochs": 3},
        ValueError,
        r"order has shape \(2, 6\); expected \(epochs, rows",
    ),
    "order empty": ({"order": ORDER[:0]}, ValueError, "order is empty"),
    "cache_anchor": ({"cache_anchor": 1}, TypeError, "cache_anchor must be True or False, got 1"),
}


@pytest.mark.parametrize(("bad", "error", "message"), BAD_X.values(), ids=BAD_X)
def test_bad_rows_are_refused(bad, error, message):
    with pytest.raises(error, match=message):
        solve(X=bad)


@pytest.mark.parametrize(("bad", "loss", "error", "message"), BAD_Y.values(), ids=BAD_Y)
def test_bad_targets_are_refused(bad, loss, error, message):
    with pytest.raises(error, match=message):
        solve(y=bad, loss=loss)


@pytest.mark.parametrize(("options", "error", "message"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        solve(**options)


def test_accuracy_needs_classes():
    with pytest.raises(ValueError, match="track='accuracy' needs a classification loss"):
        solve(y=FLOATS, loss="squared", track="accuracy")


@given(n=st.integers(1, 300), d=st.integers(1, 40), dtype=st.sampled_from([np.float32, np.float64]), data=st.data())
def test_the_scan_finds_the_first_bad_value_wherever_it_is(n, d, dtype, data):
    row, column = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, d - 1))
    values = np.zeros((n, d), dtype)
    values[row, column] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    values[row + 1 :] = np.nan
    scan_bytes, check.arrays.SCAN_BYTES = check.arrays.SCAN_BYTES, 256  # many blocks of few rows
    try:
        with pytest.raises(ValueError, match=rf"in row {row}, column {column};"):
            check.finite(values, "X")
    finally:
        check.arrays.SCAN_BYTES = scan_bytes


def test_finite_values_whose_sum_overflows_are_taken():
    largest = np.full((4, 2), np.finfo(np.float32).max, np.float32)
    check.finite(largest, "X")


def test_check_input_false_skips_the_scan_only():
    with pytest.raises(kd.DivergenceError):
        solve(X=put(X, (7, 2), np.nan), check_input=False)
    with pytest.raises(ValueError, match="Fortran-ordered"):
        solve(X=np.asfortranarray(X), check_input=False)


def test_rows_are_read_in_place(tmp_path, backend):
    wide = np.zeros((N, 2 * D))
    wide[:, :D] = X
    np.save(tmp_path / "x.npy", X)
    frozen = X.copy()
    frozen.flags.writeable = False
    views = {
        "as is": X,
        "row stride": wide[:, :D],
        "reversed rows": X[::-1].copy()[::-1],
        "every other row": np.repeat(X, 2, axis=0)[::2],
        "read-only": frozen,
        "memory map": np.load(tmp_path / "x.npy", mmap_mode="r"),
    }
    expected = solve(random_state=0, backend=backend).coef
    for name, view in views.items():
        assert np.shares_memory(check.features(view), view), name
        assert np.array_equal(solve(X=view, random_state=0, backend=backend).coef, expected), name
    assert np.array_equal(solve(X=X.tolist(), y=LABELS.tolist(), random_state=0, backend=backend).coef, expected)


def test_a_single_feature_of_a_wider_array_is_taken(backend):
    column = np.asfortranarray(X)[:, :1]  # its stride along features is 12 numbers
    assert np.shares_memory(check.features(column), column)
    found = solve(X=column, random_state=0, backend=backend)
    assert np.array_equal(found.coef, solve(X=column.copy(), random_state=0, backend=backend).coef)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_type_of_rows_is_the_type_of_weights(dtype, backend):
    found = solve(X=X.astype(dtype), sample_weight=FLOATS, coef_init=np.zeros((3, 3)), backend=backend)
    assert found.coef.dtype == found.intercept.dtype == dtype


@pytest.mark.parametrize(
    ("y", "loss", "k"),
    [
        (LABELS, "softmax", 3),
        (LABELS.astype(np.uint8), "softmax", 3),
        (LABELS.astype(float), "softmax", 3),
        (LABELS > 0, "softmax", 2),
        (np.eye(3)[LABELS], "softmax", 3),
        (LABELS > 0, "logistic", 1),
        (FLOATS[:, None], "logistic", 1),
        (FLOATS, "squared", 1),
        (LABELS, "squared", 1),
        (np.ones((N, 4)), "squared", 4),
    ],
)
def test_targets_give_the_number_of_outputs(y, loss, k):
    assert solve(y=y, loss=loss).coef.shape == (k, D)


def test_the_initial_weights_and_the_teacher_may_name_more_classes_than_y():
    assert solve(coef_init=np.zeros((5, D))).coef.shape == (5, D)
    assert solve(method=kd.KD(), teacher=kd.Teacher.weights(np.zeros((4, D)))).coef.shape == (4, D)
    with pytest.raises(ValueError, match=r"teacher has 4 output\(s\) but coef_init has 5; they must agree"):
        solve(coef_init=np.zeros((5, D)), method=kd.KD(), teacher=kd.Teacher.weights(np.zeros((4, D))))


@given(st.lists(st.floats(0, np.finfo(float).max), min_size=1, max_size=20).filter(lambda s: max(s) > 0))
def test_sample_weights_have_mean_one(values):
    scaled = check.sample_weight(values, len(values), np.dtype(float))
    if len(set(values)) == 1:
        assert scaled is None
    else:
        assert scaled.mean() == pytest.approx(1, rel=len(values) * np.finfo(float).eps)
        largest = int(np.argmax(values))
        # products of three rounded quotients; ratios below the smallest normal number are lost
        np.testing.assert_allclose(scaled / scaled[largest], np.divide(values, values[largest]), rtol=1e-14, atol=1e-300)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rounded_probabilities_pass_and_wrong_ones_do_not(dtype):
    P = np.random.default_rng(0).dirichlet(np.ones(10), 50).astype(dtype)
    check.probabilities(P, "P")
    P[30] *= 1.1
    with pytest.raises(ValueError, match=r"P: row 130 sums to 1\.\d+; probabilities sum to 1"):
        check.probabilities(P, "P", first_row=100)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"X": None}, TypeError, "X is NoneType; expected an array of rows"),
        ({"X": {"a": 1}}, TypeError, "X is dict"),
        ({"X": "rows.csv"}, TypeError, "X is str"),
        ({"X": np.ma.masked_array(X, X > 0)}, TypeError, "X is a masked array"),
        ({"y": np.ma.masked_array(LABELS, LABELS > 1)}, TypeError, "y is a masked array"),
        ({"y": LABELS[:, None]}, ValueError, r"labels are 1-D: pass y\.ravel\(\)"),
        ({"y": np.full((N, 3), 0.7)}, ValueError, "y: row 0 sums to 2.1"),
        (
            {"y": np.full((N, 3), 1.7)},
            ValueError,
            r"outside \[0, 1\]; rows of y are probabilities, \(n, k\)",
        ),
        (
            {"y": put(LABELS, 4, 10**12).astype(int)},
            ValueError,
            "label 1000000000000 in row 4, .* classes of 12",
        ),
        ({"coef_init": np.zeros((2, D))}, ValueError, "label 2 in row 2; the teacher or initial weights have 2 outputs"),
        ({"X": X.astype(np.float32), "coef_init": put(np.zeros((3, D)), (1, 2), 1e39)}, ValueError, r"1e\+39 at \[1, 2\]"),
        ({"X": X.astype(np.float32), "y": put(FLOATS, 3, 1e39), "loss": "squared"}, ValueError, r"y holds 1e\+39 at \[3, 0\]"),
        ({"track": None}, TypeError, "track must be a name or several of objective"),
        ({"track": ("loss",)}, ValueError, "objective"),
    ],
)
def test_what_a_reader_of_the_message_could_get_wrong(change, error, message):
    with pytest.raises(error, match=message):
        solve(**change)


def test_a_masked_array_without_masked_entries_is_data():
    assert np.array_equal(solve(X=np.ma.masked_array(X), random_state=0).coef, solve(random_state=0).coef)
