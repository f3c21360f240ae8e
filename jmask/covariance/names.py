"""Populations by name, ``ar1:0.9`` or ``diagonal:0.3,3.0``, as commands and studies spell them."""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from .base import Covariance, Diagonal
from .builders import ar1, blocks, equicorrelated, factors, inverse_marchenko_pastur, power_law
from .spiked import Spiked
from .structured import Isotropic

_MIN_DIMENSION = 2


@dataclass(frozen=True)
class _Kind:
    """How a name is spelled, its parameters (least and greatest number of them), and what it makes in d dimensions."""

    usage: str
    least: int
    most: int | None
    build: Callable[[int, list[float]], Covariance]


_KINDS = {
    "ar1": _Kind("ar1:RHO", 1, 1, lambda d, values: ar1(d, values[0])),
    "ring": _Kind("ring:RHO", 1, 1, lambda d, values: ar1(d, values[0], circulant=True)),
    "power-law": _Kind("power-law:EXPONENT", 1, 1, lambda d, values: power_law(d, values[0])),
    "equicorrelated": _Kind("equicorrelated:CORRELATION", 1, 1, lambda d, values: equicorrelated(d, values[0])),
    "blocks": _Kind("blocks:SIZE,CORRELATION", 2, 2, lambda d, values: blocks(d, values[0], values[1])),
    "factors": _Kind("factors:SHARE,STRENGTH", 2, 2, lambda d, values: factors(d, values[0], values[1])),
    "inverse-mp": _Kind("inverse-mp:RATIO", 1, 1, lambda d, values: inverse_marchenko_pastur(d, values[0])),
    "isotropic": _Kind("isotropic", 0, 0, lambda d, _: Isotropic(np.ones(d))),
    "diagonal": _Kind("diagonal:VARIANCE,…", 1, None, lambda d, values: Diagonal(jnp.resize(jnp.array(values), (d,)))),
    "spiked": _Kind("spiked:STRENGTH,…", 1, None, lambda d, values: Spiked(_noise(d), jnp.array(values))),
}

USAGE = ", ".join(kind.usage for kind in _KINDS.values())
"""All spellings, for help and for messages."""


def _noise(d: int) -> Covariance:
    return Diagonal(jnp.ones(d))


def names_population(text: str) -> bool:
    """Whether a text means a population rather than a file.

    Examples
    --------
    >>> from jmask.covariance.names import names_population
    >>> names_population("ar1:0.9"), names_population("ar1.csv")
    (True, False)
    """
    return text.partition(":")[0] in _KINDS


def parse_population(text: str, dimension: int) -> Covariance:
    """The population of ``dimension`` coordinates that a name with its parameters means.

    Parameters
    ----------
    text
        ``ar1:RHO`` (Toeplitz) or ``ring:RHO`` (the same on a ring), unit variance; ``power-law:EXPONENT``,
        eigenvalues k^(-EXPONENT) with random eigenvectors; ``equicorrelated:CORRELATION``;
        ``blocks:SIZE,CORRELATION``, equally correlated within a block; ``factors:SHARE,STRENGTH``, so many times d
        factors in unit noise; ``inverse-mp:RATIO``, inverse eigenvalues of a Marchenko–Pastur law (the three with
        unit variance, unit noise, unit mean precision); ``isotropic``, unit variance; ``diagonal:V1,V2,…``, the
        variances repeated in turn; ``spiked:S1,S2,…``, delocalised directions of these strengths in unit noise.
    dimension
        d.

    Raises
    ------
    ValueError
        In one line, for a name that is not known, parameters that are missing, too many or no numbers, and
        values the population refuses.

    Examples
    --------
    >>> from jmask.covariance.names import parse_population
    >>> parse_population("diagonal:0.3,3.0", 4).diagonal().tolist()
    [0.3, 3.0, 0.3, 3.0]
    """
    name, colon, argument = text.partition(":")
    if name not in _KINDS:
        raise ValueError(f"{text!r} is no population: use {USAGE}")
    if dimension < _MIN_DIMENSION:
        raise ValueError(f"--dimension must be at least {_MIN_DIMENSION}, got {dimension}")
    kind = _KINDS[name]
    values = _numbers(text, argument) if colon else []
    if len(values) < kind.least or (kind.most is not None and len(values) > kind.most):
        raise ValueError(f"{text!r} has {len(values)} parameter(s), wanted {kind.usage}")
    if kind.most is None and len(values) > dimension:
        raise ValueError(f"{text!r} has {len(values)} parameters for --dimension {dimension}")
    try:
        return kind.build(dimension, values)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None


def _numbers(text: str, argument: str) -> list[float]:
    try:
        values = [float(part) for part in argument.split(",")]
    except ValueError:
        raise ValueError(f"{text!r}: {argument!r} must be numbers separated by commas") from None
    if not np.isfinite(values).all():
        raise ValueError(f"{text!r}: {argument!r} must be finite")
    return values
