"""The theory beside each measured quantity."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np

from .. import theory
from ..covariance import Covariance, Spiked
from ..covariance.names import parse_population
from ..masking import LeaveOneOut
from .measure import SPECTRAL
from .plan import Point, scales_of, scheme_of

_ESTIMATORS = {
    "outlier": "masked",
    "overlap": "masked",
    "pca_overlap": "pca",
    "correlation_pca_overlap": "correlation_pca",
}


@lru_cache(maxsize=4)
def population_of(name: str, dimension: int, strength: float) -> Covariance:
    """A population with its spike, nothing random about it fixed."""
    bulk = parse_population(name, dimension)
    if strength == 0:
        return bulk
    strengths = jnp.full(1, strength, bulk.diagonal().dtype)
    if isinstance(bulk, Spiked):
        return Spiked(bulk.bulk, jnp.concatenate([strengths, bulk.strengths]))
    return Spiked(bulk, strengths)


def predict(point: Point, quantities: Iterable[str], samples: float | None = None) -> dict[str, float]:
    """What theory says of the quantities, NaN where it says nothing; in double precision, so call it under x64.

    ``samples`` stands in for those of the point: the theory is smooth in n, and curves are drawn between points.
    """
    n = float(point.samples if samples is None else samples)
    wanted, population = set(quantities), population_of(point.population, point.dimension, point.strength)
    found = dict.fromkeys(quantities, np.nan)
    if wanted & {"train", "test", "gradient_test"}:
        solved = _errors(point, population, n, point.ridge)
        if solved is not None:
            found |= {"train": float(solved.train), "test": float(solved.test), "gradient_test": float(solved.test)}
    if "leave_one_out" in wanted:
        # The fit without a sample has n - 1 of them and keeps the penalty n·ridge.
        solved = _errors(point, population, n - 1, point.ridge * n / (n - 1))
        found |= {"leave_one_out": np.nan if solved is None else float(solved.test)}
    if point.scales == "gaussian":
        for name in wanted & set(_ESTIMATORS):
            found[name] = _spike(point, population, n, name)
        if "edge" in wanted:
            found["edge"] = _edge(point, population, n)
    return {name: found[name] for name in quantities}


def _errors(point: Point, population: Covariance, n: float, ridge: float) -> Any:
    """None where there is no theory: a partition in random eigenvectors, say."""
    try:
        return theory.errors(population, n, ridge, scheme_of(point.scheme, point.dimension), scales_of(point.scales))
    except ValueError:
        return None


def _spike(point: Point, population: Covariance, n: float, name: str) -> float:
    if name in SPECTRAL and not isinstance(scheme_of(point.scheme, point.dimension), LeaveOneOut):
        return np.nan
    assert isinstance(population, Spiked)
    found = theory.outliers(population, n, point.ridge, _ESTIMATORS[name])  # type: ignore[arg-type]
    return float((found.eigenvalue if name == "outlier" else found.overlap)[0])


def _edge(point: Point, population: Covariance, n: float) -> float:
    """The right edge of the spectrum of A, for populations without spikes."""
    leave_one_out = isinstance(scheme_of(point.scheme, point.dimension), LeaveOneOut)
    if isinstance(population, Spiked) or not leave_one_out:
        return np.nan
    known = np.asarray(theory.edges(population, n, point.ridge))
    return float(np.nanmax(known)) if np.isfinite(known).any() else np.nan
