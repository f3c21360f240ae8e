"""Figures of a finished sweep: simulation with its standard error on lines of theory."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from .study.compute import double_precision
from .study.convergence import convergence
from .study.plan import Point, Study
from .study.predict import predict
from .study.table import Row, SweepTable

_SIZE, _DPI = 12, 160
_COLOURS = ("#b3261e", "#e07b39", "#2f8f5b", "#1b6ca8", "#7a4fa3", "#7f7f7f")
_NAMES = {
    "train": "train error",
    "test": "test error",
    "leave_one_out": "leave-one-out error",
    "edge": "largest eigenvalue of A",
    "outlier": "outlying eigenvalue of A",
    "overlap": "masked regression",
    "pca_overlap": "PCA",
    "correlation_pca_overlap": "correlation PCA",
}
_ERRORS = ("train", "test", "leave_one_out", "edge")
_OVERLAPS = ("overlap", "pca_overlap", "correlation_pca_overlap")
_CURVE_POINTS = 41
_PEAK = np.geomspace(0.8, 1.25, 21)  # n/d where errors at small ridges turn quickly: more points there
_CURVE_DIMENSION = 512  # lines of theory cost an eigendecomposition a point where the population is dense


def figures(table: SweepTable) -> dict[str, Figure]:
    """Every figure that a table has the rows for, by the stem of a file.

    Examples
    --------
    >>> import jmask as jm
    >>> from jmask import plot_sweep
    >>> study = jm.Study(population="isotropic", dimensions=[12], ratios=[1, 2], seeds=2, measure=["test"])
    >>> sorted(plot_sweep.figures(jm.sweep(study)))
    ['errors-sweep']
    """
    found: dict[str, Figure] = {}
    for study in table.studies:
        own, stem = table.of(study), _stem(study.name)
        if len(study.ratios) > 1 and set(study.measure) & set(_ERRORS):
            found[f"errors-{stem}"] = against_ratio(own, study)
        if len(study.dimensions) > 2 and (figure := against_dimension(own, study)) is not None:
            found[f"convergence-{stem}"] = figure
        if len(study.strengths) > 1 and set(study.measure) & set(_OVERLAPS):
            found[f"overlap-{stem}"] = against_strength(own, study)
            if {"overlap", "pca_overlap"} <= set(study.measure):
                found[f"versus-pca-{stem}"] = against_pca(own, study)
    return found


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure, sharp enough for a slide."""
    figure.savefig(path, dpi=_DPI)


def against_ratio(table: SweepTable, study: Study) -> Figure:
    """Errors against n/d, a panel a quantity, a colour a ridge (a mask scheme where those vary)."""
    quantities = [name for name in study.measure if name in _ERRORS]
    figure = Figure(figsize=(1.2 + 4.8 * len(quantities), 4.9), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(quantities), sharey="edge" not in quantities))
    for axes, quantity in zip(panels, quantities, strict=True):
        for colour, (label, rows) in zip(_cycle(), _by_setting(table, study, quantity), strict=False):
            _points(axes, [row.point.ratio for row in rows], rows, colour, label)
            known = np.array([row.point.ratio for row in rows])
            ratios = np.geomspace(known[0], known[-1], _CURVE_POINTS)
            ratios = np.unique(np.concatenate([ratios, known, np.clip(_PEAK, known[0], known[-1])]))
            axes.plot(ratios, _curve(rows, quantity, ratios), color=colour, lw=2.2, zorder=2)
        axes.set_title(_NAMES[quantity], fontsize=_SIZE + 1)
        axes.set_xlabel("samples per dimension, n/d", fontsize=_SIZE)
        _log(axes, "x")
        if quantity != "edge":
            _log(axes, "y")
        axes.axvline(1, color="#999999", lw=1, ls=":", zorder=1)
    panels[0].set_ylabel("mean squared masked error" if quantities[0] != "edge" else "eigenvalue", fontsize=_SIZE)
    _legend(figure, panels[0])
    figure.suptitle(_title(study), fontsize=_SIZE + 2)
    return figure


