"""The least value of a smooth function of one logarithm: a coarse scan, a walk where it still falls, then Newton."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .._implicit import implicit
from .._types import AT_END, CONVERGED, FLAT, MAX_STEPS, NON_FINITE, Array, Float, Int
from .search import Objective, with_derivative

_POINTS, _STEP = 37, math.log(10) / 3  # twelve decades, the scan; a curve bends over one nat or more
_BEYOND = 18  # steps that a walk may take beyond either end
_MAX_STEPS = 60


class Least(NamedTuple):
    """Where the least value lies; ``scan`` are the points (m,) and values (m,) of the scan."""

    place: Float[Array, ""]
    value: Float[Array, ""]
    slope: Float[Array, ""]
    curvature: Float[Array, ""]
    steps: Int[Array, ""]
    status: Int[Array, ""]
    scan: tuple[Float[Array, " m"], Float[Array, " m"]]


class _Scan(NamedTuple):
    """The scan so far, and the lowest point of it and of the walk beyond."""

    done: Array
    places: Array
    values: Array
    place: Array
    value: Array
    side: Array
    falling: Array


class _Search(NamedTuple):
    """A bracket, its lowest point with the derivatives there, and where to look next."""

    low: Array
    high: Array
    place: Array
    value: Array
    slope: Array
    curvature: Array
    trial: Array
    steps: Array
    final: Array


def least(function: Callable[[Array], Array], centre: Array) -> Least:
    """Minimise a function of a logarithm, twice differentiable in forward mode.

    The scan covers 10⁻⁶ to 10⁶ times exp(centre). Newton then runs from its lowest point inside a bracket, and only
    lower points are accepted, so that no point of the scan is better than the result. Four derivatives as a rule.

    Nothing here is to be differentiated: the result is a root of the slope.
    """
    scan = _scanned(function, centre)
    rounding = 1e3 * jnp.finfo(centre.dtype).eps * jnp.abs(scan.value)
    level = jnp.abs(function(scan.place + scan.side * _STEP) - scan.value) <= rounding  # as far as can be told
    at_end = (scan.falling | level) & (scan.side != 0)
    state = _newton(function, scan.place)
    status = jnp.where(at_end, AT_END, jnp.where(state.final | _close(state), CONVERGED, MAX_STEPS))
    status = jnp.where(scan.values.max() - scan.value <= rounding, FLAT, status)
    status = jnp.where(jnp.isfinite(scan.value), status, NON_FINITE)
    place = jnp.where(at_end, scan.place, state.place)
    value = jnp.where(at_end, scan.value, state.value)
    place, value = (jnp.where(status == NON_FINITE, jnp.nan, item) for item in (place, value))
    steps = scan.done - _POINTS + state.steps
    return Least(place, value, state.slope, state.curvature, steps, status, (scan.places, scan.values))


def _scanned(function: Callable[[Array], Array], centre: Array) -> _Scan:
    """Every point of the scan, then outward from an end of it for as long as the function falls."""
    places = centre + _STEP * (jnp.arange(_POINTS, dtype=centre.dtype) - (_POINTS - 1) / 2)

    def running(state: _Scan) -> Array:
        return (state.done < _POINTS) | (state.falling & (state.side != 0) & (state.done < _POINTS + _BEYOND))

    def body(state: _Scan) -> _Scan:
        scanning = state.done < _POINTS
        place = jnp.where(scanning, places[state.done], state.place + state.side * _STEP)
        value = function(place)
        value = jnp.where(jnp.isfinite(value), value, jnp.inf)
        values = jnp.where(scanning, state.values.at[state.done].set(value), state.values)
        lower = value < state.value
        best = jnp.where(lower, place, state.place)
        side = jnp.where(best <= places[0], -1, jnp.where(best >= places[-1], 1, 0))
        return _Scan(state.done + 1, places, values, best, jnp.where(lower, value, state.value), side, lower | scanning)

    infinite = jnp.full((), jnp.inf, centre.dtype)
    begin = _Scan(
        jnp.array(0), places, jnp.full_like(places, jnp.nan), places[0], infinite, jnp.array(0), jnp.array(True)
    )
    return lax.while_loop(running, body, begin)


def _close(state: _Search) -> Array:
    """Whether Newton's step is shorter than what values can tell apart."""
    short = jnp.finfo(state.place.dtype).eps ** 0.4
    return (state.curvature > 0) & (jnp.abs(state.slope) <= short * state.curvature)


def _newton(function: Callable[[Array], Array], place: Array) -> _Search:
    def derivatives(t: Array) -> tuple[Array, Array, Array]:
        one = jnp.ones_like(t)
        (value, slope), (_, curvature) = jax.jvp(lambda s: jax.jvp(function, (s,), (one,)), (t,), (one,))
        return value, slope, curvature

    def body(state: _Search) -> _Search:
        new = derivatives(state.trial)
        # A lower trial is the new place, and its slope tells which side is uphill; a higher one ends the bracket.
        # The last step is too short for values to tell better from worse, and is taken.
        final = _close(state)
        lower = (new[0] < state.value) | (state.steps == 0) | final
        old = (state.value, state.slope, state.curvature)
        value, slope, curvature = (jnp.where(lower, a, b) for a, b in zip(new, old, strict=True))
        from_left = jnp.where(lower, slope < 0, state.trial < state.place)
        low, high = jnp.where(from_left, state.trial, state.low), jnp.where(from_left, state.high, state.trial)
        place = jnp.where(lower, state.trial, state.place)
        newton = place - slope / curvature
        inside = (curvature > 0) & (newton > low) & (newton < high)
        halfway = jnp.where(slope > 0, low + place, place + high) / 2
        trial = jnp.where(inside, newton, halfway)
        return _Search(low, high, place, value, slope, curvature, trial, state.steps + 1, final)

    def running(state: _Search) -> Array:
        wide = state.high - state.low > 4 * jnp.finfo(place.dtype).eps * (1 + jnp.abs(state.place))
        finite = jnp.isfinite(state.value) | (state.steps == 0)
        return ~state.final & wide & (state.steps < _MAX_STEPS) & finite

    blank = jnp.full_like(place, jnp.nan)
    begin = _Search(place - _STEP, place + _STEP, place, blank, blank, blank, place, jnp.array(0), jnp.array(False))
    return lax.while_loop(running, body, begin)


def differentiable(found: Least, function: Objective, params: Any) -> tuple[Array, Array]:
    """Place and value of the least function(place, params), with their derivatives by the implicit function theorem.

    That of a place which is no minimum, an end or a point where all are as good, is NaN.
    """
    fixed = (found.status == AT_END) | (found.status == FLAT)
    slope = partial(_slope, function)
    place = implicit(slope, found.place, (params, jnp.where(fixed, jnp.nan, jnp.ones_like(found.place))))
    moving = implicit(slope, found.place, (params, jnp.ones_like(found.place)))
    return place, with_derivative(function, found.value, moving, params)


def _slope(function: Objective, place: Array, given: tuple) -> Array:
    params, known = given
    return known * jax.jvp(lambda t: function(t, params), (place,), (jnp.ones_like(place),))[1]
