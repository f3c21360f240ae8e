"""The law of the squared per-sample scale of elliptical data: rows x_i = τ_i Σ^{1/2} g_i with E τ² = 1."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np

from . import _linalg
from ._checks import as_float, as_samples, is_concrete, require_finite
from ._types import Array, ArrayLike, Float, PRNGKeyArray, full_precision, pytree

_ESTIMATE_RIDGE = 0.01  # of the mean variance


@pytree
class Scales:
    """A discrete law of τ², the squared scale of a sample; its mean is one, so that Σ is the covariance.

    Gaussian data is the law that sits at 1; every function takes ``scales=None`` for it.

    Parameters
    ----------
    squares
        (m,) values of τ², not negative.
    probabilities
        (m,) probabilities, summing to one; default: equal.

    Raises
    ------
    ValueError
        If shapes disagree, a value is negative, or the mean of the squares is not one (to 1e-6; the
        message gives the factor to divide by).

    Notes
    -----
    Differentiable in both fields; a derivative that leaves mean one is yours to avoid.

    Examples
    --------
    >>> import jmask as jm
    >>> law = jm.Scales([0.25, 4.0], [0.8, 0.2])
    >>> float(law.c(0.0))
    1.0
    """

    squares: Float[Array, " m"]
    probabilities: Float[Array, " m"] = None  # type: ignore[assignment]  # filled in by __post_init__

    def __post_init__(self) -> None:
        squares = as_float(self.squares, "squares")
        m = squares.shape[-1] if squares.ndim else 0
        given = self.probabilities
        probabilities = jnp.full((m,), 1.0 / max(m, 1), squares.dtype) if given is None else given
        probabilities = as_float(probabilities, "probabilities", squares.dtype)
        if squares.ndim != 1 or probabilities.shape != squares.shape or m == 0:
            raise ValueError(
                f"squares and probabilities must be vectors of one length, "
                f"got shapes {squares.shape} and {probabilities.shape}"
            )
        if is_concrete((squares, probabilities)):
            require_finite(squares, "squares")
            if np.asarray(squares).min() < 0:
                raise ValueError(f"squares must not be negative, got {np.asarray(squares).min():g}")
            require_finite(probabilities, "probabilities")
            shares = np.asarray(probabilities, np.float64)  # a sum of many float32 would miss the tolerance
            total, mean = float(shares.sum()), float(shares @ np.asarray(squares, np.float64))
            if (shares < 0).any() or abs(total - 1) > 1e-6:
                raise ValueError(f"probabilities must be a distribution, got a sum of {total:g}")
            if abs(mean - 1) > 1e-6:
                raise ValueError(f"the mean of squares must be one, got {mean:g}: divide squares by {mean:g}")
        object.__setattr__(self, "squares", squares)
        object.__setattr__(self, "probabilities", probabilities)

    @full_precision
    def c(self, delta: ArrayLike) -> Array:
        """E[τ²/(1 + τ²δ)], the factor of Σ in the deterministic equivalent."""
        probabilities, terms = self._terms(delta)
        return terms @ probabilities

    @full_precision
    def c2(self, delta: ArrayLike) -> Array:
        """E[τ⁴/(1 + τ²δ)²] = -dc/dδ."""
        probabilities, terms = self._terms(delta)
        return terms**2 @ probabilities

    def _terms(self, delta: ArrayLike) -> tuple[Array, Array]:
        """P and τ²/(1 + τ²δ), (..., m), in the precision of an array δ, which may be complex."""
        own = self.squares.dtype
        dtype = np.promote_types(own, np.complex64) if isinstance(delta, complex) else getattr(delta, "dtype", own)
        delta = jnp.asarray(delta, dtype if jnp.issubdtype(dtype, jnp.inexact) else own)
        squares = jnp.broadcast_to(self.squares.astype(delta.dtype), (*delta.shape, self.squares.shape[0]))
        return self.probabilities.astype(delta.dtype), squares / (1 + squares * delta[..., None])

    def positive_mass(self) -> Array:
        """P(τ > 0)."""
        return jnp.where(self.squares > 0, self.probabilities, 0.0).sum()

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, " n"]:
        """(n,) independent draws of τ²."""
        return jax.random.choice(key, self.squares, (n,), p=self.probabilities)

    @classmethod
    def two_point(cls, low: float, high: float) -> "Scales":
        """τ² is ``low`` < 1 or ``high`` > 1, with the probabilities that make its mean one."""
        if not low <= 1 <= high or low == high:
            raise ValueError(f"low must be below 1 and high above it, got {low:g} and {high:g}")
        p = (1 - low) / (high - low)
        return cls([low, high], [1 - p, p])  # type: ignore[arg-type]

    @classmethod
    def student_t(cls, degrees_of_freedom: float, nodes: int = 64) -> "Scales":
        """Multivariate Student-t rows, scaled to covariance Σ: τ² = (ν - 2)/χ²_ν by Gauss-Laguerre quadrature, ν > 2.

        The nodes *are* the law: samples and theory use the same one. Small ν needs more nodes for its tail.
        """
        if not degrees_of_freedom > 2:
            raise ValueError(f"degrees_of_freedom must exceed 2 for a covariance to exist, got {degrees_of_freedom:g}")
        shape = degrees_of_freedom / 2 - 1
        g, w = _gamma_nodes(shape, nodes)
        return cls._normalised(shape / g, w * g)

    @classmethod
    def gamma(cls, shape: float, nodes: int = 64) -> "Scales":
        """τ² gamma distributed with mean one and variance 1/shape, by Gauss-Laguerre quadrature."""
        if not shape > 0:
            raise ValueError(f"shape must be positive, got {shape:g}")
        g, w = _gamma_nodes(shape, nodes)
        return cls._normalised(g / shape, w)

    @classmethod
    def _normalised(cls, squares: np.ndarray, weights: np.ndarray) -> "Scales":
        keep = weights > 0
        squares, weights = squares[keep], weights[keep] / weights[keep].sum()
        return cls(jnp.asarray(squares / (weights @ squares)), jnp.asarray(weights))

    @classmethod
    @full_precision
    def estimate(cls, x: ArrayLike) -> "Scales":
        """The law of τ² from data (n, d) with n well above d: Mahalanobis norms, one atom a sample.

        With the leverage h_i = x_iᵀQx_i/n = τ_i²δ/(1 + τ_i²δ), each τ_i² is h_i/(1 - h_i) up to a factor that the
        mean of one fixes; this removes the share of x_i in its own covariance estimate. Q has a ridge of 1% of the
        mean variance, for which the same holds: a row that is alone in some direction of next to no variance
        would otherwise seem to have all the scale there is.

        Raises
        ------
        ValueError
            If n <= d: no Mahalanobis norm exists.

        Warns
        -----
        UserWarning
            If n < 2 d: the norms are then noisy.
        """
        x = as_samples(x)
        n, d = x.shape
        if n <= d:
            raise ValueError(f"x must have more rows than columns to estimate its scales, got shape {x.shape}")
        if n < 2 * d:
            warnings.warn(f"scales estimated from n = {n} rows in d = {d} dimensions are noisy", stacklevel=2)
        sample_covariance = _linalg.gram(x) / n
        ridge = _ESTIMATE_RIDGE * jnp.trace(sample_covariance) / d
        precision = _linalg.inverse(_linalg.add_diagonal(sample_covariance, ridge))
        leverage = ((x @ precision) * x).sum(1) / n
        squares = leverage / (1 - leverage)
        return cls(squares / squares.mean())


def _gamma_nodes(shape: float, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss-Laguerre quadrature for a gamma variable, by Golub and Welsch.

    The weights sum to one and never form a gamma function, which overflows at a shape near 170.
    """
    k = np.arange(nodes)
    off = np.sqrt(k[1:] * (k[1:] + shape - 1))
    roots, vectors = np.linalg.eigh(np.diag(2 * k + shape) + np.diag(off, 1) + np.diag(off, -1))
    return roots, vectors[0] ** 2


def c_of(scales: Scales | None, delta: Array) -> Array:
    """c(δ) of the law, 1/(1 + δ) for Gaussian data."""
    return 1 / (1 + delta) if scales is None else scales.c(delta)


def c2_of(scales: Scales | None, delta: Array) -> Array:
    """c₂(δ) of the law, 1/(1 + δ)² for Gaussian data."""
    return 1 / (1 + delta) ** 2 if scales is None else scales.c2(delta)
