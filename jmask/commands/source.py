"""What ``theory``, ``descent`` and ``compare`` are of: a population by its name, or a data file in its place."""

import re
from dataclasses import dataclass

import numpy as np

from .._checks import require_memory
from ..covariance import Covariance, from_samples
from ..covariance.names import USAGE, names_population, parse_population
from ..scales import Scales
from ..tables import SUFFIXES, Table, read_table, split_source
from .options import Scale, Scaling, parse_list
from .progress import warn

_DIMENSION = 200
_FEW = 10  # rows a column, below which the covariance of the data is a poor population
_ALONE = 0.1  # share of all the squared scales that one row may have
_WORKING_MATRICES = 8


@dataclass(frozen=True)
class Source:
    """A population (the plug-in one of data), the law of its scales, the data if any."""

    name: str
    population: Covariance
    scales: Scales | None
    table: Table | None
    x: np.ndarray | None

    @property
    def variance(self) -> float:
        """Mean variance of the coordinates: the error of predicting each by its mean."""
        return float(np.asarray(self.population.diagonal()).mean())

    @property
    def stem(self) -> str:
        """For naming the output."""
        return re.sub(r"[^\w.+-]+", "-", self.name) if self.table is None else self.table.stem


def read_source(
    text: str,
    dimension: int | None,
    scale: Scale,
    columns: str | None,
    id_column: str | None,
    *,
    elliptical: bool = False,
) -> Source:
    """The population of this name, or the data of this file; the options that do not fit it are refused."""
    if names_population(text):
        return _named(text, dimension, elliptical, columns, id_column)
    return _from_data(text, dimension, elliptical, scale, columns, id_column)


def _named(text: str, dimension: int | None, elliptical: bool, columns: str | None, id_column: str | None) -> Source:
    if elliptical:
        raise ValueError(f"--elliptical estimates scales from data, and {text!r} is a population")
    if columns is not None or id_column is not None:
        raise ValueError(f"--columns and --id-column choose columns of data, and {text!r} is a population")
    d = _DIMENSION if dimension is None else dimension
    require_memory(_WORKING_MATRICES * d * d * 8, f"--dimension {d}")
    return Source(text, parse_population(text, d), None, None, None)


def _from_data(
    text: str, dimension: int | None, elliptical: bool, scale: Scale, columns: str | None, id_column: str | None
) -> Source:
    if text != "digits" and split_source(text)[0].suffix.lower() not in SUFFIXES:
        raise ValueError(f"{text!r} is neither a population ({USAGE}) nor data ({', '.join(SUFFIXES)} or digits)")
    if dimension is not None:
        raise ValueError(f"--dimension is for a population by name; {text} brings its own")
    table = read_table(text, parse_list(columns), id_column)
    n, d = table.values.shape
    require_memory(_WORKING_MATRICES * d * d * 8, f"{text}: a covariance of {d} columns")
    scaling = Scaling.estimate(table.values, scale)
    x = scaling.apply(table.values)
    varying = x[:, ~scaling.constant]
    if not varying.shape[1]:
        raise ValueError(f"{text}: every column is constant: there is nothing to predict")
    if elliptical and n <= varying.shape[1]:
        raise ValueError(f"--elliptical needs more rows than columns to estimate the scales, got {n} × {d}")
    if n < _FEW * d:
        warn(f"the covariance of {n} rows stands for the population: expect errors predicted about {d / n:.0%} too low")
    return Source(text, from_samples(x), _estimate(text, varying) if elliptical else None, table, x)


def _estimate(text: str, x: np.ndarray) -> Scales:
    """The law of the scales; a row that is alone in some direction has all the scale there is, and it shows."""
    scales = Scales.estimate(x)
    largest = float(np.asarray(scales.squares).max()) / len(x)
    if largest > _ALONE:
        warn(
            f"{text}: one row holds {largest:.0%} of the squared scales, so it stands alone in some direction: "
            "elliptical theory does not describe such data"
        )
    return scales
