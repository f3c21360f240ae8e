"""The dense kernels that the fits stand on: Gram matrix, inverse of a positive definite matrix, its dual form.

On CPU, XLA has neither a symmetric product nor a fast triangular inverse; both are built here from half the blocks of
plain products. Sizes at which that pays were measured (benchmarks/kernels.py). Elsewhere XLA's own are used.
"""

import jax
import jax.numpy as jnp
from jax import lax

from ._types import Array

_TILES = 8  # at most 8 × 9/2 products: compile time is user time
_TILED_FROM = 1024
_HALVED_FROM = 512


@jax.custom_jvp
def gram(x: Array) -> Array:
    """xᵀx (d, d) of x (n, d)."""
    d = x.shape[1]
    if d < _TILED_FROM or jax.default_backend() != "cpu":
        return lax.optimization_barrier(x.T) @ x  # XLA on CPU is slow where it contracts the leading axis itself
    width = -(-d // _TILES)
    columns = [lax.optimization_barrier(x[:, i : i + width]) for i in range(0, d, width)]
    rows = [lax.optimization_barrier(column.T) for column in columns]
    lower = [[row @ column for column in columns[: i + 1]] for i, row in enumerate(rows)]
    tiles = range(len(columns))
    return jnp.block([[lower[i][j] if j <= i else lower[j][i].T for j in tiles] for i in tiles])


@gram.defjvp
def _gram_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    half = primals[0].T @ tangents[0]
    return gram(primals[0]), half + half.T


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
    d = matrix.shape[0]
    leaf = max(128, d // 8) if d >= _HALVED_FROM and jax.default_backend() == "cpu" else d
    factor = jnp.linalg.cholesky(matrix, symmetrize_input=False)
    pivots = jnp.diagonal(factor) ** 2
    floor = d * jnp.finfo(matrix.dtype).eps * jnp.diagonal(matrix)
    singular = ~jnp.all(pivots > floor)
    return jnp.where(singular, jnp.nan, _inverse_and_square(factor, leaf)[1])


def _inverse_and_square(factor: Array, leaf: int) -> tuple[Array, Array]:
    """L⁻¹ and L⁻ᵀL⁻¹ of a lower triangular L, by halves down to ``leaf``: as stable as substitution."""
    d = factor.shape[0]
    if d <= leaf:
        half = lax.linalg.triangular_solve(factor, jnp.eye(d, dtype=factor.dtype), left_side=True, lower=True)
        return half, half.T @ half
    m = d // 2
    first, first_square = _inverse_and_square(factor[:m, :m], leaf)
    second, second_square = _inverse_and_square(factor[m:, m:], leaf)
    below = -(second @ factor[m:, :m]) @ first
    cross = second.T @ below
    half = jnp.block([[first, jnp.zeros((m, d - m), factor.dtype)], [below, second]])
    return half, jnp.block([[first_square + below.T @ below, cross.T], [cross, second_square]])


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


def solve_small(matrix: Array, right: Array) -> Array:
    """matrix⁻¹ right for few unknowns, real or complex, in plain arithmetic: Gauss-Jordan with row exchanges.

    For what is solved in thousands of lanes at once: two batched LAPACK calls of one program can wait for each
    other for ever on a CPU with few cores (seen with jaxlib 0.10).
    """
    return lax.custom_linear_solve(
        lambda y: matrix @ y,
        right,
        solve=lambda _, b: _eliminated(lax.stop_gradient(matrix), b),
        transpose_solve=lambda _, b: _eliminated(lax.stop_gradient(matrix).T, b),
    )


def _eliminated(matrix: Array, right: Array) -> Array:
    r = matrix.shape[0]

    def eliminate(k: Array, rows: Array) -> Array:
        index = jnp.arange(r)
        pivot = jnp.argmax(jnp.where(index < k, -1, jnp.abs(rows[:, k])))
        rows = rows[jnp.where(index == k, pivot, jnp.where(index == pivot, k, index))]
        row = rows[k] / rows[k, k]
        return (rows - rows[:, k][:, None] * row[None, :]).at[k].set(row)

    rows = jnp.concatenate([matrix, right.reshape(r, -1)], axis=1)
    return lax.fori_loop(0, r, eliminate, rows, unroll=r <= 4)[:, r:].reshape(right.shape)
