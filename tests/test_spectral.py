"""Masked risk of spectral predictors: reference numbers, exact algebra, simulated fits, and nothing below the floor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax import lax

import jmask as jm
from jmask.theory.held import held

from . import problems

THEORY = jm.theory
RING = jm.covariance.ar1(60, 0.9, circulant=True)
AR1 = problems.population("ar1_0.9", 60)
LINEAR = problems.population("diag_linspace_0.2_4", 60)


@pytest.mark.parametrize("record", problems.GOLDEN["spectral"], ids=lambda r: f"{r['population']}-{r['n']}-{r['rank']}")
def test_reference_numbers(record):
    c = problems.population(record["population"], record["d"])
    found = THEORY.ppca(c, record["n"], record["rank"])
    np.testing.assert_allclose(found.masked_error, record["ppca_masked"], rtol=1e-5)
    np.testing.assert_allclose(found.reconstruction_error, record["ppca_reconstruction"], rtol=1e-5)
    np.testing.assert_allclose(THEORY.floor(c, record["n"]).error, record["floor"], rtol=1e-5)
    assert bool(found.converged)


@pytest.mark.parametrize("n", [30, 60, 150, 600])
@pytest.mark.parametrize("c", [AR1, RING, LINEAR], ids=["ar1", "ring", "linear"])
def test_ridge_is_one_shrinker_of_many(c, n):
    for ridge in (1e-3, 0.3):
        found = THEORY.spectral_error(c, n, lambda x, ridge=ridge: 1 / (x + ridge))
        known = THEORY.errors(c, n, ridge)
        np.testing.assert_allclose(found.error, known.test, rtol=1e-8)
        np.testing.assert_allclose(found.per_coordinate, known.test_per_coordinate, rtol=1e-8)


def test_ridgeless_below_the_dimension_is_the_projector_on_the_null_space_and_ppca_of_full_rank():
    for c in (AR1, RING, LINEAR):
        known = THEORY.errors(c, 30, 0.0).test
        projector = THEORY.spectral_error(c, 30, lambda x: (x == 0).astype(x.dtype))
        np.testing.assert_allclose(projector.error, known, rtol=1e-9)
        for rank in (30, 40):
            np.testing.assert_allclose(THEORY.ppca(c, 30, rank).masked_error, known, rtol=1e-9)


@pytest.mark.parametrize("n", [20, 60, 150])
def test_white_population(n):
    """Everything is known: ξ = σ², R[h] = σ²(1 + CV² of h), the floor predicts zero."""
    white = jm.covariance.Isotropic(np.full(60, 2.0))
    gamma = 60 / n
    np.testing.assert_allclose(THEORY.floor(white, n).error, 2, rtol=1e-9)
    affine = THEORY.spectral_error(white, n, lambda x: 3 + x)  # mean 5, variance γ·4
    np.testing.assert_allclose(affine.error, 2 * (1 + 4 * gamma / 25), rtol=1e-9)
    best = THEORY.best_rank(white, n)
    assert float(best.rank) == 0
    np.testing.assert_allclose(best.masked_error, 2, rtol=1e-9)
    np.testing.assert_allclose(THEORY.ppca(white, n, 12).reconstruction_error, 2 * (1 - 12 / 60), rtol=1e-9)


@pytest.mark.parametrize(("ratio", "gamma"), [(0.5, 0.5), (0.5, 2.0), (0.8, 1.0)])
def test_inverse_marchenko_pastur_makes_ridge_optimal(ratio, gamma):
    d = 240
    n = d / gamma
    c = jm.covariance.inverse_marchenko_pastur(d, ratio)
    floor = THEORY.floor(c, n).error
    closed_form = 1 / (1 - d / (n + d / ratio))
    np.testing.assert_allclose(THEORY.errors(c, n, gamma / ratio).test, floor, rtol=1e-5)
    np.testing.assert_allclose(floor, closed_form, rtol=1e-5)


def test_equal_blocks_with_plenty_of_data_are_an_exact_factor_model():
    block = 0.4 * np.eye(6) + 0.9
    c = jm.covariance.Dense(np.kron(np.eye(5), block))
    n = 3e7
    conditional = 1 / np.linalg.inv(block)[0, 0]
    np.testing.assert_allclose(THEORY.ppca(c, n, 5).masked_error, conditional, rtol=1e-5)
    np.testing.assert_allclose(THEORY.ppca(c, n, 5).reconstruction_error, 0.4 * 25 / 30, rtol=1e-5)
    np.testing.assert_allclose(THEORY.floor(c, n).error, conditional, rtol=1e-5)
    best = THEORY.best_rank(c, 90)
    np.testing.assert_allclose(best.rank, 5, atol=1e-3)
    assert float(best.masked_error) < float(min(THEORY.errors(c, 90, r).test for r in (0.05, 0.2, 0.4, 0.8)))


def test_two_levels_at_a_gap():
    """All but the split is white: PPCA at the gap has ξ and h constant on either side, known by traces."""
    top, low, d, n = 20, 40, 60, 600.0
    m = np.repeat([0.1, 5.0], [low, top])
    c = jm.covariance.Isotropic(m)
    found = THEORY.ppca(c, n, top)
    values = []
    for rank in (top - 1e-6, top + 1e-6):  # the cut may stand anywhere in the gap
        values.append(float(THEORY.ppca(c, n, rank).masked_error))
    np.testing.assert_allclose(found.masked_error, values, rtol=1e-5)
    x = jnp.array([0.1, 1.0, 5.0])
    xi = THEORY.eigenvector_variance(c, n, x)
    assert np.isnan(float(xi[1]))
    assert bool(jnp.isfinite(xi[jnp.array([0, 2])]).all())
    large = THEORY.floor(c, 1e8).error
    np.testing.assert_allclose(large, d / (low / 0.1 + top / 5.0), rtol=1e-6)


ppca_at_four_ranks = jax.jit(jax.vmap(lambda rank: THEORY.ppca(AR1, 150.0, rank)))


def test_reconstruction_falls_with_the_rank_and_the_masked_error_does_not():
    ranks = jnp.array([2.0, 10.0, 25.0, 45.0])
    curve = ppca_at_four_ranks(ranks)
    assert bool(jnp.all(curve.converged))
    assert bool((jnp.diff(curve.reconstruction_error) < 0).all())
    assert float(curve.masked_error[3]) > float(curve.masked_error[2])
    for i in (0, 3):
        np.testing.assert_allclose(curve.masked_error[i], THEORY.ppca(AR1, 150, ranks[i]).masked_error, rtol=1e-7)


def test_a_traced_rank_that_makes_no_sense_is_nan():
    ranks = jnp.array([-3.0, 60.0, 70.0, jnp.nan])
    found = ppca_at_four_ranks(ranks)
    assert bool(jnp.isnan(found.masked_error).all() & jnp.isnan(found.reconstruction_error).all())
    assert not bool(found.converged.any())


def test_vmap_over_sample_sizes_is_a_loop():
    """Below, at and above d in one call, where only some lanes have an atom."""

    def both(n):
        return jnp.stack([THEORY.ppca(RING, n, 12.0).masked_error, THEORY.floor(RING, n).error])

    sizes = jnp.array([30.0, 60.0, 150.0])
    together = jax.jit(jax.vmap(both))(sizes)
    np.testing.assert_allclose(together, jnp.stack([both(n) for n in sizes]), rtol=1e-6)


@pytest.mark.parametrize("n", [30.0, 150.0])
@pytest.mark.parametrize("c", [AR1, RING, LINEAR], ids=["ar1", "ring", "linear"])
def test_best_rank_is_a_minimum(c, n):
    best = THEORY.best_rank(c, n)
    for step in (-0.5, 0.5):
        rank = float(best.rank) + step
        if rank > 0:
            assert float(THEORY.ppca(c, n, rank).masked_error) >= float(best.masked_error) * (1 - 1e-9)


@pytest.mark.parametrize("c", [AR1, RING], ids=["ar1", "ring"])
def test_no_shrinker_goes_below_the_floor(c):
    """Numerical descent over smooth shrinkers comes near the floor and stays above it; its own shrinker reaches it."""

    @jax.jit
    @jax.value_and_grad
    def risk(parameters, n):
        def shrinker(x):
            t = jnp.log(x + 0.05)
            return jnp.exp(-(parameters[:, None] * jnp.stack([jnp.ones_like(t), t, t**2, t**3])).sum(0))

        return THEORY.spectral_error(c, n, shrinker, rtol=1e-3).error

    for n in (30.0, 60.0, 150.0):
        floor = THEORY.floor(c, n)
        assert bool(floor.converged)
        back = THEORY.spectral_error(c, n, floor.shrinker, rtol=1e-4)
        np.testing.assert_allclose(back.error, floor.error, rtol=1e-5)
        found = scipy.optimize.minimize(lambda p, n=n: risk(p, n), np.array([0.0, 1.0, 0.0, 0.0]), jac=True)
        assert float(floor.error) * (1 - 1e-7) <= found.fun <= float(floor.error) * 1.02


@pytest.mark.parametrize("n", [20.0, 60.0, 150.0])
def test_floor_of_a_singular_population(n):
    """What the null space of Σ tells is told without error, the rest as if alone."""
    levels = np.repeat([0.0, 1.0], [30, 30])
    haar = THEORY.floor(jm.covariance.Isotropic(levels), n)
    assert bool(haar.converged)
    if n < 30:
        assert float(haar.error) > 0.1
        return
    just_below = THEORY.floor(RING, 60 * (1 - 1e-16 * 3)).error  # no null space, though the atom has no variance
    np.testing.assert_allclose(just_below, THEORY.floor(RING, 60).error, rtol=1e-6)
    assert float(haar.error) == 0
    assert float(haar.shrinker(0.0)) == 1
    twins = THEORY.floor(jm.covariance.Diagonal(np.r_[np.zeros(20), np.ones(40)]), n)  # one coordinate an eigenvector
    np.testing.assert_allclose(twins.error, 40 / 60, rtol=1e-6)


def test_floor_of_constant_diagonal_is_that_of_its_matrix():
    for n in (30, 150):
        dense = THEORY.floor(jm.covariance.Dense(RING.matrix()), n)
        np.testing.assert_allclose(dense.error, THEORY.floor(RING, n).error, rtol=1e-9)
        assert int(dense.steps) <= 3


OBJECTIVES = {
    "ppca": lambda c, n, t: THEORY.ppca(c, n, 5 * t),
    "floor": lambda c, n, t: THEORY.floor(c, n).error,
    "shrinker": lambda c, n, t: THEORY.spectral_error(c, n, lambda x: (x + t) ** -0.7).error,
    "best rank": lambda c, n, t: THEORY.best_rank(c, n),
}


@pytest.mark.parametrize("name", [*list(OBJECTIVES)[:3], pytest.param("best rank", marks=pytest.mark.slow)])
@pytest.mark.parametrize("ring", [pytest.param(False, marks=pytest.mark.slow), True])
def test_derivatives(name, ring):
    """In the population, n and the rank or shrinker, forward against finite differences; reverse in one direction."""
    if ring and name != "floor":
        pytest.skip("the structure matters for the floor alone")

    def f(v):
        found = OBJECTIVES[name](jm.covariance.ar1(24, v[0], circulant=ring), v[1], v[2])
        if name == "best rank":  # the reconstruction error is at no minimum there: its derivative is not known
            return found.masked_error[None]
        return jnp.stack([found.masked_error, found.reconstruction_error]) if hasattr(found, "rank") else found[None]

    both = jax.jit(lambda v: (f(v), jax.jacrev(f)(v)))
    for n in (10.0, 40.0):
        at = np.array([0.8, n, 0.86])
        values, slopes = both(at)
        h = 1e-4
        for i in range(3):
            step = h * np.eye(3)[i]
            expected = (both(at + step)[0] - both(at - step)[0]) / (2 * h)
            np.testing.assert_allclose(slopes[:, i], expected, rtol=1e-5, atol=1e-7)
        assert bool(jnp.isfinite(values).all())


@pytest.mark.slow
def test_the_reconstruction_error_at_the_best_rank_has_no_known_derivative():
    slope = jax.grad(lambda n: THEORY.best_rank(jm.covariance.ar1(24, 0.8), n).reconstruction_error)(10.0)
    assert np.isnan(float(slope))


def test_a_minimum_is_held_for_one_derivative_only():
    def least(p):  # of (x - p)² + p³
        return (held(lax.stop_gradient(p), p) - p) ** 2 + p**3

    np.testing.assert_allclose(jax.grad(least)(2.0), 12.0)
    np.testing.assert_allclose(jax.jacfwd(least)(2.0), 12.0)
    assert np.isnan([jax.grad(jax.grad(least))(2.0), jax.hessian(least)(2.0)]).all()


def test_eigenvector_variance_at_an_atom_and_outside():
    c = jm.covariance.Diagonal(np.full(60, 2.0))
    found = THEORY.eigenvector_variance(c, 20, [[0.0, 0.1], [5.0, 20.0]])
    np.testing.assert_allclose(found, [[2.0, np.nan], [2.0, np.nan]], rtol=1e-10)
    slope = jax.grad(lambda n: THEORY.eigenvector_variance(AR1, n, 1.0))(40.0)
    ahead, behind = (THEORY.eigenvector_variance(AR1, 40 + h, 1.0) for h in (1e-4, -1e-4))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-4, rtol=1e-5)


def test_single_precision_stays_single():
    c = jm.covariance.Dense(np.asarray(jm.covariance.ar1(30, 0.9).matrix(), np.float32))
    wide = jm.covariance.ar1(30, 0.9)
    for found, known in (
        (THEORY.floor(c, 40).error, THEORY.floor(wide, 40).error),
        (THEORY.ppca(c, 40, 5).masked_error, THEORY.ppca(wide, 40, 5).masked_error),
        (THEORY.spectral_error(c, 40, lambda x: 1 / (x + 0.1)).error, THEORY.errors(wide, 40, 0.1).test),
    ):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, known, rtol=1e-4)


def test_jumps_are_respected():
    def step(x):
        return jnp.where(x < 1.0, 1.0, 0.2)

    sharp = THEORY.spectral_error(AR1, 150, step, jumps=[1.0])
    assert bool(sharp.converged)
    assert int(THEORY.spectral_error(AR1, 150, step).status) == 1
    assert np.isnan(float(THEORY.spectral_error(AR1, 150, step).error))
    near = THEORY.spectral_error(AR1, 150, lambda x: 0.2 + 0.4 * (1 - jnp.tanh((x - 1.0) / 3e-4)), jumps=[1.0], rtol=1)
    np.testing.assert_allclose(sharp.error, near.error, rtol=1e-3)


def test_second_call_does_not_compile_again():
    THEORY.ppca(AR1, 40, 7)
    THEORY.floor(AR1, 40)
    with jax.no_tracing():
        THEORY.ppca(AR1, 41, 8.5)
        THEORY.floor(AR1, 41)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: THEORY.ppca(AR1, 40, 0), ValueError, r"rank must lie in \(0, 60\), got 0"),
        (lambda: THEORY.ppca(AR1, 40, 60), ValueError, r"rank must lie in \(0, 60\), got 60"),
        (lambda: THEORY.ppca(AR1, 40, np.nan), ValueError, "rank must lie"),
        (lambda: THEORY.ppca(AR1, 40, [1, 2]), ValueError, "rank must be a scalar"),
        (lambda: THEORY.ppca(AR1, -1, 2), ValueError, "n must be positive"),
        (lambda: THEORY.ppca(AR1, 40, 2, rtol=0), ValueError, "rtol must be positive, got 0"),
        (lambda: THEORY.floor(AR1, 40, rtol=np.nan), ValueError, "rtol must be positive, got nan"),
        (lambda: THEORY.floor(np.eye(3), 2), TypeError, r"Dense\(matrix\)"),
        (lambda: THEORY.spectral_error(AR1, 40, 0.1), TypeError, "shrinker must be a function"),
        (lambda: THEORY.spectral_error(AR1, 40, lambda x: 1 / x), ValueError, "shrinker must be finite .* at 0"),
        (lambda: THEORY.spectral_error(AR1, 40, lambda x: x[:3]), ValueError, "one number for each"),
        (lambda: THEORY.spectral_error(AR1, 40, lambda x: 0 * x), ValueError, "shrinker must not vanish"),
        (lambda: THEORY.spectral_error(AR1, 40, lambda x: x, jumps=[np.inf]), ValueError, "jumps must be finite"),
    ],
)
def test_bad_input_is_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


# ---------------------------------------------------------------------------------------------- simulation
D = 200
POPULATIONS = {
    "ar1": jm.covariance.ar1(D, 0.9),
    "linear": jm.covariance.Diagonal(np.linspace(0.2, 4, D)),
    "power law": jm.covariance.power_law(D, 1.0).realise(jax.random.key(1)),
    "blocks": jm.covariance.Dense(np.kron(np.eye(20), 0.4 * np.eye(10) + 0.6)),
}


def masked_risk(precision, sigma):
    return ((precision @ sigma) * precision).sum(1) / np.diag(precision) ** 2


@pytest.mark.parametrize("ratio", [0.5, 1, 2])
@pytest.mark.parametrize("name", ["ar1", *(pytest.param(p, marks=pytest.mark.slow) for p in list(POPULATIONS)[1:])])
def test_ppca_against_simulation(name, ratio):
    """3 standard errors plus 4/d of the prediction, and the spread of one Haar draw for a power law."""
    c, n, seeds = POPULATIONS[name], int(ratio * D), 4
    believed = jm.covariance.power_law(D, 1.0) if name == "power law" else c
    sigma, ranks = np.asarray(c.matrix()), [10, 40, 100]
    masked, rebuilt = np.zeros((seeds, 3)), np.zeros((seeds, 3))
    for seed in range(seeds):
        x = np.asarray(c.sample(jax.random.key(seed), n))
        values, vectors = np.linalg.eigh(x.T @ x / n)
        for j, rank in enumerate(ranks):
            rest = values[: D - rank].mean()
            h = np.where(np.arange(D) < D - rank, 1, rest / np.maximum(values, 1e-12))  # rank n: the projector
            masked[seed, j] = masked_risk((vectors * h) @ vectors.T, sigma).mean()
            tail = vectors[:, : D - rank]
            rebuilt[seed, j] = ((sigma @ tail) * tail).sum() / D
    for j, rank in enumerate(ranks):
        theory = THEORY.ppca(believed, n, rank)
        for simulated, predicted in ((masked, theory.masked_error), (rebuilt, theory.reconstruction_error)):
            allowance = 3 * simulated[:, j].std(ddof=1) / np.sqrt(seeds) + 4 / D * predicted
            assert abs(simulated[:, j].mean() - predicted) < allowance, (rank, simulated[:, j], predicted)
