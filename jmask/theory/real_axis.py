"""A sample spectrum as a list of nodes on the real axis: where, how heavy, and what the eigenvectors look like there.

On the bulk w = u + iv satisfies (1/n) Σ m²/|m - w|² = 1. Every quantity is a real, smooth function of (u, v²),
also at the edges: x = |w|²/ξ, ξ = n/Σ m/|m - w|², overlap γξm/|m - w|², density v/(πγ|w|²). So nodes are chosen in u.
Integrals of anything against the spectrum are then sums over nodes, and integrals of pairs double sums of smooth
kernels. What stands on this: any spectral predictor, and training curves.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._checks import is_concrete
from .._implicit import implicit
from .._types import CONVERGED, MAX_STEPS, NON_FINITE, Array, Float, Int, pytree
from .support import Support, support

T = TypeVar("T")

PANEL = 16  # Gauss points a panel
SIZES = (256, 512, 1024, 2048, 4096)  # numbers of nodes tried in turn where values are known
TRACED_SIZES = (512, 1024)  # where they are not


def clean_eigenvalues(eigenvalues: Array) -> Array:
    """The same with rounding noise around zero set to zero."""
    noise = eigenvalues.shape[0] * jnp.finfo(eigenvalues.dtype).eps * eigenvalues.max()
    return jnp.where(eigenvalues > noise, eigenvalues, 0)


# ------------------------------------------------------------------------------------------- at one u
def _unit_excess(y: Array, params: tuple[Array, Array, Array]) -> Array:
    u, m, n = params
    return (m**2 / ((m - u) ** 2 + y)).sum() / n - 1


def height_squared(u: Float[Array, " k"], m: Array, n: Array) -> Float[Array, " k"]:
    """v² at each u, 0 outside the bulk.

    y ↦ 1/G(u, y), G = (1/n) Σ m²/((m - u)² + y), is concave and increasing, so Newton from a lower bound (the
    largest term of G alone) climbs monotonically to 1/G = 1.
    """
    position, values, samples = lax.stop_gradient((u, m, n))
    squared_gap = (values[None, :] - position[:, None]) ** 2
    start = jnp.maximum((values[None, :] ** 2 / samples - squared_gap).max(1), 0)
    stop = 4 * jnp.finfo(start.dtype).eps

    def body(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        y, _, steps = state
        ratio = values[None, :] ** 2 / (squared_gap + y[:, None])
        total = ratio.sum(1) / samples
        slope = (ratio / (squared_gap + y[:, None])).sum(1) / samples
        new = jnp.maximum(y + total * (total - 1) / slope, 0)
        return new, (jnp.abs(new - y) > stop * new).any(), steps + 1

    y = lax.while_loop(lambda s: s[1] & (s[2] < 100), body, (start, jnp.array(True), jnp.array(0)))[0]
    root = jax.vmap(lambda y, u: implicit(_unit_excess, y, (u, m, n)))(y, u)
    return jnp.where(y > 0, root, 0)  # no equation holds in a gap


@pytree
class Local:
    """What is local to a point of the bulk: (k,) arrays."""

    u: Float[Array, " k"]
    y: Float[Array, " k"]  # v²
    x: Float[Array, " k"]
    variance: Float[Array, " k"]  # ξ
    a: Float[Array, " k"]  # (1/n) Σ m²/|m - w|⁴
    b: Float[Array, " k"]  # (1/n) Σ m²(m - u)/|m - w|⁴
    count: Float[Array, " k"]  # sample eigenvalues below x
    density: Float[Array, " k"]  # dF/du


def local(u: Float[Array, " k"], m: Array, n: Array) -> Local:
    """Everything at given u: smooth in u through the edges, x and count also across gaps."""
    y = height_squared(u, m, n)
    d = m.shape[0]
    distance = (m[None, :] - u[:, None]) ** 2 + y[:, None]
    inverse = 1 / distance
    xi = n / (m[None, :] * inverse).sum(1)
    a = (m[None, :] ** 2 * inverse**2).sum(1) / n
    b = (m[None, :] ** 2 * (m[None, :] - u[:, None]) * inverse**2).sum(1) / n
    modulus = u**2 + y
    in_bulk = y > 0
    missing = jnp.where(in_bulk, 0, 1 - (m[None, :] ** 2 * inverse).sum(1) / n)
    x = modulus / xi + u * missing
    v = jnp.sqrt(jnp.where(in_bulk, y, 1))
    v = jnp.where(in_bulk, v, 0)
    angles = jnp.arctan2(v[:, None], m[None, :] - u[:, None]).sum(1) + (d - n) * jnp.arctan2(v, u)
    count = (angles + n * v / xi) / jnp.pi
    gradient = 2 * (y * a + b**2 / a)  # dx/du
    density = v * n / (jnp.pi * d * jnp.where(in_bulk, modulus, 1)) * gradient
    return Local(u, y, x, xi, a, b, count, density)


# ------------------------------------------------------------------------------------------- all nodes
@pytree
class SampleSpectrum:
    """Nodes of the spectrum of S, the atom at x = 0 first (weight 0 when there is none)."""

    at: Local  # (k + 1,)
    weight: Float[Array, " k"]  # p, sums to one
    weighted_variance: Float[Array, " k"]  # pξ, finite also for an atom of weight 0
    eigenvalues: Float[Array, " d"]
    n: Float[Array, ""]
    support: Support

    @property
    def x(self) -> Array:
        """Sample eigenvalues at the nodes."""
        return self.at.x

    def squared_distance(self, m: Array) -> Array:
        """(k + 1, d) |m - w|², made harmless at the atom's zero."""
        distance = (m[None, :] - self.at.u[:, None]) ** 2 + self.at.y[:, None]
        return jnp.where(distance > 0, distance, 1)

    def weighted_overlaps(self, m: Array) -> Array:
        """(k + 1, d) p·O(m): an elementwise function of m given the nodes."""
        gamma = self.eigenvalues.shape[0] / self.n
        bulk = gamma * self.weighted_variance[:, None] * m[None, :] / self.squared_distance(m)
        kappa = self.support.atom
        atom = jnp.where(m > 0, kappa / jnp.where(m > 0, m + kappa, 1), 1)
        return jnp.concatenate([atom[None, :], bulk[1:]])

    def variance_form(self, h: Array, m: Array) -> Array:
        """(d,) the diagonal of h(S) Σ h(S) in the basis of Σ, an elementwise function of m given the nodes."""
        gamma = self.eigenvalues.shape[0] / self.n
        overlaps = self.weighted_overlaps(m)
        pairs = gamma * (self.inverse_gaps() @ (self.weighted_variance * h))
        bulk = overlaps * (h * (self.at.variance * h))[:, None] + 2 * (m[None, :] * overlaps) * (h * pairs)[:, None]
        bulk = bulk + (h**2)[:, None] * self.pair_diagonal(m)
        return self.atom_form(m) * h[0] ** 2 + bulk[1:].sum(0) + 2 * m * overlaps[0] * h[0] * pairs[0]

    def inverse_gaps(self) -> Array:
        """(k + 1, k + 1) 1/(x_j - x_l), 0 on the diagonal and for dead nodes."""
        gap = self.x[:, None] - self.x[None, :]
        return jnp.where(gap == 0, 0, 1 / jnp.where(gap == 0, 1, gap))

    def pair_diagonal(self, m: Array) -> Array:
        """(k + 1, d) the pair kernel on its diagonal: mγp²ξ² d(O/ξ)/dx."""
        gamma = self.eigenvalues.shape[0] / self.n
        at = self.at
        turn = at.a[:, None] * (m[None, :] - at.u[:, None]) - at.b[:, None]
        scale = (gamma * self.weighted_variance) ** 2 / (at.y * at.a**2 + at.b**2)
        return scale[:, None] * turn * (m[None, :] / self.squared_distance(m)) ** 2

    def atom_form(self, m: Array) -> Array:
        """(d,) the diagonal of Π Σ Π, Π the projector on the null space of S."""
        kappa = self.support.atom
        df2 = ((self.eigenvalues / jnp.where(kappa > 0, self.eigenvalues + kappa, 1)) ** 2).sum()
        share = jnp.where(kappa > 0, kappa / jnp.where(kappa > 0, m + kappa, 1), 0)
        return m * share**2 / jnp.where(kappa > 0, 1 - df2 / self.n, 1)


