"""``jmask tune``: ridges chosen by gradient on four fifths of the rows, and what they gain on the others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from .. import tune
from .._checks import require_memory
from ..closed_form import Fit, fit
from ..masking import Bernoulli, LeaveOneOut, Scheme
from ..objective import sample_errors
from ..tables import Table, read_table
from . import report
from .options import (
    Scale,
    Scaling,
    check_directory,
    output_directory,
    parse_list,
    parse_mask,
)
from .progress import status, warn
from .summary import header, write_summary

_MIN_ROWS = 20
_WORKING_MATRICES = 12  # d × d matrices alive at once, with a gradient's
_SHOWN = 5


@dataclass(frozen=True)
class Gain:
    """Errors of the held-out rows under two choices, (m,) each."""

    name: str
    choice: str
    plain: np.ndarray
    tuned: np.ndarray

    @property
    def share(self) -> tuple[float, float]:
        """How much lower the tuned error is, as a share of the plain one, and its standard error over rows."""
        gain, base = self.plain - self.tuned, self.plain.mean()
        return float(gain.mean() / base), float(gain.std(ddof=1) / np.sqrt(len(gain)) / base)


@dataclass(frozen=True)
class Run:
    """What a run chose on the training rows, what it gained on the others, and the same choice made on all rows."""

    table: Table
    labels: np.ndarray
    scaling: Scaling
    training: tune.TunedRidges
    scalar: tune.TunedRidge
    final: tune.TunedRidges
    fit: Fit
    gains: list[Gain]
    mask: tune.TunedMask | None
    train_rows: np.ndarray


def run_tune(
    data: str,
    *,
    groups: Path | None,
    hide_rate: float | None,
    folds: int,
    nested: bool,
    scale: Scale,
    columns: str | None,
    id_column: str | None,
    seed: int,
    out: Path | None,
    command: list[str],
) -> None:
    """What ``jmask tune`` does; see its help."""
    if hide_rate is not None and not 0 <= hide_rate < 1:
        raise ValueError(f"--hide-rate must lie in [0, 1), got {hide_rate:g}")
    table = read_table(data, parse_list(columns), id_column)
    n, d = table.values.shape
    if n < max(_MIN_ROWS, 2 * folds):
        raise ValueError(f"{data}: at least {max(_MIN_ROWS, 2 * folds)} rows are needed to tune and to test, got {n}")
    require_memory(_WORKING_MATRICES * d * d * 8, f"{data}: tuning {d} columns")
    labels = np.arange(d) if groups is None else _labels(groups, d)
    directory = Path(f"jmask-tune-{table.stem}") if out is None else out
    check_directory(directory)
    console = report.terminal()
    report.print_source(console, table)
    found = _run(table, labels, hide_rate, folds, nested, scale, seed)
    with output_directory(directory) as temporary:
        _write(found, _summary(found, scale, folds, nested, seed, command), temporary)
    _print(console, found, directory)


def _labels(path: Path, d: int) -> np.ndarray:
    """Group labels of the columns, as --mask partition:FILE reads them."""
    try:
        scheme = parse_mask(f"partition:{path}", d)
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(str(error).replace("--mask partition", "--groups")) from None
    return np.asarray(scheme.groups)  # type: ignore[union-attr]


def _run(
    table: Table, labels: np.ndarray, hide_rate: float | None, folds: int, nested: bool, scale: Scale, seed: int
) -> Run:
    x = table.values
    order = np.random.default_rng(seed).permutation(len(x))
    held = max(2, round(len(x) / 5))
    test_rows, train_rows = np.sort(order[:held]), np.sort(order[held:])
    centred = scale is not Scale.NONE
    split = Scaling.estimate(x[train_rows], scale)
    train, test = split.apply(x[train_rows]), split.apply(x[test_rows])
    if not np.ptp(train, axis=0).any():
        raise ValueError("every column is constant: there is nothing to predict")
    options: dict[str, Any] = {"folds": folds, "key": jax.random.key(seed), "centred": centred}
    with status("tuning on the training rows"):
        training = tune.ridge_per_coordinate(train, labels, nested=nested, **options)
        scalar = tune.ridge(train, centred=centred)
    plain = LeaveOneOut()
    name = "a ridge a column" if len(np.unique(labels)) == x.shape[1] else f"{len(np.unique(labels))} ridges by group"
    errors = [_row_errors(fit(train, ridge).weights, test, plain) for ridge in (scalar.ridge, training.ridge)]
    low, high = float(training.ridge.min()), float(training.ridge.max())
    gains = [Gain(name, f"{report.number(low)} … {report.number(high)}", *errors)]
    mask = None
    if hide_rate is not None:
        with status("tuning the hiding rate"):
            mask = tune.hide_rate(train, hide_rate, centred=centred)
        gains.append(_mask_gain(train, test, mask, hide_rate))
    scaling = Scaling.estimate(x, scale)
    with status("tuning on all rows"):
        final = tune.ridge_per_coordinate(scaling.apply(x), labels, **options)
    if not bool(final.converged):
        raise ValueError(f"{table.source}: tuning failed in double precision: try --scale standardise")
    fitted = fit(scaling.apply(x), final.ridge)
    return Run(table, labels, scaling, training, scalar, final, fitted, gains, mask, train_rows)


def _mask_gain(train: np.ndarray, test: np.ndarray, mask: tune.TunedMask, rate: float) -> Gain:
    scheme, masks = Bernoulli(float(mask.hide_rate)), Bernoulli(rate)
    if not bool(mask.converged):
        warn("the search for the hiding rate did not converge")
    errors = [
        _row_errors(fit(train, ridge, fitted).weights, test, masks)
        for ridge, fitted in ((mask.matched_ridge, masks), (mask.ridge, scheme))
    ]
    choice = f"hide {float(mask.hide_rate):.3g}, ridge {report.number(float(mask.ridge))}"
    return Gain(f"inputs missing at rate {rate:g}", choice, *errors)


def _row_errors(weights: Any, test: np.ndarray, scheme: Scheme) -> np.ndarray:
    """(m,) mean over coordinates of the squared error of each row."""
    rows = jax.numpy.asarray(test)
    return np.asarray(jax.lax.map(lambda row: sample_errors(weights, row[None, :], scheme).mean(), rows, batch_size=64))


def _summary(run: Run, scale: Scale, folds: int, nested: bool, seed: int, command: list[str]) -> dict[str, Any]:
    def choice(found: tune.TunedRidges) -> dict[str, Any]:
        names = ("scalar", "scalar_value", "value", "gain", "gain_error", "held_out_scalar")
        numbers = {name: float(getattr(found, name)) for name in names}
        paths = ("freedom", "path_value", "path_held_out")
        curves = {name: np.asarray(getattr(found, name)) for name in paths}
        return {**numbers, "ridge": np.asarray(found.ridge), "chosen": int(found.chosen), "path": curves}

    summary: dict[str, Any] = {
        **header(command),
        "data": {
            "source": run.table.source,
            "rows": run.table.values.shape[0],
            "columns": list(run.table.columns),
            "id_column": run.table.id_name,
        },
        "options": {"scale": scale.value, "folds": folds, "nested": nested, "seed": seed},
        "groups": run.labels.tolist(),
        "mean": run.scaling.mean,
        "scale": run.scaling.scale,
        "training_rows": {"rows": len(run.train_rows), **choice(run.training)},
        "held_out": [
            {
                "name": gain.name,
                "choice": gain.choice,
                "plain": float(gain.plain.mean()),
                "tuned": float(gain.tuned.mean()),
                "gain": gain.share[0],
                "gain_error": gain.share[1],
            }
            for gain in run.gains
        ],
        "fit": {"rows": run.table.values.shape[0], **choice(run.final)},
    }
    if run.mask is not None:
        names = ("hide_rate", "ridge", "value", "matched_ridge", "matched_value")
        summary["mask"] = {name: float(getattr(run.mask, name)) for name in names}
    return summary


def _write(run: Run, summary: dict[str, Any], directory: Path) -> None:
    from .. import plot_tuning

    run.fit.save(str(directory / "fit.npz"))
    final = run.final
    count = final.path_ridge.shape[1]
    names = (
        list(run.table.columns) if count == len(run.table.columns) else [f"group {j}" for j in np.unique(run.labels)]
    )
    figure = plot_tuning.tuning_path(
        final.freedom, final.path_value, final.path_held_out, final.path_ridge, int(final.chosen), names
    )
    plot_tuning.save(figure, directory / "tuning_path.png")
    if run.table.image_shape is not None:
        figure = plot_tuning.ridge_image(final.ridge, run.table.image_shape, "Ridge of each pixel")
        plot_tuning.save(figure, directory / "ridge_image.png")
    write_summary(summary, directory)


def _print(console: Console, run: Run, directory: Path) -> None:
    training, number = run.training, report.number
    held = len(run.table.values) - len(run.train_rows)
    table = report.plain_table(f"On the {held} held-out rows", "choice", "plain", "tuned", "gain")
    for gain in run.gains:
        share, error = gain.share
        errors = (number(float(errors.mean())) for errors in (gain.plain, gain.tuned))
        table.add_row(gain.name, *errors, f"{share:+.2%} ± {error:.2%}")
    console.print()
    console.print(table)
    lines = [
        "",
        f"Plain: one ridge, {number(float(run.scalar.ridge))}, of least leave-one-out error"
        + ("" if run.mask is None else "; or training masks at the rate of the test"),
        *(f"Tuned, {gain.name}: {gain.choice}" for gain in run.gains),
        f"Leave-one-out error itself fell by {1 - float(training.value / training.scalar_value):.2%}, "
        "which flatters: it is what the ridges were chosen by",
        f"Cross-validated on the training rows the gain is "
        f"{float(training.gain / training.held_out_scalar):+.2%} ± "
        f"{float(training.gain_error / training.held_out_scalar):.2%}",
    ]
    if int(run.final.chosen) == 0:
        lines.append(f"On all rows one ridge serves best: {number(float(run.final.scalar))}")
    else:
        lines.append(f"On all rows: {_extremes(run)}")
    for line in [*lines, "", f"Written: {directory}"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _extremes(run: Run) -> str:
    ridge, order = np.asarray(run.final.ridge), np.argsort(np.asarray(run.final.ridge))
    count = min(_SHOWN, len(order) // 2)

    def words(chosen: np.ndarray) -> str:
        return ", ".join(f"{run.table.columns[k]} {report.number(float(ridge[k]))}" for k in chosen)

    return f"smallest ridges {words(order[:count])}; largest {words(order[::-1][:count])}"
