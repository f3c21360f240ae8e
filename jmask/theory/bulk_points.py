"""The spectrum of A point by point on the real axis: density, cumulative distribution, quantiles."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from .._implicit import implicit
from .._types import CONVERGED, Array
from ..covariance import Diagonal
from .bulk_atoms import mass_points
from .bulk_edges import Scan
from .bulk_law import (
    BulkLaw,
    branch,
    branch_on,
    branch_residual,
    complex_dtype,
    constants,
    count,
    lines_at,
    rate,
    whitening,
)


def on_grid(at: Callable, law: BulkLaw, grid: Array) -> Array:
    """``density_at`` or ``cumulative_at`` of every point of a grid, in batches of about 256 MiB.

    Not by ``lax.map``: inside a scan, JAX differentiates the body of a ``custom_jvp`` function instead of its rule once
    reverse mode is differentiated again.
    """
    dense = not isinstance(law.population, Diagonal)
    most = max(1, 2**28 // (64 * law.dimension**2 if dense else 16 * law.dimension))
    points, whitener = grid.ravel(), whitening(law) if dense else None
    starts = range(0, max(points.shape[0], 1), most)
    parts = [_on_batch(at, law, whitener, points[i : i + most]) for i in starts]
    return jnp.concatenate(parts).reshape(grid.shape)


@partial(jax.jit, static_argnums=(0,))
def _on_batch(at: Callable, law: BulkLaw, whitener: Array | None, points: Array) -> Array:
    values = jax.vmap(lambda zeta: at(law, zeta, whitener))(points)
    return jnp.where(law.status == CONVERGED, values, jnp.nan)


def _position(law: BulkLaw, zeta: Array) -> tuple[Array, Array]:
    """μ, moved off an atom to the right by a relative √eps, and whether it is positive: ζ < 1."""
    below = zeta < 1
    mu = 1 / (1 - jnp.where(below, zeta, 0))
    shift = jnp.finfo(mu.dtype).eps ** 0.5
    close = (jnp.abs(law.gamma - mu) <= 0.1 * shift * mu).any()
    return jnp.where(close, mu * (1 + shift), mu), below


def density_at(law: BulkLaw, zeta: Array, whitener: Array | None) -> Array:
    """Density at one ζ, 0 outside the bulk; atoms are not in it."""
    mu, below = _position(law, zeta)
    lines = lines_at(law, mu, whitener)
    value = mu**2 * rate(law, mu, branch(law, mu, lines)) / law.dimension
    return jnp.where(below, value, 0)


def cumulative_at(law: BulkLaw, zeta: Array, whitener: Array | None) -> Array:
    """Share of the spectrum below one ζ, atoms included; 1 from ζ = 1."""
    mu, below = _position(law, zeta)
    lines = lines_at(law, mu, whitener)
    return jnp.where(below, count(law, lines, branch(law, mu, lines)) / law.dimension, 1)


# ------------------------------------------------------------------------------------------- quantiles
def _count_residual(log_mu: Array, params: tuple) -> Array:
    """Share below μ less the probability; x at the root is known, its derivative is that of the branch."""
    law, whitener, x, probability = params
    mu = jnp.exp(log_mu)
    lines = lines_at(law, mu, whitener)
    x = implicit(branch_residual, lax.stop_gradient(x), (law.population, law.gamma - mu, *constants(law)))
    return count(law, lines, x) / law.dimension - probability


@jax.jit
def quantiles_at(law: BulkLaw, nodes: Scan, probability: Array) -> Array:
    """Newton in log μ within the bracket that the nodes give; an atom that holds the share is itself the answer."""
    full = whitening(law)
    fixed, whitener, goals = lax.stop_gradient((law, full, probability))
    known = jnp.where(jnp.isnan(nodes.count), jnp.inf, nodes.count) / law.dimension
    known = lax.cummax(known)
    points = mass_points(law)
    shift = jnp.finfo(law.n.dtype).eps ** 0.5
    at_points = jax.vmap(lambda zeta: cumulative_at(fixed, zeta, whitener))(lax.stop_gradient(points.location))

    def solve(goal: Array) -> tuple[Array, Array]:
        index = jnp.clip(jnp.searchsorted(known, goal), 1, known.shape[0] - 1)
        low, high = jnp.log(nodes.mu[index - 1]), jnp.log(nodes.mu[index])

        def body(state: tuple) -> tuple:
            low, high, u, _, _, k = state
            lines = lines_at(fixed, jnp.exp(u), whitener)
            x = branch_on(fixed, lines)
            gap = count(fixed, lines, x) / fixed.dimension - goal
            slope = jnp.exp(u) * rate(fixed, jnp.exp(u), x) / fixed.dimension
            low, high = jnp.where(gap < 0, u, low), jnp.where(gap < 0, high, u)
            step = u - gap / jnp.where(slope > 0, slope, 1)
            usable = (slope > 0) & (step > low) & (step < high)
            new = jnp.where(usable, step, (low + high) / 2)
            return low, high, new, x, jnp.abs(new - u), k + 1

        x = jnp.zeros((), complex_dtype(goal.dtype))
        begin = (low, high, (low + high) / 2, x, jnp.ones_like(goal), jnp.array(0))
        stop = 4 * jnp.finfo(goal.dtype).eps
        going = lambda s: (s[4] > stop * jnp.maximum(jnp.abs(s[2]), 1)) & (s[5] < 60)  # noqa: E731
        _, _, u, _, _, _ = lax.while_loop(going, body, begin)
        return u, branch_on(fixed, lines_at(fixed, jnp.exp(u), whitener))

    def one(u: Array, x: Array, goal: Array, p: Array) -> Array:
        held = (goal <= at_points + shift) & (goal > at_points - points.mass)
        atom = jnp.where(held, points.location, 0).sum()
        u = jnp.where(held.any(), 0, u)
        root = implicit(_count_residual, u, (law, full, x, p))
        return jnp.where(held.any(), atom, -jnp.expm1(-root))

    roots = jax.vmap(solve)(goals) if whitener is None else lax.map(solve, goals)
    values = jax.vmap(one)(roots[0], roots[1], goals, probability)
    return jnp.where(law.status == CONVERGED, values, jnp.nan)
