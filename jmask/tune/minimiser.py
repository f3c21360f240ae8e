"""Any scalar objective of any pytree of hyperparameters, minimised by its gradient in one jitted loop.

The search and the derivative of what it finds live apart: the minimum is a root of the gradient, differentiated by the
implicit function theorem, however it was reached.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from .. import _linalg
from .._checks import is_concrete
from .._implicit import implicit
from .._types import (
    CONVERGED,
    FLAT,
    MAX_STEPS,
    OUT_OF_BOUNDS,
    STALLED,
    UNBOUNDED,
    Array,
    Float,
    Int,
    PRNGKeyArray,
    Result,
    pytree,
)
from .intervals import Interval, Layout, layout_of
from .search import LBFGS, Objective, State, descend, with_derivative


@pytree
class Minimum(Result):
    """Where a search ended.

    Attributes
    ----------
    argument
        Pytree like ``start``: the minimiser, or the best point reached if the status is ``MAX_STEPS`` or ``STALLED``;
        NaN where there is none to speak of.
    value
        Objective there.
    gradient_norm
        Norm of the gradient there, in the free coordinates (the logarithm of what is positive).
    standard_error
        Pytree like ``start``, or None if not asked for.
    steps
        Updates made.
    trace
        Objective at the start and after every update; inside ``jax.jit`` its unused tail is NaN.
    restarts
        (r + 1,) the values that the r restarts and the given start ended at, the given one first.
    status
        ``CONVERGED``; ``MAX_STEPS``; ``NON_FINITE`` (the objective is not finite at the start);
        ``OUT_OF_BOUNDS`` (the start is); ``FLAT`` (the objective does not depend on its argument); ``UNBOUNDED`` (it
        falls without end); ``STALLED`` (no lower value along the gradient: it is wrong, or rounding rules).
    """

    argument: Any
    value: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    standard_error: Any
    steps: Int[Array, ""]
    trace: Float[Array, " steps"]
    restarts: Float[Array, " r"]
    status: Int[Array, ""]


def minimise(
    objective: Objective,
    start: Any,
    *,
    args: Sequence[Any] = (),
    bounds: Any = None,
    optimizer: optax.GradientTransformation | None = None,
    tolerance: float | None = None,
    max_steps: int = 500,
    restarts: int = 0,
    spread: float = 1.0,
    key: PRNGKeyArray | None = None,
    error_bars: bool = False,
) -> Minimum:
    """Minimise a scalar objective of any pytree by its gradient.

    Parameters
    ----------
    objective
        Function (argument, \\*args) → scalar, differentiable by JAX. It is compiled once for as long as it is the same
        function: define it outside loops and hand data over through ``args``.
    start
        Pytree of numbers and arrays, strictly inside the bounds.
    args
        Further arguments of the objective, pytrees of arrays.
    bounds
        ``Interval`` s in the structure of ``start`` or of its upper levels (one ``Interval`` for all);
        ``Interval(0)`` searches in the logarithm. None: no bounds.
    optimizer
        Any optax optimiser, such as ``optax.adam(0.05)``; build it once and reuse it. Default: L-BFGS with a line
        search.
    tolerance
        Stop when the norm of the gradient (in the free coordinates) is below this share of the larger of its norm at
        the start and the objective (the smaller of start and end). Default √eps: the value is then right to about eps.
    max_steps
        Most updates.
    restarts
        Searches from so many further starts at once, drawn around the given one; the lowest end wins.
    spread
        Standard deviation of those starts in the free coordinates (for ridges: in their logarithm).
    key
        JAX random key, required with ``restarts``.
    error_bars
        True: one standard error a parameter from the inverse Hessian. It means what it says where the objective is a
        negative log-likelihood, such as half a sum of squares over variances; NaN where the Hessian is not positive
        definite.

    Returns
    -------
    Minimum
        ``.argument .value .gradient_norm .standard_error .steps .trace .restarts .status``.

    Raises
    ------
    ValueError, TypeError
        For a start that is not made of finite numbers, bounds of another structure, or options that make no sense.
        Inside a search nothing raises: see the status.

    Notes
    -----
    A bound is approached, not reached: where the least value is at a bound, the argument stops beside it. The argument
    and the value are differentiable in ``args`` (and only there) by the implicit function theorem, at one Hessian of
    the objective. Works under jit and vmap. About one gradient an update, plus the line search where the first step
    is not good enough.

    References
    ----------
    Nocedal and Wright (2006), chapters 3 and 7.

    Examples
    --------
    >>> import jax.numpy as jnp, jmask as jm
    >>> def loss(point, target):
    ...     return (jnp.log(point["scale"]) - target) ** 2 + (point["shift"] - 1) ** 2
    >>> start, bounds = {"scale": 1.0, "shift": 0.0}, {"scale": jm.tune.Interval(0), "shift": jm.tune.Interval()}
    >>> found = jm.tune.minimise(loss, start, args=(jnp.array(2.0),), bounds=bounds)
    >>> bool(found.converged), round(float(found.argument["shift"]), 6)
    (True, 1.0)
    """
    layout, leaves = layout_of(start, bounds)
    dtype = leaves[0].dtype
    if not callable(objective):
        raise TypeError(f"objective must be a function of the argument, got {type(objective).__name__}")
    for name, option, least in (("max_steps", max_steps, 1), ("restarts", restarts, 0)):
        if int(option) != option or option < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {option}")
    if restarts and key is None:
        raise ValueError("key must be given with restarts: jax.random.key(0), say")
    tolerance = float(jnp.finfo(dtype).eps) ** 0.5 if tolerance is None else tolerance
    if not tolerance >= 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance}")
    _require_scalar(objective, layout, dtype, tuple(args))
    found = _minimise(
        leaves,
        tuple(args),
        jnp.asarray(tolerance, dtype),
        jnp.asarray(spread, dtype),
        jax.random.key(0) if key is None else key,
        objective=objective,
        layout=layout,
        optimizer=LBFGS if optimizer is None else optimizer,
        max_steps=int(max_steps),
        restarts=int(restarts),
        error_bars=bool(error_bars),
    )
    if is_concrete(found.trace):
        found = _trimmed(found)
    return found


def _require_scalar(objective: Objective, layout: Layout, dtype: jnp.dtype, args: tuple) -> None:
    size = sum(int(np.prod(shape)) for shape in layout.shapes)
    shape = jax.eval_shape(lambda u, a: objective(layout.argument(u), *a), jax.ShapeDtypeStruct((size,), dtype), args)
    if getattr(shape, "shape", None) != () or not jnp.issubdtype(shape.dtype, jnp.floating):
        raise TypeError(f"objective must return a real scalar, got {shape}")


@partial(jax.jit, static_argnames=("objective", "layout", "optimizer", "max_steps", "restarts", "error_bars"))
def _minimise(
    leaves: list[Array],
    args: tuple,
    tolerance: Array,
    spread: Array,
    key: PRNGKeyArray,
    *,
    objective: Objective,
    layout: Layout,
    optimizer: optax.GradientTransformation,
    max_steps: int,
    restarts: int,
    error_bars: bool,
) -> Minimum:
    start, inside = layout.vector(lax.stop_gradient(leaves))
    start = jnp.where(inside, start, 0)  # whatever it finds there is thrown away
    fixed = lax.stop_gradient(args)

    def free(u: Array, args: tuple) -> Array:
        return objective(layout.argument(u), *args).astype(u.dtype)

    def search(u: Array) -> tuple[State, Array]:
        return descend(lambda v: free(v, fixed), u, optimizer, tolerance, max_steps)

    if restarts:
        noise = spread * jax.random.normal(key, (restarts, start.shape[0]), start.dtype)
        states, statuses = jax.vmap(search)(jnp.concatenate([start[None, :], start[None, :] + noise]))
        ends = jnp.where(statuses == UNBOUNDED, -jnp.inf, states.value)
        best = jnp.argmin(jnp.where(jnp.isnan(ends), jnp.inf, ends))
        state, status = jax.tree.map(lambda leaf: leaf[best], (states, statuses))
    else:
        state, status = search(start)
        ends = state.value[None]
    status = jnp.where(inside, status, OUT_OF_BOUNDS)
    known = (status == CONVERGED) | (status == MAX_STEPS) | (status == STALLED) | (status == FLAT)
    root = implicit(jax.grad(free), lax.stop_gradient(state.vector), args) if args else state.vector
    return Minimum(  # type: ignore[call-arg]
        jax.tree.map(lambda leaf: jnp.where(known, leaf, jnp.nan), layout.argument(root)),
        jnp.where(known, with_derivative(free, lax.stop_gradient(state.value), root, args), jnp.nan),
        jnp.where(known, jnp.linalg.norm(state.gradient), jnp.nan),
        _standard_error(free, root, args, layout, known) if error_bars else None,
        jnp.where(inside, state.steps, 0),
        jnp.where(inside, state.trace, jnp.nan),
        jnp.where(inside, ends, jnp.nan),
        status,
    )


def _standard_error(free: Objective, root: Array, args: tuple, layout: Layout, known: Array) -> Any:
    """√diag of the inverse Hessian in the free coordinates, carried over to the argument."""
    hessian = jax.hessian(free)(root, args)
    spread = jnp.sqrt(jnp.diagonal(_linalg.inverse((hessian + hessian.T) / 2)))
    spread = jnp.where(known, spread, jnp.nan)
    # Every entry of the argument depends on its own free coordinate alone.
    slope = jax.jvp(layout.argument, (root,), (jnp.ones_like(root),))[1]
    plain = dataclasses.replace(layout, intervals=(Interval(),) * len(layout.intervals))
    return jax.tree.map(lambda a, b: jnp.abs(a) * b, slope, plain.argument(spread))


def _trimmed(found: Minimum) -> Minimum:
    if found.trace.ndim != 1:
        return found
    return dataclasses.replace(found, trace=found.trace[: int(found.steps) + 1])
