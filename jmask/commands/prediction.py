"""Learning curves: predicted errors on a grid of sample sizes and ridges, and the same from fits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from .. import theory
from .._types import Array
from ..closed_form import fit
from ..covariance import Covariance
from ..gram import Gram
from ..masking import Partition, Scheme
from ..scales import Scales
from ..validation import test_error
from .progress import track

BEST = "best"
Choice = float | str
"""A ridge, or ``BEST``: that of least predicted test error, at every n its own."""

_LOWEST, _HIGHEST = 1e-6, 1e4  # where the best ridge is looked for, in units of the mean variance
_COARSE, _FINE, _ROUNDS = 41, 9, 3
_BATCH_ELEMENTS = 2**24
_MOST_LANES = 1024

Draw = Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""n and a generator to S = xᵀx/n of n samples, and the covariance that is tested on."""


@dataclass(frozen=True)
class Curves:
    """Errors (m, r) at m sample sizes n (m,) for r choices of ridge; ``ridge`` (m, r) is what was used.

    ``status`` as of ``theory.errors``; the errors are NaN where it is not 0.
    """

    n: np.ndarray
    choices: tuple[Choice, ...]
    ridge: np.ndarray
    train: np.ndarray
    test: np.ndarray
    status: np.ndarray

    def rows(self, chosen: slice) -> "Curves":
        """The same at some of the sample sizes."""
        cut = {name: getattr(self, name)[chosen] for name in ("n", "ridge", "train", "test", "status")}
        return replace(self, **cut)


@dataclass(frozen=True)
class Simulation:
    """Errors (seeds, m, r) of fits to samples, beside the prediction at the same n and ridges."""

    predicted: Curves
    train: np.ndarray
    test: np.ndarray

    def mean(self, name: str) -> np.ndarray:
        """(m, r) mean over the seeds of ``train`` or ``test``."""
        return np.asarray(getattr(self, name).mean(0))

    def standard_error(self, name: str) -> np.ndarray:
        """(m, r) of that mean."""
        errors = getattr(self, name)
        return np.asarray(errors.std(0, ddof=1) / np.sqrt(len(errors)))

    def z(self, name: str) -> np.ndarray:
        """(m, r) difference from the prediction in standard errors; NaN where the fits do not vary or have no error."""
        gap, error = self.mean(name) - getattr(self.predicted, name), self.standard_error(name)
        known = error > 1e-12 * np.abs(self.mean(name))
        return np.where(known, gap / np.where(known, error, 1), np.nan)


def predict(
    covariance: Covariance, n: np.ndarray, choices: Sequence[Choice], scheme: Scheme, scales: Scales | None
) -> Curves:
    """Predicted errors at sample sizes n (m,) for every choice of ridge.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> from jmask.commands.prediction import BEST, predict
    >>> curves = predict(jm.covariance.ar1(20, 0.9), np.array([10.0, 40.0]), [0.1, BEST], jm.LeaveOneOut(), None)
    >>> bool((curves.test[:, 1] <= curves.test[:, 0]).all())
    True
    """
    grid = _Grid(covariance, scheme, scales)
    ridge = np.empty((len(n), len(choices)))
    for j, choice in enumerate(choices):
        ridge[:, j] = grid.best_ridges(n) if choice == BEST else choice
    train, test, status = grid(np.broadcast_to(n[:, None], ridge.shape), ridge)
    return Curves(n, tuple(choices), ridge, train, test, status.astype(int))


@jax.jit
def _errors(
    covariance: Covariance, n: Array, ridge: Array, scheme: Scheme, scales: Scales | None
) -> tuple[Array, Array, Array]:
    def at(n: Array, ridge: Array) -> tuple[Array, Array, Array]:
        found = theory.errors(covariance, n, ridge, scheme, scales)
        return found.train, found.test, jnp.max(found.status)

    return jax.vmap(at)(n, ridge)


