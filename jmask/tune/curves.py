"""Learning curves read backwards: the samples that a target error takes, and the population behind measured errors."""

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace as with_fields
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

from .._checks import as_count
from .._implicit import implicit
from .._linalg import inverse, solve_small
from .._types import (
    CONVERGED,
    MAX_STEPS,
    NO_SOLUTION,
    Array,
    ArrayLike,
    Float,
    Int,
    PRNGKeyArray,
    Result,
    full_precision,
    pytree,
)
from ..covariance import Circulant, Covariance, Diagonal, Isotropic
from ..masking import LeaveOneOut, Partition, Patterns, Scheme, check_scheme
from ..scales import Scales
from ..theory.equivalent import as_population, checked
from ..theory.held import undifferentiated
from ..theory.risk import _errors
from .minimiser import Minimum, minimise

_COUNTS = np.geomspace(1e-3, 1e4, 29)  # n/d of the coarse map
_RIDGES = np.geomspace(1e-6, 1e6, 37)  # in mean variances
_MAX_STEPS = 50


@pytree
class SamplesNeeded(Result):
    """The number of samples at which the predicted test error reaches a target.

    Attributes
    ----------
    n
        Real.
    ridge
        The best ridge there, or the one given.
    status
        ``CONVERGED``; ``NO_SOLUTION`` where the target lies below what any number of samples reaches, or above what
        d/1000 samples do; ``MAX_STEPS``.
    """

    n: Float[Array, ""]
    ridge: Float[Array, ""]
    status: Int[Array, ""]


@full_precision
def samples_needed(
    covariance: Covariance,
    target: ArrayLike,
    ridge: ArrayLike | None = None,
    scheme: Scheme = LeaveOneOut(),
    scales: Scales | None = None,
) -> SamplesNeeded:
    """Find how many samples bring the predicted test error down to a target.

    Parameters
    ----------
    covariance
        A population of ``jmask.covariance``.
    target
        Test error, mean over coordinates, positive.
    ridge
        None: the best one at every n, with which the error falls monotonically. A positive number: that ridge; the
        error may then rise before it falls, and the n is the one beyond which it stays below the target.
    scheme, scales
        ``LeaveOneOut`` or ``Bernoulli``, and the law of τ², as in ``jmask.theory.errors``.

    Returns
    -------
    SamplesNeeded
        ``.n .ridge .status``; NaN unless converged.

    Raises
    ------
    ValueError, TypeError
        For a target or a ridge that is not positive, and what ``jmask.theory.errors`` refuses.

    Notes
    -----
    A map of 29 numbers of samples by 37 ridges in one batch, then Newton for (log n, log ridge) on error = target and
    ∂error/∂log ridge = 0. Differentiable in the target, the population and the scales by the implicit function theorem.

    Examples
    --------
    >>> import jmask as jm
    >>> c = jm.covariance.ar1(30, 0.9, circulant=True)
    >>> found = jm.tune.samples_needed(c, 0.2)
    >>> e = jm.theory.errors(c, found.n, found.ridge)
    >>> bool(found.converged), round(float(e.test), 9)
    (True, 0.2)
    """
    covariance, _, _, scales = checked(covariance, 1.0, 0.0, scales)
    dtype = covariance.diagonal().dtype
    check_scheme(scheme, covariance.dimension)
    if isinstance(scheme, Patterns | Partition):
        raise ValueError("scheme must be LeaveOneOut or Bernoulli here")
    target = as_count(target, "target", dtype)
    if target.ndim:
        raise ValueError(f"target must be a scalar, got shape {target.shape}: use jax.vmap for a grid")
    if ridge is not None:
        ridge = as_count(ridge, "ridge", dtype)
        if ridge.ndim:
            raise ValueError(f"ridge must be a scalar, got shape {ridge.shape}")
    return _samples_needed((covariance, target, ridge, scheme, scales))


def _error(place: Array, problem: tuple) -> Array:
    """Test error at (log n, log ridge)."""
    covariance, _, _, scheme, scales = problem
    return _errors(covariance, jnp.exp(place[0]), jnp.exp(place[1]), scheme, scales, False).test


