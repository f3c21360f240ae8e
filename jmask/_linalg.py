"""The dense kernels that the fits stand on: Gram matrix, inverse, and the d regressions that an inverse holds.

On CPU, XLA has neither a symmetric product nor an inverse of a positive definite matrix: from a size on (measured by
benchmarks/kernels.py) both are one call to LAPACK, and the products of their derivatives are BLAS's. Elsewhere, and on
accelerators, they are made of XLA's products and factors, those of large matrices by halves.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.experimental.layout import Layout, with_layout_constraint

from ._lapack import LEAST, by_platform
from ._product import product
from ._types import Array, full_precision

_HALVED_FROM = 4096  # elsewhere: products of half the size still fill a large GPU, and there are few to compile

_times = partial(product, least=LEAST)  # beside LAPACK


@jax.custom_jvp
def gram(x: Array) -> Array:
    """xᵀx (d, d) of x (n, d)."""
    return by_platform("gram", lambda x: _mirrored(_lower_gram(x)), (x.shape[1:] * 2,), x)


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
    half = _times(primals[0], tangents[0], "TN")
    return gram(primals[0]), half + half.T


def fourier(x: Array, inverse: bool = False) -> Array:
    """Discrete Fourier transform along the last axis (or its inverse).

    XLA's on CPU stops the program on arrays that it has itself chosen to keep by columns: both sides are held by rows.
    What is held must not leave a ``jit`` as it is, in a derivative neither: JAX may then read it by columns, and be
    silently wrong. Hence the barriers. (Both seen with jaxlib 0.10.)
    """
    rows = Layout(major_to_minor=tuple(range(x.ndim)))
    transform = jnp.fft.ifft if inverse else jnp.fft.fft
    held = with_layout_constraint(lax.optimization_barrier(x), rows)
    return lax.optimization_barrier(with_layout_constraint(transform(held), rows))


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
    return by_platform("inverse", _device_inverse, (matrix.shape,), matrix)


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
    return q, -_times(_times(q, tangents[0]), q)


def congruent_eigenvalues(lower: Array, values: Array) -> Array:
    """Ascending eigenvalues (d,) of L diag(values) Lᵀ, L lower triangular; not differentiated.

    XLA on CPU finds eigenvectors as well, whether they are wanted or not.
    """

    def device(lower: Array, values: Array) -> Array:
        return jnp.linalg.eigvalsh((lower * values[None, :]) @ lower.T)

    return by_platform("congruent_eigenvalues", device, (values.shape,), lower, values)


# The d regressions of every coordinate on the others, of a precision Q: the weights A = I - diag(Q)⁻¹Q and diag(Q),
# from which Q comes back. One d × d array is all that they need.


def regressions(precision: Array) -> tuple[Array, Array]:
    """A (d, d), zero on the diagonal, and diag(Q) (d,); NaN throughout where a 1/Q_kk is not finite."""
    diagonal = jnp.diagonal(precision)
    known = jnp.isfinite(1 / diagonal).all()
    return jnp.where(known, zero_diagonal(-precision / diagonal[:, None]), jnp.nan), diagonal


def precision_of(weights: Array, diagonal: Array) -> Array:
    """Q (d, d) = diag(Q)(I - A)."""
    return diagonal[:, None] * (jnp.eye(weights.shape[0], dtype=weights.dtype) - weights)


def _shapes(d: int) -> tuple[tuple[int, ...], ...]:
    return (d, d), (d,)


def _regressions_jvp(weights: Array, diagonal: Array, precision_dot: Array) -> tuple[Array, Array]:
    """Their change with Q's."""
    dot = jnp.diagonal(precision_dot)
    return zero_diagonal(-(precision_dot + weights * dot[:, None]) / diagonal[:, None]), dot


@jax.custom_jvp
def matrix_regressions(matrix: Array) -> tuple[Array, Array]:
    """A and diag(Q) for Q the inverse of a symmetric positive definite matrix; NaN as ``inverse``."""

    def device(matrix: Array) -> tuple[Array, Array]:
        return regressions(_device_inverse(matrix))

    return by_platform("matrix_regressions", device, _shapes(matrix.shape[0]), matrix)


@matrix_regressions.defjvp
@full_precision
def _matrix_regressions_jvp(primals: tuple, tangents: tuple) -> tuple:
    found = matrix_regressions(primals[0])
    q = precision_of(*found)
    return found, _regressions_jvp(*found, -_times(_times(q, tangents[0]), q))


