"""Held-out masked error of the mean, the PCA family, linear and nonlinear shrinkage."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from .. import baselines
from .._types import Array
from ..closed_form import fit
from ..gram import Gram
from ..masking import LeaveOneOut, Partition, Scheme
from ..objective import sample_errors

_MAX_RANKS = 64
_HELD_OUT = 5  # one row in so many
_MIN_NONLINEAR = 12  # rows for nonlinear shrinkage to have a value
_NO_RIDGE = 1e-12  # in units of the mean variance
_BATCH_ELEMENTS = 2**26  # entries of the precisions of all ranks that are held at once

Baseline = Callable[..., baselines.Predictor]


@dataclass(frozen=True)
class Entry:
    """A method, what it chose on the training rows, and its held-out error of every coordinate (d,)."""

    name: str
    choice: str
    per_coordinate: np.ndarray

    @property
    def error(self) -> float:
        """Mean over coordinates."""
        return float(self.per_coordinate.mean())


def compare(train: np.ndarray, test: np.ndarray, scheme: Scheme, rng: np.random.Generator) -> list[Entry]:
    """Baselines fitted to training rows (n, d), with their errors on held-out rows (m, d) under the scheme.

    Ranks are chosen on the training rows alone, by the error on a fifth of them. Constant columns, for which
    some estimates do not exist, are predicted by their mean in every method.
    """
    varying = np.ptp(train, axis=0) > 0
    chosen, other, inner = train[:, varying], test[:, varying], _restrict(scheme, varying)
    mean = (test**2).mean(0)
    order = rng.permutation(len(chosen))
    held = max(1, len(order) // 5)
    first, second = chosen[order[held:]], chosen[order[:held]]
    entries = [Entry("mean", "", mean)]
    if varying.sum() < 2 or inner is None:
        return entries

    def add(name: str, choice: str, errors: Array) -> None:
        filled = mean.copy()
        filled[varying] = np.asarray(errors)
        if np.isfinite(filled).all():
            entries.append(Entry(name, choice, filled))

    estimators: list[tuple[str, Baseline]] = [
        ("PPCA", baselines.ppca),
        ("correlation PCA", baselines.correlation_pca),
    ]
    for name, estimate in estimators:
        rank = _best_rank(estimate, first, second, inner)
        add(name, f"rank {rank}", _held_out(estimate, jnp.asarray(chosen), jnp.asarray(other), inner, rank))
    shrinkage: list[tuple[str, Baseline]] = [("Ledoit–Wolf", baselines.ledoit_wolf)]
    if len(chosen) >= _MIN_NONLINEAR:
        shrinkage.append(("nonlinear shrinkage", baselines.nonlinear_shrinkage))
    for name, estimate in shrinkage:
        add(name, "", _held_out(estimate, jnp.asarray(chosen), jnp.asarray(other), inner, None))
    return entries


def split_rows(rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Training rows and a fifth of the rows, held out; each in order."""
    order = rng.permutation(rows)
    held = max(1, round(rows / _HELD_OUT))
    return np.sort(order[held:]), np.sort(order[:held])


def _restrict(scheme: Scheme, kept: np.ndarray) -> Scheme | None:
    """The scheme on some of the coordinates; None where it would leave nothing to predict from."""
    if not isinstance(scheme, Partition):
        return scheme
    groups = np.asarray(scheme.groups)[kept]
    return Partition(groups.tolist()) if np.unique(groups).size > 1 else None


def _best_rank(estimate: Baseline, first: np.ndarray, second: np.ndarray, scheme: Scheme) -> int:
    """The rank of least error on ``second`` after a fit to ``first``; of many, 64 spread evenly in their logarithm."""
    n, d = first.shape
    top = max(1, min(d - 1, n - 1))
    ranks = (
        np.unique(np.geomspace(1, top, _MAX_RANKS).round().astype(int)) if top > _MAX_RANKS else np.arange(1, top + 1)
    )
    batch = min(len(ranks), max(1, _BATCH_ELEMENTS // d**2))
    padded = np.pad(ranks, (0, -len(ranks) % batch), mode="edge").reshape(-1, batch)
    errors = [
        np.asarray(_rank_errors(estimate, jnp.asarray(first), jnp.asarray(second), scheme, jnp.asarray(r)))
        for r in padded
    ]
    joined = np.concatenate(errors)[: len(ranks)]
    return int(ranks[np.nanargmin(joined)]) if np.isfinite(joined).any() else 1


@partial(jax.jit, static_argnums=0)
def _rank_errors(estimate: Baseline, first: Array, second: Array, scheme: Scheme, ranks: Array) -> Array:
    def error(rank: Array) -> Array:
        return sample_errors(_weights(estimate(first, rank), scheme), second, scheme).mean()

    return jax.vmap(error)(ranks)


@partial(jax.jit, static_argnums=0)
def _held_out(estimate: Baseline, train: Array, test: Array, scheme: Scheme, rank: Array | None) -> Array:
    predictor = estimate(train) if rank is None else estimate(train, rank)
    return sample_errors(_weights(predictor, scheme), test, scheme)


def _weights(predictor: baselines.Predictor, scheme: Scheme) -> Array:
    """The best weights under a scheme if the predictor's covariance were the truth: the fit to it, hardly penalised.

    The penalty is too small to be seen, and spares the pseudo-inverses of the limit.
    """
    if isinstance(scheme, LeaveOneOut):
        return predictor.weights
    covariance = jnp.linalg.inv(predictor.precision)
    moments = Gram(covariance, jnp.zeros_like(covariance[0]), jnp.ones((), covariance.dtype))
    return fit(moments, _NO_RIDGE * jnp.trace(covariance) / len(covariance), scheme).weights
