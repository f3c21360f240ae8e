"""Errors of a fit: on the training data, on a known population, and without a test set.

Every function is a mean over samples and coordinates of the squared masked error, without penalty. Leaving
one sample out is exact and needs no refit: with Q = (S + Λ)⁻¹ and D = diag Q, the residual of coordinate k on
sample i, predicted by the fit without sample i, is (xQ)_ik/(D_k(1 - h_ik)).
"""

from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax

from . import _linalg
from ._checks import all_zero, as_ridge, as_samples, as_symmetric
from ._types import Array, ArrayLike, Float, full_precision
from .closed_form import Fit, NullSpace, null_space, precision_matrix, solve_groups
from .masking import Bernoulli, LeaveOneOut, Partition, Patterns, Scheme, check_scheme
from .objective import as_weights, moment_errors, sample_errors


@full_precision
def train_error(
    fit_or_weights: Fit | ArrayLike, x: ArrayLike, scheme: Scheme | None = None, *, per_coordinate: bool = False
) -> Float[Array, "..."]:
    """Mean squared masked error on samples: (1/nd) Σ_ik (x_ik - A_k·x_i)² for ``LeaveOneOut``.

    Parameters
    ----------
    fit_or_weights
        A ``Fit`` (or anything with ``weights``), or weights (d, d).
    x
        (n, d) samples; new ones give the error on a test set.
    scheme
        Masks to average over; None: the fit's own, ``LeaveOneOut()`` for bare weights.
    per_coordinate
        True: (d,), one error a coordinate, instead of their mean.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> x = np.array([[1.0, 1.0], [-1.0, -1.0]])
    >>> float(jm.train_error(np.zeros((2, 2)), x))
    1.0
    """
    x = as_samples(x, rows=1)
    weights, scheme = _weights_and_scheme(fit_or_weights, x.shape[1], x.dtype, scheme)
    return _mean(_sample_errors(weights, x, scheme), per_coordinate)


@full_precision
def test_error(
    fit_or_weights: Fit | ArrayLike, sigma: object, scheme: Scheme | None = None, *, per_coordinate: bool = False
) -> Float[Array, "..."]:
    """Exact population risk: (1/d) tr (I - A)Σ(I - A)ᵀ for ``LeaveOneOut``, the mean over masks for the others.

    Parameters
    ----------
    fit_or_weights
        A ``Fit`` (or anything with ``weights``), or weights (d, d).
    sigma
        The population covariance: a matrix (d, d), or a population with ``matrix()``.
    scheme
        Masks to average over; None: the fit's own, ``LeaveOneOut()`` for bare weights.
    per_coordinate
        True: (d,), one error a coordinate, instead of their mean.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> float(jm.test_error(np.zeros((2, 2)), np.eye(2)))
    1.0
    """
    matrix = as_symmetric(sigma.matrix() if hasattr(sigma, "matrix") else cast(Array, sigma), "sigma")
    weights, scheme = _weights_and_scheme(fit_or_weights, matrix.shape[0], matrix.dtype, scheme)
    return _mean(_moment_errors(weights, matrix, scheme), per_coordinate)


test_error.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever its name says to pytest

_sample_errors = jax.jit(sample_errors)
_moment_errors = jax.jit(moment_errors)


def _weights_and_scheme(
    fit_or_weights: Fit | ArrayLike, d: int, dtype: jnp.dtype, scheme: Scheme | None
) -> tuple[Array, Scheme]:
    own = getattr(fit_or_weights, "scheme", None) or LeaveOneOut()
    scheme = own if scheme is None else scheme
    check_scheme(scheme, d)
    if hasattr(fit_or_weights, "weights"):
        weights = fit_or_weights.weights  # may be NaN where the fit did not converge, and so is the error
        if weights.shape != (d, d):
            raise ValueError(f"the fit has {weights.shape[0]} coordinates and the data {d}")
        return weights.astype(dtype), scheme
    return as_weights(cast(ArrayLike, fit_or_weights), d, dtype), scheme


def _mean(errors: Array, per_coordinate: bool) -> Array:
    return errors if per_coordinate else errors.mean()


