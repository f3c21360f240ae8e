"""What no method can beat: the best estimate of a delocalised Gaussian direction in unequal independent noise."""

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import as_count, as_float, is_concrete, not_negative
from .._implicit import implicit, newton
from .._types import Array, ArrayLike, Float, Int, Result, full_precision, pytree
from ..covariance import Diagonal
from .units import unit_of


@pytree
class Limit(Result):
    """The information-theoretic limit at a strength, or at each of several.

    Attributes
    ----------
    threshold
        () the strength below which the data holds nothing about the direction.
    overlap
        In the shape of the strength: the largest squared overlap that any estimate reaches; 0 below the threshold.
    status
        In the same shape: ``CONVERGED``, or why the overlap is NaN.
    """

    threshold: Float[Array, ""]
    overlap: Float[Array, "..."]
    status: Int[Array, "..."]


@full_precision
def bayes(bulk: Diagonal, n: ArrayLike, strength: ArrayLike) -> Limit:
    """The best threshold and overlap that any method can have: θ* = √(γ/mean(v²)), v = 1/σ², γ = d/n.

    Beyond θ* the overlap is mean(vs/(1 + vs)), s = θ²q/(γ(1 + θq)), q = mean(v²s/(1 + vs)).

    Parameters
    ----------
    bulk
        ``jmask.covariance.Diagonal``, every variance σ_k² positive.
    n
        Number of samples, real and positive.
    strength
        θ, not negative: a scalar or an array of any shape.

    Returns
    -------
    Limit
        ``.threshold``, ``.overlap`` in the shape of the strength, ``.status``.

    Raises
    ------
    ValueError, TypeError
        For another bulk, a variance of 0, n <= 0 or a negative strength.

    Notes
    -----
    The limit of Bayes-optimal inference when the direction is Gaussian and the noise variances are known (linearised
    state evolution). Correlated noise of known covariance is the same problem in its eigenvectors:
    ``Diagonal(c.eigenvalues())``; masked regression and PCA know no such thing, so other bulks are refused.
    In unit noise the limit is that of PCA, (1 - γ/θ²)/(1 + γ/θ).

    s ↦ s/q(s) is a harmonic mean of affine functions, concave: Newton from 0 climbs to the root. Differentiable in
    n, strength and variances. O(d) a step.

    References
    ----------
    Lesieur, Krzakala and Zdeborová (2017); Zhang and Mondelli (2024) for unequal noise.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> limit = jm.theory.bayes(jm.covariance.Diagonal(np.tile([0.3, 3.0], 50)), 75, [0.4, 0.8])
    >>> round(float(limit.threshold), 5), [round(float(value), 4) for value in limit.overlap]
    (0.48747, [0.0, 0.2442])
    """
    if not isinstance(bulk, Diagonal):
        raise TypeError(
            f"bulk must be a jmask.covariance.Diagonal, got {type(bulk).__name__}: for correlated noise whose "
            "covariance c the observer knows, pass Diagonal(c.eigenvalues())"
        )
    variances = bulk.variances
    if is_concrete(variances) and not (least := np.asarray(variances).min()) > 0:
        raise ValueError(f"bulk must have positive variances, got {least:g}")
    n = as_count(n, dtype=variances.dtype)
    if n.ndim:
        raise ValueError(f"n must be a scalar, got shape {n.shape}: use jax.vmap for a grid")
    strength = as_float(strength, "strength", variances.dtype)
    strength = not_negative(strength, "strength")
    return _bayes(variances, n, strength)


@jax.jit
def _bayes(variances: Array, n: Array, strength: Array) -> Limit:
    unit = unit_of(variances)
    precisions = unit / variances
    gamma = variances.shape[0] / n
    critical = jnp.sqrt(gamma / (precisions**2).mean())

    def one(theta: Array) -> tuple[Array, Array]:
        # The failing comparisons of NaN lead to the branch whose result is NaN.
        below = theta <= critical
        params = (precisions, gamma, jnp.where(below, 2 * critical, theta))
        s, _, status = newton(_excess, jnp.zeros_like(theta), params)
        s = implicit(_excess, s, params)
        return jnp.where(below, 0, (precisions * s / (1 + precisions * s)).mean()), status

    overlap, status = jax.vmap(one)(strength.ravel() / unit)
    return Limit(critical * unit, overlap.reshape(strength.shape), status.reshape(strength.shape))


def _excess(s: Array, params: tuple[Array, Array, Array]) -> Array:
    """(γ/θ²)(s/q(s) + θs) - 1."""
    precisions, gamma, theta = params
    return gamma / theta**2 * (1 / (precisions**2 / (1 + precisions * s)).mean() + theta * s) - 1
