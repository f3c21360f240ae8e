"""The dense kernels that the fits stand on: product, Gram matrix, inverse of a positive definite matrix, its dual form.

On CPU, XLA has neither a symmetric product nor an inverse of a positive definite matrix: from a size on (measured by
benchmarks/kernels.py) both are one call to LAPACK, and large products one to BLAS. Elsewhere, and on accelerators,
they are made of XLA's products and factors, those of large matrices by halves.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.experimental.layout import Layout, with_layout_constraint

from . import _lapack
from ._types import Array, full_precision

_LAPACK_FROM = 256
_HALVED_FROM = 4096  # elsewhere: products of half the size still fill a large GPU, and there are few to compile
_PRODUCT_FROM = 1536  # below, BLAS's threads, which wait busily for more work, take from XLA's what it saves


def _by_platform(name: str, otherwise: Callable, d: int, *arguments: Array, least: int = _LAPACK_FROM) -> Array:
    """By LAPACK on CPU for d of at least ``least``, by XLA otherwise."""
    if d < least or arguments[0].dtype not in (jnp.float32, jnp.float64) or not _lapack.available():
        return otherwise(*arguments)
    return lax.platform_dependent(*arguments, cpu=partial(_lapack.call, name, d), default=otherwise)


@jax.custom_jvp
def product(left: Array, right: Array) -> Array:
    """Two square matrices multiplied."""
    return _by_platform("product", jnp.matmul, right.shape[0], left, right, least=_PRODUCT_FROM)


@product.defjvp
@full_precision
def _product_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (left, right), (left_dot, right_dot) = primals, tangents
    return product(left, right), left_dot @ right + left @ right_dot


@jax.custom_jvp
def gram(x: Array) -> Array:
    """xᵀx (d, d) of x (n, d)."""
    return _by_platform("gram", lambda x: _mirrored(_lower_gram(x)), x.shape[1], x)


# Without LAPACK: one triangle of a symmetric matrix, from products of halves, so that no other is computed but to be
# thrown away. n d² operations of a Gram matrix, 2d³/3 of the inverse of a triangle and d³/2 of its square, where whole
# products take 2n d², d³ and 2d³.


def _lower_gram(x: Array) -> Array:
    """The lower triangle of xᵀx; what is above is not defined."""
    # XLA on CPU is slow where it contracts the leading axis itself.
    return _lower_outer(lax.optimization_barrier(x.T))


def _lower_outer(rows: Array) -> Array:
    """The lower triangle of rows rowsᵀ."""
    d = rows.shape[0]
    if d < _HALVED_FROM:
        return rows @ rows.T
    upper, lower = rows[: d // 2], rows[d // 2 :]
    return _below(_lower_outer(upper), lower @ upper.T, _lower_outer(lower))


def _below(upper: Array, corner: Array, lower: Array) -> Array:
    """[[upper, 0], [corner, lower]]."""
    return jnp.block([[upper, jnp.zeros_like(corner.T)], [corner, lower]])


def _mirrored(lower: Array) -> Array:
    """The symmetric matrix with this lower triangle."""
    return jnp.tril(lower) + jnp.tril(lower, -1).T


def _lower_inverse(factor: Array) -> Array:
    """L⁻¹ of a lower triangular L."""
    d = factor.shape[0]
    if d < _HALVED_FROM:
        return lax.linalg.triangular_solve(factor, jnp.eye(d, dtype=factor.dtype), left_side=True, lower=True)
    half = d // 2
    upper, lower = _lower_inverse(factor[:half, :half]), _lower_inverse(factor[half:, half:])
    return _below(upper, -lower @ (factor[half:, :half] @ upper), lower)


def _lower_square(factor: Array) -> Array:
    """The lower triangle of LᵀL for a lower triangular L."""
    d = factor.shape[0]
    if d < _HALVED_FROM:
        return factor.T @ factor
    half = d // 2
    corner, lower = factor[half:, :half], factor[half:, half:]
    upper = _lower_square(factor[:half, :half]) + _lower_gram(corner)
    return _below(upper, lower.T @ corner, _lower_square(lower))


@gram.defjvp
@full_precision
def _gram_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    half = primals[0].T @ tangents[0]
    return gram(primals[0]), half + half.T


def fourier(x: Array, inverse: bool = False) -> Array:
    """Discrete Fourier transform along the last axis (or its inverse).

    XLA's on CPU stops the program on arrays that it has itself chosen to keep by columns (seen with jaxlib 0.10):
    both sides are held by rows.
    """
    rows = Layout(major_to_minor=tuple(range(x.ndim)))
    transform = jnp.fft.ifft if inverse else jnp.fft.fft
    return with_layout_constraint(transform(with_layout_constraint(x, rows)), rows)


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
    return _by_platform("inverse", _device_inverse, matrix.shape[0], matrix)


def _device_inverse(matrix: Array) -> Array:
    """From its lower triangle."""
    d = matrix.shape[0]
    factor = jnp.linalg.cholesky(matrix, symmetrize_input=False)
    pivots = jnp.diagonal(factor) ** 2
    floor = d * jnp.finfo(matrix.dtype).eps * jnp.diagonal(matrix)
    return jnp.where(jnp.all(pivots > floor), _mirrored(_lower_square(_lower_inverse(factor))), jnp.nan)


@inverse.defjvp
@full_precision
def _inverse_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    q = inverse(primals[0])
    return q, -(q @ tangents[0] @ q)


@jax.custom_jvp
def joint_weights(precision: Array, kept: Array) -> Array:
    """A = -diag(qQ)⁻¹Q off the diagonal, q the share kept, and 0 on it; NaN throughout where a 1/Q_kk is not finite."""
    return _by_platform("joint_weights", _device_weights, precision.shape[0], precision, kept)


def _device_weights(precision: Array, kept: Array) -> Array:
    scale = -1 / (kept * jnp.diagonal(precision))
    return jnp.where(jnp.isfinite(scale).all(), zero_diagonal(scale[:, None] * precision), jnp.nan)


@joint_weights.defjvp
def _joint_weights_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return joint_weights(*primals), jax.jvp(_device_weights, primals, tangents)[1]


def congruent_eigenvalues(lower: Array, values: Array) -> Array:
    """Ascending eigenvalues (d,) of L diag(values) Lᵀ, L lower triangular; not differentiated.

    XLA on CPU finds eigenvectors as well, whether they are wanted or not.
    """

    def device(lower: Array, values: Array) -> Array:
        return jnp.linalg.eigvalsh((lower * values[None, :]) @ lower.T)

    return _by_platform("congruent_eigenvalues", device, values.shape[0], lower, values)


@jax.custom_jvp
def primal_inverse(x: Array, ridge: Array) -> Array:
    """(xᵀx/n + Λ)⁻¹ (d, d) for a scalar or a vector of ridges; NaN as ``inverse``. O(n d² + d³)."""

    def device(x: Array, ridge: Array) -> Array:
        return _device_inverse(add_diagonal(_lower_gram(x) / x.shape[0], ridge))

    return _by_platform("primal_inverse", device, x.shape[1], x, jnp.broadcast_to(ridge, x.shape[1:]))


@partial(primal_inverse.defjvp, symbolic_zeros=True)
@full_precision
def _primal_inverse_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (x, ridge), (x_dot, ridge_dot) = primals, tangents
    q = primal_inverse(x, ridge)
    dot = jnp.zeros_like(q)
    if not isinstance(ridge_dot, SymbolicZero):  # one product, where a full change of the matrix costs two
        # Spread over the rows by a product, so that in reverse mode the columns are summed by one: XLA on CPU fuses a
        # product with a sum that follows, and is then two or three times slower.
        change = jnp.ones_like(q[:, :1]) @ jnp.broadcast_to(ridge_dot, q.shape[:1])[None, :]
        dot = dot - (q * change) @ q
    if not isinstance(x_dot, SymbolicZero):
        half = x.T @ x_dot / x.shape[0]
        dot = dot - q.T @ (half + half.T) @ q.T  # Q = Qᵀ: in reverse mode no axis is contracted first
    return q, dot


@jax.custom_jvp
def dual_inverse(x: Array, ridge: Array) -> Array:
    """(xᵀx/n + Λ)⁻¹ (d, d) through the n × n matrix xΛ⁻¹xᵀ/n + I; for n < d and Λ > 0. O(n d²).

    Q = Λ⁻¹ - WᵀW with W = L⁻¹xΛ⁻¹/√n, LLᵀ = I + xΛ⁻¹xᵀ/n; NaN where a Q_kk falls below 100 ulp of 1/Λ_kk: a coordinate
    that the others determine, at a ridge too small for this precision.
    """
    return _by_platform("dual_inverse", _device_dual, x.shape[1], x, jnp.broadcast_to(ridge, x.shape[1:]))


def _device_dual(x: Array, ridge: Array) -> Array:
    n = x.shape[0]
    scaled = x / jnp.sqrt(ridge)[None, :]
    small = add_diagonal(gram(scaled.T) / n, jnp.ones((), x.dtype))
    factor = jnp.linalg.cholesky(small, symmetrize_input=False)
    half = lax.linalg.triangular_solve(factor, scaled / jnp.sqrt(ridge)[None, :], left_side=True, lower=True)
    taken = gram(half) / n
    known = 1 - ridge * jnp.diagonal(taken) > 100 * jnp.finfo(x.dtype).eps  # else nothing but rounding is left
    return jnp.where(known.all(), add_diagonal(-taken, 1 / ridge), jnp.nan)


@partial(dual_inverse.defjvp, symbolic_zeros=True)
@full_precision
def _dual_inverse_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """O(n d²) too: Q dΛ Q = Q dΛ Λ⁻¹(I - xᵀPᵀ/n) with P = Qxᵀ, and Q dS Q from P dx Q."""
    (x, ridge), (x_dot, ridge_dot) = primals, tangents
    n, d = x.shape
    q = dual_inverse(x, ridge)
    p, dot = q @ x.T, jnp.zeros_like(q)
    if not isinstance(ridge_dot, SymbolicZero):
        change = jnp.broadcast_to(ridge_dot / ridge, (d,))
        dot = dot - q * change[None, :] + q @ (change[:, None] * x.T) @ (p.T / n)
    if not isinstance(x_dot, SymbolicZero):
        half = p @ (x_dot @ q) / n
        dot = dot - half - half.T
    return q, dot


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
