"""Rows without memory: lambda* estimated from n rows against its closed form, and the noise floors of SGD and KD over n rows.

`python 05_rows_at_scale.py 1e9` takes minutes and the memory of a thousand rows; without an argument n ends at a million.
"""

import sys

import numpy as np

import kdvr_fast as kd
from kdvr_fast import synthetic

most = round(float(sys.argv[1])) if len(sys.argv) > 1 else 10**6
sizes = [*(10**e for e in range(4, 13) if 10**e < most), most]
BATCH, RATE = 10, 0.02


def problem(n: int) -> tuple[synthetic.SyntheticProblem, kd.Teacher]:
    """Least squares, 100 features; a longer problem begins with the rows of a shorter one."""
    p = synthetic.least_squares(n, 100, condition=10, noise=1.0, random_state=0, virtual=True, dtype=np.float32)
    return p, synthetic.teacher(p, correlation=0.9, random_state=1)


p, teacher = problem(most)
exact = synthetic.population_stats(p.y, p.coef, teacher=teacher, batch_size=BATCH)
best = kd.optimal_lambda(exact, RATE)
for n in sizes:
    p, teacher = problem(n)
    stats = kd.gradient_stats(p.X, p.y, p.coef, loss=p.loss, teacher=teacher, batch_size=BATCH)
    estimate = kd.optimal_lambda(stats, RATE)
    print(
        f"{n:13,d} rows: lambda* {estimate:.7f}, closed form {best:.7f}, relative error {abs(estimate / best - 1):.1e}",
        flush=True,
    )

unbiased = kd.UnbiasedKD(lam=kd.optimal_lambda(exact, RATE, unbiased=True))
timid = kd.KD(lam=kd.optimal_lambda(exact, RATE, kappa=0.1))  # kappa = mu, the least variance of a feature
methods = {
    "SGD": kd.SGD(),
    f"KD({best:.2f})": kd.KD(lam=best),
    f"KD({timid.lam:.2f})": timid,
    f"UnbiasedKD({unbiased.lam:.2f})": unbiased,
}
for n in sizes:  # from the optimum, each row met once: the walk's loss less the optimum's on the same rows is the noise floor
    p, teacher = problem(n)
    least, floors = kd.gradient_stats(p.X, p.y, p.coef, loss=p.loss).loss, []
    for name, method in methods.items():
        guide = None if name == "SGD" else teacher
        run = kd.solve(
            p.X, p.y, loss=p.loss, method=method, teacher=guide, learning_rate=RATE, batch_size=BATCH, epochs=1,
            fit_intercept=False, coef_init=p.coef, statistics=False, random_state=0,
        )  # fmt: skip
        floors.append(f"{name} {run.history['loss'][0] - least:.5f}")
    print(f"{n:13,d} rows: excess loss {', '.join(floors)}", flush=True)
