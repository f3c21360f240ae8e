"""The masked objective, from its definition: hide part of each sample, predict it from the rest.

For coordinate k, the error is a mean over samples and over the masks that hide k of
(x_k - A_k·(x∘kept))². ``masked_loss`` is the sum over k of these means plus the penalty tr AΛAᵀ.
Everything else in the package is tested against this module.
"""

import jax
import jax.numpy as jnp

from ._checks import as_float, as_ridge, as_samples, require_finite
from ._linalg import zero_diagonal
from ._product import product
from ._types import Array, ArrayLike, Float, PRNGKeyArray, full_precision
from .masking import Bernoulli, LeaveOneOut, Patterns, Scheme, can_see, check_scheme

_PATTERN_BATCH_ELEMENTS = 2**24  # patterns are mapped in batches that hold this many (sample, coordinate) entries


@full_precision
def masked_loss(weights: ArrayLike, x: ArrayLike, ridge: ArrayLike, scheme: Scheme = LeaveOneOut()) -> Float[Array, ""]:
    """The objective: the sum over coordinates of the mean squared masked error, plus tr AΛAᵀ.

    Parameters
    ----------
    weights
        (d, d) A; row k predicts coordinate k. Entries that a mask hides have no effect on the data term,
        only on the penalty.
    x
        (n, d) samples in rows, taken as they are (not centred).
    ridge
        Penalty Λ: scalar λ or (d,) one for each input coordinate; the data term is divided by n.
    scheme
        What is hidden. For ``Bernoulli`` this is the exact expectation over masks;
        ``sampled_masked_loss`` draws them.

    Raises
    ------
    ValueError
        If shapes disagree, a value is not finite, or a ridge is negative.

    Notes
    -----
    O(n d²), times the number of patterns for ``Patterns``. Differentiable in every argument, hiding rate
    and pattern probabilities included. The gradient for ``LeaveOneOut`` is
    -2·offdiag(S - AS - AΛ) + 2 diag(A)Λ.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> x = np.array([[1.0, 2.0], [2.0, 4.0]])
    >>> float(jm.masked_loss([[0.0, 0.5], [2.0, 0.0]], x, ridge=0.0))
    0.0
    """
    x, weights, ridge = _checked(weights, x, ridge, scheme)
    return _loss(weights, x, ridge, scheme)


@jax.jit
def _loss(weights: Array, x: Array, ridge: Array, scheme: Scheme) -> Array:
    return sample_errors(weights, x, scheme).sum() + penalty(weights, ridge)


@full_precision
def sampled_masked_loss(
    weights: ArrayLike, x: ArrayLike, ridge: ArrayLike, scheme: Scheme, key: PRNGKeyArray
) -> Float[Array, ""]:
    """An unbiased estimate of ``masked_loss`` from one random mask a sample, drawn with ``key``.

    For ``Bernoulli``, the masked inputs are shared by all targets: the other coordinates are hidden
    independently of the target, so each target's error has the right law. For ``Patterns``, a pattern is
    drawn for each sample and errors of its hidden coordinates are divided by their probability of being
    hidden. ``LeaveOneOut`` and ``Partition`` have nothing to draw.

    Examples
    --------
    >>> import jax, numpy as np, jmask as jm
    >>> x = np.ones((4, 3))
    >>> float(jm.sampled_masked_loss(np.zeros((3, 3)), x, 0.1, jm.Bernoulli(0.5), jax.random.key(0)))
    3.0
    """
    x, weights, ridge = _checked(weights, x, ridge, scheme)
    return sampled_errors(weights, x, scheme, key).sum() + penalty(weights, ridge)


def _checked(weights: ArrayLike, x: ArrayLike, ridge: ArrayLike, scheme: Scheme) -> tuple[Array, Array, Array]:
    x = as_samples(x, rows=1)
    d = x.shape[1]
    check_scheme(scheme, d)
    return x, as_weights(weights, d, x.dtype), as_ridge(ridge, d, x.dtype)


def as_weights(weights: ArrayLike, d: int, dtype: jnp.dtype) -> Array:
    """Weights (d, d), finite."""
    weights = as_float(weights, "weights", dtype)
    if weights.shape != (d, d):
        raise ValueError(f"weights must have shape ({d}, {d}) for data with {d} columns, got {weights.shape}")
    require_finite(weights, "weights")
    return weights


def penalty(weights: Array, ridge: Array) -> Array:
    """tr AΛAᵀ."""
    return ((weights**2).sum(0) * ridge).sum()


def sample_errors(weights: Array, x: Array, scheme: Scheme) -> Float[Array, " d"]:
    """(d,) mean squared masked error of every coordinate over the samples x (n, d) and the scheme's masks."""
    if isinstance(scheme, Patterns):
        return _pattern_errors(weights, x, scheme)
    weights = jnp.where(can_see(scheme, x.shape[1]), weights, 0)
    if isinstance(scheme, Bernoulli):
        p = scheme.probability(x.dtype)
        spread = p * (1 - p) * ((x**2).mean(0) @ (weights**2).T)
        return ((x - (1 - p) * (x @ weights.T)) ** 2).mean(0) + spread
    return ((x - x @ weights.T) ** 2).mean(0)


