"""``jmask impute``: fill missing entries from a fit to the complete rows."""

from pathlib import Path

import numpy as np
from rich.console import Console

from .._checks import require_memory
from ..closed_form import fit
from ..masking import LeaveOneOut
from ..tables import read_table, split_source, write_filled
from . import report
from .curve import ridge_curve
from .options import Scale, Scaling, parse_list, parse_ridge
from .progress import status, warn

_MIN_COMPLETE = 5
_WORKING_MATRICES = 8


def run_impute(data: str, *, out: Path, ridge: str, scale: Scale, columns: str | None, id_column: str | None) -> None:
    """What ``jmask impute`` does; see its help."""
    asked = parse_ridge(ridge)
    _check_out(data, out)
    table = read_table(data, parse_list(columns), id_column, missing=True)
    d = table.values.shape[1]
    require_memory(_WORKING_MATRICES * d * d * 8, f"{data}: a fit of {d} columns")
    observed = np.isfinite(table.values)
    complete = table.values[observed.all(1)]
    if len(complete) < _MIN_COMPLETE:
        raise ValueError(
            f"{data}: at least {_MIN_COMPLETE} complete rows are needed to learn from, got {len(complete)} of "
            f"{len(observed)}; leave out columns with many missing entries (--columns)"
        )
    console = report.terminal()
    report.print_source(console, table)
    scaling = Scaling.estimate(complete, scale)
    x = scaling.apply(complete)
    curve = ridge_curve(x, asked, LeaveOneOut(), scale is not Scale.NONE)
    fitted = fit(x, curve.at_chosen()["ridge"])
    if not bool(fitted.converged):
        raise ValueError(f"--ridge {ridge}: no fit exists in double precision: use a larger one")
    with status("filling"):
        filled = scaling.undo(np.asarray(fitted.impute(scaling.apply(table.values), observed)))
    filled = np.where(observed, table.values, filled)
    write_filled(table, filled, out)
    _print(console, observed, len(complete), curve.at_chosen(), out)


def _check_out(data: str, out: Path) -> None:
    if data == "digits":
        raise ValueError("digits has no missing entries: impute needs a file")
    suffix = split_source(data)[0].suffix.lower()
    if out.suffix.lower() != suffix:
        raise ValueError(f"--out {out}: must end in {suffix}, as DATA does")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"--out {out}: the directory {out.parent} does not exist")
    if out.is_dir():
        raise FileExistsError(f"--out {out}: is a directory, a file is wanted")


def _print(console: Console, observed: np.ndarray, complete: int, chosen: dict[str, float], out: Path) -> None:
    gaps = int((~observed).sum())
    empty = int((~observed.any(1)).sum())
    if empty:
        warn(f"{empty} row(s) have no entry at all: filled with the means of the complete rows")
    console.print(
        f"Filled {gaps} entries in {int((~observed.all(1)).sum())} rows, from {complete} complete rows "
        f"(ridge {chosen['ridge']:.3g}, leave-one-out error {chosen['leave_one_out']:.4g})",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"Written: {out}", markup=False, highlight=False, soft_wrap=True)
