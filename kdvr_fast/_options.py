"""What the options of `solve` mean: each is checked, and turned into what a run works with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import _validation as check
from ._blocks import Blocks
from ._job import Callback, Job
from ._layer_rate import LayerRate, least_norm
from ._layers import Network
from ._problem import teacher_outputs
from ._rows import lies_on_device
from .backends.base import ControlVariate, Problem, Step
from .checkpoint import Checkpoint
from .compression import COMPRESSORS, Compressor
from .deep import DeepLinear
from .losses import Loss
from .methods import METHODS, Method, Plan
from .schedules import Constant, LearningRate
from .teachers import Teacher

TRACKS = ("objective", "statistics", "accuracy")
_NOT_OF_LAYERS = {
    "l1_ratio": "sparse factors have no sparse product; use l1_ratio=0",
    "average": "the product of averaged factors is not the averaged product; lower the rate by a schedule, or average the "
    "weights of each Progress in a callback",
    "compress": "the product of compressed factors is not compressed; leave it out",
    "coef_init": "it begins at layers; pass them, DeepLinear(weights=[W_1, .., W_L])",
}
_CACHE_EPOCHS = 2  # an anchor used for longer is worth the pass that stores its residuals


def last_layer(model: object) -> ArrayLike | None:
    if not isinstance(model, DeepLinear):
        raise TypeError(f"model must be None or a DeepLinear, such as DeepLinear(widths=(64,)), got {model!r}")
    return model.last


def checkpoint(checkpoint: object, method: Method, plan: Plan) -> Checkpoint:
    if not isinstance(checkpoint, Checkpoint):
        raise TypeError(f"checkpoint must be a Checkpoint, such as Checkpoint('run.kdvr'), got {checkpoint!r}")
    if plan.full_batch is not None:
        raise ValueError(
            f"{type(method).__name__} draws nothing and takes few iterations: it keeps no checkpoint; leave it out, and call "
            "again with the weights of an interrupted run as coef_init and intercept_init"
        )
    return checkpoint


def plain_walk(method: Method, **others: Any) -> None:
    """Raise for what does not go together with the state of a walk."""
    if method.plan().full_batch is not None:
        raise ValueError(f"{type(method).__name__} has no momentum to go on with: pass coef_init and intercept_init, not walk")
    for name, value in others.items():
        if value is not None:
            raise ValueError(f"walk and {name} are both given, and each says where the run begins; leave one of them out")


def plain_options(**options: Any) -> None:
    """Raise for what deep linear models do not take."""
    given = {"l1_ratio": options["l1_ratio"] > 0}
    given |= {name: options[name] is not None for name in ("average", "compress", "coef_init")}
    for name, there in given.items():
        if there:
            raise ValueError(f"a DeepLinear model takes no {name}: {_NOT_OF_LAYERS[name]}")


def plan(method: Method, teacher: Teacher | None, loss: Loss) -> Plan:
    names = ", ".join(m.__name__ for m in METHODS)
    if not isinstance(method, METHODS):
        raise TypeError(f"method must be an instance of one of {names}, such as SGD(), got {method!r}")
    plan, name = method.plan(), type(method).__name__
    if teacher is None and plan.teacher == "required":
        kinds = "Teacher.weights(W, b), .logits(Z), .probabilities(P) or .estimator(fitted)"
        raise ValueError(f"{name} needs a teacher: pass teacher={kinds}")
    if teacher is not None and plan.teacher == "none":
        raise ValueError(f"{name} takes no teacher; leave it out, or use KD(lam=0.0) to measure it without its influence")
    if plan.temperature != 1.0 and not loss.probabilities:
        raise ValueError(f"temperature={plan.temperature} has no meaning for loss={loss.name!r}; use temperature=1")
    if plan.soft_targets and not loss.linear_in_target:
        raise ValueError(
            f"{name} is the loss on soft targets, which for loss={loss.name!r}, not linear in its target, is no difference of "
            f"residuals; use {name}(..., form='shift')"
        )
    if plan.lam == "auto" and teacher is not None and not teacher.linear and loss.logits is None:
        raise ValueError(
            f"lam='auto' needs the teacher's loss, which a teacher of {teacher.kind} does not give for loss={loss.name!r}: "
            "pass Teacher.weights, or a number for lam"
        )
    if plan.teacher_alpha and teacher is not None and not teacher.linear:
        raise ValueError(f"teacher_alpha is the L2 term of a linear teacher; a teacher of {teacher.kind} has no weights")
    return plan


def teacher_table(teacher: Teacher | None, plan: Plan, problem: Problem, scan: bool) -> Any:
    """The outputs of a teacher that has no weights."""
    if teacher is None or teacher.linear:
        return None
    return teacher_outputs(teacher, problem, temperature=plan.temperature, scan=scan)


def variate(plan: Plan, teacher: Teacher | None, cached: bool) -> ControlVariate:
    """The form that all control variates of the run have, but for lam; without an anchor source "none"."""
    if plan.anchor == "none" or (plan.anchor == "teacher" and teacher is None):
        return ControlVariate()
    stored = cached or plan.update_table or (plan.anchor == "teacher" and teacher is not None and not teacher.linear)
    return ControlVariate(
        source="table" if stored else "weights",
        use_mean=plan.centered or plan.teacher_alpha > 0,
        update_table=plan.update_table,
        temperature=None if plan.temperature == 1.0 else plan.temperature,
    )


def cached(asked: bool | None, plan: Plan, teacher: Teacher | None, epochs: int | None) -> bool:
    """Whether the residuals of an anchor that has weights are stored. epochs: None where a run may go on for more of them."""
    tempered = plan.temperature != 1.0
    if plan.full_batch is not None:  # the anchor is read once
        return False
    if asked is None:
        most = math.inf if epochs is None else epochs
        lasts = most if plan.refresh == "never" else min(most, plan.refresh_epochs)
        return not tempered and (plan.centered or plan.lam == "auto" or lasts > _CACHE_EPOCHS)
    if check.flag(asked, "cache_anchor"):
        if tempered and teacher is not None and teacher.linear:
            raise ValueError("cache_anchor=True: a tempered linear teacher is computed on the fly; leave cache_anchor out")
        return True
    if plan.update_table:
        raise ValueError("cache_anchor=False: SAGA is its table of residuals; leave cache_anchor out")
    if teacher is not None and not teacher.linear:
        raise ValueError(f"cache_anchor=False: only Teacher.weights is computed on the fly, not a teacher of {teacher.kind}")
    return False


def learning_rate(given: object, problem: Problem, step: Step, sampling: str | Blocks, plan: Plan) -> LearningRate:
    if isinstance(given, LearningRate) and not isinstance(given, type):
        return given
    if isinstance(given, str):
        check.choice(given, ("auto",), "learning_rate")
        if lies_on_device(problem.X):
            raise ValueError(
                "learning_rate='auto' looks at rows on the processor and X lies on a GPU: pass a number or a schedule"
            )
        from .theory import auto_learning_rate

        rate = auto_learning_rate(
            problem.X,
            problem.loss,
            batch_size=step.batch_size,
            alpha=step.l2,
            fit_intercept=problem.fit_intercept,
            sample_weight=problem.weights,
            sampling="shuffle" if sampling == "shuffle" or isinstance(sampling, Blocks) else "replacement",
            recursive=plan.anchor in ("snapshot", "table"),
            momentum=step.momentum,
        )
        return Constant(rate)
    also = ", a schedule such as Cosine(0.1), or 'auto'"
    return Constant(check.number(given, "learning_rate", above=0.0, also=also))


def layer_rate(given: object, job: Job, network: Network) -> LayerRate | None:
    """What "auto" stands for with layers, from a job whose rate is the linear model's; None for any other rate."""
    if not (isinstance(given, str) and isinstance(job.learning_rate, Constant)):
        return None
    return LayerRate(job.learning_rate.value, least_norm(job.problem, network, *job.initial))