def _gauss_panels(left: Array, right: Array, mass: Array, scale: Array, size: int) -> tuple[Array, Array]:
    """``size`` nodes u and weights du on the pieces [left, right], panels dealt out by mass.

    Within a piece u = left + ε(e^{φλ} - 1), φ = sin²(πs/2): quadratic at both ends, so a square-root edge and a plain
    cut are both analytic in s, and logarithmic from ε upwards.
    """
    panels = size // PANEL
    alive = right > left
    share = jnp.where(alive, mass / mass.sum() + 1 / alive.astype(mass.dtype).sum(), 0) / 2
    stops = jnp.round(panels * jnp.cumsum(share)).astype(int)
    starts = jnp.concatenate([jnp.zeros(1, stops.dtype), stops[:-1]])
    panel = jnp.arange(panels)
    piece = jnp.minimum(jnp.searchsorted(stops, panel, side="right"), left.shape[0] - 1)
    gauss = np.polynomial.legendre.leggauss(PANEL)
    points, weights = jnp.asarray((gauss[0] + 1) / 2, left.dtype), jnp.asarray(gauss[1] / 2, left.dtype)
    count = jnp.maximum(stops - starts, 1)[piece].astype(left.dtype)
    s = ((panel - starts[piece]).astype(left.dtype)[:, None] + points[None, :]) / count[:, None]
    a, b, epsilon = left[piece][:, None], right[piece][:, None], scale[piece][:, None]
    rate = jnp.log1p((b - a) / epsilon)
    phi = jnp.sin(jnp.pi / 2 * s) ** 2
    u = a + epsilon * jnp.expm1(rate * phi)
    du = epsilon * rate * jnp.exp(rate * phi) * (jnp.pi / 2) * jnp.sin(jnp.pi * s) * weights[None, :] / count[:, None]
    return u.reshape(-1), du.reshape(-1)


