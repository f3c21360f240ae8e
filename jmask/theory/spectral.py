"""The masked risk of any function of the sample covariance: ridge, PCA at any rank, and the least there can be.

P = h(S) predicts by A = I - diag(P)⁻¹P with risk (1/d) Σ_k [PΣP]_kk/P_kk². Both diagonals are sums over the nodes of
``real_axis``, so that one description of the sample spectrum serves every h.
"""

from collections.abc import Callable, Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import as_float, is_concrete, require_finite
from .._types import NON_FINITE, Array, ArrayLike, Float, Int, Result, full_precision, pytree
from ..covariance import Covariance
from .equivalent import checked
from .real_axis import (
    SampleSpectrum,
    accuracy_wanted,
    clean_eigenvalues,
    known_where,
    local,
    position,
    refine,
    sample_spectrum,
)
from .support import atom_position
from .units import in_units

Shrinker = Callable[[Array], ArrayLike]


@pytree
class SpectralError(Result):
    """Predicted masked risk of a spectral predictor; NaN unless converged.

    Attributes
    ----------
    error
        Mean over coordinates of the masked squared error on new samples.
    per_coordinate
        (d,) the same for every coordinate.
    accuracy
        Relative change when the nodes were last doubled.
    status
        ``CONVERGED``; ``MAX_STEPS`` when doubling the nodes did not bring the accuracy asked for; ``NON_FINITE``.
    """

    error: Float[Array, ""]
    per_coordinate: Float[Array, " d"]
    accuracy: Float[Array, ""]
    status: Int[Array, ""]


@pytree
class PpcaError(Result):
    """Predicted errors of PCA; NaN unless converged.

    Attributes
    ----------
    masked_error
        Mean masked squared error of probabilistic PCA: every coordinate predicted from the others.
    masked_per_coordinate
        (d,) the same for every coordinate.
    reconstruction_error
        (1/d) tr (I - VVᵀ)Σ, V the leading sample eigenvectors. It reads x_k to rebuild x_k and always falls with
        the rank: never compare it with a masked error.
    rank
        Number of leading eigenvectors.
    accuracy, status
        As in ``SpectralError``.
    """

    masked_error: Float[Array, ""]
    masked_per_coordinate: Float[Array, " d"]
    reconstruction_error: Float[Array, ""]
    rank: Float[Array, ""]
    accuracy: Float[Array, ""]
    status: Int[Array, ""]


@full_precision
def spectral_error(
    covariance: Covariance,
    n: ArrayLike,
    shrinker: Shrinker,
    *,
    jumps: ArrayLike | Sequence[float] = (),
    rtol: float | None = None,
) -> SpectralError:
    """Predict the masked risk of P = h(S), for any scalar function h of the sample eigenvalues.

    Parameters
    ----------
    covariance
        A population of ``jmask.covariance``, mean zero; of random directions one draw is taken.
    n
        Number of samples, real and positive.
    shrinker
        h, vectorised: takes sample eigenvalues (k,), returns (k,), up to a common factor. Below n = d it is also asked
        for its value at 0. ``lambda x: 1 / (x + ridge)`` is the masked ridge regression of ``errors``.
    jumps
        (j,) values of x at which h is not smooth: the nodes respect them.
    rtol
        Relative accuracy of the integrals; default eps^0.4 (5e-7 in double precision; what comes out is better).

    Returns
    -------
    SpectralError
        ``.error .per_coordinate .accuracy .status``.

    Raises
    ------
    ValueError, TypeError
        For n <= 0, what is no population, or a shrinker that does not return one finite number an eigenvalue.

    Notes
    -----
    [h(S)]_kk and [h(S)Σh(S)]_kk by the overlaps of Ledoit and Péché, right to relative order 1/d. Differentiable in
    n, the population and whatever the shrinker closes over. O(k² + kd) for k nodes (256 to 4096), one
    eigendecomposition for ``Dense``; under a transformation 1024, whose accuracy the status judges.

    References
    ----------
    Ledoit and Péché (2011), Eigenvectors of some large sample covariance matrix ensembles.

    Examples
    --------
    >>> import jmask as jm
    >>> c = jm.covariance.ar1(20, 0.9, circulant=True)
    >>> found = jm.theory.spectral_error(c, 40, lambda x: 1 / (x + 0.1))
    >>> abs(float(found.error) - float(jm.theory.errors(c, 40, 0.1).test)) < 1e-9
    True
    """
    covariance, n, _, _ = checked(covariance, n, 0.0, None)
    if not callable(shrinker):
        raise TypeError(f"shrinker must be a function of the sample eigenvalues, got {type(shrinker).__name__}")
    jumps = jnp.ravel(as_float(cast(ArrayLike, jumps), "jumps", n.dtype))
    require_finite(jumps, "jumps")

    covariance, unit = in_units(covariance)

    def evaluate(size: int) -> Array:
        nodes = _nodes(covariance, n, jumps / unit, size)
        return risk_of(covariance, nodes, _shrunk(shrinker, nodes, unit))

    risk, accuracy, status = refine(evaluate, lambda r: r, accuracy_wanted(rtol, n.dtype))
    risk = known_where(status, risk) * unit
    return SpectralError(risk.mean(), risk, accuracy, status)


