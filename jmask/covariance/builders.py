"""Populations by name."""

import jax.numpy as jnp
import numpy as np

from .._checks import as_float, as_samples, is_concrete
from .._types import ArrayLike
from .base import Dense, Diagonal
from .spiked import Spiked
from .structured import Circulant, Isotropic


def ar1(d: int, rho: ArrayLike, circulant: bool = False) -> Dense | Circulant:
    """A stationary autoregression of order one with unit variance.

    Parameters
    ----------
    d
        Dimension.
    rho
        Correlation of neighbours, in (-1, 1); differentiable.
    circulant
        False: Σ_jk = rho^|j-k| (Toeplitz, ``Dense``). True: the same on a ring (``Circulant``), O(d log d).

    Examples
    --------
    >>> import jmask as jm
    >>> jm.covariance.ar1(3, 0.5).matrix()[0]
    Array([1.  , 0.5 , 0.25], dtype=float64)
    """
    rho = as_float(rho, "rho")
    if is_concrete(rho) and not bool(jnp.abs(rho) < 1):
        raise ValueError(f"rho must lie in (-1, 1), got {float(rho):g}")
    d = _as_dimension(d)
    factors = jnp.broadcast_to(rho, (d + 1,)).at[0].set(1)
    powers = jnp.cumprod(factors)  # rho^0 … rho^d; unlike a power, differentiable at rho = 0
    if circulant:
        return Circulant((powers[:-1] + powers[:0:-1]) / (1 + powers[-1]))
    lag = np.arange(d)
    return Dense(powers[np.abs(lag[:, None] - lag[None, :])])


def power_law(d: int, exponent: ArrayLike) -> Isotropic:
    """Eigenvalues k^(-exponent), k = 1 … d, with random eigenvectors; differentiable in the exponent.

    Examples
    --------
    >>> import jmask as jm
    >>> jm.covariance.power_law(3, 1.0).eigenvalues()[1]
    Array(0.5, dtype=float64)
    """
    exponent = as_float(exponent, "exponent")
    k = jnp.arange(1, _as_dimension(d) + 1, dtype=exponent.dtype)
    return Isotropic(k**-exponent)


def equicorrelated(d: int, correlation: ArrayLike, variance: ArrayLike = 1.0) -> Circulant:
    """Every pair of coordinates with the same correlation, in [-1/(d - 1), 1].

    Examples
    --------
    >>> import jmask as jm
    >>> jm.covariance.equicorrelated(3, 0.5).matrix()[0]
    Array([1. , 0.5, 0.5], dtype=float64)
    """
    correlation = as_float(correlation, "correlation")
    if is_concrete(correlation) and not bool((correlation >= -1 / (d - 1)) & (correlation <= 1)):
        raise ValueError(f"correlation must lie in [-1/(d - 1), 1], got {float(correlation):g}")
    variance = as_float(variance, "variance", correlation.dtype)
    first = jnp.zeros(_as_dimension(d), bool).at[0].set(True)
    return Circulant(variance * jnp.where(first, 1.0, correlation))


def latent_classes(centres: ArrayLike, probabilities: ArrayLike | None = None, noise: ArrayLike = 1.0) -> Spiked:
    """The covariance of a mixture: class means ``centres`` (k, d) around their average, on independent noise.

    Parameters
    ----------
    centres
        (k, d) class means; their weighted average is removed.
    probabilities
        (k,) class probabilities; default: equal.
    noise
        Variance within a class: a scalar, or (d,).

    Returns
    -------
    Spiked
        A diagonal bulk with at most k - 1 spikes along given directions; samples are Gaussian with the
        covariance of the mixture.

    Examples
    --------
    >>> import jmask as jm
    >>> jm.covariance.latent_classes([[1.0, 0.0], [-1.0, 0.0]]).matrix()
    Array([[2., 0.],
           [0., 1.]], dtype=float64)
    """
    centres = as_float(centres, "centres")
    if centres.ndim != 2 or centres.shape[0] < 2:
        raise ValueError(f"centres must have shape (k, d) with at least 2 classes, got {centres.shape}")
    k, d = centres.shape
    weights = jnp.full((k,), 1 / k, centres.dtype) if probabilities is None else probabilities
    weights = as_float(weights, "probabilities", centres.dtype)
    if weights.shape != (k,) or (is_concrete(weights) and abs(float(weights.sum()) - 1) > 1e-6):
        raise ValueError(f"probabilities must be {k} numbers that sum to one, got {weights}")
    centred = jnp.sqrt(weights)[:, None] * (centres - (weights @ centres)[None, :])
    _, singular, directions = jnp.linalg.svd(centred, full_matrices=False)
    kept = min(k - 1, d)
    bulk = Diagonal(jnp.broadcast_to(as_float(noise, "noise", centres.dtype), (d,)))
    return Spiked(bulk, singular[:kept] ** 2, directions[:kept].T)


def from_samples(x: ArrayLike) -> Dense:
    """The plug-in population xᵀx/n of data (n, d); centre the data first.

    Examples
    --------
    >>> import jmask as jm
    >>> jm.covariance.from_samples([[1.0, 0.0], [0.0, 1.0]]).diagonal()
    Array([0.5, 0.5], dtype=float64)
    """
    x = as_samples(x)
    return Dense(x.T @ x / x.shape[0])


def _as_dimension(d: int) -> int:
    if int(d) != d or d < 2:
        raise ValueError(f"d must be a whole number of at least 2, got {d}")
    return int(d)
