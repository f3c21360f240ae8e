"""The tables that ``jmask fit`` prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

from ..tables import Table

if TYPE_CHECKING:
    from .curve import Curve
    from .fitting import Run

_EXTREMES = 3


def terminal() -> Console:
    """The standard output; of a width that cuts no table where no window sets one."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def number(value: float) -> str:
    """Four digits; a dash for what is not known."""
    return f"{value:.4g}" if np.isfinite(value) else "–"


def print_source(console: Console, table: Table) -> None:
    """One line: what was read."""
    n, d = table.values.shape
    ids = (
        f", rows named by {table.id_name!r}"
        if table.id_name
        else ", rows named by the first column"
        if table.ids
        else ""
    )
    console.print(f"{table.source}: {n} rows × {d} columns{ids}", markup=False, highlight=False, soft_wrap=True)


def print_choice(console: Console, curve: Curve, chosen: bool) -> None:
    """One line, the first result: the ridge of the fit and its leave-one-out error."""
    values = curve.at_chosen()
    how = "chosen by leave-one-out" if chosen else "as asked"
    console.print(
        f"Ridge {number(values['ridge'])}, {how}: error {number(values['leave_one_out'])} on a sample left out",
        highlight=False,
        soft_wrap=True,
    )


def plain_table(title: str, *headers: str) -> RichTable:
    """An empty table without lines: names to the left, numbers to the right, none of them broken."""
    table = RichTable(
        title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False
    )
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i == 0 else "right", no_wrap=True)
    return table


def print_run(console: Console, run: Run, directory: Path) -> None:
    """Errors of the fit, the comparison on held-out rows, coordinates predicted best and worst."""
    console.print()
    console.print(_errors(run))
    console.print()
    console.print(_comparison(run))
    for line in (*_extremes(run), *_directions(run)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if run.descent is not None:
        descent = run.descent
        console.print(
            f"Gradient descent: {int(descent.steps)} steps, relative gradient {float(descent.gradient_norm):.1e}, "
            f"relative distance to the closed form {float(descent.distance):.1e}",
            highlight=False,
            soft_wrap=True,
        )
    console.print()
    console.print(f"Written: {directory}", markup=False, highlight=False, soft_wrap=True)


def _errors(run: Run) -> RichTable:
    table = plain_table(
        "Mean squared masked error per coordinate", "fitted to", "ridge", "train", "leave-one-out", "GCV", "held out"
    )
    names = ("ridge", "train", "leave_one_out", "gcv")
    rows = (
        (f"training rows ({len(run.train_rows)})", run.train_curve, number(run.ours.error)),
        (f"all rows ({len(run.table.values)}), written", run.curve, ""),
    )
    for label, curve, held_out in rows:
        values = curve.at_chosen()
        table.add_row(label, *(number(values[name]) for name in names), held_out)
    return table


def _comparison(run: Run) -> RichTable:
    held = len(run.table.values) - len(run.train_rows)
    table = plain_table(f"On the {held} held-out rows", "method", "chosen", "error", "share of variance")
    base = run.entries[0].error
    least = min(entry.error for entry in run.entries)
    for entry in run.entries:
        share = f"{entry.error / base:.1%}" if base > 0 else "–"
        style = "bold green" if entry.error == least else None
        table.add_row(entry.name, entry.choice, number(entry.error), share, style=style)
    return table


def _directions(run: Run) -> list[str]:
    """How many factors there are, were the noise independent: their strengths, the furthest first."""
    found = run.directions
    if found is None:
        return []
    strengths = ", ".join(number(value) for value in np.asarray(found.strengths[:_EXTREMES]))
    more = ", …" if found.count > _EXTREMES else ""
    which = f", of strength {strengths}{more}" if found.count else ""
    return [f"Factors, directions that stand out of independent noise (columns standardised): {found.count}{which}"]


def _extremes(run: Run) -> list[str]:
    r_squared = run.r_squared
    known = np.flatnonzero(np.isfinite(r_squared))
    if not known.size:
        return []
    order = known[np.argsort(-r_squared[known])]
    count = min(_EXTREMES, max(1, len(order) // 2))

    def words(chosen: np.ndarray) -> str:
        names = [run.table.columns[k] for k in chosen]
        named = [f"column {name}" if name.isdigit() else name for name in names]
        return ", ".join(f"{name} {r_squared[k]:.3f}" for name, k in zip(named, chosen, strict=True))

    return [
        "",
        f"Predicted best, as R² of rows left out: {words(order[:count])}",
        f"Predicted worst: {words(order[::-1][:count])}",
    ]
