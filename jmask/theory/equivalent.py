"""The deterministic equivalent of the resolvent: its fixed point, solved by monotone Newton, differentiated implicitly.

For rows x_i = τ_i Σ^{1/2} g_i, Q = (S + Λ)⁻¹ ≈ (cΣ + Λ)⁻¹ with δ = tr Σ(c(δ)Σ + Λ)⁻¹/n. Everything downstream is
written with T = Λ/c and R = (Σ + T)⁻¹, on which the predictor depends alone, and with u = 1/δ: both stay finite
where the ridge vanishes and n < d, and so do their derivatives.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._checks import all_zero, as_count, as_ridge, is_concrete
from .._implicit import implicit, newton
from .._types import CONVERGED, NO_SOLUTION, NON_FINITE, Array, ArrayLike, Float, Int, Result, full_precision, pytree
from ..covariance import Covariance
from ..covariance.resolvent import Resolvent
from ..scales import Scales

_MAX_STEPS = 200  # 6 to 14 steps as a rule; about log2 of the distance to n = d when the ridge is 0


@pytree
class FixedPoint(Result):
    """The solution of δ = tr Σ(c(δ)Σ + Λ)⁻¹/n and what follows from it; NaN unless converged.

    Attributes
    ----------
    delta
        δ; infinite at ridge 0 below n = d.
    effective_ridge
        T = Λ/c(δ), scalar or (d,) as the ridge; κ in the isotropic Gaussian case.
    shrinkage
        c(δ), the share of Σ that the equivalent of S keeps.
    ratio
        c₂(δ)/c(δ)², 1 for Gaussian data.
    train_share
        E[τ²/(1 + τ²δ)²]: train over test error of the fit with this penalty; c² for Gaussian data.
    residual
        |δ - tr Σ(cΣ + Λ)⁻¹/n| relative to δ, at the last iterate.
    steps
        Newton steps.
    status
        ``CONVERGED``; ``NO_SOLUTION`` at ridge 0 for n = d (and for some zero ridges beside positive ones, when they
        are not fewer than n); ``NON_FINITE`` for input that is not finite, or not positive where it must be.
    """

    delta: Float[Array, ""]
    effective_ridge: Float[Array, "..."]
    shrinkage: Float[Array, ""]
    ratio: Float[Array, ""]
    train_share: Float[Array, ""]
    residual: Float[Array, ""]
    steps: Int[Array, ""]
    status: Int[Array, ""]


@full_precision
def fixed_point(covariance: Covariance, n: ArrayLike, ridge: ArrayLike, scales: Scales | None = None) -> FixedPoint:
    """Solve the self-consistent equation of the sample resolvent.

    Parameters
    ----------
    covariance
        A population of ``jmask.covariance``.
    n
        Number of samples, real and positive.
    ridge
        Penalty, scalar or (d,), not negative; 0 is the limit 0⁺.
    scales
        Law of τ² for elliptical data; None is Gaussian.

    Returns
    -------
    FixedPoint
        ``.delta .effective_ridge .shrinkage .ratio .residual .steps .status``.

    Raises
    ------
    ValueError, TypeError
        For n <= 0, a negative ridge, shapes that disagree, or what is no population.

    Notes
    -----
    h(δ) = δ - tr Σ(c(δ)Σ + Λ)⁻¹/n is convex (1/c is a harmonic mean, concave in δ), and h ≥ 0 at the start, so
    Newton falls onto the root without a bracket. Differentiable, to any order, in the ridge, n, the population
    and the scales, by the implicit function theorem: a derivative costs one linearisation.

    References
    ----------
    Couillet and Debbah (2011) chapter 6; El Karoui (2009) for elliptical rows.

    Examples
    --------
    >>> import jmask as jm
    >>> point = jm.theory.fixed_point(jm.covariance.Diagonal([1.0, 1.0]), n=4, ridge=0.5)
    >>> round(float(point.effective_ridge), 6)
    0.707107
    """
    covariance, n, ridge, scales = checked(covariance, n, ridge, scales)
    return solve(covariance, n, ridge, scales, may_vanish(ridge))


def checked(
    covariance: object, n: ArrayLike, ridge: ArrayLike, scales: Scales | None
) -> tuple[Covariance, Array, Array, Scales | None]:
    """The arguments that every theory function shares, validated and in the precision of the population."""
    covariance = as_population(covariance)
    dtype = covariance.diagonal().dtype
    n = as_count(n, dtype=dtype)
    if n.ndim:
        raise ValueError(f"n must be a scalar, got shape {n.shape}: use jax.vmap for a grid")
    if not (scales is None or isinstance(scales, Scales)):
        raise TypeError(f"scales must be a jmask.Scales or None, got {type(scales).__name__}")
    ridge = as_ridge(ridge, covariance.dimension, dtype)
    if ridge.ndim and all_zero(ridge):
        ridge = jnp.zeros((), dtype)
    return covariance, n, ridge, scales


def as_population(covariance: object, name: str = "covariance") -> Covariance:
    """A population, or a message that says how to make one."""
    if not isinstance(covariance, Covariance):
        hint = "jmask.covariance.Dense(matrix) makes one of a matrix"
        raise TypeError(f"{name} must be a population of jmask.covariance, got {type(covariance).__name__}; {hint}")
    return covariance


def may_vanish(ridge: Array) -> bool:
    """Whether some entry may be 0: then the limit is prepared beside the regular solution."""
    return not is_concrete(ridge) or not np.asarray(ridge).all()


def law_of(scales: Scales | None, dtype: jnp.dtype) -> tuple[Array, Array]:
    """(squares, probabilities) in the given dtype; Gaussian data is the law that sits at 1."""
    if scales is None:
        return jnp.ones(1, dtype), jnp.ones(1, dtype)
    return scales.squares.astype(dtype), scales.probabilities.astype(dtype)


@partial(jax.jit, static_argnames=("vanishing",))
def solve(
    covariance: Covariance,
    n: Array,
    ridge: Array,
    scales: Scales | None,
    vanishing: bool,
    known: Array | None = None,
) -> FixedPoint:
    """``fixed_point`` without the checks; ``vanishing`` says whether a ridge may be 0, ``known`` is δ or NaN."""
    law = law_of(scales, n.dtype)
    start, ridgeless, status = _start(covariance, n, ridge, law, vanishing)
    if scales is None and not ridge.ndim:
        start = isotropic_start(covariance, n, ridge, start)
    # The iteration runs on a population with the same traces that is cheap to evaluate again and again.
    population, shift = lax.stop_gradient(covariance).for_traces(lax.stop_gradient(ridge))
    params = (population, n, shift, law)
    start = jnp.where(ridgeless, jnp.nan, start)
    if known is not None:
        start = jnp.where(jnp.isfinite(known), jnp.nan, start)
    delta, steps, found = newton(fixed_point_residual, start, params, max_steps=_MAX_STEPS)
    if known is not None:
        delta, found = (jnp.where(jnp.isfinite(known), a, b) for a, b in ((known, delta), (CONVERGED, found)))
    residual = jnp.abs(fixed_point_residual(delta, lax.stop_gradient(params))) / delta
    if ridge.ndim:
        status = jnp.where(status == CONVERGED, found, status)
        delta = jnp.where(status == CONVERGED, delta, jnp.nan)
        inverse = 1 / implicit(fixed_point_residual, delta, (covariance, n, ridge, law))
        effective = ridge / (inverse * _mean(law, inverse))
    else:
        kappa, inverse = ridge / _c(law, delta), 1 / delta
        if vanishing:
            limit, more, other = _ridgeless(population, n, law, ridgeless)
            kappa, inverse = jnp.where(ridgeless, limit, kappa), jnp.where(ridgeless, 0, inverse)
            steps, found = jnp.where(ridgeless, more, steps), jnp.where(ridgeless, other, found)
            lost = jnp.abs(_ridgeless_residual(limit, lax.stop_gradient((population, n, law)))) / limit
            residual = jnp.where(ridgeless, lost, residual)
        status = jnp.where(status == CONVERGED, found, status)
        pair = jnp.where(status == CONVERGED, jnp.stack([kappa, inverse]), jnp.nan)
        effective, inverse = implicit(_pair_residual, pair, (covariance, n, ridge, law))
    return _packed(law, effective, inverse, residual, steps, status)


def _packed(law: tuple, effective: Array, inverse: Array, residual: Array, steps: Array, status: Array) -> FixedPoint:
    mean, share = _mean(law, inverse), inverse**2 * _mixed(law, inverse)
    ratio = _second(law, inverse) / mean**2
    return FixedPoint(1 / inverse, effective, inverse * mean, ratio, share, residual, steps, status)  # type: ignore[call-arg]


def _start(covariance: Covariance, n: Array, ridge: Array, law: tuple, vanishing: bool) -> tuple[Array, Array, Array]:
    """δ₀ with h(δ₀) ≥ 0, whether the ridge is a 0 below the rank, and the status that rules a solution out.

    With d₀ ridges of 0, tr Σ(cΣ + Λ)⁻¹ ≤ d₀/c + Σ_{λ_k > 0} Σ_kk/λ_k, and the concave 1/c lies below its asymptote
    δ/P + b, P = P(τ > 0), b = E[τ⁻²; τ > 0]/P²; equality of the two sides gives δ₀.
    """
    squares, probabilities = law
    n, ridge, covariance = lax.stop_gradient((n, ridge, covariance))
    valid = (n > 0) & jnp.all(ridge >= 0)
    variances = covariance.diagonal()
    positive = ridge > 0
    safe = jnp.where(positive, ridge, 1)
    penalised = jnp.where(positive, (variances if ridge.ndim else variances.sum()) / safe, 0).sum()
    if not vanishing:
        return penalised / n, jnp.array(False), jnp.where(valid, CONVERGED, NON_FINITE)
    mass = jnp.where(squares > 0, probabilities, 0).sum()
    intercept = jnp.where(squares > 0, probabilities / jnp.where(squares > 0, squares, 1), 0).sum() / mass**2
    if ridge.ndim:
        free = (~positive).sum().astype(n.dtype)
    else:
        free = jnp.where(positive, 0, rank_of(covariance))
    room = n - free / mass
    start = (free * intercept + penalised) / jnp.where(room > 0, room, jnp.nan)
    ridgeless = (room < 0) & jnp.array(ridge.ndim == 0)
    solvable = (room > 0) | ridgeless
    if not ridge.ndim:  # κ = 0: Σ⁻¹ must exist
        solvable = solvable & (positive | ridgeless | (free == covariance.dimension))
    status = jnp.where(solvable, CONVERGED, NO_SOLUTION)
    return start, ridgeless, jnp.where(valid, status, NON_FINITE)


def rank_of(covariance: Covariance) -> Array:
    """df₁ at a vanishing κ."""
    variances = covariance.diagonal()
    tiny = variances.mean() * covariance.dimension * jnp.finfo(variances.dtype).eps
    return jnp.round(covariance.resolvent(1.0, tiny).trace())


def isotropic_start(covariance: Covariance, n: Array, ridge: Array, otherwise: Array) -> Array:
    """δ₀ of the isotropic population with the same trace, for Gaussian data and a positive scalar ridge.

    df₁ is concave in the eigenvalues, so that h of theirs lies above h of their mean m and δ₀ above the root. There
    κ solves κ² + (m - γm - λ)κ = λm, and δ = κ/λ - 1 = κγm/((m + κ)λ).
    """
    ridge, n, covariance = lax.stop_gradient((ridge, n, covariance))
    mean, gamma = covariance.diagonal().mean(), covariance.dimension / n
    linear = mean * (1 - gamma) - ridge
    root = jnp.sqrt(linear**2 + 4 * ridge * mean)
    safe = jnp.where(root + jnp.abs(linear) > 0, root + jnp.abs(linear), 1)
    kappa = jnp.where(linear > 0, 2 * ridge * mean / safe, safe / 2)
    positive = (ridge > 0) & (mean > 0)
    delta = kappa * gamma * mean / jnp.where(positive, (mean + kappa) * ridge, 1)
    return jnp.where(positive, delta * (1 + 16 * jnp.finfo(ridge.dtype).eps), otherwise)


def _c(law: tuple, delta: Array) -> Array:
    """c(δ) = E[τ²/(1 + τ²δ)]."""
    squares, probabilities = law
    return (probabilities * squares / (1 + squares * delta)).sum()


def _mean(law: tuple, u: Array) -> Array:
    """E[τ²/(u + τ²)] = c/u = cδ, where a τ of 0 counts for nothing."""
    return _moment(law, u, 1, 1)


def _second(law: tuple, u: Array) -> Array:
    """E[τ⁴/(u + τ²)²] = c₂/u²."""
    return _moment(law, u, 2, 2)


def _mixed(law: tuple, u: Array) -> Array:
    """E[τ²/(u + τ²)²]: times u², the mean of τ²/(1 + τ²δ)², the share of the test error seen in training."""
    return _moment(law, u, 1, 2)


def _moment(law: tuple, u: Array, a: int, b: int) -> Array:
    squares, probabilities = law
    positive = squares > 0
    safe = jnp.where(positive, squares, 1)
    return jnp.where(positive, probabilities * safe**a / (u + safe) ** b, 0).sum()


def fixed_point_residual(delta: Array, params: Any) -> Array:
    """h(δ) = δ - tr Σ(c(δ)Σ + Λ)⁻¹/n."""
    covariance, n, ridge, law = params
    return delta - covariance.resolvent(_c(law, delta), ridge).trace() / n


def _pair_residual(pair: Array, params: Any) -> Array:
    """The same for a scalar ridge in (κ, u): cδ = df₁(κ)/n and κc = λ; regular at λ = 0 on both sides of n = d."""
    covariance, n, ridge, law = params
    kappa, u = pair[0], pair[1]
    mean = _mean(law, u)
    one = jnp.ones((), kappa.dtype)
    return jnp.stack([mean - covariance.resolvent(one, kappa).trace() / n, kappa * u * mean - ridge])


def _ridgeless_residual(kappa: Array, params: Any) -> Array:
    """κ(1 - df₁(κ)/(nP)): increasing and convex beyond its positive root, like f of ``effective_ridge``."""
    covariance, n, law = params
    squares, probabilities = law
    mass = jnp.where(squares > 0, probabilities, 0).sum()
    one = jnp.ones((), kappa.dtype)
    return kappa * (1 - covariance.resolvent(one, kappa).trace() / (n * mass))


def _ridgeless(population: Covariance, n: Array, law: tuple, wanted: Array) -> tuple[Array, Array, Array]:
    """κ at ridge 0 below the rank, from tr Σ/(nP) where f ≥ 0; lanes that do not want it stop at once."""
    squares, probabilities = law
    mass = jnp.where(squares > 0, probabilities, 0).sum()
    start = population.diagonal().sum() / (n * mass)
    start = jnp.where(wanted, lax.stop_gradient(start), jnp.nan)
    return newton(_ridgeless_residual, start, (population, n, law), max_steps=_MAX_STEPS)


def resolvent_at(covariance: Covariance, effective: Array) -> Resolvent:
    """R = (Σ + T)⁻¹, to which Q̄ is proportional."""
    return covariance.resolvent(jnp.ones((), effective.dtype), effective)


def degrees_of_freedom(covariance: Covariance, effective: Array) -> tuple[Array, Array]:
    """df₁ = tr ΣR and df₂ = tr ΣRΣR = -∂(tr ΣR(c))/∂c, R(c) = (cΣ + T)⁻¹, c = 1."""

    def trace(c: Array) -> Array:
        return covariance.resolvent(c, effective).trace()

    one = jnp.ones((), effective.dtype)
    df1, slope = jax.jvp(trace, (one,), (one,))
    return df1, -slope
