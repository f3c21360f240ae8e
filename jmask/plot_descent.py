"""Figures of training curves: predicted lines, measured points, the closed form as a floor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ._types import ArrayLike
from .plot import plain_log_ticks

_COLOURS = ("#c0392b", "#e08e2b", "#2f8f5b", "#1b6ca8", "#7a4fa3", "#5f5f5f")
_MARKERS = ("o", "o", "o", "o", "s", "D")
_FLOORS = (("#111111", ":"), ("#111111", "--"))
_SIZE = 12
_WORTH = 0.999
_DEPTH = 300.0  # errors further below the largest leave the panel: they go to 0


@dataclass(frozen=True)
class Points:
    """Measured: steps and products (t,), mean and standard error of train and test (t,)."""

    steps: ArrayLike
    products: ArrayLike
    train: ArrayLike
    train_error: ArrayLike
    test: ArrayLike
    test_error: ArrayLike


@dataclass(frozen=True)
class Line:
    """An optimiser: predicted errors (t,) after ``steps`` (t,), its best stopping time, and what was measured."""

    name: str
    steps: ArrayLike
    train: ArrayLike
    test: ArrayLike
    best: int | None = None
    points: Points | None = None


@dataclass(frozen=True)
class Floor:
    """Errors that no number of steps changes; NaN is not drawn."""

    name: str
    train: float
    test: float


def points(measured: Any) -> Points:
    """Means and standard errors over draws, of ``steps`` (t,) and ``products train test`` (draws, t)."""
    train, test = np.asarray(measured.train), np.asarray(measured.test)
    scale = np.sqrt(len(train))
    return Points(
        measured.steps,
        np.asarray(measured.products).mean(0),
        train.mean(0),
        train.std(0, ddof=1) / scale,
        test.mean(0),
        test.std(0, ddof=1) / scale,
    )


def training_curves(lines: Sequence[Line], floors: Sequence[Floor] = (), *, title: str = "") -> Figure:
    """Test and train error, against steps and against d × d × d products.

    A ring marks the predicted best stopping time of each line, where that beats its end by 0.1% or more.
    What has no prediction is drawn as points alone.

    Examples
    --------
    >>> import numpy as np
    >>> from jmask import plot_descent
    >>> steps = np.array([1, 10, 100])
    >>> line = plot_descent.Line("plain", steps, 1 / steps, 2 / steps, best=100)
    >>> figure = plot_descent.training_curves([line], [plot_descent.Floor("closed form", 0.005, 0.015)])
    >>> [axes.get_xlabel() for axes in figure.axes[2:]]
    ['steps', 'd × d × d products']
    """
    figure = Figure(figsize=(12.5, 9.0), layout="constrained")
    grid = figure.subplots(2, 2, sharex="col", sharey="row")
    for row, kind in zip(grid, ("test", "train"), strict=True):
        for axes, against in zip(row, ("steps", "products"), strict=True):
            draw_panel(axes, lines, floors, kind, against)
        row[0].set_ylabel(f"{kind} error", fontsize=_SIZE + 1)
    for axes, label in zip(grid[1], ("steps", "d × d × d products"), strict=True):
        axes.set_xlabel(label, fontsize=_SIZE + 1)
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 4), frameon=False, fontsize=_SIZE)
    if title:
        figure.suptitle(title, fontsize=_SIZE + 3)
    return figure


def draw_panel(axes: Axes, lines: Sequence[Line], floors: Sequence[Floor], kind: str, against: str) -> None:
    """One panel: ``kind`` train or test, ``against`` steps or products, on logarithmic axes.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from jmask import plot_descent
    >>> axes = Figure().subplots()
    >>> plot_descent.draw_panel(axes, [plot_descent.Line("plain", [1, 2], [1, 1], [2, 1])], [], "test", "steps")
    >>> axes.get_yscale()
    'log'
    """
    shown = [_draw_line(axes, line, kind, against, i) for i, line in enumerate(lines)]
    if kind == "test" and any(line.best is not None for line in lines):
        axes.plot([], [], "o", ms=13, mfc="none", mec="#333333", mew=2, label="predicted best stopping time")
    for floor, (colour, dashes) in zip(floors, _FLOORS, strict=False):
        value = getattr(floor, kind)
        if np.isfinite(value) and value > 0:
            axes.axhline(value, color=colour, ls=dashes, lw=1.8, zorder=2, label=floor.name)
            shown.append(np.array([value]))
    axes.set(xscale="log", yscale="log")
    axes.set_ylim(*_limits(np.concatenate([np.ravel(part) for part in shown])))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=_SIZE - 1)
    axes.xaxis.set_major_locator(LogLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.22, which="major")
    plain_log_ticks(axes)


def _draw_line(axes: Axes, line: Line, kind: str, against: str, i: int) -> np.ndarray:
    """The errors drawn."""
    colour, marker = _COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)]
    y, steps = np.asarray(getattr(line, kind), float), np.asarray(line.steps)
    known = np.isfinite(y).any()
    if known:
        axes.plot(steps, y, color=colour, lw=2.3, label=line.name, zorder=3)
        at = y[steps == line.best]
        if kind == "test" and at.size and not at[0] > _WORTH * y[-1]:
            axes.plot(steps[steps == line.best], at, "o", ms=14, mfc="none", mec=colour, mew=2.2, zorder=6)
    p = line.points
    if p is None:
        return y[np.isfinite(y)]
    mean, error = np.asarray(getattr(p, kind)), np.asarray(getattr(p, f"{kind}_error"))
    style: dict[str, Any] = {"ms": 6, "mec": "white", "mew": 0.7, "capsize": 3, "zorder": 4}
    name = None if known else line.name
    axes.errorbar(getattr(p, against), mean, error, fmt=marker, color=colour, label=name, **style)
    return np.concatenate([y[np.isfinite(y)], mean[np.isfinite(mean)]])


def _limits(errors: np.ndarray) -> tuple[float, float]:
    known = errors[errors > 0]
    if not known.size:
        return 0.1, 1.0
    # what diverges leaves the panel above
    high = min(float(known.max()), 3 * float(np.quantile(known, 0.9)))
    return max(float(known.min()), high / _DEPTH) / 1.2, high * 1.2
