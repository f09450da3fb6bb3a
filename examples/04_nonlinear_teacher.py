"""A teacher that is not linear: a random forest's probabilities steer a linear student without moving its optimum."""

from sklearn.ensemble import RandomForestClassifier

import kdvr_fast as kd
from kdvr_fast.data import load_digits

data = load_digits()
forest = RandomForestClassifier(100, min_samples_leaf=3, random_state=0).fit(data.X, data.y)
print(f"forest: test accuracy {forest.score(data.X_test, data.y_test):.3f}")

# Any fitted classifier will do; it is asked once, in chunks of rows. kd.Teacher.probabilities(P) takes stored outputs.
teacher = kd.Teacher.estimator(forest)


def fit(method: kd.Method, teacher: kd.Teacher | None = None) -> kd.Result:
    result = kd.solve(
        data.X, data.y, loss="softmax", method=method, teacher=teacher, learning_rate=0.5, batch_size=10, alpha=1e-3,
        epochs=40, random_state=0, track=("objective",),
    )  # fmt: skip
    objective, accuracy = result.history["objective"][-10:].mean(), (result.predict(data.X_test) == data.y_test).mean()
    print(f"{type(method).__name__:10s} objective {objective:.4f}   test accuracy {accuracy:.3f}")
    return result


sgd = fit(kd.SGD())
stats = kd.gradient_stats(data.X, data.y, sgd.coef, intercept=sgd.intercept, loss="softmax", teacher=teacher)
lam = round(kd.optimal_lambda(stats, learning_rate=0.5, unbiased=True), 2)
print(f"centred correlation of the gradients {stats.rho_centered:.3f}: best weight of the unbiased teacher {lam}")
fit(kd.KD(lam=lam), teacher)
fit(kd.UnbiasedKD(lam=lam), teacher)
