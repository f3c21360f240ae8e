"""What ``jmask descent`` writes: the curves as a table, the figure, the summary."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .options import Scale
from .summary import header, write_summary

if TYPE_CHECKING:
    from .descending import Closed, Course, Run

_HEADER = ("optimiser", "steps", "products", "train_predicted", "test_predicted")
_MEASURED = ("train_mean", "train_standard_error", "test_mean", "test_standard_error", "draws")


def summarise(run: Run, scale: Scale, seed: int, command: list[str]) -> dict[str, Any]:
    """Every choice and number of a run but the curves themselves, ready for JSON (NaN becomes null)."""
    source = run.source
    return {
        **header(command),
        "population": {
            "name": source.name,
            "dimension": source.population.dimension,
            "variance": source.variance,
            "rows": None if source.x is None else len(source.x),
        },
        "options": {
            "rows": run.n,
            "ridge": run.closed.ridge,
            "steps": run.most,
            "draws": run.draws,
            "scale": None if source.x is None else scale.value,
            "seed": seed,
        },
        "closed_form": _closed(run.closed),
        "best_ridge": _closed(run.best),
        "optimisers": [_course(course) for course in run.courses],
    }


def _closed(closed: Closed) -> dict[str, Any]:
    return {
        "ridge": closed.ridge,
        "train_predicted": closed.train,
        "test_predicted": closed.test,
        "train_measured": closed.train_measured,
        "test_measured": closed.test_measured,
    }


def _course(course: Course) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": course.optimiser.name,
        "settings": course.optimiser.predicted or course.optimiser.choice,
        "best_steps": course.best,
        "best_test_predicted": course.best_test,
    }
    measured = course.measured
    if measured is not None:
        found["measured"] = {
            "steps": measured.steps,
            "products": measured.products.mean(0),
            "train": measured.train,
            "test": measured.test,
        }
    return found


def write(run: Run, summary: dict[str, Any], directory: Path) -> None:
    """descent.csv, descent.png and summary.json."""
    with (directory / "descent.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*_HEADER, *(_MEASURED if run.draws else ())])
        for course in run.courses:
            writer.writerows(_lines(course))
    _draw_figure(run, directory / "descent.png")
    write_summary(summary, directory)


def _lines(course: Course) -> Iterator[list[str]]:
    """One line a step count, predicted, measured or both."""
    measured = course.measured
    predicted = {int(s): (a, b) for s, a, b in zip(course.steps, course.train, course.test, strict=True)}
    taken = {} if measured is None else {int(step): j for j, step in enumerate(measured.steps)}
    for step in sorted({*taken, *(predicted if course.optimiser.predicted else ())}):
        errors = [_text(value) for value in predicted.get(step, (np.nan, np.nan))]
        if measured is None:
            yield [course.optimiser.name, str(step), str(step), *errors]
        elif step in taken:
            j, draws = taken[step], len(measured.test)
            columns = (measured.train[:, j], measured.test[:, j])
            numbers = [value for c in columns for value in (c.mean(), c.std(ddof=1) / np.sqrt(draws))]
            products = _text(float(measured.products[:, j].mean()))
            yield [course.optimiser.name, str(step), products, *errors, *map(_text, numbers), str(draws)]
        else:
            yield [course.optimiser.name, str(step), str(float(step)), *errors, "", "", "", "", ""]


def _text(value: float) -> str:
    return "" if np.isnan(value) else repr(float(value))


def _draw_figure(run: Run, path: Path) -> None:
    from .. import plot, plot_descent

    lines = [
        plot_descent.Line(
            course.optimiser.name,
            course.steps,
            course.train,
            course.test,
            course.best,
            None if course.measured is None else plot_descent.points(course.measured),
        )
        for course in run.courses
    ]
    where = f"d = {run.source.population.dimension}, n = {run.n}, ridge {run.closed.ridge:g}"
    floors = [
        plot_descent.Floor(f"closed form, ridge {run.closed.ridge:g}", *_floor(run.closed)),
        plot_descent.Floor(f"closed form, best ridge {run.best.ridge:.3g}", *_floor(run.best)),
    ]
    plot.save(plot_descent.training_curves(lines, floors, title=f"{run.source.name}: {where}"), path)


def _floor(closed: Closed) -> tuple[float, float]:
    """Train and test error: predicted, or measured where theory has no answer."""
    pairs = ((closed.train, closed.train_measured), (closed.test, closed.test_measured))
    train, test = (p if np.isfinite(p) or not m.size else float(m.mean()) for p, m in pairs)
    return train, test
