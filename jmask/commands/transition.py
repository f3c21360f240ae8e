"""Phase diagrams: thresholds and overlaps on a grid of sample sizes or ridges and strengths, and the same measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .. import theory
from .._types import Array
from ..closed_form import fit
from ..covariance import Covariance, Diagonal, Spiked
from ..detect import FACTOR
from ..eigen import correlation_pca_eigen, pca_eigen, predictor_eigen
from ..theory.pencil import Estimator
from .progress import track

_BATCH_ELEMENTS = 2**23
_SIMULATED = 4  # places along either axis


@dataclass(frozen=True)
class Method:
    """A way to look for a direction by a right eigenvector, perhaps with ridges that go with the variances squared."""

    key: str
    label: str
    estimator: Estimator
    detecting: bool = False


_MASKED = Method("masked", "masked", "masked")
_DETECTING = Method("masked_detecting", "masked, ridge ∝ variance²", "masked", detecting=True)
_PCAS = (Method("correlation_pca", "correlation PCA", "correlation_pca"), Method("pca", "PCA", "pca"))


@dataclass(frozen=True)
class Diagram:
    """Thresholds (q, m) and overlaps (q, m, k) of q methods at m pairs of n and ridge, and k strengths.

    ``limit_threshold`` (m,) and
    ``limit_overlap`` (m, k) are what no method can beat, None where that is not known. NaN where there is no solution.
    """

    methods: tuple[Method, ...]
    n: np.ndarray
    ridge: np.ndarray
    strengths: np.ndarray
    threshold: np.ndarray
    overlap: np.ndarray
    limit_threshold: np.ndarray | None
    limit_overlap: np.ndarray | None


@dataclass(frozen=True)
class Measured:
    """Squared overlaps (q, seeds, a, b) of leading eigenvectors of samples, at a columns and b rows of a diagram."""

    columns: np.ndarray
    rows: np.ndarray
    overlap: np.ndarray

    def mean(self) -> np.ndarray:
        """(q, a, b) over the seeds."""
        return np.asarray(self.overlap.mean(1))

    def standard_error(self) -> np.ndarray:
        """(q, a, b) of that mean."""
        return np.asarray(self.overlap.std(1, ddof=1) / np.sqrt(self.overlap.shape[1]))


def methods_for(bulk: Covariance) -> tuple[Method, ...]:
    """Masked regression and both PCAs; with unequal independent noise also the ridges that detect most."""
    return (_MASKED, _DETECTING, *_PCAS) if _has_two(bulk) else (_MASKED, *_PCAS)


def _has_two(bulk: Covariance) -> bool:
    """Whether ridges that go with the variances squared differ from a single one, and reach a limit that is known."""
    return has_limit(bulk) and bool(np.ptp(bulk.diagonal()) > 0)


def has_limit(bulk: Covariance) -> bool:
    """Whether ``theory.bayes`` knows the limit."""
    return isinstance(bulk, Diagonal) and bool(np.asarray(bulk.variances).min() > 0)


def _penalties(method: Method, bulk: Covariance, ridge: np.ndarray, detecting: np.ndarray) -> Array:
    """A ridge (m,), or ridges (m, d) where there are two methods: equal ones, or detecting·(σ_k²/mean σ²)²."""
    if not _has_two(bulk):
        return jnp.asarray(ridge, float)
    variances = np.asarray(bulk.diagonal())
    shape = (variances / variances.mean()) ** 2 if method.detecting else np.ones_like(variances)
    return jnp.asarray((detecting if method.detecting else ridge)[:, None] * shape[None, :])


def detecting_scale(bulk: Covariance) -> float:
    """The ridge of a coordinate of mean variance in ``jmask.directions``."""
    return FACTOR * float(np.asarray(bulk.diagonal()).mean())


def thresholds(bulk: Covariance, n: np.ndarray, ridge: np.ndarray, detecting: np.ndarray) -> np.ndarray:
    """(q, m) critical strengths of ``methods_for(bulk)``."""
    found = [
        _thresholds(bulk, jnp.asarray(n, float), _penalties(method, bulk, ridge, detecting), method.estimator)
        for method in methods_for(bulk)
    ]
    return np.asarray(jnp.stack(found))


@partial(jax.jit, static_argnames="estimator")
def _thresholds(bulk: Covariance, n: Array, ridge: Array, estimator: Estimator) -> Array:
    return jax.vmap(lambda n, ridge: theory.threshold(bulk, n, ridge, estimator))(n, ridge)


def diagram(
    bulk: Covariance, n: np.ndarray, ridge: np.ndarray, detecting: np.ndarray, strengths: np.ndarray
) -> Diagram:
    """All thresholds and overlaps, in one compiled call.

    Parameters
    ----------
    bulk
        The noise.
    n, ridge, detecting
        (m,) sample sizes, scalar ridges, and scales of the ridges that go with the variances squared.
    strengths
        (k,) positive, ascending.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> from jmask.commands.transition import diagram
    >>> ones = np.ones(2)
    >>> found = diagram(jm.covariance.Diagonal(np.ones(20)), 20 * ones, ones, ones, np.array([0.5, 2.0]))
    >>> found.threshold[0].round(6).tolist(), found.overlap[0, 0].round(6).tolist()
    ([1.0, 1.0], [0.0, 0.5])
    """
    methods, known = methods_for(bulk), has_limit(bulk)
    masked = [method for method in methods if method.estimator == "masked"]  # one program serves them all
    spiked = Spiked(bulk, jnp.asarray(strengths, float))

    @jax.jit  # of ``spiked`` the values are known inside: spikes leave to the right alone, which halves the program
    def compute(n: Array, penalties: Array) -> tuple[Array | None, ...]:
        many = _columns(spiked, jnp.tile(n, len(masked)), penalties, "masked")
        split = [part.reshape(len(masked), len(n), *part.shape[1:]) for part in many]
        others = [_columns(spiked, n, penalties[: len(n)], m.estimator) for m in methods[len(masked) :]]
        rest = zip(*others, strict=True)
        critical, overlap = (jnp.concatenate([a, jnp.stack(b)]) for a, b in zip(split, rest, strict=True))
        if not known:
            return critical, overlap, None, None
        limit = jax.vmap(lambda n: theory.bayes(bulk, n, strengths))(n)  # type: ignore[arg-type]
        return critical, overlap, limit.threshold, limit.overlap

    penalties = jnp.concatenate([_penalties(method, bulk, ridge, detecting) for method in masked])
    found = compute(jnp.asarray(n, float), penalties)
    return Diagram(methods, n, ridge, strengths, *jax.tree.map(np.asarray, found))


def _columns(spiked: Spiked, n: Array, ridge: Array, estimator: Estimator) -> tuple[Array, Array]:
    """Thresholds (m,) and overlaps (m, k): spikes that are delocalised do not see each other, so one call has them all.

    Batches bound the memory.
    """
    bulk = spiked.bulk

    def column(at: tuple[Array, Array]) -> tuple[Array, Array]:
        return theory.threshold(bulk, *at, estimator), theory.outliers(spiked, *at, estimator).overlap

    d = bulk.dimension
    each = spiked.strengths.shape[0] * (d if isinstance(bulk, Diagonal) or bulk.constant_diagonal else d * d)
    return lax.map(column, (n, ridge), batch_size=max(1, _BATCH_ELEMENTS // each))


# ------------------------------------------------------------------------------------------------ simulation
def measure(bulk: Covariance, found: Diagram, detecting: np.ndarray, seeds: int, seed: int) -> Measured:
    """Overlaps of leading eigenvectors of samples with directions drawn anew, spread over the diagram."""
    columns, rows = _spread(len(found.n)), _spread(len(found.strengths))
    overlap = np.empty((len(found.methods), seeds, len(columns), len(rows)))
    places = [(s, a, b) for s in range(seeds) for a in range(len(columns)) for b in range(len(rows))]
    keys = jax.random.split(jax.random.key(seed), len(places))
    for key, (s, a, b) in zip(keys, track(places, "fitting samples"), strict=False):
        i = columns[a]
        here = found.n[i], found.ridge[i : i + 1], detecting[i : i + 1]
        overlap[:, s, a, b] = list(_overlaps(bulk, found.methods, *here, found.strengths[rows[b]], key))
    return Measured(columns, rows, overlap)


def _spread(size: int) -> np.ndarray:
    """Indices within an axis, its ends left out."""
    return np.unique(((np.arange(_SIMULATED) + 0.5) / _SIMULATED * (size - 1)).round().astype(int))


def _overlaps(
    bulk: Covariance,
    methods: tuple[Method, ...],
    n: float,
    ridge: np.ndarray,
    detecting: np.ndarray,
    strength: float,
    key: Array,
) -> Iterator[float]:
    """The largest eigenvalue's vector of each method, in one sample of round(n) rows."""
    truth = Spiked(bulk, jnp.array([strength])).realise(jax.random.fold_in(key, 0))
    x = truth.sample(jax.random.fold_in(key, 1), round(n))
    assert truth.directions is not None
    for method in methods:
        if method.estimator == "masked":
            penalty = _penalties(method, bulk, ridge, detecting)[0]
            eigen = predictor_eigen(fit(x, penalty))
        else:
            eigen = pca_eigen(x) if method.estimator == "pca" else correlation_pca_eigen(x)
        assert eigen.right is not None
        yield float(eigen.right[:, int(jnp.argmax(eigen.values))] @ truth.directions[:, 0]) ** 2
