"""How much of the gradient noise a teacher explains: one read of the data answers, and gives the best weight for it."""

import kdvr_fast as kd
from kdvr_fast.data import load_digits

data = load_digits()
common = {"loss": "softmax", "method": kd.SGD(), "batch_size": 10, "random_state": 0}
student = kd.solve(data.X, data.y, learning_rate=0.1, epochs=30, **common)

print("teacher  rho centred  snr     best lam  unbiased  noise left with the unbiased one")
for epochs in (1, 5, 30):
    trained = kd.solve(data.X, data.y, learning_rate=kd.Inverse(0.1, decay=0.1), epochs=epochs, **common)
    stats = kd.gradient_stats(
        data.X,
        data.y,
        student.coef,
        intercept=student.intercept,
        loss="softmax",
        teacher=kd.Teacher.weights(trained.coef, trained.intercept),
    )
    lam = kd.optimal_lambda(stats, learning_rate=0.1)
    lam_unbiased = kd.optimal_lambda(stats, learning_rate=0.1, unbiased=True)
    left = stats.variance_at(lam_unbiased) / stats.variance
    print(f"{epochs:2d} ep.   {stats.rho_centered:8.3f}  {stats.snr:9.4f}  {lam:8.3f}  {lam_unbiased:8.3f}  {left:8.3f}")
