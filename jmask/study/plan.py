"""A sweep as data: what to simulate and predict, validated before anything runs."""

import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ..covariance.names import parse_population
from ..masking import Bernoulli, LeaveOneOut, Partition, Scheme
from ..scales import Scales
from .measure import ERRORS, NEEDS_SPIKE, QUANTITIES, SPECTRAL, Precision

_LEAST_DIMENSION, _MOST_DIMENSION = 8, 16384
_MOST_POINTS = 1_000_000
_CHECKED_DIMENSION = 256  # populations are tried out at this size at most
_SCALES = {"gaussian": 0, "two-point": 2, "student-t": 1, "gamma": 1}


@dataclass(frozen=True)
class Point:
    """One cell of the grid, without its seed; its content is its identity, on any machine and in any study."""

    population: str
    dimension: int
    samples: int
    ridge: float
    scheme: str
    strength: float
    scales: str
    precision: str

    @cached_property
    def key(self) -> str:
        """A digest of the content."""
        content = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()[:24]

    @property
    def ratio(self) -> float:
        """n/d."""
        return self.samples / self.dimension


@dataclass(frozen=True)
class Study:
    """A grid of populations, sizes, penalties, masks and spikes, with what to measure on every draw.

    Parameters
    ----------
    population
        By name: ``isotropic``, ``ar1:0.9``, ``ring:0.7``, ``power-law:1.5``, ``equicorrelated:0.3``,
        ``diagonal:0.3,3.0`` (repeated in turn), ``spiked:4.0``.
    dimensions
        d, each from 8 to 16384.
    ratios
        n/d; the number of samples is rounded, and at least 2.
    ridges
        Penalties, not negative; 0 is the limit.
    schemes
        ``leave-one-out``, ``bernoulli:RATE``, ``partition:GROUPS`` (so many blocks of neighbours).
    strengths
        Of one delocalised spike, added to the population; empty: none.
    scales
        Law of the samples: ``gaussian``, ``two-point:LOW,HIGH``, ``student-t:DEGREES``, ``gamma:SHAPE``.
    seeds
        Draws of every point; the k-th draw has number ``seed + k``.
    seed
        Number of the first draw.
    measure
        Among ``train test leave_one_out edge outlier overlap pca_overlap correlation_pca_overlap gradient_test
        gradient_distance`` (hyphens are welcome).
    precision
        ``double`` or ``single``, for the simulation; the theory is always double.
    name
        For tables and figures.

    Raises
    ------
    ValueError, TypeError
        With the name of the field, what it got and what it wants.

    Examples
    --------
    >>> import jmask as jm
    >>> study = jm.Study(population="ar1:0.9", dimensions=[32, 64], ratios=[0.5, 2], ridges=0.1, seeds=4)
    >>> len(study.points()), study.points()[0].samples
    (4, 16)
    """

    population: str = "ar1:0.9"
    dimensions: Sequence[int] = (128,)
    ratios: Sequence[float] = (0.5, 1.0, 2.0)
    ridges: Sequence[float] = (0.1,)
    schemes: Sequence[str] = ("leave-one-out",)
    strengths: Sequence[float] = ()
    scales: str = "gaussian"
    seeds: int = 8
    seed: int = 0
    measure: Sequence[str] = ERRORS
    precision: str = "double"
    name: str = "sweep"

    def __post_init__(self) -> None:
        for name, read in (("dimensions", _whole), ("ratios", _number), ("ridges", _number), ("strengths", _number)):
            object.__setattr__(self, name, _listed(getattr(self, name), name, read))
        for name in ("schemes", "measure"):
            object.__setattr__(self, name, _listed(getattr(self, name), name, _text))
        for name in ("seeds", "seed"):
            object.__setattr__(self, name, _whole(getattr(self, name), name))
        for name in ("population", "scales", "precision", "name"):
            object.__setattr__(self, name, _text(getattr(self, name), name))
        object.__setattr__(self, "measure", tuple(name.replace("-", "_") for name in self.measure))
        self._check_values()
        self._check_names()
        self._check_measure()

    def _check_values(self) -> None:
        for name, low, high, wanted in (
            ("dimensions", _LEAST_DIMENSION, _MOST_DIMENSION, f"from {_LEAST_DIMENSION} to {_MOST_DIMENSION}"),
            ("ratios", 1e-6, 1e6, "positive"),
            ("ridges", 0, np.inf, "not negative"),
            ("strengths", 1e-300, np.inf, "positive"),
        ):
            for value in getattr(self, name):
                if not low <= value <= high:
                    raise ValueError(f"{name} must be {wanted}, got {value:g}")
        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {self.seeds}")
        if not 0 <= self.seed < 2**31 - self.seeds:
            raise ValueError(f"seed must not be negative (and below 2³¹), got {self.seed}")
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision must be double or single, got {self.precision!r}")
        points = len(self.points())
        if points * self.seeds * len(self.measure) > _MOST_POINTS * 10:
            raise ValueError(f"the grid has {points} points of {self.seeds} seeds: more than a store is made for")

    def _check_names(self) -> None:
        object.__setattr__(self, "population", _canonical(self.population))
        object.__setattr__(self, "scales", _canonical(self.scales))
        object.__setattr__(self, "schemes", tuple(dict.fromkeys(_canonical(scheme) for scheme in self.schemes)))
        least = min(self.dimensions)
        try:
            parse_population(self.population, min(least, _CHECKED_DIMENSION))
        except ValueError as error:
            raise ValueError(f"population: {error}") from None
        scales_of(self.scales)
        for scheme in self.schemes:
            scheme_of(scheme, least)

    def _check_measure(self) -> None:
        unknown = [name for name in self.measure if name not in QUANTITIES]
        if unknown:
            raise ValueError(f"measure must be among {', '.join(QUANTITIES)}, got {unknown[0]!r}")
        if not self.strengths and (needing := [name for name in self.measure if name in NEEDS_SPIKE]):
            raise ValueError(f"measure: {needing[0]} needs a spike: give strengths")
        blocks = any(scheme.startswith("partition") for scheme in self.schemes)
        if blocks and (spectral := [name for name in self.measure if name in SPECTRAL]):
            raise ValueError(f"measure: {spectral[0]} has no meaning for partition masks")

    def points(self) -> list[Point]:
        """Every cell of the grid, the dimension turning slowest."""
        grid = product(self.dimensions, self.ratios, self.schemes, self.strengths or (0.0,), self.ridges)
        return [
            Point(self.population, d, max(2, round(ratio * d)), ridge, scheme, strength, self.scales, self.precision)
            for d, ratio, scheme, strength, ridge in grid
        ]

    @property
    def draws(self) -> range:
        """The numbers of the draws."""
        return range(self.seed, self.seed + self.seeds)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in a TOML file."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Study":
        """From plain data; unknown keys are refused."""
        known = [field.name for field in fields(cls)]
        unknown = [key for key in content if key not in known]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no field of a study: use {', '.join(known)}")
        return cls(**content)


