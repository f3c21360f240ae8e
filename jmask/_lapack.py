"""Dense kernels by LAPACK, called from XLA programs on CPU in one call, in place, one triangle computed.

XLA on CPU has no symmetric product and no inverse of a positive definite matrix. The kernels here are registered as
targets of XLA's foreign function interface (``jax.ffi``): they read and write XLA's own buffers, hold no JAX array
and wait for nothing, so that they may run in any thread, in batches, and from the compilation cache.
"""

import ctypes
import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._ffi import handler, is_known

LEAST = 256  # of the sides of a matrix: below, XLA's kernels are as fast
_ROWS = 64  # mirrored at once: they stay in cache
_INVERTED_WHOLE = 256  # triangles that LAPACK inverts as fast
_SOLVED_WHOLE = 128  # triangles that BLAS solves as fast


@functools.cache
def _routine(name: str) -> Callable[..., None]:
    """A routine of SciPy's BLAS or LAPACK as C sees it. Called through ctypes it does not hold Python's lock."""
    from scipy.linalg import cython_blas, cython_lapack

    capsule = (cython_blas.__pyx_capi__ | cython_lapack.__pyx_capi__)[name]
    title = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    address = pointer(("PyCapsule_GetPointer", ctypes.pythonapi))(capsule, title(capsule))
    return ctypes.CFUNCTYPE(None)(address)


def _call(name: str, *arguments: str | int | float | np.ndarray) -> None:
    """A routine, s or d by the arrays, on arguments as Fortran passes them: each by its address.

    Integers are 64 bits wide and so right for a library of either width.
    """
    dtype = next(argument.dtype for argument in arguments if isinstance(argument, np.ndarray))
    scalar = ctypes.c_float if dtype == np.float32 else ctypes.c_double

    def address(argument: str | int | float | np.ndarray) -> Any:
        if isinstance(argument, np.ndarray):
            return ctypes.c_void_p(argument.ctypes.data)
        if isinstance(argument, str):
            return ctypes.byref(ctypes.c_char(argument.encode()))
        return ctypes.byref(ctypes.c_int64(argument) if isinstance(argument, int) else scalar(argument))

    _routine({"f": "s", "d": "d"}[dtype.char] + name)(*map(address, arguments))


# A matrix by rows is its transpose to LAPACK, which counts by columns: x (n, d) is passed as d × n, and its lower
# triangle is the upper one by rows.


def _product(flags: str, left: np.ndarray, right: np.ndarray, result: np.ndarray) -> None:
    """left right; a T in ``flags`` for each that is transposed first."""
    (m, n), k = result.shape, left.shape[0 if flags[0] == "T" else 1]
    _call("gemm", flags[1], flags[0], n, m, k, 1.0, right, right.shape[1], left, left.shape[1], 0.0, result, n)


def _gram(x: np.ndarray, result: np.ndarray) -> None:
    _symmetric_product(x, 1.0, result)
    _mirror(result)


def _inverse(matrix: np.ndarray, result: np.ndarray) -> None:
    result[:] = matrix
    if _inverted(result):
        _mirror(result)
    else:
        result[:] = np.nan


def _matrix_regressions(matrix: np.ndarray, weights: np.ndarray, diagonal: np.ndarray) -> None:
    weights[:] = matrix
    _regress(weights, diagonal)


def _primal_regressions(x: np.ndarray, ridge: np.ndarray, weights: np.ndarray, diagonal: np.ndarray) -> None:
    _symmetric_product(x, 1 / len(x), weights)
    _diagonal(weights)[:] += ridge
    _regress(weights, diagonal)


def _regress(matrix: np.ndarray, diagonal: np.ndarray) -> None:
    """Overwrite a triangle of Q⁻¹ by A = I - diag(Q)⁻¹Q, in its place."""
    known = _inverted(matrix)
    diagonal[:] = _diagonal(matrix) if known else np.nan
    if not np.isfinite(1 / diagonal).all():
        matrix[:] = np.nan
        return
    _mirror(matrix, -1 / diagonal)
    _diagonal(matrix)[:] = 0


