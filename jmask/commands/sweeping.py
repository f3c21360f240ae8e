"""``jmask sweep``: studies simulated and predicted, their table and figures."""

import json
import shlex
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..study.convergence import convergence
from ..study.plan import Study, read_studies, write_studies
from ..study.presets import PRESETS, preset
from ..study.run import Progress as State
from ..study.run import sweep
from ..study.schedule import Estimate
from ..study.table import Row, SweepTable
from .options import PROGRAM, SUMMARY
from .progress import warn
from .report import number, plain_table, terminal

STORE, STUDY = "sweep.db", "study.toml"
_SHOWN = 25
_LARGE = 4.5


def run_sweep(
    study: str,
    *,
    out: Path | None,
    resume: bool,
    memory: str | None,
    workers: int | None,
    scheduler: str | None,
    command: list[str],
) -> None:
    """What ``jmask sweep`` does; see its help."""
    name, studies = _studies(study)
    directory = Path(f"jmask-sweep-{name}") if out is None else out
    _check_directory(directory, resume)
    limit = None if memory is None else parse_memory(memory)
    console = terminal()
    directory.mkdir(exist_ok=True)
    (directory / STUDY).write_text(write_studies(studies), encoding="utf-8")
    with _Bar() as bar:
        try:
            table = sweep(
                studies,
                directory / STORE,
                memory=limit,
                workers=workers,
                scheduler=scheduler,
                progress=bar.advance,
                planned=lambda found: _say_plan(console, found),
            )
        except KeyboardInterrupt:
            bar.stop()
            warn(f"what was computed is in {directory / STORE}: go on with {_resumed(command)}")
            raise
    written = _write(table, directory, command)
    _print(console, table, directory, written)


def _resumed(command: list[str]) -> str:
    return shlex.join(command if "--resume" in command else [*command, "--resume"])


def _studies(text: str) -> tuple[str, list[Study]]:
    """A preset, or a TOML file."""
    if text in PRESETS:
        return text, preset(text)
    if not text.endswith(".toml") and not Path(text).exists():
        raise ValueError(f"{text!r} is neither a preset ({', '.join(PRESETS)}) nor a TOML file")
    return Path(text).stem, read_studies(text)


def _check_directory(directory: Path, resume: bool) -> None:
    """Refuse to compute again what is stored, and to write among files that are not ours."""
    if not directory.absolute().parent.is_dir():
        raise FileNotFoundError(f"--out {directory}: the directory {directory.absolute().parent} does not exist")
    if directory.exists() and not directory.is_dir():
        raise FileExistsError(f"--out {directory}: is a file, a directory is wanted")
    present = sorted(entry.name for entry in directory.iterdir()) if directory.exists() else []
    if STORE in present and not resume:
        raise ValueError(f"{directory / STORE} is there already: add --resume to continue it, or choose another --out")
    if present and STORE not in present and STUDY not in present:
        raise FileExistsError(f"--out {directory}: holds {present[0]}, not a sweep; choose another directory")


def parse_memory(text: str) -> int:
    """Bytes from ``8G``, ``500M`` or a plain number.

    Examples
    --------
    >>> from jmask.commands.sweeping import parse_memory
    >>> parse_memory("2G"), parse_memory("1000")
    (2147483648, 1000)
    """
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    body = text.strip().upper().removesuffix("IB").removesuffix("B")
    unit = units.get(body[-1:], 1)
    try:
        size = float(body[:-1] if body[-1:] in units else body) * unit
    except ValueError:
        size = -1.0
    if not 0 < size < np.inf:
        raise ValueError(f"--memory must be a size such as 8G or 500M, got {text!r}")
    return int(size)


def _say_plan(console: Console, found: Estimate) -> None:
    stored = f", {found.stored} of them stored already" if found.stored else ""
    text = (
        f"{found.points} points, {found.rows + found.stored} values{stored}; at most {_size(found.memory)} at a time, "
        f"about {_duration(found.seconds)}, {found.programs} programs to compile"
    )
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{max(count / 2**20, 0.1):.3g} MiB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class _Bar:
    """A bar with rate and time left on a terminal; nothing elsewhere."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("simulating"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("sweep", total=None, note="")

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar away."""
        self._progress.stop()

    def advance(self, state: State) -> None:
        """Show where the run stands."""
        done = state.done + state.failed
        rate = done / state.elapsed if state.elapsed > 0 else 0.0
        left = _duration((state.total - done) / rate) if rate else "?"
        failed = f", {state.failed} failed" if state.failed else ""
        note = f"{done}/{state.total} values, {rate:.0f} a second, {left} left{failed}"
        self._progress.update(self._task, total=state.total, completed=done, note=note)


