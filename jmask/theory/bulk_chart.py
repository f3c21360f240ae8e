"""The spectrum of a dense population on few nodes: a cosine series on each interval of the support.

On an interval [a, b] of log μ, with log μ = (a + b)/2 - (b - a)/2·cos θ, the density in θ is smooth and even at both
ends, also across square-root edges. Its cosine series converges geometrically, and integrates term by term.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._checks import is_concrete
from .._types import Array, Float, pytree
from ..covariance import Diagonal
from .bulk_atoms import Atoms, mass_points
from .bulk_edges import INTERVALS, edge_lanes, scan, support_ends
from .bulk_law import BulkLaw, branch_on, count, lines_at, whitening

NODES = (128, 512)  # at first and at most; shared by the intervals, at least 32 each
_TAIL = 1e-6  # largest of the last coefficients, relative to the largest: more nodes are tried until it is below
_RESOLVED = 1e-5  # up to which the density may be read
_COUNTED = 1e-6  # the same for shares, where the coefficient of order m is divided by m


@pytree
class Chart:
    """Coefficients (k, m) of the density in θ on k intervals, and the mass points; shares of one."""

    left: Float[Array, " k"]  # log μ, inf where unused
    right: Float[Array, " k"]
    series: Float[Array, "k m"]
    atoms: Atoms

    @property
    def masses(self) -> Float[Array, " k"]:
        """Share of the eigenvalues in each interval."""
        return jnp.pi * self.series[:, 0]

    def share(self, index: Array, theta: Array) -> Array:
        """Share of interval ``index`` up to θ."""
        order = jnp.arange(1, self.series.shape[1], dtype=theta.dtype)
        terms = self.series[index, 1:] * jnp.sin(order * theta) / order
        return self.series[index, 0] * theta + terms.sum()

    def rate(self, index: Array, theta: Array) -> Array:
        """The density in θ."""
        order = jnp.arange(self.series.shape[1], dtype=theta.dtype)
        return (self.series[index] * jnp.cos(order * theta)).sum()


def chart(law: BulkLaw) -> Chart | None:
    """The chart of a dense law, or None where points are better taken one by one.

    That is for a ``Diagonal`` Σ̃, under a transformation, where points are differentiated and no value says how many
    intervals there are, and where pieces too narrow to be found leave the masses short of one by 1e-3.
    """
    if isinstance(law.population, Diagonal) or not is_concrete(law):
        return None
    nodes = scan(law)
    lanes, found = edge_lanes(nodes, INTERVALS)
    if found > lanes:
        return None
    ends = support_ends(law, nodes, lanes)
    m = max(NODES[0] // lanes, 32)
    below = _shares(law, ends, np.arange(m + 1) / m)
    table = _chart(law, ends, below)
    while _tail(table) >= _TAIL and 2 * m <= max(NODES[1] // lanes, 32):
        m *= 2
        between = _shares(law, ends, np.arange(1, m, 2) / m)
        below = jnp.zeros((lanes, m + 1), below.dtype).at[:, ::2].set(below).at[:, 1::2].set(between)
        table = _chart(law, ends, below)
    return table if abs(float(table.masses.sum() + table.atoms.mass.sum()) - 1) < 1e-3 else None


def resolved(table: Chart) -> bool:
    """Whether the density may be read off the series, also near the ends, where it is divided by sin θ."""
    return _tail(table) < _RESOLVED


def counted(table: Chart) -> bool:
    """Whether shares may be read off the series: not where an interval hides gaps that so few nodes do not see."""
    return _tail(table) / table.series.shape[1] < _COUNTED


def _tail(table: Chart) -> float:
    series = np.asarray(table.series)
    scale = np.abs(series).max(initial=np.finfo(series.dtype).tiny)
    return float(np.abs(series[:, -series.shape[1] // 8 :]).max() / scale)


@jax.jit
def _shares(law: BulkLaw, ends: Array, place: Array) -> Array:
    """(k, m) the share below the points θ/π = ``place`` of every interval.

    It needs eigenvalues alone, and is stationary in x, whose digits are lost at the ends.
    """
    whitener = whitening(law)
    _, low, high = _intervals(ends)
    cosine = jnp.cos(jnp.pi * place.astype(low.dtype))
    log_mu = (high + low)[:, None] / 2 - (high - low)[:, None] / 2 * cosine[None, :]

    def share(log_mu: Array) -> Array:
        lines = lines_at(law, jnp.exp(log_mu), whitener)
        return count(law, lines, branch_on(law, lines)) / law.dimension

    return lax.map(share, log_mu.ravel()).reshape(log_mu.shape)


@jax.jit
def _chart(law: BulkLaw, ends: Array, below: Array) -> Chart:
    """From the shares (k, m + 1) at evenly spaced θ."""
    # Less its value at the left end and a slope, the share below is a sine series in θ: its derivative is the density.
    m = below.shape[1] - 1
    used, low, high = _intervals(ends)
    slope = (below[:, -1:] - below[:, :1]) / np.pi
    theta = np.arange(m + 1) * np.pi / m
    rest = below - below[:, :1] - slope * jnp.asarray(theta, low.dtype)[None, :]
    order = np.arange(1, m)
    transform = np.sin(np.outer(theta, order)) * 2 / m * order[None, :]
    series = jnp.concatenate([slope, rest @ jnp.asarray(transform, low.dtype)], axis=1)
    series = jnp.where(used[:, None], _soft_ends(series), 0)
    return Chart(jnp.where(used, low, jnp.inf), jnp.where(used, high, jnp.inf), series, mass_points(law))


def _intervals(ends: Array) -> tuple[Array, Array, Array]:
    """Which intervals there are, and log μ at their ends (any where there is none)."""
    used = jnp.isfinite(ends[:, 0]) & jnp.isfinite(ends[:, 1])
    low, high = (jnp.log(jnp.where(used, value, 1.0 + i)) for i, value in enumerate((ends[:, 0], ends[:, 1])))
    return used, low, high


def _soft_ends(series: Array) -> Array:
    """Zero at both ends, where it is within what the series leaves out: density is that divided by sin θ."""
    alternate = jnp.asarray((-1.0) ** np.arange(series.shape[1]), series.dtype)
    first, last = series.sum(1), series @ alternate
    small = 10 * _RESOLVED * jnp.abs(series).max(1)
    first, last = (jnp.where(jnp.abs(value) < small, value, 0) for value in (first, last))
    return series.at[:, 0].add(-(first + last) / 2).at[:, 1].add(-(first - last) / 2)


# ------------------------------------------------------------------------------------------- reading it
def _angle(table: Chart, index: Array, log_mu: Array) -> Array:
    """θ of log μ on an interval, clipped to its ends."""
    a, b = table.left[index], table.right[index]
    usable = jnp.isfinite(a)
    a, b = jnp.where(usable, a, 0), jnp.where(usable, b, 1)
    cosine = (a + b - 2 * log_mu) / (b - a)
    inside = jnp.abs(cosine) < 1
    return jnp.where(inside, jnp.arccos(jnp.where(inside, cosine, 0)), jnp.where(cosine > 0, 0, jnp.pi))


@jax.jit
def density_on(table: Chart, zeta: Array) -> Array:
    """Density of the continuous part at points (k,) of the spectrum of A."""

    def one(zeta: Array) -> Array:
        below = zeta < 1
        mu = 1 / (1 - jnp.where(below, zeta, 0))
        index = jnp.clip(jnp.searchsorted(table.left, jnp.log(mu), side="right") - 1, 0, table.left.shape[0] - 1)
        theta = _angle(table, index, jnp.log(mu))
        stretch = jnp.sin(theta)
        inside = below & (stretch > 0) & (theta < jnp.pi) & (theta > 0)
        half = jnp.where(inside, (table.right[index] - table.left[index]) / 2 * stretch, 1)
        return jnp.where(inside, mu * jnp.maximum(table.rate(index, theta), 0) / half, 0)

    return jax.vmap(one)(zeta)


@jax.jit
def cumulative_on(table: Chart, zeta: Array) -> Array:
    """Share of all eigenvalues up to points (k,) of the spectrum of A, mass points included."""
    intervals = jnp.arange(table.left.shape[0])

    def one(zeta: Array) -> Array:
        below = zeta < 1
        log_mu = -jnp.log1p(-jnp.where(below, zeta, 0))
        bulk = jax.vmap(lambda i: table.share(i, _angle(table, i, log_mu)))(intervals).sum()
        points = jnp.where(table.atoms.location <= zeta, table.atoms.mass, 0).sum()
        return jnp.where(below, bulk + points, 1 + 0 * bulk)

    return jax.vmap(one)(zeta)


@jax.jit
def quantiles_on(table: Chart, probability: Array) -> Array:
    """The inverse of ``cumulative_on``."""
    k = table.left.shape[0]
    location, mass = table.atoms.location, table.atoms.mass
    # Pieces in order of position: intervals by their left ends, mass points by their place.
    start = jnp.concatenate([1 - jnp.exp(-table.left), location])
    weight = jnp.concatenate([table.masses, mass])
    empty = (weight == 0) | jnp.isnan(start)
    order = jnp.argsort(jnp.where(empty, jnp.inf, start))
    upto = jnp.cumsum(weight[order])

    def one(p: Array) -> Array:
        last = jnp.argmax(upto).astype(jnp.int32)  # where rounding leaves p above them all
        place = jnp.minimum(jnp.searchsorted(upto, p).astype(jnp.int32), last)
        piece = order[place]
        index = jnp.minimum(piece, k - 1)
        target = p - jnp.where(place > 0, upto[jnp.maximum(place - 1, 0)], 0)

        def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            a, b = bracket
            over = table.share(index, (a + b) / 2) > target
            return jnp.where(over, a, (a + b) / 2), jnp.where(over, (a + b) / 2, b)

        zero = jnp.zeros_like(p)
        a, b = lax.fori_loop(0, 50, halve, (zero, zero + jnp.pi))
        theta = (a + b) / 2
        left, right = table.left[index], table.right[index]
        zeta = -jnp.expm1(-(left + right) / 2 + (right - left) / 2 * jnp.cos(theta))
        atom = location[jnp.clip(piece - k, 0, location.shape[0] - 1)]
        return jnp.where(piece < k, zeta, atom)

    return jax.vmap(one)(probability)
