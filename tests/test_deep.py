"""Deep linear models: every layer's gradient and whole trajectories against torch autograd, backends against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from deep_problems import TEACHERS, WIDTHS, layers_of, torch_loss
from problems import LOSS_NAMES, every_complete_backend, make_problem, relative, to_csr

import kdvr_fast as kd
from kdvr_fast._layers import Network, collapses, join, operations, product
from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import ControlVariate, Step

WAYS = {"collapsed": True, "by layers": False}


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


@every_complete_backend
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


@every_complete_backend
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


@every_complete_backend
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


@every_complete_backend
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


def test_noise_floors_against_lam_and_unbiased_steps_that_converge():
    """Least squares, from layers off the optimum: a teacher near it gives plain KD its lowest floor between 0 and 1; with its
    mean added back the floor falls to the last, and a teacher at the optimum leaves none, while SGD stands far above.
    """
    rng, widths = np.random.default_rng(0), (5, 6, 4, 2)
    X = rng.normal(size=(300, 5))
    Y = X @ product(layers_of(widths)).T + 0.5 * rng.normal(size=(300, 2))
    P = np.linalg.lstsq(X, Y, rcond=None)[0].T
    best = float(((X @ P.T - Y) ** 2).sum(1).mean() / 2)

    def floor(method, distance=0.0):
        run = kd.solve(
            X,
            Y,
            loss="squared",
            model=kd.DeepLinear(weights=layers_of(widths)),
            method=method,
            teacher=None if method == kd.SGD() else kd.Teacher.weights(P + distance * np.ones_like(P)),
            learning_rate=0.01,
            batch_size=1,
            epochs=150,
            fit_intercept=False,
            track="objective",
            random_state=0,
        )
        return run.history["objective"][50:].mean() - best

    alone = floor(kd.SGD())
    biased = {lam: floor(kd.KD(lam), 0.05) for lam in (0.3, 0.6, 1.0)}
    unbiased = {lam: floor(kd.UnbiasedKD(lam), 0.05) for lam in (0.3, 0.6, 1.0)}
    assert alone > biased[0.3] > biased[0.6] < biased[1.0] and biased[0.6] < 0.7 * alone
    assert alone > unbiased[0.3] > unbiased[0.6] > unbiased[1.0] > 0 and unbiased[1.0] < 0.1 * alone
    assert abs(floor(kd.UnbiasedKD(1.0))) < 1e-9 * alone


def test_operations_are_those_of_the_formulas():
    widths = (784, 512, 512, 10)
    S = 784 * 512 + 512 * 512 + 512 * 10
    layered, collapsed = operations(widths, 64)
    assert layered == 64 * (3 * S - 784 * 512)
    assert collapsed == 3 * 10 * (S - 512 * 10) + 2 * 64 * 10 * 784
    assert not collapses(widths, 8) and collapses(widths, 16) and collapses(widths, 64)
    assert not collapses((784, 5, 1000), 64)  # a bottleneck: the product is far larger than the layers
