"""The unit of variance in which the spectral theory computes, so that single precision holds its powers."""

import jax
import jax.numpy as jnp
from jax import lax

from .._types import Array
from ..covariance import Covariance


def unit_of(variances: Array) -> Array:
    """The power of two near their mean: a unit of variance in which their sixth powers neither vanish nor overflow."""
    mean = lax.stop_gradient(variances).mean()
    return jnp.where((mean > 0) & jnp.isfinite(mean), jnp.ldexp(jnp.ones_like(mean), jnp.frexp(mean)[1]), 1)


def in_units(covariance: Covariance) -> tuple[Covariance, Array]:
    """Σ in its own unit, exactly, and the unit."""
    unit = unit_of(covariance.diagonal())

    def scaled(path: tuple, leaf: Array) -> Array:
        return leaf if path[-1].name in ("directions", "vectors") else leaf / unit

    return jax.tree_util.tree_map_with_path(scaled, covariance), unit
