"""Methods as data: each is a frozen dataclass that turns into a `Plan`, and a plan is all that the solver reads.

Every method is one estimator with other numbers, formed on residuals r_i = dloss(z_i, y_i)/dz of k numbers a row:

    g_i = (r_i(W) - lam c_i) (x) a_i  +  lam m        (+ alpha W, exact, outside the estimator)

| method       | lam | c_i             | m (k, d)             | c and m are rebuilt                  |
|--------------|-----|-----------------|----------------------|--------------------------------------|
| SGD          | 0   | -               | -                    | never                                |
| KD           | lam | r_i(teacher)    | 0                    | never                                |
| RepeatedKD   | lam | r_i(snapshot)   | 0                    | every `refresh` epochs               |
| UnbiasedKD   | lam | r_i(teacher)    | mean of c_i (x) a_i  | never                                |
| SVRG         | lam | r_i(snapshot)   | mean of c_i (x) a_i  | every `refresh` epochs               |
| LSVRG        | lam | r_i(snapshot)   | mean of c_i (x) a_i  | before each step, with a probability |
| SAGA         | 1   | last r_i        | running mean         | row i's entry when row i is visited  |
| LBFGS        | lam | r_i(teacher)    | 0                    | never; all rows are one batch        |

Source: arXiv:2305.17581 (KD as partial variance reduction); the other papers stand with their methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from . import _validation as check
from .schedules import Geometric, Lam

Anchor = Literal["none", "teacher", "snapshot", "table"]
Refresh = Literal["never", "epochs", "random"]
Jacobian = Literal["student", "anchor"]
TeacherUse = Literal["none", "optional", "required"]
Precondition = Literal["auto", "none", "diagonal", "gram"]


@dataclass(frozen=True)
class FullBatch:
    """Quasi-Newton steps on all rows in place of a walk over batches; the fields are those of `LBFGS`."""

    memory: int
    precondition: Precondition
    max_iter: int


@dataclass(frozen=True)
class Plan:
    """A method as the solver sees it.

    anchor: where c_i comes from. lam: a number in [0, 1], a `Geometric` schedule or "auto" (`_weight.py`). centered: add lam m.
    teacher: whether the method takes one. refresh: when a snapshot is taken anew, see `refresh_epochs` (epochs between two)
    and `refresh_probability` (of each step; None: batch_size / n). start: epochs before the first snapshot.
    update_table: row i's entry follows its visits (SAGA). temperature: T of the distillation loss.
    teacher_alpha: L2 weight of the teacher's own objective, the constant -lam teacher_alpha theta.
    jacobian: whose layers the anchor's residuals go through, for a deep linear model; for a linear one there is no difference.
    full_batch: how steps on all rows are made; None for steps on batches.
    soft_targets: it is meant as the gradient of the loss on the teacher's outputs as targets, which equals the difference of
    residuals for losses that are linear in the target only.
    """

    anchor: Anchor = "none"
    lam: Lam = 0.0
    centered: bool = False
    teacher: TeacherUse = "none"
    refresh: Refresh = "never"
    refresh_epochs: int = 1
    refresh_probability: float | None = None
    start: int = 0
    update_table: bool = False
    temperature: float = 1.0
    teacher_alpha: float = 0.0
    jacobian: Jacobian = "student"
    full_batch: FullBatch | None = None
    soft_targets: bool = False


class Method(Protocol):
    """What `solve` asks of a method."""

    def plan(self) -> Plan:
        """The method as data."""


def _check_lam(lam: object, owner: object) -> None:
    if not isinstance(lam, Geometric) and not (isinstance(lam, str) and lam == "auto"):
        also = ", a kdvr_fast.Geometric schedule, or 'auto'"
        check.number(lam, f"lam of {type(owner).__name__}", low=0.0, high=1.0, also=also)


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: lam = 0, so g_i = r_i(W) (x) a_i. The baseline of every comparison.

    Source: Robbins and Monro, "A Stochastic Approximation Method", 1951.
    """

    def plan(self) -> Plan:
        """The method as data."""
        return Plan()


