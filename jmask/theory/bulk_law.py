"""The limiting law behind the spectrum of A: eigenvalues μ of a sample covariance plus a diagonal.

A = I - D⁻¹Q has the eigenvalue ζ = 1 - 1/μ where S + Λ has μ relative to D⁻¹. In units of D̄ that is the matrix S̃ + Γ,
S̃ a sample covariance of population Σ̃ = D̄^(1/2)ΣD̄^(1/2), Γ = ΛD̄ diagonal. With everything divided by c₀ = c(δ) at the
ridge, x = c₀δ(μ) and y = c(δ(μ))/c₀ = E[τ²/(c₀ + τ²x)],

    x = tr Σ̃(yΣ̃ + Γ - μ)⁻¹/n,  Im x ≥ 0,

which stays finite where the ridge vanishes below n = d (c₀ = 0). At real μ a trace of that resolvent is a sum over d
lines, Σ m/(ym + s): exactly so for diagonal Σ̃ or constant Γ; for a dense Σ̃ after one real symmetric eigenvalue problem.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from .._implicit import implicit
from .._linalg import congruent_eigenvalues
from .._types import CONVERGED, Array, Complex, Float, Int, full_precision, pytree
from ..covariance import Covariance, Diagonal, Spiked
from ..covariance.base import eigenvalues_of, unchecked_dense, unchecked_diagonal
from ..scales import Scales
from .equivalent import law_of, resolvent_at, solve

_TRIALS = 80


@pytree
class BulkLaw:
    """S̃ + Γ in units of D̄: what the spectrum of A depends on; NaN unless the fixed point converged.

    Attributes
    ----------
    population
        Σ̃: ``Diagonal`` where every trace is a sum over d lines, else ``Dense``.
    gamma
        (d,) diagonal of Γ: λ_k D̄_k, in [0, 1].
    n, shrinkage
        Number of samples; c₀ = c(δ) at the ridge, 0 for a ridge of 0 below n = d.
    squares, probabilities
        (m,) law of τ².
    status
        Of the fixed point.
    """

    population: Covariance
    gamma: Float[Array, " d"]
    n: Float[Array, ""]
    shrinkage: Float[Array, ""]
    squares: Float[Array, " m"]
    probabilities: Float[Array, " m"]
    status: Int[Array, ""]

    @property
    def dimension(self) -> int:
        """d."""
        return self.gamma.shape[0]

    def mass(self) -> Array:
        """P(τ > 0)."""
        return jnp.where(self.squares > 0, self.probabilities, 0).sum()


@partial(jax.jit, static_argnames=("vanishing",))
def bulk_law(covariance: Covariance, n: Array, ridge: Array, scales: Scales | None, vanishing: bool) -> BulkLaw:
    """The law of checked arguments; of a ``Spiked`` population that of its bulk, D̄ being that of all of it."""
    point = solve(covariance, n, ridge, scales, vanishing)
    scale = resolvent_at(covariance, point.effective_ridge).diagonal  # D̄ times c₀
    bulk = covariance
    while isinstance(bulk, Spiked):
        bulk = bulk.bulk
    if isinstance(bulk, Diagonal):
        population: Covariance = unchecked_diagonal(bulk.variances * scale)
    elif covariance.constant_diagonal and not ridge.ndim:
        population = unchecked_diagonal(bulk.eigenvalues() * scale)
    else:
        root = jnp.sqrt(scale)
        population = unchecked_dense(bulk.matrix() * root[:, None] * root[None, :])
    squares, probabilities = law_of(scales, n.dtype)
    known = jnp.where(point.status == CONVERGED, 1, jnp.nan).astype(n.dtype)
    gamma = point.effective_ridge * scale * known
    return BulkLaw(population, gamma, n, point.shrinkage, squares, probabilities, point.status)  # type: ignore[call-arg]


# ------------------------------------------------------------------------------------------- lines
@pytree
class Lines:
    """(..., d) terms of tr Σ̃(yΣ̃ + Γ - μ)⁻¹ = Σ m/(ym + s) at one μ."""

    m: Float[Array, "*b d"]
    s: Float[Array, "*b d"]


def lines_at(law: BulkLaw, mu: Array, whitener: Array | None) -> Lines:
    """The lines at one μ > 0: at hand for a ``Diagonal`` Σ̃; else, given ``whitening(law)``, one eigenvalue problem.

    Where no derivative is taken that problem is one of eigenvalues alone.
    """
    if whitener is None:
        m = law.population.diagonal()
        return Lines(m, law.gamma - mu)  # type: ignore[call-arg]
    s = _levels(whitener, law.gamma - mu)
    return Lines(jnp.ones_like(s), s)  # type: ignore[call-arg]


@jax.custom_jvp
def _levels(whitener: Array, values: Array) -> Array:
    """Eigenvalues of W diag(values) Wᵀ alone, three times cheaper than with the vectors that derivatives need."""
    return congruent_eigenvalues(whitener, values)


@partial(_levels.defjvp, symbolic_zeros=True)
@full_precision
def _levels_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (w, values), (w_dot, values_dot) = primals, tangents
    matrix, change = (w * values[None, :]) @ w.T, jnp.zeros_like(w)
    if not isinstance(values_dot, SymbolicZero):
        change = change + (w * values_dot[None, :]) @ w.T
    if not isinstance(w_dot, SymbolicZero):
        half = (w_dot * values[None, :]) @ w.T
        change = change + half + half.T
    return jax.jvp(eigenvalues_of, (matrix,), (change,))


@jax.jit
def whitening(law: BulkLaw) -> Float[Array, "d d"] | None:
    """L⁻¹ for a dense Σ̃ = LLᵀ, raised by √eps of its mean where that is what makes it invertible."""
    if isinstance(law.population, Diagonal):
        return None
    matrix = law.population.matrix()
    d = law.dimension
    shift = jnp.finfo(law.n.dtype).eps ** 0.5 * jnp.diagonal(matrix).mean()
    least = lax.stop_gradient(jnp.linalg.eigvalsh(matrix)[0])
    raised = matrix + jnp.where(least < shift, shift - jnp.minimum(least, 0), 0) * jnp.eye(d, dtype=law.n.dtype)
    factor = jnp.linalg.cholesky(raised)
    return jax.scipy.linalg.solve_triangular(factor, jnp.eye(d, dtype=law.n.dtype), lower=True)


def reach(law: BulkLaw) -> tuple[Array, Array]:
    """An interval of μ that holds the support, its ends outside: norms of S̃ and of Γ; not differentiated."""
    law = lax.stop_gradient(law)
    d, vanishing = law.dimension, law.shrinkage == 0
    # Where c₀ = 0 all that S̃ does not annihilate has gone to infinity; what is left lies between the ends of Γ.
    m = jnp.where(vanishing, 0, law.population.eigenvalues() / jnp.where(vanishing, 1, law.shrinkage))
    positive = law.squares > 0
    most, least = law.squares.max(), jnp.min(jnp.where(positive, law.squares, jnp.inf))
    high = law.gamma.max() + m.max() * most * (1 + jnp.sqrt(d / law.n)) ** 2
    # The rows of scale τ > 0 alone, at the smallest of these scales, bound S̃ from below.
    inner = jnp.maximum(1 - jnp.sqrt(d / (law.n * law.mass())), 0) ** 2 * law.mass()
    low = law.gamma.min() + jnp.maximum(m.min(), 0) * least * inner
    eps = jnp.finfo(law.n.dtype).eps
    low = jnp.maximum(low, eps * high)
    margin = 0.01 * jnp.log(high / low) + jnp.where(high > low, 0, 0.001)
    return low * jnp.exp(-margin), high * jnp.exp(margin)


# ------------------------------------------------------------------------------------------- the branch
def complex_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """The complex companion of a real dtype."""
    return jnp.dtype(np.promote_types(dtype, np.complex64))


def shrunk(law: tuple, x: Array) -> Array:
    """y(x) = E[τ²/(c₀ + τ²x)], for ``law`` = (c₀, τ², probabilities) in the dtype of x."""
    shrinkage, squares, probabilities = law
    positive = squares.real > 0
    safe = jnp.where(positive, squares, 1)
    return jnp.where(positive, probabilities * safe / (shrinkage + safe * x), 0).sum()


def branch_residual(x: Array, params: tuple) -> Array:
    """x - tr Σ̃(y(x)Σ̃ + shift)⁻¹/n for params = (population, shift, n, c₀, τ², probabilities)."""
    population, shift, n, *law = params
    y = shrunk(tuple(value.astype(x.dtype) for value in law), x)
    return x - population.resolvent(y, shift).trace() / n.astype(x.dtype)


def find_branch(params: tuple, start: Array | None = None) -> Complex[Array, ""]:
    """The root of ``branch_residual`` with Im x ≥ 0, stable where it is real; NaN where none is found.

    For yΣ̃ + shift - iηΣ̃, η > 0, a root with Im x > 0 is unique (at η = 0: such a root, or else a real root of positive
    slope), so any that Newton reaches is the right one. η falls from a value at which averaged substitution converges,
    by a factor that adapts; 0 is tried first.
    """
    population, shift, n, *law = lax.stop_gradient(params)
    dtype = complex_dtype(n.dtype)
    n, *law = (value.astype(dtype) for value in (n, *law))
    eps = float(jnp.finfo(n.real.dtype).eps)

    def evaluate(x: Array, eta: Array) -> tuple[Array, Array]:
        y, slope = jax.jvp(lambda x: shrunk(tuple(law), x), (x,), (jnp.ones_like(x),))
        trace, slope = jax.jvp(
            lambda c: population.resolvent(c, shift).trace(), (y - lax.complex(jnp.zeros_like(eta), eta),), (slope,)
        )
        return x - trace / n, 1 - slope / n

    def attempt(x: Array, eta: Array) -> tuple[Array, Array]:
        def step(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            value, slope = evaluate(state[0], eta)
            return state[0] - value / slope, jnp.abs(value / slope), slope.real

        x, last, slope = lax.fori_loop(0, 6, step, (x, jnp.abs(x), jnp.zeros_like(x.real)))
        size = jnp.abs(x)
        small = jnp.abs(x.imag) <= 100 * eps**0.75 * size
        at_zero = (last <= eps**0.7 * size) & jnp.where(small, slope > 0, x.imag > 0)
        on_the_way = (last <= eps**0.3 * size) & (x.imag > 0)
        return x, jnp.where(eta == 0, at_zero, on_the_way) & jnp.isfinite(x)

    def body(state: tuple) -> tuple:
        x, eta, ratio, _, k = state
        trial = jnp.where((ratio < 1e-4) | (eta < eps**1.5 * first), 0, eta * ratio)
        new, accepted = attempt(x, trial)
        slower = jnp.maximum(jnp.sqrt(ratio), 0.3)
        return (
            jnp.where(accepted, new, x),
            jnp.where(accepted, trial, eta),
            jnp.where(accepted, ratio**2, jnp.where(slower > 0.9, 0.3, slower)),
            accepted & (trial == 0),
            k + 1,
        )

    typical = jnp.abs(jnp.broadcast_to(shift, (population.dimension,))).mean() / population.diagonal().mean()
    first = 4 * (1 + typical)
    if start is None:
        guess = lax.complex(jnp.zeros_like(first), population.dimension / (n.real * first))
        guess = lax.fori_loop(0, 30, lambda _, x: x - evaluate(x, first)[0] / 2, guess)
    else:
        guess = start
    begin = (guess, first, jnp.zeros_like(first), jnp.array(False), jnp.array(0))
    x, eta, _, done, _ = lax.while_loop(lambda s: ~s[3] & (s[4] < _TRIALS) & jnp.isfinite(s[0]), body, begin)
    x = jnp.where(jnp.abs(x.imag) <= 100 * eps**0.75 * jnp.abs(x), x.real.astype(dtype), x)
    # At an edge the two roots meet, and Newton at η = 0 is left with half the digits.
    return jnp.where(done | (eta < eps * first), x, jnp.nan)


def constants(law: BulkLaw) -> tuple[Array, Array, Array, Array]:
    """What ``branch_residual`` needs besides a population and a shift."""
    return law.n, law.shrinkage, law.squares, law.probabilities


def branch_on(law: BulkLaw, lines: Lines) -> Complex[Array, ""]:
    """x at the μ of these lines, not differentiated."""
    return find_branch((unchecked_diagonal(lines.m), lines.s, *constants(law)))


def branch(law: BulkLaw, mu: Array, lines: Lines) -> Complex[Array, ""]:
    """x at μ, found on its lines and differentiated through the resolvent: no eigenvector has a part in it."""
    return implicit(branch_residual, branch_on(law, lines), (law.population, law.gamma - mu, *constants(law)))


# ------------------------------------------------------------------------------------------- at one μ
def count(law: BulkLaw, lines: Lines, x: Array) -> Float[Array, ""]:
    """Eigenvalues below μ, atoms included: -1/π times the argument of the log-determinant, stationary in x."""
    y = shrunk(_complex_law(law, x), x)
    down = jnp.where(lines.s < 0, -jnp.pi, 0)  # of s - i0, where m vanishes
    angles = jnp.where(lines.m > 0, _angle(y * lines.m.astype(y.dtype) + lines.s.astype(y.dtype)), down).sum()
    rows = law.shrinkage.astype(x.dtype) + law.squares.astype(x.dtype) * x
    turns = jnp.where(law.squares > 0, law.probabilities * jnp.angle(jnp.where(law.squares > 0, rows, 1)), 0).sum()
    return -(angles + law.n * (turns - (x * y).imag)) / jnp.pi


def _angle(value: Array) -> Array:
    """In [-π, 0]: the argument, real values taken from below."""
    return -jnp.abs(jnp.arctan2(value.imag, value.real))


def rate(law: BulkLaw, mu: Array, x: Array) -> Float[Array, ""]:
    """dN/dμ = Im tr(yΣ̃ + Γ - μ)⁻¹/π."""
    y = shrunk(_complex_law(law, x), x)
    return law.population.resolvent(y, law.gamma - mu).diagonal.sum().imag / jnp.pi


def _complex_law(law: BulkLaw, x: Array) -> tuple:
    return tuple(value.astype(x.dtype) for value in (law.shrinkage, law.squares, law.probabilities))
