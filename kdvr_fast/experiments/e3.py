"""E3. A linear probe on frozen features, distilled from an earlier run of itself: sentence embeddings, 150 classes.

Varied: weight, with and without the teacher's mean gradient, for teachers of three qualities. How to read it: see `_weights`.
Quick: 256 ReLU features of a fixed random layer on scikit-learn's digits in place of the embeddings.
Source: arXiv:2305.17581, section 5 (there: CIFAR-10 on ResNet-50 features).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ._experiment import Experiment, Reading, Row, Settings
from ._softmax import Study, embeddings_directory
from ._weights import GAP_BY_LAM, cases, gap_by_epoch, grid, table, work


def configure(quick: bool, data: Path | None) -> Settings:
    """Rows have length one in both cases, hence the large rates."""
    checkpoints = (5, 20, 100)
    if quick:
        study = Study("random features of digits", None, 1e-4, 4.0, 10, 100, 4.0, checkpoints)
    else:
        study = Study("embeddings", embeddings_directory(data), 1e-5, 2.0, 10, 40, 2.0, checkpoints)
    chosen = {"methods": ["KD", "unbiased KD"], "teachers": list(checkpoints), "lams": [i / 10 for i in range(11)]}
    return study.plain() | chosen


def read(s: Settings, rows: Sequence[Row]) -> Reading:
    """Best weights and floors."""
    found = cases(s, rows)
    return Reading([case.sentence() for case in found], [table(found)], [case.line("gap_by_lam") for case in found])


EXPERIMENT = Experiment(
    name="e3",
    title="A linear probe on frozen features",
    question="Does distillation lower the noise floor of a linear probe on features that another network made?",
    claim="The picture is that of raw pixels: the right weight lowers the floor.",
    figures=(GAP_BY_LAM, gap_by_epoch("KD"), gap_by_epoch("unbiased KD")),
    configure=configure,
    runs=grid,
    work=work,
    read=read,
)
