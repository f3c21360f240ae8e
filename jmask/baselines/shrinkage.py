"""Shrunk and sparse estimates: linear and nonlinear shrinkage of eigenvalues, the graphical lasso."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np

from .. import _linalg
from .._checks import as_samples, is_concrete
from .._types import CONVERGED, MAX_STEPS, SINGULAR, Array, ArrayLike, full_precision
from ..eigen import empty_columns, positive_values, principal_axes, without_empty
from .predictor import Predictor, packed


@full_precision
def ledoit_wolf(x: ArrayLike) -> Predictor:
    """Linear shrinkage: P is the inverse of (1 - a)S + aμI, μ = tr S/d, a estimated from x.

    It is masked ridge regression with ridge aμ/(1 - a).

    Parameters
    ----------
    x
        (n, d) samples, not centred here.

    Returns
    -------
    Predictor
        Status ``SINGULAR`` and NaN where a = 0 meets a singular S.

    Raises
    ------
    ValueError
        For data that is not an (n, d) matrix of finite numbers.

    Notes
    -----
    O(n d² + d³); differentiable in x. scikit-learn's ``LedoitWolf(assume_centered=True)`` to rounding.

    References
    ----------
    Ledoit and Wolf (2004), A well-conditioned estimator for large-dimensional covariance matrices, section 3.3.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> jm.baselines.ledoit_wolf(x).weights.shape
    (4, 4)
    """
    return _ledoit_wolf(as_samples(x))


@full_precision
def nonlinear_shrinkage(x: ArrayLike) -> Predictor:
    """Analytical nonlinear shrinkage: every eigenvalue of S is replaced, by a formula without tuning.

    Parameters
    ----------
    x
        (n, d) samples, not centred here, n at least 12. A column of zeros is legal and left out.

    Returns
    -------
    Predictor
        Of the inverse of V diag(shrunk eigenvalues) Vᵀ, positive definite for n < d and n = d too.

    Raises
    ------
    ValueError
        For bad data, or fewer than 12 samples, where the formula has no value.

    Notes
    -----
    The formula takes n for the sample size where S has full rank or rank n, and the rank of S elsewhere
    (centred data with n ≤ d: n - 1). Where that is within a few percent of d the smallest eigenvalues are
    shrunk too little, and predictions are poor. O(n d² + d³), or O(n² d + d²n) when n < d. Differentiable in x where
    the eigenvalues of S differ.

    References
    ----------
    Ledoit and Wolf (2020), Analytical nonlinear shrinkage of large-dimensional covariance matrices, Annals of
    Statistics 48, equations 4.3 and 4.7 to 4.9, and for n < d C.4, C.5 and C.8.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> jm.baselines.nonlinear_shrinkage(x).weights.shape
    (4, 4)
    """
    x = as_samples(x, rows=12)
    return _nonlinear_shrinkage(x)


@full_precision
def graphical_lasso(x: ArrayLike, alpha: float, *, atol: float = 1e-4, max_steps: int = 100) -> Predictor:
    """Sparse precision: the maximum of log det P - tr SP - alpha·Σ_{j≠k} |P_jk|, by scikit-learn.

    Parameters
    ----------
    x
        (n, d) samples, not centred here. A column of zeros is legal: its row and column of A are zero.
    alpha
        Penalty, positive: larger is sparser; in the units of S.
    atol
        Bound on the duality gap.
    max_steps
        Limit on sweeps over the columns.

    Raises
    ------
    ImportError
        Without scikit-learn, which comes with the extra ``study``.
    TypeError
        If an argument is traced: this runs on the host, not under ``jit``, ``vmap`` or ``grad``.
    ValueError
        For bad data or a penalty that is not positive.

    Notes
    -----
    In double precision whatever the data, returned in the dtype of the data. Each sweep is d lasso
    regressions, O(d³) at least. Status ``MAX_STEPS`` where the gap did not close,
    ``NON_FINITE`` where the solver broke down.

    References
    ----------
    Friedman, Hastie and Tibshirani (2008), Sparse inverse covariance estimation with the graphical lasso.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> int((jm.baselines.graphical_lasso(x, 10.0).weights != 0).sum())
    0
    """
    if not is_concrete((x, alpha)):
        raise TypeError("graphical_lasso runs on the host: call it outside jit, vmap and grad")
    x = as_samples(x)
    if not 0 < alpha < np.inf:
        raise ValueError(f"alpha must be positive and finite, got {alpha}")
    if not atol > 0 or max_steps < 1:
        raise ValueError(f"atol must be positive and max_steps at least 1, got {atol} and {max_steps}")
    samples = np.asarray(x, np.float64)
    used = np.flatnonzero(~np.asarray(empty_columns(x)))
    precision = np.eye(samples.shape[1])
    gap_closed = True
    if used.size > 1:
        solution, gap_closed = _sparse_precision(samples[:, used], float(alpha), atol, max_steps)
        precision[np.ix_(used, used)] = solution
    result = packed(jnp.asarray(precision, x.dtype))
    return result if gap_closed else Predictor(result.weights, result.precision, jnp.asarray(MAX_STEPS))


def _sparse_precision(samples: np.ndarray, alpha: float, atol: float, max_steps: int) -> tuple[np.ndarray, bool]:
    try:
        from sklearn import covariance
        from sklearn.exceptions import ConvergenceWarning
    except ImportError as error:
        raise ImportError("graphical_lasso needs scikit-learn: pip install 'jmask[study]'") from error
    moments = samples.T @ samples / samples.shape[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the status says it
        try:
            # The default tolerance of the inner lasso (1e-4) is too loose for the gap to close on common data.
            _, precision, costs = covariance.graphical_lasso(
                moments, alpha, tol=atol, enet_tol=1e-4 * atol, max_iter=max_steps, return_costs=True
            )
        except FloatingPointError:
            return np.full_like(moments, np.nan), True
    return (precision + precision.T) / 2, abs(costs[-1][1]) < atol


@jax.jit
def _ledoit_wolf(x: Array) -> Predictor:
    n, d = x.shape
    largest = jnp.abs(x).max()
    unit = jnp.where(largest > 0, largest, 1)
    x = x / unit  # fourth powers leave the range of numbers soon
    covariance = _linalg.gram(x) / n
    mean = jnp.trace(covariance) / d
    spread = (_linalg.add_diagonal(covariance, -mean) ** 2).sum()
    scatter = (((x**2).sum(1) ** 2).mean() - (covariance**2).sum()) / n  # of one xxᵀ around S, over n
    share = jnp.where(spread > 0, jnp.clip(scatter / jnp.where(spread > 0, spread, 1), 0, 1), 0)
    precision = _linalg.inverse(_linalg.add_diagonal((1 - share) * covariance, share * mean))
    result = packed(precision)
    singular = (result.status != CONVERGED) & jnp.isfinite(covariance).all()
    return Predictor(result.weights, precision / unit / unit, jnp.where(singular, SINGULAR, result.status))


@jax.jit
def _nonlinear_shrinkage(x: Array) -> Predictor:
    n, d = x.shape
    x, _ = without_empty(x)
    values, axes = principal_axes(x)
    positive = positive_values(values)
    rank = positive.sum()
    size = d - empty_columns(x).sum()
    count = jnp.where((rank == size) | (rank == n), n, rank).astype(x.dtype)
    shrunk, null = _shrink(values, positive, size.astype(x.dtype), count)
    inverse = (axes * (1 / shrunk - 1 / null)[None, :]) @ axes.T
    return packed(_linalg.add_diagonal(inverse, 1 / null))


def _shrink(values: Array, positive: Array, size: Array, count: Array) -> tuple[Array, Array]:
    """The shrunk eigenvalues, and the one value for the null space of S, of ``count`` samples in ``size`` columns.

    The density of the eigenvalues and its Hilbert transform are estimated with the Epanechnikov kernel, whose
    width at an eigenvalue is count^(-1/3) times that eigenvalue.
    """
    gamma, width = size / count, count ** (-1 / 3)
    values = jnp.where(positive, values, 1)
    share = jnp.where(positive, 1 / (width * values), 0) / positive.sum().astype(values.dtype)
    gap = (values[:, None] - values[None, :]) / (width * values)[None, :]
    density = 0.75 / 5**0.5 * jnp.maximum(1 - gap**2 / 5, 0) @ share
    hilbert = _kernel_transform(gap) @ share
    scaled = jnp.pi * gamma * values
    over = values / ((scaled * density) ** 2 + (1 - gamma - scaled * hilbert) ** 2)
    under = 1 / (jnp.pi**2 * values * (density**2 + hilbert**2))
    full = size <= count
    at_zero = _kernel_transform(-1 / width) * share.sum()
    # Of full rank there is no null space; what stands for it is to cancel no digits of the others.
    null = jnp.where(full, over.max(), 1 / (jnp.pi * jnp.where(full, 1, gamma - 1) * at_zero))
    return jnp.where(positive, jnp.where(full, over, under), null), null


def _kernel_transform(t: Array) -> Array:
    """Hilbert transform of the Epanechnikov kernel 3/(4√5)·(1 - t²/5)₊."""
    root = 5**0.5
    bump = 1 - t**2 / 5
    edge = jnp.abs(bump) < 4 * jnp.finfo(t.dtype).eps  # there bump·log → 0
    log = jnp.log(jnp.abs(jnp.where(edge, 1, (root - t) / jnp.where(edge, 1, root + t))))
    # Far from the kernel the closed form cancels to -1/t out of terms of order t: sum its series in √5/t.
    far = jnp.abs(t) > 4 * root
    u = root / jnp.where(far, t, 4 * root)
    series = jnp.zeros_like(u)
    for k in range(12, -1, -1):
        series = series * u**2 + 1 / ((2 * k + 1) * (2 * k + 3))
    return jnp.where(far, -3 / root * u * series, 0.75 / root * bump * log - 0.3 * t) / jnp.pi
