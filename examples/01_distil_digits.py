"""Train a linear teacher on the digits, then students at a larger learning rate: alone, distilled, distilled without bias."""

import kdvr_fast as kd
from kdvr_fast.data import load_digits

data = load_digits()
common = {"loss": "softmax", "batch_size": 10, "alpha": 1e-3, "random_state": 0}

# The teacher sees the same data; its rate falls, so it ends close to the optimum.
trained = kd.solve(data.X, data.y, method=kd.SGD(), learning_rate=kd.Inverse(0.5, decay=0.2), epochs=60, **common)
teacher = kd.Teacher.weights(trained.coef, trained.intercept)

# With L2 the teacher's own penalty belongs to its gradient (teacher_alpha); the unbiased form needs nothing.
students = {"SGD": kd.SGD(), "KD": kd.KD(lam=0.7, teacher_alpha=1e-3), "unbiased KD": kd.UnbiasedKD()}
for name, method in students.items():
    result = kd.solve(
        data.X,
        data.y,
        method=method,
        teacher=None if name == "SGD" else teacher,
        learning_rate=0.5,
        epochs=60,
        track=("objective",),
        **common,
    )
    accuracy = (result.predict(data.X_test) == data.y_test).mean()
    print(f"{name:12s} objective {result.history['objective'][-15:].mean():.4f}   test accuracy {accuracy:.3f}")