def _conditions(place: Array, problem: tuple) -> Array:
    """Error at the target, relative to it; and ridge at its best, or as given."""
    target, ridge = problem[1], problem[2]
    along = jnp.arange(2) == 1
    value, slope = jax.jvp(lambda p: _error(p, problem), (place,), (along.astype(place.dtype),))
    second = slope / target if ridge is None else place[1] - jnp.log(ridge)
    return jnp.stack([value / target - 1, second])


@jax.jit
def _samples_needed(problem: tuple) -> SamplesNeeded:
    fixed = lax.stop_gradient(problem)
    place, possible = _coarse(fixed)
    width = np.log(_COUNTS[1] / _COUNTS[0])

    def body(state: tuple) -> tuple:
        place, _, steps = state
        step = solve_small(jax.jacfwd(_conditions)(place, fixed), _conditions(place, fixed))
        step = step / jnp.maximum(jnp.abs(step).max() / width, 1)
        return place - step, jnp.abs(step).max(), steps + 1

    def running(state: tuple) -> Array:
        return possible & (state[1] > jnp.finfo(place.dtype).eps ** 0.75) & (state[2] < _MAX_STEPS)

    begin = (place, jnp.full((), jnp.inf, place.dtype), jnp.array(0))
    place, step, _ = lax.while_loop(running, body, begin)
    near = (step <= jnp.finfo(place.dtype).eps ** 0.5) & jnp.isfinite(place).all()
    status = jnp.where(possible, jnp.where(near, CONVERGED, MAX_STEPS), NO_SOLUTION)
    place = implicit(_conditions, place, problem)
    n, ridge = (jnp.where(status == CONVERGED, jnp.exp(entry), jnp.nan) for entry in (place[0], place[1]))
    return SamplesNeeded(n, ridge, status)  # type: ignore[call-arg]


def _coarse(problem: tuple) -> tuple[Array, Array]:
    """Where the map crosses the target for the last time, and whether it does."""
    covariance, target, ridge, _, _ = problem
    dtype = target.dtype
    logs = jnp.asarray(np.log(_COUNTS * covariance.dimension), dtype)
    if ridge is None:
        ridges = jnp.log(covariance.diagonal().mean()) + jnp.asarray(np.log(_RIDGES), dtype)
    else:
        ridges = jnp.log(ridge)[None]
    at = jax.vmap(jax.vmap(lambda s, t: _error(jnp.stack([s, t]), problem), (None, 0)), (0, None))
    table = at(logs, ridges)
    table = jnp.where(jnp.isfinite(table), table, jnp.inf)
    values, best = table.min(1), ridges[table.argmin(1)]
    above = values > target
    last = jnp.clip(logs.shape[0] - 1 - jnp.argmax(above[::-1]), 0, logs.shape[0] - 2)
    possible = above.any() & ~above[-1] & jnp.isfinite(values[last])
    share = jnp.clip((values[last] - target) / (values[last] - values[last + 1]), 0, 1)
    start = jnp.stack([logs[last], best[last]])
    return start + share * (jnp.stack([logs[last + 1], best[last + 1]]) - start), possible


_LIGHT = (Diagonal, Isotropic, Circulant)  # populations whose errors take no matrix solve


@dataclass(frozen=True)
class _Misfit:
    """Half the sum of squared deviations of predicted test errors from measured ones."""

    population: Callable[[Any], Covariance]

    def deviations(self, parameters: Any, data: tuple) -> Float[Array, " m"]:
        n, ridge, test, spread, scheme, scales = data
        covariance = as_population(self.population(parameters), "population(parameters)")

        def predicted(n: Array, ridge: Array) -> Array:
            return _errors(covariance, n, ridge, scheme, scales, False).test

        if isinstance(covariance, _LIGHT):
            errors = jax.vmap(predicted)(n, ridge)
        else:
            # Two batched matrix solves at once can wait for each other for ever on a CPU (jaxlib 0.10). Inside a loop
            # only first derivatives are right: see ``risk.py``.
            errors = lax.map(lambda point: predicted(*point), (n, ridge))
        return (errors - test) / spread

    def __call__(self, parameters: Any, data: tuple) -> Array:
        return (self.deviations(parameters, data) ** 2).sum() / 2


