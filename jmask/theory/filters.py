"""What some steps of a linear method do along one eigenvalue: weights f(h), residual p(h) = 1 - h f(h).

Descent on a quadratic objective from zero is linear: after T steps the solution s/h is replaced by f(h)s. Heavy ball
and Nesterov are affine recurrences in (f_t, f_{t-1}), whose powers come by repeated squaring: log T operations.
"""

import jax.numpy as jnp
from jax import lax

from .._types import Array, Float, Int

_State = tuple[Array, Array, Array, Array, Array]
_LARGEST = 1e15  # what exceeds it counts as infinite: all else stays finite, in both precisions, and so do derivatives


def recurrence(
    h: Float[Array, " k"], steps: Int[Array, " t"], rate: Array, momentum: Array, nesterov: bool, bits: int
) -> Float[Array, "t k"]:
    """f after each number of steps below 2^bits: f₊ = y + rate(1 - h y) with y = f for heavy ball, which adds
    momentum·(f - f₋) behind it, and y = f + momentum·(f - f₋) for Nesterov, of which y is returned."""
    decay = 1 - rate * h
    now, before = ((1 + momentum) * decay, -momentum * decay) if nesterov else (momentum + decay, -momentum + 0 * h)
    one, zero = jnp.ones_like(h), jnp.zeros_like(h)
    matrix = jnp.stack([jnp.stack([now, before], -1), jnp.stack([one, zero], -1)], -2)  # (k, 2, 2)
    offset = jnp.stack([jnp.broadcast_to(rate, h.shape), zero], -1)  # (k, 2)

    def body(state: _State, bit: Array) -> tuple[_State, None]:
        matrix, offset, pair, lost, gone = state
        stepped = (matrix[None, :] * pair[:, :, None, :]).sum(-1) + offset[None, :]
        taken = ((steps >> bit) & 1 == 1)[:, None]
        gone = gone | (taken & (lost[None, :] | ~(jnp.abs(stepped).max(-1) < _LARGEST)))
        pair = jnp.where((taken & ~gone)[:, :, None], stepped, pair)
        offset_twice = (matrix * offset[:, None, :]).sum(-1) + offset
        matrix_twice = (matrix[:, :, :, None] * matrix[:, None, :, :]).sum(-2)
        size = jnp.maximum(jnp.abs(matrix_twice).max((-2, -1)), jnp.abs(offset_twice).max(-1))
        lost = lost | ~(size < _LARGEST)
        held = lost | ~((steps >> (bit + 1)) > 0).any()
        matrix = jnp.where(held[:, None, None], matrix, matrix_twice)
        return (matrix, jnp.where(held[:, None], offset, offset_twice), pair, lost, gone), None

    shape = (steps.shape[0], h.shape[0])
    start = (matrix, offset, jnp.zeros((*shape, 2), h.dtype), jnp.zeros(h.shape, bool), jnp.zeros(shape, bool))
    *_, pair, _, gone = lax.scan(body, start, jnp.arange(bits, dtype=steps.dtype))[0]
    ahead = momentum * (pair[:, :, 0] - pair[:, :, 1]) if nesterov else 0
    return jnp.where(gone, jnp.inf, pair[:, :, 0] + ahead)


def flow(h: Float[Array, " k"], times: Float[Array, " t"], rate: Array) -> Float[Array, "t k"]:
    """f = (1 - exp(-rate·time·h))/h."""
    span = (rate * times)[:, None]
    exponent = span * h[None, :]
    small = exponent < 1e-6 if h.dtype == jnp.float64 else exponent < 1e-3
    ratio = -jnp.expm1(-exponent) / jnp.where(small, 1, exponent)
    return span * jnp.where(small, 1 - exponent / 2, ratio)


def chebyshev(h: Float[Array, " k"], steps: Int[Array, " t"], low: Array, high: Array) -> Float[Array, "t k"]:
    """p = T_n(s(h))/T_n(s(0)), T_n the Chebyshev polynomial and s the map of [low, high] onto [1, -1]."""
    n = steps.astype(h.dtype)[:, None]
    s = (high + low - 2 * h) / (high - low)
    inside = jnp.abs(s) < 1
    angle = jnp.arccos(jnp.where(inside, s, 0))[None, :]
    growth = jnp.arccosh(jnp.where(inside, 2, jnp.maximum(jnp.abs(s), 1 + jnp.finfo(h.dtype).eps)))[None, :]
    ratio = (high + low) / (high - low)
    at_zero = jnp.arccosh(jnp.maximum(ratio, 1 + jnp.finfo(h.dtype).eps))
    scale = 1 + jnp.exp(-2 * n * at_zero)  # T_n(s(0)) = exp(n·at_zero)·scale/2
    sign = jnp.where((s[None, :] < 0) & (steps % 2 == 1)[:, None], -1, 1).astype(h.dtype)
    within = 2 * jnp.cos(n * angle) * jnp.exp(-n * at_zero)
    beyond = sign * (jnp.exp(n * (growth - at_zero)) + jnp.exp(-n * (growth + at_zero)))
    return (1 - jnp.where(inside[None, :], within, beyond) / scale) / h[None, :]
