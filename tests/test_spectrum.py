"""The predicted spectrum of A against reference numbers, Marchenko and Pastur, its other route, and simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jmask as jm
from jmask.theory import atoms, cumulative, density, edges, quantiles, stieltjes
from jmask.theory.support import support

from . import problems

HEAVY = jm.Scales([0.25, 4.0], [0.8, 0.2])


def warped(d, rho=0.6, spread=4.0):
    """Neighbours correlated, variances from 1/spread to spread: dense, and nothing about it is stationary."""
    root = np.sqrt(np.geomspace(1 / spread, spread, d))
    return jm.covariance.Dense(root[:, None] * np.asarray(jm.covariance.ar1(d, rho).matrix()) * root[None, :])


def found(table):
    table = np.asarray(table)
    return table[np.isfinite(table[:, 0])]


def panel(ends, k=400):
    """Points and weights between two ends, exact for square-root edges."""
    low, high = -np.log1p(-np.asarray(ends))
    theta = (np.arange(k) + 0.5) * np.pi / k
    log_mu = (low + high) / 2 - (high - low) / 2 * np.cos(theta)
    return -np.expm1(-log_mu), np.exp(-log_mu) * (high - low) / 2 * np.sin(theta) * np.pi / k


def marchenko_pastur(gamma, ridge):
    """D̄ of unit populations, and both edges of A."""
    kappa = problems.isotropic_kappa(1.0, gamma, ridge)
    scale = kappa / ridge / (1 + kappa)
    return scale, [1 - 1 / (scale * ((1 + sign * np.sqrt(gamma)) ** 2 + ridge)) for sign in (-1, 1)]


# ------------------------------------------------------------------------------------------- reference numbers
@pytest.mark.parametrize("record", problems.GOLDEN["stieltjes"], ids=lambda r: f"n{r['n']}")
@pytest.mark.parametrize("dense", [False, True])
def test_reference_numbers(record, dense):
    c = problems.population(record["population"], record["d"])
    c = jm.covariance.Dense(c.matrix()) if dense else c
    z, g = (np.array(record[name]) @ [1, 1j] for name in ("z", "g"))
    value = stieltjes(c, record["n"], record["ridge"], z)
    np.testing.assert_allclose(value, g, rtol=1e-8)
    np.testing.assert_allclose(stieltjes(c, record["n"], record["ridge"], z.conj()), g.conj(), rtol=1e-8)


# ------------------------------------------------------------------------------------------- Marchenko and Pastur
@pytest.mark.parametrize("gamma", [0.2, 0.9, 1.0, 3.0])
@pytest.mark.parametrize("ridge", [1e-3, 0.5, 20.0])
def test_isotropic_population_is_marchenko_pastur(gamma, ridge):
    c = jm.covariance.Isotropic(np.ones(50))
    scale, ends = marchenko_pastur(gamma, ridge)
    table = found(edges(c, 50 / gamma, ridge))
    assert len(table) == 1
    np.testing.assert_allclose(table[0], ends, rtol=1e-8, atol=1e-8)
    zeta = np.linspace(*ends, 41)[1:-1]
    s = 1 / (1 - zeta) / scale - ridge  # eigenvalue of S
    low, high = (1 - np.sqrt(gamma)) ** 2, (1 + np.sqrt(gamma)) ** 2
    law = np.sqrt(np.maximum((s - low) * (high - s), 0)) / (2 * np.pi * gamma * s) / (scale * (1 - zeta) ** 2)
    np.testing.assert_allclose(density(c, 50 / gamma, ridge, zeta), law, rtol=1e-6)
    outside = [ends[0] - 1e-3, ends[1] + 1e-6]
    np.testing.assert_array_equal(density(c, 50 / gamma, ridge, outside), 0)
    mass = atoms(c, 50 / gamma, ridge).mass.sum()
    np.testing.assert_allclose(mass, max(0, 1 - 1 / gamma), atol=1e-12)
    if gamma > 1:
        np.testing.assert_allclose(atoms(c, 50 / gamma, ridge).location[0], 1 - 1 / (scale * ridge), rtol=1e-10)


@pytest.mark.parametrize(("n", "ridge"), [(40.0, 0.02), (400.0, 0.3), (3000.0, 0.01)])
def test_edges_of_a_constant_diagonal_are_those_of_the_sample_spectrum(n, ridge):
    """Another route: μ = D̄(x + λ), x a sample eigenvalue, whose support has its own real description."""
    values = np.repeat([0.05, 1.0, 10.0], [20, 15, 15])
    c = jm.covariance.Isotropic(values)
    pieces = support(jnp.asarray(values), jnp.asarray(n), 8)
    u = np.stack([pieces.left, pieces.right], axis=1)
    u = u[u[:, 1] > u[:, 0]]
    x = u - u / n * (values[None, None, :] / (values[None, None, :] - u[:, :, None])).sum(2)
    point = jm.theory.fixed_point(c, n, ridge)
    mean = (1 / (values + point.effective_ridge)).mean() / point.shrinkage
    joined = (1 - 1 / (mean * (x + ridge))).ravel()
    keep = np.ones(len(joined), bool)
    keep[1:-1] = np.repeat(np.abs(joined[2::2] - joined[1:-1:2]) > 1e-9, 2)  # a cut that is no gap
    np.testing.assert_allclose(found(edges(c, n, ridge)).ravel(), joined[keep], atol=1e-8)


# ------------------------------------------------------------------------------------------- mass
CASES = {
    "diagonal": (jm.covariance.Diagonal(np.linspace(0.2, 4, 80)), 100, 0.3),
    "few samples": (jm.covariance.Diagonal(np.linspace(0.2, 4, 80)), 30, np.linspace(2.0, 0.1, 80)),
    "two atoms": (jm.covariance.Diagonal(np.tile([0.3, 3.0], 40)), 20, 0.3),
    "constant columns": (jm.covariance.Diagonal(np.repeat([0.0, 1.0], 40)), 50, 0.3),
    "ring": (jm.covariance.ar1(80, 0.9, circulant=True), 50, 0.1),
    "power law": (jm.covariance.power_law(80, 1.0), 40, 0.01),
    "spiked": (jm.covariance.Spiked(jm.covariance.Diagonal(np.linspace(0.2, 4, 80)), [9.0]), 100, 0.3),
    "warped": (warped(80), 160, 0.1),
    "warped, few samples": (warped(80), 40, np.geomspace(1.0, 0.1, 80)),
    "ridge 0": (jm.covariance.Diagonal(np.linspace(0.2, 4, 80)), 200, 0.0),
    "interpolation": (jm.covariance.Diagonal(np.linspace(0.2, 4, 80)), 40, 0.0),
    "dense interpolation": (warped(80), 40, 0.0),
}

SLOW = {"few samples", "power law", "spiked", "warped, few samples", "dense interpolation"}  # programs of their own
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CASES]


@pytest.mark.parametrize("name", NAMES)
def test_mass_is_one_and_the_mean_eigenvalue_zero(name):
    c, n, ridge = CASES[name]
    table, points = found(edges(c, n, ridge)), atoms(c, n, ridge)
    mass, trace = float(points.mass.sum()), float(jnp.where(points.mass > 0, points.mass * points.location, 0).sum())
    below = np.asarray(cumulative(c, n, ridge, table.ravel() + np.tile([-1e-7, 1e-7], len(table)))).reshape(-1, 2)
    heavy = np.asarray(points.mass > 0)
    for ends, share in zip(table, np.diff(below, axis=1)[:, 0], strict=True):
        within = heavy & (points.location > ends[0]) & (points.location < ends[1])
        share = share - np.asarray(points.mass)[within].sum()
        zeta, weight = panel(ends)
        rho = np.asarray(density(c, n, ridge, zeta))
        assert (rho > 0).all()
        mass, trace = mass + (rho * weight).sum(), trace + (rho * weight * zeta).sum()
        np.testing.assert_allclose((rho * weight).sum(), share, atol=1e-4)  # the other route to a count
    np.testing.assert_allclose(mass, 1, atol=1e-4)
    if name != "spiked":  # the diagonal of A is 0; that of its bulk alone, to 1/d
        np.testing.assert_allclose(trace, 0, atol=1e-3)
    zeta = panel(table[0])[0][::80]
    g = stieltjes(c, n, ridge, zeta)
    np.testing.assert_allclose(density(c, n, ridge, zeta), g.imag / np.pi, rtol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_quantiles_invert_the_cumulative(name):
    c, n, ridge = CASES[name]
    p = np.linspace(0.003, 0.997, 31)
    q = np.asarray(quantiles(c, n, ridge, p))
    assert (np.diff(q) >= 0).all()
    points = jax.tree.map(np.asarray, atoms(c, n, ridge))
    free = ~(np.abs(q[:, None] - points.location[None, :]) < 1e-6).any(1)
    atol = 1e-10 if isinstance(c, jm.covariance.Diagonal | jm.covariance.Circulant) else 1e-4
    np.testing.assert_allclose(np.asarray(cumulative(c, n, ridge, q))[free], p[free], atol=atol)
    assert free.sum() >= 31 * (1 - points.mass.sum()) - 3


def test_atoms_of_two_classes():
    """n = d/4: half of the coordinates each, less n, over d; and the density leaves just that out."""
    c = jm.covariance.Diagonal(np.tile([0.3, 3.0], 40))
    points = atoms(c, 20, 0.3)
    np.testing.assert_allclose(points.mass[:3], [0.25, 0.25, 0], atol=1e-12)
    point = jm.theory.fixed_point(c, 20, 0.3)
    kappa = float(point.effective_ridge)
    np.testing.assert_allclose(points.location[:2], [1 - (s + kappa) / kappa for s in (3.0, 0.3)], rtol=1e-10)
    assert np.isnan(points.location[2:]).all()
    assert bool(points.converged)
    np.testing.assert_allclose(quantiles(c, 20, 0.3, [0.1, 0.6]), points.location[:2], rtol=1e-12)
    np.testing.assert_allclose(atoms(c, 20, 0.3, HEAVY).mass[:2], [0.25, 0.25])
    silent = jm.Scales([0.0, 2.0], [0.5, 0.5])
    np.testing.assert_allclose(atoms(c, 20, 0.3, silent).mass[:2], [0.375, 0.375])


def test_atoms_by_rank():
    d = 40
    factors = np.random.default_rng(0).standard_normal((10, d))
    low = jm.covariance.Isotropic(np.repeat([0.0, 1.0], [30, 10]))
    np.testing.assert_allclose(atoms(low, 100, 0.3).mass[0], 0.75)
    assert float(atoms(jm.covariance.Dense(factors.T @ factors), 100, 0.3).mass.sum()) == 0
    alike = jm.covariance.Dense(np.kron(np.eye(20), np.ones((2, 2))))  # rank 20, one D̄
    np.testing.assert_allclose(atoms(alike, 100, 0.3).mass[0], 0.5)
    assert float(atoms(jm.covariance.Diagonal(np.linspace(1, 2, d)), 5, 0.0).mass[0]) == 5 / d  # interpolation: at 1


# ------------------------------------------------------------------------------------------- elliptical, limits
def test_elliptical_law_is_a_fixed_point():
    """The definition at a complex point, with a plain damped iteration."""
    variances, n, ridge, z = np.linspace(0.2, 4, 60), 90, 0.3, 0.2 + 0.3j
    c = jm.covariance.Diagonal(variances)
    shares, squares = np.array([0.8, 0.2]), np.array([0.25, 4.0])
    delta = float(jm.theory.fixed_point(c, n, ridge, HEAVY).delta)
    weight = lambda delta: (shares * squares / (1 + squares * delta)).sum()  # noqa: E731
    inverse = weight(delta) * variances + ridge  # 1/D̄
    w, moving = 1 - z, 1j
    for _ in range(4000):
        moving = (moving + (variances / (weight(moving) * variances + ridge - inverse / w)).sum() / n) / 2
    g = (1 + (inverse / (weight(moving) * variances + ridge - inverse / w)).mean() / w) / w
    np.testing.assert_allclose(stieltjes(c, n, ridge, z, HEAVY), g, rtol=1e-9)
    np.testing.assert_allclose(stieltjes(jm.covariance.Dense(np.diag(variances)), n, ridge, z, HEAVY), g, rtol=1e-9)
    np.testing.assert_allclose(stieltjes(c, n, ridge, z), stieltjes(c, n, ridge, z, jm.Scales([1.0])), rtol=1e-12)


def test_far_away_and_at_one():
    c = jm.covariance.Diagonal(np.linspace(0.2, 4, 60))
    np.testing.assert_allclose(stieltjes(c, 90, 0.3, 1e6j), 1j * 1e-6, rtol=1e-4)
    near = stieltjes(c, 90, 0.3, [1.0, 1 + 1e-7])
    np.testing.assert_allclose(near[0], near[1], rtol=1e-5)
    point = jm.theory.fixed_point(c, 90, 0.3)  # tr (S + Λ)D/d, with E S = Σ
    d_bar = 1 / (point.shrinkage * c.variances + 0.3)
    np.testing.assert_allclose(near[0].real, -((c.variances + 0.3) * d_bar).mean(), rtol=1e-7)


@pytest.mark.parametrize("n", [50, 200])
def test_ridge_zero_is_the_limit_of_small_ridges(n):
    c = jm.covariance.Diagonal(np.linspace(0.2, 4, 80))
    zeta = np.linspace(-3, 0.9, 9)
    np.testing.assert_allclose(cumulative(c, n, 0.0, zeta), cumulative(c, n, 1e-9, zeta), atol=1e-6)
    np.testing.assert_allclose(found(edges(c, n, 0.0))[0], found(edges(c, n, 1e-9))[0], rtol=1e-6)


def test_no_solution_is_nan():
    c = jm.covariance.Diagonal(np.ones(20))
    for value in (
        density(c, 20, 0.0, [0.1]),
        cumulative(c, 20, 0.0, [0.1]),
        quantiles(c, 20, 0.0, [0.1]),
        stieltjes(c, 20, 0.0, 0.1 + 1j),
        edges(c, 20, 0.0),
        atoms(c, 20, 0.0).mass,
    ):
        assert np.isnan(np.asarray(value)).all()
    assert int(atoms(c, 20, 0.0).status) == 2


def test_a_spiked_population_has_the_spectrum_of_its_bulk():
    bulk = warped(30)
    u = np.ones((30, 1)) / np.sqrt(30)
    given = edges(jm.covariance.Spiked(bulk, [1e-9], u), 60, 0.3)
    np.testing.assert_allclose(given[:3], edges(bulk, 60, 0.3)[:3], atol=1e-6)
    spiked = jm.covariance.Spiked(jm.covariance.Isotropic(np.ones(400)), [4.0])
    plain = edges(jm.covariance.Isotropic(np.ones(400)), 800, 0.3)
    np.testing.assert_allclose(edges(spiked, 800, 0.3)[0], plain[0], atol=0.02)  # D̄ knows of the spike


# ------------------------------------------------------------------------------------------- derivatives
def everything(c, n, ridge):
    table = edges(c, n, ridge, intervals=2)
    parts = [
        jnp.where(jnp.isfinite(table), table, 0).ravel(),
        density(c, n, ridge, [-0.3, 0.2, 0.4]),
        cumulative(c, n, ridge, [-0.3, 0.2, 0.4]),
        quantiles(c, n, ridge, [0.2, 0.5, 0.9]),
        jnp.abs(stieltjes(c, n, ridge, np.array([0.1 + 0.2j, -3.0]))),
    ]
    return jnp.concatenate(parts)


@pytest.mark.parametrize(
    "kind", ["diagonal", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("ring", "dense"))]
)
def test_derivatives_against_finite_differences(kind):
    d = 12
    ridge = jnp.asarray(0.3) if kind == "ring" else jnp.linspace(0.2, 0.5, d)
    matrix = warped(d, 0.5, 2.0).matrix()

    def value(arguments):
        ridge, n, scale = arguments
        if kind == "diagonal":
            c = jm.covariance.Diagonal(jnp.linspace(0.5, 2.0, d) ** scale)
        elif kind == "ring":
            c = jm.covariance.ar1(d, 0.5 * scale, circulant=True)
        else:
            c = jm.covariance.Dense(matrix * (1 + scale * jnp.eye(d)) / 2)
        return everything(c, n, ridge)

    at = (ridge, jnp.asarray(40.0), jnp.asarray(1.0))
    keys = jax.random.split(jax.random.key(0), 3)
    direction = tuple(jax.random.normal(k, a.shape) * 0.1 * a for k, a in zip(keys, at, strict=True))
    h, value = 1e-4, jax.jit(value)
    steps = [value(tuple(a + s * h * v for a, v in zip(at, direction, strict=True))) for s in (1, -1, 2, -2)]
    expected = (8 * (steps[0] - steps[1]) - (steps[2] - steps[3])) / (12 * h)
    forward = jax.jit(lambda a, v: jax.jvp(value, (a,), (v,))[1])(at, direction)
    np.testing.assert_allclose(forward, expected, rtol=1e-5, atol=1e-8)
    weights = jnp.cos(jnp.arange(forward.shape[0], dtype=forward.dtype))
    gradient = jax.jit(jax.grad(lambda a: (value(a) * weights).sum()))(at)
    reverse = sum((g * v).sum() for g, v in zip(gradient, direction, strict=True))
    np.testing.assert_allclose(reverse, (forward * weights).sum(), rtol=1e-9)


@pytest.mark.slow
def test_second_derivatives():
    c = jm.covariance.Diagonal(np.linspace(0.5, 2.0, 12))
    value = lambda r: edges(c, 40.0, r, intervals=1).sum() + density(c, 40.0, r, [0.2])[0]  # noqa: E731
    slope = jax.jit(jax.grad(value))
    expected = (slope(0.3 + 1e-4) - slope(0.3 - 1e-4)) / 2e-4
    np.testing.assert_allclose(jax.jit(jax.grad(jax.grad(value)))(0.3), expected, rtol=1e-5)


# ------------------------------------------------------------------------------------------- transformations, dtypes
@pytest.mark.parametrize(
    "c",
    [
        pytest.param(jm.covariance.Diagonal(np.linspace(0.5, 2, 12)), id="diagonal"),
        pytest.param(warped(12), id="dense", marks=pytest.mark.slow),
    ],
)
def test_jit_and_vmap_agree_with_eager(c):
    ridges = jnp.array([0.1, 0.5])
    together = jax.jit(jax.vmap(lambda r: (edges(c, 20, r), atoms(c, 20, r), quantiles(c, 20, r, [0.3, 0.7]))))(ridges)
    for i, r in enumerate(ridges):
        alone = (edges(c, 20, r), atoms(c, 20, r), quantiles(c, 20, r, [0.3, 0.7]))
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-6, atol=1e-6)


def test_single_precision_stays_single():
    c = jm.covariance.Diagonal(np.linspace(0.5, 2, 30, dtype=np.float32))
    wide = jm.covariance.Diagonal(np.linspace(0.5, 2, 30))
    zeta = np.linspace(-0.5, 0.5, 5)
    for function, argument, atol in (
        (density, zeta, 1e-3),
        (cumulative, zeta, 1e-4),
        (quantiles, np.array([0.2, 0.6]), 1e-3),
        (stieltjes, zeta + 0.1j, 1e-3),
    ):
        value = function(c, 60, 0.3, argument)
        assert value.dtype in (jnp.float32, jnp.complex64)
        np.testing.assert_allclose(value, function(wide, 60, 0.3, argument), atol=atol)
    assert edges(c, 60, 0.3).dtype == jnp.float32
    np.testing.assert_allclose(edges(c, 60, 0.3)[0], edges(wide, 60, 0.3)[0], atol=1e-4)
    assert atoms(c, 6, 0.3).mass.dtype == jnp.float32


def test_shapes_follow_the_argument():
    c = jm.covariance.Diagonal(np.linspace(0.5, 2, 12))
    for function in (density, cumulative):
        assert function(c, 20, 0.3, 0.1).shape == ()
        assert function(c, 20, 0.3, np.zeros((2, 3))).shape == (2, 3)
    assert quantiles(c, 20, 0.3, np.full((2, 3), 0.5)).shape == (2, 3)
    assert stieltjes(c, 20, 0.3, [[0.1j, 2.0]]).shape == (1, 2)
    assert edges(c, 20, 0.3, intervals=3).shape == (3, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: density(c, -1, 0.3, [0.0]), "n must be positive"),
        (lambda c: density(c, 20, -0.3, [0.0]), "ridge must not be negative"),
        (lambda c: density(c, 20, 0.3, [np.nan]), "grid must be finite"),
        (lambda c: cumulative(c, 20, 0.3, ["a"]), "grid must be an array of real numbers"),
        (lambda c: stieltjes(c, 20, 0.3, [np.inf]), "z must be finite"),
        (lambda c: stieltjes(c, 20, 0.3, "a"), "z must be an array of numbers"),
        (lambda c: quantiles(c, 20, 0.3, [0.0, 0.5]), r"probabilities must lie in \(0, 1\)"),
        (lambda c: edges(c, 20, 0.3, intervals=0), "intervals must be"),
        (lambda c: edges(jm.covariance.Isotropic([1.0, 1e3, 1e6]), 500.0, 0.3, intervals=1), "at least 3"),
        (lambda c: atoms(np.eye(3), 20, 0.3), "covariance must be a population"),
        (lambda c: edges(jm.covariance.Isotropic([1.0, 2.0]), 20, [0.3, 0.4]), "realise"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(jm.covariance.Diagonal(np.linspace(0.5, 2, 12)))


# ------------------------------------------------------------------------------------------- simulation
def simulated(c, n, ridge, scales=None):
    """Eigenvalues of A from one sample, through the symmetric form."""
    x = np.asarray(c.sample(jax.random.key(5), n, scales))
    penalty = np.broadcast_to(ridge, x.shape[1])
    q = np.linalg.inv(x.T @ x / n + np.diag(penalty))
    root = np.sqrt(np.diagonal(q))
    return 1 - np.linalg.eigvalsh(q / root[:, None] / root[None, :])[::-1]


def distance(c, n, ridge, scales=None, believed=None):
    """Kolmogorov distance between the sample and the law."""
    values = simulated(c, n, ridge, scales)
    d = len(values)
    law = np.asarray(cumulative(believed or c, n, ridge, values, scales))
    return max((np.arange(1, d + 1) / d - law).max(), (law - np.arange(d) / d).max())


def test_simulation():
    d = 1000
    assert distance(jm.covariance.Diagonal(np.tile([0.3, 3.0], d // 2)), 1500, 0.3) < 0.006


def test_two_atoms_are_counted_in_a_window_and_the_law_holds_outside():
    """n = d/4: the scatter of D_k smears each atom to a relative width of order 1/√n in μ = 1/(1 - ζ)."""
    d, n, ridge = 1000, 250, 0.3
    c = jm.covariance.Diagonal(np.tile([0.3, 3.0], d // 2))
    values = np.sort(simulated(c, n, ridge))
    points = atoms(c, n, ridge)
    np.testing.assert_allclose(points.mass[:2], 0.25, atol=1e-12)
    outside, width = np.ones(d, bool), 4 / np.sqrt(n)
    for location in np.asarray(points.location[:2]):
        mu = 1 / (1 - location)
        ends = 1 - 1 / (mu * (1 + width * np.array([-1, 1])))
        inside = (values > ends[0]) & (values < ends[1])
        low, high = np.asarray(cumulative(c, n, ridge, ends))  # the atom and what of the density lies in the window
        assert high - low > 0.25 - 1e-9
        np.testing.assert_allclose(inside.mean(), high - low, atol=0.006)
        outside &= ~inside
    assert outside.any()
    law = np.asarray(cumulative(c, n, ridge, values[outside]))
    steps = (np.arange(d)[:, None] + [0, 1])[outside] / d
    assert np.abs(steps - law[:, None]).max() < 0.006


SIMULATED = {
    "dense, not stationary": (warped(1000), 1500, 0.1, None),
    "ring": (jm.covariance.ar1(1000, 0.9, circulant=True), 1500, 0.1, None),
    "ridge per coordinate": (jm.covariance.Diagonal(np.geomspace(0.1, 10, 1000)), 700, np.linspace(0.1, 2, 1000), None),
    "power law": (jm.covariance.power_law(1000, 0.7), 1500, 0.01, None),
    "heavy tails": (jm.covariance.Diagonal(np.linspace(0.2, 4, 1000)), 2000, 0.3, HEAVY),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SIMULATED)
def test_simulation_of_five_populations(name):
    c, n, ridge, scales = SIMULATED[name]
    assert distance(c.realise(jax.random.key(1)), n, ridge, scales, believed=c) < 0.006


def test_shares_of_a_bulk_with_many_gaps_do_not_hang_on_the_number_of_points():
    """More gaps than a series of few nodes resolves: points are then taken one by one."""
    d = 120
    levels = np.where(np.arange(d) < d // 4, 300.0, 0.1)
    c, ridge = jm.covariance.Isotropic(levels).realise(jax.random.key(3)), np.where(np.arange(d) % 3 == 0, 0.05, 5.0)
    few = cumulative(c, 8 * d, ridge, [-0.11455, -0.05])  # the first in a gap, with 31 eigenvalues below
    np.testing.assert_allclose(few[0], 31 / 120, rtol=1e-9)
    np.testing.assert_allclose(cumulative(c, 8 * d, ridge, np.tile([-0.11455, -0.05], 65)), np.tile(few, 65), atol=1e-5)
    points = quantiles(c, 8 * d, ridge, [0.5581, 0.6909])
    np.testing.assert_allclose(cumulative(c, 8 * d, ridge, points), [0.5581, 0.6909], atol=1e-5)


def test_an_edge_where_mass_piles_up_is_found():
    """Newton leaves its bracket there."""
    pairs = np.array([[1, 0.99, 0, 0], [0.99, 1, 0, 0], [0, 0, 5, -4.5], [0, 0, -4.5, 5]])
    c, ridge = jm.covariance.Dense(np.kron(np.eye(30), pairs)), np.where(np.arange(120) % 3 == 0, 0.05, 5.0)
    ends = edges(c, 36, ridge)
    assert np.isfinite(ends).all(axis=1).tolist() == [True, True] + [False] * (len(ends) - 2)
    around = ends[0, 1] + np.array([-1e-7, 1e-7])
    assert (np.asarray(density(c, 36, ridge, around)) > 0).tolist() == [True, False]
    slope = jax.jacfwd(lambda s: edges(c, 36, s * ridge)[0, 1])(1.0)
    ahead, behind = (edges(c, 36, s * ridge)[0, 1] for s in (1 + 1e-4, 1 - 1e-4))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-4, rtol=1e-5)