def sample_spectrum(
    eigenvalues: Float[Array, " d"],
    n: Float[Array, ""],
    *,
    size: int = SIZES[1],
    cuts: Float[Array, " c"] | None = None,
) -> SampleSpectrum:
    """Nodes and weights of the spectrum of S for a population with these eigenvalues, from n samples.

    Parameters
    ----------
    eigenvalues
        (d,) population eigenvalues, not negative, any order, with multiplicities.
    n
        Number of samples, real and positive.
    size
        Static number of nodes, a multiple of 32; one more for the atom at 0, which comes first. At most size/32
        intervals of the support get nodes of their own; beyond that the deepest gaps are resolved and the rest are
        integrated across, at lower accuracy.
    cuts
        (c,) values of u (see ``position``) at which no panel may straddle, because the integrand jumps there.

    Returns
    -------
    SampleSpectrum

    Notes
    -----
    O(size · d + d²). Differentiable in eigenvalues, n and cuts to any order: heights and edges by the implicit rule.
    Works under ``jit`` and ``vmap``.
    """
    nowhere = jnp.full(1, jnp.inf, eigenvalues.dtype)  # one compiled program with and without a cut
    return _sample_spectrum(eigenvalues, n, nowhere if cuts is None else cuts, size)


@partial(jax.jit, static_argnames=("size",))
def _sample_spectrum(eigenvalues: Array, n: Array, cuts: Array, size: int) -> SampleSpectrum:
    m = jnp.sort(clean_eigenvalues(eigenvalues))
    d = m.shape[0]
    bulk = support(m, n, size // (2 * PANEL))
    left, right = bulk.left, bulk.right
    within = jnp.clip(cuts, left[0], right[-1])
    left, right = jnp.sort(jnp.concatenate([left, within])), jnp.sort(jnp.concatenate([right, within]))
    below = lax.stop_gradient(local(jnp.concatenate([left, right]), m, n).count)
    mass = jnp.maximum(below[left.shape[0] :] - below[: left.shape[0]], 0)
    scale = jnp.maximum(jnp.abs(left) + bulk.atom, 1e-4 * (right[-1] - left[0]))
    u, du = _gauss_panels(left, right, mass, scale, size)
    at = local(u, m, n)
    rank = (m > 0).astype(m.dtype).sum()
    p_atom = jnp.maximum(d - jnp.minimum(n, rank), 0) / d  # in this order: exactly 0 where it should be
    xi_atom = jnp.where(p_atom > 0, n / d * bulk.atom / jnp.where(p_atom > 0, p_atom, 1), 0)
    zero, one = jnp.zeros((), m.dtype), jnp.ones((), m.dtype)
    atom = Local(-bulk.atom, zero, zero, xi_atom, one, one, zero, zero)
    at = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), atom, at)
    weight = jnp.concatenate([p_atom[None], at.density[1:] * du])
    weighted_variance = jnp.concatenate([(n / d * bulk.atom)[None], weight[1:] * at.variance[1:]])
    return SampleSpectrum(at, weight, weighted_variance, m, n, bulk)