@full_precision
def leave_one_out_error(
    x: ArrayLike,
    ridge: ArrayLike,
    scheme: Scheme = LeaveOneOut(),
    *,
    per_coordinate: bool = False,
    centred: bool = False,
) -> Float[Array, "..."]:
    """Error of every sample under the fit without it, in closed form: no test set, no refit.

    Parameters
    ----------
    x
        (n, d) samples.
    ridge
        Scalar or (d,); the fit without a sample keeps the penalty nλ.
    scheme
        ``LeaveOneOut``, ``Partition`` (both exact) or ``Bernoulli`` (its share of the penalty that holds diag
        S kept at its full-sample value, a difference of order 1/n).
    per_coordinate
        True: (d,), one error a coordinate, instead of their mean.
    centred
        True: the mean of x is removed, and re-estimated without each sample (leverages gain 1/n).

    Raises
    ------
    ValueError
        For bad data or ridge, and for ``Patterns``, where leaving a sample out changes d different matrices:
        refit on folds instead.

    Notes
    -----
    O(n d² + d³). Differentiable in x, the ridges and the hiding rate. A known ridge of 0 takes its limit.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> x = np.random.default_rng(0).normal(size=(40, 5))
    >>> bool(jm.leave_one_out_error(x, 0.5) > jm.train_error(jm.fit(x, 0.5), x))
    True
    """
    x = as_samples(x)
    check_scheme(scheme, x.shape[1])
    if isinstance(scheme, Patterns):
        raise ValueError(
            "scheme: Patterns has no closed form for leaving one sample out; use LeaveOneOut, Partition or "
            "Bernoulli, or refit on folds with jmask.fit and jmask.train_error"
        )
    ridge = as_ridge(ridge, x.shape[1], x.dtype)
    zero = all_zero(ridge)
    return _mean(leave_one_out_core(x, ridge, scheme, zero, centred), per_coordinate)


@partial(jax.jit, static_argnames=("zero", "centred"))
def leave_one_out_core(x: Array, ridge: Array, scheme: Scheme, zero: bool, centred: bool) -> Float[Array, " d"]:
    """(d,) leave-one-out errors; ``zero`` (static) takes the limit of the ridge."""
    n = x.shape[0]
    extra = 1 / n if centred else 0.0
    x = x - x.mean(0, keepdims=True) if centred else x
    if isinstance(scheme, Bernoulli):
        return left_out_bernoulli(x, ridge, scheme, extra)
    if isinstance(scheme, Partition):
        return _left_out_partition(x, ridge, scheme, centred, zero)
    if zero:
        return (_left_out_limit(x, extra) ** 2).mean(0)
    q = precision_matrix(x, ridge) if n >= x.shape[1] + centred else None
    xq, slack = _left_out_parts(x, q, ridge, centred)
    if q is None:
        kept = 1 - (x * xq).sum(0) / n
        diagonal = jnp.where(kept > 100 * jnp.finfo(x.dtype).eps, kept, jnp.nan) / ridge
    else:
        diagonal = jnp.diagonal(q)
    return (left_out_residual(xq, diagonal, slack) ** 2).mean(0)


def _left_out_parts(x: Array, q: Array | None, ridge: Array, centred: bool) -> tuple[Array, Array]:
    """xQ (n, d) and the slack 1 - (xQxᵀ)_ii/n (less 1/n if centred), (n,).

    Where the rows can interpolate (n <= d, and d + 1 if centred) the slack vanishes with the ridge: it is then read
    off the dual (I + xΛ⁻¹xᵀ/n)⁻¹, from which centring has removed the direction of the mean, so that no digits cancel.
    """
    n, d = x.shape
    if q is not None and n > d + centred:
        xq = x @ q
        return xq, 1 - (xq * x).sum(1) / n - (1 / n if centred else 0)
    scaled = x / jnp.broadcast_to(ridge, (d,))[None, :]
    small = _linalg.add_diagonal(x @ scaled.T / n, jnp.ones((), x.dtype))
    shift = jnp.trace(small) / n if centred else jnp.zeros((), x.dtype)
    dual = _linalg.inverse(small + shift / n)
    slack = jnp.diagonal(dual) - (1 / (n * (1 + shift)) if centred else 0)
    return dual @ scaled, slack


def left_out_residual(xq: Array, diagonal: Array, slack: Array) -> Array:
    """(n, d) (xQ)_ik/(D_k(1 - h_ik)) with 1 - h_ik = slack_i + (xQ)_ik²/(n D_k), D_k multiplied through."""
    return xq / (diagonal[None, :] * slack[:, None] + xq**2 / xq.shape[0])


