"""Training curves in theory: the error of gradient descent on the masked objective after every number of steps."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import as_float, is_concrete, not_negative
from .._types import (
    CONVERGED,
    DIVERGED,
    MAX_STEPS,
    NON_FINITE,
    Array,
    ArrayLike,
    Float,
    Int,
    Result,
    full_precision,
    pytree,
)
from ..covariance import Covariance, Diagonal
from .coordinate import Coordinates, coordinates
from .equivalent import checked
from .filters import chebyshev, flow, recurrence
from .real_axis import SampleSpectrum, accuracy_wanted, known_where, refine, sample_spectrum
from .units import in_units

_DIVERGED = (
    1e6  # growth of the residual from which the largest sample eigenvalue alone decides: no law of large numbers
)
METHODS = ("heavy ball", "nesterov", "chebyshev", "flow")


@pytree
class Descent(Result):
    """Predicted errors along a descent from weights 0, in the shape of ``steps`` (a scalar or (t,)).

    Attributes
    ----------
    train, test
        Mean over coordinates of the masked squared error, on the training samples and on new ones; NaN where not known.
    train_per_coordinate, test_per_coordinate
        (..., d) the same for every coordinate.
    steps
        Numbers of updates, or times for ``"flow"``.
    accuracy
        Relative change when the nodes were last doubled.
    status
        One a step count: ``CONVERGED``; ``DIVERGED`` where the residual has grown a millionfold; ``MAX_STEPS`` when
        doubling the nodes did not bring the accuracy asked for; ``NON_FINITE``.
    """

    train: Float[Array, "..."]
    test: Float[Array, "..."]
    train_per_coordinate: Float[Array, "... d"]
    test_per_coordinate: Float[Array, "... d"]
    steps: Array
    accuracy: Float[Array, "..."]
    status: Int[Array, "..."]


@full_precision
def descent(
    covariance: Covariance,
    n: ArrayLike,
    ridge: ArrayLike,
    *,
    steps: ArrayLike,
    learning_rate: ArrayLike | None = None,
    momentum: ArrayLike = 0.0,
    method: Literal["heavy ball", "nesterov", "chebyshev", "flow"] = "heavy ball",
    interval: tuple[ArrayLike, ArrayLike] | None = None,
    rtol: float | None = None,
) -> Descent:
    """Predict the train and test error of descent on the leave-one-out objective, before any training.

    A ← A + η offdiag(S - AS - ridge·A) from A = 0. The gradient of ``masked_loss`` is -2 times the bracket: an
    optimiser of learning rate r on ``masked_loss`` has η = 2r.

    Parameters
    ----------
    covariance
        A population of ``jmask.covariance``, mean zero, Gaussian data; of random directions one draw is taken.
    n
        Number of samples, real and positive.
    ridge
        Penalty, a scalar, not negative.
    steps
        Numbers of updates at which the errors are wanted, a scalar or (t,), whole, any size and order; for ``"flow"``
        times, real, in units of a step.
    learning_rate
        η. Required, except for ``"chebyshev"``, which has its own.
    momentum
        In [0, 1), for ``"heavy ball"`` (0 is plain gradient descent) and ``"nesterov"``; constant over the steps.
        Nesterov's weights are those at which the next gradient is taken, as ``optax`` and others hold them.
    method
        ``"heavy ball"``, ``"nesterov"``, ``"chebyshev"`` (the semi-iteration, optimal on an interval), or ``"flow"``
        (gradient flow, the limit of small η).
    interval
        (low, high) of the eigenvalues of S + ridge for ``"chebyshev"``; default: the predicted edges of the bulk.
    rtol
        Relative accuracy of the integrals; default eps^0.4 (5e-7 in double precision; what comes out is better).

    Returns
    -------
    Descent
        ``.train .test`` at each of ``steps``, and per coordinate.

    Raises
    ------
    ValueError, TypeError
        For n <= 0, a negative or vector ridge, steps that are negative or not whole, an option that the method does not
        have or lacks, or what is no population.

    Notes
    -----
    Descent is linear: row k is f(S_-k)s_k with f read off the method. Train and test are then integrals over the
    spectrum of S, real nodes only, so that no momentum and no number of steps overflows. Right to relative order 1/d,
    also for n below and at d and for singular Σ. A learning rate beyond the edge of stability, 2/η < largest
    eigenvalue, is followed until the residual has grown a millionfold. Differentiable in learning rate, ridge,
    momentum, n and population (a second derivative in a ``Dense`` population whose bulk has gaps is NaN). O(k² + kd)
    a step count for k nodes (256 to 4096, 1024 under a transformation), whatever its size; one eigendecomposition for
    ``Dense``.

    Row k is a regression of coordinate k on the others, so this is also the theory of supervised descent: a target
    y = xᵀβ + noise is one more coordinate of a ``Dense`` population, and its entry of ``test_per_coordinate`` the
    test error of descent on ½ mean (y - xᵀw)² + ½ ridge |w|².

    References
    ----------
    The two-resolvent deterministic equivalent, as for ``errors``, integrated against f twice.

    Examples
    --------
    >>> import jmask as jm
    >>> c = jm.covariance.ar1(20, 0.9, circulant=True)
    >>> curve = jm.theory.descent(c, 40, 0.0, learning_rate=0.02, steps=[0, 10, 100])
    >>> bool(curve.test[0] > curve.test[1] > curve.test[2] > curve.train[2])
    True
    """
    covariance, n, ridge, _ = checked(covariance, n, ridge, None)
    if ridge.ndim:
        raise ValueError(f"ridge must be a scalar for a descent, got shape {ridge.shape}")
    if not covariance.constant_diagonal:  # whose matrix is needed
        covariance = covariance.realise(jax.random.key(0))
    wanted, whole = _as_steps(steps, method, n.dtype)
    covariance, unit = in_units(covariance)
    ridge = ridge / unit
    settings = _settings(method, learning_rate, momentum, interval, unit)
    most = int(np.asarray(wanted).max(initial=0)).bit_length() if is_concrete(wanted) and method != "flow" else 31
    bits = next(b for b in (8, 16, 31) if most <= b)  # few programs to compile; so with the gaps

    def evaluate(size: int) -> tuple[Array, Array, Array, Array]:
        nodes = sample_spectrum(covariance.eigenvalues(), n, size=size)
        slots = nodes.support.left.shape[0] - 1
        gaps = min(int(nodes.support.gaps), slots) if is_concrete(nodes.support.gaps) else slots
        gaps = 0 if isinstance(covariance, Diagonal) else min(slots, next(g for g in (0, 4, 16, slots) if gaps <= g))
        train, test, finite = _curves(covariance, nodes, ridge, wanted.ravel(), settings, method, bits, gaps)
        return train, test, finite, nodes.support.gaps <= slots

    def means(found: tuple[Array, Array, Array, Array]) -> Array:
        return jnp.where(found[2][:, None], jnp.stack([found[0].mean(1), found[1].mean(1)], 1), 1)

    found, accuracy, status = refine(evaluate, means, accuracy_wanted(rtol, n.dtype))
    train, test, finite, resolved = found
    status = jnp.where((status == CONVERGED) & ~resolved, MAX_STEPS, status)
    status = jnp.where(finite, status, DIVERGED)
    status = jnp.where(whole.ravel(), status, NON_FINITE)
    d = covariance.dimension
    train, test = (
        jnp.broadcast_to(known_where(status[:, None], e) * unit, (status.shape[0], d)).reshape(*wanted.shape, d)
        for e in (train, test)
    )
    packed = (wanted, accuracy.reshape(wanted.shape), status.reshape(wanted.shape))
    return Descent(train.mean(-1), test.mean(-1), train, test, *packed)


@partial(jax.jit, static_argnames=("method", "bits", "gaps"))
def _curves(
    covariance: Covariance,
    nodes: SampleSpectrum,
    ridge: Array,
    steps: Array,
    settings: tuple[Array, ...],
    method: str,
    bits: int,
    gaps: int,
) -> tuple[Array, Array, Array]:
    """Train and test (t, r), and whether the iteration has kept its residual in bounds (t,)."""
    seen: Coordinates = coordinates(covariance, nodes, gaps)

    def filtered(x: Array) -> Array:
        h = x + ridge
        if method == "flow":
            return flow(h, steps, settings[0])
        if method == "chebyshev":
            return chebyshev(h, steps, *(settings or (edge + ridge for edge in _edges(nodes))))
        return recurrence(h, steps, settings[0], settings[1], method == "nesterov", bits)

    f = filtered(seen.x)
    at_poles = filtered(seen.poles.x.ravel()).reshape(steps.shape[0], *seen.poles.x.shape)
    bounded = (jnp.abs(1 - (seen.x + ridge)[None, :] * f) < _DIVERGED).all(1)  # so that NaN is out of bounds
    return *seen.errors(f, at_poles), bounded | ~jnp.isfinite(seen.x).all()


def _edges(nodes: SampleSpectrum) -> Array:
    """The smallest and the largest sample eigenvalue of the bulk."""
    ends, m = jnp.stack([nodes.support.left[0], nodes.support.right[-1]]), nodes.eigenvalues[None, :]
    return ends * (1 - (m / (m - ends[:, None])).sum(1) / nodes.n)


def _as_steps(steps: ArrayLike, method: str, dtype: jnp.dtype) -> tuple[Array, Array]:
    """The step counts, or times; and whether each is one, which only a traced value may fail to be."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    wanted = as_float(steps, "steps", dtype if method == "flow" else np.dtype(np.float64))
    if wanted.ndim > 1:
        raise ValueError(f"steps must be a scalar or a vector (t,), got shape {wanted.shape}")
    wanted = not_negative(wanted, "steps")
    if method == "flow":
        return wanted, wanted >= 0
    if is_concrete(wanted) and (np.asarray(wanted) != np.floor(np.asarray(wanted))).any():
        raise ValueError(f"steps must be whole numbers, got {steps} (times belong to method='flow')")
    if is_concrete(wanted) and np.asarray(wanted).max(initial=0) >= 2**31:
        raise ValueError(f"steps must be below 2^31, got {np.asarray(wanted).max():g}")
    known = (wanted >= 0) & (wanted == jnp.floor(wanted)) & (wanted < 2.0**31)
    return jnp.where(known, wanted, 0).astype(jnp.int32), known


