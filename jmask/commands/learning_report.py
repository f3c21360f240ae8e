"""The tables that ``jmask theory`` prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

from .._types import CONVERGED, STATUS_ADVICE
from .prediction import BEST, Choice, Curves, Simulation
from .progress import warn
from .report import number, plain_table

if TYPE_CHECKING:
    from .learning_curve import Run

_SHOWN = 9
_PEAK = 1.02  # a maximum inside the curve counts as a peak when it stands this far above what precedes it


def label(choice: Choice) -> str:
    """What a curve is called."""
    return "best ridge" if choice == BEST else f"ridge {choice:g}"


def print_run(console: Console, run: Run, directory: Path) -> None:
    """Errors at a few sample sizes, beside fits where there are any, and what stands out."""
    _say(console, _heading(run))
    if run.source.x is not None:
        rows, d = run.source.x.shape
        _say(
            console,
            f"Population: the covariance of all {rows} rows; errors come out about d/rows = {d / rows:.1%} too low",
        )
    console.print()
    if run.simulation is None:
        for name in ("test", "train"):
            console.print(_predictions(run, name))
            console.print()
    else:
        console.print(_comparison(run, run.simulation))
        console.print()
        _say(console, _agreement(run.simulation))
    for line in _peaks(run):
        _say(console, line)
    _warn_of_gaps(run)
    console.print()
    _say(console, f"Written: {directory}")


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _ratio(run: Run, n: float) -> str:
    return f"{n / run.dimension:.3g}"


def _heading(run: Run) -> str:
    law = "Gaussian" if run.source.scales is None else "elliptical"
    return (
        f"{run.source.name}: {law} theory in d = {run.dimension} dimensions; "
        f"mean variance {number(run.source.variance)}, the error of predicting the mean"
    )


def _predictions(run: Run, name: str) -> RichTable:
    curves = run.curves
    errors = getattr(curves, name)
    table = plain_table(f"Predicted {name} error", "n/d", *(label(choice) for choice in curves.choices))
    target = np.geomspace(curves.n[0], curves.n[-1], _SHOWN)
    for i in sorted({int(np.abs(np.log(curves.n / n)).argmin()) for n in target}):
        table.add_row(_ratio(run, curves.n[i]), *(number(value) for value in errors[i]))
    return table


def _comparison(run: Run, simulation: Simulation) -> RichTable:
    """Three digits and no more, so that a terminal of 80 columns holds it."""
    fits = f"{len(simulation.test)} fits"
    table = plain_table(
        "Predicted errors beside fits to samples", "n/d", "ridge", "test", fits, "z", "train", fits, "z"
    )
    curves = simulation.predicted
    for i, n in enumerate(curves.n):
        for j, choice in enumerate(curves.choices):
            cells = [cell for name in ("test", "train") for cell in _cells(simulation, name, i, j)]
            ridge = f"best {curves.ridge[i, j]:.2g}" if choice == BEST else f"{choice:g}"
            table.add_row(_ratio(run, n) if j == 0 else "", ridge, *cells)
    return table


def _cells(simulation: Simulation, name: str, i: int, j: int) -> list[str]:
    theory, mean = getattr(simulation.predicted, name)[i, j], simulation.mean(name)[i, j]
    error, z = simulation.standard_error(name)[i, j], simulation.z(name)[i, j]
    shown = f"{theory:.3g}" if np.isfinite(theory) else "–"
    return [shown, f"{mean:.3g}±{error:.1g}", f"{z:+.1f}" if np.isfinite(z) else "–"]


def _agreement(simulation: Simulation) -> str:
    """How far theory and fits are apart; train error may vanish, so both are measured by the test error."""
    theory, parts = simulation.predicted.test, []
    for name in ("test", "train"):
        gap = np.abs(simulation.mean(name) - getattr(simulation.predicted, name)) / theory
        gap = gap[np.isfinite(gap)]
        parts.append(f"{name} {np.median(gap):.2%} in the median, {gap.max():.2%} at most" if gap.size else "")
    return (
        f"Distance of fits from theory, in shares of the test error: {'; '.join(parts)}. "
        "z is in standard errors; the theory leaves out corrections of relative order 1/d"
    )


def _peaks(run: Run) -> list[str]:
    """One line for every curve that rises with more data: where, to what, and what the best ridge has there."""
    curves, lines = run.curves, []
    best = curves.choices.index(BEST) if BEST in curves.choices else None
    for j, choice in enumerate(curves.choices):
        found = _peak(curves, j)
        if found is None:
            continue
        beside = (
            f", {curves.test[found, j] / curves.test[found, best]:.3g} times the best ridge's"
            if best is not None
            else ""
        )
        lines.append(
            f"{label(choice).capitalize()}: test error rises to {number(curves.test[found, j])} "
            f"at n/d = {_ratio(run, curves.n[found])}{beside}"
        )
    return lines


def _peak(curves: Curves, j: int) -> int | None:
    test = np.where(np.isfinite(curves.test[:, j]), curves.test[:, j], -np.inf)
    lowest = np.minimum.accumulate(np.where(np.isfinite(test), test, np.inf))
    rise = test / lowest
    top = int(np.argmax(rise))
    return top if rise[top] > _PEAK else None


def _warn_of_gaps(run: Run) -> None:
    lost = run.curves.status[run.curves.status != CONVERGED]
    if lost.size:
        warn(f"{lost.size} of {run.curves.status.size} points are left out: {STATUS_ADVICE[int(lost[0])]}")