def compression(compress: object, method: Method, average_after: int | None) -> Compressor:
    if not isinstance(compress, COMPRESSORS):
        names = ", ".join(c.__name__ for c in COMPRESSORS)
        raise TypeError(f"compress must be an instance of one of {names}, such as TopK(0.5), got {compress!r}")
    if method.plan().full_batch is not None:
        raise ValueError(f"{type(method).__name__} minimises over all weights: leave compress out")
    if average_after is not None:
        raise ValueError("the average of compressed weights is not compressed: leave average or compress out")
    return compress


def nesterov(nesterov: object, momentum: float) -> bool:
    if check.flag(nesterov, "nesterov") and momentum == 0:
        raise ValueError("nesterov=True needs momentum > 0, such as momentum=0.9")
    return bool(nesterov)


def average_after(average: object, epochs: int) -> int | None:
    if isinstance(average, bool | np.bool_):
        return 0 if average else None
    return check.count(average, "average", high=epochs - 1)


def tracked(track: str | Sequence[str], loss: Loss) -> frozenset[str]:
    given = (track,) if isinstance(track, str) else track
    if not isinstance(given, list | tuple | set | frozenset):
        raise TypeError(f"track must be a name or several of {', '.join(TRACKS)}, got {track!r}")
    names = frozenset(check.choice(t, TRACKS, "track") for t in given)
    if "accuracy" in names and loss.targets == "real":
        raise ValueError(f"track='accuracy' needs a classification loss; loss={loss.name!r} has no classes")
    return names


def callbacks(callbacks: Any) -> tuple[Callback, ...]:
    given = tuple(callbacks) if isinstance(callbacks, list | tuple) else (callbacks,)
    for callback in given:
        if not callable(callback):
            raise TypeError(f"callbacks must be functions of one Progress, got {callback!r}")
    return given


def generator(random_state: object) -> tuple[np.random.Generator, int | None]:
    """The generator of the sampling and the seed that makes it anew."""
    if isinstance(random_state, np.random.Generator):
        return random_state, None
    if random_state is None:
        random_state = np.random.SeedSequence().entropy
    seed = check.count(random_state, "random_state", also=" or a numpy Generator")
    return np.random.default_rng(seed), seed
