"""The closed-form fit: one factorisation serves all d masked regressions.

With S = xᵀx/n and Q = (S + Λ)⁻¹, row k of A = I - diag(Q)⁻¹Q predicts coordinate k from the others by ridge
regression. Partitions and Bernoulli masks reduce to the same Q; spelled-out patterns need d normal equations.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from . import _linalg, _pseudo_inverse
from ._checks import all_zero, as_ridge, as_rows, as_samples, is_concrete, require_finite, require_memory
from ._types import CONVERGED, NON_FINITE, SINGULAR, Array, ArrayLike, Bool, Float, Int, Result, full_precision, pytree
from .gram import Gram
from .imputation import impute_rows
from .masking import Bernoulli, LeaveOneOut, Partition, Patterns, Scheme, can_see, check_scheme

_PATTERN_MEMORY = 2**28  # bytes of normal equations solved at once for ``Patterns``
_TWO_DIGITS = 0.01
_SAFE = 1e5  # condition number up to which single precision has two correct digits


@pytree
class Fit(Result):
    """A fitted joint predictor.

    Attributes
    ----------
    weights
        (d, d) A; row k predicts coordinate k from the others.
    conditional_precision
        (d,) Q_kk: of Gaussian data, one over the variance of a coordinate given all others.
    ridge
        The penalty asked for, scalar or (d,).
    count
        Number of samples.
    dense_precision
        (d, d) Q where the weights do not give it: ``Partition``, ``Patterns``, ridge 0. Else None: see ``precision``.
    covariance
        (d, d) S, of ``Bernoulli`` S + (p/q) diag S, kept only at ridge 0, where filling in needs it; else None.
    status
        ``CONVERGED``, or why the weights are NaN.
    scheme
        The mask scheme.
    """

    weights: Float[Array, "d d"]
    conditional_precision: Float[Array, " d"]
    ridge: Float[Array, "..."]
    count: Float[Array, ""]
    dense_precision: Float[Array, "d d"] | None
    covariance: Float[Array, "d d"] | None
    status: Int[Array, ""]
    scheme: Scheme

    @property
    def precision(self) -> Float[Array, "d d"]:
        """(d, d) Q = (S + Λ)⁻¹, with the penalty actually used (for ``Bernoulli`` (p/q) diag S + Λ/q²).

        At ridge 0 with S singular, where Q diverges: the projector on the null space of the data. Made anew from the
        weights, diag(Q)(I - qA), each time that it is asked for: O(d²).
        """
        if self.dense_precision is not None:
            return self.dense_precision
        return _precision(self.weights, self.conditional_precision, self.scheme)

    @full_precision
    def predict(self, x: ArrayLike) -> Float[Array, "m d"]:
        """(m, d) every coordinate predicted from the others: x Aᵀ.

        Parameters
        ----------
        x
            (m, d) samples, centred and scaled as the training data were.
        """
        x = as_samples(x, columns=self.weights.shape[0], rows=1)
        return x @ self.weights.astype(x.dtype).T

    @full_precision
    def impute(self, x: ArrayLike, observed: ArrayLike) -> Float[Array, "m d"]:
        """Fill hidden entries given the observed ones: x̂_M = -Q_MM⁻¹Q_MO x_O, row by row.

        Parameters
        ----------
        x
            (m, d) samples; where ``observed`` is False the value is ignored (NaN is welcome).
        observed
            (m, d) booleans. Observed entries come back untouched; a row with none comes back as zeros,
            the mean.

        Raises
        ------
        ValueError
            If shapes disagree or an observed entry is not finite.

        Notes
        -----
        The exact conditional mean of a Gaussian with precision Q. Rows with the same pattern share one solve:
        O(|M|³) a distinct pattern (O(d³) a row when ``observed`` is traced). For ``Patterns`` Q is that of
        the plain penalty. At ridge 0: S_MO S_OO⁺ x_O.
        """
        return impute_rows(self.precision, self.covariance, x, observed)

    def save(self, path: str) -> None:
        """Write the fit to ``path`` (.npz, versioned), by a temporary file that is renamed when whole."""
        from .storage import save_fit

        save_fit(self, path)

    @classmethod
    def load(cls, path: str) -> "Fit":
        """Read a fit that ``save`` wrote."""
        from .storage import load_fit

        return load_fit(path)


@jax.jit
def _precision(weights: Array, diagonal: Array, scheme: Scheme) -> Array:
    """Of one fit or of a batch."""
    kept = 1 - jnp.asarray(scheme.hide_rate if isinstance(scheme, Bernoulli) else 0, weights.dtype)
    one = jnp.vectorize(lambda a, d, q: _linalg.precision_of(q * a, d), signature="(d,d),(d),()->(d,d)")
    return one(weights, diagonal, kept)


@full_precision
def fit(x: ArrayLike | Gram, ridge: ArrayLike, scheme: Scheme = LeaveOneOut()) -> Fit:
    """Fit the joint masked predictor in closed form.

    Parameters
    ----------
    x
        (n, d) samples in rows, taken as they are (not centred), or a ``Gram`` of them.
    ridge
        Penalty λ, or (d,) penalties, one for each input coordinate; not negative. The data term is divided
        by n: scikit-learn's ``alpha`` is n·ridge.
    scheme
        ``LeaveOneOut()`` (default), ``Bernoulli(hide_rate)``, ``Partition(groups)`` or
        ``Patterns(hidden, probabilities)``.

    Returns
    -------
    Fit
        ``weights`` (d, d), ``precision`` (d, d), ``predict``, ``impute``, ``save``; ``converged`` is False and
        the weights NaN where no fit exists in this precision.

    Raises
    ------
    ValueError
        For data that is not finite, shapes that disagree, a negative ridge, a ridge with some zeros when S
        is singular (the limit would depend on their ratios), or d × d matrices beyond memory.

    Warns
    -----
    UserWarning
        When single precision meets a condition number of S + Λ above 10⁵: expect fewer than two correct digits.

    Notes
    -----
    O(n d² + d³); for n < d the n × n dual, O(n d²). A known ridge of 0 takes the limit λ → 0⁺ (minimum
    norm where S is singular, decided by rank); a traced 0 on a singular S gives NaN. ``Patterns`` solves d
    systems, O(d⁴), in batches of at most 256 MiB. Differentiable in the data, the ridge and the
    scheme; single precision stays single (relative error about condition number × 1e-7).

    References
    ----------
    arXiv 2601.23208; Steck (2019), whose item-item model is ``LeaveOneOut``.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> jm.fit(x, ridge=0.1).weights.shape
    (3, 3)
    """
    data = x if isinstance(x, Gram) else as_rows(x)
    d, dtype = (data.dimension, data.sum.dtype) if isinstance(data, Gram) else (data.shape[1], data.dtype)
    check_scheme(scheme, d)
    ridge = as_ridge(ridge, d, dtype)
    require_memory(2 * d * d * dtype.itemsize, f"a fit of {d} coordinates")
    zero = all_zero(ridge)
    result = _fit_limit(data, ridge, scheme) if zero else _fit_positive(data, ridge, scheme)
    if is_concrete(result.weights):
        _report(result, data, zero)
    return result


def _report(result: Fit, data: Array | Gram, zero: bool) -> None:
    """Refuse or warn of what only shows in the values. Data that is not finite gives no fit, and is looked at then."""
    if not result.converged:
        require_finite(data.scatter if isinstance(data, Gram) else data, "x")
    if int(result.status) == SINGULAR and result.ridge.ndim and bool((result.ridge == 0).any()):
        raise ValueError(
            "ridge has zeros beside positive entries and the sample covariance is singular: the limit would depend "
            "on how the zeros are approached; make them all zero or all positive"
        )
    if result.weights.dtype == jnp.float32 and not zero:
        condition = float(_condition_number(data, result))
        if not condition <= _SAFE:
            warnings.warn(
                f"condition number {condition:.1e} is unsafe in single precision: use float64 data with "
                "jax.config.update('jax_enable_x64', True), or a larger ridge",
                stacklevel=3,
            )


@jax.jit
def _condition_number(data: Array | Gram, result: Fit) -> Float[Array, ""]:
    """That of S + Λ, roughly: (tr S + max Λ)/min Λ where that is safe, else by power iteration; inf if Q is unknown.

    Of many samples 2d are read, evenly spaced: the fit is not to wait for this.
    """
    penalty, _ = _penalty_used(data, result.ridge, result.scheme)
    if not isinstance(data, Gram):
        data = data[:: max(1, data.shape[0] // (2 * data.shape[1]))]

    def regularised(v: Array) -> Array:
        if isinstance(data, Gram):
            return data.covariance @ v + penalty * v
        return (data @ v) @ data / data.shape[0] + penalty * v

    def largest(apply: Callable[[Array], Array]) -> Array:
        start = jax.random.normal(jax.random.key(0), result.weights.shape[:1], result.weights.dtype)
        vector = lax.fori_loop(0, 12, lambda _, v: apply(v) / jnp.linalg.norm(v), start)
        return jnp.linalg.norm(apply(vector)) / jnp.linalg.norm(vector)

    def iterated() -> Array:
        return largest(regularised) * largest(lambda v: result.precision @ v)

    trace = jnp.trace(data.covariance) if isinstance(data, Gram) else (data**2).sum() / data.shape[0]
    bound = (trace + penalty.max()) / penalty.min()
    known = jnp.isfinite(result.conditional_precision[0])
    condition = lax.cond(known & (bound <= _SAFE), lambda: bound, iterated)
    return jnp.where(jnp.isfinite(condition), condition, jnp.inf)


def _penalty_used(data: Array | Gram, ridge: Array, scheme: Scheme) -> tuple[Array, Array]:
    """The penalty Λ_q = (p/q) diag S + Λ/q² of leave-one-out to which ``Bernoulli`` amounts, and q; else Λ and 1."""
    if not isinstance(scheme, Bernoulli):
        return ridge, jnp.ones((), ridge.dtype)
    p = scheme.probability(ridge.dtype)
    q = 1 - p
    variances = (data**2).mean(0) if not isinstance(data, Gram) else jnp.diagonal(data.covariance)
    return p / q * variances + ridge / q**2, q


def _moments(data: Array | Gram) -> tuple[Array, Array]:
    """S and n."""
    if isinstance(data, Gram):
        return data.covariance, data.count
    return _linalg.gram(data) / data.shape[0], jnp.asarray(data.shape[0], data.dtype)


@jax.jit
def _fit_positive(data: Array | Gram, ridge: Array, scheme: Scheme) -> Fit:
    """For ridges that are not all zero (a traced 0 included)."""
    used, q = _penalty_used(data, ridge, scheme)
    weights, diagonal = _regressions(data, used)
    dense = None
    if isinstance(scheme, Bernoulli):
        weights = weights / q
    elif not isinstance(scheme, LeaveOneOut):
        dense = _linalg.precision_of(weights, diagonal)
        if isinstance(scheme, Patterns):
            weights = _pattern_weights(_moments(data)[0], ridge, scheme, limit=False)
        else:
            weights = _partition_weights(dense, scheme)
    finite = jnp.isfinite(1 / diagonal).all()  # a failed inverse is NaN throughout
    if dense is not None:
        finite = finite & jnp.isfinite(weights).all()
        weights = jnp.where(finite, weights, jnp.nan)
    status = jnp.where(finite, CONVERGED, jnp.where((ridge == 0).any(), SINGULAR, NON_FINITE))
    count = data.count if isinstance(data, Gram) else jnp.asarray(data.shape[0], ridge.dtype)
    return Fit(weights, diagonal, ridge, count, dense, None, status, scheme)


def _regressions(data: Array | Gram, ridge: Array) -> tuple[Array, Array]:
    """A and diag(Q), through the n × n dual when n < d; NaN where S + Λ is singular."""
    if isinstance(data, Gram):
        return _linalg.matrix_regressions(_linalg.add_diagonal(data.covariance, ridge))
    # Without a penalty on some coordinate S + Λ is singular for n < d unless the others repair it: primal, then.
    if data.shape[0] >= data.shape[1] or (is_concrete(ridge) and not np.asarray(ridge).all()):
        return _linalg.primal_regressions(data, ridge)
    return _linalg.dual_regressions(data, ridge)


def precision_matrix(data: Array | Gram, ridge: Array) -> Float[Array, "d d"]:
    """Q = (S + Λ)⁻¹; NaN where S + Λ is singular."""
    return _linalg.precision_of(*_regressions(data, ridge))


@jax.jit
def _fit_limit(data: Array | Gram, ridge: Array, scheme: Scheme) -> Fit:
    """The limit λ → 0⁺: minimum norm where S is singular."""
    covariance, count = _moments(data)
    used, q = covariance, jnp.ones((), ridge.dtype)
    if isinstance(scheme, Bernoulli):
        p = scheme.probability(ridge.dtype)
        q = 1 - p
        used = _linalg.add_diagonal(covariance, p / q * jnp.diagonal(covariance))
    null = null_space(data, used, isinstance(scheme, Bernoulli))
    if isinstance(scheme, Patterns):
        weights = _pattern_weights(covariance, ridge, scheme, limit=True)
    elif isinstance(scheme, Partition):
        weights = _partition_limit(covariance, scheme)
    else:
        # Q is dominated by Π/λ where coordinate k meets the null space, by S⁺ where it does not.
        weights = _linalg.regressions(jnp.where(null.free[:, None], null.projector, null.inverse))[0] / q
    if not isinstance(data, Gram):  # squares of small numbers may vanish: then nothing is known of their column
        vanished = (jnp.diagonal(covariance) == 0) & (data != 0).any(0)
        weights = jnp.where(vanished.any(), jnp.nan, weights)
    status = jnp.where(jnp.isfinite(weights).all(), CONVERGED, NON_FINITE)
    dense = jnp.where(null.free.any(), null.projector, null.inverse)
    return Fit(weights, jnp.diagonal(dense), ridge, count, dense, used, status, scheme)


class NullSpace(NamedTuple):
    """S at λ → 0⁺: its pseudo-inverse, the projector on its null space, and the coordinates that meet it.

    What is null shows in S with a unit diagonal, S/uuᵀ, or in (x/u)(x/u)ᵀ/n where that is smaller: ``units`` u,
    ``vectors`` its eigenvectors, ascending, and the ``kept``. ``dual`` is (xxᵀ/n)⁺ in the second case.
    """

    inverse: Float[Array, "d d"]
    projector: Float[Array, "d d"]
    free: Bool[Array, " d"]
    units: Float[Array, " d"]
    vectors: Float[Array, "m m"]
    kept: Bool[Array, " m"]
    dual: Float[Array, "n n"] | None


def null_space(data: Array | Gram, covariance: Array, plain: bool) -> NullSpace:
    """From the smaller of S and xxᵀ/n, unless ``plain``: then from the given matrix.

    The value of the projector comes from an orthonormal basis (exact to rounding, and exactly zero when
    nothing is null); its derivative from I - S⁺S, which needs no eigenvectors.
    """
    d, eps = covariance.shape[0], jnp.finfo(covariance.dtype).eps
    eye = jnp.eye(d, dtype=covariance.dtype)
    if plain or isinstance(data, Gram) or data.shape[0] >= d:
        inverse, dual = _pseudo_inverse.pseudo_inverse(covariance), None
        held = lax.stop_gradient(covariance)
        units = _pseudo_inverse.units(held)
        values, vectors = jnp.linalg.eigh(held / units[:, None] / units[None, :])
        kept = _pseudo_inverse.kept_values(values)
        null = jnp.where(kept[None, :], 0, vectors)
        free = (null**2).sum(1) > 100 * d * eps
        exact = _pseudo_inverse.projector(units.max() / units, null[:, ::-1], ~kept[::-1])
    else:
        inverse, dual = _pseudo_inverse.wide_pseudo_inverses(data)
        units, values, axes, vectors = _pseudo_inverse.wide_axes(lax.stop_gradient(data))
        kept = _pseudo_inverse.kept_values(values)
        free = 1 - jnp.where(kept[None, :], axes**2, 0).sum(1) > 100 * d * eps
        exact = eye - _pseudo_inverse.projector(units, axes, kept)
        # A coordinate of units so large that its share of the null space drowns in the rounding of 1.
        exact = jnp.where((free & (jnp.diagonal(exact) <= 100 * eps))[:, None], jnp.nan, exact)
    empty = jnp.diagonal(covariance) == 0  # a zero column is null by itself: no rounding mixes it with others
    exact = jnp.where(empty[:, None] | empty[None, :], eye, exact)
    smooth = eye - inverse @ covariance
    projector = exact + (smooth - lax.stop_gradient(smooth))
    return NullSpace(inverse, projector, free, units, vectors, kept, dual)


def _partition_weights(precision: Array, scheme: Partition) -> Array:
    """I - blockdiag(Q_BB)⁻¹Q, groups of one size in one batch."""
    weights = jnp.zeros_like(precision)
    for members in scheme.members_by_size():
        weights = weights.at[members].set(-solve_groups(precision, members, precision[members]))
    return jnp.where(can_see(scheme, precision.shape[0]), weights, 0)


def solve_groups(precision: Array, members: np.ndarray, right: Array) -> Float[Array, "g b m"]:
    """Q_BB⁻¹ right (g, b, m) for groups (g, b) of one size; NaN for a group whose block is singular to two digits.

    Such a block, of more coordinates than the null space of the data has room for at a tiny ridge, shows in its pivots.
    """
    blocks = precision[members[:, :, None], members[:, None, :]]
    factor = jnp.linalg.cholesky(lax.stop_gradient(blocks))
    pivots, variances = (jnp.diagonal(m, axis1=1, axis2=2) for m in (factor**2, lax.stop_gradient(blocks)))
    rounding = 10 * members.shape[1] * jnp.finfo(blocks.dtype).eps
    known = (pivots > rounding / _TWO_DIGITS * variances).all(axis=1)[:, None, None]
    factor = jnp.where(known, factor, jnp.eye(members.shape[1], dtype=factor.dtype)[None])
    solved = lax.custom_linear_solve(
        lambda y: blocks @ y, right, lambda _, y: jax.scipy.linalg.cho_solve((factor, True), y), symmetric=True
    )
    return jnp.where(known, solved, jnp.nan)


def _partition_limit(covariance: Array, scheme: Partition) -> Array:
    """Minimum norm regression of each group on the rest: S_BO S_OO⁺."""
    weights = jnp.zeros_like(covariance)
    d = covariance.shape[0]
    for members in scheme.members_by_size():
        rest = np.stack([np.setdiff1d(np.arange(d), group) for group in members])

        def regress(index: tuple[Array, Array]) -> Array:
            group, others = index
            inverse = _pseudo_inverse.pseudo_inverse(covariance[others[:, None], others[None, :]])
            return covariance[group[:, None], others[None, :]] @ inverse

        rows = jax.lax.map(regress, (jnp.asarray(members), jnp.asarray(rest)))
        weights = weights.at[members[:, :, None], rest[:, None, :]].set(rows)
    return weights


def _pattern_weights(covariance: Array, ridge: Array, scheme: Patterns, limit: bool) -> Array:
    """d normal equations: H_k = Σ_p w_pk (kept kept ᵀ)∘S + Λ, b_k = Σ_p w_pk kept∘S_k."""
    d = covariance.shape[0]
    kept = jnp.where(scheme.hidden, 0, jnp.ones((), covariance.dtype))
    shares = scheme.coordinate_weights(covariance.dtype).T  # (d, m)
    visible = can_see(scheme, d)
    batch = max(1, min(d, _PATTERN_MEMORY // (d * d * covariance.dtype.itemsize)))

    def solve(row: tuple[Array, Array, Array]) -> Array:
        share, moment, sees = row
        weighted = share[:, None] * kept
        normal = (kept.T @ weighted) * covariance
        target = jnp.where(sees, weighted.sum(0) * moment, 0)
        # An input that is never seen has no equation but its penalty: give it one, its weight is zero.
        used = _linalg.add_diagonal(normal, jnp.where(sees, ridge, jnp.maximum(ridge, 1)))
        if limit:
            return jnp.where(sees, _pseudo_inverse.pseudo_inverse(used) @ target, 0)
        solved = jnp.linalg.solve(used, jnp.stack([target, used.sum(1)], axis=1))  # the second solution is one
        known = jnp.abs(lax.stop_gradient(solved[:, 1]) - 1).max() <= _TWO_DIGITS
        return jnp.where(known, jnp.where(sees, solved[:, 0], 0), jnp.nan)

    return jax.lax.map(solve, (shares, covariance, visible), batch_size=batch)
