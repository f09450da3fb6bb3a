"""E4. Teacher quality: the teacher after 1, 5, 20 and 100 epochs of its training, the best weight and the floor it gives.

Varied: teacher and weight, at a rate at which SGD sits on its floor. How to read it: see `_weights`; the weight with the
smallest gap should grow, and that gap fall, from one teacher to the next. Quick: scikit-learn's digits in place of MNIST.
Source: arXiv:2305.17581, section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ._experiment import Experiment, Figure, Reading, Row, Settings
from ._softmax import floor_study
from ._weights import GAP_BY_LAM, cases, gap_by_epoch, grid, table, work


def configure(quick: bool, data: Path | None) -> Settings:
    """MNIST or digits, with L2."""
    study = floor_study(quick, data)
    return study.plain() | {"methods": ["KD"], "teachers": list(study.checkpoints), "lams": [i / 10 for i in range(11)]}


def read(s: Settings, rows: Sequence[Row]) -> Reading:
    """Best weight and floor from teacher to teacher."""
    found = cases(s, rows)
    best, floors = [case.best for case in found], [float(np.mean(case.floor)) for case in found]
    grows, falls = best == sorted(best) and best[0] < best[-1], floors == sorted(floors, reverse=True)
    trend = (
        f"The best weight {'grows' if grows else 'does NOT always grow'} "
        f"and the floor {'falls' if falls else 'does NOT always fall'} with the teacher's training."
    )
    return Reading([trend, *(case.sentence() for case in found)], [table(found)], [case.line("gap_by_lam") for case in found])


EXPERIMENT = Experiment(
    name="e4",
    title="Teacher quality",
    question="Does a better teacher bear a larger weight and give a lower noise floor?",
    claim="The better the teacher, the larger the best weight and the lower the loss.",
    figures=(
        GAP_BY_LAM,
        Figure(
            "gap_by_teacher",
            "Noise floor by the teacher's epochs",
            "sweep",
            "teacher_epochs",
            "gap",
            ("lam",),
            log_x=True,
            log_y=True,
            note="lam = 0 is SGD, whatever the teacher.",
        ),
        gap_by_epoch("KD"),
    ),
    configure=configure,
    runs=grid,
    work=work,
    read=read,
)
