"""Small networks through torch, with the gradient of every row: standard and shift distillation gradients, their cosine.

x: a student's parameters, theta a teacher's of the same architecture. For row i
    standard   grad_x of (1 - lam) loss(z_i(x), y_i) + lam loss(z_i(x), p_i(theta)): the student's Jacobian on r_x - lam r_theta
    shift      grad f_i(x) - lam grad f_i(theta): each its own Jacobian on its own residual
Shapes: images (n, 1, side, side), y (n,), per-row gradients (n, P). Source: arXiv:2305.17581, section 4; torch.func.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

ARCHITECTURES = ("ReLU", "convolutional")


def torch_is_missing() -> str | None:
    """Why networks cannot run here, None if they can."""
    if find_spec("torch") is None:
        return "networks need torch, which is not installed: pip install torch"
    return None


@contextmanager
def one_thread(seed: int) -> Iterator[Any]:
    """torch, on one thread and with a generator of its own; afterwards as it was."""
    torch = import_module("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield torch
    finally:
        torch.set_num_threads(threads)


def build(architecture: str, side: int, hidden: int, classes: int) -> Any:
    """A network of images of side x side pixels: "ReLU" (one hidden layer), "convolutional", or "linear"."""
    nn = import_module("torch").nn
    pixels = side * side
    if architecture == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes))
    if architecture == "ReLU":
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, classes))
    channels, pooled = 8, side // 2
    convolution = nn.Conv2d(1, channels, 3, padding=1)
    return nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(channels * pooled * pooled, classes))


def train(
    model: Any,
    images: Any,
    y: Any,
    targets: Any | None,
    *,
    lam: float,
    learning_rate: float,
    weight_decay: float,
    batch_size: int,
    epochs: int,
    after: Callable[[int], None],
) -> None:
    """SGD on (1 - lam) loss(z, y) + lam loss(z, targets), rows shuffled anew each epoch; `after` is told of each."""
    torch = import_module("torch")
    cross_entropy = torch.nn.functional.cross_entropy
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    for epoch in range(1, epochs + 1):
        for rows in torch.randperm(len(y)).split(batch_size):
            z = model(images[rows])
            loss = cross_entropy(z, y[rows])
            if targets is not None:
                loss = (1 - lam) * loss + lam * cross_entropy(z, targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        after(epoch)


def probabilities(model: Any, images: Any) -> Any:
    """Of all rows, without gradients."""
    torch = import_module("torch")
    with torch.no_grad():
        return model(images).softmax(dim=1)


def row_gradients(model: Any, images: Any, targets: Any) -> Any:
    """The gradient of every row's loss, (n, P); targets are probabilities (n, k)."""
    torch = import_module("torch")
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(p: Any, image: Any, target: Any) -> Any:
        z = torch.func.functional_call(model, p, (image[None],))
        return torch.nn.functional.cross_entropy(z, target[None])

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, images, targets)
    return torch.cat([g.reshape(len(images), -1) for g in gradients.values()], dim=1)


def compare(model: Any, teacher: Any, images: Any, onehot: Any, lam: float) -> dict[str, float]:
    """Cosine of the two forms' mean gradients, and both forms' variance over the rows relative to that of grad f_i(x)."""
    plain = row_gradients(model, images, onehot)
    soft = (1 - lam) * onehot + lam * probabilities(teacher, images)
    standard = row_gradients(model, images, soft)
    shift = plain - lam * row_gradients(teacher, images, onehot)
    a, b = standard.mean(dim=0).double(), shift.mean(dim=0).double()
    variances = [float(g.double().var(dim=0, correction=0).sum()) for g in (plain, standard, shift)]
    return {
        "cosine": float(a @ b / (a.norm() * b.norm())),
        "standard_variance_ratio": variances[1] / variances[0],
        "shift_variance_ratio": variances[2] / variances[0],
    }