def read_studies(path: str | Path) -> list[Study]:
    """The studies of a TOML file: a table each under ``[[study]]``, over what stands above them; or one, flat.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no TOML, or a study in it is wrong; the message names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is not TOML: {error}") from None
    tables = content.pop("study", [{}])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"{path}: study must be tables, each under [[study]]")
    studies = []
    for i, table in enumerate(tables):
        unnamed = (
            {} if "name" in table or "name" in content else {"name": path.stem if len(tables) == 1 else f"{i + 1}"}
        )
        try:
            studies.append(Study.from_dict({**unnamed, **content, **table}))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: study {i + 1}: {error}") from None
    return studies


def write_studies(studies: Iterable[Study]) -> str:
    """TOML that ``read_studies`` reads back."""
    lines = []
    for study in studies:
        lines.append("[[study]]")
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in study.to_dict().items()]
        lines.append("")
    return "\n".join(lines)


def as_studies(given: Any) -> list[Study]:
    """Studies from one, several, plain data, or the path of a TOML file."""
    if isinstance(given, Study):
        return [given]
    if isinstance(given, Mapping):
        return [Study.from_dict(given)]
    if isinstance(given, str | Path):
        return read_studies(given)
    if isinstance(given, Sequence) and given and all(isinstance(study, Study) for study in given):
        return list(given)
    raise TypeError(f"study must be a jmask.Study, several of them, or the path of a TOML file, got {given!r}")


def scheme_of(text: str, d: int) -> Scheme:
    """A mask scheme by its name, for d coordinates."""
    kind, _, argument = text.partition(":")
    if text == "leave-one-out":
        return LeaveOneOut()
    try:
        value = float(argument)
    except ValueError:
        value = -1.0
    if kind == "bernoulli" and 0 <= value < 1:
        return Bernoulli(value)
    if kind == "partition" and value == int(value) and 2 <= value <= d:
        return Partition((np.arange(d) * int(value) // d).tolist())
    raise ValueError(
        f"schemes must be leave-one-out, bernoulli:RATE with a rate in [0, 1) or partition:GROUPS with 2 to d groups, "
        f"got {text!r}"
    )


def scales_of(text: str) -> Scales | None:
    """The law of τ² by its name; None is Gaussian."""
    kind, _, argument = text.partition(":")
    values = _parameters(argument)
    if kind not in _SCALES or values is None or len(values) != _SCALES[kind]:
        usage = "gaussian, two-point:LOW,HIGH, student-t:DEGREES or gamma:SHAPE"
        raise ValueError(f"scales must be {usage}, got {text!r}")
    try:
        if kind == "two-point":
            return Scales.two_point(*values)
        if kind == "student-t":
            return Scales.student_t(*values)
        return Scales.gamma(*values) if kind == "gamma" else None
    except ValueError as error:
        raise ValueError(f"scales {text!r}: {error}") from None


def _parameters(argument: str) -> list[Any] | None:
    try:
        return [float(part) for part in argument.split(",")] if argument else []
    except ValueError:
        return None


def _canonical(text: str) -> str:
    """One spelling for one meaning: ``ar1:0.90`` is ``ar1:0.9``."""
    kind, colon, argument = text.strip().partition(":")
    values = _parameters(argument)
    return text.strip() if values is None else kind + colon + ",".join(f"{value:.15g}" for value in values)


def _listed(value: Any, name: str, read: Any) -> tuple:
    """A tuple without repetitions; a single entry stands for a list of one."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        value = [value]
    entries = tuple(dict.fromkeys(_entries(value, name, read)))
    if not entries and name != "strengths":
        raise ValueError(f"{name} must hold at least one entry")
    return entries


def _entries(values: Iterable, name: str, read: Any) -> Iterator[Any]:
    for value in values:
        yield read(value, name)


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or value != int(value):
        raise TypeError(f"{name} must be whole numbers, got {value!r}")
    return int(value)


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not np.isfinite(value):
        raise TypeError(f"{name} must be finite numbers, got {value!r}")
    return float(value)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, got {value!r}")
    return value
