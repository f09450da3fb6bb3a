"""scikit-learn estimators over `solve`: they reshape in and out, check what scikit-learn asks for, and hold no numerics.

`_task.py` is one fit as the engine takes it, `_guide.py` the teacher's outputs, `_labels.py` labels and their classes,
`_watch.py` the end of a run and its progress bar, `_base.py` what the two estimators share.
"""

from ._classifier import KDClassifier
from ._regressor import KDRegressor

__all__ = ["KDClassifier", "KDRegressor"]
