"""Roots of a residual, and their derivative by the implicit function theorem.

The iteration and the derivative live apart: ``newton`` finds a root and is never differentiated;
``implicit`` gives any root, however found, the derivative that the equation it solves dictates,
in forward mode, reverse mode and to any order. Nothing here knows random-matrix theory.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero

from ._linalg import solve_small
from ._types import CONVERGED, MAX_STEPS, NON_FINITE, Array, full_precision

Residual = Callable[[Array, Any], Array]

CACHED = 2**18  # numbers that a chunk of lanes may take on CPU: with what is made of them they stay in cache
_CACHED_MATRICES = 2**14  # the same where there are matrices, of which more is made


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def implicit(residual: Residual, root: Array, params: Any) -> Array:
    """``root`` of ``residual(root, params) = 0``, with derivative ``-(d residual/d root)⁻¹ d residual/d params``.

    Parameters
    ----------
    residual
        A module-level function of (unknown, params); unknown is a scalar (real, or complex where the
        residual is holomorphic) or a vector (k,), and the residual has its shape.
    root
        The solution, found by any means; its own derivative is ignored.
    params
        Pytree of everything else that the residual depends on. Nothing may be captured by closure.

    Notes
    -----
    The tangent is evaluated at the solution of this same ruled function, so that it can be
    differentiated again. One linearisation of the residual a derivative, whatever the iteration cost.
    """
    del residual, params
    return root


@partial(implicit.defjvp, symbolic_zeros=True)
@full_precision
def _implicit_jvp(residual: Residual, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    root, params = primals
    root = implicit(residual, lax.stop_gradient(root), params)
    leaves, tree = jax.tree.flatten(params)
    dots = jax.tree.leaves(tangents[1])
    moving = [i for i, dot in enumerate(dots) if not isinstance(dot, SymbolicZero)]
    if not moving:
        return root, jnp.zeros_like(root)

    def at(*moved: Array) -> Array:
        """The residual by the parameters that move: most do not, and their zeros would cost as much as any number."""
        here = dict(zip(moving, moved, strict=True))
        return residual(root, jax.tree.unflatten(tree, [here.get(i, leaf) for i, leaf in enumerate(leaves)]))

    _, residual_dot = jax.jvp(at, tuple(leaves[i] for i in moving), tuple(dots[i] for i in moving))
    if root.ndim == 0:
        slope = jax.jvp(lambda y: residual(y, params), (root,), (jnp.ones_like(root),))[1]
        return root, -residual_dot / slope
    jacobian = jax.jacfwd(lambda y: residual(y, params), holomorphic=jnp.iscomplexobj(root))(root)
    return root, -solve_small(jacobian, residual_dot)


def newton(
    residual: Residual,
    start: Array,
    params: Any,
    *,
    rtol: float | None = None,
    max_steps: int = 100,
) -> tuple[Array, Array, Array]:
    """Newton's iteration for a scalar unknown: ``(root, steps, status)``, not differentiated.

    Meant for a convex residual and a start on the side from which Newton is monotone: no bracket, no
    damping. It stops when a step is below ``rtol`` times the iterate (default: 8 ulp of its dtype, which
    a monotone quadratic iteration reaches); and, for real steps below √eps times the iterate, when the next one is
    foretold to be, or when one turns back, which monotone Newton does only where rounding rules. A root that is not
    finite is NaN. On CPU the lanes of ``vmap`` go through in chunks that fit in cache, each stopping by itself.
    """
    params, start = lax.stop_gradient((params, start))
    eps = float(jnp.finfo(jnp.finfo(start.dtype).dtype).eps)
    rtol = 8 * eps if rtol is None else rtol
    real = not jnp.iscomplexobj(start)

    leaves, tree = jax.tree.flatten(params)

    def iterate(start: Array, *leaves: Array) -> tuple[Array, Array, Array]:
        params = jax.tree.unflatten(tree, leaves)

        def body(state: tuple) -> tuple:
            y, last, _, steps = state
            value, slope = jax.jvp(lambda u: residual(u, params), (y,), (jnp.ones_like(y),))
            step = value / slope
            new, size = y - step, jnp.abs(step)
            done = size <= rtol * jnp.abs(new)
            if real:  # near a root, steps fall as their squares: the next one is known from the last two
                last_one = (step * last < 0) | (4 * size * (size / jnp.abs(last)) ** 2 <= rtol * jnp.abs(new))
                done = done | (last_one & (size <= eps**0.5 * jnp.abs(new)))
            return new, step, done, steps + 1

        def running(state: tuple) -> Array:
            y, _, done, steps = state
            return ~done & (steps < max_steps) & jnp.isfinite(y)

        begin = (start, jnp.zeros_like(start), jnp.array(False), jnp.array(0))
        root, _, done, steps = lax.while_loop(running, body, begin)
        status = jnp.where(jnp.isfinite(root), jnp.where(done, CONVERGED, MAX_STEPS), NON_FINITE)
        return jnp.where(status == CONVERGED, root, jnp.nan), steps, status

    room = CACHED if all(jnp.ndim(leaf) < 2 for leaf in leaves) else _CACHED_MATRICES
    lanes = max(1, room // max(1, sum(jnp.size(leaf) for leaf in leaves)))
    return in_lanes(iterate, lanes)(start, *leaves)


def in_lanes(function: Callable[..., Any], lanes: int) -> Callable[..., Any]:
    """A function of arrays that ``vmap``, nested or not, runs on at most ``lanes`` at once on CPU.

    Never differentiated. With one lane it keeps out of reach of XLA's batched LAPACK calls: two of them in one program
    can wait for each other for ever on a CPU with few cores (seen with jaxlib 0.10).
    """
    # As ``jax.default_device`` sets it: a device, or the name of a platform.
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    if (jax.default_backend() if device is None else getattr(device, "platform", device)) != "cpu":
        return function
    laned = custom_vmap(function)

    @laned.def_vmap
    @full_precision
    def in_chunks(size: int, batched: list[bool], *arguments: Array) -> tuple[Any, Any]:
        count = -(-size // lanes)
        width = -(-size // count)
        inner = in_lanes(jax.vmap(function, [0 if b else None for b in batched]), max(1, lanes // width))
        # The last chunk is filled up with copies of the last lane.
        index = jnp.minimum(jnp.arange(count * width), size - 1).reshape(count, width)

        def chunk(rows: Array) -> Any:
            return inner(*(a[rows] if b else a for a, b in zip(arguments, batched, strict=True)))

        if count == 1:
            result = inner(*arguments)
        else:
            stacked = lax.map(chunk, index)
            result = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:size], stacked)
        return result, jax.tree.map(lambda _: True, result)

    return laned
