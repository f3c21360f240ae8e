"""``jmask descent``: training curves predicted before any training, and measured beside."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from .. import theory, tune
from .._types import CONVERGED, Array
from ..closed_form import fit
from ..covariance import Covariance
from ..descent import snapshots
from ..gram import Gram
from ..masking import LeaveOneOut
from ..objective import moment_errors
from . import descending_files, descending_report, report
from .optimisers import Optimiser, optimisers, spectrum_interval
from .options import Scale, check_directory, output_directory
from .prediction import Draw, draw_from, draw_rows
from .progress import status, track, warn
from .source import Source, read_source

_ROWS_A_COLUMN = 2  # of the training samples by default
_HELD_OUT = 5  # one row of data in so many at least is left to test on
_LINE, _POINTS = 160, 12


@dataclass(frozen=True)
class Measured:
    """Errors (draws, t) after ``steps`` (t,), and the products made by then (draws, t)."""

    steps: np.ndarray
    products: np.ndarray
    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Course:
    """What one optimiser does: predicted along ``steps`` (t,), NaN where not known, and measured beside.

    ``best`` is the predicted number of steps of least test error; None without theory.
    """

    optimiser: Optimiser
    steps: np.ndarray
    train: np.ndarray
    test: np.ndarray
    status: np.ndarray
    best: int | None
    measured: Measured | None = None

    @property
    def best_test(self) -> float:
        """Predicted test error at the best step."""
        return float(self.test[self.steps == self.best][0]) if self.best is not None else np.nan


@dataclass(frozen=True)
class Closed:
    """Errors of the closed form at one ridge: predicted, and measured (draws,)."""

    ridge: float
    train: float
    test: float
    train_measured: np.ndarray
    test_measured: np.ndarray


@dataclass(frozen=True)
class Run:
    """All courses beside the closed form at their own ridge and at the best."""

    source: Source
    n: int
    most: int
    courses: list[Course]
    closed: Closed
    best: Closed
    draws: int


def run_descent(
    source: str,
    *,
    dimension: int | None,
    rows: int | None,
    ridge: float,
    steps: int,
    draws: int,
    scale: Scale,
    columns: str | None,
    id_column: str | None,
    seed: int,
    out: Path | None,
    command: list[str],
) -> None:
    """What ``jmask descent`` does; see its help."""
    if not 0 <= ridge < np.inf:
        raise ValueError(f"--ridge must be finite and not negative, got {ridge:g}")
    if draws < 0 or draws == 1:
        raise ValueError(f"--draws must be 0, or at least 2 for an error bar, got {draws}")
    found = read_source(source, dimension, scale, columns, id_column)
    n = _rows(found, rows)
    directory = Path(f"jmask-descent-{found.stem}") if out is None else out
    check_directory(directory)
    console = report.terminal()
    if found.table is not None:
        report.print_source(console, found.table)
    run = _run(found, n, ridge, steps, draws, seed)
    with output_directory(directory) as temporary:
        descending_files.write(run, descending_files.summarise(run, scale, seed, command), temporary)
    descending_report.print_run(console, run, directory)


def _rows(source: Source, rows: int | None) -> int:
    """How many samples are trained on."""
    wanted = _ROWS_A_COLUMN * source.population.dimension if rows is None else rows
    if source.x is None:
        return wanted
    most = len(source.x) - max(1, len(source.x) // _HELD_OUT)
    if most < 1 or (rows is not None and rows > most):
        raise ValueError(
            f"--rows: {source.name} has {len(source.x)} rows, of which at most {max(most, 0)} may be trained on, "
            f"got {wanted}"
        )
    return min(wanted, most)


def _run(source: Source, n: int, ridge: float, most: int, draws: int, seed: int) -> Run:
    population = source.population.realise(jax.random.key(seed))
    low, high = spectrum_interval(population, n, ridge, most)
    if not high > low:
        raise ValueError(f"{source.name}: nothing varies, so there is nothing to descend")
    with status("predicting the curves"):
        courses = [predict(rule, source.population, n, ridge, most) for rule in optimisers(low, high)]
        ended, least = theory.errors(source.population, n, ridge), tune.population_ridge(source.population, n)
    if all((course.status != CONVERGED).all() for course in courses):
        raise ValueError(f"{source.name}: no training curve could be predicted at n = {n}")
    rng = np.random.default_rng(seed)
    draw: Draw = draw_from(population) if source.x is None else draw_rows(source.x)
    pairs = [draw(n, rng) for _ in range(draws)]
    if draws:
        courses = [_with_points(course, pairs, ridge) for course in track(courses, "descending")]
    closed = _closed(pairs, ridge, float(ended.train), float(ended.test))
    at_best = theory.errors(source.population, n, least.ridge) if np.isfinite(float(least.ridge)) else None
    best = _closed(pairs, float(least.ridge), np.nan if at_best is None else float(at_best.train), float(least.test))
    return Run(source, n, most, courses, closed, best, draws)


def predict(optimiser: Optimiser, covariance: Covariance, n: float, ridge: float, most: int) -> Course:
    """The predicted course of an optimiser over ``most`` steps, the best of all whole numbers among them."""
    grid = np.union1d(_spread(most, _LINE), _spread(most, _POINTS))
    if optimiser.predicted is None:
        nothing = np.full(len(grid), np.nan)
        return Course(optimiser, grid, nothing, nothing, np.full(len(grid), CONVERGED), None)

    def errors(steps: np.ndarray) -> theory.Descent:
        return theory.descent(covariance, n, ridge, steps=steps, **optimiser.predicted)  # type: ignore[arg-type]

    found = errors(grid)
    test = np.asarray(found.test)
    if not np.isfinite(test).any():
        return Course(optimiser, grid, np.asarray(found.train), test, np.asarray(found.status), None)
    least = int(np.nanargmin(test))
    below, above = grid[max(least - 1, 0)], grid[min(least + 1, len(grid) - 1)]
    near = errors(np.linspace(below, above, len(grid)).round().astype(int))  # as many, so nothing compiles again
    steps = np.concatenate([grid, np.asarray(near.steps)])
    order = np.unique(steps, return_index=True)[1]
    train, test, state = (
        np.concatenate([np.asarray(getattr(part, name)) for part in (found, near)])[order]
        for name in ("train", "test", "status")
    )
    return Course(optimiser, steps[order], train, test, state, int(steps[order][np.nanargmin(test)]))


def _spread(most: int, count: int) -> np.ndarray:
    """Whole numbers from 1 to ``most``, evenly in their logarithm, ``count`` where there are so many."""
    return np.unique(np.geomspace(1, most, count).round().astype(int))


def _moments(sample: np.ndarray) -> Gram:
    """A second moment as the Gram of one row would hold it: fits depend on nothing else."""
    s = jnp.asarray(sample)
    return Gram(s, jnp.zeros_like(s[0]), jnp.ones((), s.dtype))


@jax.jit
def _errors(weights: Array, sample: Array, truth: Array) -> Array:
    return jnp.stack([moment_errors(weights, moment, LeaveOneOut()).mean() for moment in (sample, truth)])


def _with_points(course: Course, pairs: Sequence[tuple[np.ndarray, np.ndarray]], ridge: float) -> Course:
    """The course, with descents on samples beside it; also at the predicted best step."""
    most = int(course.steps[-1])
    wanted = {*_spread(most, _POINTS).tolist(), *([course.best] if course.best else [])}
    steps, rule = sorted(wanted), course.optimiser
    errors, products = np.empty((len(pairs), len(steps), 2)), np.empty((len(pairs), len(steps)))
    for i, (sample, truth) in enumerate(pairs):
        for j, (weights, state) in enumerate(snapshots(_moments(sample), ridge, steps, optimizer=rule.rule)):
            errors[i, j] = _errors(weights, jnp.asarray(sample), jnp.asarray(truth))
            products[i, j] = rule.products(steps[j], state)
    errors = np.where(np.isfinite(errors), errors, np.nan)
    if np.isnan(errors).any():
        warn(f"{rule.name} diverged on the samples: its largest curvature lies beyond what was predicted")
    measured = Measured(np.array(steps), products, errors[:, :, 0], errors[:, :, 1])
    return Course(course.optimiser, course.steps, course.train, course.test, course.status, course.best, measured)


def _closed(pairs: Sequence[tuple[np.ndarray, np.ndarray]], ridge: float, train: float, test: float) -> Closed:
    measured = np.full((2, len(pairs)), np.nan)
    for i, (sample, truth) in enumerate(pairs if np.isfinite(ridge) else []):
        weights = fit(_moments(sample), ridge).weights
        measured[:, i] = _errors(weights, jnp.asarray(sample), jnp.asarray(truth))
    return Closed(ridge, train, test, measured[0], measured[1])