def against_dimension(table: SweepTable, study: Study) -> Figure | None:
    """Distance of a draw from the theory against d on logarithmic axes, with the fitted power law."""
    found = [(name, fit) for name in study.measure if (fit := convergence(table.rows, name)) is not None]
    if not found:
        return None
    figure = Figure(figsize=(7.0, 4.9), layout="constrained")
    axes = figure.subplots()
    for colour, (name, fit) in zip(_cycle(), found, strict=False):
        d = fit.dimensions.astype(float)
        centre = np.exp(np.log(fit.distances).mean() - fit.exponent * np.log(d).mean())
        label = f"{_NAMES.get(name, name)}: slope {fit.exponent:.2f} ± {fit.standard_error:.2f}"
        axes.plot(d, fit.distances, "o", color=colour, ms=7, mec="white", mew=0.8, label=label, zorder=3)
        axes.plot(d, centre * d**fit.exponent, color=colour, lw=2, zorder=2)
    _log(axes, "x")
    _log(axes, "y")
    axes.set_xticks(found[0][1].dimensions, [str(d) for d in found[0][1].dimensions])
    axes.set_xlabel("dimension d", fontsize=_SIZE)
    axes.set_ylabel("|simulation / theory - 1|, rms over draws", fontsize=_SIZE)
    axes.legend(frameon=False, fontsize=_SIZE)
    subject = _subject(study, dimension=False)
    figure.suptitle(f"{subject}: how far simulation is from theory (points), fitted powers (lines)", fontsize=_SIZE + 1)
    return figure


def against_strength(table: SweepTable, study: Study) -> Figure:
    """Overlap with the planted direction against its strength, a panel for every n/d, a colour an estimator."""
    groups = _spike_groups(table)
    figure = Figure(figsize=(1.5 + 5.6 * len(groups), 4.9), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(groups), sharey=True))
    for axes, (ratio, rows) in zip(panels, groups, strict=True):
        for colour, (label, line) in zip(_cycle(), _by_estimator(rows), strict=False):
            _points(axes, [row.point.strength for row in line], line, colour, label)
            strengths = np.linspace(min(study.strengths), max(study.strengths), 3 * _CURVE_POINTS)
            axes.plot(strengths, _strength_curve(line, strengths), color=colour, lw=2.2, zorder=2)
        axes.set_xlabel("strength of the spike θ", fontsize=_SIZE)
        axes.set_title(f"n/d = {ratio:.3g}", fontsize=_SIZE + 1)
        axes.set_ylim(-0.03, 1.03)
        _plain(axes)
    panels[0].set_ylabel("overlap with the planted direction", fontsize=_SIZE)
    _legend(figure, panels[0])
    figure.suptitle(_title(study), fontsize=_SIZE + 2)
    return figure


