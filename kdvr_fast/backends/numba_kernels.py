"""The steps and passes of `base.py` as numba kernels, for dense and sparse rows; what is said there is done here, row by row.

W, m, the anchor and their like are flat arrays of k d numbers, output after output for dense rows and feature after feature
for sparse ones; what reads a row knows which (`dot`, `push`), and everything else does not care. Within `walk`

    W = scale V + shift m

stands for the weights, V being stored: decay and the constant part of a step are two numbers then, and a step costs what its
rows hold. V is made W again (`_fold`) once as many numbers were read as a row can have, for dense rows in every step.

All compiled code that calls each other is in this file, since numba's cache looks for changes in the file of the kernel alone.
The loss comes as a pointer to a compiled function of a batch (`numba_losses.py`), so that one cached kernel serves all losses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
from numba import types
from numba.extending import overload

F = TypeVar("F", bound=Callable[..., Any])
_compile: Any = numba.njit
_typeof: Any = numba.typeof

_SMALLEST_SCALE = 1e-3  # below, what is added to V would be rounded away
_NONE, _WEIGHTS, _TABLE = 0, 1, 2  # sources of c
SOURCES = {"none": _NONE, "weights": _WEIGHTS, "table": _TABLE}
LOSS, XX, XT, TT, PAIRS, PAIR_XX, PAIR_XT, PAIR_TT = range(8)  # places of `sums`
# sums may be reordered, so that they use vectors, and products fused; infinities and NaN keep their meaning: runs that
# diverge are told by them
_REORDERED = {"reassoc", "contract"}


class Dense(NamedTuple):
    """Row i is values[first + i step:][:d]; values: the memory from the first number to the last."""

    values: Any
    first: int
    step: int
    d: int


class Sparse(NamedTuple):
    """Rows of a CSR matrix."""

    data: Any
    indices: Any
    indptr: Any
    d: int


class Data(NamedTuple):
    """y: targets (n, k) of X's dtype and labels (n,), of which one is empty; s (n,), empty for all ones."""

    targets: Any
    labels: Any
    s: Any
    n: int
    free: bool  # whether there is an intercept


class State(NamedTuple):
    """Weights, momentum buffer, running average (float64), a gradient's buffer, each with the intercept's part."""

    W: Any
    b: Any
    V: Any
    V_b: Any
    mean: Any
    mean_b: Any
    G: Any
    G_b: Any


class Anchor(NamedTuple):
    """W, b where source is "weights", table (n, k) where it is "table", m and m_b."""

    W: Any
    b: Any
    table: Any
    m: Any
    m_b: Any


class Scratch(NamedTuple):
    """Of a batch: z, r, c, and room for the anchor's logits and what a link gives, (rows, k); losses (rows,), the anchor's too.

    last_r, last_c: s r and s c of the row before a pair's second, (k,).
    """

    z: Any
    r: Any
    c: Any
    a: Any
    p: Any
    loss: Any
    other: Any
    last_r: Any
    last_c: Any


class Form(NamedTuple):
    """`base.ControlVariate`; temperature 0 for None."""

    lam: float
    source: int
    use_mean: bool
    update_table: bool
    temperature: float


class Options(NamedTuple):
    """`base.Step` but for the compression."""

    batch_size: int
    l2: float
    l1: float
    momentum: float
    nesterov: bool
    average: bool
    statistics: bool
    pairs_every: int


