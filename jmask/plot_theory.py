"""Figures of the theory: learning curves, with simulation on top."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ._types import ArrayLike
from .plot import plain_log_ticks

_COLOURS = ("#c0392b", "#e08e2b", "#2f8f5b", "#1b6ca8", "#7a4fa3", "#8c6d46")
_EMPHASISED, _GREY = "#111111", "#8a8a8a"
_SIZE = 12
_HEADROOM = 1.3
_DEPTH = 300.0  # train errors further below the largest one leave the panel: they go to 0

Points = tuple[ArrayLike, ArrayLike, ArrayLike]


def learning_curve(
    ratio: ArrayLike,
    train: ArrayLike,
    test: ArrayLike,
    labels: Sequence[str],
    *,
    variance: float | None = None,
    points: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike, ArrayLike] | None = None,
    emphasised: int | None = None,
    title: str = "",
) -> Figure:
    """Test and train error against the number of samples, side by side.

    Parameters
    ----------
    ratio
        (m,) n/d, ascending.
    train, test
        (m, r) errors, one column a label; NaN leaves a gap.
    labels
        What the r curves are.
    variance
        Error of predicting the mean, drawn as a line beside the test errors; None: not drawn.
    points
        Simulation: (s,) n/d, and (s, r) train, standard error of train, test, standard error of test.
    emphasised
        Index of a curve drawn in black and dashed, on top of the others.
    title
        Stands above both panels.

    Examples
    --------
    >>> import numpy as np
    >>> from jmask import plot_theory
    >>> ratio = np.array([0.5, 1.0, 2.0])
    >>> figure = plot_theory.learning_curve(ratio, ratio[:, None], 1 / ratio[:, None], ["ridge 0.1"])
    >>> [axes.get_title() for axes in figure.axes]
    ['test error', 'train error']
    """
    figure = Figure(figsize=(11.5, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    fits: list[Points | None] = [None, None]
    if points is not None:
        at, train_mean, train_error, test_mean, test_error = points
        fits = [(at, test_mean, test_error), (at, train_mean, train_error)]
    draw_curves(left, ratio, test, labels, variance=variance, points=fits[0], emphasised=emphasised)
    draw_curves(right, ratio, train, labels, points=fits[1], emphasised=emphasised)
    left.set_title("test error", fontsize=_SIZE + 2)
    right.set_title("train error", fontsize=_SIZE + 2)
    left.set_ylabel("mean squared masked error", fontsize=_SIZE)
    handles, names = left.get_legend_handles_labels()
    across = len(names) if len(names) <= 4 else -(-len(names) // 2)
    figure.legend(handles, names, loc="outside lower center", ncols=min(across, 5), frameon=False, fontsize=_SIZE)
    if title:
        figure.suptitle(title, fontsize=_SIZE + 3)
    return figure


def draw_curves(
    axes: Axes,
    ratio: ArrayLike,
    errors: ArrayLike,
    labels: Sequence[str],
    *,
    variance: float | None = None,
    points: Points | None = None,
    emphasised: int | None = None,
) -> None:
    """One panel: errors (m, r) against n/d (m,) on logarithmic axes, n = d marked.

    ``points`` are (s,) n/d, (s, r) means and (s, r) standard errors of a simulation; the rest as in
    ``learning_curve``.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from jmask import plot_theory
    >>> axes = Figure().subplots()
    >>> plot_theory.draw_curves(axes, np.array([1.0, 2.0]), np.array([[2.0], [1.0]]), ["ridge 0.1"])
    >>> axes.get_xlabel()
    'samples per dimension, n/d'
    """
    x, y = np.asarray(ratio, float), np.asarray(errors, float)
    colours = _colours(len(labels), emphasised)
    for j, name in enumerate(labels):
        style, order = ("--", 4) if j == emphasised else ("-", 3)
        axes.plot(x, y[:, j], style, color=colours[j], lw=2.4, label=name, zorder=order)
    if variance is not None:
        axes.axhline(variance, color=_GREY, lw=1.6, ls="-.", zorder=1, label="predict the mean")
    shown = y
    if points is not None:
        at, mean, error = (np.asarray(part, float) for part in points)
        _draw_points(axes, at, mean, error, colours, emphasised)
        shown = np.concatenate([y, mean])
    _decorate(axes)
    axes.set_xlim(x[0] / 1.06, x[-1] * 1.06)
    axes.set_ylim(*_limits(shown, variance))
    plain_log_ticks(axes)


def _draw_points(
    axes: Axes, at: np.ndarray, mean: np.ndarray, error: np.ndarray, colours: Sequence[str], emphasised: int | None
) -> None:
    """The emphasised points are larger and lie below the others: a ring shows where they coincide."""
    for j, colour in enumerate(colours):
        size, order = (8.5, 5) if j == emphasised else (5.5, 6)
        axes.errorbar(
            *(at, mean[:, j], error[:, j]),
            fmt="o",
            color=colour,
            ms=size,
            mec="white",
            mew=0.7,
            capsize=3,
            zorder=order,
        )
    axes.errorbar([], [], [], fmt="o", color="#555555", ms=6, label="fits to samples ± standard error")


def _colours(count: int, emphasised: int | None) -> list[str]:
    plain = iter(_COLOURS[i % len(_COLOURS)] for i in range(count))
    return [_EMPHASISED if i == emphasised else next(plain) for i in range(count)]


def _decorate(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=_SIZE - 1)
    axes.set_xlabel("samples per dimension, n/d", fontsize=_SIZE)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axvline(1, color=_GREY, lw=1, ls=":", zorder=1)
    axes.grid(alpha=0.22, which="major")


def _limits(errors: np.ndarray, variance: float | None) -> tuple[float, float]:
    known = errors[np.isfinite(errors) & (errors > 0)]
    if not known.size:
        return 0.1, 1.0
    high = max(float(known.max()), 0.0 if variance is None else variance)
    return max(float(known.min()), high / _DEPTH) / _HEADROOM, high * _HEADROOM
