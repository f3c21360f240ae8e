"""Simulation and theory side by side, out of a store."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .plan import Point, Study
from .store import Store

_AXES = ("population", "dimension", "ratio", "ridge", "scheme", "strength", "scales", "precision")


@dataclass(frozen=True)
class Row:
    """One quantity at one point.

    Attributes
    ----------
    point
        Where.
    quantity
        What.
    values
        (s,) of the draws, NaN where a fit failed; ``draws`` are their numbers.
    theory
        The prediction, NaN where there is none.
    reason
        Why draws are missing; empty if none is.
    """

    point: Point
    quantity: str
    draws: tuple[int, ...]
    values: np.ndarray
    theory: float
    reason: str

    @property
    def known(self) -> np.ndarray:
        """The values that are finite."""
        return self.values[np.isfinite(self.values)]

    @property
    def mean(self) -> float:
        """Over the draws; NaN without any."""
        return float(self.known.mean()) if self.known.size else np.nan

    @property
    def standard_error(self) -> float:
        """Of the mean; NaN for fewer than two draws."""
        return float(self.known.std(ddof=1) / np.sqrt(self.known.size)) if self.known.size > 1 else np.nan

    @property
    def z(self) -> float:
        """(mean - theory)/standard error; NaN where it cannot be said, or where theory says 0.

        What is predicted as exactly 0, an overlap below the threshold, is never negative in a sample: its mean lies
        above by nature, by an amount that vanishes with d.
        """
        spread = self.standard_error
        return (self.mean - self.theory) / spread if spread > 0 and self.theory != 0 else np.nan

    @property
    def distance(self) -> float:
        """Root mean square of value - theory: how far one draw is from the theory."""
        return float(np.sqrt(((self.known - self.theory) ** 2).mean())) if self.known.size else np.nan


@dataclass(frozen=True)
class SweepTable:
    """What ``jmask.sweep`` returns: a row for every point and quantity, simulation beside theory.

    Attributes
    ----------
    rows
        In the order of the studies.
    studies
        What they belong to.
    environment
        Of the last run that wrote to the store.
    compile_seconds, run_seconds
        Over all runs.
    """

    rows: tuple[Row, ...]
    studies: tuple[Study, ...]
    environment: dict[str, Any]
    compile_seconds: float
    run_seconds: float

    def of(self, study: Study) -> "SweepTable":
        """The rows of one study."""
        wanted = set(study.points())
        rows = tuple(row for row in self.rows if row.point in wanted and row.quantity in study.measure)
        return SweepTable(rows, (study,), self.environment, self.compile_seconds, self.run_seconds)

    def worst_first(self) -> list[Row]:
        """Rows with a z-score, the largest first, then the others."""
        return sorted(self.rows, key=lambda row: -abs(row.z) if np.isfinite(row.z) else 1.0)

    def to_pandas(self, *, draws: bool = False) -> Any:
        """A data frame: a line for every row, or for every draw.

        Columns are those of the point and ``ratio``, ``quantity``, then ``mean standard_error theory z draws failed``
        or, for draws, ``draw value theory``.
        """
        import pandas

        lines = [line for row in self.rows for line in (_draw_lines(row) if draws else [_line(row)])]
        return pandas.DataFrame(lines)

    def to_xarray(self) -> Any:
        """A dataset on the grid.

        Its dimensions are population, dimension, ratio, ridge, scheme, strength, scales, precision and draw. A
        variable for every quantity, over all dimensions, and one with ``_theory`` behind its name, without ``draw``;
        NaN off the grid. The ratio is the exact n/d; strength 0 is no spike.
        """
        import xarray

        axes = {name: sorted({_place(row.point)[name] for row in self.rows}) for name in _AXES}
        numbers = sorted({draw for row in self.rows for draw in row.draws})
        shape = tuple(len(values) for values in axes.values())
        found: dict[str, Any] = {}
        for row in self.rows:
            measured = found.setdefault(row.quantity, ((*_AXES, "draw"), np.full((*shape, len(numbers)), np.nan)))[1]
            predicted = found.setdefault(f"{row.quantity}_theory", (_AXES, np.full(shape, np.nan)))[1]
            place = tuple(axes[name].index(value) for name, value in _place(row.point).items())
            measured[(*place, np.searchsorted(numbers, row.draws))] = row.values
            predicted[place] = row.theory
        return xarray.Dataset(found, coords={**axes, "draw": numbers}, attrs={"environment": str(self.environment)})

    def to_parquet(self, path: str | Path) -> None:
        """Write every draw as a line of a Parquet file."""
        self.to_pandas(draws=True).to_parquet(path, index=False)


def _place(point: Point) -> dict[str, Any]:
    return {name: getattr(point, name) for name in _AXES}


def _columns(row: Row) -> dict[str, Any]:
    return {**asdict(row.point), "ratio": row.point.ratio, "quantity": row.quantity}


def _line(row: Row) -> dict[str, Any]:
    return {
        **_columns(row),
        "mean": row.mean,
        "standard_error": row.standard_error,
        "theory": row.theory,
        "z": row.z,
        "draws": row.known.size,
        "failed": row.reason,
    }


def _draw_lines(row: Row) -> list[dict[str, Any]]:
    return [
        {**_columns(row), "draw": draw, "value": float(value), "theory": row.theory}
        for draw, value in zip(row.draws, row.values, strict=True)
    ]


def read_table(store: Store, studies: Sequence[Study] | None = None) -> SweepTable:
    """The table of a store.

    Parameters
    ----------
    store
        Open.
    studies
        Whose rows; None: of everything that was run into the store.
    """
    studies = store.studies() if studies is None else studies
    values: dict[tuple[str, str], dict[int, float]] = {}
    for key, draw, quantity, value in store.values():
        values.setdefault((key, quantity), {})[draw] = value
    predicted, reasons = store.theory(), {key: reason for key, _, reason in store.failures()}
    wanted: dict[tuple[Point, str], set[int]] = {}
    for study in studies:
        for point in study.points():
            for quantity in study.measure:
                wanted.setdefault((point, quantity), set()).update(study.draws)
    rows = []
    for (point, quantity), numbers in wanted.items():
        stored = values.get((point.key, quantity), {})
        draws = tuple(draw for draw in sorted(numbers) if draw in stored)
        rows.append(
            Row(
                point,
                quantity,
                draws,
                np.array([stored[draw] for draw in draws], float),
                predicted.get((point.key, quantity), np.nan),
                reasons.get(point.key, "") if len(draws) < len(numbers) else "",
            )
        )
    runs = store.runs()
    return SweepTable(
        tuple(rows),
        tuple(studies),
        runs[-1]["environment"] if runs else {},
        sum(run["compile_seconds"] for run in runs),
        sum(run["run_seconds"] for run in runs),
    )