def _inner(function: F) -> F:
    """Compiled into the kernels that call it, without the doors for other callers, which take longer to compile."""
    compiled: F = _compile(fastmath=_REORDERED, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
    return compiled


# -- rows --------------------------------------------------------------------------------------------------------------


def dot(rows: Any, index: Any, W: Any, z: Any) -> None:
    """z_pc = <a_i, W_c> of the rows i = index[p]."""


def push(rows: Any, index: Any, q: Any, W: Any) -> None:
    """W_c += q_pc a_i of the rows i = index[p]."""


def product(rows: Any, i: int, j: int) -> Any:
    """<a_i, a_j>."""


def count(rows: Any, i: int) -> Any:
    """Numbers that row i holds."""


def _is_dense(rows: Any) -> bool:
    return bool(rows.instance_class is Dense)


@_inner
def _row(rows: Any, i: int) -> Any:
    start = rows.first + i * rows.step
    return rows.values[start : start + rows.d]


@_inner
def _four(rows: Any, index: Any, p: int) -> Any:
    return _row(rows, index[p]), _row(rows, index[p + 1]), _row(rows, index[p + 2]), _row(rows, index[p + 3])


@overload(dot, jit_options={"fastmath": _REORDERED})
def _dot(rows: Any, index: Any, W: Any, z: Any) -> Any:
    def dense(rows: Any, index: Any, W: Any, z: Any) -> None:
        d, size, zero = rows.d, index.size, W.dtype.type(0)
        for p in range(0, size - 3, 4):  # four rows share what is read of W
            a, b, e, f = _four(rows, index, p)
            for c in range(z.shape[1]):
                w = W[c * d : c * d + d]
                at, to, on, by = zero, zero, zero, zero
                for j in range(d):
                    at += a[j] * w[j]
                    to += b[j] * w[j]
                    on += e[j] * w[j]
                    by += f[j] * w[j]
                z[p, c], z[p + 1, c], z[p + 2, c], z[p + 3, c] = at, to, on, by
        for p in range(size - size % 4, size):
            a = _row(rows, index[p])
            for c in range(z.shape[1]):
                w = W[c * d : c * d + d]
                at = zero
                for j in range(d):
                    at += a[j] * w[j]
                z[p, c] = at

    def sparse(rows: Any, index: Any, W: Any, z: Any) -> None:
        k = z.shape[1]
        for p in range(index.size):
            z[p, :] = 0
            for e in range(rows.indptr[index[p]], rows.indptr[index[p] + 1]):
                w = W[np.int64(rows.indices[e]) * k : np.int64(rows.indices[e]) * k + k]
                x = rows.data[e]
                for c in range(k):
                    z[p, c] += x * w[c]

    return dense if _is_dense(rows) else sparse


@overload(push, jit_options={"fastmath": _REORDERED})
def _push(rows: Any, index: Any, q: Any, W: Any) -> Any:
    def dense(rows: Any, index: Any, q: Any, W: Any) -> None:
        d, size = rows.d, index.size
        for p in range(0, size - 3, 4):
            a, b, e, f = _four(rows, index, p)
            for c in range(q.shape[1]):
                w = W[c * d : c * d + d]
                at, to, on, by = q[p, c], q[p + 1, c], q[p + 2, c], q[p + 3, c]
                for j in range(d):
                    w[j] += at * a[j] + to * b[j] + on * e[j] + by * f[j]
        for p in range(size - size % 4, size):
            a = _row(rows, index[p])
            for c in range(q.shape[1]):
                w, at = W[c * d : c * d + d], q[p, c]
                for j in range(d):
                    w[j] += at * a[j]

    def sparse(rows: Any, index: Any, q: Any, W: Any) -> None:
        k = q.shape[1]
        for p in range(index.size):
            for e in range(rows.indptr[index[p]], rows.indptr[index[p] + 1]):
                w = W[np.int64(rows.indices[e]) * k : np.int64(rows.indices[e]) * k + k]
                x = rows.data[e]
                for c in range(k):
                    w[c] += x * q[p, c]

    return dense if _is_dense(rows) else sparse


@overload(product, jit_options={"fastmath": _REORDERED})
def _product(rows: Any, i: int, j: int) -> Any:
    def dense(rows: Any, i: int, j: int) -> Any:
        d = rows.d
        a = rows.values[rows.first + i * rows.step : rows.first + i * rows.step + d]
        b = rows.values[rows.first + j * rows.step : rows.first + j * rows.step + d]
        total = a.dtype.type(0)
        for e in range(d):
            total += a[e] * b[e]
        return np.float64(total)

    def sparse(rows: Any, i: int, j: int) -> Any:
        p, q, total = rows.indptr[i], rows.indptr[j], 0.0
        while p < rows.indptr[i + 1] and q < rows.indptr[j + 1]:
            at, to = rows.indices[p], rows.indices[q]
            if at == to:
                total += np.float64(rows.data[p]) * np.float64(rows.data[q])
            p += at <= to
            q += to <= at
        return total

    return dense if _is_dense(rows) else sparse


@overload(count)
def _count(rows: Any, i: int) -> Any:
    def dense(rows: Any, i: int) -> Any:
        return rows.d

    def sparse(rows: Any, i: int) -> Any:
        return rows.indptr[i + 1] - rows.indptr[i]

    return dense if _is_dense(rows) else sparse


# -- a batch -----------------------------------------------------------------------------------------------------------


@_inner
def _logits(rows: Any, index: Any, W: Any, b: Any, z: Any) -> None:
    """z_i = W a_i + b of the rows in `index`."""
    dot(rows, index, W, z)
    for p in range(index.size):
        for c in range(b.size):
            z[p, c] += b[c]


@_inner
def _scaled_logits(rows: Any, index: Any, state: State, m: Any, scale: float, shift: float, s: Scratch) -> None:
    """z_i = (scale V + shift m) a_i + b of the rows in `index`."""
    by, far = s.z.dtype.type(scale), s.z.dtype.type(shift)
    dot(rows, index, state.W, s.z)
    if shift != 0:
        dot(rows, index, m, s.p)
    for p in range(index.size):
        for c in range(state.b.size):
            s.z[p, c] = by * s.z[p, c] + (far * s.p[p, c] if shift != 0 else by * 0) + state.b[c]


@_inner
def _subtract(rows: Any, data: Data, index: Any, residuals: Any, link: Any, anchor: Anchor, form: Form, s: Scratch) -> None:
    """c of the rows in `index`, before the sample weights, from their z and r."""
    size, k = index.size, anchor.b.size
    if form.source == _WEIGHTS:
        _logits(rows, index, anchor.W, anchor.b, s.a)
    if form.temperature > 0:
        T = s.z.dtype.type(form.temperature)
        if form.source == _WEIGHTS:
            for p in range(size):
                for c in range(k):
                    s.a[p, c] /= T
            link(s.a[:size], s.c[:size])
        for p in range(size):
            for c in range(k):
                s.a[p, c] = s.z[p, c] / T
        link(s.a[:size], s.p[:size])
        for p in range(size):
            for c in range(k):
                t = anchor.table[index[p], c] if form.source == _TABLE else s.c[p, c]
                s.c[p, c] = s.r[p, c] - T * (s.p[p, c] - t)
    elif form.source == _WEIGHTS:
        residuals(data.targets, data.labels, index, s.a[:size], s.other[:size], s.c[:size])
    else:
        for p in range(size):
            for c in range(k):
                s.c[p, c] = anchor.table[index[p], c]


@_inner
def _weight(data: Data, i: int) -> Any:
    return data.s[i] if data.s.size else data.targets.dtype.type(1)


@_inner
def _inner_products(data: Data, r: Any, c: Any, form: Form, norm: float, weight: float, sums: Any) -> None:
    """Add a row's second moments to the sums; weight: s_i^2."""
    xx = xt = tt = 0.0
    for o in range(r.size):
        x = np.float64(r[o])
        xx += x * x
        if form.source != _NONE:
            xt += x * np.float64(c[o])
            tt += np.float64(c[o]) * np.float64(c[o])
    sums[XX] += weight * xx * norm
    sums[XT] += weight * xt * norm
    sums[TT] += weight * tt * norm


@_inner
def _pair(rows: Any, data: Data, i: int, j: int, r: Any, c: Any, form: Form, s: Scratch, sums: Any) -> None:
    """Add the products of row j and the row i before it, whose s r and s c are `last_r` and `last_c`."""
    xx = xt = tt = 0.0
    for o in range(r.size):
        x, y = np.float64(s.last_r[o]), np.float64(r[o])
        xx += x * y
        if form.source != _NONE:
            xt += (x * np.float64(c[o]) + np.float64(s.last_c[o]) * y) / 2
            tt += np.float64(s.last_c[o]) * np.float64(c[o])
    norm = (product(rows, i, j) + data.free) * np.float64(_weight(data, j))
    sums[PAIRS] += 1
    sums[PAIR_XX] += xx * norm
    sums[PAIR_XT] += xt * norm
    sums[PAIR_TT] += tt * norm


@_inner
def _moments(rows: Any, data: Data, order: Any, start: int, stop: int, every: int, form: Form, s: Scratch, sums: Any) -> None:
    """The sums of a batch of the walk but for the loss."""
    for p in range(stop - start):
        i = order[start + p]
        weight = np.float64(_weight(data, i))
        _inner_products(data, s.r[p], s.c[p], form, product(rows, i, i) + data.free, weight * weight, sums)
        at = start + p
        if at > 0 and at % every == 0:
            _pair(rows, data, order[at - 1], i, s.r[p], s.c[p], form, s, sums)
        if (at + 1) % every == 0:
            for o in range(s.last_r.size):
                s.last_r[o], s.last_c[o] = _weight(data, i) * s.r[p, o], _weight(data, i) * s.c[p, o]


@_inner
def _total_loss(data: Data, index: Any, loss: Any) -> float:
    total = 0.0
    for p in range(index.size):
        total += np.float64(_weight(data, index[p]) * loss[p])
    return total


# -- a step ------------------------------------------------------------------------------------------------------------


@_inner
def _push_batch(rows: Any, data: Data, index: Any, factor: float, form: Form, s: Scratch, W: Any, b: Any) -> None:
    """Add factor times the sum of s_i (r_i - lam c_i) (x) a_i to W, and without the a_i to b."""
    T = s.z.dtype.type
    lam = T(form.lam)
    for p in range(index.size):
        f = T(factor) * _weight(data, index[p])
        for c in range(b.size):
            s.p[p, c] = f * (s.r[p, c] - lam * s.c[p, c] if form.source != _NONE else s.r[p, c])
            b[c] += s.p[p, c]
    push(rows, index, s.p, W)


@_inner
def _fold(W: Any, m: Any, scale: float, shift: float) -> None:
    """W = scale W + shift m."""
    by = W.dtype.type(scale)
    if shift != 0:
        far = W.dtype.type(shift)
        for e in range(W.size):
            W[e] = by * W[e] + far * m[e]
    elif scale != 1:
        for e in range(W.size):
            W[e] *= by


@_inner
def _momentum_step(state: State, anchor: Anchor, eta: float, o: Options, form: Form, free: bool) -> None:
    """g = G + l2 W + lam m; v = mu v + g; W = W - eta p, from the buffer's gradient G."""
    T = state.W.dtype.type
    rate, l2, mu = T(eta), T(o.l2), T(o.momentum)
    lam = T(form.lam) if form.use_mean else T(0)
    for e in range(state.W.size):
        g = state.G[e] + l2 * state.W[e] + lam * anchor.m[e]
        state.V[e] = mu * state.V[e] + g
        state.W[e] -= rate * (g + mu * state.V[e] if o.nesterov else state.V[e])
    if free:
        for c in range(state.b.size):
            g = state.G_b[c] + lam * anchor.m_b[c]
            state.V_b[c] = mu * state.V_b[c] + g
            state.b[c] -= rate * (g + mu * state.V_b[c] if o.nesterov else state.V_b[c])


@_inner
def _threshold(W: Any, by: Any) -> None:
    for e in range(W.size):
        W[e] = max(W[e] - by, W.dtype.type(0)) + min(W[e] + by, W.dtype.type(0))


@_inner
def _average(mean: Any, W: Any, count: int) -> None:
    for e in range(W.size):
        mean[e] += (W[e] - mean[e]) / count


@_inner
def _update_table(rows: Any, data: Data, index: Any, anchor: Anchor, s: Scratch, W: Any, against: float) -> None:
    """table_i <- r_i and m += 1/n sum s_i (new - old) (x) a_i; W += against times the same, so that W + shift m stays."""
    T = s.z.dtype.type
    for p in range(index.size):
        i = index[p]
        f = _weight(data, i) / T(data.n)
        for c in range(anchor.b.size):
            s.p[p, c] = f * (s.r[p, c] - anchor.table[i, c])  # about 0 for a row that was met before in this batch
            anchor.table[i, c] = s.r[p, c]
            anchor.m_b[c] += s.p[p, c]
    push(rows, index, s.p, anchor.m)
    if against != 0:
        for p in range(index.size):
            for c in range(anchor.b.size):
                s.p[p, c] *= T(against)
        push(rows, index, s.p, W)


# -- kernels -----------------------------------------------------------------------------------------------------------


def walk(
    rows: Any, data: Data, residuals: Any, link: Any, state: State, anchor: Anchor, s: Scratch, o: Options, form: Form,
    order: Any, rates: Any, steps: tuple[int, int], averaged: int, limit: float, sums: Any,
) -> int:  # fmt: skip
    """Steps steps[0] .. steps[1] - 1 of a walk through `order`; returns the first step that was not made.

    averaged: steps that are in the average. A batch whose mean loss is not finite or above the limit is not stepped on.
    """
    k, free = state.b.size, data.free
    scale, shift, read = 1.0, 0.0, 0
    plain, q_b = o.momentum == 0, np.empty_like(state.b)
    for t in range(steps[0], steps[1]):
        start = t * o.batch_size
        stop = min(start + o.batch_size, order.size)
        index, size = order[start:stop], stop - start
        _scaled_logits(rows, index, state, anchor.m, scale, shift, s)
        residuals(data.targets, data.labels, index, s.z[:size], s.loss[:size], s.r[:size])
        if form.source != _NONE:
            _subtract(rows, data, index, residuals, link, anchor, form, s)
        total = _total_loss(data, index, s.loss)
        sums[LOSS] += total
        if o.statistics:
            _moments(rows, data, order, start, stop, o.pairs_every, form, s, sums)
        if not (np.isfinite(total) and total / size <= limit):
            _fold(state.W, anchor.m, scale, shift)
            return t
        eta = rates[t] if rates.size > 1 else rates[0]
        if plain:
            scale *= 1 - eta * o.l2
            shift *= 1 - eta * o.l2
            if form.use_mean:
                shift -= eta * form.lam
            if abs(scale) < _SMALLEST_SCALE:
                _fold(state.W, anchor.m, scale, shift)
                scale, shift = 1.0, 0.0
            q_b[:] = 0
            _push_batch(rows, data, index, -eta / (size * scale), form, s, state.W, q_b)
            if free:
                for c in range(k):
                    state.b[c] += state.b.dtype.type(scale) * q_b[c]
                    if form.use_mean:
                        state.b[c] -= state.b.dtype.type(eta * form.lam) * anchor.m_b[c]
        else:
            state.G[:] = 0
            state.G_b[:] = 0
            _push_batch(rows, data, index, 1.0 / size, form, s, state.G, state.G_b)
            _momentum_step(state, anchor, eta, o, form, free)
        for p in range(size):
            read += count(rows, index[p])
        if read >= rows.d or o.l1 > 0 or o.average:
            _fold(state.W, anchor.m, scale, shift)
            scale, shift, read = 1.0, 0.0, 0
        if form.update_table:
            _update_table(rows, data, index, anchor, s, state.W, -shift / scale)
        if o.l1 > 0:
            _threshold(state.W, state.b.dtype.type(eta) * state.b.dtype.type(o.l1))
        if o.average:
            _average(state.mean, state.W, averaged + t - steps[0] + 1)
            _average(state.mean_b, state.b, averaged + t - steps[0] + 1)
    _fold(state.W, anchor.m, scale, shift)
    return steps[1]


def read(
    rows: Any, data: Data, residuals: Any, link: Any, point: tuple[Any, Any], anchor: Anchor, s: Scratch, form: Form,
    span: tuple[int, int], store: Any, blocks: tuple[Any, Any], totals: tuple[Any, Any, Any, Any], sums: Any,
) -> None:  # fmt: skip
    """Rows span[0] .. span[1] - 1 of a pass at the point, in blocks as long as the scratch.

    Adds to the sums, and to totals the sums of r_i (x) a_i, r_i, c_i (x) a_i and c_i. blocks: zeros of X's dtype in which the
    first and the third are summed over a block; empty for none. store (n, k): where r is written, before the sample weights;
    empty for nowhere.
    """
    for start in range(span[0], span[1], s.loss.size):
        index = np.arange(start, min(start + s.loss.size, span[1]))
        size = index.size
        _logits(rows, index, point[0], point[1], s.z)
        residuals(data.targets, data.labels, index, s.z[:size], s.loss[:size], s.r[:size])
        _sum_up(rows, data, index, s.r, blocks[0], totals[0], totals[1], s.p)
        if form.source != _NONE:
            _subtract(rows, data, index, residuals, link, anchor, form, s)
            _sum_up(rows, data, index, s.c, blocks[1], totals[2], totals[3], s.p)
        sums[LOSS] += _total_loss(data, index, s.loss)
        for p in range(size):
            i = index[p]
            weight = np.float64(_weight(data, i))
            _inner_products(data, s.r[p], s.c[p], form, product(rows, i, i) + data.free, weight * weight, sums)
            if store.size:
                store[i] = s.r[p]


@_inner
def _sum_up(rows: Any, data: Data, index: Any, r: Any, block: Any, G: Any, G_b: Any, q: Any) -> None:
    """Add the sums of s_i r_i (x) a_i and s_i r_i of some rows to G and G_b; q is for its own use."""
    for p in range(index.size):
        weight = _weight(data, index[p])
        for c in range(G_b.size):
            q[p, c] = weight * r[p, c]
            G_b[c] += q[p, c]
    if block.size:
        push(rows, index, q, block)
    else:
        push(rows, index, q, G)
    for e in range(block.size):
        G[e] += block[e]
        block[e] = 0


def multiply(rows: Any, n: int, point: tuple[Any, Any], z: Any) -> None:
    """The logits z (n, k) of all rows."""
    _logits(rows, np.arange(n), point[0], point[1], z)


_COMPILED: dict[Any, Any] = {}


def call(kernel: Callable[..., Any], *arguments: Any) -> Any:
    """Run a kernel, compiled for arguments of these types or loaded from numba's cache."""
    kinds = tuple(_type(a) for a in arguments)
    if (kernel, kinds) not in _COMPILED:
        flags = {"cache": True, "nogil": True, "fastmath": _REORDERED, "error_model": "numpy", "no_cfunc_wrapper": True}
        _COMPILED[kernel, kinds] = _compile([kinds], **flags)(kernel)
    return _COMPILED[kernel, kinds](*arguments)


def _type(argument: Any) -> Any:
    """The type of an argument; of a compiled function its signature alone, so that all of one signature are the same."""
    signature = getattr(argument, "nopython_signatures", None)
    return _typeof(argument) if signature is None else types.FunctionType(signature[0])
