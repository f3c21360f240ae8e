"""Low rank on a diagonal: probabilistic PCA, its correlation form, HeteroPCA, and factor analysis."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .. import _linalg
from .._checks import as_float, as_samples, is_concrete
from .._types import CONVERGED, MAX_STEPS, Array, ArrayLike, Int, full_precision
from ..eigen import column_scales, positive_values, principal_axes, without_empty
from .predictor import Predictor, packed, weights_of


@full_precision
def ppca(x: ArrayLike, rank: ArrayLike) -> Predictor:
    """Probabilistic PCA: P is the inverse of VΛVᵀ + s2(I - VVᵀ).

    V and Λ are the ``rank`` leading eigenvectors and eigenvalues of S = xᵀx/n, s2 the mean of the discarded ones
    (maximum likelihood).

    Parameters
    ----------
    x
        (n, d) samples, not centred here.
    rank
        Number of components, 0 to d; an integer, static or traced (traced values outside are taken as the
        nearest end).

    Returns
    -------
    Predictor
        With ``weights``, ``precision`` and ``predict``. A rank of at least rank S < d leaves s2 = 0: the
        weights are then the limit s2 → 0⁺, minimum-norm regression, as a fit at ridge 0. Rank d with S
        non-singular is the precision S⁻¹.

    Raises
    ------
    TypeError
        If ``rank`` is not an integer.
    ValueError
        For bad data, or a rank outside [0, d].

    Notes
    -----
    One eigendecomposition (of xxᵀ/n when n < d) and O(d²·min(n, d)) more. All ranks share the decomposition
    under ``jax.vmap(lambda rank: ppca(x, rank))(ranks)``. Differentiable in x where the eigenvalues of S differ.

    References
    ----------
    Tipping and Bishop (1999), Probabilistic principal component analysis, equations 7 and 8.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> jm.baselines.ppca(x, 1).weights.shape
    (4, 4)
    """
    x = as_samples(x)
    return _ppca(x, jnp.ones(x.shape[1], x.dtype), as_rank(rank, x.shape[1]))


@full_precision
def correlation_pca(x: ArrayLike, rank: ArrayLike) -> Predictor:
    """Probabilistic PCA of the standardised columns, mapped back: A = C A_corr C⁻¹, C the column scales.

    Parameters
    ----------
    x
        (n, d) samples, not centred here: the scale of a column is its root mean square. A column of zeros
        (a constant one, after centring) is legal: its row and column of A are zero.
    rank
        Number of components, 0 to d; an integer, static or traced.

    Returns
    -------
    Predictor
        Unchanged by a rescaling of the columns, but for the units of its weights. The precision is that of x.

    Raises
    ------
    TypeError
        If ``rank`` is not an integer.
    ValueError
        For bad data, or a rank outside [0, d].

    Notes
    -----
    Cost, limits and derivative are those of ``ppca``, with one exception: where s2 = 0 the precision is the
    projector of the standardised columns, rescaled.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> jm.baselines.correlation_pca(x, 1).weights.shape
    (4, 4)
    """
    x = as_samples(x)
    return _ppca(x, column_scales(x), as_rank(rank, x.shape[1]))


@full_precision
def hetero_pca(
    x: ArrayLike, rank: ArrayLike, *, least_noise: float = 0.005, rtol: float | None = None, max_steps: int = 1000
) -> Predictor:
    """HeteroPCA: the diagonal of S is imputed from a low-rank fit to the rest, then P inverts low rank + diagonal.

    N starts as S without its diagonal; its diagonal is replaced by that of L, the best positive semi-definite
    approximation of N of the given rank, until it stays. The covariance is L + diag(ψ), ψ_k = S_kk - L_kk.

    Parameters
    ----------
    x
        (n, d) samples, not centred here. A column of zeros is legal: its row and column of A are zero.
    rank
        Number of components, 0 to d; an integer, static or traced.
    least_noise
        Lower bound on ψ_k/S_kk, in the iteration too: without it ψ can become negative (Heywood cases).
    rtol
        Largest change of the diagonal in a step, relative to S_kk; None: eps^(5/8).
    max_steps
        Limit on steps; the last iterate comes back with status ``MAX_STEPS``.

    Returns
    -------
    Predictor
        Look at ``converged``: the rate is linear, slow where the gap after the given rank is small.

    Raises
    ------
    TypeError
        If ``rank`` is not an integer.
    ValueError
        For bad data, a rank outside [0, d], or options that are not positive.

    Notes
    -----
    Two d × d eigendecompositions a step, one of the iteration and one extrapolated. The paper approximates N
    by leading singular values: the same where those belong to positive eigenvalues, as for factors that stand
    out; elsewhere that iteration runs away. Differentiable in forward mode only.

    References
    ----------
    Zhang, Cai and Wu (2022), Heteroskedastic PCA: algorithm, optimality, and applications, Annals of Statistics
    50, algorithm 1.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> x = np.random.default_rng(0).normal(size=(50, 5)) + np.random.default_rng(1).normal(size=(50, 1))
    >>> bool(jm.baselines.hetero_pca(x, 1).converged)
    True
    """
    x = as_samples(x)
    return _hetero_pca(x, as_rank(rank, x.shape[1]), *as_options(least_noise, rtol, max_steps, x.dtype))


@full_precision
def factor_analysis(
    x: ArrayLike, rank: ArrayLike, *, least_noise: float = 0.005, rtol: float | None = None, max_steps: int = 1000
) -> Predictor:
    """Factor analysis by maximum likelihood: P is the inverse of WWᵀ + diag(ψ).

    Parameters
    ----------
    x
        (n, d) samples, not centred here. A column of zeros is legal: its row and column of A are zero.
    rank
        Number of factors, 0 to d; an integer, static or traced.
    least_noise
        Lower bound on ψ_k/S_kk: the likelihood has maxima, or no bound, where some ψ_k are 0 (Heywood cases, the
        rule at a high rank or n < d). The default is that of R's ``factanal``.
    rtol
        Largest change of ψ in a step, relative to S_kk; None: eps^(5/8).
    max_steps
        Limit on steps; the last iterate comes back with status ``MAX_STEPS``.

    Returns
    -------
    Predictor
        Unchanged by a rescaling of the columns, but for the units of its weights.

    Raises
    ------
    TypeError
        If ``rank`` is not an integer.
    ValueError
        For bad data, a rank outside [0, d], or options that are not positive.

    Notes
    -----
    Starts from ψ = diag S (correlation PCA), maximises over W exactly given ψ, by one eigendecomposition of the
    whitened samples, and takes the EM step for ψ, under which the likelihood never falls; every second step is
    extrapolated. Differentiable in forward mode only.

    References
    ----------
    Rubin and Thayer (1982), EM algorithms for ML factor analysis; Varadhan and Roland (2008) for extrapolation.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> x = np.random.default_rng(0).normal(size=(50, 5)) + np.random.default_rng(1).normal(size=(50, 1))
    >>> bool(jm.baselines.factor_analysis(x, 1).converged)
    True
    """
    x = as_samples(x)
    return _factor_analysis(x, as_rank(rank, x.shape[1]), *as_options(least_noise, rtol, max_steps, x.dtype))


def as_rank(rank: ArrayLike, d: int) -> Int[Array, ""]:
    """A rank in 0 to d as an integer array; ``TypeError`` or ``ValueError`` for what is none."""
    rank = jnp.asarray(rank)
    if not jnp.issubdtype(rank.dtype, jnp.integer) or rank.ndim:
        raise TypeError(f"rank must be an integer, got shape {rank.shape} and dtype {rank.dtype}; vmap over several")
    if is_concrete(rank) and not 0 <= int(rank) <= d:
        raise ValueError(f"rank must lie between 0 and the number of columns {d}, got {int(rank)}")
    return rank.astype(jnp.int32)


def as_options(least_noise: float, rtol: float | None, max_steps: int, dtype: jnp.dtype) -> tuple[Array, Array, Array]:
    """Least noise share, relative tolerance and most steps of the iterative fits, checked."""
    floor = as_float(least_noise, "least_noise", dtype)
    if floor.ndim or (is_concrete(floor) and not 0 < float(floor) < 1):
        raise ValueError(f"least_noise must be a number between 0 and 1, got {least_noise}")
    tolerance = as_float(float(jnp.finfo(dtype).eps) ** 0.625 if rtol is None else rtol, "rtol", dtype)
    if tolerance.ndim or (is_concrete(tolerance) and not float(tolerance) > 0):
        raise ValueError(f"rtol must be a positive number, got {rtol}")
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    return floor, tolerance, jnp.asarray(max_steps, jnp.int32)


def index(size: int) -> Int[Array, " m"]:
    """0, 1, … in the integer width of ranks."""
    return jnp.arange(size, dtype=jnp.int32)


@jax.jit
def _ppca(x: Array, scale: Array, rank: Array) -> Predictor:
    """PPCA of x/scale in the coordinates of x."""
    n, d = x.shape
    values, axes = principal_axes(x / scale[None, :])
    positive = positive_values(values)
    kept = positive & (index(min(n, d)) < rank)
    inverse = (axes * jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)[None, :]) @ axes.T
    projector = (axes * jnp.where(kept, 0, jnp.ones((), x.dtype))[None, :]) @ axes.T
    if n < d:
        projector = _linalg.add_diagonal(projector - axes @ axes.T, jnp.ones((), x.dtype))
    discarded = jnp.where(positive & ~kept, values, 0).sum()
    noise = discarded / jnp.where(discarded > 0, d - kept.sum(), 1).astype(x.dtype)
    ruled = inverse + projector / jnp.where(noise > 0, noise, 1)
    # With no noise left a row is ruled by the null space where its coordinate meets it, by S⁺ where it does not.
    free = jnp.diagonal(projector) > 100 * d * jnp.finfo(x.dtype).eps
    precision = jnp.where(noise > 0, ruled, jnp.where(free.any(), projector, inverse))
    weights = weights_of(jnp.where(noise > 0, ruled, jnp.where(free[:, None], projector, inverse)))
    return packed(precision / scale[:, None] / scale[None, :], weights * scale[:, None] / scale[None, :])


def _settle(
    step: Callable[[Array], Array], start: Array, low: Array, scale: Array, rtol: Array, max_steps: Array
) -> tuple[Array, Array]:
    """Repeat ``step`` until it moves no entry by more than ``rtol`` of its scale: the last iterate and a status.

    Squared extrapolation (Varadhan and Roland 2008), held in [low, scale] and taken only where it leaves less to
    move than the plain step: never more than twice the work of plain steps, and far less where those creep.
    """

    def left_to_move(value: Array, image: Array) -> Array:
        return (jnp.abs(image - value) / scale).max()

    def moving(state: tuple[Array, Array, Array]) -> Array:
        value, image, steps = state
        return (left_to_move(value, image) > rtol) & (steps < max_steps)

    def advance(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        value, image, steps = state
        following = step(image)
        first, second = image - value, following - image
        bend = second - first
        length = jnp.linalg.norm(first / scale) / jnp.linalg.norm(bend / scale)
        length = jnp.maximum(length, 1)
        leap = jnp.clip(value + 2 * length * first + length**2 * bend, low, scale)
        landing = step(leap)
        better = left_to_move(leap, landing) < left_to_move(image, following)
        return jnp.where(better, leap, image), jnp.where(better, landing, following), steps + 1

    value, image, _ = jax.lax.while_loop(moving, advance, (start, step(start), jnp.zeros((), jnp.int32)))
    return image, jnp.where(left_to_move(value, image) > rtol, MAX_STEPS, CONVERGED)


@jax.jit
def _hetero_pca(x: Array, rank: Array, least_noise: Array, rtol: Array, max_steps: Array) -> Predictor:
    d = x.shape[1]
    x, variances = without_empty(x)
    hollow = _linalg.zero_diagonal(_linalg.gram(x) / x.shape[0])

    def low_rank(diagonal: Array) -> tuple[Array, Array]:
        values, axes = jnp.linalg.eigh(_linalg.add_diagonal(hollow, diagonal))
        return jnp.where(index(d)[::-1] < rank, jnp.maximum(values, 0), 0), axes

    def impute(diagonal: Array) -> Array:
        values, axes = low_rank(diagonal)
        return jnp.minimum(axes**2 @ values, (1 - least_noise) * variances)

    zeros = jnp.zeros(d, x.dtype)
    diagonal, status = _settle(impute, zeros, zeros, variances, rtol, max_steps)
    values, axes = low_rank(diagonal)
    root = jnp.sqrt(jnp.maximum(variances - axes**2 @ values, least_noise * variances))
    whitened = axes / root[:, None]
    inverse = _linalg.inverse(_linalg.add_diagonal((whitened * values[None, :]) @ whitened.T, jnp.ones((), x.dtype)))
    return packed(inverse / root[:, None] / root[None, :], status=status)


@jax.jit
def _factor_analysis(x: Array, rank: Array, least_noise: Array, rtol: Array, max_steps: Array) -> Predictor:
    x, variances = without_empty(x)
    n, d = x.shape
    if n > d:  # d rows with the same S: no step depends on n
        x = jnp.linalg.qr(x, mode="r") * (d / n) ** 0.5

    def loadings(noise: Array) -> tuple[Array, Array]:
        """Directions and excess variances of the factors that are best for this noise, whitened by it."""
        values, axes = principal_axes(x / jnp.sqrt(noise)[None, :])
        return jnp.where(index(values.shape[0]) < rank, jnp.maximum(values - 1, 0), 0), axes

    def improve(noise: Array) -> Array:
        excess, axes = loadings(noise)
        return jnp.maximum(variances - noise * (axes**2 @ excess), least_noise * variances)

    noise, status = _settle(improve, variances, least_noise * variances, variances, rtol, max_steps)
    excess, axes = loadings(noise)
    explained = (axes * (excess / (1 + excess))[None, :]) @ axes.T
    root = jnp.sqrt(noise)
    inverse = _linalg.add_diagonal(-explained, jnp.ones((), x.dtype))
    return packed(inverse / root[:, None] / root[None, :], status=status)
