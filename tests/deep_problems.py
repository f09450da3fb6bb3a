"""Layers, teachers and losses that the tests of deep linear models share."""

from __future__ import annotations

import numpy as np

import kdvr_fast as kd
from kdvr_fast._layers import Network

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


TEACHERS = {
    "linear": kd.Teacher.weights(layers_of((6, 3))[0], [0.1, 0.0, -0.2]),
    "same shape": kd.Teacher.layers(layers_of((6, 9, 4, 3), 5), [0.1, 0.0, -0.2]),
    "other depth": kd.Teacher.layers(layers_of((6, 5, 3), 5)),
    "probabilities": kd.Teacher.probabilities(np.random.default_rng(1).dirichlet(np.ones(3), 40)),
}