def _write(table: SweepTable, directory: Path, command: list[str]) -> list[str]:
    from .. import plot_sweep

    table.to_pandas().to_csv(directory / "sweep.csv", index=False)
    drawn = plot_sweep.figures(table)
    for stem, figure in drawn.items():
        plot_sweep.save(figure, directory / f"{stem}.png")
    summary = {
        "program": PROGRAM,
        "command": shlex.join(command),
        "environment": table.environment,
        "devices": [str(device) for device in jax.local_devices()],
        "compile_seconds": table.compile_seconds,
        "run_seconds": table.run_seconds,
        "rows": len(table.rows),
        "worst": [_worst(row) for row in table.worst_first()[:3] if np.isfinite(row.z)],
        "exponents": {f"{study.name}: {name}": fit for study, name, fit, _ in _exponents(table)},
        "failed": sorted({row.reason for row in table.rows if row.reason}),
    }
    (directory / SUMMARY).write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return [STORE, "sweep.csv", *(f"{stem}.png" for stem in drawn)]


def _worst(row: Row) -> dict[str, Any]:
    return {"point": vars(row.point), "quantity": row.quantity, "mean": row.mean, "theory": row.theory, "z": row.z}


def _exponents(table: SweepTable) -> list[tuple[Study, str, float, float]]:
    """The fitted powers of d, for every quantity of the studies with three dimensions or more."""
    return [
        (study, name, fit.exponent, fit.standard_error)
        for study in table.studies
        for name in study.measure
        if (fit := convergence(table.of(study).rows, name)) is not None
    ]


def _print(console: Console, table: SweepTable, directory: Path, written: list[str]) -> None:
    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    console.print()
    console.print(_worst_table(table))
    scores = np.array([abs(row.z) for row in table.rows if np.isfinite(row.z)])
    if len(table.rows) > _SHOWN:
        say(f"… and {len(table.rows) - _SHOWN} more rows in {directory / 'sweep.csv'}")
    if scores.size:
        beyond = int((scores >= _LARGE).sum())
        spread = f"median |z| {np.median(scores):.1f}, largest {scores.max():.1f}"
        say(f"{scores.size} z-scores, {spread}, {beyond} of {_LARGE} or more")
        if beyond:
            say("The theory is a limit: with enough draws its distance of order 1/d shows in z.")
    for study, name, exponent, error in _exponents(table):
        say(f"{study.name}: {name} of a draw differs from theory by a share ∝ d^({exponent:.2f} ± {error:.2f})")
    say(f"Compiling took {_duration(table.compile_seconds)}, computing {_duration(table.run_seconds)}")
    for reason in sorted({row.reason for row in table.rows if row.reason}):
        warn(f"{sum(row.reason == reason for row in table.rows)} rows lack draws: {reason}")
    say(f"Written: {directory} ({', '.join(written)})")


def _worst_table(table: SweepTable) -> Any:
    headers = ("population", "d", "n/d", "ridge", "mask", "θ", "quantity", "simulation", "theory", "z")
    shown = plain_table("Simulation ± standard error beside theory, worst z first", *headers)
    for column in shown.columns:  # in a narrow window names break, numbers never
        if column.header in ("population", "mask", "quantity"):
            column.no_wrap, column.overflow = False, "fold"
    for row in table.worst_first()[:_SHOWN]:
        point = row.point
        shown.add_row(
            point.population,
            str(point.dimension),
            f"{point.ratio:.3g}",
            f"{point.ridge:g}",
            point.scheme,
            f"{point.strength:g}" if point.strength else "–",
            row.quantity,
            f"{number(row.mean)} ± {row.standard_error:.1g}" if np.isfinite(row.standard_error) else number(row.mean),
            number(row.theory),
            f"{row.z:+.1f}" if np.isfinite(row.z) else "–",
        )
    return shown
