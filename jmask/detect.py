"""Directions that stand out of the noise of a data set: fitted, and compared with the bulk that the theory predicts."""

from dataclasses import replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from ._checks import all_zero, as_ridge, as_samples, is_concrete
from ._types import CONVERGED, NON_FINITE, Array, ArrayLike, Float, Int, Result, full_precision, pytree
from .closed_form import Fit, fit
from .covariance.base import unchecked_diagonal
from .eigen import Eigen, empty_columns, predictor_eigen
from .theory.outlier_equation import POWERS, spike_at
from .theory.pencil import Pencil, edge_fluctuation, right_edge

FACTOR = 3.0  # of the ridge "detect": the strongest power in trials from 3 to 20
MARGIN = 2.4224  # 99.5% quantile of the Tracy-Widom law of order 1
_ROUNDS = 8


@pytree
class Directions(Result):
    """Directions that stand out of the predicted bulk, the furthest first.

    Attributes
    ----------
    directions
        (d, k) orthonormal columns (their signs mean nothing).
    strengths
        (k,) estimated θ: variance along the direction beyond that of the noise.
    overlap
        (k,) predicted squared inner product of each column with the true direction.
    eigenvalues
        (d,) all eigenvalues of the weights A, largest first.
    edge
        () where the theory ends the bulk of A.
    limit
        () beyond which an eigenvalue counts: 2.42 units of the Tracy-Widom law above the edge.
    ridge
        (d,) the penalty used.
    status
        ``CONVERGED``, or why there are no directions.
    """

    directions: Float[Array, "d k"]
    strengths: Float[Array, " k"]
    overlap: Float[Array, " k"]
    eigenvalues: Float[Array, " d"]
    edge: Float[Array, ""]
    limit: Float[Array, ""]
    ridge: Float[Array, " d"]
    status: Int[Array, ""]

    @property
    def count(self) -> int:
        """k, the number of directions found."""
        return self.directions.shape[1]


@full_precision
def directions(x: ArrayLike, ridge: ArrayLike | Literal["detect"] = "detect") -> Directions:
    """Find the directions that stand out of independent noise of unknown variances: how many, how strong, how sure.

    The eigenvalues of the weights A of ``fit(x, ridge)`` are compared with the bulk predicted for independent columns
    of the variances in the data; each one beyond it is a direction.

    Parameters
    ----------
    x
        (n, d) samples, mean zero (centre them first); rows independent, noise Gaussian and independent between
        columns, with variances that may differ.
    ridge
        "detect": Λ = 3·diag(S)²/mean(diag S), which finds directions nearly as weak as any method can
        (``theory.bayes``). Or a penalty of ``fit``, scalar or (d,).

    Returns
    -------
    Directions
        ``.directions`` (d, k), ``.strengths`` (k,), ``.overlap`` (k,), and ``.count .eigenvalues .edge .limit .ridge
        .status``. The columns are eigenvectors of the symmetric form I - D^(-1/2)QD^(-1/2) of A.

    Raises
    ------
    ValueError
        For data or a ridge that ``fit`` refuses, and for another string.
    TypeError
        Under a JAX transformation: how many directions there are depends on the values.

    Notes
    -----
    On noise alone at most 1% of data sets give a direction. The bulk is that of variances S_kk; once directions are
    found, what is known of them is taken out of the variances and the bulk predicted again, until their number stays.
    Directions spread over many coordinates are assumed; noise that is correlated, or rows with heavy tails, leave
    the predicted bulk too and are counted. Strengths invert the outlier equation for each eigenvalue. "detect" follows
    the variances, that of the spikes included, and is made for weak ones: where strength/d is as large as the noise,
    strengths and overlaps come out too low (27 for 50 at d = 100); a scalar ridge does not have this. Cost: one fit and
    one symmetric eigendecomposition, O(nd² + d³).

    References
    ----------
    Lee and Schnelli (2016) for the fluctuations at the edge.

    Examples
    --------
    >>> import jax, numpy as np, jmask as jm
    >>> noise = jm.covariance.Diagonal(np.tile([0.3, 3.0], 50))
    >>> truth = jm.covariance.Spiked(noise, [3.0]).realise(jax.random.key(0))
    >>> jm.directions(truth.sample(jax.random.key(1), 300)).count
    1
    """
    if not is_concrete((x, ridge)):
        raise TypeError("x: directions is not for jax.jit, vmap or grad, for their number depends on the values")
    x = as_samples(x)
    variances, d = (x**2).mean(0), x.shape[1]
    empty = np.asarray(empty_columns(x))
    if empty.all():
        raise ValueError("x must vary: every column is zero")
    if isinstance(ridge, str):
        if ridge != "detect":
            raise ValueError(f'ridge must be "detect", a scalar or a vector of {d} entries, got {ridge!r}')
        penalty = _detecting_ridge(x, variances)
    else:
        penalty = as_ridge(ridge, d, x.dtype)
        if x.shape[0] < d and all_zero(penalty):
            raise ValueError(
                f"ridge must be positive for {x.shape[0]} samples of {d} columns, which it fits exactly at 0"
            )
    penalty = jnp.broadcast_to(penalty, (d,))
    if empty.any():
        return _embedded(directions(x[:, ~empty], penalty[~empty]), penalty, np.flatnonzero(~empty))
    fitted = fit(x, penalty)
    eigen = predictor_eigen(fitted)
    bulk, strengths, overlap = _explained(fitted, eigen, variances, jnp.asarray(x.shape[0], x.dtype))
    status = jnp.where(eigen.status == CONVERGED, bulk.status, eigen.status)
    return Directions(
        directions=eigen.symmetric[:, : strengths.shape[0]],  # type: ignore[index]
        strengths=strengths,
        overlap=overlap,
        eigenvalues=eigen.values,
        edge=1 - 1 / bulk.edge,
        limit=1 - 1 / bulk.limit,
        ridge=penalty,
        status=jnp.where(fitted.status == CONVERGED, status, fitted.status),
    )


