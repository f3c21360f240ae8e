"""Any precision matrix as a masked predictor: the class that every baseline comes back in."""

import jax.numpy as jnp
import numpy as np

from .. import _linalg
from .._checks import as_samples, as_symmetric, is_concrete
from .._types import CONVERGED, NON_FINITE, Array, ArrayLike, Float, Int, Result, full_precision, pytree
from ..masking import LeaveOneOut


@pytree
class Predictor(Result):
    """A precision matrix as a masked predictor; ``jmask.train_error`` and ``jmask.test_error`` take it.

    Attributes
    ----------
    weights
        (d, d) A = I - diag(P)⁻¹P; row k predicts coordinate k from the others.
    precision
        (d, d) P. Where the estimated covariance is singular and P diverges: the projector on its null space.
    status
        ``CONVERGED``; ``MAX_STEPS`` with the weights of the last step; or why the weights are NaN.
    """

    weights: Float[Array, "d d"]
    precision: Float[Array, "d d"]
    status: Int[Array, ""]

    @property
    def scheme(self) -> LeaveOneOut:
        """One coordinate is hidden at a time."""
        return LeaveOneOut()

    @full_precision
    def predict(self, x: ArrayLike) -> Float[Array, "m d"]:
        """(m, d) every coordinate predicted from the others: x Aᵀ.

        Parameters
        ----------
        x
            (m, d) samples, centred and scaled as the data of the estimate were.
        """
        x = as_samples(x, columns=self.weights.shape[0], rows=1)
        return x @ self.weights.astype(x.dtype).T


@full_precision
def from_precision(p: ArrayLike) -> Predictor:
    """Any precision matrix as a masked predictor: A = I - diag(P)⁻¹P.

    Parameters
    ----------
    p
        (d, d) symmetric, with a positive diagonal; its scale does not matter.

    Raises
    ------
    ValueError
        For a matrix that is not square, symmetric and finite, or a diagonal entry that is not positive.

    Notes
    -----
    O(d²), differentiable.

    Examples
    --------
    >>> import jmask as jm
    >>> jm.baselines.from_precision([[2.0, 1.0], [1.0, 4.0]]).weights.tolist()
    [[0.0, -0.5], [-0.25, 0.0]]
    """
    p = as_symmetric(p, "p")
    if is_concrete(p) and (np.diagonal(np.asarray(p)) <= 0).any():
        k = int(np.diagonal(np.asarray(p)).argmin())
        raise ValueError(f"p must have a positive diagonal, got {np.asarray(p)[k, k]:g} at index {k}")
    return packed(p)


def packed(precision: Array, weights: Array | None = None, status: ArrayLike = CONVERGED) -> Predictor:
    """``weights`` where they are not those of the precision; ``status`` for the case that they are finite."""
    if weights is None:
        weights = weights_of(precision)
    finite = jnp.isfinite(weights).all()
    return Predictor(jnp.where(finite, weights, jnp.nan), precision, jnp.where(finite, status, NON_FINITE))


def weights_of(precision: Array) -> Array:
    """A = offdiag(-Q_kj/Q_kk) of any precision matrix Q (d, d)."""
    return _linalg.regressions(precision)[0]
