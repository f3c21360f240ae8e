"""Populations by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import as_float, as_samples, is_concrete, not_negative, require_finite
from .._types import Array, ArrayLike, full_precision
from .base import Dense, Diagonal
from .spiked import Spiked
from .structured import Circulant, Isotropic

_FINE_GRID = 200_000  # points of a law's distribution function


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
    rho = _within(_as_scalar(rho, "rho"), lambda r: abs(r) < 1, "rho must lie in (-1, 1)")
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
    exponent = _as_scalar(exponent, "exponent")
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
    d, correlation = _as_dimension(d), _as_scalar(correlation, "correlation")
    correlation = _within(
        correlation, lambda r: (r >= -1 / (d - 1)) & (r <= 1), "correlation must lie in [-1/(d - 1), 1]"
    )
    variance = not_negative(_as_scalar(variance, "variance", correlation.dtype), "variance")
    first = jnp.zeros(d, bool).at[0].set(True)
    return Circulant(variance * jnp.where(first, 1, correlation))


def blocks(d: int, size: float, correlation: ArrayLike) -> Circulant:
    """Blocks of ``size`` coordinates, equally correlated within and independent between, unit variance.

    Coordinates j and k are in the same block when they agree modulo the number of blocks, so that Σ is ``Circulant``.

    Examples
    --------
    >>> import jmask as jm
    >>> jm.covariance.blocks(4, 2, 0.5).matrix()[0]
    Array([1. , 0. , 0.5, 0. ], dtype=float64)
    """
    d, correlation = _as_dimension(d), _as_scalar(correlation, "correlation")
    if int(size) != size or size < 2 or d % size:
        raise ValueError(f"size must be a whole number of at least 2 that divides d = {d}, got {size}")
    correlation = _within(
        correlation, lambda r: (r >= -1 / (size - 1)) & (r <= 1), "correlation must lie in [-1/(size - 1), 1]"
    )
    lag = np.arange(d)
    same = lag % (d // int(size)) == 0
    return Circulant(jnp.where(lag == 0, 1, jnp.where(same, correlation, 0)))


def factors(d: int, share: float, strength: ArrayLike) -> Isotropic:
    """Unit noise and round(share·d) factors of equal strength: eigenvalues 1 + strength and 1, random eigenvectors.

    Examples
    --------
    >>> import jmask as jm
    >>> jm.covariance.factors(4, 0.25, 9.0).eigenvalues()
    Array([10.,  1.,  1.,  1.], dtype=float64)
    """
    d, strength = _as_dimension(d), _as_scalar(strength, "strength")
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], got {share}")
    strength = _within(strength, lambda s: s >= -1, "strength must be at least -1")
    return Isotropic(1 + jnp.where(np.arange(d) < round(share * d), strength, 0))


def inverse_marchenko_pastur(d: int, ratio: float) -> Isotropic:
    """Random eigenvectors, and eigenvalues whose inverses follow a Marchenko–Pastur law of mean one.

    As of the inverse of a sample covariance of K = d/ratio white samples: where this is the population, masked ridge
    regression at ridge d/(n·ratio) is the best of all spectral predictors, with error 1/(1 - d/(n + K)).

    Parameters
    ----------
    d
        Dimension.
    ratio
        d/K, in (0, 1).

    Notes
    -----
    Each eigenvalue stands for a share 1/d of the law: its square is the mean of 1/x there over the mean of x. At
    d = 240 error and floor are within 10⁻⁵ of those of the law.

    Examples
    --------
    >>> import jmask as jm
    >>> c = jm.covariance.inverse_marchenko_pastur(100, 0.5)
    >>> round(float((1 / c.eigenvalues()).mean()), 3)
    1.0
    """
    d = _as_dimension(d)
    if not 0 < ratio < 1:
        raise ValueError(f"ratio must lie in (0, 1), got {ratio}")
    angle = np.pi * (np.arange(_FINE_GRID) + 0.5) / _FINE_GRID
    x = 1 + ratio - 2 * np.sqrt(ratio) * np.cos(angle)
    mass = 2 * np.sin(angle) ** 2 / x / _FINE_GRID
    shares = np.linspace(0, 1, d + 1)

    def within(values: np.ndarray) -> np.ndarray:
        """(d,) integrals over the shares."""
        return np.diff(np.interp(shares, np.cumsum(mass) / mass.sum(), np.cumsum(mass * values)))

    return Isotropic(np.sqrt(within(1 / x) / within(x)))


@full_precision
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
    require_finite(centres, "centres")
    k, d = centres.shape
    weights = jnp.full((k,), 1 / k, centres.dtype) if probabilities is None else probabilities
    weights = as_float(weights, "probabilities", centres.dtype)
    if weights.shape != (k,):
        raise ValueError(f"probabilities must have shape ({k},), one a class, got {weights.shape}")
    if is_concrete(weights):
        shares = np.asarray(weights, np.float64)
        if not ((shares >= 0).all() and abs(shares.sum() - 1) <= 1e-6):
            raise ValueError(f"probabilities must not be negative and sum to one, got {shares}")
    noise = as_float(noise, "noise", centres.dtype)
    if noise.shape not in ((), (d,)):
        raise ValueError(f"noise must be a scalar or a vector of {d} entries, got shape {noise.shape}")
    noise = not_negative(noise, "noise")
    strengths, directions = _principal(_contrasts(centres, weights))
    return Spiked(Diagonal(jnp.broadcast_to(noise, (d,))), strengths, directions)


def _contrasts(centres: Array, weights: Array) -> Array:
    """(k - 1, d) rows B with BᵀB the covariance of the class means, smooth in the means and the weights."""
    root = jnp.sqrt(weights)
    # A reflection that sends the first unit vector to -root: its other columns are orthogonal to root.
    reflection = jnp.eye(root.shape[0], dtype=root.dtype)[:, 1:]
    reflection = reflection - jnp.outer(root.at[0].add(1), root[1:]) / (1 + root[0])
    return reflection.T @ (root[:, None] * centres)


def _principal(rows: Array) -> tuple[Array, Array]:
    """Strengths (r,), descending, and unit directions (d, r) with Σ_j θ_j u_j u_jᵀ = BᵀB for B = rows.

    The rotation to principal axes is held constant in derivatives: BᵀB does not depend on it, and the
    derivative of singular vectors is infinite where singular values coincide.
    """
    turn, _, axes = jax.lax.stop_gradient(jnp.linalg.svd(rows, full_matrices=False))
    rows = turn.T @ rows
    strengths = (rows**2).sum(1)
    positive = strengths > jnp.finfo(rows.dtype).eps * strengths.max()
    units = rows / jnp.sqrt(jnp.where(positive, strengths, 1))[:, None]
    return strengths, jnp.where(positive[:, None], units, axes).T


@full_precision
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


def _as_scalar(value: ArrayLike, name: str, dtype: jnp.dtype | None = None) -> Array:
    value = as_float(value, name, dtype)
    if value.ndim:
        raise ValueError(f"{name} must be a scalar, got shape {value.shape}")
    require_finite(value, name)
    return value


def _within(value: Array, holds: Callable, rule: str) -> Array:
    """A scalar, refused where it is known not to hold; traced, NaN there."""
    if not is_concrete(value):
        return jnp.where(holds(value), value, jnp.nan)
    if not holds(float(value)):
        raise ValueError(f"{rule}, got {float(value):g}")
    return value


def _as_dimension(d: int) -> int:
    if int(d) != d or d < 2:
        raise ValueError(f"d must be a whole number of at least 2, got {d}")
    return int(d)
