"""The base of the populations, and the two that the others fall back on: Diagonal and Dense."""

from abc import abstractmethod

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import as_float, as_symmetric, is_concrete, not_negative
from .._types import Array, ArrayLike, Float, PRNGKeyArray, full_precision, pytree
from ..scales import Scales
from .resolvent import DiagonalResolvent, MatrixResolvent, Resolvent, SpectralResolvent


def _gaps(eigenvalues: Array) -> tuple[Array, Array]:
    """λ_i - λ_j, one where they coincide, and where that is."""
    gap = eigenvalues[:, None] - eigenvalues[None, :]
    close = jnp.abs(gap) <= 1e-6 * jnp.abs(eigenvalues).max()
    return jnp.where(close, 1, gap), close


@jax.custom_jvp
def _eigenvectors(matrix: Array) -> Array:
    """Eigenvectors in columns; their derivative, needed at order two only, is NaN where eigenvalues coincide."""
    return jnp.linalg.eigh(matrix)[1]


@_eigenvectors.defjvp
@full_precision
def _eigenvectors_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    vectors = _eigenvectors(primals[0])
    gap, close = _gaps(eigenvalues_of(primals[0]))
    weight = jnp.where(jnp.eye(gap.shape[0], dtype=bool), 0, jnp.where(close, jnp.nan, -1 / gap))
    return vectors, vectors @ (weight * (vectors.T @ tangents[0] @ vectors))


@jax.custom_jvp
def eigenvalues_of(matrix: Array) -> Array:
    """Ascending eigenvalues; the first derivative is finite where they coincide, the second is NaN there."""
    return jnp.linalg.eigh(matrix)[0]


@eigenvalues_of.defjvp
@full_precision
def _eigenvalues_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    vectors = _eigenvectors(primals[0])
    return eigenvalues_of(primals[0]), ((tangents[0] @ vectors) * vectors).sum(0)


@jax.custom_jvp
def _spectral_diagonal(matrix: Array, eigenvalues: Array, values: Array, slopes: Array) -> Array:
    """diag(U diag(values) Uᵀ) for values = h(eigenvalues), slopes = h'(eigenvalues)."""
    del eigenvalues, slopes
    return jnp.linalg.eigh(matrix)[1] ** 2 @ values


@_spectral_diagonal.defjvp
@full_precision
def _spectral_diagonal_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    matrix, eigenvalues, values, slopes = primals
    vectors = _eigenvectors(matrix)
    gap, close = _gaps(eigenvalues)
    mean_slope = (slopes[:, None] + slopes[None, :]) / 2
    loewner = jnp.where(close, mean_slope, (values[:, None] - values[None, :]) / gap)
    loewner = loewner - jnp.diag(jnp.diagonal(loewner))  # the diagonal is in the tangent of values
    rotated = vectors.T @ tangents[0] @ vectors
    change = ((vectors @ (loewner * rotated)) * vectors).sum(1)
    return _spectral_diagonal(*primals), vectors**2 @ tangents[2] + change


