"""The best of a family of spectral predictors: the floor under all of them, and PCA at its best rank.

An optimum has a derivative without being differentiated itself: the error at a minimum changes as if its argument
stayed where it is (``held``).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._checks import as_float
from .._types import CONVERGED, MAX_STEPS, Array, ArrayLike, Bool, Float, Int, Result, full_precision, pytree
from ..covariance import Covariance
from .equivalent import checked
from .held import held, undifferentiated
from .real_axis import (
    SIZES,
    SampleSpectrum,
    accuracy_wanted,
    clean_eigenvalues,
    known_where,
    refine,
    sample_spectrum,
)
from .spectral import PpcaError, ppca_errors, refined_ppca, risk_of
from .units import in_units

_MAX_STEPS = 500  # 10 to 40 as a rule
_TRIALS = 0.5 ** np.arange(8)  # lengths of a step, the longest first
_FREE = 1e6  # h on the null space of Σ, where any h is free, in units of the largest elsewhere
_RANKS = 32  # of the grid
_HALVINGS = 20  # each shrinks the bracket by 0.55


# ------------------------------------------------------------------------------------------- the floor
@pytree
class Shrinker:
    """A function of the sample eigenvalues, linear between its nodes; callable, also in ``spectral_error``.

    Attributes
    ----------
    eigenvalues
        (k,) nodes x, ascending.
    values
        (k,) h(x) at the nodes, scaled so that its largest is 1.
    at_zero
        h(0), on the null space of S when n is below the rank of Σ.
    """

    eigenvalues: Float[Array, " k"]
    values: Float[Array, " k"]
    at_zero: Float[Array, ""]

    def __call__(self, x: ArrayLike) -> Array:
        x = as_float(x, "x", self.values.dtype)
        return jnp.where(x == 0, self.at_zero, jnp.interp(x, self.eigenvalues, self.values))


@pytree
class Floor(Result):
    """The least masked risk of any spectral predictor; NaN unless converged.

    Attributes
    ----------
    error
        (1/d) Σ_k [PΣP]_kk/P_kk² at its minimum over P = h(S).
    shrinker
        The h that reaches it.
    accuracy
        Relative change of the error when the nodes were last doubled.
    steps
        Iterations; 0 where the answer is a formula.
    status
        ``CONVERGED``; ``MAX_STEPS`` when the iteration, or doubling the nodes, did not bring the accuracy asked for;
        ``NON_FINITE``.
    """

    error: Float[Array, ""]
    shrinker: Shrinker
    accuracy: Float[Array, ""]
    steps: Int[Array, ""]
    status: Int[Array, ""]


@full_precision
def floor(covariance: Covariance, n: ArrayLike, *, rtol: float | None = None) -> Floor:
    """Find the least masked risk that any function of the sample covariance can reach.

    Parameters
    ----------
    covariance
        A population of ``jmask.covariance``, mean zero; of random directions one draw is taken.
    n
        Number of samples, real and positive.
    rtol
        Relative accuracy of the error; default eps^0.4 (5e-7 in double precision; what comes out is better).

    Returns
    -------
    Floor
        ``.error .shrinker .accuracy .steps .status``.

    Raises
    ------
    ValueError, TypeError
        For n <= 0 or what is no population.

    Notes
    -----
    Where every function of Σ has a constant diagonal (``Isotropic``, ``Circulant``) h = 1/ξ, nonlinear shrinkage, and
    the floor is 1/∫ dF/ξ. Otherwise h solves M h = Σ_k (N_k/D_k³) a_k with D_k = a_k·h = P_kk, N_k = h·M_k h =
    [PΣP]_kk and M = Σ_k M_k/D_k², iterated with steps that never go uphill: a local minimum, reached from 1/ξ. Error
    differentiable in n and population, once (twice where it is a formula; else the second derivative is NaN). For
    k nodes, O(k³) an iteration, plus one eigendecomposition for ``Dense``.

    References
    ----------
    Ledoit and Péché (2011) for ξ.

    Examples
    --------
    >>> import jmask as jm
    >>> c = jm.covariance.ar1(30, 0.9, circulant=True)
    >>> least = jm.theory.floor(c, 60)
    >>> bool(least.error < jm.theory.errors(c, 60, 0.1).test)
    True
    """
    covariance, n, _, _ = checked(covariance, n, 0.0, None)
    rtol = accuracy_wanted(rtol, n.dtype)
    covariance, unit = in_units(covariance)
    solve = _constant_floor if covariance.constant_diagonal else _general_floor
    found, accuracy, status = refine(lambda size: solve(covariance, n, size), lambda found: found[0][None], rtol)
    error, shrinker, steps, stopped = found
    status = jnp.where(status == CONVERGED, stopped, status)
    error, shrinker = jax.tree.map(lambda value: known_where(status, value), (error * unit, shrinker))
    shrinker = dataclasses.replace(shrinker, eigenvalues=shrinker.eigenvalues * unit)
    return Floor(error, shrinker, accuracy, steps, status)


Found = tuple[Array, Shrinker, Array, Array]


def _as_shrinker(nodes: SampleSpectrum, h: Array) -> Shrinker:
    h = h / jnp.where(nodes.weight > 0, h, 0).max()
    return Shrinker(nodes.x[1:], h[1:], h[0])


def _constant_floor(covariance: Covariance, n: Array, size: int) -> Found:
    return _inverse_variance(sample_spectrum(covariance.eigenvalues(), n, size=size))


@jax.jit
def _inverse_variance(nodes: SampleSpectrum) -> Found:
    h, free = _start(nodes)
    h = jnp.where(free, jnp.zeros_like(h).at[0].set(1), h)
    error = jnp.where(free, 0, 1 / (nodes.weight * h).sum())
    return error, _as_shrinker(nodes, h), jnp.array(0), jnp.array(CONVERGED)


def _start(nodes: SampleSpectrum) -> tuple[Array, Bool[Array, ""]]:
    """h = 1/ξ; and whether the atom at 0 is the null space of Σ, which costs nothing: there h is all but infinite."""
    alive = (nodes.weight > 0) & (nodes.at.variance > 0)
    h = jnp.where(alive, 1 / jnp.where(alive, nodes.at.variance, 1), 0)
    # n a rounding error below d leaves an atom of no variance too, which is no null space
    free = (nodes.weight[0] > 0) & ~alive[0] & (nodes.eigenvalues == 0).any()
    return h.at[0].set(jnp.where(free, _FREE * h.max(), h[0])), free


@pytree
class _Forms:
    """Everything the risk is made of, in the coordinates: a_k and the pieces of M_k."""

    linear: Array  # (d, k) a
    squares: Array  # (d, d) squared entries of the eigenvectors of Σ
    overlaps: Array  # (k, d) p·O
    diagonal: Array  # (k, d) of M in the basis of Σ
    eigenvalues: Array  # (d,)
    kernel: Array  # (k, k) γpξ/(x_j - x_l), column l

    def terms(self, h: Array) -> tuple[Array, Array]:
        """D and N, (d,) each."""
        pairs = 2 * self.eigenvalues * (self.overlaps * (h * (self.kernel @ h))[:, None]).sum(0)
        return self.linear @ h, self.squares @ (pairs + (self.diagonal * (h**2)[:, None]).sum(0))

    def risk(self, h: Array) -> Array:
        linear, quadratic = self.terms(h)
        return (quadratic / linear**2).mean()

    def proposal(self, h: Array) -> Array:
        """The solution of the normal equations at the present D and N, scaled by the diagonal of M."""
        linear, quadratic = self.terms(h)
        weight = self.squares.T @ linear**-2
        half = (self.overlaps @ (self.eigenvalues * weight))[:, None] * self.kernel
        diagonal = self.diagonal @ weight
        scale = jnp.sqrt(jnp.where(diagonal > 0, 1 / jnp.where(diagonal > 0, diagonal, 1), 0))
        matrix = (half + half.T) * scale[:, None] * scale[None, :] + jnp.eye(h.shape[0], dtype=h.dtype)
        return scale * jnp.linalg.solve(matrix, scale * (self.linear.T @ (quadratic / linear**3)))


def _forms(covariance: Covariance, nodes: SampleSpectrum) -> _Forms:
    m = clean_eigenvalues(covariance.eigenvalues())
    d, squares = m.shape[0], _squares(covariance)
    overlaps = nodes.weighted_overlaps(m)
    kernel = nodes.inverse_gaps() * (d / nodes.n * nodes.weighted_variance)[None, :]
    diagonal = overlaps * nodes.at.variance[:, None] + nodes.pair_diagonal(m)
    diagonal = diagonal.at[0].set(nodes.atom_form(m))
    return _Forms(squares @ overlaps.T, squares, overlaps, diagonal, m, kernel)


def _general_floor(covariance: Covariance, n: Array, size: int) -> Found:
    fixed = lax.stop_gradient((covariance, n))
    nodes = sample_spectrum(fixed[0].eigenvalues(), fixed[1], size=size)
    h, steps, status = _least(fixed[0], nodes)
    moving = sample_spectrum(covariance.eigenvalues(), n, size=size)
    return *_at_least(covariance, n, nodes, moving, h), steps, status


@jax.jit
def _least(covariance: Covariance, nodes: SampleSpectrum) -> tuple[Array, Array, Array]:
    """h of least risk at the nodes, steps and status."""
    forms = _forms(covariance, nodes)
    eps = float(jnp.finfo(nodes.n.dtype).eps)
    trials = jnp.asarray(_TRIALS, nodes.n.dtype)
    start, free = _start(nodes)

    def body(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        h, risk, _, steps = state
        change = forms.proposal(h) - h
        change = change.at[0].set(jnp.where(free, 0, change[0]))
        candidates = h[None, :] + trials[:, None] * change[None, :]
        risks = jax.vmap(forms.risk)(candidates)
        best = jnp.nanargmin(risks)
        better = risks[best] < risk
        new = jnp.where(better, candidates[best], h)
        gain = jnp.where(better, risk - risks[best], 0)
        return new, jnp.where(better, risks[best], risk), gain > 8 * eps * risk, steps + 1

    state = (start, forms.risk(start), jnp.array(True), jnp.array(0))
    h, _, running, steps = lax.while_loop(lambda s: s[2] & (s[3] < _MAX_STEPS), body, state)
    return h, steps, jnp.where(running, MAX_STEPS, CONVERGED)


@jax.jit
def _at_least(
    covariance: Covariance, n: Array, fixed: SampleSpectrum, moving: SampleSpectrum, h: Array
) -> tuple[Array, Shrinker]:
    inputs = (covariance, n)
    error = risk_of(covariance, moving, held(h, inputs)).mean()
    return error, _as_shrinker(fixed, undifferentiated(h, inputs))


# ------------------------------------------------------------------------------------------- the best rank
@full_precision
def best_rank(covariance: Covariance, n: ArrayLike, *, rtol: float | None = None) -> PpcaError:
    """Probabilistic PCA at the rank of its least masked error.

    Parameters
    ----------
    covariance
        A population of ``jmask.covariance``, mean zero; of random directions one draw is taken.
    n
        Number of samples, real and positive.
    rtol
        Relative accuracy of the errors; default eps^0.4 (5e-7 in double precision; what comes out is better).

    Returns
    -------
    PpcaError
        As from ``ppca``, at the best ``.rank``, real: 0 where predicting zero is best.

    Notes
    -----
    A grid of ranks, then a shrinking bracket around its lowest point, to about d·10⁻⁶. The mean masked error is
    differentiable in n and population, once: at a minimum the rank does not matter. Other derivatives are NaN.

    Examples
    --------
    >>> import jmask as jm
    >>> best = jm.theory.best_rank(jm.covariance.ar1(30, 0.9, circulant=True), 60)
    >>> bool(2 < best.rank < 20)
    True
    """
    covariance, n, _, _ = checked(covariance, n, 0.0, None)
    rtol = accuracy_wanted(rtol, n.dtype)
    inputs = (covariance, n)
    rank = _best_rank(*inputs)
    found = refined_ppca(covariance, n, held(rank, inputs), rtol)
    return dataclasses.replace(
        found,
        masked_per_coordinate=undifferentiated(found.masked_per_coordinate, inputs),
        reconstruction_error=undifferentiated(found.reconstruction_error, inputs),
        rank=known_where(found.status, undifferentiated(rank, inputs)),
    )


@pytree
class _Decomposed(Covariance):
    """A population as far as spectral predictors know it, decomposed once for many ranks."""

    values: Array  # (d,) eigenvalues
    squares: Array  # (d, d) squared entries of the eigenvectors

    @property
    def dimension(self) -> int:
        return self.values.shape[-1]

    def eigenvalues(self) -> Array:
        return self.values

    def spectral_diagonal(self, values: Array, slopes: Array) -> Array:
        del slopes
        return self.squares @ values


def _squares(covariance: Covariance) -> Array:
    """(d, d) squared entries of the eigenvectors of Σ, row k of coordinate k."""
    d, dtype = covariance.dimension, covariance.eigenvalues().dtype
    no_slopes = jnp.zeros(d, dtype)
    return jax.vmap(covariance.spectral_diagonal, (0, None), 1)(jnp.eye(d, dtype=dtype), no_slopes)


@jax.jit
def _best_rank(covariance: Covariance, n: Array) -> Array:
    (covariance, _), n = lax.stop_gradient((in_units(covariance), n))
    known = _Decomposed(covariance.eigenvalues(), _squares(covariance))  # type: ignore[abstract]

    def risk(rank: Array) -> Array:
        return ppca_errors(known, n, rank, SIZES[0])[0].mean()

    top = jnp.minimum(n, covariance.dimension)
    grid = top * jnp.arange(_RANKS, dtype=n.dtype) / _RANKS
    risks = lax.map(risk, grid)
    best = jnp.nanargmin(risks)

    def body(_: int, state: tuple[Array, ...]) -> tuple[Array, ...]:
        low, high, rank, least = state
        pair = low + (high - low) * jnp.asarray([0.45, 0.55], n.dtype)
        values = lax.map(risk, pair)
        rising = values[0] < values[1]
        lower = jnp.minimum(values[0], values[1])
        rank = jnp.where(lower < least, jnp.where(rising, pair[0], pair[1]), rank)
        return jnp.where(rising, low, pair[0]), jnp.where(rising, pair[1], high), rank, jnp.fmin(least, lower)

    cell = top / _RANKS
    begin = (jnp.maximum(grid[best] - cell, 0), jnp.minimum(grid[best] + cell, top), grid[best], risks[best])
    return lax.fori_loop(0, _HALVINGS, body, begin)[2]