@partial(jax.jit, static_argnames=("misfit",))
def _error_bars(misfit: _Misfit, parameters: Any, data: tuple) -> Any:
    """√diag (JᵀJ)⁻¹, J the first derivatives of the deviations."""
    vector, restore = ravel_pytree(parameters)
    slopes = jax.jacfwd(lambda v: misfit.deviations(restore(v), data))(vector)
    return restore(jnp.sqrt(jnp.diagonal(inverse(slopes.T @ slopes))))


@full_precision
def fit_population(
    population: Callable[[Any], Covariance],
    start: Any,
    n: ArrayLike,
    ridge: ArrayLike,
    test: ArrayLike,
    *,
    standard_error: ArrayLike | None = None,
    scheme: Scheme = LeaveOneOut(),
    scales: Scales | None = None,
    bounds: Any = None,
    restarts: int = 0,
    key: PRNGKeyArray | None = None,
) -> Minimum:
    """Fit the parameters of a population so that predicted learning curves match measured ones.

    Parameters
    ----------
    population
        Function of the parameters that returns a population, such as ``lambda rho: jmask.covariance.ar1(100, rho)``;
        define it once, outside loops.
    start
        Parameters to start from, any pytree.
    n, ridge, test
        (m,) numbers of samples, positive ridges and measured test errors, mean over coordinates; ``n`` and ``ridge``
        broadcast.
    standard_error
        (m,) or scalar, of the measured errors. None: relative deviations count alike, and the error bars are scaled
        by what is left of them.
    scheme, scales
        As in ``jmask.theory.errors``.
    bounds, restarts, key
        As in ``minimise``.

    Returns
    -------
    Minimum
        ``.argument`` the parameters, ``.standard_error`` theirs (Gauss-Newton), ``.value`` half of χ².

    Raises
    ------
    ValueError, TypeError
        For shapes that disagree, numbers that are not positive, and what ``minimise`` refuses.

    Notes
    -----
    The theory is right to relative order 1/d, so do not expect more of the parameters than that. Differentiable in the
    data for ``Diagonal``, ``Isotropic`` and ``Circulant`` populations; for others the derivative is NaN.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> n = np.array([20.0, 40.0, 80.0])
    >>> truth = jm.covariance.ar1(30, 0.8, circulant=True)
    >>> test = [float(jm.theory.errors(truth, k, 0.1).test) for k in n]
    >>> found = jm.tune.fit_population(
    ...     lambda rho: jm.covariance.ar1(30, rho, circulant=True), 0.5, n, 0.1, test, bounds=jm.tune.Interval(0, 1)
    ... )
    >>> round(float(found.argument), 6)
    0.8
    """
    n, ridge, test = as_count(n, "n"), as_count(ridge, "ridge"), as_count(test, "test")
    shape = test.shape
    if len(shape) != 1 or any(item.shape not in ((), shape) for item in (n, ridge)):
        raise ValueError(
            f"test must be a vector (m,), and n and ridge (m,) or scalars, got {test.shape}, {n.shape}, {ridge.shape}"
        )
    spread = test if standard_error is None else as_count(standard_error, "standard_error")
    if spread.shape not in ((), shape):
        raise ValueError(f"standard_error must be a scalar or of shape {shape}, got {spread.shape}")
    like = as_population(population(start), "population(start)")
    data = (*(jnp.broadcast_to(item, shape).astype(test.dtype) for item in (n, ridge, test, spread)), scheme, scales)
    misfit = _Misfit(population)
    found = minimise(misfit, start, args=(data,), bounds=bounds, restarts=restarts, key=key)
    bars = _error_bars(misfit, lax.stop_gradient(found.argument), data)
    if standard_error is None:
        free = max(1, shape[0] - sum(np.size(leaf) for leaf in jax.tree.leaves(start)))
        bars = jax.tree.map(lambda bar: bar * jnp.sqrt(2 * found.value / free), bars)
    argument = found.argument
    if not isinstance(like, _LIGHT):
        argument = jax.tree.map(lambda leaf: undifferentiated(leaf, data[:4]), argument)
    return with_fields(found, argument=argument, standard_error=bars)