class Covariance:
    """Base of the populations: a d × d covariance Σ with structure.

    ``dimension`` is d; ``constant_diagonal`` says whether every function of Σ has a constant diagonal.
    """

    constant_diagonal: bool = False

    @property
    @abstractmethod
    def dimension(self) -> int:
        """d."""

    @abstractmethod
    def matrix(self) -> Float[Array, "d d"]:
        """Σ as a matrix (d, d)."""

    @abstractmethod
    def diagonal(self) -> Float[Array, " d"]:
        """(d,) the variances Σ_kk."""

    @abstractmethod
    def eigenvalues(self) -> Float[Array, " d"]:
        """(d,) eigenvalues of Σ, in no fixed order; differentiable, where they coincide once only."""

    @abstractmethod
    def spectral_diagonal(self, values: Array, slopes: Array) -> Float[Array, " d"]:
        """(d,) diagonal of h(Σ), given values = h(eigenvalues()) and slopes = h'(eigenvalues())."""

    @abstractmethod
    def resolvent(self, c: ArrayLike, shift: ArrayLike) -> Resolvent:
        """R = (cΣ + diag(shift))⁻¹ through its diagonal, squares and products; c and shift may be complex."""

    @abstractmethod
    def _gaussian(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """(n, d) Gaussian rows of covariance Σ."""

    def realise(self, key: PRNGKeyArray) -> "Covariance":
        """The same population with everything random about it fixed by ``key``."""
        del key
        return self

    def for_traces(self, shift: Array) -> tuple["Covariance", Array]:
        """A population and shift with the same tr ΣR(c) for every c, cheap to evaluate again and again."""
        return self, shift

    @full_precision
    def sample(self, key: PRNGKeyArray, n: int, scales: Scales | None = None) -> Float[Array, "n d"]:
        """Rows x_i = τ_i Σ^{1/2} g_i, g standard normal; τ = 1 without ``scales``.

        Parameters
        ----------
        key
            A JAX random key.
        n
            Number of rows, a positive integer.
        scales
            Law of τ²; None is Gaussian data.
        """
        if int(n) != n or n < 1:
            raise ValueError(f"n must be a positive whole number of samples, got {n}")
        key, scale_key = jax.random.split(key)
        x = self._gaussian(key, int(n))
        if scales is None:
            return x
        return x * jnp.sqrt(scales.sample(scale_key, int(n))).astype(x.dtype)[:, None]


def as_spectrum(values: ArrayLike, name: str) -> Array:
    """(d,) values, refused where known to be negative; traced, NaN there."""
    values = as_float(values, name)
    if values.ndim != 1 or values.shape[0] < 2:
        raise ValueError(f"{name} must be a vector of at least 2 entries, got shape {values.shape}")
    return not_negative(values, name)


@pytree
class Diagonal(Covariance):
    """Independent coordinates: Σ = diag(variances).

    Examples
    --------
    >>> import jmask as jm
    >>> jm.covariance.Diagonal([1.0, 2.0]).dimension
    2
    """

    variances: Float[Array, " d"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "variances", as_spectrum(self.variances, "variances"))

    @property
    def dimension(self) -> int:
        return self.variances.shape[-1]

    def matrix(self) -> Float[Array, "d d"]:
        return jnp.diag(self.variances)

    def diagonal(self) -> Float[Array, " d"]:
        return self.variances

    def eigenvalues(self) -> Float[Array, " d"]:
        return self.variances

    def spectral_diagonal(self, values: Array, slopes: Array) -> Float[Array, " d"]:
        del slopes
        return values

    def resolvent(self, c: ArrayLike, shift: ArrayLike) -> Resolvent:
        return DiagonalResolvent(self.variances, jnp.asarray(c), jnp.asarray(shift))

    def _gaussian(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        noise = jax.random.normal(key, (n, self.dimension), self.variances.dtype)
        return noise * jnp.sqrt(self.variances)[None, :]


@pytree
class Dense(Covariance):
    """Any covariance matrix, symmetric and positive semi-definite.

    Notes
    -----
    Scalar ridges share one eigendecomposition, O(d³) once and O(d²) each; a vector ridge costs O(d³).

    Examples
    --------
    >>> import jmask as jm
    >>> jm.covariance.Dense([[2.0, 1.0], [1.0, 2.0]]).eigenvalues()
    Array([1., 3.], dtype=float64)
    """

    values: Float[Array, "d d"]

    def __init__(self, matrix: ArrayLike) -> None:
        matrix = as_symmetric(matrix, "matrix")
        if matrix.shape[0] < 2:
            raise ValueError(f"matrix must be at least 2 × 2, got shape {matrix.shape}")
        if is_concrete(matrix):
            self._require_semidefinite(np.asarray(matrix))
        object.__setattr__(self, "values", matrix)

    @staticmethod
    def _require_semidefinite(matrix: np.ndarray) -> None:
        size = np.abs(np.diagonal(matrix)).max()
        slack = np.sqrt(np.finfo(matrix.dtype).eps) * (size if size > 0 else 1)
        try:
            np.linalg.cholesky(matrix + slack * np.eye(len(matrix), dtype=matrix.dtype))
        except np.linalg.LinAlgError:
            smallest = np.linalg.eigvalsh(matrix)[0]
            raise ValueError(f"matrix must be positive semi-definite, got an eigenvalue of {smallest:.3g}") from None

    @property
    def dimension(self) -> int:
        return self.values.shape[-1]

    def matrix(self) -> Float[Array, "d d"]:
        return self.values

    def diagonal(self) -> Float[Array, " d"]:
        return jnp.diagonal(self.values)

    def eigenvalues(self) -> Float[Array, " d"]:
        return eigenvalues_of(self.values)

    def spectral_diagonal(self, values: Array, slopes: Array) -> Float[Array, " d"]:
        return _spectral_diagonal(self.values, self.eigenvalues(), values, slopes)

    def resolvent(self, c: ArrayLike, shift: ArrayLike) -> Resolvent:
        c, shift = jnp.asarray(c), jnp.asarray(shift)
        if shift.ndim:
            return MatrixResolvent(self.values, c, shift)
        return SpectralResolvent(self.values, jnp.linalg.eigh(jax.lax.stop_gradient(self.values)), c, shift)

    def for_traces(self, shift: Array) -> tuple[Covariance, Array]:
        # Not eigvalsh, which is no cheaper here: XLA makes one call of this and of the one in ``resolvent``.
        return (self, shift) if shift.ndim else (unchecked_diagonal(jnp.linalg.eigh(self.values)[0]), shift)

    def _gaussian(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        eigenvalues, vectors = jnp.linalg.eigh(self.values)
        noise = jax.random.normal(key, (n, self.dimension), self.values.dtype)
        return (noise * jnp.sqrt(jnp.maximum(eigenvalues, 0))[None, :]) @ vectors.T


def unchecked_diagonal(variances: Array) -> Diagonal:
    """A Diagonal of computed values that rounding may have made slightly negative."""
    return jax.tree.unflatten(jax.tree.structure(Diagonal(jnp.ones(2))), [jnp.maximum(variances, 0)])


def unchecked_dense(matrix: Array) -> Dense:
    """A Dense of a computed matrix, not validated again."""
    return jax.tree.unflatten(jax.tree.structure(Dense(np.eye(2))), [matrix])
