"""Where an argument may lie, and the free coordinate that an unconstrained search moves in its place."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import as_float, require_finite
from .._types import Array, ArrayLike, Bool


@dataclass(frozen=True)
class Interval:
    """An open interval (low, high) for a number, or for every entry of an array; either end may be infinite.

    A search moves log(a - low), -log(high - a), or log((a - low)/(high - a)) where both ends are finite, so that
    it never leaves the interval; ``Interval(0)`` is positive and searched in its logarithm.

    Parameters
    ----------
    low, high
        The ends, low < high.

    Raises
    ------
    ValueError
        If the interval is empty.

    Examples
    --------
    >>> import jmask as jm
    >>> jm.tune.Interval(0)
    Interval(low=0.0, high=inf)
    """

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got Interval({self.low}, {self.high})")

    def holds(self, a: Array) -> Bool[Array, ""]:
        """Whether every entry lies inside."""
        return jnp.all((a > self.low) & (a < self.high))

    def free(self, a: Array) -> Array:
        """The coordinate in which nothing is forbidden."""
        if math.isfinite(self.low) and math.isfinite(self.high):
            return jnp.log(a - self.low) - jnp.log(self.high - a)
        if math.isfinite(self.low):
            return jnp.log(a - self.low)
        return -jnp.log(self.high - a) if math.isfinite(self.high) else a

    def bound(self, u: Array) -> Array:
        """Back from it."""
        if math.isfinite(self.low) and math.isfinite(self.high):
            return self.low + (self.high - self.low) * jax.nn.sigmoid(u)
        if math.isfinite(self.low):
            return self.low + jnp.exp(u)
        return self.high - jnp.exp(-u) if math.isfinite(self.high) else u


@dataclass(frozen=True)
class Layout:
    """How the leaves of an argument lie in one vector of free coordinates; static under jit."""

    structure: Any
    shapes: tuple[tuple[int, ...], ...]
    intervals: tuple[Interval, ...]

    def argument(self, vector: Array) -> Any:
        """The pytree that a vector (k,) stands for."""
        sizes = [math.prod(shape) for shape in self.shapes]
        pieces = jnp.split(vector, np.cumsum(sizes)[:-1].tolist())
        leaves = [
            interval.bound(piece).reshape(shape)
            for piece, shape, interval in zip(pieces, self.shapes, self.intervals, strict=True)
        ]
        return jax.tree.unflatten(self.structure, leaves)

    def vector(self, leaves: list[Array]) -> tuple[Array, Bool[Array, ""]]:
        """Free coordinates (k,) of the leaves, and whether all lie inside."""
        inside = [interval.holds(leaf) for leaf, interval in zip(leaves, self.intervals, strict=True)]
        free = [interval.free(leaf).ravel() for leaf, interval in zip(leaves, self.intervals, strict=True)]
        return jnp.concatenate(free), jnp.stack(inside).all()


def layout_of(start: Any, bounds: Any) -> tuple[Layout, list[Array]]:
    """Validate a start (any pytree of real numbers) and its bounds (a tree of intervals that is a prefix of it)."""
    leaves, structure = jax.tree.flatten(start)
    if not leaves:
        raise ValueError("start must hold at least one number, got an empty pytree")
    arrays = [as_float(leaf, "start") for leaf in leaves]
    dtype = np.result_type(*[array.dtype for array in arrays])
    arrays = [array.astype(dtype) for array in arrays]
    for array in arrays:
        require_finite(array, "start")
    intervals = _intervals(start, bounds, len(leaves))
    return Layout(structure, tuple(array.shape for array in arrays), intervals), arrays


def _intervals(start: Any, bounds: Any, count: int) -> tuple[Interval, ...]:
    if bounds is None:
        return (Interval(),) * count

    def spread(interval: Any, part: Any) -> Any:
        if not isinstance(interval, Interval):
            raise TypeError(
                f"bounds must hold jmask.tune.Interval(low, high) for the leaves of start, got {interval!r}"
            )
        return jax.tree.map(lambda _: interval, part)

    def is_interval(node: Any) -> bool:
        return isinstance(node, Interval)

    try:
        tree = jax.tree.map(spread, bounds, start, is_leaf=is_interval)
    except ValueError as error:
        raise ValueError(f"bounds must have the structure of start, or of its upper levels: {error}") from error
    found = jax.tree.leaves(tree, is_leaf=is_interval)
    if len(found) != count:
        raise ValueError(f"bounds must cover the {count} leaves of start, got {len(found)}")
    return tuple(found)


def checked_labels(groups: ArrayLike, d: int) -> np.ndarray:
    """(d,) labels 0 … g - 1 of known groups."""
    if isinstance(groups, jax.core.Tracer):
        raise TypeError("groups must be known integers: they are static under jit")
    labels = np.asarray(groups)
    if labels.shape != (d,) or labels.dtype.kind not in "iu":
        raise ValueError(f"groups must be a vector of {d} integer labels, got shape {labels.shape} of {labels.dtype}")
    return np.unique(labels, return_inverse=True)[1]