def _shrunk(shrinker: Shrinker, nodes: SampleSpectrum, unit: Array) -> Array:
    """h at the nodes; never asked for at an atom that is not there."""
    x = nodes.x.at[0].set(jnp.where(nodes.weight[0] > 0, 0, nodes.x[-1])) * unit
    h = as_float(shrinker(x), "shrinker(x)", x.dtype)
    if h.shape not in ((), x.shape):
        raise ValueError(f"shrinker must return one number for each of the {x.shape[0]} eigenvalues, got {h.shape}")
    h = jnp.broadcast_to(h, x.shape)
    if is_concrete(h) and (wrong := np.isfinite(x) & ~np.isfinite(h)).any():
        at = np.argmax(wrong)
        raise ValueError(f"shrinker must be finite at every sample eigenvalue, got {h[at]} at {x[at]:.3g}")
    if is_concrete(h) and not np.asarray(h).any():
        raise ValueError("shrinker must not vanish at every sample eigenvalue")
    return h


def _nodes(covariance: Covariance, n: Array, jumps: Array, size: int) -> SampleSpectrum:
    eigenvalues = covariance.eigenvalues()
    if not jumps.size:
        return sample_spectrum(eigenvalues, n, size=size)
    return sample_spectrum(eigenvalues, n, size=size, cuts=position(eigenvalues, n, jumps))


def _diagonal_of(covariance: Covariance, function: Callable[[Array], Array]) -> Array:
    """(d,) diagonal of a function of Σ that acts on each eigenvalue alone."""
    m = clean_eigenvalues(covariance.eigenvalues())
    return covariance.spectral_diagonal(*jax.jvp(function, (m,), (jnp.ones_like(m),)))


@jax.jit
def risk_of(covariance: Covariance, nodes: SampleSpectrum, h: Array) -> Array:
    """(d,) [PΣP]_kk/P_kk²."""
    h = h / jnp.abs(h * nodes.weight).max()
    precision = _diagonal_of(covariance, lambda m: (nodes.weighted_overlaps(m) * h[:, None]).sum(0))
    return _diagonal_of(covariance, lambda m: nodes.variance_form(h, m)) / precision**2


# ------------------------------------------------------------------------------------------- probabilistic PCA
@full_precision
def ppca(covariance: Covariance, n: ArrayLike, rank: ArrayLike, *, rtol: float | None = None) -> PpcaError:
    """Predict the masked and the reconstruction error of probabilistic PCA at a given rank.

    P is 1/x on the ``rank`` leading eigenvectors of S and 1/s₂ on the others, s₂ the mean of their eigenvalues: the
    maximum likelihood fit.

    Parameters
    ----------
    covariance
        A population of ``jmask.covariance``, mean zero; of random directions one draw is taken.
    n
        Number of samples, real and positive.
    rank
        Leading eigenvectors kept, real and in (0, d). From n on (n < d) it is ridgeless regression.
    rtol
        Relative accuracy of the integrals; default eps^0.4 (5e-7 in double precision; what comes out is better).

    Returns
    -------
    PpcaError
        ``.masked_error .masked_per_coordinate .reconstruction_error .accuracy .status``.

    Raises
    ------
    ValueError, TypeError
        For n <= 0, a rank outside (0, d), or what is no population.

    Notes
    -----
    Differentiable in n, rank and population; where the spectrum has a gap exactly at ``rank`` the error has a kink and
    the derivative in the rank is given as 0. Cost as ``spectral_error``.

    References
    ----------
    Tipping and Bishop (1999), Probabilistic principal component analysis.

    Examples
    --------
    >>> import jmask as jm
    >>> c = jm.covariance.ar1(30, 0.9, circulant=True)
    >>> e = jm.theory.ppca(c, 60, rank=6)
    >>> bool(e.reconstruction_error < e.masked_error)
    True
    """
    covariance, n, _, _ = checked(covariance, n, 0.0, None)
    d, rank = covariance.dimension, as_float(rank, "rank", n.dtype)
    if rank.ndim:
        raise ValueError(f"rank must be a scalar, got shape {rank.shape}: use jax.vmap for a grid")
    if is_concrete(rank) and not 0 < float(np.asarray(rank)) < d:
        raise ValueError(f"rank must lie in (0, {d}), got {float(np.asarray(rank)):g}")
    return refined_ppca(covariance, n, rank, accuracy_wanted(rtol, n.dtype))


