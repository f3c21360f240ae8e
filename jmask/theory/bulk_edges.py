"""Where the spectrum of A is: the intervals of its bulk.

Nodes on the μ axis tell bulk (Im x > 0) from gap (x real and stable); they are refined where mass hides between them,
where an edge lies between them, and where the bulk thins out. Every edge is then a root of two real equations, F = 0
and F_x = 0, found on lines that are linear in μ: exactly so for a ``Diagonal`` Σ̃,
about the last iterate for a dense one.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._checks import is_concrete
from .._implicit import implicit
from .._types import CONVERGED, Array, ArrayLike, Bool, Float, full_precision, pytree
from ..covariance import Covariance
from ..covariance.base import unchecked_diagonal
from .bulk_atoms import groups
from .bulk_law import (
    BulkLaw,
    Lines,
    branch_on,
    branch_residual,
    bulk_law,
    complex_dtype,
    constants,
    count,
    lines_at,
    reach,
    whitening,
)
from .equivalent import checked, may_vanish

INTERVALS = 16
_NODES, _NODES_DENSE = (192, 10, 32), (48, 10, 8)  # first nodes, rounds of refinement, nodes added in each
_RECENTRED = 4  # passes over a dense edge: the error of linear lines is squared in each
_HALVINGS = 44


@pytree
class Scan:
    """Ascending nodes μ (k,), the number of eigenvalues below each, and x there."""

    mu: Float[Array, " k"]
    count: Float[Array, " k"]
    x: Array

    @property
    def inside(self) -> Bool[Array, " k"]:
        """Whether each node lies in the bulk."""
        return self.x.imag > 0


@full_precision
def edges(covariance: Covariance, n: ArrayLike, ridge: ArrayLike, *, intervals: int = INTERVALS) -> Float[Array, "k 2"]:
    """Intervals that the continuous spectrum of A fills, for Gaussian data.

    With F(x, μ) = x - tr Σ̃(y(x)Σ̃ + Γ - μ)⁻¹/n (``bulk_law``), an edge solves F = 0 and ∂F/∂x = 0 at real x; its
    eigenvalue of A is 1 - 1/μ.

    Parameters
    ----------
    covariance
        A population of ``jmask.covariance``; of a ``Spiked`` one the bulk counts, outliers are no part of it.
    n
        Number of samples, real and positive.
    ridge
        Penalty, scalar or (d,), not negative; 0 is the limit 0⁺.
    intervals
        Static number k of rows in the answer.

    Returns
    -------
    Array
        (k, 2) left and right ends, ascending, padded with NaN; all NaN where the fixed point has no solution, and
        under a transformation where there are more than k intervals.

    Raises
    ------
    ValueError
        For n <= 0, a negative ridge, shapes that disagree, or more intervals than rows.

    Notes
    -----
    Ends are accurate to rounding; gaps and pieces narrower than about 1e-3 of the spectrum (in log μ) may go unseen.
    Atoms are no intervals. Differentiable in ridge, n and the population by the implicit rule. Cost: some 500 times
    O(d) for ``Diagonal`` and populations of constant diagonal; some 130 real d × d eigenvalue problems for the others,
    and a few more an edge.

    Examples
    --------
    >>> import jmask as jm
    >>> jm.theory.edges(jm.covariance.Isotropic([1.0] * 50), n=200, ridge=0.5)[0].round(6)
    Array([-0.79076 ,  0.511611], dtype=float64)
    """
    covariance, n, ridge, _ = checked(covariance, n, ridge, None)
    if intervals < 1 or int(intervals) != intervals:
        raise ValueError(f"intervals must be a whole number of at least 1, got {intervals}")
    law = bulk_law(covariance, n, ridge, None, may_vanish(ridge))
    nodes = scan(law)
    lanes, found = edge_lanes(nodes, intervals)
    if found > intervals:
        raise ValueError(f"intervals must be at least {found}, the number of intervals found, got {intervals}")
    ends = 1 - 1 / support_ends(law, nodes, lanes)
    return jnp.concatenate([ends, jnp.full((intervals - lanes, 2), jnp.nan, n.dtype)])


def edge_lanes(nodes: Scan, intervals: int) -> tuple[int, int]:
    """Intervals to prepare for, ``intervals`` or about as many as there are, and those there are (0: not known)."""
    if not is_concrete(nodes):
        return intervals, 0
    found = int((np.diff(np.asarray(nodes.inside).astype(int)) == 1).sum())
    return min(intervals, 2 ** int(np.ceil(np.log2(max(found, 1))))), found


# ------------------------------------------------------------------------------------------- nodes
@jax.jit
def scan(law: BulkLaw) -> Scan:
    """Nodes over the reach of the support, not differentiated."""
    law = lax.stop_gradient(law)
    whitener = whitening(law)
    size, rounds, added = _NODES if whitener is None else _NODES_DENSE

    def one(mu: Array) -> tuple[Array, Array]:
        lines = lines_at(law, mu, whitener)
        x = branch_on(law, lines)
        return count(law, lines, x), x

    def evaluate(mu: Array) -> tuple[Array, Array]:
        return jax.vmap(one)(mu) if whitener is None else lax.map(one, mu)

    low, high = reach(law)
    t = jnp.linspace(0.0, 1.0, size, dtype=low.dtype)
    mu = jnp.exp(jnp.log(low) * (1 - t) + jnp.log(high) * t)
    total = size + rounds * added
    spare = high * (2 + jnp.arange(total, dtype=low.dtype))  # stands for nodes not chosen yet
    begin = (spare, jnp.full_like(spare, jnp.nan), jnp.zeros(total, complex_dtype(low.dtype)))

    def refine(i: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        """``added`` nodes at a time: first those of the grid, then the midpoints of greatest interest."""
        known, below, x = state
        _, index = lax.top_k(_interest(known, below, x, high), added)
        chosen = jnp.sqrt(known[index] * known[index + 1])
        first = lax.dynamic_slice_in_dim(mu, jnp.minimum(i * added, size - added), added)
        new = jnp.where(i * added < size, first, chosen)
        place = total - 1 - jnp.arange(added)  # spare nodes sort behind all others
        values = (new, *evaluate(new))
        known, below, x = (old.at[place].set(value) for old, value in zip(state, values, strict=True))
        order = jnp.argsort(known)
        return known[order], below[order], x[order]

    return Scan(*lax.fori_loop(0, size // added + rounds, refine, begin))  # type: ignore[call-arg]


def _interest(mu: Array, below: Array, x: Array, high: Array) -> Array:
    """(k - 1,) how much a node is wanted between two others: hidden mass, wide brackets, deepening dips, then mass."""
    inside, depth = x.imag > 0, x.imag / jnp.maximum(jnp.abs(x), jnp.finfo(mu.dtype).tiny)
    mass = jnp.nan_to_num(jnp.diff(below) / jnp.nanmax(below))
    width = jnp.log(mu[1:] / mu[:-1])
    hidden = ~inside[1:] & ~inside[:-1] & (mass > 1e-6) & (width > 1e-4)
    bracket = (inside[1:] ^ inside[:-1]) & (width > 0.02)
    padded = jnp.pad(depth, 1)
    shallow = depth / jnp.maximum(padded[:-2], padded[2:])
    thin = inside & (depth <= padded[:-2]) & (depth <= padded[2:])
    dip = jnp.where(thin, 3 - shallow, 0)
    dip = jnp.where(width > 1e-4, jnp.maximum(dip[1:], dip[:-1]), 0)
    wanted = jnp.where(hidden, 5, jnp.where(bracket, 4, jnp.where(dip > 0, dip, mass)))
    return jnp.where(mu[1:] <= high, wanted, -1)


# ------------------------------------------------------------------------------------------- edges
def edge_residual(unknown: Float[Array, " 2"], params: tuple) -> Float[Array, " 2"]:
    """(F, F_x) at (x, μ) for params = (population, offset, rate, n, c₀, ...): shift = offset - rate·μ."""
    population, offset, rate, *constants = params

    def residual(x: Array) -> Array:
        return branch_residual(x, (population, offset - rate * unknown[1], *constants))

    return jnp.stack(jax.jvp(residual, (unknown[0],), (jnp.ones_like(unknown[0]),)))


@partial(jax.jit, static_argnames=("lanes",))
def support_ends(law: BulkLaw, nodes: Scan, lanes: int) -> Float[Array, "k 2"]:
    """Ends of the intervals in μ; NaN for those that do not exist, and everywhere if there are more than ``lanes``."""
    inside = nodes.inside
    starts, stops = ~inside[:-1] & inside[1:], inside[:-1] & ~inside[1:]
    k = nodes.mu.shape[0] - 1
    first, last = (jnp.nonzero(flags, size=lanes, fill_value=k)[0] for flags in (starts, stops))
    used = (first < k) & (last < k) & (starts.sum() <= lanes) & (starts.sum() == stops.sum())
    first, last = jnp.where(used, first, first[0]) % k, jnp.where(used, last, last[0]) % k
    outer, inner = jnp.concatenate([first, last + 1]), jnp.concatenate([first + 1, last])
    used = jnp.concatenate([used, used])
    outer, inner, start = nodes.mu[outer], nodes.mu[inner], nodes.x[inner].real
    fixed = lax.stop_gradient(law)
    whitener = whitening(fixed)
    found = _polished(fixed, outer, inner, start, whitener)
    width = jnp.abs(outer - inner)
    lost = (found[:, 1] <= jnp.minimum(outer, inner) - width) | (found[:, 1] >= jnp.maximum(outer, inner) + width)
    lost = lost | ~jnp.isfinite(found).all(axis=1)
    found = jnp.where(lost[:, None], _halved(fixed, outer, inner, start, lost & used, whitener), found)
    params = (law.population, law.gamma, jnp.ones_like(law.gamma), *constants(law))
    ends = jax.vmap(lambda root: implicit(edge_residual, root, params))(found)[:, 1]
    at_zero, hard = jax.vmap(partial(_hard_edge, law))(outer, inner)
    ends = jnp.where(hard, at_zero, ends)
    ends = jnp.where(used & (law.status == CONVERGED), ends, jnp.nan)
    return ends.reshape(2, lanes).T


def _hard_edge(law: BulkLaw, outer: Array, inner: Array) -> tuple[Array, Array]:
    """Where as many coordinates share a γ as there are samples, the bulk starts there, with x infinite."""
    position, size, _ = groups(law.gamma)
    rows = law.n * law.mass()
    exact = (size > 1) & (jnp.abs(size - rows) <= jnp.finfo(rows.dtype).eps ** 0.5 * rows)
    here = exact & (position >= jnp.minimum(outer, inner)) & (position <= jnp.maximum(outer, inner))
    return jnp.where(here, position, 0).sum(), here.any()


def _halved(
    law: BulkLaw, outer: Array, inner: Array, start: Array, wanted: Array, whitener: Array | None
) -> Float[Array, "k 2"]:
    """(x, μ) where the density ends in each wanted bracket, by halving it: where mass piles up, Newton leaves it."""

    def one(bracket: tuple[Array, Array, Array, Array]) -> Array:
        outer, inner, start, wanted = bracket

        def body(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
            outer, inner, best, steps = state
            middle = jnp.sqrt(outer * inner)
            x = branch_on(law, lines_at(law, middle, whitener))
            within = x.imag > 0
            moved = jnp.where(within, outer, middle), jnp.where(within, middle, inner)
            return *moved, jnp.where(within, x.real, best), steps + 1

        begin = (outer, inner, start, jnp.array(0))
        _, inner, x, _ = lax.while_loop(lambda state: wanted & (state[3] < _HALVINGS), body, begin)
        return jnp.stack([x, inner])

    return lax.map(one, (outer, inner, start, wanted))


def _polished(law: BulkLaw, outer: Array, inner: Array, start: Array, whitener: Array | None) -> Float[Array, "k 2"]:
    """(x, μ) of the edge in each bracket."""

    def every(mu: Array) -> tuple[Lines, Array]:
        """The lines at each μ, and p = -ds/dμ."""

        def one(mu: Array) -> tuple[Lines, Array]:
            lines, slopes = jax.jvp(partial(lines_at, law, whitener=whitener), (mu,), (jnp.ones_like(mu),))
            return lines, -slopes.s

        return jax.vmap(one)(mu) if whitener is None else lax.map(one, mu)

    def bracketed(lines: Lines, p: Array, centre: Array, outer: Array, inner: Array, start: Array) -> Array:
        def body(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            outer, inner, best = state
            middle = jnp.sqrt(outer * inner)
            x = branch_on(law, Lines(lines.m, lines.s - p * (middle - centre)))  # type: ignore[call-arg]
            within = x.imag > 0
            moved = jnp.where(within, outer, middle), jnp.where(within, middle, inner)
            return *moved, jnp.where(within, x.real, best)

        _, inner, x = lax.fori_loop(0, 14, body, (outer, inner, start))
        return jnp.stack([x, inner])

    def newton(lines: Lines, p: Array, centre: Array, start: Array) -> Array:
        params = (unchecked_diagonal(lines.m), lines.s + p * centre, p, *constants(law))

        def body(_: int, u: Array) -> Array:
            (a, b), (c, d) = jax.jacfwd(lambda u: edge_residual(u, params))(u)
            f, g = edge_residual(u, params)
            return u - jnp.stack([d * f - b * g, a * g - c * f]) / (a * d - b * c)

        return lax.fori_loop(0, 8, body, start)

    centre = jnp.sqrt(outer * inner)
    lines = every(centre)
    found = jax.vmap(newton)(*lines, centre, jax.vmap(bracketed)(*lines, centre, outer, inner, start))
    if whitener is None:
        return found

    def again(_: int, found: Array) -> Array:
        centre = jnp.clip(found[:, 1], jnp.minimum(outer, inner), jnp.maximum(outer, inner))
        return jax.vmap(newton)(*every(centre), centre, found.at[:, 1].set(centre))

    return lax.fori_loop(0, _RECENTRED, again, found)
