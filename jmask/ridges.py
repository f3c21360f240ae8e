"""Errors along a path of ridges, from one decomposition of the samples."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import _linalg
from ._checks import as_float, as_samples, is_concrete, not_negative
from ._types import CONVERGED, NON_FINITE, Array, ArrayLike, Float, Int, Result, full_precision, pytree
from .closed_form import null_space
from .masking import LeaveOneOut
from .validation import leave_one_out_core, left_out_residual


@pytree
class RidgePath(Result):
    """Errors along a path of ridges; all of shape (m,), NaN where not known.

    Attributes
    ----------
    ridge, train, leave_one_out, gcv
        The ridges, and the training, leave-one-sample-out and generalised cross-validation errors.
    best
        The ridge of least leave-one-out error.
    status
        (m,) one a ridge.
    """

    ridge: Float[Array, " m"]
    train: Float[Array, " m"]
    leave_one_out: Float[Array, " m"]
    gcv: Float[Array, " m"]
    best: Float[Array, ""]
    status: Int[Array, " m"]


@full_precision
def ridge_path(x: ArrayLike, ridges: ArrayLike, *, centred: bool = False) -> RidgePath:
    """Train, leave-one-out and generalised cross-validation error at many ridges from one decomposition.

    Parameters
    ----------
    x
        (n, d) samples.
    ridges
        (m,) scalar ridges, not negative; 0 takes the limit (its GCV is NaN where S is singular).
    centred
        True: the mean of x is removed, and re-estimated without each sample (leverages gain 1/n).

    Returns
    -------
    RidgePath
        ``.ridge .train .leave_one_out .gcv``, each (m,), and ``.best``.

    Notes
    -----
    One eigendecomposition of the smaller of S and xxᵀ/n, then one n × min(n, d) × d product a ridge. Read
    leave-one-out rather than GCV where rows have heavy tails: there GCV is off by factors. Differentiable in
    the ridges; in x use ``leave_one_out_error``, which needs no eigenvectors.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> x = np.random.default_rng(0).normal(size=(40, 5))
    >>> path = jm.ridge_path(x, np.logspace(-2, 2, 9))
    >>> path.train.shape
    (9,)
    """
    x = as_samples(x)
    ridges = as_float(ridges, "ridges", x.dtype)
    if ridges.ndim != 1 or ridges.shape[0] == 0:
        raise ValueError(f"ridges must be a vector of at least one ridge, got shape {ridges.shape}")
    ridges = not_negative(ridges, "ridges")
    errors = _path(x, ridges, centred)
    if is_concrete(ridges):
        for i in np.flatnonzero(np.asarray(ridges) == 0):
            errors = _at_zero(x, errors, int(i), centred)
    train, left_out, gcv = errors
    finite = jnp.isfinite(train) & jnp.isfinite(left_out)
    best = ridges[jnp.argmin(jnp.where(jnp.isfinite(left_out), left_out, jnp.inf))]
    status = jnp.where(finite, CONVERGED, NON_FINITE)
    return RidgePath(ridges, train, left_out, gcv, jnp.where(finite.any(), best, jnp.nan), status)


def _at_zero(x: Array, errors: Array, i: int, centred: bool) -> Array:
    """The row of a ridge that is exactly 0."""
    centre = x - x.mean(0, keepdims=True) if centred else x
    n, d = x.shape
    null = null_space(centre, _linalg.gram(centre) / n, plain=False)
    residual = (centre @ null.inverse) / jnp.diagonal(null.inverse)[None, :]
    train = (jnp.where(null.free[None, :], 0, residual) ** 2).mean()
    used = d / n + (1 / n if centred else 0)
    gcv = jnp.where(null.free.any() | (used >= 1), jnp.nan, train / (1 - used) ** 2)
    left_out = leave_one_out_core(x, jnp.zeros((), x.dtype), LeaveOneOut(), True, centred).mean()
    return errors.at[:, i].set(jnp.stack([train, left_out, gcv]))


@partial(jax.jit, static_argnames=("centred",))
def _path(x: Array, ridges: Array, centred: bool) -> Array:
    """(3, m) train, leave-one-out, GCV for positive ridges."""
    axes = path_axes(x, centred)
    return jax.lax.map(lambda ridge: errors_on_axes(axes, ridge), ridges).T


class Axes(NamedTuple):
    """The decomposition that serves every ridge of a path."""

    values: Float[Array, " r"]
    vectors: Float[Array, "d r"]
    scores: Float[Array, "n r"]
    left: Float[Array, "n r"] | None
    outside: Float[Array, " d"]
    extra: float


def path_axes(x: Array, centred: bool) -> Axes:
    """Decompose samples (n, d) once for all ridges."""
    n, d = x.shape
    x = x - x.mean(0, keepdims=True) if centred else x
    values, vectors, scores, left = _principal_axes(x, centred)
    outside = 1 - (vectors**2).sum(1)
    outside = jnp.where(outside > 100 * d * jnp.finfo(x.dtype).eps, outside, 0)
    return Axes(values, vectors, scores, left, outside, 1 / n if centred else 0.0)


def errors_on_axes(axes: Axes, ridge: Array) -> Float[Array, "3"]:
    """Train, leave-one-out and GCV at one positive ridge; differentiable in it."""
    values, vectors, scores, left, outside, extra = axes
    n = scores.shape[0]
    shrunk = scores / (values + ridge)[None, :]
    xq = shrunk @ vectors.T
    diagonal = vectors**2 @ (1 / (values + ridge)) + outside / ridge
    if left is None:
        slack = 1 - (shrunk * scores).sum(1) / n - extra
    else:
        slack = left**2 @ (ridge / (values + ridge))
    train = ((xq / diagonal[None, :]) ** 2).mean()
    left_out = (left_out_residual(xq, diagonal, slack) ** 2).mean()
    return jnp.stack([train, left_out, train / slack.mean() ** 2])


def _principal_axes(x: Array, centred: bool) -> tuple[Array, Array, Array, Array | None]:
    """Eigenvalues s of S (r,), its axes (d, r), scores on them (n, r), and for n <= d + 1 the left vectors (n, r)."""
    n, d = x.shape
    if n > d + 1:
        values, vectors = jnp.linalg.eigh(_linalg.gram(x) / n)
        return jnp.maximum(values, 0), vectors, x @ vectors, None
    small = _linalg.gram(x.T) / n
    if centred:  # lift the direction of the mean above all others, and drop it
        values, left = jnp.linalg.eigh(small + 2 * jnp.trace(small) / n)
        values, left = values[:-1], left[:, :-1]
    else:
        values, left = jnp.linalg.eigh(small)
    kept = values > n * jnp.finfo(x.dtype).eps * values[-1]
    root = jnp.sqrt(jnp.where(kept, n * values, 1))
    vectors = jnp.where(kept[None, :], (x.T @ left) / root[None, :], 0)
    values = jnp.where(kept, values, 0)
    return values, vectors, left * jnp.where(kept, root, 0)[None, :], left
