"""Theory-driven choices: the best ridge of a population, and the population that explains measured errors."""

import jax
import jax.numpy as jnp
from jax import lax

from .._types import Array, ArrayLike, Float, Int, Result, full_precision, pytree
from ..covariance import Covariance
from ..masking import LeaveOneOut, Patterns, Scheme, check_scheme
from ..scales import Scales
from ..theory.equivalent import checked
from ..theory.risk import _errors
from .intervals import Interval, checked_labels
from .line import Least, differentiable, least
from .minimiser import minimise


@pytree
class PopulationRidge(Result):
    """The ridge, or the ridges, of least predicted test error.

    Attributes
    ----------
    ridge
        A scalar, or (d,) with groups.
    test
        Predicted test error there.
    scalar, scalar_test
        The best single ridge and its test error.
    gradient_norm
        Norm of the gradient in log ridge.
    steps
        Newton steps, or with groups updates of L-BFGS.
    status
        ``CONVERGED``; ``AT_END`` where the best ridge is 0 or infinite; ``NO_SOLUTION`` and others as in ``errors``.
    """

    ridge: Float[Array, "..."]
    test: Float[Array, ""]
    scalar: Float[Array, ""]
    scalar_test: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    steps: Int[Array, ""]
    status: Int[Array, ""]


@full_precision
def population_ridge(
    covariance: Covariance,
    n: ArrayLike,
    scheme: Scheme = LeaveOneOut(),
    scales: Scales | None = None,
    *,
    groups: ArrayLike | None = None,
) -> PopulationRidge:
    """Find the ridge of least predicted test error: the best any choice from n samples can aim at.

    Parameters
    ----------
    covariance
        A population of ``jmask.covariance``.
    n
        Number of samples, real and positive.
    scheme, scales
        As in ``jmask.theory.errors``.
    groups
        (d,) integer labels: one ridge a group, ``numpy.arange(d)`` for one a coordinate. None: a single ridge.

    Returns
    -------
    PopulationRidge
        ``.ridge .test .scalar .scalar_test .gradient_norm .steps .status``.

    Raises
    ------
    ValueError, TypeError
        For what ``jmask.theory.errors`` refuses, and bad labels.

    Notes
    -----
    Scalar: a scan over twelve decades, then Newton in log ridge; differentiable in the population, n and scales by the
    implicit function theorem, the ridge not at an end (NaN). Groups: L-BFGS from the scalar; differentiable likewise.

    Examples
    --------
    >>> import jmask as jm
    >>> best = jm.tune.population_ridge(jm.covariance.ar1(30, 0.9, circulant=True), 40)
    >>> e = [float(jm.theory.errors(jm.covariance.ar1(30, 0.9, circulant=True), 40, r).test) for r in (0.5, 2.0)]
    >>> bool(best.converged), bool(best.test < min(e))
    (True, True)
    """
    covariance, n, _, scales = checked(covariance, n, 0.0, scales)
    check_scheme(scheme, covariance.dimension)
    if isinstance(scheme, Patterns):
        raise ValueError("scheme: there is no theory for Patterns; use LeaveOneOut, Bernoulli or Partition")
    problem = (covariance, n, scheme, scales)
    single = _population_ridge(problem)
    if groups is None:
        return single
    labels = checked_labels(groups, covariance.dimension)
    start = jnp.full(int(labels.max()) + 1, lax.stop_gradient(single.ridge))
    found = minimise(_grouped_error, start, args=(problem, jnp.asarray(labels)), bounds=Interval(0))
    return PopulationRidge(  # type: ignore[call-arg]
        found.argument[jnp.asarray(labels)],
        found.value,
        single.ridge,
        single.test,
        found.gradient_norm,
        found.steps,
        found.status,
    )


def _grouped_error(ridges: Array, problem: tuple, labels: Array) -> Array:
    covariance, n, scheme, scales = problem
    return _errors(covariance, n, ridges[labels], scheme, scales, False).test


def test_at(place: Array, problem: tuple) -> Array:
    """Predicted test error at log ridge."""
    covariance, n, scheme, scales = problem
    return _errors(covariance, n, jnp.exp(place), scheme, scales, False).test


test_at.__test__ = False  # type: ignore[attr-defined]


def least_test(problem: tuple) -> Least:
    """The least predicted test error over log ridge; not differentiable."""
    fixed = lax.stop_gradient(problem)
    return least(lambda place: test_at(place, fixed), jnp.log(fixed[0].diagonal().mean()))


@jax.jit
def _population_ridge(problem: tuple) -> PopulationRidge:
    found = least_test(problem)
    place, value = differentiable(found, test_at, problem)
    ridge = jnp.exp(place)
    return PopulationRidge(ridge, value, ridge, value, jnp.abs(found.slope), found.steps, found.status)  # type: ignore[call-arg]