@dataclass(frozen=True)
class KD:
    """Knowledge distillation: g_i = (r_i(W) - lam r_i(teacher)) (x) a_i, biased by -lam grad f(teacher).

    It is the gradient of (1 - lam) loss(y, z) + lam loss(t, z), t the teacher's output; at a temperature T the second term is
    lam T^2 KL(t^T || link(z/T)) and the residual r_i - lam (r_i - T (link(z_i/T) - t_i^T)).

    lam: distillation weight in [0, 1], a `Geometric` schedule, or "auto": estimated from the batches walked so far, anew after
    each epoch (T = 1 only; `kdvr_fast._weight` has the formulas). temperature: T > 0, not for the squared loss.
    form: "standard" (the gradient of that loss) or "shift" (the difference of two gradients, T = 1 only); for linear models at
    T = 1 they are the same numbers; a custom loss that is not linear in its target has the second form alone.
    For a `DeepLinear` model they differ and have second names: with "logit" lam r_i(teacher)
    goes through the student's layers, with "parameter" through those of a teacher of the same shape (`Teacher.layers`).
    teacher_alpha: weight of the L2 term in the teacher's own objective, not negative; adds -lam teacher_alpha theta, for a
    linear teacher only. Raises ValueError for a value outside its range.

    Source: Hinton, Vinyals and Dean, arXiv:1503.02531; arXiv:2305.17581, Proposition 1.

    >>> from kdvr_fast import KD
    >>> KD(lam=0.7).plan().lam
    0.7
    """

    lam: Lam = 0.5
    temperature: float = 1.0
    form: Literal["standard", "shift", "logit", "parameter"] = "standard"
    teacher_alpha: float = 0.0

    def __post_init__(self) -> None:
        _check_lam(self.lam, self)
        check.number(self.temperature, "temperature", above=0.0)
        check.number(self.teacher_alpha, "teacher_alpha", low=0.0)
        check.choice(self.form, ("standard", "shift", "logit", "parameter"), "form")
        if self.form in ("shift", "parameter") and self.temperature != 1.0:
            raise ValueError(
                f"form={self.form!r} subtracts two gradients of the plain loss and has no temperature, got {self.temperature}; "
                "use form='standard' or temperature=1"
            )
        if self.lam == "auto" and self.temperature != 1.0:
            raise ValueError(
                f"lam='auto' weighs a difference of two gradients, which distillation is at temperature=1 only, got "
                f"{self.temperature}; pass a number for lam"
            )

    def plan(self) -> Plan:
        """The method as data."""
        return Plan(
            "teacher",
            self.lam,
            teacher="required",
            temperature=self.temperature,
            teacher_alpha=self.teacher_alpha,
            jacobian="anchor" if self.form in ("shift", "parameter") else "student",
            soft_targets=self.form == "standard",
        )


@dataclass(frozen=True)
class RepeatedKD:
    """Self-distillation from a snapshot: KD with c_i = r_i(snapshot), the snapshot renewed every `refresh` epochs, m = 0.

    The first snapshot is taken after `refresh` epochs; until then the given teacher is used, or plain SGD if there is none.
    lam: in [0, 1], a `Geometric` schedule, or "auto" as for `KD`. refresh: epochs, at least 1.

    Source: arXiv:2305.17581, repeated self-distillation.
    """

    lam: Lam = 0.5
    refresh: int = 1

    def __post_init__(self) -> None:
        _check_lam(self.lam, self)
        check.count(self.refresh, "refresh", low=1)

    def plan(self) -> Plan:
        """The method as data."""
        return Plan("snapshot", self.lam, teacher="optional", refresh="epochs", refresh_epochs=self.refresh, start=self.refresh)


@dataclass(frozen=True)
class UnbiasedKD:
    """Distillation without its bias: g_i = (r_i(W) - lam r_i(teacher)) (x) a_i + lam grad f(teacher).

    The expected step is SGD's, so the optimum stays where it was. lam: in [0, 1], a `Geometric` schedule, or "auto"
    as for `KD`, here the regression coefficient Cov/Var. With a `DeepLinear` model the gradient of a teacher of the same shape
    (`Teacher.layers`) is its own; c_i of any other goes through the student's layers, and so does the mean.

    Source: arXiv:2305.17581, the unbiased estimator; the classical control variate.
    """

    lam: Lam = 1.0

    def __post_init__(self) -> None:
        _check_lam(self.lam, self)

    def plan(self) -> Plan:
        """The method as data."""
        return Plan("teacher", self.lam, centered=True, teacher="required", jacobian="anchor")


@dataclass(frozen=True)
class SVRG:
    """Stochastic variance-reduced gradient: g_i = (r_i(W) - lam r_i(snapshot)) (x) a_i + lam grad f(snapshot).

    lam: the coefficient in [0, 1] (1: SVRG itself), a `Geometric` schedule, or "auto" as for `UnbiasedKD`. refresh: epochs
    between two snapshots, each a full pass. start: epochs of plain SGD before the first snapshot.

    To high accuracy with L2: ``solve(..., method=SVRG(), learning_rate="auto", tol=...)``. At the rate gamma an accuracy eps
    takes about ``b / (n gamma alpha) log(1/eps)`` epochs at worst; b = 1 .. 10 is best, and the few largest curvatures of the
    data set gamma. Where that is too many, as for data with a large condition number, `LBFGS` is the method.

    Source: Johnson and Zhang, NeurIPS 2013; the coefficient: Yin et al., "A Coefficient Makes SVRG Effective",
    arXiv:2311.05589.
    """

    lam: Lam = 1.0
    refresh: int = 1
    start: int = 0

    def __post_init__(self) -> None:
        _check_lam(self.lam, self)
        check.count(self.refresh, "refresh", low=1)
        check.count(self.start, "start", low=0)

    def plan(self) -> Plan:
        """The method as data."""
        return Plan(
            "snapshot",
            self.lam,
            centered=True,
            refresh="epochs",
            refresh_epochs=self.refresh,
            start=self.start,
            jacobian="anchor",
        )


