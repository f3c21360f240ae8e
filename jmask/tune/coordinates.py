"""One ridge a coordinate, or a group of them, by the gradient of leave-one-out error.

So many choices overfit the criterion that they are chosen by. The ridges are therefore let go step by step: at freedom
t they minimise LOO(u)/LOO(u₀) + mean (u - u₀)²/(2t) over their logarithms u, from the scalar choice u₀ at t = 0 to the
unconstrained minimum, and held-out rows say where to stop.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._checks import as_samples
from .._types import CONVERGED, NON_FINITE, Array, ArrayLike, Float, Int, PRNGKeyArray, Result, full_precision, pytree
from ..closed_form import fit
from ..masking import LeaveOneOut, Patterns, Scheme, check_scheme
from ..objective import sample_errors
from ..validation import leave_one_out_core
from .intervals import checked_labels
from .scalar import least_error
from .search import LBFGS, descend

_FREEDOMS = (0.0, *np.geomspace(0.1, 1e5, 13).tolist())
_TOLERANCE, _MOST = 0.03, 30  # of each stage: the next one goes on from there
_FURTHEST = 25.0  # nats from the scalar choice; beyond, a coordinate is as good as unused, or unpenalised


@pytree
class TunedRidges(Result):
    """Ridges by group, and what they are worth.

    Attributes
    ----------
    ridge
        (d,) the ridges chosen.
    scalar
        The one ridge of least leave-one-out error, where the path starts.
    value, scalar_value
        Leave-one-out error at both: what the choice was made by, so that their difference flatters.
    gain, gain_error
        How much lower the error of rows that took no part is at such a choice than at the scalar one, and its
        standard error over rows; see ``nested``.
    held_out_scalar
        Error of those rows at the scalar choice.
    freedom
        (m,) stages of the path, 0 first.
    path_value
        (m,) leave-one-out error of all rows along the path.
    path_held_out
        (m,) error of held-out rows along the path, mean over folds.
    path_ridge
        (m, g) ridges along the path, one a group.
    chosen
        Index of the stage chosen: that of least ``path_held_out``.
    status
        ``CONVERGED`` or ``NON_FINITE``.
    """

    ridge: Float[Array, " d"]
    scalar: Float[Array, ""]
    value: Float[Array, ""]
    scalar_value: Float[Array, ""]
    gain: Float[Array, ""]
    gain_error: Float[Array, ""]
    held_out_scalar: Float[Array, ""]
    freedom: Float[Array, " m"]
    path_value: Float[Array, " m"]
    path_held_out: Float[Array, " m"]
    path_ridge: Float[Array, "m g"]
    chosen: Int[Array, ""]
    status: Int[Array, ""]


@full_precision
def ridge_per_coordinate(
    x: ArrayLike,
    groups: ArrayLike | None = None,
    scheme: Scheme = LeaveOneOut(),
    *,
    folds: int = 5,
    nested: bool = False,
    key: PRNGKeyArray | None = None,
    centred: bool = False,
) -> TunedRidges:
    """Choose a ridge for every coordinate, or group of coordinates, and say what that is worth.

    Parameters
    ----------
    x
        (n, d) samples.
    groups
        (d,) integer labels, known: coordinates with equal labels share a ridge. None: each has its own.
    scheme
        ``LeaveOneOut``, ``Bernoulli`` or ``Partition``.
    folds
        Parts of the rows, each held out in turn to choose how far to leave the scalar choice.
    nested
        False: the gain is measured on the held-out rows, at the stage that the other folds choose (their paths have
        seen these rows, but for one number only). True: everything is repeated within each fold, so that the rows it
        is measured on took no part at all; (folds + 1) times the cost.
    key
        JAX random key that shuffles the rows; None: key 0.
    centred
        True: means are removed, those of the training rows, and re-estimated without each sample.

    Returns
    -------
    TunedRidges
        ``.ridge .scalar .value .gain .gain_error``, the path and ``.status``.

    Raises
    ------
    ValueError
        For bad data or labels, ``Patterns``, or folds that leave fewer than 2 rows.

    Notes
    -----
    A gradient costs a few factorisations whatever d; a path takes 100 to 150 of them; there are ``folds + 1`` paths.
    With no gain to be had the scalar choice comes back (``chosen`` 0). Works under jit and vmap; not differentiable: a
    path that is stopped early solves no equation.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(80, 1)) * np.ones(8) + rng.normal(size=(80, 8)) * np.tile([0.3, 3.0], 4)
    >>> found = jm.tune.ridge_per_coordinate(x, groups=np.tile([0, 1], 4))
    >>> bool(found.gain > 0), bool(found.ridge[1] > 10 * found.ridge[0])
    (True, True)
    """
    x = as_samples(x)
    n, d = x.shape
    check_scheme(scheme, d)
    if isinstance(scheme, Patterns):
        raise ValueError("scheme: Patterns has no closed form for leaving one sample out; use another scheme")
    labels = checked_labels(np.arange(d) if groups is None else groups, d)
    least = n - n // max(int(folds), 1) if nested else n  # rows of the smallest set that is split
    if int(folds) != folds or folds < 2 or least < folds or least - least // folds < 2:
        raise ValueError(
            f"folds must be a whole number of at least 2 that leaves rows on both sides of every split of {n} rows, "
            f"got {folds}"
        )
    key = jax.random.key(0) if key is None else key
    return _tuned(x, jnp.asarray(labels), scheme, key, int(labels.max()) + 1, int(folds), bool(nested), bool(centred))


class _Path(NamedTuple):
    """Stages of freedom on some rows."""

    logs: Float[Array, "m g"]
    values: Float[Array, " m"]


@partial(jax.jit, static_argnames=("count", "folds", "nested", "centred"))
def _tuned(
    x: Array, labels: Array, scheme: Scheme, key: PRNGKeyArray, count: int, folds: int, nested: bool, centred: bool
) -> TunedRidges:
    trained = partial(_path, labels=labels, scheme=scheme, count=count, centred=centred)
    tested = partial(_row_errors, labels=labels, scheme=scheme, centred=centred)

    def chosen_on(rows: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        """(folds, m) held-out error and (folds, rows, m) that of each row, along the paths of the other rows."""
        held, kept = _split(rows.shape[0], folds, key)

        def one(index: tuple[Array, Array]) -> Array:
            train, test = rows[index[1]], rows[index[0]]
            return lax.map(lambda logs: tested(train, test, logs), trained(train).logs).T

        per_row = lax.map(one, (held, kept))
        return per_row.mean(1), per_row

    curves, per_row = chosen_on(x, key)
    path = trained(x)
    chosen = _lowest(curves.mean(0))
    if nested:
        keys = jax.random.split(jax.random.fold_in(key, 1), folds)
        held, kept = _split(x.shape[0], folds, key)

        def outer(index: tuple[Array, Array, PRNGKeyArray]) -> Array:
            train, test = x[index[1]], x[index[0]]
            stage = _lowest(chosen_on(train, index[2])[0].mean(0))
            logs = trained(train).logs
            return jnp.stack([tested(train, test, logs[0]), tested(train, test, logs[stage])])

        pairs = lax.map(outer, (held, kept, keys))  # (folds, 2, rows)
        base, ours = pairs[:, 0].ravel(), pairs[:, 1].ravel()
    else:
        others = (curves.sum(0, keepdims=True) - curves) / (folds - 1)
        stages = jax.vmap(_lowest)(others)
        base, ours = per_row[:, :, 0].ravel(), jax.vmap(lambda e, k: e[:, k])(per_row, stages).ravel()
    gain = base - ours
    finite = jnp.isfinite(path.values).all() & jnp.isfinite(gain).all()
    found = TunedRidges(  # type: ignore[call-arg]
        jnp.exp(path.logs[chosen])[labels],
        jnp.exp(path.logs[0, 0]),
        path.values[chosen],
        path.values[0],
        gain.mean(),
        gain.std(ddof=1) / gain.shape[0] ** 0.5,
        base.mean(),
        jnp.asarray(_FREEDOMS, x.dtype),
        path.values,
        curves.mean(0),
        jnp.exp(path.logs),
        chosen,
        jnp.where(finite, CONVERGED, NON_FINITE),
    )
    return found


def _lowest(curve: Array) -> Array:
    return jnp.argmin(jnp.where(jnp.isfinite(curve), curve, jnp.inf))


def _split(n: int, folds: int, key: PRNGKeyArray) -> tuple[Array, Array]:
    """(folds, n // folds) held-out rows and (folds, n - n // folds) the others: equal sizes, one shape for all."""
    order, size = jax.random.permutation(key, n), n // folds
    starts = jnp.arange(folds)[:, None] * size
    held = order[starts + jnp.arange(size)[None, :]]
    kept = order[(starts + size + jnp.arange(n - size)[None, :]) % n]
    return held, kept


def _path(x: Array, *, labels: Array, scheme: Scheme, count: int, centred: bool) -> _Path:
    """Ridges from the scalar choice to the unconstrained one, warm-started stage by stage."""
    start = jnp.full(count, least_error(x, scheme, centred).place)

    def error(u: Array) -> Array:
        bounded = start + jnp.clip(u - start, -_FURTHEST, _FURTHEST)
        return leave_one_out_core(x, jnp.exp(bounded)[labels], scheme, False, centred).mean()

    base = error(start)
    members = jnp.zeros(count, x.dtype).at[labels].add(1 / labels.shape[0])  # shares of the coordinates

    def stage(u: Array, freedom: Array) -> tuple[Array, tuple[Array, Array]]:
        def objective(v: Array) -> Array:
            return error(v) / base - 1 + (members * (v - start) ** 2).sum() / (2 * freedom)

        u = descend(objective, u, LBFGS, jnp.asarray(_TOLERANCE, x.dtype), _MOST)[0].vector
        return u, (u, error(u))

    _, (logs, values) = lax.scan(stage, start, jnp.asarray(_FREEDOMS[1:], x.dtype))
    logs, values = jnp.concatenate([start[None, :], logs]), jnp.concatenate([base[None], values])
    return _Path(start[None, :] + jnp.clip(logs - start[None, :], -_FURTHEST, _FURTHEST), values)


def _row_errors(
    train: Array, test: Array, logs: Array, *, labels: Array, scheme: Scheme, centred: bool
) -> Float[Array, " m"]:
    """(m,) error of every test row, mean over coordinates, of the fit to the training rows."""
    mean = train.mean(0, keepdims=True) if centred else jnp.zeros_like(train[:1])
    weights = fit(train - mean, jnp.exp(logs)[labels], scheme).weights
    return lax.map(lambda row: sample_errors(weights, row[None, :] - mean, scheme).mean(), test, batch_size=64)