def _left_out_limit(x: Array, extra: float) -> Array:
    """(n, d) residuals at λ → 0⁺, where the formula is 0/0 once S is singular.

    With K = xxᵀ/n, N the projector on its null space (repeated or dependent rows) and Π that of S:
    (K + λ)⁻¹ = N/λ + K⁺, so 1 - h and D_k each keep their leading order in λ.
    """
    n, d = x.shape
    tiny = 100 * max(n, d) * jnp.finfo(x.dtype).eps
    null = null_space(x, _linalg.gram(x) / n, plain=False)
    if null.dual is None:
        xq = x @ null.inverse
        slack, second = 1 - (xq * x).sum(1) / n, (xq**2).sum(1) / n
    else:
        xq, second = null.dual @ x, jnp.diagonal(null.dual)
        slack = 1 - (null.dual * (_linalg.gram(x.T) / n)).sum(1)
    # slack_i = N_ii; centring leaves 1/n in it, which the re-estimated mean takes back.
    slack = _outside_columns(lax.stop_gradient(x), null) + (slack - lax.stop_gradient(slack))
    slack = jnp.where(jnp.abs(slack - extra) <= tiny, 0, slack - extra)
    determined = jnp.diagonal(null.projector)[None, :] * second[:, None] + xq**2 / n
    undetermined = left_out_residual(xq, jnp.diagonal(null.inverse), slack)
    return jnp.where(null.free[None, :], jnp.where((slack == 0)[:, None], xq / determined, 0), undetermined)


def _outside_columns(x: Array, null: NullSpace) -> Float[Array, " n"]:
    """N_ii, from an orthonormal basis: right to rounding whatever the condition number, so that zero can be told."""
    if null.dual is not None:
        return (jnp.where(null.kept[None, :], 0, null.vectors) ** 2).sum(1)
    basis = jnp.linalg.qr(x / null.units[None, :] @ null.vectors[:, ::-1])[0]
    return 1 - (jnp.where(null.kept[None, ::-1], basis, 0) ** 2).sum(1)


def _left_out_partition(x: Array, ridge: Array, scheme: Partition, centred: bool, zero: bool) -> Array:
    """(d,) exact: one slack a group, 1 - h_iB = slack_i + (xQ)_iB Q_BB⁻¹ (Qxᵀ)_Bi/n."""
    n, d = x.shape
    if zero:
        if n <= d + centred:
            raise ValueError("ridge must be positive for Partition where the rows can interpolate: pass a small one")
        ridge = jnp.zeros((), x.dtype)
    q = precision_matrix(x, ridge)
    xq, slack = _left_out_parts(x, q, ridge, centred)
    errors = jnp.zeros(d, x.dtype)
    for members in scheme.members_by_size():
        rows = jnp.moveaxis(xq[:, members], 0, 2)  # (g, b, n)
        solved = solve_groups(q, members, rows)
        left = slack[None, :] + (rows * solved).sum(1) / n
        errors = errors.at[members].set(((solved / left[:, None, :]) ** 2).mean(2))
    return errors


def left_out_bernoulli(
    x: Array, ridge: Array, scheme: Bernoulli, extra: float, test: Bernoulli | None = None
) -> Float[Array, " d"]:
    """(d,) with the penalty Λ_q held: Q of the fit without sample i is Q + s g gᵀ, g = Qx_i, s = 1/(n(1 - x_i·g/n)).

    Errors are under the masks of ``test``; None: those of ``scheme``. The masked residual, averaged over masks, is the
    plain residual squared plus (p/q) Σ_{j≠k} (Q_kj/D_k)² x_ij², both of the left-out fit; expanded into three
    n × d × d products.
    """
    n = x.shape[0]
    p = scheme.probability(x.dtype)
    ratio = p / (1 - p)
    used = ratio * (x**2).mean(0) + ridge / (1 - p) ** 2
    q = precision_matrix(x, used)
    g, slack = _left_out_parts(x, q, used, bool(extra))
    others, squares, diagonal = _linalg.zero_diagonal(q), x**2, jnp.diagonal(q)
    scale = (1 / (n * slack))[:, None]
    left_diagonal = diagonal[None, :] + scale * g**2
    spread = squares @ (others**2) + 2 * scale * g * ((g * squares) @ others)
    spread = spread + (scale * g) ** 2 * ((g**2 * squares).sum(1, keepdims=True) - g**2 * squares)
    residual = left_out_residual(g, diagonal, slack)
    if test is not None:
        # Weights B/q are fed inputs kept at rate q' = 1 - p': of the prediction B x they make (q'/q)B x on average.
        p_test, own = test.probability(x.dtype), g * x
        prediction = -(x @ others + scale * g * (own.sum(1, keepdims=True) - own)) / left_diagonal
        residual = (x - (1 - p_test) / (1 - p) * prediction) / (1 - extra)
        ratio = p_test * (1 - p_test) / (1 - p) ** 2
    return (residual**2 + ratio * spread / left_diagonal**2).mean(0)
