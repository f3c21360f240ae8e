"""The dense kernels that the fits stand on: Gram matrix, inverse of a positive definite matrix, its dual form."""

import jax
import jax.numpy as jnp
from jax import lax

from ._types import Array


def gram(x: Array) -> Array:
    """xᵀx (d, d) of x (n, d)."""
    return lax.optimization_barrier(x.T) @ x


def zero_diagonal(matrix: Array) -> Array:
    """The matrix with its diagonal set to zero."""
    return jnp.where(jnp.eye(matrix.shape[-1], dtype=bool), 0, matrix)


def add_diagonal(matrix: Array, value: Array) -> Array:
    """matrix + diag(value) for a scalar or a vector."""
    return matrix + jnp.diag(jnp.broadcast_to(value, matrix.shape[-1:]))


@jax.custom_jvp
def inverse(matrix: Array) -> Array:
    """Inverse of a symmetric positive definite matrix by Cholesky; NaN where it is not positive definite.

    A matrix whose pivots fall below d ulp of the largest one is singular in this precision: NaN as well,
    never the inverse of rounding errors.
    """
    factor = jnp.linalg.cholesky(matrix, symmetrize_input=False)
    pivots = jnp.diagonal(factor) ** 2
    floor = matrix.shape[0] * jnp.finfo(matrix.dtype).eps * jnp.diagonal(matrix)
    singular = ~jnp.all(pivots > floor)
    half = lax.linalg.triangular_solve(factor, jnp.eye(matrix.shape[0], dtype=matrix.dtype), left_side=True, lower=True)
    return jnp.where(singular, jnp.nan, half.T @ half)


@inverse.defjvp
def _inverse_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    q = inverse(primals[0])
    return q, -(q @ tangents[0] @ q)


def dual_inverse(x: Array, ridge: Array) -> Array:
    """(xᵀx/n + Λ)⁻¹ (d, d) through the n × n matrix xΛ⁻¹xᵀ/n + I; for n < d and Λ > 0.

    Q = Λ⁻¹ - WᵀW with W = L⁻¹xΛ⁻¹/√n, LLᵀ = I + xΛ⁻¹xᵀ/n: O(n d²) instead of O(d³).
    """
    n, d = x.shape
    ridge = jnp.broadcast_to(ridge, (d,))
    scaled = x / jnp.sqrt(ridge)[None, :]
    small = add_diagonal(gram(scaled.T) / n, jnp.ones((), x.dtype))
    factor = jnp.linalg.cholesky(small, symmetrize_input=False)
    half = lax.linalg.triangular_solve(factor, scaled / jnp.sqrt(ridge)[None, :], left_side=True, lower=True)
    return add_diagonal(-gram(half) / n, 1 / ridge)


def pseudo_inverse(matrix: Array) -> Array:
    """Moore-Penrose inverse of a symmetric matrix; rank decided at d ulp of its largest eigenvalue."""
    rtol = matrix.shape[0] * float(jnp.finfo(matrix.dtype).eps)
    return jnp.linalg.pinv(matrix, rtol=rtol, hermitian=True)
