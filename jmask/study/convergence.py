"""How fast simulation and theory come together as the dimension grows."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from .table import Row

_LEAST_SIZES = 3


@dataclass(frozen=True)
class Convergence:
    """Distance of a draw from the theory against d, and the power law through it.

    Attributes
    ----------
    dimensions
        (m,) ascending.
    distances
        (m,) root mean square of value/theory - 1 over draws, one for each dimension; geometric mean over the rows of
        that dimension.
    exponent, standard_error
        Of distance ∝ d^exponent, by least squares on logarithms, an intercept for every series of rows.
    """

    dimensions: np.ndarray
    distances: np.ndarray
    exponent: float
    standard_error: float


def convergence(rows: Iterable[Row], quantity: str) -> Convergence | None:
    """Of the rows of a quantity; None for fewer than three dimensions, or where there is no theory.

    Rows that differ in the dimension alone (the ratio n/d kept) make a series.
    """
    series: dict[tuple, dict[int, float]] = {}
    for row in rows:
        relative = row.distance / abs(row.theory) if row.theory else np.nan
        if row.quantity == quantity and np.isfinite(relative) and relative > 0:
            alike = (replace(row.point, dimension=0, samples=0), round(row.point.ratio, 2))
            series.setdefault(alike, {})[row.point.dimension] = float(relative)
    kept = [line for line in series.values() if len(line) >= _LEAST_SIZES]
    if not kept:
        return None
    sizes = sorted({d for line in kept for d in line})
    x = np.concatenate([_centred(np.log([*line])) for line in kept])
    y = np.concatenate([_centred(np.log([*line.values()])) for line in kept])
    exponent = float(x @ y / (x @ x))
    freedom = len(x) - len(kept) - 1
    spread = np.sqrt(((y - exponent * x) ** 2).sum() / max(freedom, 1) / (x @ x))
    means = np.array([np.exp(np.mean([np.log(line[d]) for line in kept if d in line])) for d in sizes])
    return Convergence(np.array(sizes), means, exponent, float(spread))


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean()
