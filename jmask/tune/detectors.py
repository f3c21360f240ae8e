"""Ridges that find weak directions: the least detection threshold, or the largest overlap, beside the limit."""

import jax.numpy as jnp
import numpy as np

from .._checks import as_count
from .._types import Array, ArrayLike, Float, Int, Result, full_precision, pytree
from ..covariance import Covariance, Diagonal, Spiked
from ..theory.equivalent import as_population
from ..theory.limit import bayes
from ..theory.outlier_equation import POWERS, Vector
from ..theory.pencil import RIGHT
from ..theory.spikes import _outliers, threshold
from .intervals import Interval, checked_labels
from .minimiser import Minimum, minimise


@pytree
class TunedDetector(Result):
    """Ridges tuned to detect a delocalised direction.

    Attributes
    ----------
    ridge
        (d,) the ridges.
    threshold
        Strength at which a direction leaves the bulk with these ridges.
    overlap
        Squared overlap of the eigenvector with the direction at the strength asked for; NaN if none was.
    limit_threshold, limit_overlap
        What no method can beat (``jmask.theory.bayes``); NaN unless the bulk is ``Diagonal``.
    gradient_norm
        Norm of the gradient in log ridge.
    steps
        Updates made.
    trace
        Threshold, or minus the overlap, at the start and after every update.
    status
        As in ``Minimum``.
    """

    ridge: Float[Array, " d"]
    threshold: Float[Array, ""]
    overlap: Float[Array, ""]
    limit_threshold: Float[Array, ""]
    limit_overlap: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    steps: Int[Array, ""]
    trace: Float[Array, " steps"]
    status: Int[Array, ""]


@full_precision
def detection_ridge(
    bulk: Covariance,
    n: ArrayLike,
    strength: float | None = None,
    *,
    groups: ArrayLike | None = None,
    vector: Vector = "right",
) -> TunedDetector:
    """Find the ridges with which masked regression sees the weakest delocalised direction, or sees one best.

    Parameters
    ----------
    bulk
        Population of the noise, ``jmask.covariance.Diagonal`` as a rule.
    n
        Number of samples, real and positive.
    strength
        None: the threshold is made smallest. A known positive number: the overlap at this strength is made largest,
        from the ridges of the smallest threshold.
    groups
        (d,) integer labels: one ridge a group. None: one a coordinate; ``numpy.zeros(d, int)`` for a single one.
    vector
        Which eigenvector's overlap, as in ``jmask.theory.outliers``.

    Returns
    -------
    TunedDetector
        ``.ridge .threshold .overlap``, the limits, ``.gradient_norm .steps .trace .status``.

    Raises
    ------
    ValueError, TypeError
        For what ``jmask.theory.threshold`` refuses, bad labels, or a strength that is not a known positive number.

    Notes
    -----
    L-BFGS on implicit derivatives, from a single ridge of one mean variance. In unequal noise one ridge a coordinate
    reaches the limit; ridges may all be scaled without changing much, so expect their ratios, not their size, to be
    determined. Below the smallest threshold there is no overlap to
    improve: the status is then ``FLAT``.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> noise = jm.covariance.Diagonal(np.tile([0.3, 3.0], 20))
    >>> found = jm.tune.detection_ridge(noise, 30)
    >>> bool(found.threshold < 1.01 * found.limit_threshold)
    True
    """
    bulk, n = as_population(bulk, "bulk"), as_count(n, dtype=bulk.diagonal().dtype)
    labels = checked_labels(np.arange(bulk.dimension) if groups is None else groups, bulk.dimension)
    if vector not in POWERS:
        raise ValueError(f"vector must be one of {', '.join(POWERS)}, got {vector!r}")
    if strength is not None and not (isinstance(strength, float | int) and 0 < strength < np.inf):
        raise ValueError(f"strength must be a known positive number or None, got {strength!r}")
    start = jnp.full(int(labels.max()) + 1, bulk.diagonal().mean())
    problem = (bulk, n, jnp.asarray(labels))
    found = minimise(_threshold, start, args=problem, bounds=Interval(0))
    overlap = jnp.full((), jnp.nan, n.dtype)
    if strength is not None:
        at = (jnp.asarray(strength, n.dtype), jnp.asarray(POWERS[vector], n.dtype))
        found = minimise(_minus_overlap, found.argument, args=(*problem, *at), bounds=Interval(0))
        overlap = -found.value
    return _packed(found, problem, overlap, strength)


def _packed(found: Minimum, problem: tuple, overlap: Array, strength: float | None) -> TunedDetector:
    bulk, n, labels = problem
    ridge = found.argument[labels]
    unknown = jnp.full((), jnp.nan, n.dtype)
    limit = bayes(bulk, n, 0.0 if strength is None else strength) if isinstance(bulk, Diagonal) else None
    return TunedDetector(  # type: ignore[call-arg]
        ridge,
        found.value if strength is None else threshold(bulk, n, ridge),
        overlap,
        unknown if limit is None else limit.threshold,
        unknown if limit is None or strength is None else limit.overlap,
        found.gradient_norm,
        found.steps,
        found.trace,
        found.status,
    )


def _threshold(ridges: Array, bulk: Covariance, n: Array, labels: Array) -> Array:
    return threshold(bulk, n, ridges[labels])


def _minus_overlap(ridges: Array, bulk: Covariance, n: Array, labels: Array, strength: Array, power: Array) -> Array:
    # What ``outliers`` does once the strength is known to be positive, and the vector to be a power of D.
    spiked = Spiked(bulk, strength[None])
    return -_outliers(spiked, n, ridges[labels], power, "masked", (RIGHT,), False).overlap[0]
