"""What a coordinate sees of the others: the two measures on the sample spectrum that rule how it is learnt.

Row k learns x_k from the rest by A_k = f(S_-k)s_k, s_k the sample covariances. With b_k(w) = -1/[(Σ - w)⁻¹]_kk, the
Schur complement of the population, everything is a function of b_k at w = z(1 + δ(z)), from either side of the axis:

- η: the spectral measure of s_k, Im(zb/w)/π dx. Train: Σ_kk - ∫ (2f - xf²) dη.
- τ: its share that correlates, Im(t)/π dx, t = b - w + Σ_kk. Test: Σ_kk(1 + ∫ f² dω) - 2 ∫ f dτ
  + ∬ f(z₁)f(z₂) (t₁w₂ - t₂w₁)/(z₁ - z₂), dω = Im(w)/π dx.

A zero of [(Σ - w)⁻¹]_kk in a gap is an eigenvalue of S_-k between the pieces of the bulk: b has a pole there.
"""

import jax
import jax.numpy as jnp
from jax import lax

from .._types import Array, Float, pytree
from ..covariance import Covariance, Diagonal
from .held import held
from .real_axis import SampleSpectrum, clean_eigenvalues


@pytree
class Poles:
    """Lone eigenvalues of S_-k, at most one a gap and coordinate: (g, r), mass 0 where there is none."""

    w: Float[Array, "g r"]
    x: Float[Array, "g r"]
    mass: Float[Array, "g r"]


@pytree
class Coordinates:
    """The measures of r coordinates (r = 1 stands for all where they are alike) on k nodes."""

    variance: Float[Array, " r"]
    x: Float[Array, " k"]
    omega: Float[Array, " k"]
    tau: Float[Array, "k r"]
    square: Float[Array, "k r"]  # what f² is multiplied with: the double integral where z₁ meets z₂
    eta: Float[Array, "k r"]
    poles: Poles

    def errors(self, f: Float[Array, "t k"], at_poles: Float[Array, "t g r"]) -> tuple[Array, Array]:
        """Train and test error (t, r) of A_k = f(S_-k)s_k, f given at the nodes and at the poles."""
        gap = self.x[:, None] - self.x[None, :]
        inverse = jnp.where(gap == 0, 0, 1 / jnp.where(gap == 0, 1, gap))
        weighted = f * self.omega[None, :]
        pairs = 2 * f * (weighted @ inverse.T - 1)
        noise = self.variance[None, :] * (1 + (f * weighted).sum(1, keepdims=True))
        test = noise + pairs @ self.tau + f**2 @ self.square
        train = self.variance[None, :] - (f * (2 - self.x[None, :] * f)) @ self.eta
        if not self.poles.x.size:
            return train, test
        poles = self.poles
        distance = poles.x[:, :, None] - self.x[None, None, :]
        inverse = 1 / jnp.where(distance == 0, jnp.inf, distance)
        pairs = 2 * at_poles * (jnp.einsum("grk,tk->tgr", inverse, weighted) - 1)
        test = test + (poles.mass[None, :, :] * (pairs + at_poles**2 * poles.w[None, :, :])).sum(1)
        seen = (poles.mass * poles.x / poles.w)[None, :, :]
        return train - (seen * at_poles * (2 - poles.x[None, :, :] * at_poles)).sum(1), test


def _diagonals(covariance: Covariance, values: Array, slopes: Array) -> Array:
    """(..., r) diagonals of functions of Σ given by (..., d) values and slopes on its eigenvalues."""
    if covariance.constant_diagonal:
        return values.mean(-1, keepdims=True)
    d = values.shape[-1]
    flat = jax.vmap(covariance.spectral_diagonal)(values.reshape(-1, d), slopes.reshape(-1, d))
    return flat.reshape(values.shape)


def coordinates(covariance: Covariance, nodes: SampleSpectrum, gaps: int) -> Coordinates:
    """Measures of every coordinate; ``gaps`` is how many of the widest gaps are searched for poles."""
    m, d = clean_eigenvalues(covariance.eigenvalues()), covariance.dimension
    at = jax.tree.map(lambda value: value[1:], nodes.at)  # the atom plays no part
    v = jnp.sqrt(jnp.where(at.y > 0, at.y, 1))

    def resolvents(m: Array) -> Array:
        """(4, k, d): real part and imaginary part over v of 1/(m - w), and of its square."""
        inverse = 1 / nodes.squared_distance(m)[1:]
        real = (m[None, :] - at.u[:, None]) * inverse
        return jnp.stack([real, inverse, real**2 - at.y[:, None] * inverse**2, 2 * real * inverse])

    real, slope, square, square_slope = _diagonals(covariance, *jax.jvp(resolvents, (m,), (jnp.ones_like(m),)))
    y, u = at.y[:, None], at.u[:, None]
    modulus = real**2 + y * slope**2
    b, b_slope = -real / modulus, slope / modulus  # b = -1/q: real part, imaginary part over v
    # b' = q'/q², real and imaginary part over v
    power, power_slope = real**2 - y * slope**2, 2 * real * slope
    turn = (square * power + y * square_slope * power_slope) / modulus**2 - 1
    turn_slope = (square_slope * power - square * power_slope) / modulus**2
    variance = covariance.diagonal()[:1] if covariance.constant_diagonal else covariance.diagonal()
    t, t_slope = b - u + variance[None, :], b_slope - 1

    omega = (d / nodes.n * nodes.weight[1:] * (at.u**2 + at.y))[:, None]
    # with dw/dx = (va + ib)/(2v(v²a² + b²)), the double integral at z₁ = z₂
    scale = (omega / v[:, None]) ** 2 / (2 * (at.y * at.a**2 + at.b**2))[:, None]
    meeting = scale * (at.b[:, None] * (turn - t_slope) + y * at.a[:, None] * turn_slope)
    return Coordinates(
        variance=variance,
        x=at.x,
        omega=omega[:, 0],
        tau=omega * t_slope,
        square=omega * (t_slope * u - t) + meeting,
        eta=omega * (at.x / (at.u**2 + at.y))[:, None] * (u * b_slope - b),
        poles=_poles(covariance, m, nodes, 0 if isinstance(covariance, Diagonal) else gaps),
    )


