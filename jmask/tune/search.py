"""The search itself: updates of an optimiser until the gradient is small, and why it stopped if not there."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from .._types import CONVERGED, FLAT, MAX_STEPS, NON_FINITE, STALLED, UNBOUNDED, Array

Objective = Callable[..., Array]
_RAY = 32  # points 1, 4, 16 … of the ray along which a search without end is told from one that needs more steps
_PATIENCE = 100  # updates without a new lowest value after which nothing more is to be had
LBFGS = optax.lbfgs()


class State(NamedTuple):
    """A search under way: where it is, what it found, and whether it still moves."""

    vector: Array
    value: Array
    gradient: Array
    steps: Array
    trace: Array
    held: optax.OptState
    moved: Array
    stale: Array  # updates since the lowest value so far


def descend(
    objective: Objective, start: Array, optimizer: optax.GradientTransformation, tolerance: Array, max_steps: int
) -> tuple[State, Array]:
    """Minimise from ``start`` (m,): the last state and its status. It never raises, and never accepts a NaN."""
    rule = optax.with_extra_args_support(optimizer)
    value, gradient = jax.value_and_grad(objective)(start)
    first, first_norm = value, jnp.linalg.norm(gradient)
    lowest = -(1 + jnp.abs(first)) / jnp.finfo(start.dtype).eps

    def small(state: State) -> Array:
        size = jnp.minimum(jnp.abs(state.value), jnp.abs(first))  # a fall without end is no reason to be content
        return jnp.linalg.norm(state.gradient) <= tolerance * jnp.maximum(first_norm, size)

    def running(state: State) -> Array:
        finite = jnp.isfinite(state.value) & jnp.isfinite(state.gradient).all()
        return finite & ~small(state) & (state.steps < max_steps) & state.moved & (state.value > lowest)

    def body(state: State) -> State:
        with jax.numpy_dtype_promotion("standard"):  # optax's L-BFGS mixes integer widths
            change, held = rule.update(
                state.gradient,
                state.held,
                state.vector,
                value=state.value,
                grad=state.gradient,
                value_fn=objective,
            )
        vector = optax.apply_updates(state.vector, change)
        value, gradient = _evaluated(objective, vector, held)
        steps = state.steps + 1
        # A step to where the objective is not defined is not taken.
        good = jnp.isfinite(gradient).all() & ~jnp.isnan(value)
        vector = jnp.where(good, vector, state.vector)
        trace = state.trace.at[steps].set(jnp.where(good, value, state.value))
        stale = jnp.where(trace[steps] < jnp.nanmin(state.trace), 0, state.stale + 1)
        moved = good & jnp.any(vector != state.vector) & (stale < _PATIENCE)
        gradient = jnp.where(good, gradient, state.gradient)
        return State(vector, trace[steps], gradient, steps, trace, held, moved, stale)

    trace = jnp.full(max_steps + 1, jnp.nan, start.dtype).at[0].set(value)
    begin = State(start, value, gradient, jnp.array(0), trace, rule.init(start), jnp.array(True), jnp.array(0))
    state = lax.while_loop(running, body, begin)
    finite = jnp.isfinite(state.value) & jnp.isfinite(state.gradient).all()
    content = finite & small(state)
    doubtful = ~content | (first_norm == 0)
    known = (jnp.array(False), jnp.array(False))
    flat, endless = lax.cond(doubtful, lambda: _probed(objective, start, first, state, lowest), lambda: known)
    status = jnp.where(content, jnp.where(flat & (first_norm == 0), FLAT, CONVERGED), MAX_STEPS)
    status = jnp.where(content | state.moved, status, STALLED)
    status = jnp.where(finite, status, NON_FINITE)
    return state, jnp.where(~content & endless, UNBOUNDED, status)


def _evaluated(objective: Objective, vector: Array, held: optax.OptState) -> tuple[Array, Array]:
    """Value and gradient, read off a line search that has just computed them."""
    kept = optax.tree_utils.tree_get_all_with_path(held, "value")
    if len(kept) == 1:
        return optax.tree_utils.tree_get(held, "value"), optax.tree_utils.tree_get(held, "grad")
    return jax.value_and_grad(objective)(vector)


def _probed(objective: Objective, start: Array, first: Array, state: State, lowest: Array) -> tuple[Array, Array]:
    """Whether the objective is the same at two other points, and whether it falls below any floor.

    The second along the ray of steepest descent from where the search ended.
    """
    aside = jnp.where(jnp.arange(start.shape[0]) % 2 == 0, 0.5, -0.25).astype(start.dtype)
    norm = jnp.linalg.norm(state.gradient)
    ray = -state.gradient / jnp.where(norm > 0, norm, 1)
    lengths = 4.0 ** jnp.arange(_RAY, dtype=ray.dtype)
    along = state.vector[None, :] + lengths[:, None] * ray[None, :]
    values = lax.map(objective, jnp.concatenate([jnp.stack([start + aside, start - aside]), along]))
    return jnp.all(values[:2] == first), (state.value <= lowest) | jnp.any(values[2:] <= lowest)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def with_derivative(function: Objective, value: Array, place: Array, params: Any) -> Array:
    """``value`` of function(place, params), computed before, with the derivatives of a fresh evaluation."""
    del function, place, params
    return value


@with_derivative.defjvp
def _with_derivative_jvp(function: Objective, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    value, place, params = primals
    return with_derivative(function, value, place, params), jax.jvp(function, (place, params), tangents[1:])[1]
