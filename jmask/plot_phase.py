"""Figures of the transition: how well a direction is found by each method, and beyond which strength."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator, NullFormatter

from ._types import ArrayLike

_COLOURS = ("#1b6ca8", "#2f8f5b", "#e08e2b", "#c0392b")
_LIMIT = "#111111"
_MAP = "viridis"
_SIZE = 12


def phase_diagram(
    axis: ArrayLike,
    strengths: ArrayLike,
    overlap: ArrayLike,
    threshold: ArrayLike,
    labels: Sequence[str],
    *,
    limit: ArrayLike | None = None,
    points: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    axis_label: str = "samples per dimension, n/d",
    title: str = "",
) -> Figure:
    """Maps of the overlap of each method with its critical line, and all critical lines together.

    Parameters
    ----------
    axis
        (m,) positive, ascending: n/d or ridges.
    strengths
        (k,) positive, ascending.
    overlap, threshold
        (q, m, k) squared overlaps and (q, m) critical strengths of q methods; NaN leaves a gap.
    labels
        What the q methods are called.
    limit
        (m,) strength below which no method finds anything, drawn dashed; None: not drawn.
    points
        Simulation: (a,) places on the axis, (b,) strengths, and (q, a, b) overlaps, drawn as discs in the colours
        of the map.
    axis_label, title
        Below every panel, and above them all.

    Examples
    --------
    >>> import numpy as np
    >>> from jmask import plot_phase
    >>> grid = np.array([0.5, 1.0, 2.0])
    >>> figure = plot_phase.phase_diagram(grid, grid, np.zeros((1, 3, 3)), 1 / grid[None], ["PCA"])
    >>> figure.axes[0].get_title()
    'PCA'
    """
    x, y = np.asarray(axis, float), np.asarray(strengths, float)
    lines, best = np.asarray(threshold, float), None if limit is None else np.asarray(limit, float)
    q = len(labels)
    across = 2 if q == 4 else q
    figure = Figure(figsize=(15.5, 8.6) if q == 4 else (4.1 * (q + 1) + 1.0, 4.9))
    figure.set_layout_engine("constrained", wspace=0.06)
    left, right = np.asarray(figure.subfigures(1, 2, width_ratios=(across, 0.95)))
    panels = left.subplots(-(-q // across), across, sharex=True, sharey=True, squeeze=False)
    for axes in panels[:, 0]:
        axes.set_ylabel("strength θ of the direction", fontsize=_SIZE)
    for axes in panels[-1]:
        axes.set_xlabel(axis_label, fontsize=_SIZE)
    for i, axes in enumerate(panels.flat):
        image = _draw_map(axes, x, y, np.asarray(overlap, float)[i], lines[i], best)
        axes.set_title(labels[i], fontsize=_SIZE + 1)
        if points is not None:
            _draw_points(axes, np.asarray(points[0]), np.asarray(points[1]), np.asarray(points[2])[i])
    _explain(left, panels, image)
    together = right.subplots()
    _draw_lines(together, x, lines, labels, best)
    together.set_xlabel(axis_label, fontsize=_SIZE)
    together.set_ylabel("strength θ", fontsize=_SIZE)
    _frame(together, x, y)
    if title:
        figure.suptitle(title, fontsize=_SIZE + 3)
    return figure


def _draw_map(
    axes: Axes, x: np.ndarray, y: np.ndarray, overlap: np.ndarray, line: np.ndarray, limit: np.ndarray | None
) -> AxesImage:
    """The overlaps of one method and its critical line; columns without a solution are left grey."""
    axes.set_facecolor("#bdbdbd")
    shading: Literal["gouraud", "nearest"] = "gouraud" if np.isfinite(overlap).all() else "nearest"
    image = axes.pcolormesh(x, y, overlap.T, cmap=_MAP, vmin=0, vmax=1, shading=shading, rasterized=True)
    axes.plot(x, line, color="white", lw=2.6, label="critical strength")
    if limit is not None:
        axes.plot(x, limit, "--", color="#ff9f80", lw=2.0, label="no method finds anything below")
    _frame(axes, x, y)
    return image  # type: ignore[return-value]


def _explain(figure: SubFigure, panels: np.ndarray, image: AxesImage) -> None:
    """One bar of colours and one legend for all maps."""
    bar = figure.colorbar(image, ax=list(panels.flat), aspect=32, pad=0.015)
    bar.set_label("squared overlap with the direction", fontsize=_SIZE)
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        fontsize=_SIZE - 1,
        facecolor="#46327e",
        labelcolor="white",
        framealpha=1,
    )


def _draw_points(axes: Axes, x: np.ndarray, y: np.ndarray, overlap: np.ndarray) -> None:
    at = np.meshgrid(x, y, indexing="ij")
    axes.scatter(
        *(at[0], at[1]),
        c=overlap,
        cmap=_MAP,
        vmin=0,
        vmax=1,
        s=95,
        edgecolors="white",
        linewidths=1.3,
        zorder=5,
        label="mean over samples",
    )


def _draw_lines(axes: Axes, x: np.ndarray, lines: np.ndarray, labels: Sequence[str], limit: np.ndarray | None) -> None:
    """Later lines are thinner, so that those that coincide are all seen."""
    for i, name in enumerate(labels):
        axes.plot(x, lines[i], color=_COLOURS[i % len(_COLOURS)], lw=2.2 + 1.6 * (len(labels) - 1 - i), label=name)
    if limit is not None:
        axes.plot(x, limit, "--", color=_LIMIT, lw=1.6, label="limit of any method")
    axes.set_title("critical strengths", fontsize=_SIZE + 1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, which="major")
    axes.legend(frameon=True, framealpha=0.9, edgecolor="none", fontsize=_SIZE - 1)


def _frame(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    axes.tick_params(labelsize=_SIZE - 1)
    for side, ends in ((axes.xaxis, x), (axes.yaxis, y)):
        side.set_major_locator(LogLocator(subs=_ticks(ends[-1] / ends[0])))
        side.set_major_formatter("{x:g}")
        side.set_minor_formatter(NullFormatter())


def _ticks(span: float) -> tuple[float, ...]:
    """Leading digits of the ticks of an axis whose ends have this ratio."""
    for most, digits in ((8, (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)), (150, (1.0, 2.0, 5.0)), (2000, (1.0, 3.0))):
        if span < most:
            return digits
    return (1.0,)