# ------------------------------------------------------------------------------------------- poles in gaps
def _poles(covariance: Covariance, m: Array, nodes: SampleSpectrum, gaps: int) -> Poles:
    if not gaps:
        empty = jnp.zeros((0, 1), m.dtype)
        return Poles(empty, empty, empty)
    right, left = lax.stop_gradient((nodes.support.right[:-1], nodes.support.left[1:]))
    widest = lax.top_k(left - right, min(gaps, right.shape[0]))[1]
    low, high = right[widest], left[widest]
    constant = covariance.constant_diagonal
    if constant:
        vectors = jnp.full((1, m.shape[0]), m.shape[0] ** -0.5, m.dtype)
        values = lax.stop_gradient(m)
    else:
        values, vectors = lax.stop_gradient(jnp.linalg.eigh(covariance.matrix()))
    w, found = _roots(values, vectors**2, low, high)
    w = jnp.where(found, w, ((low + high) / 2)[:, None])
    if constant:
        followed, power = _follow_spectrum(m, w)
    else:
        followed, power = _follow_matrix(covariance.matrix(), values, vectors, w)
    w = jnp.where(found, followed, w)
    gap = m[None, None, :] - w[:, :, None]
    share = 1 - (m[None, None, :] / gap).sum(-1) / nodes.n  # z/w
    stretch = 1 - (m[None, None, :] ** 2 / gap**2).sum(-1) / nodes.n  # dz/dw
    return Poles(w, w * share, jnp.where(found & (stretch > 0), stretch / power, 0))


def _roots(m: Array, squares: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """(g, r) zeros of the increasing q_k(u) = Σ_i squares_ki/(m_i - u) between low and high (g,), and which exist."""

    def q(u: Array) -> Array:
        return (squares[None, :, :] / (m[None, None, :] - u[:, :, None])).sum(-1)

    shape = (low.shape[0], squares.shape[0])
    low, high = jnp.broadcast_to(low[:, None], shape), jnp.broadcast_to(high[:, None], shape)
    found = (low < high) & (q(low) < 0) & (q(high) > 0)

    def body(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        low, high, steps = state
        middle = (low + high) / 2
        above = q(middle) > 0
        return jnp.where(above, low, middle), jnp.where(above, middle, high), steps + 1

    low, high, _ = lax.while_loop(lambda s: found.any() & (s[2] < 55), body, (low, high, jnp.array(0)))
    return (low + high) / 2, found


def _follow_spectrum(m: Array, w: Array) -> tuple[Array, Array]:
    """The root of mean 1/(m - w) as a function of m, right to its second derivative, and mean 1/(m - w)² there."""
    for _ in range(2):  # each Newton step from the root itself makes one more derivative right, and then some
        inverse = 1 / (m[None, None, :] - w[:, :, None])
        w = w - inverse.mean(-1) / (inverse**2).mean(-1)
    return w, (1 / (m[None, None, :] - w[:, :, None]) ** 2).mean(-1)


def _follow_matrix(matrix: Array, m: Array, vectors: Array, w: Array) -> tuple[Array, Array]:
    """The roots as functions of Σ, and [(Σ - w)⁻²]_kk: r = (Σ - w)⁻¹e_k and dw = rᵀdΣr/|r|². Second derivative NaN."""
    inverse = 1 / (m[None, None, :] - w[:, :, None])
    column = held((vectors[None, :, :] * inverse) @ vectors.T, matrix)
    second = held((vectors[None, :, :] * inverse**2) @ vectors.T, matrix)
    power = (column**2).sum(-1)
    change = matrix - lax.stop_gradient(matrix)
    moved = column @ change
    step = (moved * column).sum(-1) / power
    return w + step, power - 2 * (moved * second).sum(-1) + 2 * step * (column * second).sum(-1)
