"""Every check that scikit-learn has for estimators; none is expected to fail. The gate runs this on the oldest one, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.utils.estimator_checks import parametrize_with_checks

import kdvr_fast as kd

ALL_ROWS = 256  # more than any check has: steps of weighted rows equal those of repeated ones only if none is drawn


@parametrize_with_checks(
    [
        kd.KDClassifier(),
        kd.KDClassifier(kd.SGD(), batch_size=ALL_ROWS),
        kd.KDRegressor(),
        kd.KDRegressor(kd.SGD(), batch_size=ALL_ROWS),
    ]
)
def test_scikit_learn(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)
