"""Eager validation and one-time promotion: every public function starts here, no core does.

Values are checked only where they are known. A traced value passes, and the result carries a status.
"""

import os
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np

from ._types import Array, ArrayLike


def is_concrete(value: object) -> bool:
    """Whether every leaf of ``value`` is known now rather than traced."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def as_float(value: ArrayLike, name: str, dtype: jnp.dtype | None = None) -> Array:
    """A floating array: integers and booleans are cast, floats keep their dtype, anything else is refused."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise TypeError(f"{name} must hold no masked entries: fill them in first, with NaN where imputing")
    if not isinstance(value, jax.Array):
        try:
            value = np.asarray(value)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name} must be an array of numbers, got {type(value).__name__}") from error
        if value.dtype.kind not in "biuf":
            raise TypeError(f"{name} must be an array of real numbers, got dtype {value.dtype}")
    elif not (jnp.issubdtype(value.dtype, jnp.floating) or value.dtype.kind in "biu"):
        raise TypeError(f"{name} must be an array of real numbers, got dtype {value.dtype}")
    if dtype is None:
        dtype = value.dtype if jnp.issubdtype(value.dtype, jnp.floating) else jnp.result_type(float)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} must be in single or double precision, got dtype {dtype}")
    # What is known stays known inside ``jax.jit``.
    with jax.ensure_compile_time_eval() if is_concrete(value) else nullcontext():
        return jnp.asarray(value, dtype=jax.dtypes.canonicalize_dtype(dtype))


def all_zero(value: Array) -> bool:
    """Whether every entry is known, and 0."""
    return is_concrete(value) and not np.asarray(value).any()


def require_finite(value: Array, name: str) -> None:
    """Refuse a concrete array that holds NaN or infinity, and say where."""
    if not is_concrete(value):
        return
    if isinstance(value, jax.Array) and any(device.platform != "cpu" for device in value.devices()):
        with jax.ensure_compile_time_eval():
            if bool(jnp.isfinite(value).all()):
                return  # without a copy of it on the host
    finite = np.isfinite(np.asarray(value))
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(
            f"{name} must be finite, got {np.asarray(value)[where]} at index {where} "
            f"({int((~finite).sum())} such entries)"
        )


def not_negative(value: Array, name: str) -> Array:
    """The array, refused where it is known to hold anything but finite numbers from 0 upwards; traced, NaN there."""
    if not is_concrete(value):
        return jnp.where(value >= 0, value, jnp.nan)
    require_finite(value, name)
    if (least := np.asarray(value).min(initial=0)) < 0:
        raise ValueError(f"{name} must not be negative, got {least:g}")
    return value


def as_samples(x: ArrayLike, name: str = "x", columns: int | None = None, rows: int = 2) -> Array:
    """Data (n, d), rows are samples: at least ``rows`` of them and 2 columns (or exactly ``columns``), finite."""
    x = as_rows(x, name, columns, rows)
    require_finite(x, name)
    return x


def as_rows(x: ArrayLike, name: str = "x", columns: int | None = None, rows: int = 2) -> Array:
    """``as_samples``, whose values nobody has looked at."""
    x = as_float(x, name)
    if x.ndim != 2:
        raise ValueError(f"{name} must be a matrix (n, d) with rows as samples, got shape {x.shape}")
    if columns is not None and x.shape[1] != columns:
        raise ValueError(f"{name} must have {columns} columns, got shape {x.shape}")
    if x.shape[0] < rows or x.shape[1] < 2:
        raise ValueError(f"{name} must have at least {rows} row(s) and 2 columns, got shape {x.shape}")
    return x


def as_ridge(ridge: ArrayLike, d: int, dtype: jnp.dtype, name: str = "ridge") -> Array:
    """The penalty: a scalar or a (d,) vector, finite and not negative, in the dtype of the data."""
    ridge = as_float(ridge, name, dtype)
    if ridge.ndim > 1 or (ridge.ndim == 1 and ridge.shape != (d,)):
        raise ValueError(f"{name} must be a scalar or a vector of {d} entries, got shape {ridge.shape}")
    return not_negative(ridge, name)


def as_symmetric(matrix: ArrayLike, name: str, d: int | None = None) -> Array:
    """A square symmetric matrix, finite; symmetric to the square root of the precision."""
    matrix = as_float(matrix, name)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or (d is not None and matrix.shape[0] != d):
        wanted = "a square matrix" if d is None else f"a matrix of shape ({d}, {d})"
        raise ValueError(f"{name} must be {wanted}, got shape {matrix.shape}")
    require_finite(matrix, name)
    if is_concrete(matrix):
        values = np.asarray(matrix)
        gap = np.abs(values - values.T).max(initial=0.0)
        if gap > np.sqrt(np.finfo(values.dtype).eps) * np.abs(values).max(initial=0.0):
            raise ValueError(f"{name} must be symmetric, got entries that differ from their mirror by {gap:.3g}")
    return matrix


def as_count(value: ArrayLike, name: str = "n", dtype: jnp.dtype | None = None) -> Array:
    """A real positive number of samples (any shape): theory is smooth in it, so it is a float."""
    value = as_float(value, name, dtype)
    value = value.astype(jnp.result_type(float)) if dtype is None else value
    if not is_concrete(value):
        return jnp.where(value > 0, value, jnp.nan)
    require_finite(value, name)
    if (least := np.asarray(value).min(initial=np.inf)) <= 0:
        raise ValueError(f"{name} must be positive, got {least:g}")
    return value


def as_rate(rate: ArrayLike, name: str = "hide_rate", dtype: jnp.dtype | None = None) -> Array:
    """A hiding rate in [0, 1)."""
    rate = as_float(rate, name, dtype)
    if not is_concrete(rate):
        return jnp.where((rate >= 0) & (rate < 1), rate, jnp.nan)
    if not ((np.asarray(rate) >= 0) & (np.asarray(rate) < 1)).all():
        raise ValueError(f"{name} must lie in [0, 1), got {rate}")
    return rate


def require_memory(size: int, what: str) -> None:
    """Refuse before allocating what this machine's memory cannot hold."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else size
    if size > total:
        raise ValueError(
            f"{what} needs {size:,} bytes ({size / 2**30:.1f} GiB) and this machine has {total / 2**30:.1f} GiB: "
            "choose fewer columns"
        )
