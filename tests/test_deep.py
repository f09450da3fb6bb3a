"""Deep linear models: every layer's gradient and whole trajectories against torch autograd, backends against the reference."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from problems import LOSS_NAMES, OUTPUTS, every_compiled_backend, make_problem, relative, to_csr

import kdvr_fast as kd
from kdvr_fast._layers import Network, collapses, join, operations, product
from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import ControlVariate, Step

WAYS = {"collapsed": True, "by layers": False}
WIDTHS = [(), (5,), (3, 9), (30, 2, 11), (8, 8, 8, 8)]  # depths 1 to 5, wider and narrower than d and k


def layers_of(widths, seed=3, scale=1.0):
    rng = np.random.default_rng(seed)
    return [scale * rng.normal(size=shape) / np.sqrt(shape[1]) for shape in Network(widths).shapes]


def torch_loss(torch, loss, y, z):
    F = torch.nn.functional
    if loss == "squared":
        return ((z - y) ** 2).sum(1).mean() / 2
    if loss == "logistic":
        return F.binary_cross_entropy_with_logits(z, y)
    return F.cross_entropy(z, y)


def torch_gradients(torch, loss, A, y, layers, b):
    """Of the mean loss of the rows, for each layer and the intercept."""
    parameters = [torch.tensor(W, requires_grad=True) for W in [*layers, b]]
    h = torch.from_numpy(A)
    for W in parameters[:-1]:
        h = h @ W.T
    torch_loss(torch, loss, torch.from_numpy(y), h + parameters[-1]).backward()
    return [p.grad.numpy() for p in parameters]


def torch_logit_gradients(torch, loss, A, y, layers, b, P, c, lam):
    """The gradient of (1 - lam) loss(y, z) + lam loss(teacher's output, z)."""
    F = torch.nn.functional
    parameters = [torch.tensor(W, requires_grad=True) for W in [*layers, b]]
    h, ty = torch.from_numpy(A), torch.from_numpy(y)
    for W in parameters[:-1]:
        h = h @ W.T
    z, zt = h + parameters[-1], torch.from_numpy(A @ P.T + c)
    if loss == "softmax":
        soft = -(F.softmax(zt, 1) * F.log_softmax(z, 1)).sum(1).mean()
    else:
        soft = torch_loss(torch, loss, zt if loss == "squared" else torch.sigmoid(zt), z)
    ((1 - lam) * torch_loss(torch, loss, ty, z) + lam * soft).backward()
    return [p.grad.numpy() for p in parameters]


def step_gradients(backend, problem, network, layers, b, teacher, lam, collapse):
    """What one step of rate 1 on all rows subtracts, layer by layer."""
    session = get_backend(backend).open_deep(problem, network)
    flat = join(layers, problem.X.dtype)
    session.set_weights(flat, b)
    theta, theta_b = teacher
    session.anchor_at(theta, theta_b, cached=False, mean=False)
    variate = ControlVariate(lam=lam, source="weights") if lam else ControlVariate()
    session.epoch(np.arange(problem.n), np.array([1.0]), Step(problem.n, statistics=False), variate, collapse=collapse)
    moved, moved_b = session.weights()
    return [*network.split(flat - moved), b - moved_b]


@pytest.mark.parametrize("batch", [1, 7, 300])
@pytest.mark.parametrize("form", ["sgd", "logit", "parameter"])
@pytest.mark.parametrize("hidden", WIDTHS, ids=str)
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_gradients_of_torch(backend, loss, hidden, form, batch):
    torch = pytest.importorskip("torch")
    lam = 0.0 if form == "sgd" else 0.7
    problem = make_problem(loss, batch, 6, seed=batch)
    k, d = problem.n_outputs, 6
    widths = (d, *hidden, k)
    network = Network(widths, own_jacobian=form == "parameter")
    layers, theta = layers_of(widths), layers_of(widths, 4)
    b, theta_b = np.linspace(-1, 1, k), np.linspace(1, 0, k)
    if form == "logit":
        P = product(theta)
        expected = torch_logit_gradients(torch, loss, problem.X, problem.y, layers, b, P, theta_b, lam)
    else:
        expected = torch_gradients(torch, loss, problem.X, problem.y, layers, b)
        of_teacher = torch_gradients(torch, loss, problem.X, problem.y, theta, theta_b)
        expected = [g - lam * t for g, t in zip(expected, of_teacher, strict=True)]
    teacher = join(theta, problem.X.dtype), theta_b
    for way, collapse in WAYS.items():
        got = step_gradients(backend, problem, network, layers, b, teacher, lam, collapse)
        scale = max(np.abs(g).max() for g in expected)
        for g, e in zip(got, expected, strict=True):
            np.testing.assert_allclose(g, e, rtol=0, atol=1e-10 * max(1.0, scale), err_msg=way)


RUNS = {
    "SGD": kd.SGD(),
    "KD logit": kd.KD(0.6, form="logit"),
    "KD parameter": kd.KD(0.6, form="parameter"),
    "KD T=2": kd.KD(0.6, temperature=2.0),
    "RepeatedKD": kd.RepeatedKD(0.4),
    "UnbiasedKD": kd.UnbiasedKD(0.8),
    "SVRG": kd.SVRG(),
    "LSVRG": kd.LSVRG(0.1),
}
TEACHERS = {
    "linear": kd.Teacher.weights(layers_of((6, 3))[0], [0.1, 0.0, -0.2]),
    "same shape": kd.Teacher.layers(layers_of((6, 9, 4, 3), 5), [0.1, 0.0, -0.2]),
    "other depth": kd.Teacher.layers(layers_of((6, 5, 3), 5)),
    "probabilities": kd.Teacher.probabilities(np.random.default_rng(1).dirichlet(np.ones(3), 40)),
}


def run(name, teacher, backend, X, y, dtype=np.float64, **options):
    method = RUNS[name]
    use = method.plan().teacher
    return kd.solve(
        X,
        y,
        loss="softmax",
        method=method,
        model=kd.DeepLinear(weights=layers_of((6, 9, 4, 3))),
        teacher=None if use == "none" or (use == "optional" and teacher == "same shape") else TEACHERS[teacher],
        **{
            "learning_rate": 0.05,
            "batch_size": 5,
            "epochs": 3,
            "alpha": 0.01,
            "momentum": 0.5,
            "random_state": 0,
            "backend": backend,
        }
        | options,
    )


def teachers_of(name):
    use = RUNS[name].plan().teacher
    if use == "none":
        return ["linear"]
    return ["same shape"] if name == "KD parameter" else [*TEACHERS]


@every_compiled_backend
@pytest.mark.parametrize("rows", ["dense", "sparse", "compact"])
@pytest.mark.parametrize(("name", "teacher"), [(name, t) for name in RUNS for t in teachers_of(name)])
def test_every_method_against_the_reference(backend, name, teacher, rows):
    problem = make_problem("softmax", 40, 6, 3, density=0.6)
    X = problem.X
    if rows == "sparse":
        X = to_csr(X)
    if rows == "compact":
        X = kd.Compact((20 * X).astype(np.int8), scale=0.05, dtype=np.float64)
    for batch_size in (1, 5, 17, 40):
        expected, got = (run(name, teacher, engine, X, problem.y, batch_size=batch_size) for engine in ("reference", backend))
        for a, b in zip([*got.weights, got.intercept], [*expected.weights, expected.intercept], strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
        np.testing.assert_allclose(got.coef, product(got.weights), rtol=0, atol=1e-14)
        np.testing.assert_allclose(got.history["loss"], expected.history["loss"], rtol=1e-12)


@every_compiled_backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_both_ways_agree_on_wide_layers(backend, loss, dtype):
    """Layers that are cut into chunks and panels, and batches that are; the reference is a third way."""
    problem = make_problem(loss, 300, 130, 7 if loss != "logistic" else None, dtype=dtype, weighted=True, scale=0.1)
    widths = (130, 170, 90, problem.n_outputs)
    flat, theta = (join(layers_of(widths, seed), np.dtype(dtype)) for seed in (3, 4))
    b = np.zeros(problem.n_outputs, dtype)
    for network in (Network(widths), Network(widths, own_jacobian=True)):
        variate = ControlVariate(lam=0.7, source="table", use_mean=network.own_jacobian)
        results = []
        for name, collapse in (("reference", None), (backend, True), (backend, False)):
            session = get_backend(name).open_deep(problem, network)
            session.set_weights(flat, b)
            session.anchor_at(theta, b, cached=True, mean=variate.use_mean)
            step = Step(70, l2=0.01, momentum=0.9, statistics=False)
            session.epoch(np.arange(300), np.array([0.1]), step, variate, collapse=collapse)
            results.append(np.concatenate(session.weights()))
        tolerance = 200 * np.finfo(dtype).eps
        assert relative(results[0], np.append(flat, b)) > 1e-3
        for other in results[1:]:
            assert relative(other, results[0]) < tolerance


@every_compiled_backend
@pytest.mark.parametrize("collapse", WAYS.values(), ids=WAYS)
def test_the_same_bits_at_any_thread_count(backend, collapse):
    problem = make_problem("softmax", 600, 200, 7, dtype=np.float32, scale=0.1)
    network = Network((200, 260, 150, 7), own_jacobian=True)
    flat, b = join(layers_of(network.widths), np.dtype(np.float32)), np.zeros(7, np.float32)
    results = []
    for n_threads in (1, 2, 3):
        session = get_backend(backend).open_deep(problem, network, n_threads)
        session.set_weights(flat, b)
        session.anchor_at(flat, b, cached=True, mean=True)
        variate = ControlVariate(lam=1.0, source="table", use_mean=True)
        step = Step(100, momentum=0.5, statistics=False)
        session.epoch(np.arange(600), np.array([0.1]), step, variate, refresh_at=[2], collapse=collapse)
        results.append(np.concatenate(session.weights()))
    assert all(np.array_equal(results[0], other) for other in results[1:])
    assert relative(results[0], np.append(flat, b)) > 1e-3


def torch_trajectory(torch, form, X, y, orders, layers, theta, lam, rate, momentum, alpha):
    """Plain torch: SGD on the distillation loss, or on the student's loss with the teacher's gradient subtracted."""
    F = torch.nn.functional
    parameters = [torch.tensor(W, requires_grad=True) for W in layers] + [torch.zeros(len(layers[-1]), dtype=torch.float64)]
    parameters[-1].requires_grad_()
    teacher = [torch.tensor(W) for W in theta]
    groups = [{"params": parameters[:-1], "weight_decay": alpha}, {"params": parameters[-1:]}]
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=momentum)
    tX, ty = torch.from_numpy(X), torch.from_numpy(y)

    def forward(A, weights):
        for W in weights:
            A = A @ W.T
        return A

    for rows in orders:
        rows = torch.from_numpy(rows)
        z, zt = forward(tX[rows], parameters[:-1]) + parameters[-1], forward(tX[rows], teacher)
        loss = F.cross_entropy(z, ty[rows])
        if form == "logit":
            loss = (1 - lam) * loss + lam * F.kl_div(F.log_softmax(z, 1), F.softmax(zt, 1), reduction="batchmean")
        optimizer.zero_grad()
        loss.backward()
        if form == "parameter":
            own = [W.clone().requires_grad_() for W in [*teacher, torch.zeros_like(parameters[-1])]]
            F.cross_entropy(forward(tX[rows], own[:-1]) + own[-1], ty[rows]).backward()
            for p, t in zip(parameters, own, strict=True):
                p.grad -= lam * t.grad
        optimizer.step()
    return [p.detach().numpy() for p in parameters]


@every_compiled_backend
@pytest.mark.parametrize("batch", [1, 20])
@pytest.mark.parametrize("form", ["logit", "parameter"])
def test_a_thousand_steps_of_torch(backend, form, batch):
    """Against torch's own loop, same rows and initial layers; with batches of 20 through the product, of 1 by layers."""
    torch = pytest.importorskip("torch")
    problem = make_problem("softmax", 200, 12, 4, seed=2)
    widths, lam, rate, alpha = (12, 16, 8, 4), 0.5, 0.02, 1e-3
    layers, theta = layers_of(widths), layers_of(widths, 4, 0.8)
    order = np.random.default_rng(0).integers(0, 200, (1, 1000 * batch))
    orders = order.reshape(1000, batch)
    expected = torch_trajectory(torch, form, problem.X, problem.y, orders, layers, theta, lam, rate, 0.5, alpha)
    got = kd.solve(
        problem.X,
        problem.y,
        loss="softmax",
        method=kd.KD(lam, form=form),
        model=kd.DeepLinear(weights=layers),
        teacher=kd.Teacher.layers(theta),
        learning_rate=rate,
        batch_size=batch,
        epochs=1,
        order=order,
        momentum=0.5,
        alpha=alpha,
        backend=backend,
    )
    assert collapses(widths, batch) == (batch == 20)
    for a, e in zip([*got.weights, got.intercept], expected, strict=True):
        assert relative(a, e) < 1e-8
    assert min(relative(a, W) for a, W in zip(got.weights, layers, strict=True)) > 0.05


@pytest.mark.parametrize("teacher", ["same shape", "linear"])
@pytest.mark.parametrize("name", ["UnbiasedKD", "SVRG"])
def test_means_that_are_added_back_leave_no_bias(name, teacher):
    """The mean of a step over all rows, one at a time, is the full gradient, through either Jacobian."""
    problem = make_problem("softmax", 30, 6, 3)
    widths = (6, 9, 4, 3)
    own = name == "SVRG" or teacher == "same shape"
    network = Network(widths, own_jacobian=own)
    flat, theta, b = join(layers_of(widths), np.dtype(float)), join(layers_of(widths, 4), np.dtype(float)), np.zeros(3)
    session = get_backend("reference").open_deep(problem, network)
    session.anchor_at(theta if own else network.product(theta), b, cached=True, mean=True)
    variate = ControlVariate(lam=0.8, source="table", use_mean=True)
    steps = []
    for i in range(30):
        session.set_weights(flat, b)
        session.epoch(np.array([i]), np.array([1.0]), Step(1, statistics=False), variate)
        steps.append(flat - session.weights()[0])
    full = session.evaluate(flat, b, ControlVariate()).grad
    np.testing.assert_allclose(np.mean(steps, axis=0), full, rtol=0, atol=1e-13)


def test_operations_are_those_of_the_formulas():
    widths = (784, 512, 512, 10)
    S = 784 * 512 + 512 * 512 + 512 * 10
    layered, collapsed = operations(widths, 64)
    assert layered == 64 * (3 * S - 784 * 512)
    assert collapsed == 3 * 10 * (S - 512 * 10) + 2 * 64 * 10 * 784
    assert not collapses(widths, 8) and collapses(widths, 16) and collapses(widths, 64)
    assert not collapses((784, 5, 1000), 64)  # a bottleneck: the product is far larger than the layers


@pytest.mark.parametrize("hidden", WIDTHS, ids=str)
@pytest.mark.parametrize("init", ["balanced", "orthogonal", "gaussian"])
def test_initial_layers(init, hidden):
    rng = np.random.default_rng(0)
    widths, flat = kd.DeepLinear(widths=hidden, init=init).start(7, 4, np.dtype(float), rng)
    assert widths == (7, *hidden, 4)
    layers = Network(widths).split(flat)
    if init == "balanced":
        for below, above in pairwise(layers):
            np.testing.assert_allclose(above.T @ above, below @ below.T, atol=1e-12)
    if init == "orthogonal":
        for W in layers:
            np.testing.assert_allclose(np.linalg.svd(W, compute_uv=False), 1.0, atol=1e-12)
    assert np.linalg.norm(product(layers)) > 0.1
    again = kd.DeepLinear(widths=hidden, init=init, scale=2.0).start(7, 4, np.dtype(float), np.random.default_rng(0))[1]
    assert np.array_equal(again, 2 * flat)


def test_a_seed_makes_the_same_run_again():
    problem = make_problem("softmax", 40, 6, 3)
    model = kd.DeepLinear(widths=(8,), init="gaussian")
    options = {"loss": "softmax", "model": model, "epochs": 2, "backend": "reference"}
    first = kd.solve(problem.X, problem.y, **options)
    again = kd.solve(problem.X, problem.y, random_state=first.random_state, **options)
    assert all(np.array_equal(a, b) for a, b in zip(first.weights, again.weights, strict=True))
    assert first.weights[0].shape == (8, 6) and first.coef.shape == (3, 6)


def test_history_and_callbacks_see_the_product():
    problem = make_problem("softmax", 40, 6, 3)
    seen = []
    with pytest.warns(kd.ConvergenceWarning):
        result = kd.solve(
            problem.X,
            problem.y,
            loss="softmax",
            model=kd.DeepLinear(widths=(8, 5)),
            method=kd.SVRG(),
            epochs=4,
            alpha=0.01,
            tol=1e-12,
            learning_rate=0.1,
            track=("objective", "accuracy"),
            callbacks=lambda progress: seen.append(progress.coef),
            random_state=0,
            backend="reference",
        )
    np.testing.assert_array_equal(seen[-1], result.coef)
    penalty = 0.005 * sum((W**2).sum() for W in result.weights)
    Z = result.decision_function(problem.X)
    loss = kd.LOSSES["softmax"].value(problem.y, Z).mean()
    assert result.history["objective"][-1] == pytest.approx(loss + penalty, rel=1e-12)
    assert result.history["accuracy"][-1] == pytest.approx((result.predict(problem.X) == problem.y).mean())
    assert np.isfinite(result.history["teacher_cosine"]).all() and np.isnan(result.history["variance"]).all()


REFUSED = [
    ({"method": kd.SAGA()}, "table of every layer"),
    ({"method": kd.LBFGS()}, "convex"),
    ({"method": kd.KD(lam="auto"), "teacher": TEACHERS["linear"]}, "lam='auto'"),
    ({"method": kd.KD(form="parameter"), "teacher": TEACHERS["linear"]}, "form='parameter' .* 6-9-4-3"),
    ({"method": kd.KD(teacher_alpha=0.1), "teacher": TEACHERS["linear"]}, "teacher_alpha"),
    ({"average": True}, "no average"),
    ({"l1_ratio": 0.5}, "no l1_ratio"),
    ({"compress": kd.TopK(0.5)}, "no compress"),
    ({"coef_init": np.zeros((3, 6))}, "no coef_init"),
    ({"learning_rate": "auto"}, "learning_rate='auto'"),
    ({"track": "statistics"}, "track='statistics'"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_deep_models_do_not_take(options, message):
    problem = make_problem("softmax", 40, 6, 3)
    with pytest.raises(ValueError, match=message):
        kd.solve(problem.X, problem.y, loss="softmax", model=kd.DeepLinear(widths=(9, 4)), backend="reference", **options)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: kd.DeepLinear(), ValueError, "one of the two"),
        (lambda: kd.DeepLinear(widths=(3,), weights=[np.eye(2)]), ValueError, "one of the two"),
        (lambda: kd.DeepLinear(widths=5), TypeError, "sequence of integers"),
        (lambda: kd.DeepLinear(widths=(3, 0)), ValueError, r"widths\[1\]"),
        (lambda: kd.DeepLinear(widths=(3,), init="zero"), ValueError, "init='zero'"),
        (lambda: kd.DeepLinear(weights=[np.eye(3), np.eye(2)]), ValueError, r"weights\[1\] takes 2 numbers, .* gives 3"),
        (lambda: kd.DeepLinear(weights=np.eye(3)), TypeError, "list of matrices"),
        (lambda: kd.Teacher.layers([np.full((2, 2), np.nan)]), ValueError, "row 0"),
    ],
)
def test_models_that_make_no_sense(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_layers_must_fit_the_data():
    problem = make_problem("softmax", 40, 6, 3)
    for weights, message in (([np.zeros((3, 5))], "5 features"), ([np.zeros((2, 6))], "label 2")):
        with pytest.raises(ValueError, match=message):
            kd.solve(problem.X, problem.y, loss="softmax", model=kd.DeepLinear(weights=weights), backend="reference")
    with pytest.raises(TypeError, match="DeepLinear"):
        kd.solve(problem.X, problem.y, loss="softmax", model=(9, 4), backend="reference")


def test_depth_one_is_the_linear_model(backend):
    problem = make_problem("squared", 40, 6, OUTPUTS["squared"])
    W = layers_of((6, problem.n_outputs))
    options = {"loss": "squared", "epochs": 2, "learning_rate": 0.01, "momentum": 0.5, "alpha": 0.1, "random_state": 3}
    linear = kd.solve(problem.X, problem.y, coef_init=W[0], backend=backend, **options)
    deep = kd.solve(problem.X, problem.y, model=kd.DeepLinear(weights=W), backend=backend, **options)
    np.testing.assert_allclose(deep.coef, linear.coef, rtol=0, atol=1e-13)
    np.testing.assert_allclose(deep.history["loss"], linear.history["loss"], rtol=1e-12)
