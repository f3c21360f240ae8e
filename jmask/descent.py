"""The fit by gradient descent: any optax optimiser, one jitted loop, stopped on the norm of the gradient.

The objective is quadratic in each row of the weights, so its full gradient costs one d × d × d product from the
Gram, and the extreme eigenvalues of its Hessian give the default optimiser its steps.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ._checks import as_ridge, as_samples, is_concrete, require_finite, require_memory
from ._linalg import gram
from ._types import (
    CONVERGED,
    DIVERGED,
    MAX_STEPS,
    Array,
    ArrayLike,
    Float,
    Int,
    PRNGKeyArray,
    Result,
    full_precision,
    pytree,
)
from .closed_form import Fit, fit
from .gram import Gram
from .masking import Bernoulli, LeaveOneOut, Patterns, Scheme, can_see, check_scheme
from .objective import loss_and_gradient, penalty, sampled_errors

Progress = Callable[[int, float, float], object]


@pytree
class GradientFit(Result):
    """A fit reached by descent.

    Attributes
    ----------
    fit
        The predictor. Its ``precision`` (what ``impute`` needs) is read off the weights for ``LeaveOneOut`` and
        ``Bernoulli``, exact at the minimum; NaN for the other schemes and where it diverges.
    loss_history
        Objective at the start and after every step (every epoch with minibatches); inside ``jax.jit`` its
        unused tail is NaN.
    gradient_norm
        Norm of the full gradient at the end, relative to that at weights 0.
    distance
        ‖A - A*‖/‖A*‖ to the closed form A*, if asked for; else NaN.
    steps
        Updates made.
    status
        ``CONVERGED``, ``MAX_STEPS`` (weights are those reached) or ``DIVERGED`` (weights are NaN).
    """

    fit: Fit
    loss_history: Float[Array, " steps"]
    gradient_norm: Float[Array, ""]
    distance: Float[Array, ""]
    steps: Int[Array, ""]
    status: Int[Array, ""]


@full_precision
def fit_gradient(
    x: ArrayLike | Gram,
    ridge: ArrayLike,
    scheme: Scheme = LeaveOneOut(),
    *,
    optimizer: optax.GradientTransformation | None = None,
    tolerance: float | None = None,
    max_steps: int = 10_000,
    batch_size: int | None = None,
    key: PRNGKeyArray | None = None,
    compare: bool = False,
    progress: Progress | None = None,
) -> GradientFit:
    """Minimise ``masked_loss`` from weights 0 by descent.

    Parameters
    ----------
    x
        (n, d) samples in rows, or a ``Gram`` of them (full batch only).
    ridge, scheme
        As in ``fit``. A ridge of 0 needs no special rule: descent from 0 goes to the minimum of least norm.
    optimizer
        Any optax optimiser of ``masked_loss``, ``optax.lbfgs()`` included; build it once and reuse it, each new
        one compiles again. Default: heavy ball with the step and momentum that the extreme eigenvalues of the
        Hessian make optimal; with minibatches, steps that decay as 1/t.
    tolerance
        Stop when the norm of the full gradient is below this share of its norm at weights 0. The relative
        distance to the closed form is then at most the condition number times this. Default: eps^(2/3) of the
        dtype, 4e-11 in double and 2e-5 in single precision.
    max_steps
        Most updates; whole epochs with minibatches.
    batch_size
        Rows an update; None is the full batch. Rows are shuffled anew every epoch (a remainder smaller than a
        batch sits that epoch out), and masks of ``Bernoulli`` and ``Patterns`` are drawn, one a row.
    key
        JAX random key, required with ``batch_size``.
    compare
        True: also solve in closed form and report ``distance``.
    progress
        Called about a hundred times with (updates, loss, relative gradient norm); ``print`` will do.

    Raises
    ------
    ValueError
        For what ``fit`` refuses, a batch size outside [1, n], or minibatches without samples or key.

    Notes
    -----
    2 d³ operations an update for the full batch, 4 b d² for b rows (``Patterns``: times the patterns). The
    default converges in about √κ log(1/tolerance)/2 updates, κ the condition number of S + Λ. Works under jit
    and vmap; to differentiate the minimiser, differentiate ``fit``, which has the same one.

    References
    ----------
    Polyak (1964) for the heavy ball; its rate on quadratics is (√κ - 1)/(√κ + 1).

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> result = jm.fit_gradient(x, 0.1, compare=True)
    >>> bool(result.converged), bool(result.distance < 1e-9)
    (True, True)
    """
    data = x if isinstance(x, Gram) else as_samples(x)
    d, dtype = (data.dimension, data.sum.dtype) if isinstance(data, Gram) else (data.shape[1], data.dtype)
    check_scheme(scheme, d)
    if isinstance(data, Gram):
        require_finite(data.scatter, "x")
    require_memory(6 * d * d * dtype.itemsize, f"a descent of {d} coordinates")
    batch_size = _checked_batch(data, batch_size, key)
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    tolerance = float(jnp.finfo(dtype).eps) ** (2 / 3) if tolerance is None else tolerance
    if not tolerance >= 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance}")
    problem = _problem(data, as_ridge(ridge, d, dtype), scheme, batch_size)
    epoch = 1 if batch_size is None else data.shape[0] // batch_size  # type: ignore[union-attr]
    key = jax.random.key(0) if key is None else key
    state = _start(problem, optimizer, key, -(-max_steps // epoch))
    advance = partial(_advance, problem, optimizer=optimizer, tolerance=tolerance, epoch=epoch, batch=batch_size)
    if progress is None:
        state = advance(state, max_steps=max_steps)
    else:
        for end in range(max(1, max_steps // 100), max_steps + max(1, max_steps // 100), max(1, max_steps // 100)):
            state = advance(state, max_steps=min(end, max_steps))
            relative = float(state.norm / state.first_norm) if float(state.first_norm) else 0.0
            progress(int(state.steps), float(state.value), relative)
            if int(state.steps) < min(end, max_steps):
                break
    return _packed(problem, state, tolerance, data if compare else None, is_concrete(state))


@full_precision
def snapshots(
    x: ArrayLike | Gram,
    ridge: ArrayLike,
    steps: Sequence[int],
    *,
    optimizer: optax.GradientTransformation | None = None,
) -> Iterator[tuple[Array, optax.OptState]]:
    """Weights (d, d) along the leave-one-out, full-batch descent of ``fit_gradient``, and the optimiser's state there.

    Parameters
    ----------
    x, ridge, optimizer
        As in ``fit_gradient``.
    steps
        Numbers of updates to stop at, ascending. A descent that diverges stays where it is no longer finite.

    Examples
    --------
    >>> import numpy as np
    >>> from jmask.descent import snapshots
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> [float(abs(weights).sum()) > 0 for weights, _ in snapshots(x, 0.1, [0, 1])]
    [False, True]
    """
    data = x if isinstance(x, Gram) else as_samples(x)
    d, dtype = (data.dimension, data.sum.dtype) if isinstance(data, Gram) else (data.shape[1], data.dtype)
    if list(steps) != sorted(set(steps)) or min(steps, default=0) < 0:
        raise ValueError(f"steps must be ascending and not negative, got {list(steps)}")
    problem = _problem(data, as_ridge(ridge, d, dtype), LeaveOneOut(), None)
    state = _start(problem, optimizer, jax.random.key(0), max(steps, default=0))
    for stop in steps:
        state = _advance(problem, state, optimizer=optimizer, tolerance=0.0, max_steps=stop, epoch=1, batch=None)
        yield state.weights, state.optimizer


def _checked_batch(data: Array | Gram, batch_size: int | None, key: PRNGKeyArray | None) -> int | None:
    if batch_size is None:
        return None
    if isinstance(data, Gram):
        raise ValueError("batch_size needs the samples: pass x (n, d) instead of a Gram, or leave batch_size out")
    if key is None:
        raise ValueError("key must be given with batch_size: jax.random.key(0), say")
    if not 1 <= batch_size <= data.shape[0]:
        raise ValueError(f"batch_size must lie between 1 and the {data.shape[0]} samples, got {batch_size}")
    return int(batch_size)


class _Problem(NamedTuple):
    """What stays fixed along a descent; ``samples`` is None for the full batch."""

    moment: Array
    rows: Array
    samples: Array | None
    ridge: Array
    scheme: Scheme
    smallest: Array
    largest: Array


class _State(NamedTuple):
    weights: Array
    value: Array
    gradient: Array
    norm: Array
    first_norm: Array
    steps: Array
    history: Array
    optimizer: optax.OptState
    key: PRNGKeyArray


@partial(jax.jit, static_argnames=("batch",))
def _problem(data: Array | Gram, ridge: Array, scheme: Scheme, batch: int | None) -> _Problem:
    if isinstance(data, Gram):
        moment, rows, samples = data.covariance, data.count, None
    else:
        moment, rows = gram(data) / data.shape[0], jnp.asarray(data.shape[0], data.dtype)
        samples = None if batch is None else data
    return _Problem(moment, rows, samples, ridge, scheme, *_extreme_curvatures(moment, ridge, scheme))


def _extreme_curvatures(moment: Array, ridge: Array, scheme: Scheme) -> tuple[Array, Array]:
    """μ and L with μ ≤ H + Λ ≤ L for every row; rows see principal submatrices, whose eigenvalues lie between.

    ``Patterns``: H is a Schur product of S with a matrix of diagonal m, hence within min(m) and max(m) times S.
    Directions without curvature (S singular, ridge 0) are never entered from weights 0, and do not count.
    """
    d, shift = moment.shape[0], jnp.broadcast_to(ridge, moment.shape[:1])
    low = jnp.ones((), moment.dtype)
    if isinstance(scheme, Bernoulli):
        p = scheme.probability(moment.dtype)
        moment = (1 - p) ** 2 * moment + p * (1 - p) * jnp.diag(jnp.diagonal(moment))
    elif isinstance(scheme, Patterns):
        kept = jnp.where(scheme.hidden, 0, jnp.ones((), moment.dtype))
        shares = scheme.coordinate_weights(moment.dtype).T @ kept
        low = jnp.where(can_see(scheme, d), shares, 1).min()
    values = jnp.linalg.eigvalsh(moment + jnp.diag(shift))
    flat = values <= 10 * d * jnp.finfo(moment.dtype).eps * values[-1]
    return low * jnp.where(flat, values[-1], values).min(), values[-1]


def _optimizer(problem: _Problem, given: optax.GradientTransformation | None) -> optax.GradientTransformationExtraArgs:
    """The given one, or the default; the Hessian of ``masked_loss`` is twice H + Λ."""
    if given is not None:
        return optax.with_extra_args_support(given)
    smallest, largest = problem.smallest, jnp.where(problem.largest > 0, problem.largest, 1)
    if problem.samples is None:
        root = jnp.sqrt(smallest / largest)
        momentum = ((1 - root) / (1 + root)) ** 2
        return optax.with_extra_args_support(optax.sgd(2 / (largest * (1 + root) ** 2), momentum))
    norms = (problem.samples**2).sum(1).max()
    first = 1 / (2 * (largest + norms))
    return optax.with_extra_args_support(optax.sgd(lambda step: first / (1 + first * smallest * step)))


@partial(jax.jit, static_argnames=("optimizer", "rows"))
def _start(problem: _Problem, optimizer: optax.GradientTransformation | None, key: PRNGKeyArray, rows: int) -> _State:
    weights = jnp.zeros_like(problem.moment)
    value, gradient = _evaluate(problem, weights)
    norm = jnp.linalg.norm(gradient)
    history = jnp.full(rows + 1, jnp.nan, weights.dtype).at[0].set(value)
    state = _optimizer(problem, optimizer).init(weights)
    return _State(weights, value, gradient, norm, norm, jnp.array(0), history, state, key)


def _evaluate(problem: _Problem, weights: Array) -> tuple[Array, Array]:
    return loss_and_gradient(weights, problem.moment, problem.ridge, problem.scheme)


@partial(jax.jit, static_argnames=("optimizer", "epoch", "batch"))
def _advance(
    problem: _Problem,
    state: _State,
    *,
    optimizer: optax.GradientTransformation | None,
    tolerance: float,
    max_steps: int,
    epoch: int,
    batch: int | None,
) -> _State:
    """Whole epochs (single steps for the full batch) until the gradient is small, or no longer finite."""
    rule = _optimizer(problem, optimizer)
    visible = can_see(problem.scheme, problem.moment.shape[0])

    def full_loss(weights: Array) -> Array:
        return _evaluate(problem, jnp.where(visible, weights, 0))[0]

    def updated(weights: Array, value: Array, gradient: Array, held: optax.OptState, loss: Callable) -> tuple:
        with jax.numpy_dtype_promotion("standard"):  # optax's L-BFGS mixes integer widths
            change, held = rule.update(gradient, held, weights, value=value, grad=gradient, value_fn=loss)
        return jnp.where(visible, optax.apply_updates(weights, change), 0), held

    def through_batches(state: _State) -> tuple:
        key, samples = jax.random.fold_in(state.key, state.steps), problem.samples
        order = jax.random.permutation(key, samples.shape[0])  # type: ignore[union-attr]

        def one(i: Array, carry: tuple) -> tuple:
            weights, held = carry
            rows = samples[lax.dynamic_slice_in_dim(order, i * batch, batch)]  # type: ignore[index,operator,arg-type]

            def loss(weights: Array) -> Array:
                free = jnp.where(visible, weights, 0)
                drawn = sampled_errors(free, rows, problem.scheme, jax.random.fold_in(key, i))
                return drawn.sum() + penalty(free, problem.ridge)

            value, gradient = jax.value_and_grad(loss)(weights)
            return updated(weights, value, gradient, held, loss)

        return lax.fori_loop(0, epoch, one, (state.weights, state.optimizer))

    def body(state: _State) -> _State:
        if batch is None:
            weights, held = updated(state.weights, state.value, state.gradient, state.optimizer, full_loss)
        else:
            weights, held = through_batches(state)
        value, gradient = _evaluate(problem, weights)
        steps = state.steps + epoch
        history = state.history.at[steps // epoch].set(value)
        norm = jnp.linalg.norm(gradient)
        return _State(weights, value, gradient, norm, state.first_norm, steps, history, held, state.key)

    def running(state: _State) -> Array:
        return (state.norm > tolerance * state.first_norm) & (state.steps < max_steps) & jnp.isfinite(state.norm)

    return lax.while_loop(running, body, state)


def _packed(problem: _Problem, state: _State, tolerance: float, data: Array | Gram | None, known: bool) -> GradientFit:
    reached = state.norm <= tolerance * state.first_norm
    finite = jnp.isfinite(state.norm) & jnp.isfinite(state.value)
    status = jnp.where(reached, CONVERGED, jnp.where(finite, MAX_STEPS, DIVERGED))
    weights = jnp.where(finite, state.weights, jnp.nan)
    relative = jnp.where(state.first_norm > 0, state.norm / jnp.where(state.first_norm > 0, state.first_norm, 1), 0)
    gap = jnp.full((), jnp.nan, weights.dtype)
    if data is not None:
        exact = fit(data, problem.ridge, problem.scheme).weights
        size = jnp.linalg.norm(exact)
        gap = jnp.linalg.norm(weights - exact) / jnp.where(size > 0, size, 1)
    diagonal = _conditional_precision(problem, weights)
    read_off = isinstance(problem.scheme, LeaveOneOut | Bernoulli)
    dense = None if read_off else jnp.full_like(weights, jnp.nan)
    fitted = Fit(weights, diagonal, problem.ridge, problem.rows, dense, None, status, problem.scheme)
    history = state.history
    if known:
        history = history[jnp.isfinite(history)] if bool(finite) else history[: _last(history)]
    return GradientFit(fitted, history, relative, gap, state.steps, status)


def _last(history: Array) -> int:
    """Length of the history of a diverged descent: up to its last finite value."""
    return int(jnp.flatnonzero(jnp.isfinite(history)).max(initial=-1)) + 1


def _conditional_precision(problem: _Problem, weights: Array) -> Array:
    """diag(Q) from the weights: 1/Q_kk = (S + Λ)_kk - A_k·S_k at the minimum."""
    d = weights.shape[0]
    used, q = problem.ridge, jnp.ones((), weights.dtype)
    variances = jnp.diagonal(problem.moment)
    if isinstance(problem.scheme, Bernoulli):
        p = problem.scheme.probability(weights.dtype)
        q = 1 - p
        used = p / q * variances + problem.ridge / q**2
    elif not isinstance(problem.scheme, LeaveOneOut):
        return jnp.full(d, jnp.nan, weights.dtype)
    left = variances + used - q * (weights * problem.moment).sum(1)
    known = left > d * jnp.finfo(weights.dtype).eps * (variances + used)
    return 1 / jnp.where(known, left, jnp.nan)
