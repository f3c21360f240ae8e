"""The table that ``jmask descent`` prints: where to stop, and what that is worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

from .._types import CONVERGED, MAX_STEPS, STATUS_ADVICE
from .progress import warn
from .report import number, plain_table

if TYPE_CHECKING:
    from .descending import Course, Run


def print_run(console: Console, run: Run, directory: Path) -> None:
    """Best stopping times, errors there and those of the closed form."""
    for line in _heading(run):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print()
    console.print(_stops(run))
    console.print()
    for line in [*_verdict(run), "", f"Written: {directory}"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for course in run.courses:
        lost = course.status[course.status != CONVERGED]
        if lost.size:
            known = f"{lost.size} of {len(course.status)} steps are not predicted"
            coarse = "they vary faster along the spectrum than its nodes can follow"
            why = coarse if int(lost[0]) == MAX_STEPS else STATUS_ADVICE[int(lost[0])]
            warn(f"{course.optimiser.name}: {known}: {why}")


def _heading(run: Run) -> list[str]:
    source, d = run.source, run.source.population.dimension
    lines = [
        f"{source.name}: leave-one-out masking in d = {d} dimensions, n = {run.n} samples, ridge {run.closed.ridge:g}, "
        f"{run.most} steps; mean variance {number(source.variance)}, the error before the first step"
    ]
    if source.x is not None:
        lines.append(
            f"Population: the covariance of all {len(source.x)} rows, taken for Gaussian; "
            f"measured: {run.n} random rows to descend on, the other {len(source.x) - run.n} to test on"
        )
    return lines


def _stops(run: Run) -> RichTable:
    measured = (f"{run.draws} draws",) if run.draws else ()
    table = plain_table("Best stopping time, and test error there", "", "settings", "steps", "test", *measured)
    for course in run.courses:
        table.add_row(course.optimiser.name, course.optimiser.choice, *_stop(run, course))
    for name, closed in (("closed form", run.closed), ("closed form", run.best)):
        setting = f"ridge {closed.ridge:.3g}" + (", the best" if closed is run.best else "")
        table.add_row(name, setting, "", number(closed.test), *([_spread(closed.test_measured)] if run.draws else []))
    return table


def _stop(run: Run, course: Course) -> list[str]:
    """Steps, predicted error, measured error; of what has no theory the least measured one."""
    measured = course.measured
    if course.best is None:
        if measured is None or not np.isfinite(measured.test).all(0).any():
            return ["–", "–", *(["–"] if run.draws else [])]
        least = int(np.nanargmin(measured.test.mean(0)))
        return [str(measured.steps[least]), "–", _spread(measured.test[:, least])]
    shown = [str(course.best), number(course.best_test)]
    if measured is not None:
        shown.append(_spread(measured.test[:, measured.steps == course.best][:, 0]))
    return shown


def _spread(values: np.ndarray) -> str:
    if not np.isfinite(values).all():
        return "–"
    return f"{number(float(values.mean()))} ± {values.std(ddof=1) / np.sqrt(len(values)):.1g}"


def _verdict(run: Run) -> list[str]:
    """What stopping is worth against going on and against the best ridge, predicted and measured."""
    known = [course for course in run.courses if np.isfinite(course.best_test)]
    best = min(known, key=lambda course: course.best_test)
    place = f"{best.optimiser.name} stopped after {best.best} of {run.most} steps"
    lines = [f"Least of the predicted: {place}", *_worth(run, best)]
    for course in known:
        points = course.measured
        if points is not None and np.isfinite(points.test).all():
            gaps = np.abs(course.test[np.isin(course.steps, points.steps)] / points.test.mean(0) - 1)
            gaps = gaps[np.isfinite(gaps)]  # of the steps that are predicted; the best one always is
            lines.append(
                f"{course.optimiser.name}: test error predicted to {np.median(gaps):.2%} in the median, "
                f"{gaps.max():.2%} at most"
            )
    return lines


def _worth(run: Run, best: Course) -> list[str]:
    measured, lines = best.measured, []
    for rival, closed in (("the closed form at the same ridge", run.closed), ("the best ridge", run.best)):
        parts = []
        if np.isfinite(closed.test):
            parts.append(f"{best.best_test / closed.test - 1:+.2%} predicted")
        if measured is not None:
            at = measured.test[:, measured.steps == best.best][:, 0]
            if np.isfinite(at).all() and np.isfinite(closed.test_measured).all():
                parts.append(f"{at.mean() / closed.test_measured.mean() - 1:+.2%} measured")
        if parts:
            lines.append(f"Its test error against {rival}: {', '.join(parts)}")
    return lines