def _dual_regressions(x: np.ndarray, ridge: np.ndarray, weights: np.ndarray, diagonal: np.ndarray) -> None:
    """Q = Λ⁻¹ - WᵀW, with Wᵀ = (xΛ⁻¹)ᵀL⁻ᵀ/√n and LLᵀ = I + xΛ⁻¹xᵀ/n; A = diag(Q)⁻¹WᵀW off the diagonal."""
    n, d = x.shape
    if not (ridge > 0).all():
        weights[:], diagonal[:] = np.nan, np.nan
        return
    half, small = x / np.sqrt(ridge), np.empty((n, n), x.dtype)
    _call("syrk", "L", "T", n, d, 1 / n, half, d, 0.0, small, n)
    _diagonal(small)[:] += 1
    factored = _factored(small)
    half /= np.sqrt(n * ridge)
    _solve(small, half)
    left = 1 - ridge * np.einsum("ij,ij->j", half, half)
    known = factored and (left > 100 * np.finfo(x.dtype).eps).all()  # else nothing but rounding is left of 1/Λ
    diagonal[:] = left / ridge if known else np.nan
    if not np.isfinite(1 / diagonal).all():
        weights[:] = np.nan
        return
    _symmetric_product(half, 1.0, weights)
    _mirror(weights, 1 / diagonal)
    _diagonal(weights)[:] = 0


def _congruent_eigenvalues(lower: np.ndarray, values: np.ndarray, result: np.ndarray) -> None:
    d, info = len(values), np.zeros(1, np.int64)
    matrix, work, ints = lower * values, np.empty(2 * d + 64 * d, lower.dtype), np.empty(1, np.int64)
    _call("trmm", "L", "U", "T", "N", d, d, 1.0, lower, d, matrix, d)
    _call("syevd", "N", "L", d, matrix, d, result, work, len(work), ints, 1, info)
    if info[0]:
        result[:] = np.nan


def _symmetric_product(x: np.ndarray, scale: float, result: np.ndarray) -> None:
    """One triangle of scale xᵀx."""
    n, d = x.shape
    _call("syrk", "L", "N", d, n, scale, x, d, 0.0, result, d)


def _factored(matrix: np.ndarray) -> bool:
    """Overwrite a triangle by its Cholesky factor; whether there is one."""
    info = np.zeros(1, np.int64)
    _call("potrf", "L", len(matrix), matrix, len(matrix), info)
    return not info[0]


def _inverted(matrix: np.ndarray) -> bool:
    """Overwrite a triangle of a symmetric matrix by one of its inverse; whether it has one."""
    d = len(matrix)
    floor = d * np.finfo(matrix.dtype).eps * np.diagonal(matrix)
    if not (_factored(matrix) and (np.diagonal(matrix) ** 2 > floor).all()):
        return False
    _invert_triangle(matrix)
    _call("lauum", "L", d, matrix, d, np.zeros(1, np.int64))
    return True


# By halves, so that most of it is products: LAPACK's own inverse of a triangle and BLAS's solution are half as fast.


def _invert_triangle(matrix: np.ndarray) -> None:
    d, stride = len(matrix), matrix.strides[0] // matrix.itemsize
    if d <= _INVERTED_WHOLE:
        _call("trtri", "L", "N", d, matrix, stride, np.zeros(1, np.int64))
        return
    half = d // 2
    upper, corner, lower = matrix[:half, :half], matrix[:half, half:], matrix[half:, half:]
    _invert_triangle(upper)
    _invert_triangle(lower)
    _call("trmm", "R", "L", "N", "N", d - half, half, -1.0, upper, stride, corner, stride)
    _call("trmm", "L", "L", "N", "N", d - half, half, 1.0, lower, stride, corner, stride)


