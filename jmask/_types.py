"""Array aliases, the status of a solve, and the base of every result."""

from dataclasses import dataclass, fields
from typing import Any, TypeVar, dataclass_transform

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Complex, Float, Int, PRNGKeyArray

__all__ = ["Array", "ArrayLike", "Bool", "Complex", "Float", "Int", "PRNGKeyArray"]

CONVERGED = 0
MAX_STEPS = 1
NO_SOLUTION = 2
NON_FINITE = 3
SINGULAR = 4
DIVERGED = 5
UNBOUNDED = 6
OUT_OF_BOUNDS = 7
FLAT = 8
STALLED = 9
AT_END = 10

STATUS_ADVICE: dict[int, str] = {
    CONVERGED: "converged",
    MAX_STEPS: "the iteration stopped at its step limit: raise max_steps or loosen the tolerance",
    NO_SOLUTION: "the equations have no finite solution here (for example n = d at ridge 0): "
    "raise the ridge, or move n away from d",
    NON_FINITE: "an input or an intermediate value was not finite: look for NaN or inf in the data, "
    "or a ridge far too small for this precision",
    SINGULAR: "a matrix was singular at ridge 0 inside a traced computation, where the limit is not taken: "
    "pass the 0 as a plain number, or use a small positive ridge",
    DIVERGED: "the descent diverged: lower the learning rate, or leave the optimizer out for one that fits the data",
    UNBOUNDED: "the objective falls without end: add a penalty, or bound the argument",
    OUT_OF_BOUNDS: "the start lies outside its bounds: move it inside, or widen them",
    FLAT: "the objective does not change with its argument: check that it uses it",
    STALLED: "no lower value was found along the gradient: the gradient is wrong, or rounding rules; "
    "check the gradient, use double precision, or loosen the tolerance",
    AT_END: "the least value lies at the end of the widest range: the best choice is that limit itself "
    "(a ridge of 0, or no prediction at all)",
}


# For what is called from outside, and for derivative rules, which JAX may call later: on GPUs its own default for
# products of single precision is TF32, with three digits.
full_precision = jax.default_matmul_precision("highest")

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def pytree(cls: type[T]) -> type[T]:
    """A frozen dataclass that is a pytree; fields with ``metadata={"static": True}`` are part of its structure.

    JAX rebuilds it without calling ``__init__``, so that ``__post_init__`` may validate what users pass:
    a gradient with respect to a population is a pytree of the same class, and is no valid population.
    """
    cls = dataclass(frozen=True)(cls)
    data = [f.name for f in fields(cls) if not f.metadata.get("static", False)]  # type: ignore[arg-type]
    meta = [f.name for f in fields(cls) if f.metadata.get("static", False)]  # type: ignore[arg-type]

    def flatten_with_keys(node: T) -> tuple[list[tuple[Any, Any]], tuple]:
        children = [(jax.tree_util.GetAttrKey(name), getattr(node, name)) for name in data]
        return children, tuple(getattr(node, name) for name in meta)

    def flatten(node: T) -> tuple[list[Any], tuple]:
        return [getattr(node, name) for name in data], tuple(getattr(node, name) for name in meta)

    def unflatten(static: tuple, children: Any) -> T:
        node = object.__new__(cls)
        for name, value in zip([*data, *meta], [*children, *static], strict=True):
            object.__setattr__(node, name, value)
        return node

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


@dataclass(frozen=True)
class Result:
    """Base of results that can fail: ``status`` is an integer array, one entry per vmap lane."""

    @property
    def converged(self) -> Bool[Array, "..."]:
        """True where the status is ``CONVERGED``."""
        return self.status == CONVERGED  # type: ignore[attr-defined]


R = TypeVar("R")


def check(result: R) -> R:
    """Return ``result`` unchanged, or raise if any part of it did not converge.

    Call it on the host, outside ``jax.jit``; inside, read ``result.converged``.

    Parameters
    ----------
    result
        Any jmask result (or any pytree of results) with a ``status``.

    Raises
    ------
    RuntimeError
        With the advice for the first status that is not ``CONVERGED``.
    """
    status = np.asarray(jax.device_get(result.status))  # type: ignore[attr-defined]
    failed = np.flatnonzero(status.ravel() != CONVERGED)
    if failed.size:
        code = int(status.ravel()[failed[0]])
        where = f" ({failed.size} of {status.size} lanes)" if status.size > 1 else ""
        raise RuntimeError(f"{type(result).__name__} did not converge{where}: {STATUS_ADVICE[code]}")
    return result
