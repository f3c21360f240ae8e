"""Eigenvalues and eigenvectors of fitted predictors, beside those of PCA.

A = I - D⁻¹Q is not symmetric, but it is similar to I - D^(-1/2)QD^(-1/2), so its eigenvalues are real and one
symmetric decomposition gives both kinds of eigenvectors. PCA and correlation PCA are the same pencil with other
matrices, and come back in the same class.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from . import _linalg
from ._checks import as_samples, as_symmetric
from ._types import CONVERGED, NON_FINITE, Array, ArrayLike, Bool, Float, Int, Result, full_precision, pytree


@pytree
class Eigen(Result):
    """Eigenvalues in descending order, with eigenvectors as unit columns (their signs mean nothing).

    Attributes
    ----------
    values
        (m,) eigenvalues, largest first.
    left
        (d, m) v of the pencil (S + Λ)v = μ D⁻¹v: left eigenvectors of A, vᵀA = ζvᵀ with ζ = 1 - 1/μ. None
        when vectors were not asked for.
    right
        (d, m) r ∝ D⁻¹v: right eigenvectors of A, Ar = ζr. The one to compare with a planted direction.
    symmetric
        (d, m) D^(-1/2)v: eigenvectors of the symmetric form; orthogonal to each other.
    status
        ``CONVERGED``, or ``NON_FINITE`` where the matrix was not finite or its diagonal not positive.
    """

    values: Float[Array, " m"]
    left: Float[Array, "d m"] | None
    right: Float[Array, "d m"] | None
    symmetric: Float[Array, "d m"] | None
    status: Int[Array, ""]


@full_precision
def predictor_eigen(fit_or_precision: Any, *, vectors: bool = True) -> Eigen:
    """Eigenvalues and eigenvectors of the weights A = I - D⁻¹Q, D = diag(Q).

    Parameters
    ----------
    fit_or_precision
        A ``Fit``, anything else with a ``precision``, or a precision matrix (d, d). Under Bernoulli masks
        A = (I - D⁻¹Q)/(1 - hide_rate), and the eigenvalues are divided too.
    vectors
        False: eigenvalues only, several times cheaper; the vectors are None.

    Returns
    -------
    Eigen
        All d eigenvalues of A; a direction that stands out of the noise is an eigenvalue above the bulk.

    Raises
    ------
    ValueError
        For a matrix that is not square, symmetric and finite, or a fit to a partition or to patterns, whose
        weights have another form.

    Notes
    -----
    One symmetric d × d decomposition, O(d³). Eigenvalues are differentiable in both modes; eigenvectors too
    where their eigenvalue is simple. At ridge 0 with n < d the precision is a projector and the same formula
    holds; where only some coordinates meet the null space of the data the weights have another form and the
    result is NaN.

    References
    ----------
    arXiv 2601.23208, spectrum of the joint predictor.

    Examples
    --------
    >>> import numpy as np
    >>> from jmask.eigen import predictor_eigen
    >>> [round(float(value), 6) for value in predictor_eigen(np.array([[2.0, 1.0], [1.0, 2.0]])).values]
    [0.5, -0.5]
    """
    if hasattr(fit_or_precision, "precision"):
        precision = fit_or_precision.precision  # NaN where the fit did not converge, and so is the result
        kept = _kept_rate(fit_or_precision, precision.dtype)
    else:
        precision = as_symmetric(fit_or_precision, "fit_or_precision")
        kept = jnp.ones((), precision.dtype)
    return _predictor_eigen(precision, kept, vectors)


def _kept_rate(fit: Any, dtype: jnp.dtype) -> Array:
    """1 - hide_rate for Bernoulli masks, 1 when one coordinate at a time is hidden."""
    scheme: Any = getattr(fit, "scheme", None)
    if hasattr(scheme, "hide_rate"):
        return 1 - scheme.probability(dtype)
    if hasattr(scheme, "groups") or hasattr(scheme, "hidden"):
        raise ValueError(
            f"fit_or_precision was fitted to {type(scheme).__name__} masks, whose weights are not I - diag(Q)⁻¹Q: "
            "pass a fit to LeaveOneOut() or Bernoulli(hide_rate), or its precision for the leave-one-out weights"
        )
    return jnp.ones((), dtype)


@partial(jax.jit, static_argnames="vectors")
def _predictor_eigen(precision: Array, kept: Array, vectors: bool) -> Eigen:
    root = jnp.sqrt(jnp.diagonal(precision))
    form = precision / root[:, None] / root[None, :]
    if not vectors:
        return _pack((1 - jnp.linalg.eigvalsh(form)) / kept, None, None)
    values, columns = jnp.linalg.eigh(form)
    return _pack((1 - values) / kept, columns, root)


@full_precision
def pca_eigen(x: ArrayLike, *, vectors: bool = True) -> Eigen:
    """Eigenvalues and eigenvectors of S = xᵀx/n: the pencil of A with Λ = 0 and D = I.

    Parameters
    ----------
    x
        (n, d) samples, taken as they are (not centred).
    vectors
        False: eigenvalues only.

    Returns
    -------
    Eigen
        The leading min(n, d) eigenvalues (the others are 0); left, right and symmetric vectors are one.

    Raises
    ------
    ValueError
        For data that is not an (n, d) matrix of finite numbers.

    Notes
    -----
    O(n d² + d³); through the n × n matrix xxᵀ/n when n < d, O(n² d).

    Examples
    --------
    >>> import numpy as np
    >>> from jmask.eigen import pca_eigen
    >>> [round(float(value), 6) for value in pca_eigen(np.array([[2.0, 0.0], [0.0, 1.0]])).values]
    [2.0, 0.5]
    """
    return _pca_eigen(as_samples(x), vectors)


@partial(jax.jit, static_argnames="vectors")
def _pca_eigen(x: Array, vectors: bool) -> Eigen:
    return _data_eigen(x, jnp.ones(x.shape[1], x.dtype), vectors)


@full_precision
def correlation_pca_eigen(x: ArrayLike, *, vectors: bool = True) -> Eigen:
    """Eigenvalues and eigenvectors of the correlations: the pencil S v = μ diag(S) v.

    Parameters
    ----------
    x
        (n, d) samples, taken as they are: the scale of a column is its root mean square. A column of zeros
        (a constant one, after centring) is legal and counts as having scale one.
    vectors
        False: eigenvalues only.

    Returns
    -------
    Eigen
        The leading min(n, d) eigenvalues μ; ``left`` v, ``right`` diag(S)v in the original coordinates, and
        ``symmetric`` diag(S)^(1/2)v, the eigenvectors of the correlation matrix.

    Raises
    ------
    ValueError
        For data that is not an (n, d) matrix of finite numbers.

    Notes
    -----
    O(n d² + d³); through an n × n matrix when n < d, O(n² d).

    Examples
    --------
    >>> import numpy as np
    >>> from jmask.eigen import correlation_pca_eigen
    >>> x = np.array([[3.0, 1.0], [3.0, -1.0], [6.0, 2.0]])
    >>> round(float(correlation_pca_eigen(x).values.sum()), 6)  # the trace of a correlation matrix
    2.0
    """
    return _correlation_pca_eigen(as_samples(x), vectors)


@partial(jax.jit, static_argnames="vectors")
def _correlation_pca_eigen(x: Array, vectors: bool) -> Eigen:
    scale = column_scales(x)
    return _data_eigen(x / scale[None, :], scale, vectors)


def _data_eigen(x: Array, scale: Array, vectors: bool) -> Eigen:
    if not vectors:
        small = _linalg.gram(x.T if x.shape[0] < x.shape[1] else x) / x.shape[0]
        return _pack(jnp.linalg.eigvalsh(small)[::-1], None, None)
    values, columns = principal_axes(x)
    return _pack(values, columns, 1 / scale)


def _pack(values: Array, columns: Array | None, root: Array | None) -> Eigen:
    """The three vectors of a symmetric eigenvector w: v = D^(1/2)w and r = D^(-1/2)w, ``root`` being D^(1/2)."""
    status = jnp.where(jnp.isfinite(values).all(), CONVERGED, NON_FINITE)
    if columns is None or root is None:
        return Eigen(values, None, None, None, status)
    left, right = root[:, None] * columns, columns / root[:, None]
    return Eigen(values, _unit(left), _unit(right), columns, status)


def _unit(columns: Array) -> Array:
    return columns / jnp.linalg.norm(columns, axis=0, keepdims=True)


def empty_columns(x: Array) -> Bool[Array, " d"]:
    """(d,) True for a column of zeros, or of nothing but the rounding error that centring a constant leaves."""
    sizes = jnp.abs(x).max(0)
    return (sizes == 0) | ((sizes <= 8 * jnp.finfo(x.dtype).eps * sizes.max()) & (x.max(0) == x.min(0)))


def column_scales(x: Array) -> Float[Array, " d"]:
    """(d,) root mean squares, and 1 for an empty column."""
    return jnp.sqrt(jnp.where(empty_columns(x), 1, (x**2).mean(0)))


def principal_axes(x: Array) -> tuple[Float[Array, " m"], Float[Array, "d m"]]:
    """The m = min(n, d) leading eigenvalues of xᵀx/n, largest first, and orthonormal axes for all of them."""
    n, d = x.shape
    if n >= d:
        values, axes = jnp.linalg.eigh(_linalg.gram(x) / n)
        return values[::-1], axes[:, ::-1]
    values, left = jnp.linalg.eigh(_linalg.gram(x.T) / n)
    # Largest first, so that the factorisation leaves them alone and completes the axes of the zero eigenvalues.
    return values[::-1], jnp.linalg.qr(x.T @ left[:, ::-1])[0]


def without_empty(x: Array) -> tuple[Array, Array]:
    """x with its empty columns exactly 0, and S_kk, 1 for those."""
    empty = empty_columns(x)
    return jnp.where(empty[None, :], 0, x), jnp.where(empty, 1, (x**2).mean(0))


def positive_values(values: Array) -> Bool[Array, " m"]:
    """Which eigenvalues, largest first, are more than rounding errors."""
    return values > values.shape[0] * jnp.finfo(values.dtype).eps * values[0]
