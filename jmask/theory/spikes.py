"""Spikes: the strength at which one leaves the bulk (BBP transition), where it goes, and what its eigenvector knows.

Masked regression, PCA and correlation PCA are three choices of (Λ, D) in one pencil (``pencil.py``), with one
equation for their outliers (``outlier_equation.py``).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._checks import is_concrete
from .._implicit import implicit
from .._types import (
    CONVERGED,
    MAX_STEPS,
    NON_FINITE,
    Array,
    ArrayLike,
    Bool,
    Float,
    Int,
    Result,
    full_precision,
    pytree,
)
from ..covariance import Covariance, Spiked
from ..covariance.resolvent import Resolvent
from .equivalent import may_vanish
from .outlier_equation import POWERS, Problem, Spike, Vector, overlap_at, residual
from .pencil import (
    LEFT,
    RIGHT,
    Estimator,
    bracketed,
    branch,
    checked_pencil,
    pencil_of,
    right_edge,
    searchable,
    shrinkage_at,
    turn,
)


@pytree
class Outliers(Result):
    """What becomes of each spike, in the order of the strengths.

    Attributes
    ----------
    eigenvalue
        (r,) where the outlier sits: an eigenvalue of A for "masked", μ of the pencil for the PCA variants; NaN where
        the spike leaves no outlier.
    overlap
        (r,) squared inner product of the unit eigenvector with the direction, in [0, 1]; 0 where there is no outlier.
    detectable
        (r,) whether an outlier leaves the outer edge of the bulk.
    status
        () ``CONVERGED``, or why eigenvalue and overlap are NaN and detectable is False.
    """

    eigenvalue: Float[Array, " r"]
    overlap: Float[Array, " r"]
    detectable: Bool[Array, " r"]
    status: Int[Array, ""]


@full_precision
def threshold(bulk: Covariance, n: ArrayLike, ridge: ArrayLike, estimator: Estimator = "masked") -> Float[Array, ""]:
    """Strength beyond which a delocalised spike leaves the bulk: θ_c = -d/(c tr R) at the right edge.

    Parameters
    ----------
    bulk
        The population Σ₀ of the noise, without spikes.
    n
        Number of samples, real and positive.
    ridge
        Penalty, scalar or (d,), not negative; only "masked" has one, and the others ignore it.
    estimator
        "masked": the weights of ``fit``; "pca": eigenvectors of S; "correlation_pca": of the correlations.

    Returns
    -------
    Array
        θ_c, in the units of Σ₀; √(d/n) for unit noise, for every estimator and ridge. NaN where the
        equations have no solution ("masked" at ridge 0 with n ≤ d).

    Raises
    ------
    ValueError, TypeError
        For n <= 0, a negative ridge, an unknown estimator, a bulk with spikes, or an ``Isotropic`` bulk with a ridge
        per coordinate, which needs its eigenvectors (``realise(key)``).

    Notes
    -----
    Differentiable, to any order, in the ridge, n and the bulk, by the implicit function theorem. Cost: O(d) an
    iteration for ``Diagonal``, and for ``Isotropic`` and ``Circulant`` with a scalar ridge; about ten
    eigendecompositions otherwise.

    References
    ----------
    Baik, Ben Arous and Péché (2005); arXiv 2601.23208 for masked regression.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> noise = jm.covariance.Diagonal(np.tile([0.3, 3.0], 50))
    >>> round(float(jm.theory.threshold(noise, 75, 0.3)), 2)
    1.71
    >>> round(float(jm.theory.threshold(noise, 75, 0.3, "pca")), 2)
    3.32
    """
    bulk, n, ridge = checked_pencil(bulk, n, ridge, estimator, "bulk")
    return _threshold(bulk, n, ridge, estimator, may_vanish(ridge))


@partial(jax.jit, static_argnames=("estimator", "vanishing"))
def _threshold(bulk: Covariance, n: Array, ridge: Array, estimator: Estimator, vanishing: bool) -> Array:
    pencil, _, status = pencil_of(bulk, n, ridge, estimator, vanishing)
    edge = right_edge(pencil, estimator != "masked")
    c = shrinkage_at(edge[0], RIGHT)
    critical = -1 / (c * pencil.resolvent(c, edge[1]).diagonal.mean())
    return jnp.where(status == CONVERGED, critical, jnp.nan)


@full_precision
def outliers(
    spiked: Spiked,
    n: ArrayLike,
    ridge: ArrayLike,
    estimator: Estimator = "masked",
    vector: Vector = "right",
) -> Outliers:
    """Predict the outlier of every spike and the overlap of its eigenvector with the direction.

    Parameters
    ----------
    spiked
        ``jmask.covariance.Spiked``: bulk, strengths (r,) of either sign, directions (d, r) or None (delocalised).
    n
        Number of samples, real and positive.
    ridge
        Penalty, scalar or (d,), not negative; only "masked" has one, and the others ignore it.
    estimator
        "masked", "pca" or "correlation_pca".
    vector
        Which eigenvector to compare with the direction, in the original coordinates: "left", v of the pencil
        (S + Λ)v = μD⁻¹v, vᵀA = ζvᵀ; "right", D⁻¹v, Ar = ζr; "symmetric", D^(-1/2)v. PCA has only one.

    Returns
    -------
    Outliers
        ``.eigenvalue .overlap .detectable``, each (r,), and ``.status``.

    Raises
    ------
    ValueError, TypeError
        As for ``threshold``; also for a population that is not ``Spiked``, and for θ <= -1/(uᵀΣ₀⁻¹u).

    Notes
    -----
    δ is that of the bulk; D that of the whole population where directions are given, and of the bulk where they are
    delocalised. Positive spikes leave on the right, negative ones on the left. Outliers of given directions mix them:
    one is given to the spike of which it holds most, and each spike has one at most. Only outliers beyond the outer
    edges are reported, not those inside a gap (on the left nothing leaves a bulk that ends in an atom). Spikes of equal
    strength share their eigenvectors: the overlap is then the squared projection on their span.

    Adding εB to S + Λ moves μ by ε vᵀBv/(vᵀD⁻¹v), so the overlap of Wv with u is the ratio of two derivatives of μ, at
    B = Wuuᵀ W and at B = W². Differentiable in the ridge, n, strengths, bulk and directions; where given directions
    give coinciding outliers the derivative of the overlap is NaN. Where nothing is detected the overlap is 0 and so
    is its derivative. Cost: as ``threshold`` once for each spike.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> noise = jm.covariance.Diagonal(np.tile([0.3, 3.0], 50))
    >>> found = jm.theory.outliers(jm.covariance.Spiked(noise, [4.0, 1.0]), 75, 0.3)
    >>> found.detectable.tolist(), round(float(found.overlap[0]), 3)
    ([True, False], 0.533)
    """
    if not isinstance(spiked, Spiked):
        raise TypeError(f"spiked must be a jmask.covariance.Spiked, got {type(spiked).__name__}")
    if vector not in POWERS:
        raise ValueError(f"vector must be one of {', '.join(POWERS)}, got {vector!r}")
    _, n, ridge = checked_pencil(spiked.bulk, n, ridge, estimator, "spiked.bulk")
    strengths, known = spiked.strengths, is_concrete(spiked.strengths)
    sides = tuple(side for side in (RIGHT, LEFT) if not known or (side * np.asarray(strengths) > 0).any())
    if LEFT in sides and is_concrete(spiked) and not (room := np.asarray(_room(spiked))).min() > 0:
        worst = int(room.argmin())
        raise ValueError(
            f"strengths must exceed -1/(uᵀΣ₀⁻¹u) = {np.asarray(strengths)[worst] / (1 - room[worst]):.4g} "
            f"for Σ to stay positive, got {np.asarray(strengths)[worst]:.4g}"
        )
    power = jnp.asarray(POWERS[vector], n.dtype)
    return _outliers(spiked, n, ridge, power, estimator, sides, may_vanish(ridge))


@jax.jit
def _room(spiked: Spiked) -> Float[Array, " r"]:
    """1 + θuᵀΣ₀⁻¹u for every spike: positive where Σ₀ + θuuᵀ is."""
    variances = spiked.bulk.diagonal()
    tiny = variances.shape[0] * jnp.finfo(variances.dtype).eps * variances.mean()
    resolvent = spiked.bulk.resolvent(jnp.ones((), tiny.dtype), tiny)
    if spiked.directions is None:
        return 1 + spiked.strengths * resolvent.diagonal.mean()
    return 1 + spiked.strengths * (spiked.directions * resolvent.apply(spiked.directions)).sum(0)


def _right_residual(unknown: Array, spike: Any) -> Array:
    return residual(RIGHT, unknown, spike)


def _left_residual(unknown: Array, spike: Any) -> Array:
    return residual(LEFT, unknown, spike)


@partial(jax.jit, static_argnames=("estimator", "sides", "vanishing"))
def _outliers(
    spiked: Spiked,
    n: Array,
    ridge: Array,
    power: Array,
    estimator: Estimator,
    sides: tuple[int, ...],
    vanishing: bool,
) -> Outliers:
    full = None if spiked.directions is None else spiked
    pencil, weights, status = pencil_of(spiked.bulk, n, ridge, estimator, vanishing, full)
    problem = Problem(spiked, pencil, weights)
    if LEFT in sides:
        status = jnp.where((_room(spiked) > 0).all(), status, NON_FINITE)
    r = spiked.strengths.shape[0]
    mu, overlap, found = jnp.full(r, jnp.nan, n.dtype), jnp.zeros(r, n.dtype), jnp.zeros(r, bool)
    exact = jnp.array(True)
    for side in sides:
        mine = side * spiked.strengths > 0
        values, overlaps, beyond, holds = _one_side(problem, side, power, estimator != "masked")
        mu, overlap = jnp.where(mine & beyond, values, mu), jnp.where(mine & beyond, overlaps, overlap)
        found, exact = found | (mine & beyond), exact & (holds | ~mine).all()
    status = jnp.where((status == CONVERGED) & ~exact, MAX_STEPS, status)
    known = status == CONVERGED
    eigenvalue = 1 - 1 / mu if estimator == "masked" else mu
    eigenvalue, overlap = jnp.where(known, eigenvalue, jnp.nan), jnp.where(known, overlap, jnp.nan)
    return Outliers(eigenvalue, overlap, found & known, status)


def _one_side(problem: Problem, side: int, power: Array, plain: bool) -> tuple[Array, Array, Array, Array]:
    """μ, overlap, whether there is an outlier and whether that is known, for every spike of this side."""
    search, fixed = searchable(problem.pencil, plain), lax.stop_gradient(problem)
    equation = _right_residual if side == RIGHT else _left_residual
    end, ends = turn(search, side)
    held = end / 2  # of the branch, where there is no outlier

    def at(s: Array) -> tuple[Array, Array, Resolvent]:
        """μ, c and R on the branch."""
        mu, c = branch(search, s, side)[0], shrinkage_at(s, side)
        return mu, c, fixed.resolvent(side, c, fixed.shift(mu))

    def gains(s: Array) -> Array:
        _, c, resolvent = at(s)
        return fixed.gains(side, c, fixed.forms(resolvent))

    most = gains(end)
    beyond = ends & (most > 1)

    def located(rank: Array) -> tuple[Array, Array, Array]:
        """(s, μ) of an outlier, its shares of the directions, and whether it is known."""

        def value(s: Array) -> Array:
            gain = gains(s)[rank]
            return (gain - 1) / (gain + 1)

        last = (most[rank] - 1) / (most[rank] + 1)
        s, left = bracketed(value, jnp.zeros_like(end), -jnp.ones_like(end), end, jnp.where(beyond[rank], last, -1))
        s = jnp.where(beyond[rank], s, held)
        mu, c, resolvent = at(s)
        share = fixed.shares(side, c, resolvent, fixed.weights**power)[rank]
        known = ~beyond[rank] | (jnp.abs(left) <= jnp.finfo(s.dtype).eps ** 0.5)
        return jnp.stack([s, mu]), share, known

    def described(pair: tuple[Array, Array]) -> tuple[Array, Array]:
        index, rank = pair
        spike = Spike(problem, index, rank, beyond[rank], held)
        place = implicit(equation, places[rank], spike)
        return place[1], overlap_at(spike, place, side, power)

    # One after the other: batched decompositions of one program may wait for each other for ever (``in_lanes``).
    indices = jnp.arange(most.shape[0])
    places, shares, known = lax.map(located, indices)
    ranks = _ranks(jnp.where(beyond[:, None], 1 + shares, shares))
    mu, overlap = lax.map(described, (indices, ranks))
    return mu, overlap, beyond[ranks], known[ranks] & (ends | (side == LEFT))


def _ranks(shares: Array) -> Int[Array, " r"]:
    """Which outlier is whose: by turns, the largest share left (outliers by rows) gives an outlier to a spike."""
    r = shares.shape[0]

    def give(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        left, ranks = state
        rank, index = jnp.divmod(jnp.argmax(left), r)
        return left.at[rank].set(-1).at[:, index].set(-1), ranks.at[index].set(rank)

    return lax.fori_loop(0, r, give, (shares, jnp.zeros(r, int)))[1]
