"""Filling hidden entries by the conditional mean of a Gaussian, any pattern of hidden entries a row."""

import jax
import jax.numpy as jnp
import numpy as np

from ._checks import as_float, is_concrete
from ._pseudo_inverse import pseudo_inverse
from ._types import Array, ArrayLike, Float


def impute_rows(precision: Array, covariance: Array | None, x: ArrayLike, observed: ArrayLike) -> Float[Array, "m d"]:
    """x (m, d) with the entries where ``observed`` is False filled; see ``Fit.impute``."""
    d = precision.shape[0]
    x = as_float(x, "x", precision.dtype)
    observed = jnp.asarray(observed)
    if x.ndim != 2 or x.shape[1] != d or not x.shape[0] or observed.shape != x.shape:
        raise ValueError(
            f"x and observed must both have shape (m, {d}) with m at least 1, got {x.shape} and {observed.shape}"
        )
    if observed.dtype != bool:
        raise TypeError(f"observed must be boolean, True where an entry is known, got dtype {observed.dtype}")
    if is_concrete((x, observed)):
        wrong = np.argwhere(np.asarray(observed) & ~np.isfinite(np.asarray(x)))
        if wrong.size:
            raise ValueError(
                f"x must be finite where observed, got {x[tuple(wrong[0])]} at index {tuple(map(int, wrong[0]))}"
            )
    known = jnp.where(observed, x, 0)
    if is_concrete((precision, covariance, x, observed)):
        filled = _fill_by_pattern(
            np.asarray(precision),
            None if covariance is None else np.asarray(covariance),
            np.asarray(known),
            np.asarray(observed),
        )
        return jnp.asarray(filled)
    matrix, one_row = (precision, _fill_row) if covariance is None else (covariance, _fill_row_limit)
    return jax.lax.map(lambda row: one_row(matrix, *row), (known, observed))


def _fill_by_pattern(
    precision: np.ndarray, covariance: np.ndarray | None, known: np.ndarray, observed: np.ndarray
) -> np.ndarray:
    """On the host: rows of one pattern share one solve of the size of what is hidden."""
    filled = known.copy()
    patterns, which = np.unique(observed, axis=0, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    rows_of = np.split(order, np.cumsum(np.bincount(which.ravel(), minlength=len(patterns)))[:-1])
    for pattern, rows in zip(patterns, rows_of, strict=True):
        seen, hidden = np.flatnonzero(pattern), np.flatnonzero(~pattern)
        if not hidden.size or not seen.size:
            continue
        given = known[np.ix_(rows, seen)].T
        if covariance is None:
            block = precision[np.ix_(hidden, hidden)]
            values = -np.linalg.solve(block, precision[np.ix_(hidden, seen)] @ given)
        else:
            block = np.asarray(pseudo_inverse(jnp.asarray(covariance[np.ix_(seen, seen)])))
            values = covariance[np.ix_(hidden, seen)] @ (block @ given)
        filled[np.ix_(rows, hidden)] = values.T
    return filled


def _fill_row(precision: Array, known: Array, observed: Array) -> Array:
    """One row by a d × d system in which the observed entries are pinned."""
    hidden = ~observed
    both = hidden[:, None] & hidden[None, :]
    system = jnp.where(both, precision, jnp.diag(jnp.where(observed, jnp.ones_like(known), 0)))
    values = jnp.linalg.solve(system, jnp.where(hidden, -(precision @ known), 0))
    return jnp.where(observed, known, values)


def _fill_row_limit(covariance: Array, known: Array, observed: Array) -> Array:
    """One row at ridge 0: S_MO S_OO⁺ x_O."""
    both = observed[:, None] & observed[None, :]
    values = covariance @ (pseudo_inverse(jnp.where(both, covariance, 0)) @ known)
    return jnp.where(observed, known, values)
