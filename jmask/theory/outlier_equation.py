"""The equation of an outlier, det[I + c diag(θ)UᵀRU] = 0 on the real branch of a pencil, and the overlap from it.

Spikes enter one by one where their directions are delocalised, coupled through UᵀRU where directions are given.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._checks import is_concrete
from .._implicit import newton
from .._linalg import solve_small
from .._types import Array, Bool, Float, Int, pytree
from ..covariance import Spiked
from ..covariance.base import eigenvalues_of
from ..covariance.resolvent import Resolvent, WoodburyResolvent
from .pencil import RIGHT, Pencil, shrinkage_at

Vector = Literal["right", "left", "symmetric"]
POWERS: dict[Vector, float] = {"right": 1.0, "left": 0.0, "symmetric": 0.5}  # the vector is D^(-power) v


@pytree
class Problem:
    """What the outlier equation depends on: ``weights`` of the whole population, ``pencil`` of the bulk."""

    spiked: Spiked
    pencil: Pencil
    weights: Float[Array, "..."]

    def shift(self, mu: Array) -> Array:
        return self.pencil.ridge - mu * self.weights

    def resolvent(self, side: int, c: Array, shift: Array) -> Resolvent:
        """R of the bulk and of the spikes that leave on the other side."""
        bulk, strengths = self.spiked.bulk, self.spiked.strengths
        if self.spiked.directions is None or (is_concrete(strengths) and (side * np.asarray(strengths) >= 0).all()):
            return bulk.resolvent(c, shift)
        others = jnp.where(side * strengths < 0, strengths, 0)
        return WoodburyResolvent(bulk.resolvent, others, self.spiked.directions, c, shift)

    def forms(self, resolvent: Resolvent) -> Array:
        """UᵀRU (r, r), or the common uᵀRu of delocalised directions."""
        if self.spiked.directions is None:
            return resolvent.diagonal.mean()
        return self.spiked.directions.T @ resolvent.apply(self.spiked.directions)

    def gains(self, side: int, c: Array, forms: Array) -> Float[Array, " r"]:
        """An outlier stands where its entry is 1: -θcuᵀRu of each spike, or the eigenvalues of the coupled ones."""
        strengths = self.spiked.strengths
        if self.spiked.directions is None:
            return jnp.where(side * strengths > 0, -c * strengths * forms, 0)
        return eigenvalues_of(self._coupling(side, c, forms))[::-1]

    def _coupling(self, side: int, c: Array, forms: Array) -> Float[Array, "r r"]:
        """-c√θUᵀRU√θ of the spikes of this side; those of the other stand apart, below all values that count."""
        strengths, root = self.spiked.strengths, self._roots(side)
        coupled = -side * c * root[:, None] * (forms + forms.T) / 2 * root[None, :]
        # Distinct values, so that derivatives stay finite.
        count = jnp.arange(1, strengths.shape[0] + 1, dtype=c.dtype)
        return coupled - jnp.diag(jnp.where(side * strengths > 0, 0, count))

    def _roots(self, side: int) -> Float[Array, " r"]:
        """√|θ| of the spikes of this side, 0 of the others."""
        strengths = side * self.spiked.strengths
        return jnp.where(strengths > 0, jnp.sqrt(jnp.where(strengths > 0, strengths, 1)), 0)

    def shares(self, side: int, c: Array, resolvent: Resolvent, window: Array) -> Float[Array, "r r"]:
        """Squared inner products of WRU√θw, w the vectors behind ``gains``, with the directions; rows sum to 1."""
        directions = self.spiked.directions
        if directions is None:
            return jnp.eye(self.spiked.strengths.shape[0], dtype=c.dtype)
        applied = resolvent.apply(directions)
        vectors = jnp.linalg.eigh(self._coupling(side, c, directions.T @ applied))[1][:, ::-1]
        windowed = jnp.broadcast_to(window, directions.shape[:1])[:, None] * applied
        squares = (directions.T @ windowed @ (self._roots(side)[:, None] * vectors)).T ** 2
        total = squares.sum(1, keepdims=True)
        return squares / jnp.where(total > 0, total, 1)


@pytree
class Spike:
    """A spike and the rank of its outlier, whether there is one, and a point of the branch that stands for none."""

    problem: Problem
    index: Int[Array, ""]
    rank: Int[Array, ""]
    found: Bool[Array, ""]
    held: Float[Array, ""]


def residual(side: int, unknown: Array, spike: Spike) -> Array:
    """F = 0 and gain = 1 in (s, μ); s is held where there is no outlier, so that derivatives stay finite."""
    s, mu = unknown[0], unknown[1]
    c, problem, pencil = shrinkage_at(s, side), spike.problem, spike.problem.pencil
    gains = problem.gains(side, c, problem.forms(problem.resolvent(side, c, problem.shift(mu))))
    missing = jnp.where(spike.found, 1 - gains[spike.rank], s - spike.held)
    return jnp.stack([pencil.balance(c, pencil.shift(mu)), missing])


def overlap_at(spike: Spike, place: Array, side: int, power: Array) -> Array:
    """(dμ/dε at B = Wuuᵀ W)/(dμ/dε at B = W²), W = D^(-power); δ moves for the second, not for the first."""
    problem, pencil = spike.problem, spike.problem.pencil
    mu, c = place[1], shrinkage_at(place[0], side)
    own, bulk = problem.shift(mu), pencil.shift(mu)
    seen = _seen(problem, problem.resolvent(side, c, own), problem.weights**power, spike.index)

    def equations(moves: Array) -> Array:
        """Gain and balance with c, Λ + εW² and UᵀRU + η(what ε does to it at B = Wuuᵀ W) moved."""
        at, epsilon, eta = c + moves[0], moves[1], moves[2]
        forms = problem.forms(problem.resolvent(side, at, own + epsilon * problem.weights ** (2 * power)))
        gain = problem.gains(side, at, forms + eta * seen)[spike.rank]
        return jnp.stack([gain, pencil.balance(at, bulk + epsilon * pencil.weights ** (2 * power))])

    slopes = jax.jacfwd(equations)(jnp.zeros(3, c.dtype))
    norm = slopes[0, 1] - slopes[0, 0] * slopes[1, 1] / slopes[1, 0]
    return slopes[0, 2] / jnp.where(spike.found, norm, 1)


def _seen(problem: Problem, resolvent: Resolvent, window: Array, index: Array) -> Array:
    """-UᵀRWuuᵀWRU, uuᵀ the projector on the directions of the same strength."""
    directions = problem.spiked.directions
    if directions is None:
        return -((window * resolvent.diagonal).mean() ** 2)
    strengths = lax.stop_gradient(problem.spiked.strengths)
    alike = (strengths == strengths[index]).astype(strengths.dtype)
    same = directions * alike[None, :]
    columns = jnp.broadcast_to(window, directions.shape[:1])[:, None] * same
    y = directions.T @ resolvent.apply(columns)
    return -y @ solve_small(same.T @ same + jnp.diag(1 - alike), y.T)


def spike_at(pencil: Pencil, mu: Array, power: Array) -> tuple[Array, Array]:
    """Strength and overlap of the delocalised spike whose outlier is seen at μ, right of the bulk; not differentiated.

    At given μ, H(c) = 1/c + tr Σ₀(μD⁻¹ - Λ - cΣ₀)⁻¹/n is convex and the branch is the first c with H = 1: Newton
    from c = 1 climbs to it.
    """
    pencil, mu = lax.stop_gradient((pencil, mu))
    c = newton(_balance, jnp.ones_like(mu), (pencil, mu))[0]
    strength = -1 / (c * pencil.resolvent(c, mu).diagonal.mean())
    spiked = Spiked(pencil.population, strength[None])
    spike = Spike(
        Problem(spiked, pencil, pencil.weights), jnp.array(0), jnp.array(0), jnp.array(True), jnp.zeros_like(mu)
    )
    return strength, overlap_at(spike, jnp.stack([1 - 1 / c, mu]), RIGHT, power)


def _balance(c: Array, params: tuple[Pencil, Array]) -> Array:
    pencil, mu = params
    return pencil.balance(c, pencil.shift(mu))