def _settings(
    method: str,
    learning_rate: ArrayLike | None,
    momentum: ArrayLike,
    interval: tuple[ArrayLike, ArrayLike] | None,
    unit: Array,
) -> tuple[Array, ...]:
    """What the method runs with in this unit: (rate, momentum), (rate,), or the interval; () if that is predicted."""
    dtype = unit.dtype
    push = _as_scalar(momentum, "momentum", dtype)
    known = is_concrete(momentum)  # what is given, since under jit a constant becomes a tracer when it is converted
    if known and not 0 <= float(np.asarray(momentum)) < 1:
        raise ValueError(f"momentum must lie in [0, 1), got {float(np.asarray(momentum)):g}")
    if method in ("chebyshev", "flow") and not (known and float(np.asarray(momentum)) == 0):
        raise ValueError(f"momentum belongs to the methods heavy ball and nesterov, got one with {method!r}")
    if interval is not None and method != "chebyshev":
        raise ValueError(f"interval belongs to the method chebyshev, got one with {method!r}")
    if method == "chebyshev":
        if learning_rate is not None:
            raise ValueError("learning_rate: chebyshev has its own steps; leave it out, or give interval=(low, high)")
        if interval is None:
            return ()
        low, high = (_as_scalar(end, "interval", dtype) for end in interval)
        if is_concrete((low, high)) and not 0 < float(np.asarray(low)) < float(np.asarray(high)):
            raise ValueError(f"interval must be (low, high) with 0 < low < high, got ({low}, {high})")
        return low / unit, high / unit
    if learning_rate is None:
        raise ValueError(f"learning_rate is required for the method {method!r}: below 2/(largest eigenvalue + ridge)")
    rate = _as_scalar(learning_rate, "learning_rate", dtype)
    rate = not_negative(rate, "learning_rate")
    return (rate * unit,) if method == "flow" else (rate * unit, push)


def _as_scalar(value: ArrayLike, name: str, dtype: jnp.dtype) -> Array:
    value = as_float(value, name, dtype)
    if value.ndim:
        raise ValueError(f"{name} must be a scalar, got shape {value.shape}: use jax.vmap for a grid")
    return value