def masked_squares(weights: Array, row: Array, hidden: Array) -> Float[Array, " d"]:
    """(d,) squared error of one sample (d,) under one mask (d,); zero where nothing was hidden."""
    residual = row - weights @ jnp.where(hidden, 0, row)
    return jnp.where(hidden, residual, 0) ** 2


def _pattern_errors(weights: Array, x: Array, scheme: Patterns) -> Float[Array, " d"]:
    over_samples = jax.vmap(masked_squares, (None, 0, None))
    batch = max(1, min(scheme.hidden.shape[0], _PATTERN_BATCH_ELEMENTS // x.size))
    means = jax.lax.map(lambda hidden: over_samples(weights, x, hidden).mean(0), scheme.hidden, batch_size=batch)
    return (scheme.coordinate_weights(x.dtype) * means).sum(0)


def sampled_errors(weights: Array, x: Array, scheme: Scheme, key: PRNGKeyArray) -> Float[Array, " d"]:
    """(d,) unbiased estimate of ``sample_errors`` from one drawn mask a sample."""
    n, d = x.shape
    if isinstance(scheme, Bernoulli):
        hidden = jax.random.bernoulli(key, scheme.probability(x.dtype), (n, d))
        return ((x - jnp.where(hidden, 0, x) @ zero_diagonal(weights).T) ** 2).mean(0)
    if isinstance(scheme, Patterns):
        chances = scheme.probabilities.astype(x.dtype)
        drawn = jax.random.choice(key, scheme.hidden.shape[0], (n,), p=chances / chances.sum())
        squares = jax.vmap(masked_squares, (None, 0, 0))(weights, x, scheme.hidden[drawn])
        return squares.mean(0) * chances.sum() / jnp.where(scheme.hidden, chances[:, None], 0).sum(0)
    return sample_errors(weights, x, scheme)


def moment_errors(weights: Array, moment: Array, scheme: Scheme) -> Float[Array, " d"]:
    """(d,) mean squared masked error of every coordinate for data of second moment ``moment`` (d, d).

    The population risk when ``moment`` is Σ, the training error when it is S.
    """
    d = moment.shape[0]
    if isinstance(scheme, Patterns):
        return _pattern_moment_errors(weights, moment, scheme)
    weights = jnp.where(can_see(scheme, d), weights, 0)
    q = 1 - scheme.probability(moment.dtype) if isinstance(scheme, Bernoulli) else jnp.ones((), moment.dtype)
    residual = jnp.eye(d, dtype=moment.dtype) - q * weights
    errors = ((residual @ moment) * residual).sum(1)
    if isinstance(scheme, Bernoulli):
        errors = errors + q * (1 - q) * (weights**2 @ jnp.diagonal(moment))
    return errors


def _pattern_moment_errors(weights: Array, moment: Array, scheme: Patterns) -> Float[Array, " d"]:
    eye = jnp.eye(moment.shape[0], dtype=moment.dtype)

    def errors(hidden: Array) -> Array:
        residual = eye - jnp.where(hidden[None, :], 0, weights)
        return ((residual @ moment) * residual).sum(1)

    return (scheme.coordinate_weights(moment.dtype) * jax.lax.map(errors, scheme.hidden)).sum(0)


@jax.jit
def loss_and_gradient(
    weights: Array, moment: Array, ridge: Array, scheme: Scheme
) -> tuple[Float[Array, ""], Float[Array, "d d"]]:
    """The objective and its gradient in the free entries, from the second moment S (d, d): one d × d × d product.

    The row of coordinate k is a quadratic A_k H A_kᵀ - 2 A_k·b_k + S_kk, with H = S and b_k = S_k, or
    H = q²S + pq diag(S) and b_k = q S_k for ``Bernoulli``: its value is S_kk - A_k·b_k + A_k·g_k/2, g_k its
    gradient. ``Patterns`` costs two products a pattern.
    """
    if isinstance(scheme, Patterns):

        def loss(a: Array) -> Array:
            return moment_errors(a, moment, scheme).sum() + penalty(a, ridge)

        value, gradient = jax.value_and_grad(loss)(weights)
        return value, jnp.where(can_see(scheme, moment.shape[0]), gradient, 0)
    p = scheme.probability(moment.dtype) if isinstance(scheme, Bernoulli) else jnp.zeros((), moment.dtype)
    q, variances, moved = 1 - p, jnp.diagonal(moment), product(weights, moment)
    curved = q**2 * moved + (p * q * variances + ridge)[None, :] * weights
    gradient = jnp.where(can_see(scheme, moment.shape[0]), 2 * (curved - q * moment), 0)
    value = (variances - q * jnp.diagonal(moved)).sum() + (weights * gradient).sum() / 2
    return value, gradient
