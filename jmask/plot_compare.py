"""Figures of ``jmask compare``: errors of the rivals beside ξ(x), which explains them; and the map over families."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter

from ._types import ArrayLike
from .plot import plain_log_ticks

_COLOURS = {"masked ridge": "#1b6ca8", "PPCA": "#c0392b", "Ledoit–Wolf": "#2f8f5b"}
_STYLES = {"masked ridge": "-", "PPCA": "-", "Ledoit–Wolf": "--"}
_SHAPES = {"masked ridge": "∝ x + λ", "PPCA": "flat, then ∝ x", "Ledoit–Wolf": "∝ x + λ"}
_OTHER, _FLOOR, _HELD, _GREY = "#7a4fa3", "#111111", "#e08e2b", "#8a8a8a"
_SIZE = 12
_BINS = 50
_LEAST_SPAN = 0.02  # of a colour bar or an error axis, so that rounding does not look like a difference

Family = tuple[str, str, Sequence[float]]


def comparison(
    names: Sequence[str],
    predicted: ArrayLike,
    held_out: ArrayLike,
    *,
    floor: float,
    conditional: float,
    x: ArrayLike,
    xi: ArrayLike,
    weight: ArrayLike,
    believed: Mapping[str, np.ndarray],
    title: str = "",
) -> Figure:
    """Errors of the rivals, and beside them ξ(x) with the shape that each takes it to have.

    Parameters
    ----------
    names, predicted, held_out
        (r,) methods, their errors in theory, and on held-out rows (NaN: not drawn).
    floor, conditional
        The least error of any spectral predictor, and the error with the covariance known.
    x, xi, weight
        (k,) sample eigenvalues, ξ there, and the share of dF/ξ; NaN where the spectrum has a gap.
    believed
        For some methods, (k,) what ξ would be if the method were at the floor.
    title
        Stands above both panels.

    Examples
    --------
    >>> import numpy as np
    >>> from jmask import plot_compare
    >>> x = np.array([1.0, 2.0, 3.0])
    >>> figure = plot_compare.comparison(
    ...     ["masked ridge"], [0.3], [np.nan], floor=0.28, conditional=0.2, x=x, xi=x, weight=x / 6, believed={}
    ... )
    >>> figure.axes[1].get_xlabel()
    'eigenvalue x of the sample covariance'
    """
    figure = Figure(figsize=(12.5, 5.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.15))
    _draw_errors(left, names, np.asarray(predicted, float), np.asarray(held_out, float), floor, conditional)
    draw_xi(right, x, xi, weight, believed)
    if title:
        figure.suptitle(title, fontsize=_SIZE + 3)
    return figure


def _draw_errors(
    axes: Axes, names: Sequence[str], predicted: np.ndarray, held_out: np.ndarray, floor: float, conditional: float
) -> None:
    rows = np.arange(len(names))[::-1]
    colours = [_COLOURS.get(name.split("\n")[0], _OTHER) for name in names]
    axes.axvline(conditional, color=_GREY, lw=1.8, ls=":", label="conditional variance: Σ known")
    axes.axvline(floor, color=_FLOOR, lw=1.8, ls="--", label="floor of spectral predictors")
    axes.hlines(rows, floor, predicted, color=colours, lw=2)
    axes.scatter(predicted, rows, s=90, color=colours, zorder=3, label="predicted")
    if np.isfinite(held_out).any():
        axes.scatter(held_out, rows, s=80, marker="D", color=_HELD, ec="white", zorder=4, label="held-out rows")
    axes.set_yticks(rows, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    known = np.concatenate([predicted, held_out[np.isfinite(held_out)], [floor, conditional]])
    low, high = known.min(), known.max()
    pad = 0.06 * max(high - low, _LEAST_SPAN * high)
    axes.set_xlim(low - pad, high + pad)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=_SIZE)
    axes.set_xlabel("mean squared masked error", fontsize=_SIZE)
    axes.grid(alpha=0.25, axis="x")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False, fontsize=_SIZE - 1)


def draw_xi(axes: Axes, x: ArrayLike, xi: ArrayLike, weight: ArrayLike, believed: Mapping[str, np.ndarray]) -> None:
    """One panel: ξ (k,) at x (k,), where its weight lies, and what each method takes it to be.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from jmask import plot_compare
    >>> axes, x = Figure().subplots(), np.array([1.0, 2.0, 3.0])
    >>> plot_compare.draw_xi(axes, x, x, x / 6, {"PPCA": x + 1})
    >>> axes.get_legend_handles_labels()[1][1]
    'PPCA: flat, then ∝ x'
    """
    x, xi, weight = (np.asarray(part, float) for part in (x, xi, weight))
    known = np.isfinite(x) & (x > 0)
    axes.plot(x, xi, color=_FLOOR, lw=4.5, alpha=0.85, label="ξ(x): variance of new data along it", zorder=2)
    for name, shape in believed.items():
        label = f"{name}: {_SHAPES.get(name, '')}"
        axes.plot(x, shape, _STYLES.get(name, "-"), color=_COLOURS.get(name, _OTHER), lw=2, label=label, zorder=3)
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = xi[known].min(), xi[known].max()
    pad = max((high / low) ** 0.25, 1.15)
    axes.set_ylim(low / pad**1.6, high * pad)
    edges = np.geomspace(x[known].min() * 0.999, x[known].max() * 1.001, _BINS + 1)
    share = np.histogram(x[known], edges, weights=weight[known])[0]
    axes.bar(
        edges[:-1],
        0.16 * share / share.max(),
        np.diff(edges),
        align="edge",
        color=_GREY,
        alpha=0.45,
        zorder=1,
        transform=axes.get_xaxis_transform(),
        label="where it counts (share of dF/ξ)",
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=_SIZE - 1)
    axes.xaxis.set_minor_formatter(NullFormatter())
    plain_log_ticks(axes)
    axes.set_xlabel("eigenvalue x of the sample covariance", fontsize=_SIZE)
    axes.set_ylabel("population variance along its eigenvector", fontsize=_SIZE)
    axes.grid(alpha=0.22, which="major")
    axes.legend(loc="upper left", framealpha=0.9, edgecolor="none", fontsize=_SIZE - 1)


def family_map(
    families: Sequence[Family], ratios: ArrayLike, pca_over_ridge: ArrayLike, ridge_over_floor: ArrayLike
) -> Figure:
    """Heat maps, a column a family: PPCA over ridge above, ridge over the floor below.

    Parameters
    ----------
    families
        Name, name of the parameter and its values, ascending, of each family.
    ratios
        (m,) n/d, evenly spaced in their logarithm.
    pca_over_ridge, ridge_over_floor
        (families, parameters, m) ratios of errors.

    Examples
    --------
    >>> import numpy as np
    >>> from jmask import plot_compare
    >>> one = np.ones((1, 2, 3))
    >>> figure = plot_compare.family_map([("AR(1)", "ρ", (0.5, 0.9))], [1.0, 2.0, 4.0], one, one)
    >>> figure.axes[0].get_title()
    'AR(1)'
    """
    gap, excess = np.asarray(pca_over_ridge, float) - 1, np.asarray(ridge_over_floor, float) - 1
    figure = Figure(figsize=(3.1 * len(families) + 2.2, 6.8), layout="constrained")
    grid = figure.subplots(2, len(families), squeeze=False)
    low, high = min(float(np.nanmin(gap)), -_LEAST_SPAN), max(float(np.nanmax(gap)), _LEAST_SPAN)
    norm = TwoSlopeNorm(0.0, low, high)
    top = max(float(np.nanmax(excess)), _LEAST_SPAN)
    upper = lower = None
    for j, (name, parameter, values) in enumerate(families):
        upper = _heat(grid[0, j], ratios, values, gap[j], cmap="RdBu", norm=norm)
        lower = _heat(grid[1, j], ratios, values, excess[j], cmap="viridis", vmin=0, vmax=top)
        grid[0, j].set_title(name, fontsize=_SIZE + 1)
        grid[1, j].set_xlabel("n/d", fontsize=_SIZE)
        for axes in grid[:, j]:
            axes.set_ylabel(parameter, fontsize=_SIZE)
    for row, image, label in (
        (grid[0], upper, "PPCA at best rank over ridge\nblue: masking wins"),
        (grid[1], lower, "ridge over the floor"),
    ):
        if image is not None:
            bar = figure.colorbar(image, ax=list(row), format=PercentFormatter(1.0), pad=0.01)
            bar.set_label(label, fontsize=_SIZE)
    return figure


def _heat(axes: Axes, ratios: ArrayLike, values: Sequence[float], shares: np.ndarray, **colours: Any) -> QuadMesh:
    """One map; cells are of equal size, whatever the parameter."""
    x = np.log2(np.asarray(ratios, float))
    step = (x[1] - x[0]) / 2
    edges = np.append(x - step, x[-1] + step)
    image = axes.pcolormesh(2**edges, np.arange(len(values) + 1) - 0.5, shares, **colours)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=12))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(values)), [f"{value:g}" for value in values])
    axes.tick_params(labelsize=_SIZE - 2)
    return image
