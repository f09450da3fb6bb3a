"""Every method on one problem at the same learning rate, with what it spent: gradient evaluations / n, full passes counted."""

import numpy as np

import kdvr_fast as kd

rng = np.random.default_rng(0)
X = rng.standard_normal((2000, 30)) * np.linspace(1.0, 0.1, 30)
truth = rng.standard_normal((1, 30))
y = (X @ truth[0] + rng.logistic(size=2000) > 0).astype(float)

common = {"loss": "logistic", "batch_size": 5, "alpha": 1e-2, "random_state": 0}
best = kd.solve(X, y, method=kd.SAGA(), learning_rate=0.05, epochs=60, track=("objective",), **common)
optimum = best.history["objective"][-1]
teacher = kd.Teacher.weights(best.coef + 0.05 * rng.standard_normal((1, 30)), best.intercept)

methods = (kd.SGD(), kd.KD(0.7), kd.RepeatedKD(0.3), kd.UnbiasedKD(), kd.SVRG(), kd.SVRG(0.8), kd.LSVRG(), kd.SAGA())
for method in methods:
    given = teacher if isinstance(method, kd.KD | kd.UnbiasedKD) else None
    result = kd.solve(X, y, method=method, teacher=given, learning_rate=0.2, epochs=20, track=("objective",), **common)
    gap = max(0.0, result.history["objective"][-5:].mean() - optimum)  # below 1e-15 it is rounding
    spent = result.history["grad_evals"][-1]
    print(f"{type(method).__name__:10s} lam {method.plan().lam:.1f} {spent:5.0f} evaluations   f - f* = {gap:.1e}")