@jax.custom_jvp
def primal_regressions(x: Array, ridge: Array) -> tuple[Array, Array]:
    """A and diag(Q) for Q = (xᵀx/n + Λ)⁻¹, of a scalar or a vector of ridges; NaN as ``inverse``. O(n d² + d³)."""

    def device(x: Array, ridge: Array) -> tuple[Array, Array]:
        return regressions(_device_inverse(add_diagonal(_lower_gram(x) / x.shape[0], ridge)))

    d = x.shape[1]
    return by_platform("primal_regressions", device, _shapes(d), x, jnp.broadcast_to(ridge, (d,)))


@partial(primal_regressions.defjvp, symbolic_zeros=True)
@full_precision
def _primal_regressions_jvp(primals: tuple, tangents: tuple) -> tuple:
    (x, ridge), (x_dot, ridge_dot) = primals, tangents
    found = primal_regressions(x, ridge)
    q = precision_of(*found)
    dot = jnp.zeros_like(q)
    if not isinstance(ridge_dot, SymbolicZero):  # one product, where a full change of the matrix costs two
        # Spread over the rows by a product, so that in reverse mode the columns are summed by one: XLA on CPU fuses a
        # product with a sum that follows, and is then two or three times slower.
        change = jnp.ones_like(q[:, :1]) @ jnp.broadcast_to(ridge_dot, q.shape[:1])[None, :]
        dot = dot - _times(q * change, q)
    if not isinstance(x_dot, SymbolicZero):
        half = _times(x, x_dot, "TN") / x.shape[0]
        dot = dot - _times(_times(q, half + half.T), q)
    return found, _regressions_jvp(*found, dot)


@jax.custom_jvp
def dual_regressions(x: Array, ridge: Array) -> tuple[Array, Array]:
    """A and diag(Q) for Q = (xᵀx/n + Λ)⁻¹ through the n × n matrix xΛ⁻¹xᵀ/n + I; for n < d and Λ > 0. O(n d²).

    Q = Λ⁻¹ - WᵀW with W = L⁻¹xΛ⁻¹/√n, LLᵀ = I + xΛ⁻¹xᵀ/n; NaN where a Q_kk falls below 100 ulp of 1/Λ_kk: a coordinate
    that the others determine, at a ridge too small for this precision.
    """
    d = x.shape[1]
    return by_platform("dual_regressions", _device_dual, _shapes(d), x, jnp.broadcast_to(ridge, (d,)))


def _device_dual(x: Array, ridge: Array) -> tuple[Array, Array]:
    n = x.shape[0]
    scaled = x / jnp.sqrt(ridge)[None, :]
    small = add_diagonal(gram(scaled.T) / n, jnp.ones((), x.dtype))
    factor = jnp.linalg.cholesky(small, symmetrize_input=False)
    half = lax.linalg.triangular_solve(factor, scaled / jnp.sqrt(n * ridge)[None, :], left_side=True, lower=True)
    left = 1 - ridge * (half**2).sum(0)
    diagonal = jnp.where((left > 100 * jnp.finfo(x.dtype).eps).all(), left / ridge, jnp.nan)
    known = jnp.isfinite(1 / diagonal).all()
    return jnp.where(known, zero_diagonal(gram(half) / diagonal[:, None]), jnp.nan), diagonal


@partial(dual_regressions.defjvp, symbolic_zeros=True)
@full_precision
def _dual_regressions_jvp(primals: tuple, tangents: tuple) -> tuple:
    """O(n d²) too: Q dΛ Q = Q dΛ Λ⁻¹(I - xᵀPᵀ/n) with P = Qxᵀ, and Q dS Q from P dx Q."""
    (x, ridge), (x_dot, ridge_dot) = primals, tangents
    n, d = x.shape
    found = dual_regressions(x, ridge)
    q = precision_of(*found)
    p, dot = _times(q, x, "NT"), jnp.zeros_like(q)
    if not isinstance(ridge_dot, SymbolicZero):
        change = jnp.broadcast_to(ridge_dot / ridge, (d,))
        dot = dot - q * change[None, :] + _times(_times(q, x * change[None, :], "NT"), p / n, "NT")
    if not isinstance(x_dot, SymbolicZero):
        half = _times(p, _times(x_dot, q)) / n
        dot = dot - half - half.T
    return found, _regressions_jvp(*found, dot)


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
