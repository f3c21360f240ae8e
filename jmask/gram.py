"""Second moments of a stream of data, enough for every fit: n may exceed memory."""

from typing import cast

import jax.numpy as jnp

from . import _linalg
from ._checks import as_samples
from ._types import Array, ArrayLike, Float, full_precision, pytree


@pytree
class Gram:
    """Count, sum and centred scatter of samples, updated by batches and merged from parts.

    Parameters
    ----------
    scatter
        (d, d) Σ_i (x_i - mean)(x_i - mean)ᵀ.
    sum
        (d,) Σ_i x_i.
    count
        Number of rows, as a float.

    Notes
    -----
    Parts are merged about their means (Chan, Golub and LeVeque 1983), so that a large mean costs no digits
    of the scatter. Merging is associative up to rounding. Differentiable; O(n d²) an update.

    Examples
    --------
    >>> import numpy as np, jmask as jm
    >>> x = np.arange(12.0).reshape(6, 2)
    >>> gram = jm.Gram.from_samples(x[:3]).update(x[3:])
    >>> bool(np.allclose(gram.covariance, x.T @ x / 6))
    True
    """

    scatter: Float[Array, "d d"]
    sum: Float[Array, " d"]
    count: Float[Array, ""]

    @classmethod
    @full_precision
    def from_samples(cls, x: ArrayLike) -> "Gram":
        """The Gram of data (n, d), rows are samples; one row is enough."""
        x = as_samples(x, rows=1)
        n = x.shape[0]
        total = x.sum(0)
        return cls(_linalg.gram(x - (total / n)[None, :]), total, jnp.asarray(n, x.dtype))

    def update(self, batch: ArrayLike) -> "Gram":
        """With the rows of ``batch`` (b, d) added."""
        return self.merge(Gram.from_samples(as_samples(batch, "batch", columns=self.dimension, rows=1)))

    def merge(self, other: "Gram") -> "Gram":
        """The Gram of both sets of samples together."""
        if other.sum.shape != self.sum.shape:
            raise ValueError(f"other must have {self.dimension} coordinates, got {other.dimension}")
        count = self.count + other.count
        gap = self.mean - other.mean
        between = (self.count * other.count / count) * gap[:, None] * gap[None, :]
        return Gram(self.scatter + other.scatter + between, self.sum + other.sum, count)

    __add__ = merge

    def centred(self) -> "Gram":
        """The Gram of the same samples with their mean removed: ``covariance`` is then the usual one (over n)."""
        return Gram(self.scatter, jnp.zeros_like(self.sum), self.count)

    @property
    def dimension(self) -> int:
        """d."""
        return self.sum.shape[-1]

    @property
    def mean(self) -> Float[Array, " d"]:
        """(d,) mean of the samples."""
        return self.sum / self.count

    @property
    def covariance(self) -> Float[Array, "d d"]:
        """(d, d) S = Σ_i x_i x_iᵀ/n, not centred unless ``centred()`` was called."""
        return cast(Array, self.scatter / self.count + self.mean[:, None] * self.mean[None, :])
