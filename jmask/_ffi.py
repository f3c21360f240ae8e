"""Functions of NumPy arrays as targets of XLA's foreign function interface on CPU, read and written in place.

The structures are those of xla/ffi/api/c_api.h, which jaxlib ships under include/.
"""

import ctypes
import mmap
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

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


def handler(kernel: Callable[..., None], ranks_in: tuple[int, ...], ranks_out: tuple[int, ...]) -> Any:
    """The kernel over every leading axis of its arguments, which broadcast.

    The ranks are those of the arguments and of the results in one call.
    """

    def handle(frame: Any) -> None:
        extension = frame.contents.extension
        if extension:  # XLA asks for the version of the interface, once
            version, ours = frame.contents.api.contents.version, extension.contents.metadata.contents.version
            ours.major, ours.minor = version.major, version.minor
            return
        results = _views(frame.contents.results)
        try:
            _in_large_pages(results[0])
            arguments = _views(frame.contents.arguments)
            batch = results[0].shape[: results[0].ndim - ranks_out[0]]
            stacks = [
                np.broadcast_to(a, batch + a.shape[a.ndim - rank :])
                for a, rank in zip(arguments, ranks_in, strict=True)
            ]
            with np.errstate(all="ignore"):
                for index in np.ndindex(batch):
                    kernel(*(stack[index] for stack in stacks), *(result[index] for result in results))
        except Exception:  # nothing may be thrown through XLA: what is not known is NaN
            for result in results:
                result[:] = np.nan
            sys.excepthook(*sys.exc_info())

    return _HANDLER(handle)


def is_known() -> bool:
    """Whether this jaxlib lays its calls out as here."""
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h")
    found = re.findall(r"#define XLA_FFI_API_M(?:AJ|IN)OR (\d+)", header.read_text()) if header.is_file() else []
    return tuple(found) in _VERSIONS
