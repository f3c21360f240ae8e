"""The pencil (S + Λ)v = μD⁻¹v of an estimator: its equivalent outside the bulk, and where the bulk ends.

Outside the bulk μ is real, and so is c = 1/(1 + δ), δ = tr Σ₀R/n, R = (cΣ₀ + Λ - μD⁻¹)⁻¹. The branch that comes from
μ = ±∞, where c = 1, is followed in s ∈ [0, 1): to the right of the bulk c = 1/(1 - s), to the left c = 1 - s. For
given s the other unknown μ is the root of a monotone function, and the bulk ends where μ(s) turns: to the right
H(c, μ) = 1/c + tr Σ₀(μD⁻¹ - Λ - cΣ₀)⁻¹/n is jointly convex and H = 1 the branch, so μ(s) has one minimum; to the left
1/y + tr Σ₀(Σ₀ + yΛ - xD⁻¹)⁻¹/n is so in (x, y) = (μ/c, 1/c), and μ = x/y has one maximum.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax

from .. import _linalg
from .._implicit import implicit, in_lanes
from .._types import CONVERGED, NO_SOLUTION, NON_FINITE, Array, Bool, Float, Int, pytree
from ..covariance import Covariance, Diagonal, Spiked
from ..covariance.resolvent import Resolvent
from .equivalent import as_population, checked, resolvent_at, solve

Estimator = Literal["masked", "pca", "correlation_pca"]
RIGHT, LEFT = 1, -1
_MAX_STEPS = 100


@pytree
class Pencil:
    """(S + Λ)v = μ D⁻¹v for a population Σ₀: ``weights`` is the diagonal of D⁻¹, a scalar where it is constant."""

    population: Covariance
    n: Float[Array, ""]
    ridge: Float[Array, "..."]
    weights: Float[Array, "..."]

    def shift(self, mu: Array) -> Array:
        """Λ - μD⁻¹."""
        return self.ridge - mu * self.weights

    def resolvent(self, c: Array, mu: Array) -> Resolvent:
        """R = (cΣ₀ + Λ - μD⁻¹)⁻¹."""
        return self.population.resolvent(c, self.shift(mu))

    def balance(self, c: Array, shift: Array) -> Array:
        """F = 1 - 1/c + tr Σ₀R/n, which is 0 on the branch."""
        return 1 - 1 / c + self.population.resolvent(c, shift).trace() / self.n


def checked_pencil(
    bulk: object, n: Any, ridge: Any, estimator: Estimator, name: str
) -> tuple[Covariance, Array, Array]:
    """Validated arguments; the estimators without a ridge get a ridge of 0."""
    if estimator not in get_args(Estimator):
        raise ValueError(f"estimator must be one of {', '.join(get_args(Estimator))}, got {estimator!r}")
    bulk = as_population(bulk, name)
    if isinstance(bulk, Spiked):
        raise ValueError(f"{name} must be a population without spikes, got Spiked: pass its bulk")
    bulk, n, ridge, _ = checked(bulk, n, ridge if estimator == "masked" else 0.0, None)
    return bulk, n, ridge


def pencil_of(
    bulk: Covariance, n: Array, ridge: Array, estimator: Estimator, vanishing: bool, full: Covariance | None = None
) -> tuple[Pencil, Array, Int[Array, ""]]:
    """The pencil of ``bulk``, the weights of ``full`` (D of the whole population, δ of the bulk), and the status."""
    one = jnp.ones((), n.dtype)
    scalar = bulk.constant_diagonal and not ridge.ndim
    if estimator == "masked":
        point = solve(bulk, n, ridge, None, vanishing)
        # At ridge 0 with n < d the weights interpolate: A has the eigenvalue 1 and no bulk to leave.
        lost = (point.status == CONVERGED) & ~(point.shrinkage > 0)
        status = jnp.where(lost, NO_SOLUTION, point.status)

        def weights(population: Covariance) -> Array:
            return point.shrinkage / resolvent_at(population, point.effective_ridge).diagonal
    else:
        status = jnp.where(n > 0, CONVERGED, NON_FINITE)

        def weights(population: Covariance) -> Array:
            return population.diagonal()

    if estimator == "pca":
        return Pencil(bulk, n, ridge, one), one, status
    mine = weights(bulk)
    mine = mine[0] if scalar else mine
    return Pencil(bulk, n, ridge, mine), mine if full is None else weights(full), status


# ------------------------------------------------------------------------------- the branch, never differentiated
Search = tuple[Array, Array, Array]


def searchable(pencil: Pencil, plain: bool) -> Search:
    """(n, Σ̃, Λ̃) of the symmetric form D^(1/2)(S + Λ)D^(1/2): eigenvalues (d,) where the two commute, else a matrix.

    ``plain`` says that Λ is 0.
    """
    n, ridge, weights = pencil.n, pencil.ridge, pencil.weights
    if not ridge.ndim and not weights.ndim:
        found = (n, pencil.population.eigenvalues() / weights, ridge / weights)
    elif isinstance(pencil.population, Diagonal):
        found = (n, pencil.population.variances / weights, ridge / weights)
    else:
        root = jnp.sqrt(jnp.broadcast_to(weights, (pencil.population.dimension,)))
        matrix = pencil.population.matrix() / root[:, None] / root[None, :]
        found = (n, jnp.linalg.eigvalsh(matrix), ridge) if plain else (n, matrix, ridge / weights)
    return lax.stop_gradient(found)


def shrinkage_at(s: Array, side: int) -> Array:
    """c on the branch."""
    return 1 / (1 - s) if side == RIGHT else 1 - s


def branch(search: Search, s: Array, side: int) -> tuple[Array, Array]:
    """μ at s, and c² tr (Σ₀R)²/n, which passes 1 where μ turns."""
    n, covariance, ridge = search
    c = shrinkage_at(s, side)
    level = s if side == RIGHT else s / (1 - s)
    if covariance.ndim == 1:
        poles, loads = ridge + c * covariance, covariance
        mu = _outside(poles, loads / (n * level), side)
        square = ((loads / (mu - poles)) ** 2).sum()
    else:
        decomposed = in_lanes(lambda matrix: tuple(jnp.linalg.eigh(matrix)), 1)
        poles, vectors = decomposed(_linalg.add_diagonal(c * covariance, ridge))
        rotated = vectors.T @ covariance @ vectors
        mu = _outside(poles, jnp.diagonal(rotated) / (n * level), side)
        inverse = 1 / (mu - poles)
        square = inverse @ (rotated**2 @ inverse)
    return mu, c**2 * square / n


def _outside(poles: Array, loads: Array, side: int) -> Array:
    """μ beyond all poles with Σ loads/|μ - pole| = 1.

    The reciprocal of the sum is a harmonic mean, concave in μ: Newton from where the largest term alone is 1 climbs
    to the root. A pole without a load is none.
    """
    poles = jnp.where(loads > 0, side * poles, -jnp.inf)
    gap = poles.max() - poles
    tiny = 8 * jnp.finfo(poles.dtype).eps

    def body(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        e, _, steps = state
        terms = loads / (gap + e)
        total = terms.sum()
        step = total * (total - 1) / (terms / (gap + e)).sum()
        return e + step, jnp.abs(step) > tiny * e, steps + 1

    start = ((loads - gap).max(), jnp.array(True), jnp.array(0))
    e = lax.while_loop(lambda state: state[1] & (state[2] < _MAX_STEPS), body, start)[0]
    return side * (poles.max() + e)


def bracketed(function: Callable[[Array], Array], a: Array, fa: Array, b: Array, fb: Array) -> tuple[Array, Array]:
    """A simple root of a continuous function between a and b, of different signs there, and the value found.

    False position with the Illinois rule, now and then a bisection; values should be of order 1. Where the function
    does not change its sign although fb says so, the search ends near b and the value is not small.
    """
    ulp = jnp.finfo(a.dtype).eps

    def body(state: tuple) -> tuple:
        a, fa, b, fb, _, steps = state
        x = jnp.where(steps % 8 == 7, (a + b) / 2, b - fb * (b - a) / (fb - fa))
        fx = function(x)
        crossed = jnp.sign(fx) != jnp.sign(fb)
        a, fa = jnp.where(crossed, b, a), jnp.where(crossed, fb, fa / 2)
        done = (jnp.abs(fx) <= 8 * ulp) | (jnp.abs(x - b) <= 4 * ulp * jnp.abs(x))
        return a, fa, x, fx, done, steps + 1

    def running(state: tuple) -> Array:
        return ~state[4] & (state[5] < _MAX_STEPS)

    return lax.while_loop(running, body, (a, fa, b, fb, ~(fa * fb < 0), jnp.array(0)))[2:4]


# ----------------------------------------------------------------------------------------------------- the edges
def turn(search: Search, side: int) -> tuple[Array, Bool[Array, ""]]:
    """s where the bulk ends on this side, and whether it does: to the left it may end in an atom instead.

    To the right it ends in an edge, and not to find one is a lack of digits: at a ridge so large that S is lost in it.
    """
    n = search[0]

    def value(s: Array) -> Array:
        square = branch(search, s, side)[1]
        return (1 - square) / (1 + square)

    one = jnp.ones((), n.dtype)
    small = jnp.finfo(n.dtype).eps ** 0.5
    s, last = bracketed(value, 0 * one, one, one - small, -one)
    if side == LEFT:
        return s, jnp.abs(last) <= small
    mu = branch(search, s, side)[0]
    return s, (jnp.abs(last) <= small) & (mu - jnp.max(search[2]) > 100 * small**2 * mu)


def _edge_residual(unknown: Array, pencil: Pencil) -> Array:
    """F = 0 and c²F_c = 0 at the right edge, in (s, μ)."""
    s, mu = unknown[0], unknown[1]
    c = shrinkage_at(s, RIGHT)
    value, slope = jax.jvp(lambda c: pencil.balance(c, pencil.shift(mu)), (c,), (jnp.ones_like(c),))
    return jnp.stack([value, c**2 * slope])


def right_edge(pencil: Pencil, plain: bool) -> Float[Array, "2"]:
    """(s, μ) where the bulk ends on the right; differentiable in every field of the pencil."""
    search = searchable(pencil, plain)
    s, found = turn(search, RIGHT)
    start = jnp.stack([s, branch(search, s, RIGHT)[0]])
    return implicit(_edge_residual, jnp.where(found, start, jnp.nan), pencil)


def edge_fluctuation(pencil: Pencil, edge: Float[Array, "2"]) -> Float[Array, ""]:
    """Unit of the largest eigenvalue's fluctuations: (μ_max - μ_edge)/unit follows the Tracy-Widom law of order 1.

    Near its end the bulk holds (2/3π)((μ_edge - μ)/unit)^(3/2) eigenvalues; F = 0 expanded about the edge gives
    unit³ = |F_cc|/(2n²F_μ³).
    """
    c = shrinkage_at(edge[0], RIGHT)

    def balance(c: Array, mu: Array) -> Array:
        return pencil.balance(c, pencil.shift(mu))

    slope = jax.grad(balance, 1)(c, edge[1])
    curvature = jax.grad(jax.grad(balance))(c, edge[1])
    return jnp.cbrt(jnp.abs(curvature) / (2 * pencil.n**2)) / slope
