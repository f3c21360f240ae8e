"""The optimisers that ``jmask descent`` sets side by side: each as the theory knows it, and as it runs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .._types import Array
from ..covariance import Covariance
from ..theory.real_axis import sample_spectrum

_SPREAD = 3.0  # the largest sample eigenvalue scatters by a share of d^(-2/3): so many of them are left as room
_ADAM_RATE, _MEMORY = 0.02, 20
_PRODUCTS_A_TRIAL = 2  # of L-BFGS's line search: value and derivative


@dataclass(frozen=True)
class Optimiser:
    """``predicted`` are the options of ``theory.descent``; None where it has no theory. ``rule`` is what runs."""

    name: str
    rule: optax.GradientTransformation
    predicted: dict[str, Any] | None = None
    choice: str = ""
    products: Callable[[int, optax.OptState], int] = field(default=lambda steps, _: steps)
    """d × d × d products after so many steps, given the state of the rule."""


def spectrum_interval(covariance: Covariance, n: float, ridge: float, steps: int) -> tuple[float, float]:
    """(low, high) of the curvatures that a descent of so many steps from n samples meets, predicted.

    Room is left above for the scatter of the largest sample eigenvalue; below high·(2/steps)² nothing moves anyway.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> from jmask.commands.optimisers import spectrum_interval
    >>> low, high = spectrum_interval(jm.covariance.Diagonal(np.ones(1000)), 4000.0, 0.0, 100)
    >>> round(low, 2), round(high, 2)
    (0.25, 2.32)
    """
    nodes = sample_spectrum(covariance.eigenvalues(), jnp.asarray(float(n)))
    x = np.asarray(nodes.x[1:])
    high = float(x.max()) * (1 + _SPREAD * covariance.dimension ** (-2 / 3)) + ridge
    return max(float(x.min()) + ridge, high * (2 / steps) ** 2), high


def optimisers(low: float, high: float) -> list[Optimiser]:
    """Plain descent, heavy ball, Nesterov, Chebyshev, Adam and L-BFGS for curvatures within [low, high].

    The rules see the gradient of ``masked_loss``, which is -2 times the bracket of theory: their rates are η/2.
    """
    root = (low / high) ** 0.5
    ball, push = 4 / high / (1 + root) ** 2, ((1 - root) / (1 + root)) ** 2
    slow = (1 - root) / (1 + root)
    rate = 1 / high
    return [
        Optimiser("gradient descent", optax.sgd(rate / 2), {"learning_rate": rate}, f"η {rate:.3g}"),
        Optimiser(
            "Nesterov",
            optax.sgd(rate / 2, slow, nesterov=True),
            {"learning_rate": rate, "momentum": slow, "method": "nesterov"},
            f"η {rate:.3g}, β {slow:.3g}",
        ),
        Optimiser(
            "heavy ball",
            optax.sgd(ball / 2, push),
            {"learning_rate": ball, "momentum": push},
            f"η {ball:.3g}, β {push:.3g}",
        ),
        Optimiser(
            "Chebyshev",
            chebyshev_rule(low, high),
            {"method": "chebyshev", "interval": (low, high)},
            f"[{low:.3g}, {high:.3g}]",
        ),
        Optimiser("Adam", optax.adam(_ADAM_RATE), None, f"rate {_ADAM_RATE:g}"),
        Optimiser("L-BFGS", _counted(optax.lbfgs(memory_size=_MEMORY)), None, f"memory {_MEMORY}", _counted_products),
    ]


class _Semi(NamedTuple):
    ratio: Array
    update: Array


def chebyshev_rule(low: float, high: float) -> optax.GradientTransformation:
    """The Chebyshev semi-iteration on an interval of curvatures, for gradients that are -2 times the residual.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from jmask.commands.optimisers import chebyshev_rule
    >>> rule = chebyshev_rule(1.0, 3.0)
    >>> round(float(rule.update(jnp.array([-2.0]), rule.init(jnp.zeros(1)))[0][0]), 6)  # 2/(low + high)
    0.5
    """
    middle, half = (high + low) / 2, (high - low) / 2

    def init(weights: Array) -> _Semi:
        return _Semi(jnp.zeros((), weights.dtype), jnp.zeros_like(weights))

    def update(gradient: Array, state: _Semi, _: Array | None = None) -> tuple[Array, _Semi]:
        first = state.ratio == 0
        ratio = jnp.where(first, half / middle, 1 / (2 * middle / half - state.ratio))
        step = jnp.where(first, 1 / middle, 2 * ratio / half)
        change = ratio * state.ratio * state.update - step / 2 * gradient
        return change, _Semi(ratio, change)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


class _Counted(NamedTuple):
    inner: optax.OptState
    trials: Array


def _counted(rule: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    """The rule, with the trials of its line search counted in its state."""

    def init(weights: Array) -> _Counted:
        return _Counted(rule.init(weights), jnp.array(0))

    def update(gradient: Array, state: _Counted, weights: Array | None = None, **more: Any) -> tuple[Any, _Counted]:
        change, inner = rule.update(gradient, state.inner, weights, **more)
        found = optax.tree_utils.tree_get(inner, "num_linesearch_steps")
        return change, _Counted(inner, state.trials + found.astype(state.trials.dtype))

    return optax.GradientTransformationExtraArgs(init, update)  # type: ignore[arg-type]


def _counted_products(steps: int, state: optax.OptState) -> int:
    return steps + _PRODUCTS_A_TRIAL * int(jax.device_get(state.trials))  # type: ignore[union-attr]
