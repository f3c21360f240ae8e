"""``jmask theory``: predicted learning curves of a population or of a data file, and fits that check them."""

from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from .._types import CONVERGED, STATUS_ADVICE
from ..masking import Partition, Scheme
from . import learning_files, learning_report, report
from .options import Scale, check_directory, output_directory, parse_mask
from .prediction import BEST, Choice, Curves, Draw, Simulation, draw_from, draw_rows, predict, simulate
from .progress import status
from .source import Source, read_source

_DEFAULT_SHARES = (1e-5, 1e-3, 1e-1)  # default ridges, in units of the mean variance
_NEAR_PEAK = np.array([0.003, 0.01, 0.02, 0.04, 0.06, 0.1])  # |log n/d| of the points added where curves peak
_SIMULATED = 9
_LEFT_OUT = 5  # one row in so many at least is left to test on


@dataclass(frozen=True)
class Run:
    """Predicted curves, and fits beside them where asked for."""

    source: Source
    scheme: Scheme
    curves: Curves
    simulation: Simulation | None

    @property
    def dimension(self) -> int:
        return self.source.population.dimension


def run_theory(
    source: str,
    *,
    dimension: int | None,
    ridge: str | None,
    ratio: str,
    points: int,
    mask: str,
    elliptical: bool,
    simulations: int,
    scale: Scale,
    columns: str | None,
    id_column: str | None,
    seed: int,
    out: Path | None,
    command: list[str],
) -> None:
    """What ``jmask theory`` does; see its help."""
    choices = None if ridge is None else parse_ridges(ridge)
    ratios = parse_ratios(ratio, points)
    if simulations < 0 or simulations == 1:
        raise ValueError(f"--simulate must be 0, or at least 2 seeds for an error bar, got {simulations}")
    found = read_source(source, dimension, scale, columns, id_column, elliptical=elliptical)
    scheme = parse_mask(mask, found.population.dimension)
    directory = Path(f"jmask-theory-{found.stem}") if out is None else out
    check_directory(directory)
    console = report.terminal()
    if found.table is not None:
        report.print_source(console, found.table)
    run = _run(found, choices or _default_ridges(found.variance), ratios, scheme, simulations, seed)
    with output_directory(directory) as temporary:
        learning_files.write(run, learning_files.summarise(run, scale, seed, command), temporary)
    learning_report.print_run(console, run, directory)


def parse_ridges(text: str) -> list[Choice]:
    """Penalties separated by commas, among them perhaps ``best``.

    Examples
    --------
    >>> from jmask.commands.learning_curve import parse_ridges
    >>> parse_ridges("0.01,best")
    [0.01, 'best']
    """
    choices: list[Choice] = []
    for part in (part.strip() for part in text.split(",")):
        try:
            value: Choice = BEST if part == BEST else float(part)
        except ValueError:
            raise ValueError(f"--ridge must be numbers or best, separated by commas, got {part!r}") from None
        if isinstance(value, float) and not (0 <= value < np.inf):
            raise ValueError(f"--ridge must be finite and not negative, got {part}")
        if value in choices:
            raise ValueError(f"--ridge holds {part} twice")
        choices.append(value)
    return choices


def parse_ratios(text: str, points: int) -> np.ndarray:
    """Ascending n/d, spaced evenly in their logarithm, with a few more around n = d.

    Examples
    --------
    >>> from jmask.commands.learning_curve import parse_ratios
    >>> parse_ratios("2..8", 3).round(6).tolist()
    [2.0, 4.0, 8.0]
    """
    parts = text.split("..")
    try:
        low, high = (float(part) for part in parts)
    except ValueError:
        raise ValueError(f"--ratio must be LOW..HIGH, such as 0.1..10, got {text!r}") from None
    if not 0 < low < high < np.inf:
        raise ValueError(f"--ratio must be LOW..HIGH with 0 < LOW < HIGH, got {text!r}")
    grid = np.geomspace(low, high, points)
    grid[np.abs(np.log(grid)) < 1e-9] = 1.0
    near = np.exp([*-_NEAR_PEAK, 0.0, *_NEAR_PEAK])
    apart = np.abs(np.log(near[:, None] / grid[None, :])).min(axis=1) > _NEAR_PEAK[0] / 2
    wanted = (near > low) & (near < high) & (apart | (near == 1))
    return np.unique([*grid, *near[wanted]])


def _default_ridges(variance: float) -> list[Choice]:
    return [*(float(f"{share * variance:.1g}") for share in _DEFAULT_SHARES), BEST]


def _run(source: Source, choices: list[Choice], ratios: np.ndarray, scheme: Scheme, simulations: int, seed: int) -> Run:
    d = source.population.dimension
    fixed = source.population.realise(jax.random.key(seed))
    whole = _whole_sizes(source, ratios) if simulations else np.empty(0)
    # A partition hides given coordinates, so the directions matter: then the theory needs those drawn.
    believed = fixed if isinstance(scheme, Partition) else source.population
    with status("solving the fixed points"):
        everywhere = predict(believed, np.concatenate([ratios * d, whole]), choices, scheme, source.scales)
    curves = everywhere.rows(slice(0, len(ratios)))
    if not (curves.status == CONVERGED).any():
        raise ValueError(f"no point has a solution: {STATUS_ADVICE[int(curves.status.max())]}")
    simulation = None
    if simulations:
        draw: Draw = draw_from(fixed) if source.x is None else draw_rows(source.x)
        simulation = simulate(everywhere.rows(slice(len(ratios), None)), draw, scheme, simulations, seed)
    return Run(source, scheme, curves, simulation)


def _whole_sizes(source: Source, ratios: np.ndarray) -> np.ndarray:
    """Whole sample sizes to simulate at, spread over the range as far as the data goes."""
    d = source.population.dimension
    low, high = max(2.0, ratios[0] * d), ratios[-1] * d
    if source.x is not None:
        high = min(high, len(source.x) - max(2, len(source.x) // _LEFT_OUT))
    if high < low:
        raise ValueError(f"--simulate: --ratio asks for {low:g} rows or more, and {high:g} are there to fit")
    return np.unique(np.geomspace(low, high, _SIMULATED).round())
