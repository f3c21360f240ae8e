"""The hiding rate to train with, for a hiding rate to be met later."""

import jax.numpy as jnp
import numpy as np

from .._checks import as_rate, as_samples, is_concrete
from .._types import Array, ArrayLike, Float, Int, Result, full_precision, pytree
from ..masking import Bernoulli
from ..validation import left_out_bernoulli
from .intervals import Interval
from .minimiser import minimise
from .scalar import tuned_ridge


@pytree
class TunedMask(Result):
    """Hiding rate and ridge of least leave-one-out error under the masks of a stated test hiding rate.

    Attributes
    ----------
    hide_rate, ridge
        To train with: ``jmask.fit(x, ridge, jmask.Bernoulli(hide_rate))``.
    value
        Leave-one-out error under the test masks.
    matched_ridge, matched_value
        The best ridge, and its error, when training hides at the test rate.
    gradient_norm
        Norm of the gradient in log ridge and the logit of the rate.
    steps
        Updates made.
    trace
        Error at the start (the matched choice) and after every update; inside ``jax.jit`` its unused tail is NaN.
    status
        As in ``Minimum``.
    """

    hide_rate: Float[Array, ""]
    ridge: Float[Array, ""]
    value: Float[Array, ""]
    matched_ridge: Float[Array, ""]
    matched_value: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    steps: Int[Array, ""]
    trace: Float[Array, " steps"]
    status: Int[Array, ""]


_LEAST_RATE = 1e-3  # a search in the logit does not leave 0 by itself
_BOUNDS = {"hide_rate": Interval(0, 1), "ridge": Interval(0)}


@full_precision
def hide_rate(x: ArrayLike, test_hide_rate: ArrayLike, *, centred: bool = False) -> TunedMask:
    """Choose hiding rate and ridge together, for the hiding rate that will be met.

    Parameters
    ----------
    x
        (n, d) samples.
    test_hide_rate
        Probability in [0, 1) with which an input will be missing (and set to zero, the mean) when a coordinate is
        predicted.
    centred
        True: the mean of x is removed.

    Returns
    -------
    TunedMask
        ``.hide_rate .ridge .value .matched_ridge .matched_value .gradient_norm .steps .trace .status``.

    Raises
    ------
    ValueError
        For bad data, or a rate outside [0, 1).

    Notes
    -----
    The fit at rate p and ridge λ, tested at rate p': with B the prediction without masks and
    q = 1 - p, e = x - (q'/q)Bx and an added (p'q'/q²) Σ_j B_kj² x_j², both of the fit without the sample. To train as
    one will test is close to the best, but not it: a higher rate also penalises. From the matched choice by L-BFGS; a
    gradient costs a few factorisations. Differentiable in x and the test rate by the implicit function theorem.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(60, 1)) + rng.normal(size=(60, 6))
    >>> found = jm.tune.hide_rate(x, 0.3)
    >>> bool(found.value <= found.matched_value), 0 < float(found.hide_rate) < 1
    (True, True)
    """
    x, rate = as_samples(x), as_rate(test_hide_rate, "test_hide_rate")
    if rate.ndim:
        raise ValueError(f"test_hide_rate must be a scalar, got shape {rate.shape}")
    rate = rate.astype(x.dtype)
    matched = tuned_ridge(x, Bernoulli(rate), bool(centred))
    if is_concrete(matched) and not np.isfinite(np.asarray(matched.ridge)):
        raise ValueError("x must vary: every column is zero, or constant and centred")
    start = {"hide_rate": jnp.clip(rate, _LEAST_RATE, 1 - _LEAST_RATE), "ridge": matched.ridge}
    found = minimise(_centred_error if centred else _error, start, args=(x, rate), bounds=_BOUNDS)
    return TunedMask(  # type: ignore[call-arg]
        found.argument["hide_rate"],
        found.argument["ridge"],
        found.value,
        matched.ridge,
        matched.value,
        found.gradient_norm,
        found.steps,
        found.trace,
        found.status,
    )


def _error(argument: dict[str, Array], x: Array, rate: Array) -> Array:
    scheme = Bernoulli(argument["hide_rate"])
    return left_out_bernoulli(x, argument["ridge"], scheme, 0.0, Bernoulli(rate)).mean()


def _centred_error(argument: dict[str, Array], x: Array, rate: Array) -> Array:
    scheme = Bernoulli(argument["hide_rate"])
    x = x - x.mean(0, keepdims=True)
    return left_out_bernoulli(x, argument["ridge"], scheme, 1 / x.shape[0], Bernoulli(rate)).mean()
