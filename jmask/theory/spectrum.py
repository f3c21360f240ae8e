"""The limiting spectrum of the predictor A: Stieltjes transform, density, cumulative distribution and quantiles."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import as_float, is_concrete, require_finite
from .._implicit import implicit
from .._types import CONVERGED, Array, ArrayLike, Complex, Float, full_precision
from ..covariance import Covariance, Diagonal
from ..covariance.base import unchecked_diagonal
from ..scales import Scales
from .bulk_chart import NODES, chart, counted, cumulative_on, density_on, quantiles_on, resolved
from .bulk_edges import scan
from .bulk_law import BulkLaw, branch_residual, bulk_law, complex_dtype, constants, find_branch, shrunk
from .bulk_points import cumulative_at, density_at, on_grid, quantiles_at
from .equivalent import checked, may_vanish


@full_precision
def stieltjes(
    covariance: Covariance, n: ArrayLike, ridge: ArrayLike, z: ArrayLike, scales: Scales | None = None
) -> Complex[Array, "..."]:
    """g(z) = (1/d) tr (A - z)⁻¹ in the limit of large n and d.

    With w = 1 - z, R = (cΣ + Λ - D̄⁻¹/w)⁻¹ and δ = tr ΣR/n on the branch with Im δ > 0 for Im z > 0,
    g = (1/w)[1 + Σ_k R_kk/(w d D̄_k)].

    Parameters
    ----------
    covariance
        A population of ``jmask.covariance``; of a ``Spiked`` one the bulk counts (spikes move a share 1/d).
    n
        Number of samples, real and positive.
    ridge
        Penalty, scalar or (d,), not negative; 0 is the limit 0⁺.
    z
        Points of the complex plane, any shape. Real points are limits from above.
    scales
        Law of τ² for elliptical data; None is Gaussian.

    Returns
    -------
    Array
        Complex, in the shape of z; NaN where the fixed point has no solution. Im g(x + i0)/π is the density, and
        g(conj z) = conj g(z).

    Raises
    ------
    ValueError, TypeError
        For n <= 0, a negative ridge, shapes that disagree, or z that is not finite.

    Notes
    -----
    Holomorphic in z off the spectrum; differentiable in ridge, n, population and scales. Cost a point: some 50
    evaluations of O(d) for ``Diagonal`` and populations of constant diagonal, some 10 complex d × d inverses for
    the others.

    References
    ----------
    Silverstein and Bai (1995) for the fixed point.

    Examples
    --------
    >>> import jmask as jm
    >>> g = jm.theory.stieltjes(jm.covariance.Diagonal([1.0] * 50), n=100, ridge=0.5, z=0.2 + 0.1j)
    >>> bool(g.imag > 0)
    True
    """
    covariance, n, ridge, scales = checked(covariance, n, ridge, scales)
    z = _as_complex(z, n.dtype)
    law = bulk_law(covariance, n, ridge, scales, may_vanish(ridge))
    return _stieltjes(law, z)


@full_precision
def density(
    covariance: Covariance, n: ArrayLike, ridge: ArrayLike, grid: ArrayLike, scales: Scales | None = None
) -> Float[Array, "..."]:
    """Density of the continuous part of the spectrum of A, which integrates to one less the mass of ``atoms``.

    Parameters
    ----------
    covariance, n, ridge, scales
        As for ``stieltjes``.
    grid
        Points of the real axis, any shape.

    Returns
    -------
    Array
        In the shape of grid: 0 outside the bulk, NaN where the fixed point has no solution.

    Raises
    ------
    ValueError, TypeError
        For n <= 0, a negative ridge, shapes that disagree, or a grid that is not finite.

    Notes
    -----
    Differentiable in everything, except at the edges, where the slope is infinite. Cost a point: some 50 times O(d) for
    ``Diagonal`` and populations of constant diagonal; for the others the eigenvalues of one real d × d matrix and the
    inverse of one complex. More than 128 points of these are read off a cosine series through 128 to 512 nodes, good
    to about 1e-4 of the largest value, unless so many do not resolve it.

    Examples
    --------
    >>> import jmask as jm
    >>> jm.theory.density(jm.covariance.Isotropic([1.0] * 50), n=200, ridge=0.5, grid=[-2.0, 0.0, 0.9]).round(4)
    Array([0.    , 0.9264, 0.    ], dtype=float64)
    """
    covariance, n, ridge, scales = checked(covariance, n, ridge, scales)
    grid = _as_grid(grid, "grid", n.dtype)
    law = bulk_law(covariance, n, ridge, scales, may_vanish(ridge))
    table = chart(law) if grid.size > NODES[0] else None
    if table is None or not resolved(table):
        return on_grid(density_at, law, grid)
    return density_on(table, grid.ravel()).reshape(grid.shape)


@full_precision
def cumulative(
    covariance: Covariance, n: ArrayLike, ridge: ArrayLike, grid: ArrayLike, scales: Scales | None = None
) -> Float[Array, "..."]:
    """Share of the eigenvalues of A up to each point, atoms included.

    It is the argument of the log-determinant of the limiting resolvent, not an integral of the density.

    Parameters
    ----------
    covariance, n, ridge, scales
        As for ``stieltjes``.
    grid
        Points of the real axis, any shape.

    Returns
    -------
    Array
        In the shape of grid, from 0 to 1; NaN where the fixed point has no solution.

    Raises
    ------
    ValueError, TypeError
        For n <= 0, a negative ridge, shapes that disagree, or a grid that is not finite.

    Notes
    -----
    Differentiable in everything. Cost a point as for ``density``, without the inverse; shares read off the series are
    good to about 1e-5.

    Examples
    --------
    >>> import jmask as jm
    >>> noise = jm.covariance.Diagonal([0.3, 3.0] * 40)
    >>> jm.theory.cumulative(noise, n=20, ridge=0.3, grid=[-0.5, 0.2, 1.0]).round(6)
    Array([0.25, 0.75, 1.  ], dtype=float64)
    """
    covariance, n, ridge, scales = checked(covariance, n, ridge, scales)
    grid = _as_grid(grid, "grid", n.dtype)
    law = bulk_law(covariance, n, ridge, scales, may_vanish(ridge))
    table = chart(law) if grid.size > NODES[0] else None
    if table is None or not counted(table):
        return on_grid(cumulative_at, law, grid)
    return cumulative_on(table, grid.ravel()).reshape(grid.shape)


@full_precision
def quantiles(
    covariance: Covariance, n: ArrayLike, ridge: ArrayLike, probabilities: ArrayLike, scales: Scales | None = None
) -> Float[Array, "..."]:
    """Points of the real axis up to which given shares of the eigenvalues of A lie: the inverse of ``cumulative``.

    Parameters
    ----------
    covariance, n, ridge, scales
        As for ``stieltjes``.
    probabilities
        In (0, 1), any shape. (i + 1/2)/d for i = 0, 1, ... is where the eigenvalues of a sample are expected.

    Returns
    -------
    Array
        In the shape of probabilities; the atom itself where one holds the share, NaN where the fixed point has no
        solution.

    Raises
    ------
    ValueError, TypeError
        For n <= 0, a negative ridge, shapes that disagree, or probabilities outside (0, 1).

    Notes
    -----
    For ``Diagonal`` and populations of constant diagonal accurate to rounding over the density, at the cost of some 15
    points of ``cumulative`` each. For the others read off the series that serves the fine grids of ``density``: shares
    to about 1e-5; one by one as well where the bulk has more gaps than the series resolves. Differentiable in
    everything.

    Examples
    --------
    >>> import jmask as jm
    >>> jm.theory.quantiles(jm.covariance.Isotropic([1.0] * 50), n=200, ridge=0.5, probabilities=[0.1, 0.9]).round(4)
    Array([-0.4958,  0.4035], dtype=float64)
    """
    covariance, n, ridge, scales = checked(covariance, n, ridge, scales)
    probabilities = _as_grid(probabilities, "probabilities", n.dtype)
    if is_concrete(probabilities):
        values = np.asarray(probabilities)
        if not ((values > 0) & (values < 1)).all():
            raise ValueError(f"probabilities must lie in (0, 1), got values from {values.min():g} to {values.max():g}")
    law = bulk_law(covariance, n, ridge, scales, may_vanish(ridge))
    flat = probabilities.ravel()
    table = chart(law)
    if table is None or not counted(table):
        return quantiles_at(law, scan(law), flat).reshape(probabilities.shape)
    return quantiles_on(table, flat).reshape(probabilities.shape)


# ------------------------------------------------------------------------------------------- arguments
def _as_grid(grid: ArrayLike, name: str, dtype: jnp.dtype) -> Array:
    grid = as_float(grid, name, dtype)
    require_finite(grid, name)
    return grid


def _as_complex(z: ArrayLike, dtype: jnp.dtype) -> Array:
    if not isinstance(z, jax.Array):
        try:
            z = np.asarray(z)
        except (TypeError, ValueError) as error:
            raise TypeError(f"z must be an array of numbers, got {type(z).__name__}") from error
    if z.dtype.kind not in "biufc":
        raise TypeError(f"z must be an array of numbers, got dtype {z.dtype}")
    require_finite(z, "z")  # type: ignore[arg-type]
    return jnp.asarray(z, complex_dtype(dtype))


# ------------------------------------------------------------------------------------------- complex plane
@jax.jit
def _stieltjes(law: BulkLaw, z: Array) -> Array:
    points = z.ravel()
    above = jnp.where(points.imag < 0, points.conj(), points)
    values = jax.vmap(partial(_stieltjes_at, law))(above)
    values = jnp.where(points.imag < 0, values.conj(), values)
    known = law.status == CONVERGED
    return jnp.where(known, values, jnp.nan).reshape(z.shape)


def _stieltjes_at(law: BulkLaw, z: Array) -> Array:
    """g at one point, written with (w(yΣ̃ + Γ) - 1)⁻¹ = (yΣ̃ + Γ - μ)⁻¹/w, which is regular at w = 0."""
    w = 1 - z
    w = jnp.where(jnp.abs(w) < 1e-9, jnp.asarray(1e-9, w.dtype), w)
    gamma = law.gamma.astype(z.dtype)
    params = (law.population, gamma - 1 / w, *constants(law))
    start = None
    if not isinstance(law.population, Diagonal):
        start = find_branch((unchecked_diagonal(law.population.diagonal()), *params[1:]))
    x = implicit(branch_residual, find_branch(params, start), params)
    y = shrunk(tuple(value.astype(z.dtype) for value in params[3:]), x)
    resolvent = law.population.resolvent(w * y, w * gamma - 1)
    return (y * resolvent.trace() + (gamma * resolvent.diagonal).sum()) / law.dimension
