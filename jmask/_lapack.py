"""Dense kernels by LAPACK, called from XLA programs on CPU in one call, in place, one triangle computed.

XLA on CPU has no symmetric product and no inverse of a positive definite matrix. The kernels here are registered as
targets of XLA's foreign function interface (``jax.ffi``): they read and write XLA's own buffers, hold no JAX array
and wait for nothing, so that they may run in any thread, in batches, and from the compilation cache.
"""

import ctypes
import functools
import mmap
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

_TILE = 64


def _routine(name: str, dtype: np.dtype) -> Callable[..., Any]:
    from scipy.linalg import blas, lapack

    name = {"f": "s", "d": "d"}[dtype.char] + name
    return getattr(lapack, name, None) or getattr(blas, name)


def _gram(x: np.ndarray, result: np.ndarray) -> None:
    _mirrored(_product(x, 1.0, result.T))


def _inverse(matrix: np.ndarray, result: np.ndarray) -> None:
    result[:] = matrix
    _invert(result.T)


def _primal_inverse(x: np.ndarray, ridge: np.ndarray, result: np.ndarray) -> None:
    moment = _product(x, 1 / len(x), result.T)
    np.einsum("ii->i", moment)[:] += ridge
    _invert(moment)


def _dual_inverse(x: np.ndarray, ridge: np.ndarray, result: np.ndarray) -> None:
    """Λ⁻¹ - WᵀW, with Wᵀ = (xΛ⁻¹)ᵀL⁻ᵀ/√n and LLᵀ = I + xΛ⁻¹xᵀ/n."""
    if not (ridge > 0).all():
        result[:] = np.nan
        return
    n = len(x)
    scaled = x / np.sqrt(ridge)
    small = _routine("syrk", x.dtype)(1 / n, scaled.T, trans=1, lower=1)
    np.einsum("ii->i", small)[:] += 1
    factor, info = _routine("potrf", x.dtype)(small, lower=1, overwrite_a=1)
    if info:
        result[:] = np.nan
        return
    scaled /= np.sqrt(ridge)
    half = _routine("trsm", x.dtype)(1.0, factor, scaled.T, side=1, lower=1, trans_a=1, overwrite_b=1)
    q = _routine("syrk", x.dtype)(-1 / n, half, 0.0, result.T, lower=1, overwrite_c=1)
    np.einsum("ii->i", _mirrored(q))[:] += 1 / ridge


def _joint_weights(precision: np.ndarray, kept: np.ndarray, result: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        scale = -1 / (kept * np.diagonal(precision))
    known = np.isfinite(scale).all()
    np.multiply(precision, scale[:, None] if known else np.nan, out=result)
    np.fill_diagonal(result, 0 if known else np.nan)


def _congruent_eigenvalues(lower: np.ndarray, values: np.ndarray, result: np.ndarray) -> None:
    matrix = _routine("trmm", lower.dtype)(1.0, lower.T, (lower * values).T, trans_a=1)
    found, *_, info = _routine("syevr", lower.dtype)(matrix, compute_v=0, lower=1, overwrite_a=1)
    result[:] = np.nan if info else found


def _product(x: np.ndarray, scale: float, into: np.ndarray) -> np.ndarray:
    """Lower triangle of scale xᵀx, in column order."""
    return _routine("syrk", x.dtype)(scale, x.T, 0.0, into, lower=1, overwrite_c=1)


def _mirrored(a: np.ndarray) -> np.ndarray:
    """The lower triangle copied onto the upper one, in place, by tiles that stay in cache."""
    d = len(a)
    buffer = np.empty((_TILE, _TILE + 8), a.dtype)  # rows apart by no power of two, which would share cache lines
    for start in range(0, d, _TILE):
        stop = min(start + _TILE, d)
        tile = a[start:stop, start:stop]
        tile[:] = np.tril(tile) + np.tril(tile, -1).T
        for other in range(stop, d, _TILE):
            below = a[other : other + _TILE, start:stop].T
            held = buffer[: below.shape[0], : below.shape[1]]
            held[:] = below
            a[start:stop, other : other + _TILE].T[:] = held.T
    return a


def _invert(a: np.ndarray) -> None:
    """Overwrite a symmetric matrix, given by its lower triangle, by its inverse; NaN where it has none.

    In column order, so that LAPACK works in place: SciPy copies what is not.
    """
    floor = len(a) * np.finfo(a.dtype).eps * np.diagonal(a)
    factor, info = _routine("potrf", a.dtype)(a, lower=1, clean=0, overwrite_a=1)
    if info or not (np.diagonal(factor) ** 2 > floor).all():
        a[:] = np.nan
        return
    _routine("potri", a.dtype)(factor, lower=1, overwrite_c=1)
    _mirrored(a)


_VERSIONS = {("0", str(minor)) for minor in range(1, 6)}  # jaxlib 0.6 to 0.12: what is read here is the same in all


class _List(ctypes.Structure):
    """XLA_FFI_Args and XLA_FFI_Rets."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("extension", ctypes.c_void_p),
        ("size", ctypes.c_int64),
        ("types", ctypes.c_void_p),
        ("entries", ctypes.POINTER(ctypes.c_void_p)),
    ]


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("extension", ctypes.c_void_p),
        ("dtype", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("rank", ctypes.c_int64),
        ("dims", ctypes.POINTER(ctypes.c_int64)),
    ]


class _Version(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("extension", ctypes.c_void_p),
        ("major", ctypes.c_int),
        ("minor", ctypes.c_int),
    ]


class _Metadata(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("version", _Version)]


class _Extension(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("metadata", ctypes.POINTER(_Metadata)),
    ]


class _Api(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("extension", ctypes.c_void_p), ("version", _Version)]


class _Frame(ctypes.Structure):
    """XLA_FFI_CallFrame up to the results: xla/ffi/api/c_api.h, which jaxlib ships under include/."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("extension", ctypes.POINTER(_Extension)),
        ("api", ctypes.POINTER(_Api)),
        ("context", ctypes.c_void_p),
        ("stage", ctypes.c_int),
        ("arguments", _List),
        ("results", _List),
    ]


