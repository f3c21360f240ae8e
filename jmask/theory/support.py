"""The support of a sample spectrum, on the axis of u = Re w where it is easy to describe.

With w = z(1 + δ(z)) the sample eigenvalue is x(w) = w - (w/n) Σ m/(m - w), m the population eigenvalues. Real u
belongs to the bulk where G(u) = (1/n) Σ m²/(m - u)² > 1. G is convex between neighbouring poles and monotone
outside them, so every gap is found from one minimum, and every edge from one bracket.
"""

import jax
import jax.numpy as jnp
from jax import lax

from .._implicit import implicit
from .._types import Array, Bool, Float, Int, pytree


@pytree
class Support:
    """Pieces of the bulk in u, ascending; unused ones have no length and lie at the right end."""

    left: Float[Array, " k"]
    right: Float[Array, " k"]
    gaps: Int[Array, ""]  # open gaps, also those beyond k - 1 that are not resolved
    atom: Float[Array, ""]  # κ for n below the rank of Σ, else 0: the atom at x = 0 sits at w = -κ


def _excess(u: Array, params: tuple[Array, Array]) -> Array:
    """G(u) - 1: zero at an edge."""
    eigenvalues, n = params
    return (eigenvalues**2 / (eigenvalues - u) ** 2).sum() / n - 1


def _occupied(log_kappa: Array, params: tuple[Array, Array]) -> Array:
    """df₁(κ)/n - 1."""
    eigenvalues, n = params
    return (eigenvalues / (eigenvalues + jnp.exp(log_kappa))).sum() / n - 1


def atom_position(eigenvalues: Array, n: Array) -> Array:
    """κ with df₁(κ) = n, or 0 when n is at least the rank of Σ.

    κ ↦ κ - κ df₁(κ)/n is convex and positive at tr Σ/n: Newton falls onto the root from there. The derivative
    is taken in log κ, which is well scaled.
    """
    below = n < (eigenvalues > 0).astype(n.dtype).sum()
    m, safe_n = lax.stop_gradient((eigenvalues, jnp.where(below, n, 0.5)))
    stop = 4 * jnp.finfo(m.dtype).eps

    def body(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        kappa, _, steps = state
        ratio = m / (m + kappa)
        new = kappa - kappa * (1 - ratio.sum() / safe_n) / (1 - (ratio**2).sum() / safe_n)
        return new, jnp.abs(new - kappa) > stop * kappa, steps + 1

    start = (m.sum() / safe_n, jnp.array(True), jnp.array(0))
    kappa = lax.while_loop(lambda s: s[1] & (s[2] < 200), body, start)[0]
    kappa = jnp.exp(implicit(_occupied, jnp.log(kappa), (eigenvalues, jnp.where(below, n, 0.5))))
    return jnp.where(below, kappa, jnp.zeros_like(kappa))


def _deepest_points(m: Array) -> tuple[Array, Bool[Array, " k"]]:
    """The minimum of G between neighbouring eigenvalues (ascending), by bisection on its slope; is there any room."""
    low, high = m[:-1], m[1:]
    distinct = (low > 0) & (high - low > 8 * jnp.finfo(m.dtype).eps * high)

    def body(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        a, b = bracket
        middle = (a + b) / 2
        gap = m[None, :] - middle[:, None]
        rising = (m[None, :] ** 2 / jnp.where(gap == 0, 1, gap) ** 3).sum(1) > 0
        return jnp.where(rising, a, middle), jnp.where(rising, middle, b)

    a, b = lax.fori_loop(0, 40, body, (low, high))
    return (a + b) / 2, distinct


def _edges(m: Array, n: Array, inside: Array, outside: Array) -> Array:
    """The edge in each bracket: G > 1 at ``inside`` (a pole), G < 1 at ``outside``. Bisection, then Newton on 1/√G."""

    def excess(u: Array) -> tuple[Array, Array, Array]:
        gap = m[None, :] - u[:, None]
        ratio = m[None, :] / jnp.where(gap == 0, jnp.finfo(m.dtype).tiny ** 0.25, gap)
        return (ratio**2).sum(1) / n, 2 * (ratio**2 / jnp.where(gap == 0, 1, gap)).sum(1) / n, gap

    def body(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        a, b = bracket
        middle = (a + b) / 2
        within = excess(middle)[0] > 1
        return jnp.where(within, middle, a), jnp.where(within, b, middle)

    a, b = lax.fori_loop(0, 60, body, (inside, outside))
    u = (a + b) / 2
    for _ in range(2):
        value, slope, _ = excess(u)
        step = 2 * (value - value**1.5) / jnp.where(slope == 0, 1, slope)
        u = jnp.where(jnp.isfinite(step) & (jnp.abs(step) < jnp.abs(b - a) + 1e-6 * jnp.abs(u)), u + step, u)
    return u


def support(eigenvalues: Float[Array, " d"], n: Float[Array, ""], intervals: int) -> Support:
    """At most ``intervals`` pieces, cut where a gap is open or about to open; of more than fit, the deepest are kept.

    Parameters
    ----------
    eigenvalues
        (d,) ascending population eigenvalues, zeros exact.
    n
        Number of samples, real and positive.
    intervals
        Static number of pieces in the answer.

    Notes
    -----
    Cost O(d²), dominated by the deepest points, which do not depend on n. Differentiable in both arguments:
    every edge is a root of G - 1.
    """
    m, samples = lax.stop_gradient((eigenvalues, n))
    slots = min(intervals - 1, m.shape[0] - 1)
    middle, distinct = _deepest_points(m)
    ratio = m[None, :] / (m[None, :] - middle[:, None])
    depth = 1 - jnp.where(distinct, (jnp.where(distinct[:, None], ratio, 0) ** 2).sum(1) / samples, jnp.inf)
    found, index = lax.top_k(depth, slots)
    order = jnp.argsort(index)
    index, is_open, is_shallow = index[order], found[order] > 0, found[order] > -1

    least = jnp.min(jnp.where(m > 0, m, jnp.inf))
    reach = jnp.sqrt((m**2).sum() / samples)
    inside = jnp.concatenate([jnp.stack([least, m[-1]]), m[index], m[index + 1]])
    outside = jnp.concatenate([jnp.stack([least - reach, m[-1] + reach]), middle[index], middle[index]])
    edges = _edges(m, samples, inside, outside)
    usable = jnp.concatenate([jnp.ones(2, bool), is_open, is_open])
    edges = jax.vmap(lambda u: implicit(_excess, u, (eigenvalues, n)))(jnp.where(usable, edges, edges[1]))
    first, last = edges[0], edges[1]
    # a gap about to open is a singularity near the axis: the bulk is cut there
    cut = jnp.where(is_shallow, middle[index], last)
    gap_left, gap_right = (jnp.where(is_open, e, cut) for e in (edges[2 : 2 + slots], edges[2 + slots :]))
    return Support(
        left=jnp.sort(jnp.concatenate([first[None], gap_right])),
        right=jnp.sort(jnp.concatenate([gap_left, last[None]])),
        gaps=(depth > 0).sum(),
        atom=atom_position(eigenvalues, n),
    )
