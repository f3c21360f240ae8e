"""Moore-Penrose inverses of second moments whose rank does not depend on the units of the coordinates.

The bodies of the two ruled functions can be differentiated themselves: inside a scan, JAX makes a second derivative of
the body instead of the rule, once.
"""

import jax
import jax.numpy as jnp
from jax import lax

from . import _linalg
from ._types import Array, full_precision


@jax.custom_jvp
def pseudo_inverse(matrix: Array) -> Array:
    """Moore-Penrose inverse of S, symmetric and not negative; its rank is decided where its diagonal is one.

    So the units of the coordinates do not matter: at d ulp of the largest eigenvalue of such a matrix.
    """
    size = units(matrix)
    values, axes = jnp.linalg.eigh(matrix / size[:, None] / size[None, :])
    return _linalg.gram(_half_inverse(size, values, axes).T)


@pseudo_inverse.defjvp
@full_precision
def _pseudo_inverse_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (matrix,), (change,) = primals, tangents
    p = pseudo_inverse(matrix)
    return p, _pseudo_change(p, matrix, (change + change.T) / 2)


def _pseudo_change(p: Array, matrix: Array, change: Array) -> Array:
    """dP = P² dS N + N dS P² - P dS P, N = I - PS: at a rank that does not change."""
    outside = p @ p @ change @ _linalg.add_diagonal(-p @ matrix, jnp.ones((), p.dtype)).T
    return outside + outside.T - p @ change @ p


@jax.custom_jvp
def wide_pseudo_inverses(x: Array) -> tuple[Array, Array]:
    """(xᵀx/n)⁺ (d, d) and (xxᵀ/n)⁺ (n, n) for n < d, as ``pseudo_inverse``, from one decomposition of size n."""
    size, values, axes, left = wide_axes(x)
    half = _half_inverse(size, values, axes)
    return _linalg.gram(half.T), _linalg.gram(half @ left.T)


@wide_pseudo_inverses.defjvp
@full_precision
def _wide_pseudo_inverses_jvp(primals: tuple, tangents: tuple) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    (x,), (change,) = primals, tangents
    n, inverses = x.shape[0], wide_pseudo_inverses(x)
    inner, outer = x.T @ change / n, x @ change.T / n
    return inverses, (
        _pseudo_change(inverses[0], _linalg.gram(x) / n, inner + inner.T),
        _pseudo_change(inverses[1], _linalg.gram(x.T) / n, outer + outer.T),
    )


def wide_axes(x: Array) -> tuple[Array, Array, Array, Array]:
    """Units u (d,) of the columns, and of x/u the eigenvalues (n,) ascending, right (d, n) and left (n, n) axes."""
    squares = (x**2).mean(0)
    size = jnp.sqrt(jnp.where(squares == 0, 1, squares))
    scaled = x / size[None, :]
    values, left = jnp.linalg.eigh(_linalg.gram(scaled.T) / x.shape[0])
    axes, lengths = jnp.linalg.qr(scaled.T @ left[:, ::-1])
    return size, values, jnp.where(jnp.diagonal(lengths) < 0, -axes, axes)[:, ::-1], left


def units(matrix: Array) -> Array:
    """(d,) square roots of the diagonal, 1 where it is 0."""
    diagonal = jnp.diagonal(matrix)
    return jnp.sqrt(jnp.where(diagonal == 0, 1, diagonal))


def kept_values(values: Array) -> Array:
    """Which of the ascending eigenvalues of a matrix with a unit diagonal are not null."""
    return values > values.shape[0] * jnp.finfo(values.dtype).eps * values[-1]


def projector(units: Array, axes: Array, kept: Array) -> Array:
    """(d, d) onto the span of diag(u)a over the axes a (d, m) that are kept, the last ones if not all."""
    basis, _ = _graded_basis(units, axes, kept)
    return basis @ basis.T


def _half_inverse(units: Array, values: Array, axes: Array) -> Array:
    """W (d, m), S⁺ = WWᵀ, for S = diag(u)(Σ s a aᵀ)diag(u): ascending values s (m,), orthonormal axes a (d, m)."""
    kept = kept_values(values)
    root = jnp.sqrt(jnp.where(kept, values, 1))
    basis, factor = _graded_basis(units, axes, kept)
    factor = _linalg.add_diagonal(factor, jnp.where(kept[::-1], 0, jnp.ones_like(root)))
    half = lax.linalg.triangular_solve(factor, basis, left_side=False, lower=False, transpose_a=True)[:, ::-1]
    half = jnp.where(kept[None, :], half / root[None, :], 0)
    if axes.shape[0] == axes.shape[1]:  # nothing null: no digits are lost to units far apart
        half = jnp.where(kept.all(), axes / units[:, None] / root[None, :], half)
    return jnp.where(jnp.isfinite(values[-1]), half, jnp.nan)


def _graded_basis(units: Array, axes: Array, kept: Array) -> tuple[Array, Array]:
    """B (d, m) and R: diag(u)a = BR for the axes in reverse order, zero for those that are not kept.

    Rows of large units come first in the factorisation, so that small ones keep their digits.
    """
    order = jnp.argsort(-units)
    columns = jnp.where(kept[None, :], units[:, None] * axes, 0)[order, ::-1]
    basis, factor = jnp.linalg.qr(columns)
    return jnp.where(kept[None, ::-1], jnp.zeros_like(basis).at[order].set(basis), 0), factor
