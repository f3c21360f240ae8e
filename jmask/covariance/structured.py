"""Populations whose resolvents have a constant diagonal: Circulant and Isotropic."""

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import as_float, is_concrete, require_finite
from .._linalg import fourier
from .._types import Array, ArrayLike, Float, PRNGKeyArray, full_precision, pytree
from .base import Covariance, Dense, as_spectrum, unchecked_dense, unchecked_diagonal
from .resolvent import CirculantResolvent, IsotropicResolvent, MatrixResolvent, Resolvent


@pytree
class Circulant(Covariance):
    """A stationary sequence on a ring: Σ_jk = first_row[(k - j) mod d].

    Parameters
    ----------
    first_row
        (d,) autocovariances, symmetric (first_row[k] = first_row[d - k]) and with no negative Fourier
        coefficient.

    Examples
    --------
    >>> import jmask as jm
    >>> jm.covariance.Circulant([2.0, 1.0, 0.0, 1.0]).eigenvalues().sum()
    Array(8., dtype=float64)
    """

    first_row: Float[Array, " d"]
    constant_diagonal = True

    def __post_init__(self) -> None:
        row = as_float(self.first_row, "first_row")
        if row.ndim != 1 or row.shape[0] < 2:
            raise ValueError(f"first_row must be a vector of at least 2 entries, got shape {row.shape}")
        require_finite(row, "first_row")
        if is_concrete(row):
            values = np.asarray(row)
            slack = np.sqrt(np.finfo(values.dtype).eps) * np.abs(values).max()
            if np.abs(values[1:] - values[:0:-1]).max() > slack:
                raise ValueError("first_row must be symmetric: first_row[k] = first_row[d - k]")
            smallest = np.fft.fft(values).real.min()
            if smallest < -slack * len(values):
                raise ValueError(f"first_row must have no negative Fourier coefficient, got {smallest:.3g}")
        object.__setattr__(self, "first_row", row)

    @property
    def dimension(self) -> int:
        return self.first_row.shape[-1]

    def matrix(self) -> Float[Array, "d d"]:
        index = np.arange(self.dimension)
        return self.first_row[(index[None, :] - index[:, None]) % self.dimension]

    def diagonal(self) -> Float[Array, " d"]:
        return jnp.broadcast_to(self.first_row[0], self.first_row.shape)

    def eigenvalues(self) -> Float[Array, " d"]:
        values = fourier(self.first_row).real
        rounding = self.dimension * jnp.finfo(values.dtype).eps ** 0.5 * jnp.abs(self.first_row).max()
        return jnp.where(values < -rounding, jnp.nan, jnp.maximum(values, 0))

    def spectral_diagonal(self, values: Array, slopes: Array) -> Float[Array, " d"]:
        del slopes
        return jnp.broadcast_to(values.mean(), values.shape)

    def resolvent(self, c: ArrayLike, shift: ArrayLike) -> Resolvent:
        c, shift = jnp.asarray(c), jnp.asarray(shift)
        return (
            MatrixResolvent(self.matrix(), c, shift) if shift.ndim else CirculantResolvent(self.eigenvalues(), c, shift)
        )

    def for_traces(self, shift: Array) -> tuple[Covariance, Array]:
        return (
            unchecked_dense(self.matrix()).for_traces(shift)
            if shift.ndim
            else (unchecked_diagonal(self.eigenvalues()), shift)
        )

    def _gaussian(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        noise = jax.random.normal(key, (n, self.dimension), self.first_row.dtype)
        transformed = fourier(noise)
        root = jnp.sqrt(self.eigenvalues()).astype(transformed.dtype)
        return fourier(transformed * root[None, :], inverse=True).real


def random_directions(key: PRNGKeyArray, d: int, r: int, dtype: jnp.dtype) -> Float[Array, "d r"]:
    """(d, r) orthonormal columns, uniformly distributed."""
    q, upper = jnp.linalg.qr(jax.random.normal(key, (d, r), dtype))
    return q * jnp.sign(jnp.diagonal(upper))[None, :]


def _as_basis(vectors: ArrayLike, spectrum: Array) -> Array:
    """(d, d) orthonormal columns in the precision of the eigenvalues (d,)."""
    vectors, d = as_float(vectors, "vectors", spectrum.dtype), spectrum.shape[0]
    if vectors.shape != (d, d):
        raise ValueError(f"vectors must have shape ({d}, {d}), one column an eigenvalue, got {vectors.shape}")
    require_finite(vectors, "vectors")
    if is_concrete(vectors):
        columns = np.asarray(vectors)
        gap = np.abs(columns.T @ columns - np.eye(d)).max()
        if gap > np.sqrt(np.finfo(columns.dtype).eps):
            raise ValueError(f"vectors must have orthonormal columns, got inner products off by {gap:.3g}")
    return vectors


@pytree
class Isotropic(Covariance):
    """Given eigenvalues, uniformly random eigenvectors.

    Parameters
    ----------
    eigenvalues
        (d,) eigenvalues, not negative.
    vectors
        (d, d) eigenvectors in columns; None until ``realise(key)`` draws them. The theory never uses them.

    Examples
    --------
    >>> import jax, jmask as jm
    >>> c = jm.covariance.Isotropic([1.0, 2.0, 3.0])
    >>> c.realise(jax.random.key(0)).matrix().shape
    (3, 3)
    """

    spectrum: Float[Array, " d"]
    vectors: Float[Array, "d d"] | None = None
    constant_diagonal = True

    def __init__(self, eigenvalues: ArrayLike, vectors: ArrayLike | None = None) -> None:
        spectrum = as_spectrum(eigenvalues, "eigenvalues")
        object.__setattr__(self, "spectrum", spectrum)
        object.__setattr__(self, "vectors", None if vectors is None else _as_basis(vectors, spectrum))

    @property
    def dimension(self) -> int:
        return self.spectrum.shape[-1]

    def realise(self, key: PRNGKeyArray) -> "Isotropic":
        if self.vectors is not None:
            return self
        return Isotropic(self.spectrum, random_directions(key, self.dimension, self.dimension, self.spectrum.dtype))

    def _require_vectors(self) -> Array:
        if self.vectors is None:
            raise ValueError("this Isotropic population has no eigenvectors yet: call realise(key) first")
        return self.vectors

    @full_precision
    def matrix(self) -> Float[Array, "d d"]:
        vectors = self._require_vectors()
        return (vectors * self.spectrum[None, :]) @ vectors.T

    def diagonal(self) -> Float[Array, " d"]:
        return jnp.broadcast_to(self.spectrum.mean(), self.spectrum.shape)

    def eigenvalues(self) -> Float[Array, " d"]:
        return self.spectrum

    def spectral_diagonal(self, values: Array, slopes: Array) -> Float[Array, " d"]:
        del slopes
        return jnp.broadcast_to(values.mean(), values.shape)

    def resolvent(self, c: ArrayLike, shift: ArrayLike) -> Resolvent:
        c, shift = jnp.asarray(c), jnp.asarray(shift)
        if shift.ndim:
            return MatrixResolvent(self._dense_for_vector().values, c, shift)
        return IsotropicResolvent(self.spectrum, self.vectors, c, shift)

    def _dense_for_vector(self) -> Dense:
        if self.vectors is None:
            raise ValueError(
                "an Isotropic population takes a scalar ridge (and no Partition): a vector would need its "
                "eigenvectors; call realise(key) first"
            )
        return unchecked_dense(self.matrix())

    def for_traces(self, shift: Array) -> tuple[Covariance, Array]:
        return self._dense_for_vector().for_traces(shift) if shift.ndim else (self, shift)

    def _gaussian(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        vectors = self._require_vectors()
        noise = jax.random.normal(key, (n, self.dimension), self.spectrum.dtype)
        return (noise * jnp.sqrt(self.spectrum)[None, :]) @ vectors.T
