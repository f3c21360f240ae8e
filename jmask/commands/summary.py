"""``summary.json``: every choice and number of a command, for machines."""

import json
import platform
import shlex
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .. import __version__
from .options import PROGRAM, SUMMARY


def header(command: list[str]) -> dict[str, Any]:
    """What ran: program, command line, versions."""
    versions = {"jmask": __version__, "jax": jax.__version__, "numpy": np.__version__}
    return {
        "program": PROGRAM,
        "command": shlex.join(command),
        "versions": {**versions, "python": platform.python_version()},
    }


def write_summary(summary: dict[str, Any], directory: Path) -> None:
    """Write the summary beside the other files of a directory, which it lists; what is not known becomes null."""
    files = sorted(entry.name for entry in directory.iterdir())
    (directory / SUMMARY).write_text(json.dumps(_plain({**summary, "files": files}), indent=1) + "\n")


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray) and not value.ndim:
        return _plain(value[()])
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
