"""Figures of a tuning: the path from one ridge to many, and where held-out rows stop it."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ._types import ArrayLike

_CRITERION, _HELD_OUT, _MARK, _PLAIN = "#7f7f7f", "#1b6ca8", "#b3261e", "#444444"
_STYLE: dict[str, Any] = {"fontsize": 12}
_DPI = 160
_FEW = 12  # curves that a legend can name


def save(figure: Figure, path: Any) -> None:
    """Write a figure as PNG or whatever the suffix says, sharp enough for a slide."""
    figure.savefig(path, dpi=_DPI)


def tuning_path(
    freedom: ArrayLike,
    leave_one_out: ArrayLike,
    held_out: ArrayLike,
    ridges: ArrayLike,
    chosen: int,
    names: list[str] | None = None,
) -> Figure:
    """What the ridges gain as they are let go from the scalar choice, and where they go.

    Parameters
    ----------
    freedom
        (m,) stages, 0 (the scalar choice) first; drawn one after the other.
    leave_one_out, held_out
        (m,) the criterion on all rows, and the error of held-out rows.
    ridges
        (m, g) ridges, one a group.
    chosen
        Index of the stage chosen.
    names
        Of the groups; shown when they are few.

    Examples
    --------
    >>> import numpy as np
    >>> from jmask import plot_tuning
    >>> stages = np.array([0.0, 1.0, 10.0])
    >>> figure = plot_tuning.tuning_path(stages, [1.0, 0.9, 0.8], [1.0, 0.95, 1.1], np.ones((3, 4)), 1)
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['change of the error, %', 'ridge λ']
    """
    stages = np.arange(len(np.asarray(freedom)))
    figure = Figure(figsize=(12.0, 4.6), layout="constrained")
    errors, paths = figure.subplots(1, 2)
    for axes in (errors, paths):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=11)
        axes.grid(alpha=0.25)
        axes.axvline(chosen, color=_MARK, lw=1, ls=":")
        axes.set_xticks(*_ticks(np.asarray(freedom, float)))
        axes.set_xlabel("freedom of the ridges (0: one ridge for all)", **_STYLE)
    _draw_errors(errors, stages, leave_one_out, held_out, chosen)
    _draw_ridges(paths, stages, np.asarray(ridges, float), names)
    return figure


def _ticks(freedom: np.ndarray) -> tuple[list[int], list[str]]:
    """Of the scalar choice and the powers of ten."""
    powers = np.log10(np.where(freedom > 0, freedom, 1))
    chosen = [i for i in range(len(freedom)) if freedom[i] == 0 or abs(powers[i] - round(powers[i])) < 1e-6]
    return chosen, ["0" if freedom[i] == 0 else f"$10^{{{round(powers[i])}}}$" for i in chosen]


def _draw_errors(axes: Axes, stages: np.ndarray, leave_one_out: ArrayLike, held_out: ArrayLike, chosen: int) -> None:
    for label, values, colour in (
        ("leave-one-out, which they minimise", leave_one_out, _CRITERION),
        ("held-out rows, which stop them", held_out, _HELD_OUT),
    ):
        curve = np.asarray(values, float)
        axes.plot(stages, 100 * (curve / curve[0] - 1), "o-", color=colour, lw=2, ms=4, label=label)
    curve = np.asarray(held_out, float)
    axes.plot(chosen, 100 * (curve[chosen] / curve[0] - 1), "o", color=_MARK, ms=9, zorder=5, label="chosen")
    axes.axhline(0, color=_PLAIN, lw=0.8)
    # How far the held-out error rises beyond the choice says nothing more, and would hide the rest.
    low, high = axes.get_ylim()
    axes.set_ylim(low, min(high, max(-low, 1.0)))
    axes.set_ylabel("change of the error, %", **_STYLE)
    axes.legend(framealpha=1.0, edgecolor="none", fontsize=11)


def _draw_ridges(axes: Axes, stages: np.ndarray, ridges: np.ndarray, names: list[str] | None) -> None:
    few = names is not None and ridges.shape[1] <= _FEW
    order = np.argsort(ridges[-1])
    shades = np.linspace(0, 1, ridges.shape[1])
    from matplotlib import colormaps

    for shade, j in zip(shades, order, strict=True):
        colour = colormaps["viridis"](0.92 * shade)
        label = names[j] if few and names is not None else None
        axes.plot(stages, ridges[:, j], color=colour, lw=1.6 if few else 0.9, alpha=1 if few else 0.7, label=label)
    axes.set_yscale("log")
    axes.set_ylabel("ridge λ", **_STYLE)
    if few:
        axes.legend(framealpha=1.0, edgecolor="none", fontsize=10, ncols=2)


def ridge_image(ridge: ArrayLike, shape: tuple[int, int], title: str = "") -> Figure:
    """Ridges (d,) of the pixels of a picture of the given height and width, on a logarithmic scale.

    Examples
    --------
    >>> import numpy as np
    >>> from jmask import plot_tuning
    >>> plot_tuning.ridge_image(np.ones(4), (2, 2), "ridges").axes[0].get_title()
    'ridges'
    """
    figure = Figure(figsize=(5.2, 4.4), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(np.log10(np.asarray(ridge, float)).reshape(shape), cmap="viridis", interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=13)
    figure.colorbar(image, ax=axes, shrink=0.85).set_label("log₁₀ ridge", **_STYLE)
    return figure
