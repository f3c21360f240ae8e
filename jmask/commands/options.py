"""What the options of several subcommands mean: ridge, mask, scale, output directory."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from ..masking import Bernoulli, LeaveOneOut, Partition, Scheme

SUMMARY = "summary.json"
PROGRAM = "jmask"


class Scale(StrEnum):
    """What is done to each column before the fit."""

    NONE = "none"
    CENTER = "center"
    STANDARDISE = "standardise"


class Method(StrEnum):
    """How the fit is computed."""

    CLOSED_FORM = "closed-form"
    GRADIENT = "gradient"


def parse_list(text: str | None) -> list[str] | None:
    """Names separated by commas."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError(f"--columns must name columns separated by commas, got {text!r}")
    return names


def parse_ridge(text: str) -> float | None:
    """A penalty, or None for ``auto``."""
    if text == "auto":
        return None
    try:
        ridge = float(text)
    except ValueError:
        raise ValueError(f"--ridge must be auto or a number, got {text!r}") from None
    if not (0 <= ridge < np.inf):
        raise ValueError(f"--ridge must be finite and not negative, got {text}")
    return ridge


def parse_mask(text: str, d: int) -> Scheme:
    """leave-one-out, bernoulli:RATE or partition:FILE, for d columns."""
    kind, _, argument = text.partition(":")
    if text == "leave-one-out":
        return LeaveOneOut()
    if kind == "bernoulli" and re.fullmatch(r"[0-9.eE+-]+", argument):
        try:
            rate = float(argument)
        except ValueError:
            rate = -1.0
        if not 0 <= rate < 1:
            raise ValueError(f"--mask bernoulli:RATE needs a rate in [0, 1), got {argument}")
        return Bernoulli(rate)
    if kind == "partition" and argument:
        return _read_partition(Path(argument), d)
    raise ValueError(f"--mask must be leave-one-out, bernoulli:RATE or partition:FILE, got {text!r}")


def _read_partition(path: Path, d: int) -> Partition:
    """One group label for each column: a .npy vector, or a text file with one label a line."""
    if not path.is_file():
        raise FileNotFoundError(f"--mask partition: {path}: no such file")
    if path.suffix.lower() == ".npy":
        try:
            labels = np.load(path, allow_pickle=False).ravel()
        except (ValueError, EOFError) as error:
            raise ValueError(f"--mask partition: {path}: cannot be read as a NumPy file") from error
    else:
        labels = np.array(path.read_text(encoding="utf-8").split())
    if len(labels) != d:
        raise ValueError(f"--mask partition: {path}: must hold one label for each of {d} columns, got {len(labels)}")
    groups = np.unique(labels, return_inverse=True)[1]
    if groups.max() == 0:
        raise ValueError(f"--mask partition: {path}: must hold at least two different labels, got one")
    return Partition(groups.tolist())


@dataclass(frozen=True)
class Scaling:
    """(x - mean)/scale, by the columns' own mean and standard deviation where asked for."""

    mean: np.ndarray
    scale: np.ndarray
    constant: np.ndarray

    @classmethod
    def estimate(cls, x: np.ndarray, kind: Scale) -> "Scaling":
        """From samples (n, d); a constant column keeps scale 1."""
        d = x.shape[1]
        constant = np.ptp(x, axis=0) == 0
        mean = np.zeros(d) if kind is Scale.NONE else x.mean(0)
        scale = np.where(constant, 1.0, x.std(0)) if kind is Scale.STANDARDISE else np.ones(d)
        # Of a column that is constant but for rounding neither the mean nor the scale may invent a signal.
        return cls(np.where(constant & (kind is not Scale.NONE), x[0], mean), scale, constant)

    def apply(self, x: np.ndarray) -> np.ndarray:
        """To samples (m, d)."""
        return np.asarray((x - self.mean) / self.scale)

    def undo(self, x: np.ndarray) -> np.ndarray:
        """Back to the units of the data."""
        return np.asarray(x * self.scale + self.mean)


def check_directory(path: Path) -> None:
    """Refuse a directory that cannot be written, or one whose content is not ours to replace."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--out {path}: the directory {path.parent} does not exist")
    if not path.exists():
        return
    if not path.is_dir():
        raise FileExistsError(f"--out {path}: is a file, a directory is wanted")
    present = {entry.name for entry in path.iterdir()}
    try:
        summary = json.loads((path / SUMMARY).read_text()) if present else {"program": PROGRAM}
        ours = summary.get("program") == PROGRAM
        strangers = sorted(present - {SUMMARY, *summary.get("files", [])})
    except (OSError, ValueError, AttributeError):
        ours, strangers = False, []
    if not ours or strangers:
        reason = f"holds {strangers[0]}, which jmask did not write" if ours else "was not made by jmask"
        raise FileExistsError(f"--out {path}: exists and {reason}; choose another directory")


@contextmanager
def output_directory(path: Path) -> Iterator[Path]:
    """A temporary directory beside ``path`` that takes its place when the block ends well, and is removed if not."""
    check_directory(path)
    path = path.resolve()
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
