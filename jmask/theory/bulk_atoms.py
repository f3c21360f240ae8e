"""Atoms of the spectrum of A: eigenvalues that a positive fraction of all share."""

import jax
import jax.numpy as jnp
from jax import lax

from .._types import CONVERGED, Array, ArrayLike, Float, Int, Result, full_precision, pytree
from ..covariance import Covariance, Diagonal
from ..scales import Scales
from .bulk_law import BulkLaw, bulk_law
from .equivalent import checked, may_vanish

ATOMS = 8


@pytree
class Atoms(Result):
    """Eigenvalues of A that carry a share of the spectrum each.

    Attributes
    ----------
    location
        (k,) ascending, NaN beyond the last atom.
    mass
        (k,) shares of the d eigenvalues, 0 beyond the last atom; NaN unless converged.
    status
        Of the fixed point, see ``fixed_point``.
    """

    location: Float[Array, " k"]
    mass: Float[Array, " k"]
    status: Int[Array, ""]


@full_precision
def atoms(covariance: Covariance, n: ArrayLike, ridge: ArrayLike, scales: Scales | None = None) -> Atoms:
    """Eigenvalues of A shared by a positive fraction of all, which appear when samples are few.

    Coordinates G of one λ_kD̄_k hold an atom at 1 - 1/(λ_kD̄_k) of mass max(0, |G| - min(nP(τ > 0), rank Σ_GG))/d. At
    ridge 0 below n = d the fit interpolates, and what is left of the spectrum but min(nP(τ > 0), rank Σ)/d sits at 1.

    Parameters
    ----------
    covariance, n, ridge, scales
        As for ``jmask.theory.density``.

    Returns
    -------
    Atoms
        ``.location .mass``: at most 9, in ascending order, padded with NaN and 0.

    Raises
    ------
    ValueError, TypeError
        For n <= 0, a negative ridge, or shapes that disagree.

    Notes
    -----
    In a sample an atom is smeared to a relative width of order 1/√n. O(d log d); for a dense population with
    coordinates of equal λ_kD̄_k, a d × d eigenvalue problem for each such group. Locations are differentiable, masses
    in n too.

    Examples
    --------
    >>> import jmask as jm
    >>> noise = jm.covariance.Diagonal([0.3, 3.0] * 40)
    >>> jm.theory.atoms(noise, n=20, ridge=0.3).mass[:3]
    Array([0.25, 0.25, 0.  ], dtype=float64)
    """
    covariance, n, ridge, scales = checked(covariance, n, ridge, scales)
    return mass_points(bulk_law(covariance, n, ridge, scales, may_vanish(ridge)))


@jax.jit
def mass_points(law: BulkLaw) -> Atoms:
    """The groups of equal γ by sorting; the heaviest are kept."""
    d, dtype = law.dimension, law.n.dtype
    position, size, group = groups(law.gamma)
    kept = lax.top_k(size, min(ATOMS, d))[1].astype(group.dtype)
    rows = law.n * law.mass()
    ranks = _ranks(law, group, kept, size[kept])
    mass = jnp.maximum(size[kept] - jnp.minimum(rows, ranks), 0) / d
    interpolating = law.shrinkage == 0
    where = position[kept]
    location = 1 - 1 / jnp.where(mass > 0, where, 1)
    every = jnp.minimum(rows, _rank(law.population.eigenvalues())) / d
    mass = jnp.append(mass, jnp.where(interpolating, every, 0))
    location = jnp.where(mass > 0, jnp.append(location, jnp.ones((), dtype)), jnp.nan)
    order = jnp.argsort(location)
    known = law.status == CONVERGED
    nothing = jnp.full_like(location, jnp.nan)
    return Atoms(jnp.where(known, location[order], nothing), jnp.where(known, mass[order], nothing), law.status)  # type: ignore[call-arg]


def groups(gamma: Array) -> tuple[Array, Array, Array]:
    """Mean and size of each set of equal entries (to √eps of the largest), and the set of each coordinate."""
    d = gamma.shape[0]
    order = jnp.argsort(gamma)
    ascending = gamma[order]
    apart = jnp.diff(ascending) > jnp.finfo(gamma.dtype).eps ** 0.5 * ascending[-1]
    label = jnp.concatenate([jnp.zeros(1, int), jnp.cumsum(apart)])
    size = jax.ops.segment_sum(jnp.ones_like(gamma), label, d)
    mean = jax.ops.segment_sum(ascending, label, d) / jnp.maximum(size, 1)
    return mean, size, jnp.zeros(d, label.dtype).at[order].set(label)


def _rank(eigenvalues: Array) -> Array:
    """Number of eigenvalues above rounding."""
    noise = eigenvalues.shape[0] * jnp.finfo(eigenvalues.dtype).eps * jnp.abs(eigenvalues).max()
    return (eigenvalues > noise).sum().astype(eigenvalues.dtype)


def _ranks(law: BulkLaw, group: Array, kept: Array, size: Array) -> Array:
    """Rank of Σ_GG for the groups kept; of no interest for a group of one."""
    population = lax.stop_gradient(law.population)
    if isinstance(population, Diagonal):
        noise = population.dimension * jnp.finfo(size.dtype).eps * population.variances.max()
        alive = (population.variances > noise).astype(size.dtype)
        return jax.vmap(lambda index: jnp.where(group == index, alive, 0).sum())(kept)

    def rank(pair: tuple[Array, Array]) -> Array:
        mask = (group == pair[0]).astype(size.dtype)

        def counted() -> Array:
            return _rank(jnp.linalg.eigvalsh(population.matrix() * mask[:, None] * mask[None, :]))

        return lax.cond(pair[1] > 1, counted, lambda: pair[1])

    return lax.map(rank, (kept, lax.stop_gradient(size)))
