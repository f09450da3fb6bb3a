"""Losses of your own: Huber, Poisson, squared hinge and focal, each with a teacher, compiled by the numba backend.

A loss is two functions of one target and one logit (or of a row of them), its value and its derivative, which are checked
against each other when the loss is made. Needs `pip install '.[numba]'`; backend="reference" runs the same anywhere, slowly.
"""

from __future__ import annotations

import math

import numpy as np

import kdvr_fast as kd

# -- four losses -------------------------------------------------------------------------------------------------------


def huber(y: float, z: float) -> float:
    e = abs(z - y)
    return e * e / 2 if e < 1.0 else e - 0.5


def huber_residual(y: float, z: float) -> float:
    return min(max(z - y, -1.0), 1.0)


def poisson(y: float, z: float) -> float:
    return math.exp(z) - y * z


def poisson_residual(y: float, z: float) -> float:
    return math.exp(z) - y


def squared_hinge(y: float, z: float) -> float:
    margin = max(1 - (2 * y - 1) * z, 0.0)
    return margin * margin


def squared_hinge_residual(y: float, z: float) -> float:
    return -2 * (2 * y - 1) * max(1 - (2 * y - 1) * z, 0.0)


def focal(y: float, z: float) -> float:
    """(1 - p)^2 log(1 / p), p the probability of the class that y names: rows fitted already count little."""
    s = z if y > 0.5 else -z
    p = 1 / (1 + math.exp(-s))
    return (1 - p) ** 2 * math.log1p(math.exp(-s))


def focal_residual(y: float, z: float) -> float:
    s = z if y > 0.5 else -z
    p = 1 / (1 + math.exp(-s))
    slope = -((1 - p) ** 2) * (2 * p * math.log1p(math.exp(-s)) + 1 - p)
    return slope if y > 0.5 else -slope


def zero_or_one(y: float) -> bool:
    return y == 0 or y == 1


LOSSES = [
    kd.Loss.custom(huber, huber_residual, smoothness=1.0),
    kd.Loss.custom(poisson, poisson_residual, link=math.exp, linear_in_target=True, domain=lambda y: y >= 0),
    kd.Loss.custom(squared_hinge, squared_hinge_residual, targets="unit", domain=zero_or_one, smoothness=2.0),
    kd.Loss.custom(focal, focal_residual, targets="unit", domain=zero_or_one),
]


def targets(loss: kd.Loss, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Targets that suit the loss, from the logits of a true model; Huber's with one gross error in twenty."""
    if loss.name == "huber":
        return z + 0.3 * rng.normal(size=len(z)) + 50.0 * (rng.random(len(z)) < 0.05)
    if loss.name == "poisson":
        return rng.poisson(np.exp(z)).astype(float)
    return (rng.random(len(z)) < 1 / (1 + np.exp(-3 * z))).astype(float)


def main() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 20))
    truth = rng.normal(size=20) / 5
    for loss in LOSSES:
        y = targets(loss, X @ truth, rng)
        task = {"loss": loss, "alpha": 1e-3, "track": "objective", "random_state": 0, "backend": "numba"}
        best = kd.solve(X, y, method=kd.LBFGS(), tol=1e-6, **task)
        teacher = kd.Teacher.weights(best.coef + 0.02 * rng.normal(size=best.coef.shape), best.intercept)
        optimum = best.history["objective"][-1]
        floors = []
        for method, given in ((kd.SGD(), None), (kd.UnbiasedKD(), teacher)):
            run = kd.solve(X, y, method=method, teacher=given, learning_rate=0.03, epochs=30, **task)
            floors.append(run.history["objective"][-10:].mean() - optimum)
        near = np.corrcoef(best.coef[0], truth)[0, 1]
        print(f"{loss.name:14} correlation with the truth {near:.3f}  floor of SGD {floors[0]:.1e}, taught {floors[1]:.1e}")


if __name__ == "__main__":
    main()