def _embedded(found: Directions, ridge: Array, columns: np.ndarray) -> Directions:
    """What was found in some ``columns``, the others being empty: their rows are 0, and so are their eigenvalues."""
    d = ridge.shape[0]
    values = jnp.zeros(d, ridge.dtype).at[: len(columns)].set(found.eigenvalues)
    vectors = jnp.zeros((d, found.count), ridge.dtype).at[columns].set(found.directions)
    return replace(found, directions=vectors, eigenvalues=jnp.sort(values, descending=True), ridge=ridge)


def _detecting_ridge(x: Array, variances: Array) -> Float[Array, " d"]:
    """FACTOR·S_kk²/mean S_kk; an empty column, which knows nothing of any other, counts as an average one."""
    mean = variances.mean()
    known = jnp.where(empty_columns(x), mean, variances)
    return FACTOR * known * (known / mean)


@pytree
class _Bulk:
    """The predicted bulk: its pencil, where it ends, and beyond which μ an eigenvalue counts."""

    pencil: Pencil
    edge: Float[Array, ""]
    limit: Float[Array, ""]
    status: Int[Array, ""]


@jax.jit
def _predicted(weights: Array, noise: Array, n: Array, ridge: Array) -> _Bulk:
    """The bulk of noise of variances ``noise`` in the pencil of the fit, whose D⁻¹ is ``weights``."""
    pencil = Pencil(unchecked_diagonal(noise), n, ridge, weights)
    edge = right_edge(pencil, False)
    limit = edge[1] + MARGIN * edge_fluctuation(pencil, edge)
    return _Bulk(pencil, edge[1], limit, jnp.where(jnp.isfinite(limit), CONVERGED, NON_FINITE))


@jax.jit
def _described(pencil: Pencil, values: Float[Array, " m"]) -> tuple[Array, Array]:
    """Strength and overlap of a symmetric eigenvector for every eigenvalue of A."""
    power = jnp.asarray(POWERS["symmetric"], values.dtype)
    return jax.vmap(lambda value: spike_at(pencil, 1 / (1 - value), power))(values)


def _explained(fitted: Fit, eigen: Eigen, variances: Array, n: Array) -> tuple[_Bulk, Array, Array]:
    """The bulk, and strength and overlap of all that stands out of it, known directions taken out of the noise."""
    weights, ridge = 1 / fitted.conditional_precision, fitted.ridge
    noise, strengths, overlap = variances, variances[:0], variances[:0]
    columns = jnp.zeros((variances.shape[0], 0)) if eigen.symmetric is None else eigen.symmetric
    for _ in range(_ROUNDS):
        bulk = _predicted(weights, noise, n, ridge)
        found = int((eigen.values > 1 - 1 / bulk.limit).sum())
        if found <= strengths.shape[0]:
            break
        padded = eigen.values[: 1 << (found - 1).bit_length()]  # few shapes, few compilations
        strengths, overlap = (part[:found] for part in _described(bulk.pencil, padded))
        # Of the variance θ·overlap that is known a share overlap is known to lie at the right coordinates.
        known = (strengths * overlap**2)[None, :] * columns[:, :found] ** 2
        noise = jnp.maximum(variances - known.sum(1), variances / 10)
    return bulk, strengths, overlap
