"""Figures of a fit: error along a ridge path, weights as a heat map or as pictures, eigenvalues of the weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from ._types import ArrayLike

_TRAIN, _LEFT_OUT, _GCV, _MARK = "#7f7f7f", "#1b6ca8", "#e07b39", "#b3261e"
_STYLE: dict[str, Any] = {"fontsize": 12}
_DPI = 160
_LONGEST_NAME = 16


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=11)
    return figure, axes


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG or whatever the suffix says, sharp enough for a slide."""
    figure.savefig(path, dpi=_DPI)


def ridge_path(ridge: ArrayLike, train: ArrayLike, leave_one_out: ArrayLike, gcv: ArrayLike, chosen: int) -> Figure:
    """Errors against the ridge on logarithmic axes, the ridge used marked.

    Parameters
    ----------
    ridge, train, leave_one_out, gcv
        (m,) each; NaN leaves a gap, ridges of 0 are left out.
    chosen
        Index of the ridge used.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> from jmask import plot
    >>> path = jm.ridge_path(np.random.default_rng(0).normal(size=(40, 5)), np.logspace(-2, 2, 9))
    >>> figure = plot.ridge_path(path.ridge, path.train, path.leave_one_out, path.gcv, 4)
    >>> figure.axes[0].get_xlabel()
    'ridge λ'
    """
    x = np.asarray(ridge, float)
    shown = x > 0
    figure, axes = _figure(7.2, 4.6)
    curves = (
        ("training", train, _TRAIN, "-"),
        ("leave one sample out", leave_one_out, _LEFT_OUT, "-"),
        ("generalised cross-validation", gcv, _GCV, "--"),
    )
    for label, values, colour, dashes in curves:
        y = np.asarray(values, float)
        if np.isfinite(y[shown]).any():
            axes.plot(x[shown], y[shown], dashes, color=colour, lw=2.2, label=label)
    best = float(np.asarray(leave_one_out)[chosen])
    if x[chosen] > 0:
        axes.axvline(x[chosen], color=_MARK, lw=1, ls=":")
        axes.plot(x[chosen], best, "o", color=_MARK, ms=8, zorder=5, label=f"ridge used: {x[chosen]:.3g}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    plain_log_ticks(axes)
    axes.set_xlabel("ridge λ", **_STYLE)
    axes.set_ylabel("mean squared masked error", **_STYLE)
    axes.legend(framealpha=1.0, edgecolor="none", fontsize=11).set_zorder(6)
    axes.grid(alpha=0.25, which="major")
    return figure


def plain_log_ticks(axes: Axes) -> None:
    """Numbers such as 5 and 20 on an error axis that spans few decades, powers of ten otherwise."""
    low, high = axes.get_ylim()
    if high / low < 200:
        subs = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0) if high / low < 8 else (1.0, 2.0, 5.0)
        axes.yaxis.set_major_locator(LogLocator(subs=subs))
        axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def weights(matrix: ArrayLike, columns: Sequence[str] | None = None) -> Figure:
    """The weights (d, d) as a heat map: row k predicts coordinate k. Red adds, blue subtracts; limits symmetric.

    The limits hold 99.5% of the entries, so that few large ones do not hide the rest. Up to 30 columns are named.

    Examples
    --------
    >>> import numpy as np
    >>> from jmask import plot
    >>> plot.weights(np.array([[0.0, 0.5], [2.0, 0.0]]), ["a", "b"]).axes[0].get_ylabel()
    'predicted coordinate'
    """
    a = np.asarray(matrix, float)
    d = a.shape[0]
    figure, axes = _figure(7.0, 6.0)
    limit = _limit(a)
    image = axes.imshow(a, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest" if d <= 400 else "auto")
    axes.spines[:].set_visible(True)
    if columns is not None and d <= 30:
        names = [name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…" for name in columns]
        axes.set_xticks(range(d), names, rotation=90)
        axes.set_yticks(range(d), names)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("from coordinate", **_STYLE)
    axes.set_ylabel("predicted coordinate", **_STYLE)
    clipped = bool(np.abs(a).max() > limit * (1 + 1e-9))
    bar = figure.colorbar(image, ax=axes, shrink=0.85, extend="both" if clipped else "neither")
    bar.set_label("weight", **_STYLE)
    return figure


def _limit(a: np.ndarray) -> float:
    used = np.abs(a[a != 0])
    return float(np.quantile(used, 0.995)) if used.size else 1.0


def weight_images(
    matrix: ArrayLike, shape: tuple[int, int], coordinates: Sequence[int], titles: Sequence[str]
) -> Figure:
    """Rows of the weights (d, d) as pictures: what the outlined pixel is predicted from.

    Parameters
    ----------
    matrix
        (d, d) weights.
    shape
        Height and width of the picture, d = height × width.
    coordinates, titles
        The rows to show, four abreast, and what stands above each.

    Examples
    --------
    >>> import numpy as np
    >>> from jmask import plot
    >>> len(plot.weight_images(np.ones((4, 4)), (2, 2), [0, 3], ["first", "last"]).axes)  # with the colour bar
    3
    """
    a = np.asarray(matrix, float)
    across = min(4, len(coordinates))
    down = -(-len(coordinates) // across)
    figure = Figure(figsize=(2.3 * across + 0.9, 2.45 * down + 0.5), layout="constrained")
    grid = np.atleast_1d(figure.subplots(down, across)).ravel()
    limit = float(np.abs(a[list(coordinates)]).max()) or 1.0
    image = None
    for axes in grid:
        axes.set_axis_off()
    for axes, k, title in zip(grid, coordinates, titles, strict=False):
        image = axes.imshow(a[k].reshape(shape), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        axes.set_axis_on()
        axes.set_xticks([])
        axes.set_yticks([])
        row, column = divmod(k, shape[1])
        axes.add_patch(_outline(row, column))
        axes.set_title(title, fontsize=11)
    if image is not None:
        figure.colorbar(image, ax=list(grid), shrink=0.8).set_label("weight", **_STYLE)
    figure.suptitle("What each outlined pixel is predicted from", fontsize=13)
    return figure


def _outline(row: int, column: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="black", lw=2)


def eigenvalues(values: ArrayLike) -> Figure:
    """Histogram of the eigenvalues (d,) of the weights, all real, each ticked below.

    Examples
    --------
    >>> from jmask import plot
    >>> plot.eigenvalues([-0.5, 0.1, 0.4]).axes[0].get_ylabel()
    'count'
    """
    v = np.sort(np.asarray(values, float))
    figure, axes = _figure(7.2, 4.2)
    axes.hist(v, bins=int(np.clip(len(v) // 2, 10, 80)), color=_LEFT_OUT, alpha=0.85, edgecolor="white", lw=0.4)
    axes.plot(v, np.full_like(v, -0.02), "|", color=_MARK, ms=10, transform=axes.get_xaxis_transform(), clip_on=False)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.tick_params(axis="x", pad=10)
    axes.set_xlabel("eigenvalue of the weights A", **_STYLE)
    axes.set_ylabel("count", **_STYLE)
    return figure
