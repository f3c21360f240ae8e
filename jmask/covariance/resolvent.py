"""The resolvent R = (cΣ + diag(shift))⁻¹ of a population, by its structure.

The theory needs of R only what the methods of ``Resolvent`` give. c and the shift may be complex, and
the shift a scalar or a vector, where the structure allows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from .._implicit import CACHED, in_lanes
from .._linalg import fourier, solve_small
from .._types import Array, ArrayLike, full_precision


def promoted(values: Array, c: ArrayLike, shift: ArrayLike) -> tuple[Array, Array, Array]:
    """All three in the precision of ``values``, complex if c or the shift is."""
    is_complex = jnp.iscomplexobj(c) or jnp.iscomplexobj(shift)
    dtype = np.promote_types(values.dtype, np.complex64) if is_complex else values.dtype
    return values.astype(dtype), jnp.asarray(c, dtype), jnp.asarray(shift, dtype)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _spectral_sum(a: int, p: int, eigenvalues: Array, c: Array, shift: Array) -> Array:
    """Σ_i s_i^a/(c s_i + shift)^p for a scalar c and shift, whose derivatives in them are sums of the same kind.

    On CPU ``vmap`` sums in chunks of lanes that stay in cache, derivatives too: nothing of lanes × d is kept.
    """

    def summed(eigenvalues: Array, c: Array, shift: Array) -> Array:
        r = 1 / (c * eigenvalues + shift)
        m = min(
            a, p
        )  # the terms s r are shared with the sum of lower order that Newton's step asks for in the same sweep
        return ((eigenvalues * r) ** m * eigenvalues ** (a - m) * r ** (p - m)).sum()

    return in_lanes(summed, max(1, CACHED // eigenvalues.shape[0]))(eigenvalues, c, shift)


@partial(_spectral_sum.defjvp, symbolic_zeros=True)
@full_precision
def _spectral_sum_jvp(a: int, p: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (eigenvalues, c, shift), (eigenvalues_dot, c_dot, shift_dot) = primals, tangents
    value = _spectral_sum(a, p, *primals)
    dot = jnp.zeros_like(value)
    if not isinstance(shift_dot, SymbolicZero):
        dot = dot - p * _spectral_sum(a, p + 1, *primals) * shift_dot
    if not isinstance(c_dot, SymbolicZero):
        dot = dot - p * _spectral_sum(a + 1, p + 1, *primals) * c_dot
    if not isinstance(eigenvalues_dot, SymbolicZero):
        r = 1 / (c * eigenvalues + shift)
        slopes = -p * c * eigenvalues**a * r ** (p + 1)
        dot = dot + ((slopes + a * eigenvalues ** (a - 1) * r**p) if a else slopes) @ eigenvalues_dot
    return value, dot


class Resolvent(ABC):
    """R = (cΣ + diag(shift))⁻¹, known through its diagonal, its squares and its products."""

    diagonal: Array
    """(d,) R_kk."""

    @abstractmethod
    def trace(self) -> Array:
        """tr ΣR."""

    @abstractmethod
    def covariance_square(self) -> Array:
        """(d,) diag(RΣR)."""

    def bias(self) -> Array:
        """(d,) diag(RΣR)/R_kk²: the risk of predicting x_k by -Σ_j R_kj x_j/R_kk."""
        return self.covariance_square() / self.diagonal**2

    @abstractmethod
    def square(self, vector: ArrayLike) -> Array:
        """(d,) diag(R diag(vector) R) for a vector (d,), or a scalar that stands for a constant one."""

    @abstractmethod
    def apply(self, vectors: Array) -> Array:
        """R @ vectors for vectors (d, r)."""


class DiagonalResolvent(Resolvent):
    """Σ diagonal: every quantity in O(d)."""

    def __init__(self, variances: Array, c: Array, shift: Array) -> None:
        self._variances, self._c, self._shift = promoted(variances, c, shift)
        self.diagonal = 1 / (self._c * self._variances + self._shift)

    def trace(self) -> Array:
        if self._shift.ndim:
            return self._variances @ self.diagonal
        return _spectral_sum(1, 1, self._variances, self._c, self._shift)

    def covariance_square(self) -> Array:
        return self._variances * self.diagonal**2

    def bias(self) -> Array:
        return self._variances  # whatever R is: nothing is predicted

    def square(self, vector: ArrayLike) -> Array:
        return self.diagonal**2 * jnp.asarray(vector, self.diagonal.dtype)

    def apply(self, vectors: Array) -> Array:
        return self.diagonal[:, None] * vectors.astype(self.diagonal.dtype)


class IsotropicResolvent(Resolvent):
    """Eigenvectors uniformly random (Haar), scalar shift: R concentrates; every quantity in O(d).

    Entries off the diagonal have second moment (mean r² - (mean r)²)/d, which gives ``square``.
    """

    def __init__(self, eigenvalues: Array, vectors: Array | None, c: Array, shift: Array) -> None:
        self._eigenvalues, c, shift = promoted(eigenvalues, c, shift)
        self._vectors = vectors
        self._r = 1 / (c * self._eigenvalues + shift)
        self._sum = partial(_spectral_sum, eigenvalues=self._eigenvalues, c=c, shift=shift)
        self.diagonal = self._constant(self._sum(0, 1))

    def trace(self) -> Array:
        return self._sum(1, 1)

    def covariance_square(self) -> Array:
        return self._constant(self._sum(1, 2))

    def _constant(self, trace: Array) -> Array:
        return jnp.broadcast_to(trace / self._r.shape[0], self._r.shape)

    def square(self, vector: ArrayLike) -> Array:
        vector = jnp.broadcast_to(jnp.asarray(vector, self._r.dtype), self._r.shape)
        mean = self._r.mean() ** 2
        return mean * vector + ((self._r**2).mean() - mean) * vector.mean()

    def apply(self, vectors: Array) -> Array:
        if self._vectors is None:
            raise ValueError(
                "directions against an Isotropic population need its eigenvectors: call realise(key) first"
            )
        basis = self._vectors.astype(self._r.dtype)
        return basis @ (self._r[:, None] * (basis.T @ vectors.astype(self._r.dtype)))


class CirculantResolvent(Resolvent):
    """Σ circulant, scalar shift: R is circulant; O(d log d)."""

    def __init__(self, eigenvalues: Array, c: Array, shift: Array) -> None:
        self._eigenvalues, c, shift = promoted(eigenvalues, c, shift)
        self._r = 1 / (c * self._eigenvalues + shift)
        self._sum = partial(_spectral_sum, eigenvalues=self._eigenvalues, c=c, shift=shift)
        self.diagonal = self._constant(self._sum(0, 1))

    def trace(self) -> Array:
        return self._sum(1, 1)

    def covariance_square(self) -> Array:
        return self._constant(self._sum(1, 2))

    def _constant(self, trace: Array) -> Array:
        return jnp.broadcast_to(trace / self._r.shape[0], self._r.shape)

    def square(self, vector: ArrayLike) -> Array:
        vector = jnp.asarray(vector, self._r.dtype)
        if vector.ndim == 0:
            return jnp.broadcast_to((self._r**2).mean() * vector, self._r.shape)
        first_row = fourier(self._r, inverse=True)
        return self._matching(fourier(fourier(first_row**2) * fourier(vector), inverse=True))

    def apply(self, vectors: Array) -> Array:
        transformed = fourier(vectors.astype(self._r.dtype).T)
        return self._matching(fourier(self._r.astype(transformed.dtype)[None, :] * transformed, inverse=True).T)

    def _matching(self, value: Array) -> Array:
        """Drop the zero imaginary part of a real computation."""
        return value if jnp.iscomplexobj(self._r) else value.real


class MatrixResolvent(Resolvent):
    """Σ dense, any shift: one d × d inverse."""

    def __init__(self, matrix: Array, c: Array, shift: Array) -> None:
        self._matrix, self._c, shift = promoted(matrix, c, shift)
        self._shift = jnp.broadcast_to(shift, matrix.shape[:1])
        self._inverse = jnp.linalg.inv(self._c * self._matrix + jnp.diag(self._shift))
        self.diagonal = jnp.diagonal(self._inverse)

    def trace(self) -> Array:
        return (self._matrix * self._inverse).sum()

    def covariance_square(self) -> Array:
        return (self.diagonal - self._inverse**2 @ self._shift) / self._c

    def square(self, vector: ArrayLike) -> Array:
        squares = self._inverse**2
        vector = jnp.asarray(vector, squares.dtype)
        return squares.sum(1) * vector if vector.ndim == 0 else squares @ vector

    def apply(self, vectors: Array) -> Array:
        return self._inverse @ vectors.astype(self._inverse.dtype)


@jax.custom_jvp
def _from_eigenvectors(matrix: Array, eigenvalues: Array, vectors: Array, c: Array, shift: Array) -> Array:
    """R (d, d) for scalar shift, by one product where an inverse costs several."""
    del matrix
    vectors = vectors.astype(c.dtype)
    return (vectors / (c * eigenvalues + shift)[None, :]) @ vectors.T


@_from_eigenvectors.defjvp
@full_precision
def _from_eigenvectors_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (matrix, _, _, c, _), (matrix_dot, _, _, c_dot, shift_dot) = primals, tangents
    r = _from_eigenvectors(*primals)
    return r, -(r @ (c * matrix_dot + c_dot * matrix) @ r) - shift_dot * (r @ r)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _power_diagonal(a: int, p: int, matrix: Array, eigenvalues: Array, vectors: Array, c: Array, shift: Array) -> Array:
    """diag(Σ^a R^p) for scalar shift, a in {0, 1}, from the eigenvalues and the eigenvectors of Σ.

    The derivative in Σ is taken through R itself, never through eigenvectors, so that it holds where
    eigenvalues coincide; derivatives in c and the shift stay O(d²).
    """
    del matrix
    eigenvalues = eigenvalues.astype(c.dtype)
    return (vectors**2).astype(c.dtype) @ (eigenvalues**a / (c * eigenvalues + shift) ** p)


@partial(_power_diagonal.defjvp, symbolic_zeros=True)
@full_precision
def _power_diagonal_jvp(a: int, p: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    matrix, eigenvalues, vectors, c, shift = primals
    matrix_dot, _, _, c_dot, shift_dot = tangents

    def diagonal(a: int, p: int) -> Array:
        return _power_diagonal(a, p, matrix, eigenvalues, vectors, c, shift)

    value = diagonal(a, p)
    dot = jnp.zeros_like(value)
    if not isinstance(shift_dot, SymbolicZero):
        dot = dot - p * diagonal(a, p + 1) * shift_dot
    if not isinstance(c_dot, SymbolicZero):
        higher = diagonal(1, p + 1) if a == 0 else (diagonal(1, p) - shift * diagonal(1, p + 1)) / c
        dot = dot - p * higher * c_dot
    if not isinstance(matrix_dot, SymbolicZero):
        inverse = _from_eigenvectors(*primals)
        # d diag(R^q) = -c Σ_j diag(R^j dΣ R^(q+1-j)), its terms equal in pairs, and ΣR^p = (R^(p-1) - shift R^p)/c.
        powers = [inverse]
        for _ in range(p - 1):
            powers.append(powers[-1] @ inverse)
        change = ((matrix_dot + matrix_dot.T) / 2).astype(inverse.dtype)
        # Powers are symmetric: so transposed, no product contracts the first axes in reverse mode, where XLA is slow.
        changed = [power.T @ change for power in powers[: (p + 1) // 2]]

        def power_change(q: int) -> Array:
            pairs = [(j, q - 1 - j) for j in range((q + 1) // 2)]
            terms = [(1 if j == k else 2) * (changed[j] * powers[k]).sum(1) for j, k in pairs]
            return sum(terms, jnp.zeros_like(value))

        dot = dot - (c * power_change(p) if a == 0 else power_change(p - 1) - shift * power_change(p))
    return value, dot


class SpectralResolvent(Resolvent):
    """Σ dense, scalar shift: everything from one eigendecomposition, O(d²) a value of (c, shift)."""

    def __init__(self, matrix: Array, decomposition: tuple[Array, Array], c: Array, shift: Array) -> None:
        eigenvalues, vectors = decomposition
        _, c, shift = promoted(matrix, c, shift)
        self._arguments = (matrix, eigenvalues, vectors, c, shift)
        self.diagonal = _power_diagonal(0, 1, *self._arguments)

    def trace(self) -> Array:
        return _power_diagonal(1, 1, *self._arguments).sum()

    def covariance_square(self) -> Array:
        return _power_diagonal(1, 2, *self._arguments)

    def square(self, vector: ArrayLike) -> Array:
        if jnp.ndim(vector) == 0:
            return _power_diagonal(0, 2, *self._arguments) * jnp.asarray(vector, self.diagonal.dtype)
        return self._full().square(vector)

    def apply(self, vectors: Array) -> Array:
        return self._full().apply(vectors)

    def _full(self) -> MatrixResolvent:
        matrix, _, _, c, shift = self._arguments
        return MatrixResolvent(matrix, c, shift)


class WoodburyResolvent(Resolvent):
    """Σ = Σ₀ + U diag(θ) Uᵀ with few columns: R = R₀ - W K Wᵀ, W = R₀U, K = (I + cΘUᵀW)⁻¹cΘ.

    ``bulk`` gives the resolvent of Σ₀ at (c, shift), so that tr ΣR and diag(RΣR) are derivatives in c of
    log det(cΣ + shift) and of diag R.
    """

    def __init__(
        self,
        bulk: Callable[[ArrayLike, ArrayLike], Resolvent],
        strengths: Array,
        directions: Array,
        c: ArrayLike,
        shift: ArrayLike,
    ) -> None:
        self._strengths, self._c, self._shift = promoted(strengths, c, shift)
        self._at, self._directions = bulk, directions.astype(self._c.dtype)
        self._bulk, self._w, self._k = self._factors(self._c)
        self.diagonal = self._diagonal(self._c)

    def _factors(self, c: Array) -> tuple[Resolvent, Array, Array]:
        bulk = self._at(c, self._shift)
        w = bulk.apply(self._directions)
        theta = c * self._strengths
        eye = jnp.eye(theta.shape[0], dtype=theta.dtype)
        return bulk, w, solve_small(eye + theta[:, None] * (self._directions.T @ w), jnp.diag(theta))

    def _diagonal(self, c: Array) -> Array:
        bulk, w, k = self._factors(c)
        return bulk.diagonal - ((w @ k) * w).sum(1)

    def trace(self) -> Array:
        def coupling(c: Array) -> Array:
            gram = self._directions.T @ self._at(c, self._shift).apply(self._directions)
            return (c * self._strengths)[:, None] * gram

        value, slope = jax.jvp(coupling, (self._c,), (jnp.ones_like(self._c),))
        eye = jnp.eye(value.shape[0], dtype=value.dtype)
        return self._bulk.trace() + jnp.trace(solve_small(eye + value, slope))

    def covariance_square(self) -> Array:
        return -jax.jvp(self._diagonal, (self._c,), (jnp.ones_like(self._c),))[1]

    def square(self, vector: ArrayLike) -> Array:
        vector = jnp.asarray(vector, self._c.dtype)
        column = jnp.broadcast_to(vector, self.diagonal.shape)[:, None] * self._w
        wk = self._w @ self._k
        cross = (self._bulk.apply(column) * wk).sum(1)
        return self._bulk.square(vector) - 2 * cross + ((wk @ (self._w.T @ column)) * wk).sum(1)

    def apply(self, vectors: Array) -> Array:
        vectors = vectors.astype(self._c.dtype)
        return self._bulk.apply(vectors) - self._w @ (self._k @ (self._w.T @ vectors))


class DelocalisedResolvent(Resolvent):
    """Σ = Σ₀ + few spikes along random delocalised directions: uᵀR₀u = tr R₀/d and uuᵀ = I/d, to order 1/d.

    ``bulk`` gives the resolvent of Σ₀ at (c, shift).
    """

    def __init__(
        self, bulk: Callable[[ArrayLike, ArrayLike], Resolvent], strengths: Array, c: ArrayLike, shift: ArrayLike
    ) -> None:
        self._at = bulk
        self._strengths, self._c, self._shift = promoted(strengths, c, shift)
        self.diagonal = self._diagonal(self._c, self._shift)

    def _diagonal(self, c: Array, shift: Array) -> Array:
        bulk = self._at(c, shift)
        gain = (c * self._strengths / (1 + c * self._strengths * bulk.diagonal.mean())).sum()
        return bulk.diagonal - gain / bulk.diagonal.shape[0] * bulk.square(1.0)

    def trace(self) -> Array:
        def coupling(c: Array) -> Array:
            return jnp.log(1 + c * self._strengths * self._at(c, self._shift).diagonal.mean()).sum()

        slope = jax.jvp(coupling, (self._c,), (jnp.ones_like(self._c),))[1]
        return self._at(self._c, self._shift).trace() + slope

    def covariance_square(self) -> Array:
        return -jax.jvp(lambda c: self._diagonal(c, self._shift), (self._c,), (jnp.ones_like(self._c),))[1]

    def square(self, vector: ArrayLike) -> Array:
        vector = jnp.asarray(vector, self._shift.dtype)
        if vector.ndim > self._shift.ndim:  # only a constant diagonal has a scalar shift and a vector here
            vector = vector.mean()
        tangent = jnp.broadcast_to(vector, self._shift.shape)
        return -jax.jvp(lambda shift: self._diagonal(self._c, shift), (self._shift,), (tangent,))[1]

    def apply(self, vectors: Array) -> Array:
        raise ValueError("the directions of this Spiked population are not fixed: call realise(key) first")
