"""What every spectral predictor reaches in theory on one population, and ξ(x), which says why."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from .. import theory
from .._types import CONVERGED, STATUS_ADVICE, ArrayLike
from ..covariance import Covariance
from ..masking import LeaveOneOut
from ..theory.real_axis import SampleSpectrum, sample_spectrum
from ..theory.spectral import risk_of
from .prediction import BEST, predict

MEAN, RIDGE, PPCA = "mean", "masked ridge", "PPCA"
LINEAR, NONLINEAR = "Ledoit–Wolf", "nonlinear shrinkage"
FLOOR, CONDITIONAL = "floor", "conditional variance"

_NODES = 512
_RANK_TOLERANCE = 1e-4  # times d: a best rank so close to a gap is at the gap
_SINGULAR = 1e-13  # eigenvalues of Σ below this share of the largest count as so large


@dataclass(frozen=True)
class Rival:
    """A method, what it chose, its masked error; and the shape its shrinker takes ξ to have, where it has one."""

    name: str
    choice: str
    error: float
    believed: np.ndarray | None = None


@dataclass(frozen=True)
class Fight:
    """All rivals at one sample size, and ξ (k,) at sample eigenvalues x (k,) that carry a share ``weight`` each.

    The weight is that of dF/ξ, under which R[h]/floor is 1 + CV² of h·ξ where Σ has a constant diagonal. A gap in the
    spectrum is one line of NaN. The null space of S (n < d) is left out of the three.
    """

    n: float
    dimension: int
    rivals: tuple[Rival, ...]
    x: np.ndarray
    xi: np.ndarray
    weight: np.ndarray

    def error(self, name: str) -> float:
        """Masked error of a rival."""
        return next(rival.error for rival in self.rivals if rival.name == name)


def fight(population: Covariance, n: float) -> Fight:
    """Every rival on a population of which nothing is random."""
    d = population.dimension
    eigenvalues = np.asarray(population.eigenvalues())
    variance = float(eigenvalues.mean())
    if variance == 0:
        raise ValueError("the population does not vary: there is nothing to predict")
    shrunk = _linear_ridge(eigenvalues, n)
    curves = predict(population, np.array([float(n)]), [BEST, shrunk], LeaveOneOut(), None)
    (best, _), (ridge_error, linear_error) = curves.ridge[0], curves.test[0]
    pca, floor = theory.best_rank(population, n), theory.floor(population, n)
    for status in (*curves.status.ravel(), int(pca.status), int(floor.status)):
        if status != CONVERGED:
            raise ValueError(f"no prediction at n = {n:g}, d = {d}: {STATUS_ADVICE[int(status)]}")
    nodes = sample_spectrum(jnp.asarray(eigenvalues), jnp.asarray(float(n)), size=_NODES)
    rank = float(pca.rank)
    rivals = (
        Rival(MEAN, "", variance),
        Rival(RIDGE, f"ridge {best:.3g}", float(ridge_error), believed_variance(nodes, 1 / (nodes.x + best))),
        Rival(PPCA, f"rank {rank:.3g}", float(pca.masked_error), believed_variance(nodes, ppca_shrinker(nodes, rank))),
        Rival(LINEAR, f"ridge {shrunk:.3g}", float(linear_error), believed_variance(nodes, 1 / (nodes.x + shrunk))),
        Rival(NONLINEAR, "", _nonlinear(population, nodes)),
        Rival(FLOOR, "", float(floor.error)),
        Rival(CONDITIONAL, "", _conditional_variance(population)),
    )
    return Fight(float(n), d, rivals, *shown(nodes))


def _linear_ridge(eigenvalues: np.ndarray, n: float) -> float:
    """The ridge γμ³/Var that linear shrinkage tends to; far beyond all variances where they are equal."""
    mean, spread = eigenvalues.mean(), max(eigenvalues.var(), 1e-9 * eigenvalues.mean() ** 2)
    return float(len(eigenvalues) / n * mean**3 / spread)


def _inverse_variance(nodes: SampleSpectrum) -> np.ndarray:
    """1/ξ, 0 where nothing is."""
    there = np.asarray(nodes.weight) > 0
    return np.where(there, 1 / np.where(there, np.asarray(nodes.at.variance), 1), 0)


def _nonlinear(population: Covariance, nodes: SampleSpectrum) -> float:
    return float(risk_of(population, nodes, jnp.asarray(_inverse_variance(nodes))).mean())


def _conditional_variance(population: Covariance) -> float:
    """Mean of 1/[Σ⁻¹]_kk: the error with Σ known."""
    m = population.eigenvalues()
    inverse = 1 / jnp.maximum(m, _SINGULAR * m.max())
    return float((1 / population.spectral_diagonal(inverse, -(inverse**2))).mean())


def ppca_shrinker(nodes: SampleSpectrum, rank: float) -> np.ndarray:
    """(k,) h of PPCA at the nodes; a rank at a gap separates the nodes on either side of it."""
    d, weight, x = nodes.eigenvalues.shape[0], np.asarray(nodes.weight), np.asarray(nodes.x)
    kept, mass = 1 - rank / d, np.cumsum(weight)
    below = mass - weight / 2 < kept
    for gap in _gaps(nodes):
        if abs(mass[gap] - kept) < _RANK_TOLERANCE:
            below = np.arange(len(x)) <= gap
    below[0] = True
    rest = (weight * x)[below].sum() / weight[below].sum()
    return np.where(below, 1, rest / np.where(below, 1, x))


def believed_variance(nodes: SampleSpectrum, h: ArrayLike) -> np.ndarray:
    """1/h as ``shown``, scaled so that h·ξ has mean 1 under dF/ξ: of the h at the floor it would be ξ."""
    weight, values = np.asarray(nodes.weight), np.asarray(h)
    scale = (weight * _inverse_variance(nodes)).sum() / (weight * values).sum()
    return _opened(nodes, 1 / (values * scale)[1:])


def shown(nodes: SampleSpectrum) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, ξ and the share of dF/ξ at the nodes but the atom; NaN in every gap of the spectrum."""
    share = np.asarray(nodes.weight) * _inverse_variance(nodes)
    values = np.asarray(nodes.x)[1:], np.asarray(nodes.at.variance)[1:], (share / share.sum())[1:]
    inside = np.asarray(nodes.at.y)[1:] > 0  # of many narrow gaps some hold nodes
    x, xi, weight = (_opened(nodes, np.where(inside, value, np.nan)) for value in values)
    return x, xi, weight


def _gaps(nodes: SampleSpectrum) -> np.ndarray:
    """Numbers of the nodes that are the last before a gap of the spectrum, among the nodes with the atom."""
    u, left, right = (np.asarray(part) for part in (nodes.at.u[1:], nodes.support.left, nodes.support.right))
    after = np.searchsorted(u, right[:-1][left[1:] > right[:-1]])
    return after[(after > 0) & (after < len(u))]


def _opened(nodes: SampleSpectrum, values: np.ndarray) -> np.ndarray:
    """Values at the nodes but the atom, with a NaN between those on either side of a gap."""
    return np.insert(values, _gaps(nodes), np.nan)
