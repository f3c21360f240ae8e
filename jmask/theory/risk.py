"""Train and test error of the fits, from the deterministic equivalent."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import is_concrete
from .._types import Array, ArrayLike, Float, Int, Result, full_precision, pytree
from ..covariance import Covariance
from ..covariance.base import unchecked_dense
from ..masking import Bernoulli, LeaveOneOut, Partition, Patterns, Scheme, check_scheme
from ..scales import Scales
from .equivalent import FixedPoint, checked, degrees_of_freedom, may_vanish, resolvent_at, solve


@pytree
class Errors(Result):
    """Predicted errors of a masked fit; NaN unless converged.

    Attributes
    ----------
    train, test
        Mean over coordinates of the masked squared error, on the training samples and on new ones.
    train_per_coordinate, test_per_coordinate
        (d,) the same for every coordinate.
    delta
        δ of the penalty actually used (Λ_q for ``Bernoulli``); (g,), one a group in the order of the labels, for
        ``Partition``, as those that follow.
    effective_ridge
        Λ/c(δ): κ for a scalar ridge, (d,) for a vector ((g, d) for ``Partition``, NaN for
        the hidden group).
    df1, df2
        tr Σ(Σ + T)⁻¹ and tr [Σ(Σ + T)⁻¹]², T the effective ridge; traces, not divided by d.
    residual
        Relative residual of the fixed point at the last iterate.
    status
        As in ``fixed_point``.
    """

    train: Float[Array, ""]
    test: Float[Array, ""]
    train_per_coordinate: Float[Array, " d"]
    test_per_coordinate: Float[Array, " d"]
    delta: Float[Array, "..."]
    effective_ridge: Float[Array, "..."]
    df1: Float[Array, "..."]
    df2: Float[Array, "..."]
    residual: Float[Array, "..."]
    status: Int[Array, "..."]


@full_precision
def errors(
    covariance: Covariance,
    n: ArrayLike,
    ridge: ArrayLike,
    scheme: Scheme = LeaveOneOut(),
    scales: Scales | None = None,
) -> Errors:
    """Predict the train and test error of ``fit`` at n samples, n and d large together.

    Parameters
    ----------
    covariance
        A population of ``jmask.covariance``, mean zero.
    n
        Number of samples, real and positive.
    ridge
        Penalty, scalar or (d,), not negative; 0 is the limit 0⁺.
    scheme
        ``LeaveOneOut``, ``Bernoulli`` or ``Partition``: for training and testing.
    scales
        Law of the squared scale of a sample, for elliptical data; None is Gaussian.

    Returns
    -------
    Errors
        ``.train .test`` and per coordinate, ``.delta .effective_ridge .df1 .df2``, ``.status``.

    Raises
    ------
    ValueError, TypeError
        For n <= 0, a negative ridge, shapes that disagree, ``Patterns`` (no theory), or an ``Isotropic`` population
        with a ridge per coordinate or ``Partition``, which need its eigenvectors (``realise(key)``).

    Notes
    -----
    Errors of relative order 1/d (``Bernoulli`` with ridge 0, ``Partition``: about 1% at d = 200). Where nothing solves
    the equations at ridge 0 (n = d, or a singular population and n above its rank: take a small ridge) the result is
    NaN with status ``NO_SOLUTION``. Works under jit and vmap over
    any argument; differentiable to any order in the ridge, hiding rate, n, population and scales. Cost: O(d) for
    ``Diagonal`` and ``Isotropic``, O(d log d) for ``Circulant``, one eigendecomposition for ``Dense`` (a ridge per
    coordinate: one inverse a Newton step), the same for each group of a ``Partition``.

    References
    ----------
    arXiv 2601.23208; deterministic equivalents of first and second order as in Hachem, Loubaton and Najim (2007).

    Examples
    --------
    >>> import jmask as jm
    >>> e = jm.theory.errors(jm.covariance.ar1(20, 0.9, circulant=True), n=40, ridge=0.1)
    >>> bool(e.train < e.test < 1.0)
    True
    """
    covariance, n, ridge, scales = checked(covariance, n, ridge, scales)
    check_scheme(scheme, covariance.dimension)
    if isinstance(scheme, Patterns):
        raise ValueError("scheme: there is no theory for Patterns; use LeaveOneOut, Bernoulli or Partition")
    if isinstance(scheme, Bernoulli) and is_concrete(scheme.hide_rate) and float(np.asarray(scheme.hide_rate)) == 0:
        scheme = LeaveOneOut()
    return _errors(covariance, n, ridge, scheme, scales, may_vanish(ridge))


@partial(jax.jit, static_argnames=("vanishing",))
def _errors(
    covariance: Covariance, n: Array, ridge: Array, scheme: Scheme, scales: Scales | None, vanishing: bool
) -> Errors:
    if isinstance(scheme, Partition):
        return _partition_errors(covariance, n, ridge, scheme, scales, vanishing)
    if isinstance(scheme, Bernoulli):
        return _bernoulli_errors(covariance, n, ridge, scheme, scales)
    point = solve(covariance, n, ridge, scales, vanishing)
    resolvent = resolvent_at(covariance, point.effective_ridge)
    df1, df2 = degrees_of_freedom(covariance, point.effective_ridge)
    bias = resolvent.bias()
    test = 1 / (1 - point.ratio * df2 / n)
    # A training sample of scale τ sees its left-out residual, in mean square τ² test, over (1 + τ²δ)².
    train = point.train_share * test
    means = (train * bias.mean(), test * bias.mean())  # not of the vectors: under vmap they need not exist
    return _collected((*means, train * bias, test * bias), point, df1, df2)


def _collected(errors: tuple[Array, Array, Array, Array], point: FixedPoint, df1: Array, df2: Array) -> Errors:
    """Errors in the order of the attributes, beside the solution they come from."""
    return Errors(*errors, point.delta, point.effective_ridge, df1, df2, point.residual, point.status)  # type: ignore[call-arg]


def _bernoulli_errors(
    covariance: Covariance, n: Array, ridge: Array, scheme: Bernoulli, scales: Scales | None
) -> Errors:
    """The penalty is Λ_q = (p/q) diag Σ + Λ/q², and inputs zeroed at random add (p/q) diag Σ to the risk."""
    p = scheme.probability(n.dtype)
    q, variances = 1 - p, covariance.diagonal()
    scalar = covariance.constant_diagonal and not ridge.ndim
    noise = p / q * (variances[0] if scalar else variances)
    point = solve(covariance, n, noise + ridge / q**2, scales, False)
    resolvent = resolvent_at(covariance, point.effective_ridge)
    df1, df2 = degrees_of_freedom(covariance, point.effective_ridge)
    square = resolvent.covariance_square()
    gain = point.ratio / n / (1 - point.ratio * df2 / n)  # of the second-order equivalent, in units of R
    diagonal, spread, added = resolvent.diagonal, resolvent.square(noise), p / q * variances
    risk = square * (1 + gain * (df2 + (added * square).sum())) + spread
    fitted = square * (point.shrinkage - gain * (ridge / q**2 * square).sum()) + spread
    train, test = fitted / diagonal**2 - added, risk / diagonal**2 - added
    return _collected((train.mean(), test.mean(), train, test), point, df1, df2)


def _partition_errors(
    covariance: Covariance, n: Array, ridge: Array, scheme: Partition, scales: Scales | None, vanishing: bool
) -> Errors:
    """Each group B is regressed on the rest O, with the fixed point of Σ_OO: Σ_BO(Σ_OO + T_O)⁻¹."""
    matrix, d = covariance.matrix(), covariance.dimension

    def group_errors(index: tuple[Array, Array]) -> tuple[Array, FixedPoint, Array, Array]:
        group, rest = index
        inner = unchecked_dense(matrix[rest[:, None], rest[None, :]])
        point = solve(inner, n, ridge[rest] if ridge.ndim else ridge, scales, vanishing)
        df1, df2 = degrees_of_freedom(inner, point.effective_ridge)
        cross = matrix[rest[:, None], group[None, :]]
        weights = resolvent_at(inner, point.effective_ridge).apply(cross)
        risk = jnp.diagonal(matrix)[group] + (weights * (inner.values @ weights - 2 * cross)).sum(0)
        full = (
            jnp.full(d, jnp.nan, n.dtype).at[rest].set(point.effective_ridge) if ridge.ndim else point.effective_ridge
        )
        return risk / (1 - point.ratio * df2 / n), dataclasses.replace(point, effective_ridge=full), df1, df2

    test, train = jnp.zeros(d, n.dtype), jnp.zeros(d, n.dtype)
    parts: list[tuple[FixedPoint, Array, Array]] = []
    for groups in _batches(scheme.members_by_size(), d * d * n.dtype.itemsize):
        rest = np.stack([np.setdiff1d(np.arange(d), group) for group in groups])
        risk, point, df1, df2 = jax.vmap(group_errors)((jnp.asarray(groups), jnp.asarray(rest)))
        test = test.at[groups].set(risk)
        train = train.at[groups].set(point.train_share[:, None] * risk)
        parts.append((point, df1, df2))
    solved = [group[0] for groups in scheme.members_by_size() for group in groups]
    order = np.array([solved.index(group[0]) for group in scheme.members()])
    point, df1, df2 = jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[order], *parts)
    return _collected((train.mean(), test.mean(), train, test), point, df1, df2)


def _batches(groups: list[np.ndarray], size: int) -> list[np.ndarray]:
    """Groups of one size in batches of at most 1 GiB a matrix, for vmap.

    Not for ``lax.map``: inside a scan, JAX differentiates the body of a ``custom_jvp`` function instead of its rule
    once reverse mode is differentiated again, and second derivatives come out wrong.
    """
    most = max(1, 2**30 // size)
    return [same[i : i + most] for same in groups for i in range(0, len(same), most)]
