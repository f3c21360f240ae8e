"""Masked ridge against PPCA and the floor over families of populations: everything from the nodes of a spectrum.

All members have a constant diagonal, where R[h] = ∫h²ξ dF/(∫h dF)² and the floor is 1/∫dF/ξ.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from .._types import Array, ArrayLike, pytree
from ..covariance import Covariance
from ..theory.real_axis import SampleSpectrum, sample_spectrum
from .progress import track

MAP_DIMENSION = 240
_NODES = 1024
_RIDGES = 200
_LOWEST, _HIGHEST = 1e-6, 1e4  # of them, in units of the mean variance
_BLOCK, _SHARE = 10, 0.1


@dataclass(frozen=True)
class Family:
    """Populations with one parameter."""

    name: str
    parameter: str
    values: tuple[float, ...]
    build: Callable[[float], Covariance]


FAMILIES = (
    Family(
        "AR(1) on a ring",
        "correlation ρ",
        (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99),
        lambda value: covariance.ar1(MAP_DIMENSION, value, circulant=True),
    ),
    Family(
        "power law k^(-a)",
        "exponent a",
        (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0),
        lambda value: covariance.power_law(MAP_DIMENSION, value),
    ),
    Family(
        f"blocks of {_BLOCK}",
        "correlation within",
        (0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.97),
        lambda value: covariance.blocks(MAP_DIMENSION, _BLOCK, value),
    ),
    Family(
        f"{_SHARE:g}·d factors in unit noise",
        "strength",
        (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0),
        lambda value: covariance.factors(MAP_DIMENSION, _SHARE, value),
    ),
    Family(
        "inverse Marchenko–Pastur",
        "ratio q",
        (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9),
        lambda value: covariance.inverse_marchenko_pastur(MAP_DIMENSION, value),
    ),
)


@pytree
class Least:
    """At each of m sample sizes: ridge at its best, PPCA at its best rank, the floor; all (m,)."""

    ridge: ArrayLike
    ridge_error: ArrayLike
    rank: ArrayLike
    ppca_error: ArrayLike
    floor: ArrayLike


@dataclass(frozen=True)
class RiskMap:
    """(families, parameters, ratios) errors of ridge at its best and PPCA at its best rank, and the floor."""

    ratios: np.ndarray
    ridge: np.ndarray
    ppca: np.ndarray
    floor: np.ndarray


def risk_map(ratios: np.ndarray) -> RiskMap:
    """Errors of every member of every family at n = ratio·d."""
    n = ratios * MAP_DIMENSION
    members = [family.build(value).eigenvalues() for family in FAMILIES for value in family.values]
    found = [least_errors(m, n) for m in track(members, "populations")]
    shape = (len(FAMILIES), -1, len(ratios))
    ridge, ppca, floor = (
        np.stack([getattr(part, name) for part in found]).reshape(shape)
        for name in ("ridge_error", "ppca_error", "floor")
    )
    return RiskMap(ratios, ridge, ppca, floor)


def least_errors(eigenvalues: ArrayLike, n: ArrayLike) -> Least:
    """The three at sample sizes n (m,), for population eigenvalues (d,) whose functions have a constant diagonal.

    A rank is found to one node of 1024, which moves the error at the best one by some 1e-5; ridges to 6%, 1e-4.
    """
    at = [_least_at(jnp.asarray(eigenvalues), jnp.asarray(float(one))) for one in np.asarray(n)]
    return Least(*(np.array([getattr(found, field.name) for found in at]) for field in fields(Least)))


@jax.jit
def _least_at(eigenvalues: Array, n: Array) -> Least:
    nodes = sample_spectrum(eigenvalues, n, size=_NODES)
    ridges = eigenvalues.mean() * jnp.geomspace(_LOWEST, _HIGHEST, _RIDGES, dtype=n.dtype)
    p, v = nodes.weight, nodes.weighted_variance
    h = 1 / (nodes.x[None, :] + ridges[:, None])
    risks = h**2 @ v / (h @ p) ** 2
    there = v > 0
    floor = 1 / jnp.where(there, p**2 / jnp.where(there, v, 1), 0).sum()
    by_cut = _ppca_errors(nodes)
    cut = by_cut.argmin()
    rank = eigenvalues.shape[0] * _sums_after(p)[cut]
    return Least(ridges[risks.argmin()], risks.min(), rank, by_cut[cut], floor)


def _ppca_errors(nodes: SampleSpectrum) -> Array:
    """Errors of PPCA with all nodes after each one kept, by running sums from either side.

    None of them is a difference: at n = d the sums of 1/x are huge near x = 0.
    """
    p, v, x = nodes.weight, nodes.weighted_variance, nodes.x
    kept = jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1), 0)
    mass, spread = jnp.cumsum(p), jnp.cumsum(v)
    rest = jnp.cumsum(p * x) / jnp.where(mass > 0, mass, 1)
    first, second = _sums_after(p * kept), _sums_after(v * kept**2)
    risk = (spread + rest**2 * second) / jnp.where(mass > 0, mass + rest * first, 1) ** 2
    return jnp.where(mass > 0, risk, jnp.inf)


def _sums_after(values: Array) -> Array:
    return jnp.append(jnp.cumsum(values[:0:-1])[::-1], jnp.zeros((), values.dtype))
