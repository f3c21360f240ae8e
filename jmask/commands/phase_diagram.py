"""``jmask phase``: where a direction can be found and how well, by masked regression, by PCA, and at best."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from .._checks import require_memory
from ..covariance import Covariance, Diagonal, Isotropic, Spiked
from ..covariance.names import parse_population
from .options import check_directory, output_directory
from .progress import status, warn
from .report import number, plain_table, terminal
from .summary import header, write_summary
from .transition import Diagram, Measured, detecting_scale, diagram, measure, thresholds

_DIMENSION, _DENSE_DIMENSION = 200, 100
_POINTS, _DENSE_POINTS = 40, 16  # along either axis
_RATIOS = (0.1, 10.0)
_RIDGE_SHARE = 0.1  # default ridge, in units of the mean variance
_BELOW, _ABOVE = 0.5, 2.5  # default strengths, from the least threshold to the largest
_SHOWN = 7
_WORKING_MATRICES = 8


@dataclass(frozen=True)
class Run:
    """A diagram of a named population, along n/d or along the ridge, and what samples gave."""

    name: str
    bulk: Covariance
    along_ridge: bool
    diagram: Diagram
    measured: Measured | None

    @property
    def axis(self) -> np.ndarray:
        """(m,) what stands on the horizontal axis."""
        return self.diagram.ridge if self.along_ridge else self.diagram.n / self.bulk.dimension

    @property
    def axis_name(self) -> str:
        return "ridge" if self.along_ridge else "n/d"


def run_phase(
    population: str,
    *,
    dimension: int | None,
    ratio: str | None,
    ridge: str | None,
    strength: str | None,
    points: int | None,
    simulations: int,
    seed: int,
    out: Path | None,
    command: list[str],
) -> None:
    """What ``jmask phase`` does; see its help."""
    if simulations < 0 or simulations == 1:
        raise ValueError(f"--simulate must be 0, or at least 2 seeds for an error bar, got {simulations}")
    bulk = _noise(population, dimension)
    if points is None:
        points = _POINTS if isinstance(bulk, Diagonal) or bulk.constant_diagonal else _DENSE_POINTS
    n, ridges, detecting, along_ridge = _axis(bulk, ratio, ridge, points)
    stem = re.sub(r"[^\w.+-]+", "-", population)
    directory = Path(f"jmask-phase-{stem}") if out is None else out
    check_directory(directory)
    with status("solving for the outliers"):
        strengths = _strengths(strength, bulk, n, ridges, detecting, points)
        found = diagram(bulk, n, ridges, detecting, strengths)
    measured = measure(bulk, found, detecting, simulations, seed) if simulations else None
    run = Run(population, bulk, along_ridge, found, measured)
    with output_directory(directory) as temporary:
        _write(run, seed, command, temporary)
    _print(terminal(), run, directory)


# ------------------------------------------------------------------------------------------------- arguments
def _noise(text: str, dimension: int | None) -> Covariance:
    if dimension is not None:
        require_memory(_WORKING_MATRICES * dimension**2 * 8, f"--dimension {dimension}")
    bulk = parse_population(text, _DIMENSION if dimension is None else dimension)
    if dimension is None and not isinstance(bulk, Diagonal | Spiked) and not bulk.constant_diagonal:
        bulk = parse_population(text, _DENSE_DIMENSION)
    if isinstance(bulk, Spiked):
        raise ValueError(f"{text!r} has spikes of its own: name the noise alone, such as isotropic")
    if isinstance(bulk, Isotropic) and np.ptp(bulk.eigenvalues()) == 0:
        return Diagonal(bulk.eigenvalues())  # whatever its eigenvectors
    return bulk


def parse_span(text: str, option: str) -> tuple[float, float]:
    """A number, as both ends, or LOW..HIGH.

    Examples
    --------
    >>> from jmask.commands.phase_diagram import parse_span
    >>> parse_span("0.1..10", "--ratio"), parse_span("2", "--ratio")
    ((0.1, 10.0), (2.0, 2.0))
    """
    parts = text.split("..")
    try:
        low, high = (float(part) for part in (parts * 2 if len(parts) == 1 else parts))
    except ValueError:
        raise ValueError(f"{option} must be a number or LOW..HIGH, such as 0.1..10, got {text!r}") from None
    if not (0 <= low <= high < np.inf) or (len(parts) == 2 and not 0 < low < high):
        raise ValueError(f"{option} must be finite and not negative, and LOW..HIGH have 0 < LOW < HIGH, got {text!r}")
    return low, high


def _axis(
    bulk: Covariance, ratio: str | None, ridge: str | None, points: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """n, ridge and scale of the detecting ridges along the horizontal axis, and whether that is the ridge."""
    mean = float(np.asarray(bulk.diagonal()).mean())
    ridges = (_RIDGE_SHARE * mean,) * 2 if ridge is None else parse_span(ridge, "--ridge")
    along_ridge = ridges[0] < ridges[1]
    ratios = ((1.0, 1.0) if along_ridge else _RATIOS) if ratio is None else parse_span(ratio, "--ratio")
    if ratios[0] == 0:
        raise ValueError("--ratio must be positive, got 0")
    if along_ridge == (ratios[0] < ratios[1]):
        given = "both are ranges" if along_ridge else "neither is one"
        raise ValueError(f"one of --ratio and --ridge must be a range LOW..HIGH, and {given}")
    n, grid = (
        np.geomspace(*ends, points) if ends[0] < ends[1] else np.full(points, ends[0]) for ends in (ratios, ridges)
    )
    detecting = grid if along_ridge else np.full(points, detecting_scale(bulk))
    return n * bulk.dimension, grid, detecting, along_ridge


def _strengths(
    text: str | None, bulk: Covariance, n: np.ndarray, ridge: np.ndarray, detecting: np.ndarray, points: int
) -> np.ndarray:
    """Evenly spaced in their logarithm; by default from below the least threshold to above the largest."""
    if text is not None:
        low, high = parse_span(text, "--strength")
        if not low < high:
            raise ValueError(f"--strength must be LOW..HIGH, got {text!r}")
        return np.geomspace(low, high, points)
    ends = slice(None, None, len(n) - 1)
    known = thresholds(bulk, n[ends], ridge[ends], detecting[ends])
    known = known[np.isfinite(known)]
    if not known.size:
        raise ValueError("no threshold has a solution: use a positive --ridge, or give --strength LOW..HIGH")
    return np.geomspace(_BELOW * known.min(), _ABOVE * known.max(), points)


# ------------------------------------------------------------------------------------------------- files
def _write(run: Run, seed: int, command: list[str], directory: Path) -> None:
    """phase.png, phase.npz, phase.csv, simulation.csv where there is one, and summary.json."""
    from .. import plot, plot_phase

    found, measured = run.diagram, run.measured
    np.savez(directory / "phase.npz", **_arrays(run))  # type: ignore[arg-type]
    _write_csv(run, directory / "phase.csv")
    if measured is not None:
        _write_measured(run, measured, directory / "simulation.csv")
    points = None if measured is None else (run.axis[measured.columns], found.strengths[measured.rows], measured.mean())
    figure = plot_phase.phase_diagram(
        run.axis,
        found.strengths,
        found.overlap,
        found.threshold,
        [method.label for method in found.methods],
        limit=found.limit_threshold,
        points=points,
        axis_label="ridge λ" if run.along_ridge else "samples per dimension, n/d",
        title=_title(run),
    )
    plot.save(figure, directory / "phase.png")
    write_summary(_summarise(run, seed, command), directory)


def _title(run: Run) -> str:
    d, found = run.bulk.dimension, run.diagram
    fixed = f"n/d = {found.n[0] / d:.3g}" if run.along_ridge else f"ridge {found.ridge[0]:.3g}"
    return f"{run.name}, d = {d}, {fixed}"


def _arrays(run: Run) -> dict[str, np.ndarray]:
    found = run.diagram
    arrays = {"n": found.n, "n_over_d": found.n / run.bulk.dimension, "ridge": found.ridge, "strength": found.strengths}
    for i, method in enumerate(found.methods):
        arrays |= {f"overlap_{method.key}": found.overlap[i], f"threshold_{method.key}": found.threshold[i]}
    if found.limit_threshold is not None and found.limit_overlap is not None:
        arrays |= {"overlap_limit": found.limit_overlap, "threshold_limit": found.limit_threshold}
    return arrays


def _write_csv(run: Run, path: Path) -> None:
    """One line a point: where, and the overlap and threshold of every method and of the limit."""
    arrays = _arrays(run)
    overlaps = {name: values for name, values in arrays.items() if name.startswith("overlap_")}
    critical = {name: values for name, values in arrays.items() if name.startswith("threshold_")}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["n_over_d", "n", "ridge", "strength", *overlaps, *critical])
        for i, j in np.ndindex(len(run.diagram.n), len(run.diagram.strengths)):
            place = [arrays[name][i] for name in ("n_over_d", "n", "ridge")] + [arrays["strength"][j]]
            numbers = [*place, *(v[i, j] for v in overlaps.values()), *(v[i] for v in critical.values())]
            writer.writerow(["" if np.isnan(value) else repr(float(value)) for value in numbers])


def _write_measured(run: Run, measured: Measured, path: Path) -> None:
    """One line a method and place: the predicted overlap, and mean and standard error of those of samples."""
    found, mean, error = run.diagram, measured.mean(), measured.standard_error()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "n_over_d", "ridge", "strength", "predicted", "mean", "standard_error", "seeds"])
        for q, a, b in np.ndindex(mean.shape):
            i, j = measured.columns[a], measured.rows[b]
            place = (found.n[i] / run.bulk.dimension, found.ridge[i], found.strengths[j])
            numbers = (*place, found.overlap[q, i, j], mean[q, a, b], error[q, a, b])
            shown = ["" if np.isnan(value) else repr(float(value)) for value in numbers]
            writer.writerow([found.methods[q].key, *shown, measured.overlap.shape[1]])


def _summarise(run: Run, seed: int, command: list[str]) -> dict[str, Any]:
    found = run.diagram
    summary = {
        **header(command),
        "population": {"name": run.name, "dimension": run.bulk.dimension},
        "options": {"axis": run.axis_name, "seed": seed},
        "n_over_d": found.n / run.bulk.dimension,
        "ridge": found.ridge,
        "strength": [found.strengths[0], found.strengths[-1]],
        "threshold": {method.key: found.threshold[i] for i, method in enumerate(found.methods)}
        | ({} if found.limit_threshold is None else {"limit": found.limit_threshold}),
    }
    if run.measured is not None:
        gaps = _gaps(found, run.measured)
        summary["simulation"] = {
            "seeds": run.measured.overlap.shape[1],
            "median_distance": {m.key: float(np.nanmedian(gap)) for m, gap in zip(found.methods, gaps, strict=True)},
        }
    return summary


def _gaps(found: Diagram, measured: Measured) -> np.ndarray:
    """(q, a·b) distances of mean overlaps from the prediction."""
    predicted = found.overlap[:, measured.columns[:, None], measured.rows[None, :]]
    return np.asarray(np.abs(measured.mean() - predicted).reshape(len(found.methods), -1))


# ------------------------------------------------------------------------------------------------- the terminal
def _print(console: Console, run: Run, directory: Path) -> None:
    found, measured = run.diagram, run.measured
    names = [method.label for method in found.methods]
    limits = [] if found.limit_threshold is None else [("at best", found.limit_threshold)]
    critical = [*zip(names, found.threshold, strict=True), *limits]
    console.print(f"{_title(run)}: noise, and one direction spread over it", markup=False, highlight=False)
    console.print()
    table = plain_table("Strength beyond which the direction is found", run.axis_name, *(name for name, _ in critical))
    for i in np.unique(np.linspace(0, len(run.axis) - 1, _SHOWN).round().astype(int)):
        table.add_row(f"{run.axis[i]:.3g}", *(number(values[i]) for _, values in critical))
    console.print(table)
    if measured is not None:
        gaps = _gaps(found, measured)
        far = "; ".join(
            f"{name} {np.nanmedian(gap):.3f} and {np.nanmax(gap):.3f}"
            for name, gap in zip(names, gaps, strict=True)
            if np.isfinite(gap).any()
        )
        console.print()
        line = f"Distance of {measured.overlap.shape[1]} fits' overlap from theory, median and largest: {far}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    lost = int(np.isnan(found.threshold).any(0).sum())
    if lost:
        warn(f"no solution at {lost} of {len(found.n)} columns, left blank: a ridge of 0 needs n above d")
    console.print()
    console.print(f"Written: {directory}", markup=False, highlight=False, soft_wrap=True)
