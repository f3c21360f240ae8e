"""A fit on disk: one .npz file, versioned, written whole or not at all."""

import os
import tempfile
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from .closed_form import Fit
from .masking import Bernoulli, LeaveOneOut, Partition, Patterns, Scheme

_FORMAT = "jmask-fit"
_VERSION = 2  # 1 held Q of every fit


def save_fit(fit: Fit, path: str | Path) -> None:
    """Write ``fit`` to ``path``; see ``Fit.save``."""
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"path must end in .npz, got {path}")
    arrays = {
        "format": np.array(_FORMAT),
        "version": np.array(_VERSION),
        "scheme": np.array(type(fit.scheme).__name__),
        **{f"scheme_{name}": np.asarray(value) for name, value in vars(fit.scheme).items()},
        **{name: np.asarray(value) for name, value in vars(fit).items() if name != "scheme" and value is not None},
    }
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load_fit(path: str | Path) -> Fit:
    """Read a fit; see ``Fit.load``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no fit, or one of a newer version.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            stored: dict[str, Any] = dict(file)
    except (zipfile.BadZipFile, ValueError, EOFError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is not a file that Fit.save wrote") from error
    if str(stored.get("format")) != _FORMAT:
        raise ValueError(f"{path} is not a file that Fit.save wrote")
    if (version := int(stored.get("version", _VERSION))) > _VERSION:
        raise ValueError(f"{path} has format version {version}, this jmask reads up to {_VERSION}")
    try:
        if version == 1:
            stored["dense_precision"] = stored["precision"]
            stored["conditional_precision"] = np.diagonal(stored["precision"])
        optional: dict[str, Any] = {"dense_precision": None, "covariance": None}
        names = [field.name for field in fields(Fit) if field.name != "scheme"]
        held = {name: jnp.asarray(stored[name]) for name in names if name in stored or name not in optional}
        return Fit(**optional | held, scheme=_scheme(stored))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} lacks a part of what Fit.save writes: {error}") from error


def _scheme(stored: dict[str, Any]) -> Scheme:
    kinds: dict[str, Any] = {kind.__name__: kind for kind in (LeaveOneOut, Bernoulli, Partition, Patterns)}
    prefix = "scheme_"
    values = {name[len(prefix) :]: value for name, value in stored.items() if name.startswith(prefix)}
    return kinds[str(stored["scheme"])](**values)
