"""The effective ridge κ of a spectrum, alone or on a grid of n and ridges.

df₁ is one function of κ for all of a grid. It is tabulated, the equations are solved on the table, and one step of
Newton on the eigenvalues takes each solution to rounding; where that step does not settle it, Newton starts anew.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from .._checks import as_count, as_float, not_negative
from .._implicit import CACHED, in_lanes
from .._types import NO_SOLUTION, Array, ArrayLike, Float, full_precision
from ..covariance import Isotropic
from .equivalent import fixed_point_residual, isotropic_start, law_of, may_vanish, rank_of, solve

_TABULATED_FROM = 4096, 64  # points, eigenvalues: measured with benchmarks/theory.py, as fast below
_NODES = 512
_STEPS = 6  # on the table


@full_precision
def effective_ridge(eigenvalues: ArrayLike, n: ArrayLike, ridge: ArrayLike) -> Float[Array, "..."]:
    """κ with ridge = κ(1 - df₁(κ)/n), df₁ = Σ_i s_i/(s_i + κ): the ridge that the population feels.

    Parameters
    ----------
    eigenvalues
        (d,) population eigenvalues s_i, not negative.
    n, ridge
        Number of samples, positive, and penalty, not negative; they broadcast.

    Returns
    -------
    Array
        In the shape of n and ridge together. At ridge 0: 0 for n above the rank of the population, NaN at it,
        and the positive κ with df₁ = n below it.

    Notes
    -----
    f(κ) = κ - ridge - κ df₁(κ)/n is increasing and convex, so that Newton from its value for equal eigenvalues is
    monotone: 4 steps as a rule, O(d) each. On a grid of thousands df₁ is tabulated, and one step is left of them.
    Differentiable in every argument.

    Examples
    --------
    >>> import jmask as jm
    >>> round(float(jm.theory.effective_ridge([1.0, 1.0], n=1.0, ridge=0.0)), 12)
    1.0
    """
    population = Isotropic(eigenvalues)
    dtype = population.spectrum.dtype
    n, ridge = as_count(n, dtype=dtype), as_float(ridge, "ridge", dtype)
    ridge = not_negative(ridge, "ridge")
    shape = jnp.broadcast_shapes(n.shape, ridge.shape)
    n, flat = jnp.broadcast_to(n, shape).ravel(), jnp.broadcast_to(ridge, shape).ravel()
    return _effective_ridges(population, n, flat, may_vanish(flat)).reshape(shape)


@partial(jax.jit, static_argnames=("vanishing",))
def _effective_ridges(population: Isotropic, n: Array, ridge: Array, vanishing: bool) -> Array:
    def at(n: Array, ridge: Array, known: Array | None = None) -> Array:
        point = solve(population, n, ridge, None, vanishing, known)
        if not vanishing:
            return point.effective_ridge
        # Of a singular population with n above its rank nothing but κ has a limit.
        spare = 1 - lax.stop_gradient(rank_of(population)) / n
        vanishes = (ridge == 0) & (point.status == NO_SOLUTION) & (spare > 0)
        return jnp.where(vanishes, ridge / jnp.where(vanishes, spare, 1), point.effective_ridge)

    if n.size < _TABULATED_FROM[0] or population.dimension < _TABULATED_FROM[1]:
        return jax.vmap(at)(n, ridge)
    return jax.vmap(at)(n, ridge, _tabulated(*lax.stop_gradient((population, n, ridge))))


def _tabulated(population: Isotropic, n: Array, ridge: Array) -> Array:
    """δ = κ df₁(κ)/(nλ) of every point; NaN where one step from the table does not settle it."""
    positive = ridge > 0
    lowest = jnp.where(positive, ridge, jnp.inf).min()
    highest = jnp.where(positive, ridge + population.diagonal().sum() / n, 0).max()
    spacing = jnp.log(highest / lowest) / (_NODES - 1)
    logs = jnp.log(lowest) + spacing * jnp.arange(_NODES, dtype=n.dtype)

    def degrees(log: Array) -> Array:
        return population.resolvent(jnp.ones((), log.dtype), jnp.exp(log)).trace()

    values, slopes = jax.vmap(lambda log: jax.jvp(degrees, (log,), (spacing,)))(logs)
    rise, first, last = jnp.diff(values), slopes[:-1], slopes[1:]
    cubics = jnp.stack([values[:-1], first, 3 * rise - 2 * first - last, first + last - 2 * rise], axis=1)

    def df1(kappa: Array) -> tuple[Array, Array]:
        """df₁ and κ df₁'."""
        place = (jnp.log(kappa) - logs[0]) / spacing
        left = jnp.floor(jnp.clip(place, 0, _NODES - 2))
        u, (a, b, c, d) = place - left, cubics[left.astype(int)].T
        return a + u * (b + u * (c + u * d)), (b + u * (2 * c + 3 * u * d)) / spacing

    def step(_: Array, kappa: Array) -> Array:
        value, slope = df1(kappa)
        return jnp.maximum(kappa - (kappa - ridge - kappa * value / n) / (1 - (value + slope) / n), ridge)

    start = ridge * (1 + isotropic_start(population, n, ridge, jnp.full_like(n, jnp.nan)))
    kappa = lax.fori_loop(0, _STEPS, step, start)
    settled = in_lanes(_settled, max(1, CACHED // population.dimension))
    return jax.vmap(settled, (None, 0, 0, 0))(population.spectrum, n, ridge, kappa * df1(kappa)[0] / (n * ridge))


def _settled(spectrum: Array, n: Array, ridge: Array, start: Array) -> Array:
    """δ one step of Newton from the start, if the next one is below rounding; else NaN.

    For h of ``fixed_point``, h' = 1 - df₂/n and δh''/2 ≤ df₂/n: the next step is at most (1 - h')/h' times the square
    of this one, both relative to δ.
    """
    params = Isotropic(spectrum), n, ridge, law_of(None, n.dtype)
    value, slope = jax.jvp(lambda u: fixed_point_residual(u, params), (start,), (jnp.ones_like(start),))
    found = start - value / slope
    following = (value / slope / found) ** 2 * (1 - slope) / slope
    return jnp.where((slope > 0) & (following <= 8 * jnp.finfo(start.dtype).eps), found, jnp.nan)