def refined_ppca(covariance: Covariance, n: Array, rank: Array, rtol: float) -> PpcaError:
    """``ppca`` without checks: nodes doubled until two answers agree to rtol."""
    covariance, unit = in_units(covariance)
    (risk, reconstruction), accuracy, status = refine(
        lambda size: ppca_errors(covariance, n, rank, size), lambda found: jnp.append(*found), rtol
    )
    status = jnp.where((rank >= 0) & (rank < covariance.dimension), status, NON_FINITE)  # a traced rank may be anything
    risk, reconstruction = (known_where(status, found) * unit for found in (risk, reconstruction))
    return PpcaError(risk.mean(), risk, reconstruction, rank, accuracy, status)


def ppca_errors(covariance: Covariance, n: Array, rank: Array, size: int) -> tuple[Array, Array]:
    """Masked risk (d,) and reconstruction error; P is scaled by s₂, which may be 0."""
    eigenvalues = covariance.eigenvalues()
    cut = position(eigenvalues, n, (covariance.dimension - rank)[None], of="count")
    return _cut_errors(covariance, sample_spectrum(eigenvalues, n, size=size, cuts=cut), cut)


@jax.jit
def _cut_errors(covariance: Covariance, nodes: SampleSpectrum, cut: Array) -> tuple[Array, Array]:
    below = (nodes.at.u < cut).at[0].set(True)  # what S has no eigenvalue for is never kept
    discarded = jnp.where(below, nodes.weight, 0)
    mean = (discarded * nodes.x).sum() / discarded.sum()
    h = jnp.where(below, 1, mean / jnp.where(below, 1, nodes.x))
    return risk_of(covariance, nodes, h), jnp.where(below, nodes.weighted_variance, 0).sum()


# ------------------------------------------------------------------------------------------- ξ(x)
@full_precision
def eigenvector_variance(covariance: Covariance, n: ArrayLike, x: ArrayLike) -> Float[Array, "..."]:
    """ξ(x): the population variance vᵀΣv along the sample eigenvector v of eigenvalue x.

    Parameters
    ----------
    covariance
        A population of ``jmask.covariance``; of random directions one draw is taken.
    n
        Number of samples, real and positive.
    x
        Sample eigenvalues, any shape; 0 is the null space of S when n is below the rank of Σ.

    Returns
    -------
    Array
        In the shape of x; NaN where S has no eigenvalues.

    Notes
    -----
    The best spectral predictor of a population of constant diagonal is h = 1/ξ: masked ridge regression is as good
    as ξ is affine, PCA as good as it is a step. Differentiable in n, x and population.

    References
    ----------
    Ledoit and Péché (2011).

    Examples
    --------
    >>> import jmask as jm
    >>> c = jm.covariance.Diagonal([2.0, 2.0, 2.0])
    >>> jm.theory.eigenvector_variance(c, 12, [2.0, 9.0])
    Array([ 2., nan], dtype=float64)
    """
    covariance, n, _, _ = checked(covariance, n, 0.0, None)
    x = as_float(x, "x", n.dtype)
    require_finite(x, "x")
    covariance, unit = in_units(covariance)
    return _eigenvector_variance(covariance, n, x.ravel() / unit).reshape(x.shape) * unit


@jax.jit
def _eigenvector_variance(covariance: Covariance, n: Array, x: Array) -> Array:
    m = clean_eigenvalues(covariance.eigenvalues())
    kappa = atom_position(m, n)
    mass = jnp.maximum(m.shape[0] - jnp.minimum(n, (m > 0).astype(m.dtype).sum()), 0)
    at_zero = (x == 0) & (mass > 0)
    target = jnp.where(x > 0, x, m.mean())
    here = local(position(m, n, target), m, n)
    close = jnp.abs(here.x - target) <= float(jnp.finfo(x.dtype).eps) ** 0.5 * target
    inside = (here.y > 0) & (x > 0) & close
    return jnp.where(at_zero, n * kappa / jnp.where(mass > 0, mass, 1), jnp.where(inside, here.variance, jnp.nan))
