"""The one verb: `solve` validates, turns the method into plain data, hands both to a backend and returns a Result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from . import _options as option
from . import _validation as check
from ._blocks import Blocks
from ._deep_run import DeepRun
from ._job import Callback, Job
from ._precondition import resolve
from ._problem import head, make_problem
from ._span import SpanDescent, spans
from ._stream import Streaming
from ._training import Run, train
from ._unstored import check_rates, check_run, check_streamed_run
from ._virtual import is_virtual
from .backends import backend_for, get_backend
from .backends.base import State, Step, Work
from .checkpoint import Checkpoint
from .compression import Compressor
from .deep import DeepLinear, make_network, teacher_point
from .files import DataSet
from .files._rows import in_files
from .lbfgs import Descent
from .losses import Loss
from .methods import SGD, Method
from .result import Result
from .schedules import Constant, LearningRate
from .teachers import Teacher

_SGD = SGD()
# Pairs of neighbours an epoch, at least: so many give |grad f|^2 to about a hundredth of E|grad f_i|^2. With one output a pair
# costs nothing, with several all pairs take a tenth of an epoch, on sparse rows a fifth.
_PAIRS, _MOST_ROWS_A_PAIR = 2048, 8


def solve(
    X: ArrayLike | DataSet,
    y: ArrayLike | None = None,
    *,
    loss: str | Loss,
    method: Method = _SGD,
    model: DeepLinear | None = None,
    teacher: Teacher | None = None,
    learning_rate: float | LearningRate | Literal["auto"] = 0.05,
    batch_size: int = 10,
    epochs: int = 20,
    tol: float | None = None,
    alpha: float = 0.0,
    l1_ratio: float = 0.0,
    fit_intercept: bool = True,
    momentum: float = 0.0,
    nesterov: bool = False,
    average: bool | int = False,
    compress: Compressor | None = None,
    sampling: str | Blocks = "shuffle",
    order: ArrayLike | None = None,
    random_state: int | np.random.Generator | None = None,
    sample_weight: ArrayLike | None = None,
    coef_init: ArrayLike | None = None,
    intercept_init: ArrayLike | None = None,
    track: str | Sequence[str] = (),
    statistics: bool = True,
    callbacks: Sequence[Callback] = (),
    cache_anchor: bool | None = None,
    backend: str = "auto",
    n_threads: int | None = None,
    check_input: bool = True,
    checkpoint: Checkpoint | None = None,
    walk: State | None = None,
) -> Result:
    """Fit a linear model z = W a + b by stochastic gradient steps with a control variate.

    Minimises ``mean(s_i loss(y_i, z_i)) + alpha ((1 - l1_ratio)/2 |W|^2 + l1_ratio |W|_1)`` over W (k, d) and b (k,), the
    intercept not penalised, s_i the sample weights scaled to mean one. A step on the batch B is

        g = mean over B of (s_i r_i - lam s_i c_i) (x) a_i  +  lam m  +  alpha (1 - l1_ratio) W
        v = momentum v + g;   p = g + momentum v if nesterov else v;   W = soft_threshold(W - lr p, lr alpha l1_ratio)

    where `method` says what lam, c and m are (see `kdvr_fast.methods`). The last batch of an epoch may be shorter; its mean is
    over the rows it has.

    Args:
        X: (n, d) float32 or float64, read in place: an array with unit stride along features (memory maps too), or a SciPy CSR
            matrix with sorted indices, int32 or int64, which is never made dense: a step costs O(k) a non-zero of the batch,
            with momentum O(k d). A nested list becomes float64. Or `synthetic.VirtualRows`, with `synthetic.VirtualTargets` for
            y: rows made where they are read, at the memory of the weights however many there are. They are independent draws
            and walked in their order. Not with SAGA, LBFGS, teachers that are stored or sample_weight.
            With backend="cuda" also an array on an NVIDIA GPU (CuPy, torch, JAX, Numba), read there without a copy, and then y
            may lie there too; the work goes to CuPy's current stream, and the result's coef and intercept are CuPy arrays.
            Or a `DataSet` of `open_data`, without y: rows that stay in files and are walked by `Blocks`, the next window being
            read ahead in a thread. Not with SAGA, LBFGS, DeepLinear, cache_anchor, teachers that are estimators, or
            learning_rate="auto". The bits are those of the same rows in memory, walked in the same `Blocks`; where the mean of
            an anchor is added back it is summed chunk by chunk, and equal to rounding.
        y: softmax: integer labels 0 .. k-1, (n,), or rows of probabilities (n, k). logistic: 0/1 or probabilities, (n,).
            squared: (n,) or (n, k). k follows from y, coef_init or the teacher.
        loss: "squared" = |z - y|^2 / 2, "logistic" (k = 1), "softmax", or one of your own, `Loss.custom`.
        method: one of the classes in `kdvr_fast.METHODS`.
        model: None for the linear model. A `DeepLinear` trains z = W_L ... W_1 a + b through its layers, alpha and momentum
            for each; the result's coef is their product. It takes no l1_ratio, average, compress, coef_init, SAGA or LBFGS;
            lam="auto" reads up to 4096 rows through all layers after each epoch, and where the mean is added back four times
            within the first, which counts as gradient evaluations. The second moments of its history are NaN, those of
            `track="statistics"` are there.
        teacher: a `Teacher`, where the method takes one.
        learning_rate: rate per step: a number, a schedule (`Constant`, `Inverse`, `Cosine`, `Exponential`), or "auto", a
            constant from the smoothness of the data (`kdvr_fast.auto_learning_rate`); of a DeepLinear model one from the norms
            of the layers too, anew in each epoch (`kdvr_fast._layer_rate`).
        batch_size: rows per step, 1 .. n. epochs: walks over the data, at most.
        tol: stop, with status "converged", once the gradient's norm is at most tol times that at the initial weights. The
            gradient is that of the objective above, for `KD`, `RepeatedKD` and `LBFGS` with lam also minus lam m (what they
            minimise); with L1 it is the proximal gradient mapping at the current learning rate. `SVRG` looks at its
            snapshots, `LBFGS` at each iteration, both for nothing; every other method, and an average, makes a pass after
            each epoch, which counts unless the epoch's end is tracked anyway. Not reached: a `ConvergenceWarning`.
        alpha: weight of the penalty. l1_ratio: its L1 part, in [0, 1].
        momentum, nesterov: as in torch.optim.SGD, without dampening.
        average: True returns the mean of the weights over all steps (Polyak), an integer e that over the steps after the first
            e epochs.
        compress: what all weights go through after each step, `Mask`, `TopK`, `RandomK` or `StochasticRounding`
            (`kdvr_fast.compression`). A step then costs O(k d) on sparse rows too. Not with average or `LBFGS`.
        sampling: "shuffle", a fresh permutation an epoch (`kdvr_fast._order`), "replacement", n independent draws an epoch, or
            `Blocks(rows, window)`, a shuffle of blocks and of the rows within a window of them. For a `DataSet` "shuffle" is
            `Blocks()`.
        order: int64 row numbers in place of `sampling`: (epochs, m), or 1-D cut into `epochs` equal parts.
        random_state: seed or Generator for the sampling. None draws a seed, which the result records.
        sample_weight: (n,), not negative. The objective and full-batch steps equal those of data with rows repeated s_i times;
            a mini-batch step is unbiased for them, rows being drawn uniformly and multiplied by their weight. Statistics are
            those of that estimator.
        coef_init (k, d), intercept_init (k,): initial weights, zero if None.
        track: what is measured exactly after each epoch, at up to one read of X each: "objective" (with the gradient's norm),
            "statistics" (a GradientStats in history.stats and result.stats; of a DeepLinear model a LayerStats, by a read
            through all layers, and history.singular_values), "accuracy".
        statistics: accumulate the free second-moment columns of the history; False leaves them NaN. lam="auto" needs them.
        callbacks: called with a `Progress` after each epoch; a true answer stops the run.
        cache_anchor: store the (n, k) residuals of an anchor that has weights, or compute them on the fly. None stores them if
            a pass is made anyway or the anchor lasts more than 2 epochs.
        backend: "auto", or a name in `kdvr_fast.backend_status()`.
        n_threads: at most so many threads; None: OMP_NUM_THREADS, or all processors the process may use. The result has the
            same bits for any value.
        check_input: False skips the search for NaN and infinities in X and the check of stored teacher outputs.
        checkpoint: a `Checkpoint`, the file where the run is kept epoch by epoch and from which it goes on after a crash, to
            the same bits. Not with `LBFGS`.
        walk: the `walk` of another Result: go on with its weights, momentum and running average, over other rows, too. In place
            of initial weights; not with `LBFGS` or a checkpoint.

    Returns:
        Result: weights of the last epoch, history, status.

    Raises:
        TypeError, ValueError: bad input; the message says where and what to do.
        DivergenceError: the loss passed a million times its initial size or is not finite; its `result` has the last good
            weights.
        RuntimeError: the backend cannot run here. ValueError: it does not do what is asked; the message names one that does.
        An exception of a callback passes through with the run so far as its attribute `result`. Ctrl-C during
        training raises nothing: the result has status "interrupted", and a RuntimeWarning is given.

    Example:
        >>> import numpy as np
        >>> from kdvr_fast import KD, Teacher, solve
        >>> X, y = np.array([[1.0], [2.0], [3.0]]), np.array([2.0, 4.0, 6.0])
        >>> teacher = Teacher.weights([[2.0]])
        >>> run = solve(X, y, loss="squared", method=KD(lam=0.5), teacher=teacher, batch_size=1, epochs=50,
        ...             fit_intercept=False, random_state=0, backend="reference")
        >>> bool(abs(run.coef[0, 0] - 2) < 1e-6), str(run.status)
        (True, 'completed')

    Source: arXiv:2305.17581, and the paper named by each method.
    """
    get_backend(backend)  # an unknown name is told first
    if n_threads is not None:
        check.count(n_threads, "n_threads", low=1)
    scan = check.flag(check_input, "check_input")
    problem = make_problem(
        X,
        y,
        loss,
        coef=("coef_init", coef_init) if model is None else ("the last of the model's weights", option.last_layer(model)),
        teacher=teacher,
        sample_weight=sample_weight,
        fit_intercept=fit_intercept,
        scan=scan,
    )
    plan, tracked = option.plan(method, teacher, problem.loss), option.tracked(track, problem.loss)
    (n, d), k, dtype = problem.X.shape, problem.n_outputs, problem.X.dtype
    epochs = check.count(epochs, "epochs", low=1)
    sampling = check.walking(sampling)
    virtual, streamed = is_virtual(problem.X), in_files(problem.X)
    if virtual:
        check_run(method, plan, cache_anchor=cache_anchor, sampling=sampling, track=tracked)
        sampling = "sequential"
    if streamed:
        check_streamed_run(
            method,
            plan,
            model=model,
            cache_anchor=cache_anchor,
            learning_rate=learning_rate,
            sampling=sampling,
            order=order,
        )
        sampling = sampling if isinstance(sampling, Blocks) else Blocks()
    alpha, l1_ratio = check.non_negative(alpha, "alpha"), check.number(l1_ratio, "l1_ratio", low=0.0, high=1.0)
    full = plan.full_batch
    if full is not None and alpha * l1_ratio > 0:
        remedy = "use l1_ratio=0, or SVRG() or SAGA()"
        raise ValueError(f"{type(method).__name__} needs a smooth objective and l1_ratio={l1_ratio:g} has none: {remedy}")
    if full is not None:
        resolve(full.precondition, problem)  # raises for a metric that the loss does not have
    step = Step(
        batch_size=check.batch_size(batch_size, n) if full is None else n,
        l2=alpha * (1 - l1_ratio),
        l1=alpha * l1_ratio,
        momentum=check.momentum(momentum),
        nesterov=option.nesterov(nesterov, momentum),
        statistics=check.flag(statistics, "statistics"),
        pairs_every=1 if k == 1 else min(_MOST_ROWS_A_PAIR, max(1, n // _PAIRS)),
    )
    if isinstance(sampling, Blocks) and order is not None:
        raise ValueError("order and sampling=Blocks are both given; leave one of them out")
    if checkpoint is not None:
        random_state = option.checkpoint(checkpoint, method, plan).seed(random_state)
    rng, seed = option.generator(random_state)
    after, network = option.average_after(average, epochs), None
    if model is not None:
        option.plain_options(l1_ratio=l1_ratio, average=after, compress=compress, coef_init=coef_init)
        network, coef = make_network(model, method, plan, teacher, problem, rng)
        step = replace(step, statistics=False)
    else:
        coef = check.initial(coef_init, (k, d), dtype, "coef_init", "(outputs, features)")
    initial = coef, check.initial(intercept_init, (k,), dtype, "intercept_init", "(outputs,)")
    if walk is not None:
        option.plain_walk(method, coef_init=coef_init, intercept_init=intercept_init, checkpoint=checkpoint)
        initial = check.walk(walk, initial)
    if not fit_intercept and initial[1].any():
        raise ValueError("intercept_init is given but fit_intercept=False; leave one of them out")
    if plan.lam == "auto" and not statistics:
        raise ValueError("lam='auto' is estimated from the statistics of the batches: leave statistics=True")
    stored = not (virtual or streamed)
    cached = stored and option.cached(cache_anchor, plan, teacher, epochs if checkpoint is None else None)
    weights = teacher.theta(dtype) if teacher is not None and teacher.linear else None
    if network is not None and teacher is not None and weights is not None:
        weights = teacher_point(teacher, network, dtype)
    if compress is not None:
        like = initial[0] if weights is None or initial[0].any() else weights[0]
        step = replace(step, compression=option.compression(compress, method, after).plan(like, rng))
    variate = option.variate(plan, teacher, cached)
    work = Work(step, variate, full_batch=full is not None, network=network)
    engine = backend_for(backend, head(problem), work)
    if isinstance(sampling, Blocks) and streamed:
        engine = Streaming(engine, sampling, sampling.window_rows(n, step.batch_size))
    job = Job(
        problem=problem,
        method=method,
        plan=plan,
        step=step,
        epochs=epochs if full is None else full.max_iter,
        learning_rate=Constant(1.0) if full is not None else option.learning_rate(learning_rate, problem, step, sampling, plan),
        initial=initial,
        rng=rng,
        seed=seed,
        sampling=sampling,
        variate=variate,
        order=None if order is None else check.order(order, n, epochs),
        cached=cached,
        teacher_weights=weights,
        teacher_table=option.teacher_table(teacher, plan, problem, scan),
        average_after=after,
        track=tracked,
        callbacks=option.callbacks(callbacks),
        tol=None if tol is None else check.positive(tol, "tol"),
        checkpoint=checkpoint,
        walk=walk,
    )
    if network is not None:
        return train(DeepRun(job, engine, n_threads, network, option.layer_rate(learning_rate, job, network)))
    if virtual or streamed:
        check_rates(job.learning_rate, -(-n // step.batch_size))
    kind = Run if full is None else SpanDescent if spans(job) else Descent
    return train(kind(job, engine, n_threads))