@dataclass(frozen=True)
class _Grid:
    """Errors of one population in vmapped calls of one size, so that it is compiled once; mostly it is one call."""

    covariance: Covariance
    scheme: Scheme
    scales: Scales | None

    def __call__(self, n: np.ndarray, ridge: np.ndarray) -> tuple[np.ndarray, ...]:
        """(train, test, status), in the shape of n and ridge."""
        shape, size = ridge.shape, self._lanes()
        flat = np.stack([n.ravel(), ridge.ravel()])
        padded = np.pad(flat, ((0, 0), (0, -flat.shape[1] % size)), mode="edge")
        parts = [
            _errors(
                self.covariance,
                jnp.asarray(padded[0, i : i + size]),
                jnp.asarray(padded[1, i : i + size]),
                self.scheme,
                self.scales,
            )
            for i in range(0, padded.shape[1], size)
        ]
        joined = (np.concatenate(part)[: flat.shape[1]].reshape(shape) for part in zip(*parts, strict=True))
        return tuple(joined)

    def _lanes(self) -> int:
        d = self.covariance.dimension
        each = d * d if isinstance(self.scheme, Partition) else d
        each += 0 if self.scales is None else self.scales.squares.shape[0]
        return int(np.clip(_BATCH_ELEMENTS // each, 1, _MOST_LANES))

    def best_ridges(self, n: np.ndarray) -> np.ndarray:
        """(m,) ridge of least test error at each n, to 1%; an end of the range where the error falls up to it."""
        variance = float(np.asarray(self.covariance.diagonal()).mean())
        lines = np.arange(len(n))
        exponents = np.broadcast_to(np.linspace(np.log10(_LOWEST), np.log10(_HIGHEST), _COARSE), (len(n), _COARSE))
        step = exponents[0, 1] - exponents[0, 0]
        for _ in range(_ROUNDS + 1):
            test = self(np.broadcast_to(n[:, None], exponents.shape), variance * 10**exponents)[1]
            best = exponents[lines, np.argmin(np.where(np.isfinite(test), test, np.inf), axis=1)]
            around = np.linspace(-step, step, _FINE)
            exponents, step = best[:, None] + around[None, :], around[1] - around[0]
        return np.asarray(variance * 10 ** np.clip(best, np.log10(_LOWEST), np.log10(_HIGHEST)))


def simulate(predicted: Curves, draw: Draw, scheme: Scheme, seeds: int, seed: int) -> Simulation:
    """Errors of fits to ``seeds`` independent draws at every n and ridge of a prediction; every n is whole."""
    generators = np.random.default_rng(seed).spawn(seeds)
    train, test = (np.empty((seeds, *predicted.ridge.shape)) for _ in range(2))
    for i, rng in enumerate(track(generators, "fits to samples")):
        for j, n in enumerate(predicted.n):
            sample, truth = draw(int(n), rng)
            gram = Gram(jnp.asarray(sample * n), jnp.zeros(len(sample)), jnp.asarray(float(n)))
            for k, ridge in enumerate(predicted.ridge[j]):
                fitted = fit(gram, float(ridge), scheme)
                train[i, j, k] = test_error(fitted, sample)
                test[i, j, k] = test_error(fitted, truth)
    return Simulation(predicted, train, test)


def draw_from(covariance: Covariance) -> Draw:
    """Gaussian samples of a population whose random parts are fixed; tested on the population itself."""
    root = _root(covariance)
    truth = np.asarray(covariance.matrix())

    def draw(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(size=(n, len(truth))) @ root
        return x.T @ x / n, truth

    return draw


def _root(covariance: Covariance) -> np.ndarray:
    values, vectors = np.linalg.eigh(np.asarray(covariance.matrix()))
    return np.asarray(np.sqrt(np.maximum(values, 0))[:, None] * vectors.T)


def draw_rows(x: np.ndarray) -> Draw:
    """Random rows of data (N, d), tested on all the rows left out."""
    total = x.T @ x

    def draw(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        rows = x[rng.permutation(len(x))[:n]]
        scatter = rows.T @ rows
        return scatter / n, (total - scatter) / (len(x) - n)

    return draw
