"""``jmask compare``: masked ridge against PPCA and every other spectral predictor, predicted and on held-out rows."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from ..closed_form import fit
from ..covariance import Spiked, from_samples
from ..covariance.names import names_population
from ..masking import LeaveOneOut
from ..validation import train_error
from . import report
from .comparison import Entry, compare, split_rows
from .curve import ridge_curve
from .fitting import MIN_ROWS
from .options import Scale, Scaling, check_directory, output_directory
from .progress import status, warn
from .rival_map import FAMILIES, MAP_DIMENSION, RiskMap, risk_map
from .rivals import CONDITIONAL, FLOOR, MEAN, NONLINEAR, PPCA, RIDGE, Fight, fight
from .source import Source, read_source
from .summary import header, write_summary

_DEFAULT, _DEFAULT_RATIO = "ar1:0.9", 2.0
_MAP_RATIOS = 2.0 ** np.linspace(-2, 3, 11)  # n = d exactly among them
_TIE = 0.002  # errors closer than this share count as equal


@dataclass(frozen=True)
class Comparison:
    """What theory says of a source, and on data what the held-out rows say."""

    source: Source
    predicted: Fight
    held_out: list[Entry]
    held_rows: int


def run_compare(
    source: str | None,
    *,
    dimension: int | None,
    ratio: float | None,
    families: bool,
    scale: Scale,
    columns: str | None,
    id_column: str | None,
    seed: int,
    out: Path | None,
    command: list[str],
) -> None:
    """What ``jmask compare`` does; see its help."""
    if ratio is not None and not 0 < ratio < np.inf:
        raise ValueError(f"--ratio must be positive and finite, got {ratio:g}")
    if families:
        _refuse_choices(source=source, dimension=dimension, ratio=ratio, columns=columns, id_column=id_column)
        _run_map(Path("jmask-compare-map") if out is None else out, command)
        return
    text = _DEFAULT if source is None else source
    if ratio is not None and not names_population(text):
        raise ValueError(f"--ratio is for a population by name; {text} brings its own rows")
    found = read_source(text, dimension, scale, columns, id_column)
    directory = Path(f"jmask-compare-{found.stem}") if out is None else out
    check_directory(directory)
    console = report.terminal()
    if found.table is not None:
        report.print_source(console, found.table)
    result = (
        _of_population(found, _DEFAULT_RATIO if ratio is None else ratio, seed)
        if found.table is None
        else _of_data(found, scale, seed)
    )
    with output_directory(directory) as temporary:
        _write(result, _summarise(result, scale, seed, command), temporary)
    _print(console, result, directory)


def _refuse_choices(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            what = "a population or data" if name == "source" else f"--{name.replace('_', '-')}"
            raise ValueError(f"--map draws families of its own: give it without {what}")


# ------------------------------------------------------------------------------------------- what is compared
def _of_population(source: Source, ratio: float, seed: int) -> Comparison:
    population = source.population
    if isinstance(population, Spiked):
        population = population.realise(jax.random.key(seed))
    with status("solving for every predictor"):
        return Comparison(source, fight(population, ratio * population.dimension), [], 0)


def _of_data(source: Source, scale: Scale, seed: int) -> Comparison:
    """Held-out rows as ``jmask fit`` splits them; theory for the covariance of all rows, at as many training rows."""
    assert source.table is not None
    assert source.x is not None
    x, rng = source.table.values, np.random.default_rng(seed)
    if len(x) < MIN_ROWS:
        raise ValueError(f"{source.name}: at least {MIN_ROWS} rows are needed, a fifth of them to hold out")
    train_rows, test_rows = split_rows(len(x), rng)
    split = Scaling.estimate(x[train_rows], scale)
    train, test = split.apply(x[train_rows]), split.apply(x[test_rows])
    curve = ridge_curve(train, None, LeaveOneOut(), scale is not Scale.NONE)
    if not curve.interior:
        warn(f"leave-one-out error is least at the end of the path, ridge {curve.ridge[curve.chosen]:.3g}")
    ridge = curve.at_chosen()["ridge"]
    with status("comparing on held-out rows"):
        entries = compare(train, test, LeaveOneOut(), rng)
    errors = np.asarray(train_error(fit(train, ridge), test, per_coordinate=True))
    entries.insert(1, Entry(RIDGE, f"ridge {ridge:.3g}", errors))
    varying = np.ptp(source.x, axis=0) > 0
    with status("solving for every predictor"):
        predicted = fight(from_samples(source.x[:, varying]), len(train_rows))
    share = varying.mean()  # a constant column counts as one without error
    rivals = tuple(replace(rival, error=share * rival.error) for rival in predicted.rivals)
    return Comparison(source, replace(predicted, rivals=rivals), entries, len(test_rows))


def _lines(result: Comparison) -> list[dict[str, Any]]:
    """One a method: name, choice and error in theory and on held-out rows; None where there is none."""
    predicted = {rival.name: rival for rival in result.predicted.rivals}
    measured = {entry.name: entry for entry in result.held_out}
    names = list(dict.fromkeys([*(r for r in predicted if r not in (FLOOR, CONDITIONAL)), *measured]))
    floor, lines = predicted[FLOOR].error, []
    for name in [*names, FLOOR, CONDITIONAL]:
        theory, data = predicted.get(name), measured.get(name)
        lines.append(
            {
                "method": name,
                "predicted_choice": None if theory is None else theory.choice,
                "predicted": None if theory is None else theory.error,
                "over_floor": None if theory is None or floor <= 0 else theory.error / floor,
                "chosen": None if data is None else data.choice,
                "held_out": None if data is None else data.error,
            }
        )
    return lines


# ------------------------------------------------------------------------------------------- what is written
def _summarise(result: Comparison, scale: Scale, seed: int, command: list[str]) -> dict[str, Any]:
    source, predicted = result.source, result.predicted
    data = source.table is not None
    return {
        **header(command),
        "population": {
            "name": source.name,
            "dimension": predicted.dimension,
            "n": predicted.n,
            "rows": None if source.x is None else len(source.x),
        },
        "options": {"scale": scale.value if data else None, "seed": seed},
        "held_out_rows": result.held_rows,
        "methods": _lines(result),
        "xi": {"x": predicted.x, "xi": predicted.xi, "weight": predicted.weight},
    }


def _write(result: Comparison, summary: dict[str, Any], directory: Path) -> None:
    """compare.csv, compare.png and summary.json."""
    _write_rows(summary["methods"], directory / "compare.csv")
    _draw(result, directory / "compare.png")
    write_summary(summary, directory)


def _write_rows(rows: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)


def _draw(result: Comparison, path: Path) -> None:
    from .. import plot, plot_compare

    found = result.predicted
    measured = {entry.name: entry.error for entry in result.held_out}
    shown = [rival for rival in found.rivals if rival.name not in (MEAN, FLOOR, CONDITIONAL)]
    figure = plot_compare.comparison(
        [f"{rival.name}\n{rival.choice}" if rival.choice else rival.name for rival in shown],
        np.array([rival.error for rival in shown]),
        np.array([measured.get(rival.name, np.nan) for rival in shown]),
        floor=found.error(FLOOR),
        conditional=found.error(CONDITIONAL),
        x=found.x,
        xi=found.xi,
        weight=found.weight,
        believed={rival.name: rival.believed for rival in shown if rival.believed is not None},
        title=f"{result.source.name}: n = {found.n:g}, d = {found.dimension}",
    )
    plot.save(figure, path)


# ------------------------------------------------------------------------------------------- what is printed
def _print(console: Console, result: Comparison, directory: Path) -> None:
    found, measured = result.predicted, bool(result.held_out)
    console.print()
    held = (f"{result.held_rows} held-out rows",) if measured else ()
    table = report.plain_table(
        f"Masked error at n = {found.n:g} in d = {found.dimension} dimensions",
        *("method", "chosen", "predicted", "over floor", *held),
    )
    for line in _lines(result):
        error, over = line["predicted"], line["over_floor"]
        table.add_row(
            line["method"],
            (line["chosen"] if line["held_out"] is not None else line["predicted_choice"]) or "",
            "–" if error is None else report.number(error),
            "–" if over is None else f"{over - 1:+.2%}",
            *((("–" if line["held_out"] is None else report.number(line["held_out"])),) if measured else ()),
        )
    console.print(table)
    console.print()
    for text in (_verdict(found), *([_caution(result)] if measured else []), f"Written: {directory}"):
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _verdict(found: Fight) -> str:
    """Who wins in theory, and by how much."""
    ridge, pca = found.error(RIDGE), found.error(PPCA)
    gap = pca / ridge - 1
    ranks = next(rival.choice for rival in found.rivals if rival.name == PPCA)
    if abs(gap) < _TIE:
        first = f"In theory masked ridge and PPCA at its best rank tie, within {_TIE:.1%}"
    elif gap > 0:
        first = f"In theory masked ridge wins: PPCA at its best, {ranks}, errs {gap:.1%} more"
    else:
        first = f"In theory PPCA wins at {ranks}: masked ridge errs {1 / (1 + gap) - 1:.1%} more"
    return f"{first}; nonlinear shrinkage is {found.error(NONLINEAR) / found.error(FLOOR) - 1:.2%} above the floor"


def _caution(result: Comparison) -> str:
    assert result.source.x is not None
    rows, d = len(result.source.x), result.predicted.dimension
    return (
        f"Predicted: Gaussian rows with the covariance of all {rows} rows, whose own noise counts as structure: about "
        f"d/rows = {d / rows:.1%} too low, and choices that are best for it"
    )


# ------------------------------------------------------------------------------------------- the map
def _run_map(directory: Path, command: list[str]) -> None:
    from .. import plot, plot_compare

    check_directory(directory)
    found = risk_map(_MAP_RATIOS)
    rows = _map_rows(found)
    with output_directory(directory) as temporary:
        _write_rows(rows, temporary / "map.csv")
        figure = plot_compare.family_map(
            [(family.name, family.parameter, family.values) for family in FAMILIES],
            found.ratios,
            found.ppca / found.ridge,
            found.ridge / found.floor,
        )
        plot.save(figure, temporary / "map.png")
        write_summary({**header(command), "dimension": MAP_DIMENSION, "map": rows}, temporary)
    _print_map(report.terminal(), found, directory)


def _map_rows(found: RiskMap) -> list[dict[str, Any]]:
    return [
        {
            "family": family.name,
            "parameter": value,
            "n_over_d": float(ratio),
            "ridge": float(found.ridge[i, j, k]),
            "ppca": float(found.ppca[i, j, k]),
            "floor": float(found.floor[i, j, k]),
        }
        for i, family in enumerate(FAMILIES)
        for j, value in enumerate(family.values)
        for k, ratio in enumerate(found.ratios)
    ]


def _print_map(console: Console, found: RiskMap, directory: Path) -> None:
    table = report.plain_table(
        f"Least and largest over parameters and n/d = {found.ratios[0]:g} to {found.ratios[-1]:g}, d = {MAP_DIMENSION}",
        *("family", "PPCA over ridge", "ridge over floor"),
    )
    for i, family in enumerate(FAMILIES):
        ratios = (found.ppca[i] / found.ridge[i] - 1, found.ridge[i] / found.floor[i] - 1)
        table.add_row(family.name, *(f"{values.min():+.1%} to {values.max():+.1%}" for values in ratios))
    console.print(table)
    console.print()
    console.print(f"Written: {directory}", markup=False, highlight=False, soft_wrap=True)
