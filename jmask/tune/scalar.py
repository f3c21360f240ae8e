"""The ridge of least leave-one-out error, exactly and to second order."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from .._checks import as_samples
from .._types import Array, ArrayLike, Float, Int, Result, full_precision, pytree
from ..masking import LeaveOneOut, Patterns, Scheme, check_scheme
from ..ridges import errors_on_axes, path_axes
from ..validation import leave_one_out_core
from .line import Least, differentiable, least


@pytree
class TunedRidge(Result):
    """The ridge of least leave-one-out error.

    Attributes
    ----------
    ridge
        The minimiser.
    value
        Leave-one-out error there.
    slope, curvature
        First and second derivative in log ridge there: the certificate, and how sharp the choice is.
    scan_ridge, scan_value
        (m,) the coarse scan that it started from.
    steps
        Evaluations beyond the scan.
    status
        ``CONVERGED``; ``AT_END`` where the error falls all the way to a ridge of 10⁻¹² or 10¹² mean variances, which is
        then the ridge given; ``FLAT`` where the error does not depend on the ridge; ``MAX_STEPS``; ``NON_FINITE``.
    """

    ridge: Float[Array, ""]
    value: Float[Array, ""]
    slope: Float[Array, ""]
    curvature: Float[Array, ""]
    scan_ridge: Float[Array, " m"]
    scan_value: Float[Array, " m"]
    steps: Int[Array, ""]
    status: Int[Array, ""]


@full_precision
def ridge(x: ArrayLike, scheme: Scheme = LeaveOneOut(), *, centred: bool = False) -> TunedRidge:
    """Choose the ridge by exact leave-one-out error.

    Parameters
    ----------
    x
        (n, d) samples.
    scheme
        ``LeaveOneOut``, ``Bernoulli`` or ``Partition``.
    centred
        True: the mean of x is removed, and re-estimated without each sample.

    Returns
    -------
    TunedRidge
        ``.ridge .value .slope .curvature .scan_ridge .scan_value .steps .status``.

    Raises
    ------
    ValueError
        For bad data, and for ``Patterns``, where leaving one sample out has no closed form.

    Notes
    -----
    A scan of 37 ridges over twelve decades around the mean variance, walked on where the error still falls at its end,
    then Newton in log ridge inside the bracket; only lower points are accepted. ``LeaveOneOut``: one
    eigendecomposition, then one n × d × d product a ridge and about six a Newton step; other schemes refactor at each.
    Ridge and value are differentiable in x (and the hiding rate) by the implicit function theorem, the ridge not at an
    end (NaN). Nothing else is: the curvature and the scan count as constants.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(60, 1)) + rng.normal(size=(60, 6))
    >>> found = jm.tune.ridge(x)
    >>> bool(found.converged), bool(abs(found.slope) < 1e-9)
    (True, True)
    """
    x = as_samples(x)
    check_scheme(scheme, x.shape[1])
    if isinstance(scheme, Patterns):
        raise ValueError("scheme: Patterns has no closed form for leaving one sample out; use another scheme")
    return tuned_ridge(x, scheme, bool(centred))


@partial(jax.jit, static_argnames=("centred",))
def tuned_ridge(x: Array, scheme: Scheme, centred: bool) -> TunedRidge:
    """``ridge`` without the checks."""
    found = least_error(x, scheme, centred)
    place, value = differentiable(found, partial(_value, centred), (x, scheme))
    return TunedRidge(  # type: ignore[call-arg]
        jnp.exp(place),
        value,
        found.slope,
        found.curvature,
        jnp.exp(found.scan[0]),
        found.scan[1],
        found.steps,
        found.status,
    )


def error_at(place: Array, x: Array, scheme: Scheme, centred: bool) -> Array:
    """Leave-one-out error at log ridge, a scalar or (d,)."""
    return leave_one_out_core(x, jnp.exp(place), scheme, False, centred).mean()


def least_error(x: Array, scheme: Scheme, centred: bool) -> Least:
    """The least leave-one-out error over log ridge; not differentiable."""
    x, scheme = lax.stop_gradient((x, scheme))
    spread = x - x.mean(0, keepdims=True) if centred else x
    centre = jnp.log((spread**2).mean())
    if isinstance(scheme, LeaveOneOut):
        axes = path_axes(x, centred)
        return least(lambda place: errors_on_axes(axes, jnp.exp(place))[1], centre)
    return least(lambda place: error_at(place, x, scheme, centred), centre)


def _value(centred: bool, place: Array, params: tuple) -> Array:
    x, scheme = params
    return error_at(place, x, scheme, centred)
