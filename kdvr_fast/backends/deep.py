"""The contract of a session on a deep linear model, and the half of it that is the same for every backend.

It is `base.Session` with layers in place of coefficients: coef is the layers of a `_layers.Network` as one array (p,), and so
are the mean m and the gradients of a pass. The logits are z = P a + b with P = W_L ... W_1. One step on the batch B, with
r_i and c_i as in `base`, h_l = W_l ... W_1 a, and A_l = W_L ... W_{l+1}:

    own_jacobian:  dW_l = 1/|B| sum A_l^T r_i (x) h_{l-1,i}  -  lam/|B| sum A_l(theta)^T c_i (x) h_{l-1,i}(theta)  +  lam m_l
    else:          dW_l = 1/|B| sum A_l^T (r_i - lam c_i) (x) h_{l-1,i}  +  lam A_l^T m (W_{l-1} ... W_1)^T,   m (k, d)
    db   = 1/|B| sum (r_i - lam c_i)  +  lam m_b

then, for each layer as in `base`, dW_l + l2 W_l, momentum and step. Both forms are unbiased where m is the mean of what is
subtracted. There is neither a threshold (l1) nor a compression, average or table that follows the visits (SAGA), and of the
sums only rows and loss are filled in: a row's norms |h_l| would cost what the collapse saves.

Full passes need the product alone, P = W_L ... W_1, so they are those of a linear session, pulled back to the layers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .._layers import Network
from .base import LARGEST, ControlVariate, FloatArray, Pass, Problem, Session, State, Step, Sums, Walk
from .layer_pass import LayerPass, Reading, read_layers
from .reference import ReferenceSession


class DeepSession(ABC):
    """Passes and anchors by a linear session; a backend adds the weights and the walk."""

    def __init__(self, problem: Problem, network: Network, linear: Session, n_threads: int | None = None) -> None:
        self.problem, self.network, self.linear, self.n_threads = problem, network, linear, n_threads
        self._anchor: FloatArray | None = None  # layers of the anchor where their own Jacobian is used
        self._at: tuple[FloatArray, FloatArray] | None = None  # the anchor as it was given
        self._m: tuple[FloatArray, FloatArray] | None = None  # the mean that was set
        self._rows = ReferenceSession(problem)  # of `layers`: data and anchor
        self._cached = self._mean = False

    # -- what a backend adds -------------------------------------------------------------------------------------------

    @abstractmethod
    def set_weights(self, coef: FloatArray, intercept: FloatArray) -> None:
        """Set all layers (p,) and b (k,); clears the momentum buffers."""

    @abstractmethod
    def weights(self) -> tuple[FloatArray, FloatArray]:
        """Current layers and b."""

    @abstractmethod
    def velocity(self) -> tuple[FloatArray, FloatArray] | None:
        """The momentum buffers (p,) and (k,), None before a step with momentum."""

    @abstractmethod
    def set_velocity(self, coef: FloatArray, intercept: FloatArray) -> None:
        """Set them."""

    @abstractmethod
    def _take_mean(self, mean: FloatArray, mean_intercept: FloatArray) -> None:
        """`set_mean`, for the steps to come."""

    @abstractmethod
    def _place(self, coef: FloatArray, intercept: FloatArray, layers: FloatArray | None) -> None:
        """The anchor's product (k, d) and intercept; its layers with own_jacobian. The linear session has been told."""

    @abstractmethod
    def _walk(
        self,
        order: NDArray[np.int64],
        learning_rates: NDArray[np.float64],
        step: Step,
        variate: ControlVariate,
        collapse: bool | None,
        loss_limit: float,
    ) -> Walk:
        """`epoch` without refreshes."""

    # -- state ---------------------------------------------------------------------------------------------------------

    def set_mean(self, mean: FloatArray, mean_intercept: FloatArray) -> None:
        """Set the constant part: (p,) with own_jacobian, else (k, d); and (k,)."""
        self._m = mean, mean_intercept
        self._take_mean(mean, mean_intercept)

    def state(self, *, anchor: bool = False, table: bool = False) -> State:
        """As `base.Session`: no average, no compression, and never a table, which is a cached anchor's or the teacher's."""
        coef, intercept = self.weights()
        state: State = {"coef": coef, "intercept": intercept, "counts": np.zeros(2, np.int64)}
        velocity = self.velocity()
        if velocity is not None:
            state["velocity"], state["velocity_intercept"] = velocity
        if anchor:
            for name, values in (("anchor", self._at), ("mean", self._m)):
                if values is not None:
                    state[name], state[f"{name}_intercept"] = (v.copy() for v in values)
            state["anchor_flags"] = np.array([self._cached, self._mean])
        return state

    def set_state(self, state: State) -> None:
        """As `base.Session`."""
        self.set_weights(state["coef"], state["intercept"])
        if "velocity" in state:
            self.set_velocity(state["velocity"], state["velocity_intercept"])
        if "anchor_flags" not in state:
            return
        cached, mean = (bool(flag) for flag in state["anchor_flags"])
        if "anchor" in state:
            self.anchor_at(state["anchor"], state["anchor_intercept"], cached=cached, mean=False)
        if "mean" in state:
            self.set_mean(state["mean"], state["mean_intercept"])
        self._cached, self._mean = cached, mean

    # -- passes and anchors --------------------------------------------------------------------------------------------

    def anchor_at(self, coef: FloatArray, intercept: FloatArray, *, cached: bool, mean: bool) -> Pass | None:
        """As `base.Session`; coef is (p,), or the (k, d) of a linear model without own_jacobian."""
        self._cached, self._mean = cached, mean
        own = self.network.own_jacobian
        P = self.network.product(coef) if coef.ndim == 1 else coef
        made = self.linear.anchor_at(P, intercept, cached=cached, mean=mean)
        self._at = coef.copy(), intercept.copy()
        self._anchor = self._at[0] if own else None
        self._rows.table = None
        self._rows.anchor_at(P, intercept, cached=False, mean=False)
        self._place(P, intercept, self._anchor)
        if made is None:
            return None
        pulled = replace(made, grad=self.network.pull(coef, made.grad)) if coef.ndim == 1 else made
        if mean:
            self.set_mean(pulled.grad if own else made.grad, made.grad_intercept)
        return pulled

    def anchor_table(self, values: FloatArray, *, mean: bool) -> Pass | None:
        """As `base.Session`, without own_jacobian; the gradient of the pass is (k, d)."""
        made = self.linear.anchor_table(values, mean=mean)
        self._rows.table = values
        if made is not None and made.anchor_grad is not None and made.anchor_grad_intercept is not None:
            self.set_mean(made.anchor_grad, made.anchor_grad_intercept)
        return made

    def evaluate(self, coef: FloatArray, intercept: FloatArray, variate: ControlVariate) -> Pass:
        """One read of all rows at the given layers; gradients (p,), the anchor's through the layers that a step takes."""
        read = self.linear.evaluate(self.network.product(coef), intercept, variate)
        read = replace(read, grad=self.network.pull(coef, read.grad))
        if read.anchor_grad is None:
            return read
        through = coef if self._anchor is None else self._anchor
        return replace(read, anchor_grad=self.network.pull(through, read.anchor_grad))

    @property
    def anchor_layers(self) -> FloatArray | None:
        """Layers (p,) of the anchor, where it has the student's shape."""
        known = self._rows.table is None and self._at is not None and self._at[0].ndim == 1
        return self._at[0] if known and self._at is not None else None

    def layers(
        self,
        coef: FloatArray,
        intercept: FloatArray,
        variate: ControlVariate,
        which: NDArray[np.int64] | None = None,
    ) -> LayerPass:
        """`evaluate`, and moments of each layer's gradient, by one read through every layer, in NumPy.

        c_i goes where a step's do. which: the rows that are read, None for all.
        """
        if variate.source == "table" and self._rows.table is None:  # cached residuals of an anchor that has weights
            variate = replace(variate, source="weights")
        anchor = None if variate.source == "none" else self._anchor
        return read_layers(Reading(self._rows, self.network, coef, intercept, variate, anchor, which), self.n_threads)

    def epoch(
        self,
        order: NDArray[np.int64],
        learning_rates: NDArray[np.float64],
        step: Step,
        variate: ControlVariate,
        *,
        refresh_at: Sequence[int] = (),
        loss_limit: float = LARGEST,
        collapse: bool | None = None,
    ) -> Walk:
        """As `base.Session`. collapse: steps through the product or layer by layer; None for the cheaper way."""
        sums, passes, steps, b = Sums(), list[Pass](), 0, step.batch_size
        n_steps = -(-len(order) // b)
        for first, last in zip([0, *refresh_at], [*refresh_at, n_steps], strict=True):
            if first in refresh_at:
                made = self.anchor_at(*self.weights(), cached=self._cached, mean=self._mean)
                passes += [] if made is None else [made]
            if first == last:
                continue
            rates = learning_rates if len(learning_rates) == 1 else learning_rates[first:last]
            walk = self._walk(order[first * b : last * b], rates, step, variate, collapse, loss_limit)
            sums.add(walk.sums)
            steps += walk.steps
            if walk.exploded:
                return Walk(sums, steps, passes, exploded=True)
        return Walk(sums, steps, passes)
