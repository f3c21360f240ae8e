"""What ``jmask theory`` writes: the curves as a table, the figure, the summary."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._types import CONVERGED
from .learning_report import label
from .options import Scale
from .prediction import BEST, Curves
from .summary import header, write_summary

if TYPE_CHECKING:
    from .learning_curve import Run


def summarise(run: Run, scale: Scale, seed: int, command: list[str]) -> dict[str, Any]:
    """Every number of a run, ready for JSON (NaN becomes null)."""
    source, curves = run.source, run.curves
    summary: dict[str, Any] = {
        **header(command),
        "population": {
            "name": source.name,
            "dimension": run.dimension,
            "variance": source.variance,
            "rows": None if source.x is None else len(source.x),
            "scales": None
            if source.scales is None
            else {"variance": float(np.asarray((source.scales.squares**2 * source.scales.probabilities).sum()) - 1)},
        },
        "options": {"mask": repr(run.scheme), "scale": None if source.x is None else scale.value, "seed": seed},
        "n_over_d": curves.n / run.dimension,
        "curves": [
            {
                "choice": choice,
                "ridge": curves.ridge[:, j],
                "train": curves.train[:, j],
                "test": curves.test[:, j],
                "unsolved": int((curves.status[:, j] != CONVERGED).sum()),
            }
            for j, choice in enumerate(curves.choices)
        ],
    }
    if run.simulation is not None:
        summary["simulation"] = {"seeds": len(run.simulation.test), "n": run.simulation.predicted.n} | {
            f"{name}_{part}": np.asarray(value)
            for name in ("train", "test")
            for part, value in (
                ("predicted", getattr(run.simulation.predicted, name)),
                ("mean", run.simulation.mean(name)),
                ("standard_error", run.simulation.standard_error(name)),
                ("z", run.simulation.z(name)),
            )
        }
    return summary


def write(run: Run, summary: dict[str, Any], directory: Path) -> None:
    """learning_curve.csv, learning_curve.png and summary.json."""
    _write_csv(run, directory / "learning_curve.csv")
    _draw_figure(run, directory / "learning_curve.png")
    write_summary(summary, directory)


_SIMULATED_COLUMNS = ("train_mean", "train_standard_error", "test_mean", "test_standard_error", "seeds")


def _write_csv(run: Run, path: Path) -> None:
    """One line a point: the curve, then the simulated sizes, where the columns of the simulation are filled."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        extra = _SIMULATED_COLUMNS if run.simulation is not None else ()
        writer.writerow(["n_over_d", "n", "choice", "ridge", "train", "test", *extra])
        empty = [""] * len(extra)
        for i, j in np.ndindex(run.curves.ridge.shape):
            writer.writerow([*_point(run, run.curves, i, j), *empty])
        if run.simulation is not None:
            simulation = run.simulation
            columns = [f(name) for name in ("train", "test") for f in (simulation.mean, simulation.standard_error)]
            for i, j in np.ndindex(simulation.predicted.ridge.shape):
                measured = [repr(float(column[i, j])) for column in columns]
                writer.writerow([*_point(run, simulation.predicted, i, j), *measured, len(simulation.test)])


def _point(run: Run, curves: Curves, i: int, j: int) -> list[str]:
    numbers = (curves.ridge[i, j], curves.train[i, j], curves.test[i, j])
    shown = ["" if np.isnan(value) else repr(float(value)) for value in numbers]
    return [repr(float(curves.n[i] / run.dimension)), repr(float(curves.n[i])), str(curves.choices[j]), *shown]


def _draw_figure(run: Run, path: Path) -> None:
    from .. import plot, plot_theory

    points = None
    if run.simulation is not None:
        s = run.simulation
        points = (
            s.predicted.n / run.dimension,
            s.mean("train"),
            s.standard_error("train"),
            s.mean("test"),
            s.standard_error("test"),
        )
    choices = run.curves.choices
    figure = plot_theory.learning_curve(
        run.curves.n / run.dimension,
        run.curves.train,
        run.curves.test,
        [label(choice) for choice in choices],
        variance=run.source.variance,
        points=points,
        emphasised=choices.index(BEST) if BEST in choices else None,
        title=f"{run.source.name}, d = {run.dimension}{', elliptical' if run.source.scales is not None else ''}",
    )
    plot.save(figure, path)
