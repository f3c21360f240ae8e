"""A few strong directions on a bulk."""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import as_float, is_concrete, require_finite
from .._types import Array, ArrayLike, Float, PRNGKeyArray, full_precision, pytree
from .base import Covariance, Dense, eigenvalues_of, unchecked_dense
from .resolvent import DelocalisedResolvent, Resolvent, WoodburyResolvent
from .structured import Isotropic, random_directions


@pytree
class Spiked(Covariance):
    """A few strong directions on a bulk: Σ = Σ₀ + Σ_j θ_j u_j u_jᵀ.

    Parameters
    ----------
    bulk
        The population Σ₀.
    strengths
        (r,) θ_j, possibly negative as long as Σ stays positive semi-definite; a scalar is one spike.
    directions
        (d, r) unit columns u_j, or (d,) for one; None: delocalised, uniformly random and orthogonal, fixed by
        ``realise(key)``. The theory of unrealised directions is their average, right to order 1/d.

    Examples
    --------
    >>> import jmask as jm
    >>> c = jm.covariance.Spiked(jm.covariance.Diagonal([1.0, 1.0, 1.0]), [2.0])
    >>> float(c.diagonal().sum())
    5.0
    """

    bulk: Covariance
    strengths: Float[Array, " r"]
    directions: Float[Array, "d r"] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.bulk, Covariance):
            raise TypeError(f"bulk must be a population of jmask.covariance, got {type(self.bulk).__name__}")
        dtype = self.bulk.diagonal().dtype
        strengths = jnp.atleast_1d(as_float(self.strengths, "strengths", dtype))
        if strengths.ndim != 1:
            raise ValueError(f"strengths must be a vector (r,), got shape {strengths.shape}")
        require_finite(strengths, "strengths")
        object.__setattr__(self, "strengths", strengths)
        if self.directions is not None:
            object.__setattr__(self, "directions", self._checked_directions(strengths.shape[0], dtype))
            self._require_semidefinite()

    def _checked_directions(self, r: int, dtype: jnp.dtype) -> Array:
        directions = as_float(cast(Array, self.directions), "directions", dtype)
        directions = directions[:, None] if directions.ndim == 1 else directions
        if directions.shape != (self.bulk.dimension, r):
            raise ValueError(
                f"directions must have shape ({self.bulk.dimension}, {r}), one column a strength, "
                f"got {directions.shape}"
            )
        require_finite(directions, "directions")
        if is_concrete(directions):
            norms = np.linalg.norm(np.asarray(directions), axis=0)
            if np.abs(norms - 1).max() > np.sqrt(np.finfo(norms.dtype).eps):
                raise ValueError(f"directions must have unit columns, got norms {norms}: divide each by its norm")
        return directions

    def _require_semidefinite(self) -> None:
        """Refuse negative strengths that overdraw a bulk with nothing random about it."""
        known = is_concrete((self.bulk, self.strengths, self.directions))
        if not known or isinstance(self.bulk, Isotropic | Spiked) or not (np.asarray(self.strengths) < 0).any():
            return
        with jax.ensure_compile_time_eval():
            eigenvalues = np.linalg.eigvalsh(np.asarray(self.matrix()))
        if eigenvalues[0] < -np.sqrt(np.finfo(eigenvalues.dtype).eps) * np.abs(eigenvalues).max():
            raise ValueError(
                f"strengths must leave Σ positive semi-definite, got an eigenvalue of {eigenvalues[0]:.3g}: "
                "a negative strength must exceed -1/(uᵀΣ₀⁻¹u)"
            )

    @property
    def constant_diagonal(self) -> bool:  # type: ignore[override]
        """True for delocalised spikes on a bulk of constant diagonal."""
        return self.directions is None and self.bulk.constant_diagonal

    @property
    def dimension(self) -> int:
        return self.bulk.dimension

    def realise(self, key: PRNGKeyArray) -> "Spiked":
        bulk_key, key = jax.random.split(key)
        bulk = self.bulk.realise(bulk_key)
        if self.directions is not None:
            return Spiked(bulk, self.strengths, self.directions)
        r = self.strengths.shape[0]
        return Spiked(bulk, self.strengths, random_directions(key, self.dimension, r, self.strengths.dtype))

    def _require_directions(self) -> Array:
        if self.directions is None:
            raise ValueError("the directions of this Spiked population are not fixed: call realise(key) first")
        return self.directions

    @full_precision
    def matrix(self) -> Float[Array, "d d"]:
        directions = self._require_directions()
        return self.bulk.matrix() + (directions * self.strengths[None, :]) @ directions.T

    @full_precision
    def diagonal(self) -> Float[Array, " d"]:
        if self.directions is None:
            return self.bulk.diagonal() + self.strengths.sum() / self.dimension
        return self.bulk.diagonal() + self.directions**2 @ self.strengths

    def eigenvalues(self) -> Float[Array, " d"]:
        return eigenvalues_of(self._drawn().matrix())

    def spectral_diagonal(self, values: Array, slopes: Array) -> Float[Array, " d"]:
        return unchecked_dense(self._drawn().matrix()).spectral_diagonal(values, slopes)

    def _drawn(self) -> "Spiked":
        """With directions: if none are fixed, those of one draw, which is within order 1/d of their average."""
        return self if self.directions is not None else self.realise(jax.random.key(0))

    def resolvent(self, c: ArrayLike, shift: ArrayLike) -> Resolvent:
        if self.directions is None:
            return DelocalisedResolvent(self.bulk.resolvent, self.strengths, c, shift)
        return WoodburyResolvent(self.bulk.resolvent, self.strengths, self.directions, c, shift)

    def for_traces(self, shift: Array) -> tuple[Covariance, Array]:
        if isinstance(self.bulk, Dense) and self.directions is not None:
            return unchecked_dense(self.matrix()).for_traces(shift)
        return self, shift

    def _gaussian(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        directions = self._require_directions()
        if not is_concrete(self.strengths) or (np.asarray(self.strengths) < 0).any():
            return unchecked_dense(self.matrix())._gaussian(key, n)
        bulk_key, key = jax.random.split(key)
        factors = jax.random.normal(key, (n, self.strengths.shape[0]), self.strengths.dtype)
        return self.bulk._gaussian(bulk_key, n) + (factors * jnp.sqrt(self.strengths)[None, :]) @ directions.T