def _solve(factor: np.ndarray, right: np.ndarray) -> None:
    """Overwrite right (n, d) by L⁻¹right; by rows the factor is Lᵀ."""
    (n, d), stride = right.shape, factor.strides[0] // factor.itemsize
    if n <= _SOLVED_WHOLE:
        _call("trsm", "R", "L", "T", "N", d, n, 1.0, factor, stride, right, d)
        return
    half = n // 2
    _solve(factor[:half, :half], right[:half])
    _call("gemm", "N", "T", d, n - half, half, -1.0, right, d, factor[:, half:], stride, 1.0, right[half:], d)
    _solve(factor[half:, half:], right[half:])


def _diagonal(matrix: np.ndarray) -> np.ndarray:
    """Writable."""
    return np.einsum("ii->i", matrix)


def _mirror(matrix: np.ndarray, scale: np.ndarray | None = None) -> None:
    """Copy the triangle that LAPACK wrote, the upper one by rows, onto the other; then multiply rows by ``scale``.

    A few rows at a time, through a copy whose rows do not begin a power of two apart: a column of such rows is one set
    of the cache.
    """
    d = len(matrix)
    copy = np.empty((_ROWS, d + 8), matrix.dtype)
    for start in range(0, d, _ROWS):
        stop = min(start + _ROWS, d)
        corner, above, below = matrix[start:stop, start:stop], matrix[start:stop, stop:], matrix[stop:, start:stop]
        rest = copy[: stop - start, : d - stop]
        corner[:] = np.triu(corner) + np.triu(corner, 1).T
        rest[:] = above
        if scale is None:
            below[:] = rest.T
        else:
            corner *= scale[start:stop, None]
            np.multiply(rest, scale[start:stop, None], out=above)
            np.multiply(rest.T, scale[stop:, None], out=below)


_KERNELS: dict[str, tuple[Callable[..., None], tuple[int, ...], tuple[int, ...]]] = {
    **{f"product_{flags}": (partial(_product, flags), (2, 2), (2,)) for flags in ("NN", "NT", "TN", "TT")},
    "gram": (_gram, (2,), (2,)),
    "inverse": (_inverse, (2,), (2,)),
    "matrix_regressions": (_matrix_regressions, (2,), (2, 1)),
    "primal_regressions": (_primal_regressions, (2, 1), (2, 1)),
    "dual_regressions": (_dual_regressions, (2, 1), (2, 1)),
    "congruent_eigenvalues": (_congruent_eigenvalues, (2, 1), (1,)),
}
_HANDLERS = {name: handler(*kernel) for name, kernel in _KERNELS.items()}  # alive as long as XLA may call them


@functools.cache
def available() -> bool:
    """Whether this jaxlib calls as ``_ffi`` expects; registers the kernels if so. Else XLA's own do the work."""
    if not is_known():
        return False
    for name, handle in _HANDLERS.items():
        jax.ffi.register_ffi_target(f"jmask_{name}", jax.ffi.pycapsule(handle), platform="cpu")
    return True


def _call_kernel(name: str, shapes: tuple[tuple[int, ...], ...], *arguments: Any) -> Any:
    """One of ``_KERNELS`` on arrays of one dtype: results of these shapes, under ``vmap`` with more axes. CPU only."""
    results = tuple(jax.ShapeDtypeStruct(shape, arguments[0].dtype) for shape in shapes)
    made = jax.ffi.ffi_call(f"jmask_{name}", results, vmap_method="expand_dims")(*arguments)
    return tuple(made) if len(shapes) > 1 else made[0]


def by_platform(
    name: str, otherwise: Callable, shapes: tuple[tuple[int, ...], ...], *arguments: jax.Array, least: int = LEAST
) -> Any:
    """By LAPACK on CPU for results of these shapes, a side of which is at least ``least``; by XLA otherwise."""
    small = max(side for shape in shapes for side in shape) < least
    if small or arguments[0].dtype not in (jnp.float32, jnp.float64) or not available():
        return otherwise(*arguments)
    return lax.platform_dependent(*arguments, cpu=partial(_call_kernel, name, shapes), default=otherwise)