# ------------------------------------------------------------------------------------------- from x or count to u
def _count_residual(u: Array, params: tuple[Array, Array, Array]) -> Array:
    target, m, n = params
    here = local(u[None], m, n)
    flat = jnp.where(here.y[0] > 0, 0, u - lax.stop_gradient(u))  # in a gap every u will do: keep this one
    return (here.count[0] - target) / m.shape[0] + flat


def _location_residual(u: Array, params: tuple[Array, Array, Array]) -> Array:
    target, m, n = params
    return local(u[None], m, n).x[0] / target - 1


@partial(jax.jit, static_argnames=("of",))
def position(eigenvalues: Float[Array, " d"], n: Array, target: Float[Array, " t"], *, of: str = "x") -> Array:
    """u at which the sample eigenvalue (``of="x"``) or the number of eigenvalues below (``"count"``) is ``target``.

    Both are increasing in u, also across gaps: Newton kept inside a shrinking bracket. Differentiable in target,
    eigenvalues and n. Counts outside [0, d] end beyond the support.
    """
    m = jnp.sort(clean_eigenvalues(eigenvalues))
    residual = {"x": _location_residual, "count": _count_residual}[of]
    values, samples, goal = lax.stop_gradient((m, n, target))
    reach = jnp.sqrt((values**2).sum() / samples)  # beyond the outer edges, and beyond any x asked for
    low = jnp.where(values > 0, values, values[-1]).min() - reach
    high = jnp.maximum(values[-1] + reach, goal.max() if of == "x" else 0)

    def body(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        low, high, u = state
        here = local(u, values, samples)
        value = getattr(here, of)
        slope = 2 * (here.y * here.a + here.b**2 / here.a) if of == "x" else here.density * values.shape[0]
        above = value > goal
        low, high = jnp.where(above, low, u), jnp.where(above, u, high)
        step = u - (value - goal) / jnp.where(slope > 0, slope, 1)
        inside = (slope > 0) & (step > low) & (step < high)
        return low, high, jnp.where(inside, step, (low + high) / 2)

    begin = (jnp.broadcast_to(low, goal.shape), jnp.broadcast_to(high, goal.shape))
    u = lax.fori_loop(0, 60, body, (*begin, (begin[0] + begin[1]) / 2))[2]
    return jax.vmap(lambda u, t: implicit(residual, u, (t, m, n)))(u, target)


# ------------------------------------------------------------------------------------------- accuracy
def refine(
    evaluate: Callable[[int], T], compared: Callable[[T], Array], rtol: float
) -> tuple[T, Float[Array, "..."], Int[Array, "..."]]:
    """Double the nodes until two answers agree: ``(answer, accuracy, status)``.

    ``compared(evaluate(size))`` is (..., k): accuracy and status are (...), relative to the largest of the k. Where
    values are known ``SIZES`` are tried in turn; under a transformation only ``TRACED_SIZES``.
    """
    coarse = lax.stop_gradient(compared(evaluate(SIZES[0])))
    known = is_concrete(coarse)
    if not known:
        coarse = lax.stop_gradient(compared(evaluate(TRACED_SIZES[0])))
    for size in SIZES[1:] if known else TRACED_SIZES[1:]:
        answer = evaluate(size)
        fine = lax.stop_gradient(compared(answer))
        size_of = jnp.abs(fine).max(-1)
        accuracy = jnp.abs(fine - coarse).max(-1) / jnp.where(size_of == 0, 1, size_of)
        if is_concrete(accuracy) and not (np.asarray(accuracy) > rtol).any():  # not even where it is NaN
            break
        coarse = fine
    status = jnp.where(jnp.isfinite(accuracy), jnp.where(accuracy <= rtol, CONVERGED, MAX_STEPS), NON_FINITE)
    return answer, accuracy, status


def default_rtol(dtype: jnp.dtype) -> float:
    """5e-7 in double precision, 2e-3 in single: of the coarser of two answers, the finer is far better."""
    return float(jnp.finfo(dtype).eps) ** 0.4


def accuracy_wanted(rtol: float | None, dtype: jnp.dtype) -> float:
    """What the caller asks for, checked; ``default_rtol`` where that is None."""
    if rtol is not None and not rtol > 0:
        raise ValueError(f"rtol must be positive, got {rtol}")
    return default_rtol(dtype) if rtol is None else rtol


def known_where(status: Array, value: Array) -> Array:
    """``value`` where converged; elsewhere it and its derivatives are NaN."""
    return value * jnp.where(status == CONVERGED, 1, jnp.nan).astype(value.dtype)
