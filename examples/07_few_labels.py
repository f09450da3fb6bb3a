"""150 classes, 10 labels each: a linear student beside a teacher that saw all labels, which also speaks for rows without one.

Reads sentence embeddings from $KDVR_DATA or ../shared/data; without them it takes scikit-learn's digits, 10 classes.
"""

import os
from pathlib import Path

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.neural_network import MLPClassifier

import kdvr_fast as kd
from kdvr_fast.data import load_digits

LABELS = 10  # of a class
path = Path(os.environ.get("KDVR_DATA", Path(__file__).parents[2] / "shared/data")) / "embeddings/clinc150_minilm_l6_384d.npz"
if path.exists():
    with np.load(path) as file:
        X, y, X_test, y_test = (file[name] for name in ("X_train", "y_train", "X_test", "y_test"))
    print(f"sentence embeddings: {len(X)} rows of {X.shape[1]} numbers, {y.max() + 1} classes")
else:
    data = load_digits(np.float32)
    X, y, X_test, y_test = data.X, data.y, data.X_test, data.y_test
    print(f"no {path.name}, so scikit-learn's digits: {len(X)} rows of {X.shape[1]} numbers, {y.max() + 1} classes")

teacher = MLPClassifier(
    (256,), batch_size=len(X) // 15, learning_rate_init=0.01, tol=1e-2, n_iter_no_change=3, random_state=0
).fit(X, y)

few = np.full(len(y), -1)  # -1: no label
for c in range(y.max() + 1):
    rows = np.flatnonzero(y == c)[:LABELS]
    few[rows] = c
labelled = few >= 0


def show(who: str, classifier: ClassifierMixin) -> None:
    print(f"{who:36s} accuracy {classifier.score(X_test, y_test):.3f}")


show(f"teacher, {len(y)} labels", teacher)
show(f"student, {labelled.sum()} labels", kd.KDClassifier().fit(X[labelled], few[labelled]))
show("student, teacher on these rows", kd.KDClassifier(teacher=teacher).fit(X[labelled], few[labelled]))
show(f"student, teacher on all {len(y)} rows", kd.KDClassifier(teacher=teacher).fit(X, few))
