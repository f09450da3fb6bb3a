"""The distillation weight of an epoch: a number, a schedule, or "auto", estimated from the sums of the batches already walked.

With C = Cov(grad f_i(x), grad f_i(theta)) and V = Var(grad f_i(theta)) over rows, f the batch factor (1/b for independent
rows), gamma the rate over 1 - momentum, and v(lam) = f Var(grad f_i(x) - lam grad f_i(theta)), "auto" is

    where the anchor's mean is added back, the least variance:       lam = C / V
    where it is not, the least of  F* + lam^q D + gamma/4 v(lam):    lam = f C / (f V + 4 D / gamma)       q = 2
                                                                     lam = (f C - 2 D / gamma) / (f V)     q = 1

clipped to [0, 1], or [0, 0.9] with a bias. Steps at a small rate end gamma/4 v above where their mean leads, and that is
from the optimum, F*, at lam = 0 to the teacher, D above it, at lam = 1: for a quadratic as lam^2 (q = 2, the squared loss);
for the others faster at first, since they are flattest at the optimum (q = 1). In `theory.optimal_lambda`, |grad f(theta)|^2 /
kappa stands for 4 D: the same where the Hessian is 2 kappa I, and far from it on ill-conditioned data.

C and V come from the running moments and products of neighbours (`Sums`), at no extra read, forgotten by half in an epoch.
D = F(theta) - F* comes from the teacher's loss, known by the pass at the anchor, and from what the epochs say of F*,

    e = (loss - gamma/4 v - lam^q F(theta)) / (1 - lam^q),

which falls as the run goes on. For F* stands what it would fall to by the end: e_t less log2(epochs / t) times its fall from
epoch t/2 to t, since on ill-conditioned data every doubling of the epochs brings much the same; once lam^q > 0.1, or 0.5 if
q = 2, the last such value, or e where that is less. So as long as SGD makes its way D is large and lam small: a teacher is
followed where SGD stands on its noise floor. A teacher without the student's L2 term adds at most
E = |alpha - teacher_alpha|/2 |W|^2, D becoming (sqrt(D) + sqrt(E))^2.

Until something is known, lam is 0, and 1 for a snapshot whose mean is added back, since that is where the weights are.
Source: derived for small rates from arXiv:2305.17581; the first form is the classical control-variate coefficient, see also
arXiv:2311.05589.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from .backends.base import Sums
from .methods import Plan
from .schedules import Geometric

_KEPT = 0.5  # of the sums, after an epoch
_FIRST_LOOKS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)  # of the first epoch with an anchor
# lam^q up to which e is taken at its word: on its way a run shows F* too high by lam^q / (1 - lam^q) of what it has to go,
# which is soon over where the loss is quadratic
_TRUSTED, _TRUSTED_IF_QUADRATIC = 0.1, 0.5
_MOST_BIASED = 0.9  # at 1 a run would sit at the teacher and learn nothing of the optimum


@dataclass(frozen=True)
class Anchor:
    """What is known of an anchor: |grad f(theta)|^2; its loss and its penalty with the student's alpha, None: no weights."""

    mean_sq: float | None = None
    loss: float = 0.0
    penalty: float | None = None


@dataclass(frozen=True)
class Conditions:
    """Of the run: factor, the variance of a batch's mean over that of a row; the rate; at the weights the penalty, and E."""

    n: int
    factor: float
    rate: float
    penalty: float
    foreign: float = 0.0


@dataclass
class Weight:
    """lam of a run. quadratic: the loss is."""

    plan: Plan
    momentum: float
    quadratic: bool
    epochs: int
    _anchor: Anchor | None = None
    _sums: Sums = field(default_factory=Sums)
    _ends: list[float] = field(default_factory=list)  # e of each epoch
    _optimum: float = np.inf  # F*

    def __post_init__(self) -> None:
        self.auto = self.plan.lam == "auto"
        self._estimate = 1.0 if self.plan.anchor == "snapshot" and self.plan.centered else 0.0

    def value(self, epoch: int) -> float:
        """lam of an epoch, counted from 0."""
        lam = self.plan.lam
        if isinstance(lam, Geometric):
            return lam.value(epoch)
        return self._estimate if lam == "auto" else float(lam)

    def looks(self, n_steps: int) -> list[int]:
        """The steps of the coming epoch after which lam is estimated anew, the last one included."""
        if not self.auto or not self.plan.centered or self._anchor is None or self._sums.rows > 0:
            return [n_steps]
        return sorted({max(1, round(share * n_steps)) for share in _FIRST_LOOKS} | {n_steps})

    def anchored(self, anchor: Anchor) -> None:
        """There is a new anchor."""
        self._anchor = anchor

    def state(self) -> dict[str, Any]:
        """What an epoch leaves to the next, as JSON takes it."""
        anchor = None if self._anchor is None else asdict(self._anchor)
        return {
            "anchor": anchor,
            "sums": asdict(self._sums),
            "ends": list(self._ends),
            "optimum": float(self._optimum),
            "estimate": self._estimate,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._anchor = None if state["anchor"] is None else Anchor(**state["anchor"])
        self._sums, self._ends = Sums(**state["sums"]), list(state["ends"])
        self._optimum, self._estimate = state["optimum"], state["estimate"]

    def observe(self, sums: Sums, lam: float, now: Conditions) -> None:
        """Take in the sums of some batches that were walked with this lam."""
        if not self.auto or not sums.pairs or (self.plan.centered and self._anchor is None):
            return
        s, kept = self._sums, _KEPT ** (sums.rows / now.n)
        for one in fields(s):
            setattr(s, one.name, kept * getattr(s, one.name))
        s.add(sums)
        variance, C, V = _covariances(s, self._anchor)
        if self.plan.centered:
            self._estimate = float(np.clip(C / V, 0.0, 1.0)) if V > 0 else 0.0
            return
        gamma, f = now.rate / (1 - self.momentum), now.factor
        level = 0.0  # F(theta)
        if self._anchor is not None:
            level = self._anchor.loss + (now.penalty if self._anchor.penalty is None else self._anchor.penalty)
        bias = lam * lam if self.quadratic else lam
        floor = gamma / 4 * f * max(0.0, variance - 2 * lam * C + lam * lam * V)
        self._ends.append((sums.loss / sums.rows + now.penalty - floor - bias * level) / (1 - bias))
        t, e = len(self._ends), self._ends[-1]
        if t < 2:
            return
        if bias <= (_TRUSTED_IF_QUADRATIC if self.quadratic else _TRUSTED):
            self._optimum = e - max(0.0, self._ends[t // 2 - 1] - e) * np.log2(self.epochs / t)
        else:
            self._optimum = min(self._optimum, e)
        if self._anchor is None:
            return
        D = (max(0.0, level - self._optimum) ** 0.5 + now.foreign**0.5) ** 2
        top = f * C * gamma if self.quadratic else f * C * gamma - 2 * D
        bottom = f * V * gamma + 4 * D if self.quadratic else f * V * gamma
        self._estimate = float(np.clip(top / bottom, 0.0, _MOST_BIASED)) if bottom > 0 else 0.0


def _covariances(s: Sums, anchor: Anchor | None) -> tuple[float, float, float]:
    """Var(grad f_i(x)), C and V over rows."""
    mean_sq = s.pair_tt / s.pairs if anchor is None or anchor.mean_sq is None else anchor.mean_sq
    return s.xx / s.rows - s.pair_xx / s.pairs, s.xt / s.rows - s.pair_xt / s.pairs, s.tt / s.rows - mean_sq
