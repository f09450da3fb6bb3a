"""Rows without memory: lambda* estimated from n rows against its closed form, and what SGD and KD end at after n rows.

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
methods = {"SGD": kd.SGD(), f"KD({best:.2f})": kd.KD(lam=best), f"UnbiasedKD({unbiased.lam:.2f})": unbiased}
for n in sizes:  # one pass, each row met once; the population's loss less its least is the noise floor, once n is large
    p, teacher = problem(n)
    ends = []
    for name, method in methods.items():
        guide = None if name == "SGD" else teacher
        run = kd.solve(
            p.X, p.y, loss=p.loss, method=method, teacher=guide, learning_rate=RATE, batch_size=BATCH, epochs=1,
            fit_intercept=False, statistics=False, random_state=0,
        )  # fmt: skip
        excess = synthetic.population_stats(p.y, run.coef).loss - exact.loss
        ends.append(f"{name} {excess:.5f}")
    print(f"{n:13,d} rows: excess loss {', '.join(ends)}", flush=True)
