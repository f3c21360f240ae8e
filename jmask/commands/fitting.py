"""``jmask fit``: choose the ridge, compare on held-out rows, fit all rows, write what was found."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from rich.console import Console

from .._checks import require_memory
from ..closed_form import Fit, fit
from ..descent import GradientFit, fit_gradient
from ..detect import Directions, directions
from ..eigen import column_scales, predictor_eigen
from ..masking import Bernoulli, LeaveOneOut, Scheme
from ..tables import Table, read_table
from ..validation import leave_one_out_error, train_error
from . import report
from .comparison import Entry, compare, split_rows
from .curve import Curve, ridge_curve
from .options import (
    Method,
    Scale,
    Scaling,
    check_directory,
    output_directory,
    parse_list,
    parse_mask,
    parse_ridge,
)
from .progress import status, warn
from .summary import header, write_summary

MIN_ROWS = 5
_WORKING_MATRICES = 8  # d × d matrices alive at once


@dataclass(frozen=True)
class Run:
    """All that a run found: of the fit to every row, and of the same choice made on the training rows alone."""

    table: Table
    scheme: Scheme
    scaling: Scaling
    curve: Curve
    fit: Fit
    descent: GradientFit | None
    train_curve: Curve
    entries: list[Entry]
    train_rows: np.ndarray
    eigenvalues: np.ndarray
    r_squared: np.ndarray
    directions: Directions | None

    @property
    def ours(self) -> Entry:
        """The masked ridge among the entries: the last."""
        return self.entries[-1]


def run_fit(
    data: str,
    *,
    ridge: str,
    mask: str,
    method: Method,
    scale: Scale,
    columns: str | None,
    id_column: str | None,
    seed: int,
    out: Path | None,
    command: list[str],
) -> None:
    """What ``jmask fit`` does; see its help."""
    asked = parse_ridge(ridge)
    table = read_table(data, parse_list(columns), id_column)
    n, d = table.values.shape
    if n < MIN_ROWS:
        raise ValueError(f"{data}: at least {MIN_ROWS} rows are needed, a fifth of them to hold out, got {n}")
    require_memory(_WORKING_MATRICES * d * d * 8, f"{data}: a fit of {d} columns")
    scheme = parse_mask(mask, d)
    directory = Path(f"jmask-{table.stem}") if out is None else out
    check_directory(directory)
    console = report.terminal()
    report.print_source(console, table)
    found = _run(table, asked, scheme, method, scale, seed, console)
    with output_directory(directory) as temporary:
        summary = summarise(found, method, scale, seed, command)
        _write(found, summary, temporary)
    report.print_run(console, found, directory)


def _run(
    table: Table, asked: float | None, scheme: Scheme, method: Method, scale: Scale, seed: int, console: Console
) -> Run:
    x = table.values
    rng = np.random.default_rng(seed)
    train_rows, test_rows = split_rows(len(x), rng)
    scaling = Scaling.estimate(x, scale)
    if scale is Scale.STANDARDISE and scaling.constant.any():
        warn(f"{int(scaling.constant.sum())} of {x.shape[1]} columns are constant: centred, and left at scale 1")
    split = Scaling.estimate(x[train_rows], scale)
    train, test = split.apply(x[train_rows]), split.apply(x[test_rows])
    centred = scale is not Scale.NONE
    curve = ridge_curve(scaling.apply(x), asked, scheme, centred)
    report.print_choice(console, curve, chosen=asked is None)
    train_curve = ridge_curve(train, asked, scheme, centred)
    if not curve.interior:
        warn(f"leave-one-out error is least at the end of the path, ridge {curve.ridge[curve.chosen]:.3g}")
    with status("comparing on held-out rows"):
        entries = compare(train, test, scheme, rng)
    inner, _ = _solve(train, train_curve, scheme, method)
    errors = np.asarray(train_error(inner, test, per_coordinate=True))
    entries.append(Entry("masked ridge", f"ridge {train_curve.at_chosen()['ridge']:.3g}", errors))
    final, descent = _solve(scaling.apply(x), curve, scheme, method)
    if not bool(final.converged):
        raise ValueError(f"--ridge {curve.at_chosen()['ridge']:g}: no fit exists in double precision: use a larger one")
    if descent is not None and not bool(descent.converged):
        warn(f"gradient descent stopped after {int(descent.steps)} steps before it converged: use a larger ridge")
    r_squared = _r_squared(scaling.apply(x), curve.at_chosen()["ridge"], scheme, centred)
    standing_out = _directions(scaling.apply(x))
    return Run(
        *(table, scheme, scaling, curve, final, descent, train_curve, entries, train_rows),
        *(_eigenvalues(final), r_squared, standing_out),
    )


def _directions(x: np.ndarray) -> Directions | None:
    """Directions that stand out of independent noise, whatever the units of the columns.

    None where no column varies or their search has no solution.
    """
    if not x.any():
        return None
    found = directions(x / np.asarray(column_scales(jnp.asarray(x))))
    return found if bool(found.converged) else None


def _solve(x: np.ndarray, curve: Curve, scheme: Scheme, method: Method) -> tuple[Fit, GradientFit | None]:
    ridge = curve.at_chosen()["ridge"]
    if method is Method.CLOSED_FORM:
        return fit(x, ridge, scheme), None
    with status("gradient descent") as shown:
        result = fit_gradient(
            x,
            ridge,
            scheme,
            compare=True,
            progress=lambda steps, loss, norm: shown.update(
                f"gradient descent: step {steps}, loss {loss:.6g}, gradient {norm:.1e}"
            ),
        )
    return result.fit, result


def _r_squared(x: np.ndarray, ridge: float, scheme: Scheme, centred: bool) -> np.ndarray:
    """(d,) share of each coordinate's variance that is predicted for a row left out; NaN where it does not vary.

    All rows are used, since a coordinate may vary in a few of them only.
    """
    errors = np.asarray(leave_one_out_error(x, ridge, scheme, per_coordinate=True, centred=centred))
    n = len(x)
    variance = (x**2).mean(0) * ((n / (n - 1)) ** 2 if centred else 1)
    varying = np.ptp(x, axis=0) > 0
    return np.where(varying, 1 - errors / np.where(varying, variance, 1), np.nan)


def _eigenvalues(fitted: Fit) -> np.ndarray:
    """(d,) eigenvalues of the weights, all real, largest first."""
    if isinstance(fitted.scheme, LeaveOneOut | Bernoulli):
        values = np.asarray(predictor_eigen(fitted, vectors=False).values)
        if np.isfinite(values).all():
            return values
    return np.sort(np.linalg.eigvals(np.asarray(fitted.weights)).real)[::-1]


def summarise(run: Run, method: Method, scale: Scale, seed: int, command: list[str]) -> dict[str, Any]:
    """Every number of a run, ready for JSON (NaN becomes null)."""
    table, curve = run.table, run.curve
    base = run.entries[0].error
    summary: dict[str, Any] = {
        **header(command),
        "data": {
            "source": table.source,
            "rows": table.values.shape[0],
            "columns": list(table.columns),
            "id_column": table.id_name,
        },
        "options": {"mask": repr(run.scheme), "method": method.value, "scale": scale.value, "seed": seed},
        "mean": run.scaling.mean,
        "scale": run.scaling.scale,
        "constant_columns": [name for name, c in zip(table.columns, run.scaling.constant, strict=True) if c],
        "fit": {"rows": table.values.shape[0], **curve.at_chosen(), "interior": curve.interior},
        "training_rows": {"rows": len(run.train_rows), **run.train_curve.at_chosen(), "held_out": run.ours.error},
        "held_out": {
            "rows": table.values.shape[0] - len(run.train_rows),
            "methods": [
                {
                    "name": entry.name,
                    "choice": entry.choice,
                    "error": entry.error,
                    "share_of_variance": entry.error / base if base > 0 else None,
                    "per_coordinate": entry.per_coordinate,
                }
                for entry in run.entries
            ],
        },
        "r_squared": run.r_squared,
        "path": {name: getattr(curve, name) for name in ("ridge", "train", "leave_one_out", "gcv")},
        "eigenvalues": run.eigenvalues,
        "directions": None
        if run.directions is None
        else {
            "count": run.directions.count,
            **{name: np.asarray(getattr(run.directions, name)) for name in ("strengths", "overlap", "edge", "limit")},
        },
    }
    if run.descent is not None:
        summary["descent"] = {
            "steps": int(run.descent.steps),
            "converged": bool(run.descent.converged),
            "gradient_norm": float(run.descent.gradient_norm),
            "distance_to_closed_form": float(run.descent.distance),
        }
    return summary


def _write(run: Run, summary: dict[str, Any], directory: Path) -> None:
    run.fit.save(str(directory / "fit.npz"))
    _draw(run, directory)
    write_summary(summary, directory)


def _draw(run: Run, directory: Path) -> None:
    from .. import plot

    curve, columns = run.curve, run.table.columns
    figure = plot.ridge_path(curve.ridge, curve.train, curve.leave_one_out, curve.gcv, curve.chosen)
    plot.save(figure, directory / "ridge_path.png")
    weights = np.asarray(run.fit.weights)
    plot.save(plot.weights(weights, columns), directory / "weights.png")
    plot.save(plot.eigenvalues(run.eigenvalues), directory / "eigenvalues.png")
    shape = run.table.image_shape
    if shape is not None:
        chosen = _spread_pixels(run)
        r_squared = run.r_squared
        titles = [f"row {k // shape[1]}, column {k % shape[1]}   R² {r_squared[k]:.2f}" for k in chosen]
        plot.save(plot.weight_images(weights, shape, chosen, titles), directory / "weight_images.png")


def _spread_pixels(run: Run, wanted: int = 8) -> list[int]:
    """Pixels of every quality, from the best predicted down to the worst, among those that vary much."""
    variance, r_squared = run.table.values.var(0), run.r_squared
    lively = np.flatnonzero(np.isfinite(r_squared) & (variance >= np.median(variance)))
    ordered = lively[np.argsort(-r_squared[lively])]
    return [int(k) for k in ordered[np.linspace(0, len(ordered) - 1, min(wanted, len(ordered))).round().astype(int)]]