def against_pca(table: SweepTable, study: Study) -> Figure:
    """Overlap of masked regression over that of PCA, at equal strength: above the diagonal, masking sees more."""
    figure = Figure(figsize=(6.2, 5.8), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999999", lw=1.2, ls="--", zorder=1)
    axes.text(0.89, 0.93, "equal", color="#777777", ha="right", fontsize=_SIZE - 1)
    settings: dict[Point, dict[str, list[Row]]] = {}
    for row in table.rows:
        if row.quantity in ("overlap", "pca_overlap"):
            alike = replace(row.point, strength=1.0)
            settings.setdefault(alike, {}).setdefault(row.quantity, []).append(row)
    for colour, (point, rows) in zip(_cycle(), settings.items(), strict=False):
        masked, pca = (sorted(rows[name], key=lambda row: row.point.strength) for name in ("overlap", "pca_overlap"))
        strengths = np.linspace(masked[0].point.strength, masked[-1].point.strength, 3 * _CURVE_POINTS)
        axes.plot(_strength_curve(pca, strengths), _strength_curve(masked, strengths), color=colour, lw=2.2, zorder=2)
        across = [[row.mean for row in line] for line in (pca, masked)]
        bars = [[row.standard_error for row in line] for line in (pca, masked)]
        label = _label(point, study)
        axes.errorbar(across[0], across[1], bars[1], bars[0], label=label, **_marks(colour))
        if len(settings) == 1:
            for x, y, row in zip(*across, masked, strict=True):
                if max(x, y) < 0.05:  # several strengths lie on each other here
                    continue
                axes.annotate(f"θ = {row.point.strength:g}", (x, y), (9, -12), textcoords="offset points", fontsize=9)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    axes.set_xlabel("overlap of PCA", fontsize=_SIZE)
    axes.set_ylabel("overlap of masked regression", fontsize=_SIZE)
    _plain(axes)
    if len(settings) > 1:
        axes.legend(frameon=False, fontsize=_SIZE - 1, loc="lower right")
    figure.suptitle(_title(study), fontsize=_SIZE + 2)
    return figure


def _stem(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in name).strip("-") or "study"


def _title(study: Study) -> str:
    return f"{_subject(study, dimension=True)}: simulation (points) on theory (lines)"


def _subject(study: Study, *, dimension: bool) -> str:
    sizes = f", d = {', '.join(str(d) for d in study.dimensions)}" if dimension else ""
    law = "" if study.scales == "gaussian" else f", {study.scales}"
    return f"{study.population}{sizes}{law}"


def _cycle() -> list[str]:
    return list(_COLOURS) * 20


def _by_setting(table: SweepTable, study: Study, quantity: str) -> list[tuple[str, list[Row]]]:
    """Rows that differ in n alone, ascending, with what sets them apart."""
    lines: dict[Point, list[Row]] = {}
    for row in table.rows:
        if row.quantity == quantity:
            lines.setdefault(replace(row.point, samples=0), []).append(row)
    return [(_label(point, study), sorted(rows, key=lambda r: r.point.samples)) for point, rows in lines.items()]


def _label(point: Point, study: Study) -> str:
    parts = []
    if len(study.dimensions) > 1:
        parts.append(f"d = {point.dimension}")
    if len(study.schemes) > 1:
        parts.append(point.scheme)
    if len(study.ratios) > 1 and point.samples:
        parts.append(f"n/d = {point.ratio:.3g}")
    if len(study.ridges) > 1 or not parts:
        parts.append(f"ridge {point.ridge:g}")
    return ", ".join(parts)


def _spike_groups(table: SweepTable) -> list[tuple[float, list[Row]]]:
    groups: dict[float, list[Row]] = {}
    for row in table.rows:
        if row.quantity in _OVERLAPS:
            groups.setdefault(row.point.ratio, []).append(row)
    return sorted(groups.items())


def _by_estimator(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """One line for each ridge of masked regression, and one for each PCA, which has none."""
    lines: dict[tuple, list[Row]] = {}
    for row in rows:
        point = row.point
        penalty = point.ridge if row.quantity == "overlap" else min(r.point.ridge for r in rows)
        if point.ridge == penalty:
            lines.setdefault((row.quantity, penalty, point.dimension, point.scheme), []).append(row)
    several = len({row.point.ridge for row in rows}) > 1
    sizes = len({row.point.dimension for row in rows}) > 1
    named = []
    for (quantity, ridge, d, _), line in lines.items():
        label = _NAMES[quantity] + (f", ridge {ridge:g}" if several and quantity == "overlap" else "")
        named.append((label + (f", d = {d}" if sizes else ""), sorted(line, key=lambda row: row.point.strength)))
    return named


def _curve(rows: Sequence[Row], quantity: str, ratios: np.ndarray) -> np.ndarray:
    """Theory between the points; at large d the points alone, joined."""
    point = rows[0].point
    if point.dimension > _CURVE_DIMENSION:
        return np.interp(np.log(ratios), np.log([r.point.ratio for r in rows]), [r.theory for r in rows])
    return _theory(lambda ratio: predict(point, [quantity], ratio * point.dimension)[quantity], ratios)


def _strength_curve(rows: Sequence[Row], strengths: np.ndarray) -> np.ndarray:
    point, quantity = rows[0].point, rows[0].quantity
    if point.dimension > _CURVE_DIMENSION:
        return np.interp(strengths, [row.point.strength for row in rows], [row.theory for row in rows])
    return _theory(lambda strength: predict(replace(point, strength=strength), [quantity])[quantity], strengths)


def _theory(function: Callable[[float], float], at: np.ndarray) -> np.ndarray:
    with double_precision():
        return np.array([function(float(value)) for value in at])


def _marks(colour: str) -> dict[str, Any]:
    return {"fmt": "o", "color": colour, "ms": 6, "mec": "white", "mew": 0.8, "capsize": 2.5, "zorder": 4}


def _points(axes: Axes, x: Sequence[float], rows: Sequence[Row], colour: str, label: str) -> None:
    axes.errorbar(x, [row.mean for row in rows], [row.standard_error for row in rows], **_marks(colour), label=label)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.22, which="major")
    axes.tick_params(labelsize=_SIZE - 1)


def _log(axes: Axes, which: str) -> None:
    _plain(axes)
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False, fontsize=_SIZE)
