"""Values that a first derivative may take for constant, and that no second derivative gets wrong."""

from typing import Any

import jax
import jax.numpy as jnp

from .._types import Array


@jax.custom_jvp
def undifferentiated(value: Array, params: Any) -> Array:
    """``value`` itself, whose derivative nobody knows."""
    del params
    return value


@undifferentiated.defjvp
def _undifferentiated_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    value = jnp.asarray(primals[0])
    leaves = [leaf for leaf in jax.tree.leaves(tangents[1]) if leaf.dtype == value.dtype]
    unknown = jnp.nan * jnp.stack([leaf.sum() for leaf in leaves]).sum()
    return value, jnp.broadcast_to(unknown, value.shape)


@jax.custom_jvp
def held(value: Array, params: Any) -> Array:
    """``value`` held fixed for the first derivative; the second, which would need its motion, is NaN."""
    del params
    return value


@held.defjvp
def _held_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    del tangents
    return undifferentiated(*primals), jnp.zeros_like(primals[0])