@dataclass(frozen=True)
class LSVRG:
    """Loopless SVRG: SVRG whose snapshot is renewed before each step with a probability.

    probability: in (0, 1], of each step; None: batch_size / n, once an epoch on average. lam: the coefficient in [0, 1], a
    `Geometric` schedule, or "auto" as for `UnbiasedKD`.

    Source: Kovalev, Horvath and Richtarik, "Don't Jump Through Hoops and Remove Those Loops", arXiv:1901.08689.
    """

    probability: float | None = None
    lam: Lam = 1.0

    def __post_init__(self) -> None:
        _check_lam(self.lam, self)
        if self.probability is not None:
            check.number(self.probability, "probability", above=0.0, high=1.0)

    def plan(self) -> Plan:
        """The method as data."""
        return Plan(
            "snapshot", self.lam, centered=True, refresh="random", refresh_probability=self.probability, jacobian="anchor"
        )


@dataclass(frozen=True)
class SAGA:
    """SAGA: c_i is the residual of row i's last visit, m the mean of c_i (x) a_i kept up to date, lam = 1.

    Needs a table of n k numbers, which starts with the residuals of the initial weights (one pass).

    Source: Defazio, Bach and Lacoste-Julien, arXiv:1407.0202.
    """

    def plan(self) -> Plan:
        """The method as data."""
        return Plan("table", 1.0, centered=True, update_table=True)


@dataclass(frozen=True)
class LBFGS:
    """L-BFGS on the full gradient, for solutions of high accuracy: deterministic, one iteration is one row of the history.

    It minimises ``f(W) - lam <m, W> + alpha/2 |W|^2`` with m = grad f(teacher), whose gradient is that of `KD`; up to a
    constant it is (1 - lam) loss(y, z) + lam loss(t, z), t the teacher's output. The penalty must be smooth (l1_ratio = 0).
    ``solve(..., method=LBFGS(), tol=1e-6)`` is all it needs: learning_rate, batch_size, epochs, momentum, average, sampling
    and order do not apply.

    memory: pairs of steps and gradients kept, at least 1. lam: distillation weight in [0, 1]; above 0 it needs a teacher.
    max_iter: iterations, each one pass over the rows or a few. Without tol it runs until then or until rounding hides any
    further decrease. precondition: the metric of the steps, after the Hessian at the current weights, H ~ M (x) G + alpha I,
    looked at anew after 10, 30, 70, 150, ... iterations:

    - "gram": G (d, d), M (k, k); by Cholesky factor. Ill-conditioned data need it. G is made of 16 d rows drawn by their
      curvature, or of all where they are not more. With one output and short rows (64 numbers, non-zeros of sparse rows) it is
      512 d, so close to the Hessian that steps are Newton's: it is looked at in every iteration, and no pairs are kept. Where
      there are many such rows and no initial weights, the first iteration goes to the optimum of a quarter of them or less.
    - "diagonal": the diagonal of G, from all rows.
    - "auto": "gram" where it costs little beside the passes (d up to 512, or up to 2048 if d^2 <= 16 n k), else "diagonal", or
      "none" for sparse rows. With "none", sparse rows fewer than d, zero coef_init and no teacher, all is done on numbers of
      the rows instead of weights.

    Source: Liu and Nocedal, 1989; the compact form of Byrd, Nocedal and Schnabel, 1994; M (x) G as in Martens and Grosse,
    arXiv:1503.05671.

    >>> import numpy as np
    >>> from kdvr_fast import LBFGS, solve
    >>> X, y = np.array([[1.0], [2.0], [3.0]]), np.array([2.0, 4.0, 6.0])
    >>> run = solve(X, y, loss="squared", method=LBFGS(), tol=1e-9, fit_intercept=False, backend="reference")
    >>> str(run.status), round(float(run.coef[0, 0]), 9)
    ('converged', 2.0)
    """

    memory: int = 10
    precondition: Precondition = "auto"
    lam: float = 0.0
    max_iter: int = 1000

    def __post_init__(self) -> None:
        check.count(self.memory, "memory", low=1)
        check.choice(self.precondition, ("auto", "none", "diagonal", "gram"), "precondition")
        check.number(self.lam, "lam of LBFGS", low=0.0, high=1.0)
        check.count(self.max_iter, "max_iter", low=1)

    def plan(self) -> Plan:
        """The method as data."""
        use: TeacherUse = "required" if self.lam else "optional"
        return Plan("teacher", self.lam, teacher=use, full_batch=FullBatch(self.memory, self.precondition, self.max_iter))


METHODS: tuple[type[Method], ...] = (SGD, KD, RepeatedKD, UnbiasedKD, SVRG, LSVRG, SAGA, LBFGS)