_HANDLER = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_Frame))
_DTYPES: dict[int, np.dtype[Any]] = {11: np.dtype(np.float32), 12: np.dtype(np.float64)}


def _views(buffers: _List) -> list[np.ndarray]:
    arrays = []
    for i in range(buffers.size):
        buffer = ctypes.cast(buffers.entries[i], ctypes.POINTER(_Buffer)).contents
        shape, dtype = tuple(buffer.dims[: buffer.rank]), _DTYPES[buffer.dtype]
        memory = (ctypes.c_char * (int(np.prod(shape)) * dtype.itemsize)).from_address(buffer.data)
        arrays.append(np.frombuffer(memory, dtype).reshape(shape))  # type: ignore[call-overload]
    return arrays


def _in_large_pages(array: np.ndarray) -> None:
    """Ask Linux for large pages under a large result, as NumPy does for its own: it is new, and so are its pages."""
    if array.nbytes < 2**22 or not hasattr(mmap, "MADV_HUGEPAGE"):
        return
    start = -(-array.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE
    size = (array.ctypes.data + array.nbytes - start) // mmap.PAGESIZE * mmap.PAGESIZE
    ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), mmap.MADV_HUGEPAGE)  # advice: may fail


def _handler(kernel: Callable[..., None], ranks: tuple[int, ...]) -> Any:
    """The kernel over every leading axis of its arguments, which broadcast.

    ``ranks`` are those of the arguments and of the result in one call.
    """

    def handle(frame: Any) -> None:
        extension = frame.contents.extension
        if extension:  # XLA asks for the version of the interface, once
            version, ours = frame.contents.api.contents.version, extension.contents.metadata.contents.version
            ours.major, ours.minor = version.major, version.minor
            return
        (result,) = _views(frame.contents.results)
        try:
            _in_large_pages(result)
            arguments = _views(frame.contents.arguments)
            *ranks_in, rank_out = ranks
            batch = result.shape[: result.ndim - rank_out]
            stacks = [
                np.broadcast_to(a, batch + a.shape[a.ndim - rank :])
                for a, rank in zip(arguments, ranks_in, strict=True)
            ]
            for index in np.ndindex(batch):
                kernel(*(stack[index] for stack in stacks), result[index])
        except Exception:  # nothing may be thrown through XLA: what is not known is NaN
            result[:] = np.nan
            sys.excepthook(*sys.exc_info())

    return _HANDLER(handle)


_KERNELS: dict[str, tuple[Callable[..., None], tuple[int, ...]]] = {
    "gram": (_gram, (2, 2)),
    "inverse": (_inverse, (2, 2)),
    "primal_inverse": (_primal_inverse, (2, 1, 2)),
    "dual_inverse": (_dual_inverse, (2, 1, 2)),
    "joint_weights": (_joint_weights, (2, 0, 2)),
    "congruent_eigenvalues": (_congruent_eigenvalues, (2, 1, 1)),
}
_HANDLERS = {name: _handler(*kernel) for name, kernel in _KERNELS.items()}  # alive as long as XLA may call them


@functools.cache
def available() -> bool:
    """Whether this jaxlib lays its calls out as here; registers the kernels if so. Else XLA's own do the work."""
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h")
    found = re.findall(r"#define XLA_FFI_API_M(?:AJ|IN)OR (\d+)", header.read_text()) if header.is_file() else []
    if tuple(found) not in _VERSIONS:
        return False
    for name, handler in _HANDLERS.items():
        jax.ffi.register_ffi_target(f"jmask_{name}", jax.ffi.pycapsule(handler), platform="cpu")
    return True


def call(name: str, d: int, *arguments: Any) -> jax.Array:
    """One of ``_KERNELS`` on arrays of one dtype: (d, d) or (d,), under ``vmap`` with leading axes. CPU only."""
    result = jax.ShapeDtypeStruct((d,) * _KERNELS[name][1][-1], arguments[0].dtype)
    return jax.ffi.ffi_call(f"jmask_{name}", result, vmap_method="expand_dims")(*arguments)  # type: ignore[return-value]
