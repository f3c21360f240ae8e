"""One simulated draw and everything measured on it; many draws in one program.

Random numbers are common: the noise of a draw depends on its seed and its shape alone, so that ridges, mask schemes
and spike strengths are compared on the same samples, and a draw is the same whatever it is computed along with.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .._types import Array, Float, PRNGKeyArray, full_precision
from ..closed_form import Fit, fit
from ..covariance import Covariance, Spiked
from ..covariance.structured import random_directions
from ..descent import fit_gradient
from ..eigen import correlation_pca_eigen, pca_eigen, predictor_eigen
from ..masking import Scheme
from ..scales import Scales
from ..validation import leave_one_out_error, test_error, train_error

ERRORS = ("train", "test", "leave_one_out")
SPECTRAL = ("edge", "outlier", "overlap")
PCA = ("pca_overlap", "correlation_pca_overlap")
DESCENT = ("gradient_test", "gradient_distance")
QUANTITIES = (*ERRORS, *SPECTRAL, *PCA, *DESCENT)
NEEDS_SPIKE = ("outlier", "overlap", *PCA)


Precision = Literal["double", "single"]


class Setting(NamedTuple):
    """What shapes the program of a batch: the arrays that go through it vary freely."""

    samples: int
    quantities: tuple[str, ...]
    spiked: bool
    ridgeless: bool
    together: int


class Draw(NamedTuple):
    """What is random about one draw: noise (n, d), directions (d, r), factors (n, r), roots τ (n,); and Σ₀ (d, d)."""

    noise: Array
    directions: Array
    factors: Array
    roots: Array | None
    bulk: Array


@full_precision
def simulate(
    setting: Setting,
    population: Covariance,
    scheme: Scheme,
    scales: Scales | None,
    seeds: Array,
    strengths: Array,
    ridges: Array,
) -> dict[str, Float[Array, "s p"]]:
    """Every quantity, for every seed (s,) and every pair (p,) of a strength and a ridge; NaN where a fit failed.

    Parameters
    ----------
    setting
        Static: number of samples, what to measure, whether the strengths are those of a spike, whether all
        ridges are exactly 0 (the limit, which must be known when the program is compiled), and how many draws are
        worked on together.
    population, scheme, scales
        As in ``jmask.theory.errors``; the precision is that of the population.
    seeds
        (s,) integers; the one at place i alone decides the draws of lane i.
    strengths, ridges
        (p,) each.
    """

    def lane(seed: Array) -> dict[str, Array]:
        return _lane(setting, population, scheme, scales, seed, strengths, ridges)

    # One at a time is a plain loop: on a CPU, batched factorisations have slower kernels than single ones.
    return lax.map(lane, seeds, batch_size=setting.together if setting.together > 1 else None)


def _lane(
    setting: Setting,
    population: Covariance,
    scheme: Scheme,
    scales: Scales | None,
    seed: Array,
    strengths: Array,
    ridges: Array,
) -> dict[str, Float[Array, " p"]]:
    # The dimension is folded in: without it a draw in d dimensions would share numbers with one in 2d.
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), seed), population.dimension)
    bulk, own = _without_spikes(population)
    draw = _draw(setting, bulk, own.shape[0] + setting.spiked, scales, key)

    def one(pair: tuple[Array, Array]) -> dict[str, Array]:
        strength, ridge = pair
        spikes = jnp.concatenate([strength[None], own]) if setting.spiked else own
        x, sigma = _sample(draw, spikes)
        return _measure(setting, x, sigma, draw.directions, spikes, ridge, scheme)

    return lax.map(one, (strengths, ridges))


def _without_spikes(population: Covariance) -> tuple[Covariance, Array]:
    """Σ₀ and the strengths of delocalised spikes, which are drawn here: strengths may then be traced."""
    if isinstance(population, Spiked) and population.directions is None:
        return population.bulk, population.strengths
    return population, jnp.zeros(0, population.diagonal().dtype)


def _draw(setting: Setting, bulk: Covariance, r: int, scales: Scales | None, key: PRNGKeyArray) -> Draw:
    place, rows, aim, load, tails = jax.random.split(key, 5)
    n, d, dtype = setting.samples, bulk.dimension, bulk.diagonal().dtype
    fixed = bulk.realise(place)
    directions = random_directions(aim, d, r, dtype) if r else jnp.zeros((d, 0), dtype)
    factors = jax.random.normal(load, (n, r), dtype)
    roots = None if scales is None else jnp.sqrt(scales.sample(tails, n)).astype(dtype)
    return Draw(fixed.sample(rows, n), directions, factors, roots, fixed.matrix())


def _sample(draw: Draw, spikes: Array) -> tuple[Array, Array]:
    """(x, Σ) with the spikes of these strengths."""
    x, sigma = draw.noise, draw.bulk
    if spikes.shape[0]:
        x = x + (draw.factors * jnp.sqrt(spikes)[None, :]) @ draw.directions.T
        sigma = sigma + (draw.directions * spikes[None, :]) @ draw.directions.T
    return (x if draw.roots is None else x * draw.roots[:, None]), sigma


def _measure(
    setting: Setting, x: Array, sigma: Array, directions: Array, spikes: Array, ridge: Array, scheme: Scheme
) -> dict[str, Array]:
    wanted = setting.quantities
    penalty: Any = _exact_zero(ridge.dtype) if setting.ridgeless else ridge
    found: dict[str, Array] = {}
    fitted = fit(x, penalty, scheme) if set(wanted) - set(PCA) - {"leave_one_out"} else None
    if fitted is not None:
        found |= {"train": train_error(fitted, x)} if "train" in wanted else {}
        found |= {"test": test_error(fitted, sigma)} if "test" in wanted else {}
        found |= _spectral(fitted, directions, spikes, wanted)
        found |= _by_descent(fitted, x, sigma, penalty, scheme, wanted)
    if "leave_one_out" in wanted:
        found["leave_one_out"] = leave_one_out_error(x, penalty, scheme)
    if "pca_overlap" in wanted:
        found["pca_overlap"] = _overlap(pca_eigen(x).right, directions, spikes)
    if "correlation_pca_overlap" in wanted:
        found["correlation_pca_overlap"] = _overlap(correlation_pca_eigen(x).right, directions, spikes)
    return found


def _exact_zero(dtype: jnp.dtype) -> Array:
    """A 0 that stays known inside jit, so that ``fit`` takes the limit."""
    with jax.ensure_compile_time_eval():
        return jnp.zeros((), dtype)


def _spectral(fitted: Fit, directions: Array, spikes: Array, wanted: tuple[str, ...]) -> dict[str, Array]:
    if not set(wanted) & set(SPECTRAL):
        return {}
    eigen = predictor_eigen(fitted, vectors="overlap" in wanted)
    found = {"edge": eigen.values[0]}
    if spikes.shape[0]:
        found["outlier"] = eigen.values[_place(spikes)]
    if "overlap" in wanted:
        found["overlap"] = _overlap(eigen.right, directions, spikes)
    return {name: found[name] for name in wanted if name in found}


def _place(spikes: Array) -> Array:
    """Which outlier, from the largest down, belongs to the first spike."""
    return (spikes[1:] > spikes[0]).sum()


def _overlap(vectors: Array | None, directions: Array, spikes: Array) -> Array:
    """Squared inner product of the first direction with its eigenvector."""
    assert vectors is not None
    return (vectors[:, _place(spikes)] @ directions[:, 0]) ** 2


def _by_descent(
    fitted: Fit, x: Array, sigma: Array, penalty: Any, scheme: Scheme, wanted: tuple[str, ...]
) -> dict[str, Array]:
    if not set(wanted) & set(DESCENT):
        return {}
    weights = fit_gradient(x, penalty, scheme).fit.weights
    gap = jnp.linalg.norm(weights - fitted.weights) / jnp.linalg.norm(fitted.weights)
    found = {"gradient_test": test_error(weights, sigma, scheme), "gradient_distance": gap}
    return {name: found[name] for name in wanted if name in found}
