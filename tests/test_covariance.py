"""Populations: structure against brute force, resolvents, derivatives, samples, and what they refuse."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jmask as jm
from jmask import covariance as cov

D, C, SHIFT = 6, 0.7, 0.4
KEY = jax.random.key(3)
rng = np.random.default_rng(0)
ROOT = rng.standard_normal((D, D))
VARIANCES = rng.random(D) + 0.5
ROW = np.array([2.0, 0.7, 0.3, 0.1, 0.3, 0.7])
DIRECTIONS = rng.standard_normal((D, 2))
DIRECTIONS /= np.linalg.norm(DIRECTIONS, axis=0)
STRENGTHS = np.array([3.0, -0.2])
CENTRES = rng.standard_normal((3, D))
VECTOR = rng.random(D) + 0.3
COLUMNS = rng.standard_normal((D, 2))

BULKS = {
    "diagonal": cov.Diagonal(VARIANCES),
    "isotropic": cov.Isotropic(VARIANCES).realise(KEY),
    "circulant": cov.Circulant(ROW),
    "dense": cov.Dense(ROOT @ ROOT.T / D + 0.5 * np.eye(D)),
}
SPIKED = {f"spiked {name}": cov.Spiked(bulk, STRENGTHS, DIRECTIONS) for name, bulk in BULKS.items()}
BUILT = {
    "ar1": cov.ar1(D, 0.6),
    "ar1 ring": cov.ar1(D, -0.4, circulant=True),
    "power law": cov.power_law(D, 1.5).realise(KEY),
    "equicorrelated": cov.equicorrelated(D, 0.3, 2.0),
    "latent classes": cov.latent_classes(CENTRES, [0.5, 0.2, 0.3], VARIANCES),
    "from samples": cov.from_samples(ROOT[:4]),
}
KNOWN = BULKS | SPIKED | BUILT
RANDOM = {
    "isotropic": cov.Isotropic(VARIANCES),
    "power law": cov.power_law(D, 1.5),
    "spiked isotropic": cov.Spiked(cov.Isotropic(VARIANCES), STRENGTHS, DIRECTIONS),
    "delocalised": cov.Spiked(cov.Diagonal(VARIANCES), STRENGTHS),
}
SHIFTS = {"scalar": np.array(SHIFT), "vector": np.linspace(0.2, 1.5, D)}
EACH = pytest.mark.parametrize("name", KNOWN)


def only_average(population):
    """Whether entries are known on average over random eigenvectors only."""
    return isinstance(getattr(population, "bulk", population), cov.Isotropic)


@jax.jit
def everything(population, c, shift):
    r = population.resolvent(c, shift)
    return {
        "diagonal": r.diagonal,
        "trace": r.trace(),
        "covariance_square": r.covariance_square(),
        "square": r.square(VECTOR),
        "square of a scalar": r.square(1.3),
        "apply": r.apply(jnp.asarray(COLUMNS)),
    }


def brute_force(sigma, c, shift):
    inverse = np.linalg.inv(c * sigma + np.diag(np.broadcast_to(shift, len(sigma))))
    return {
        "diagonal": np.diagonal(inverse),
        "trace": np.trace(sigma @ inverse),
        "covariance_square": np.diagonal(inverse @ sigma @ inverse),
        "square": np.diagonal(inverse @ np.diag(VECTOR) @ inverse),
        "square of a scalar": 1.3 * np.diagonal(inverse @ inverse),
        "apply": inverse @ COLUMNS,
    }


close = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)


# Structure ------------------------------------------------------------------------------------------------


@EACH
def test_matrix_diagonal_and_eigenvalues_agree(name):
    population = KNOWN[name]
    sigma = np.asarray(population.matrix())
    assert population.dimension == D
    assert sigma.shape == (D, D)
    close(sigma, sigma.T)
    close(np.sort(population.eigenvalues()), np.linalg.eigvalsh(sigma))
    assert population.diagonal().shape == (D,)
    close(population.diagonal().sum(), np.trace(sigma))
    if not only_average(population):
        close(population.diagonal(), np.diagonal(sigma))
        values, vectors = np.linalg.eigh(sigma)
        h, slope = (lambda s: jnp.exp(-s)), (lambda s: -jnp.exp(-s))
        eigenvalues = population.eigenvalues()
        close(population.spectral_diagonal(h(eigenvalues), slope(eigenvalues)), vectors**2 @ np.exp(-values))


def test_builders_build_what_they_say():
    lag = np.abs(np.arange(D)[:, None] - np.arange(D)[None, :])
    close(BUILT["ar1"].matrix(), 0.6**lag)
    ring = (-0.4) ** lag + (-0.4) ** (D - lag)
    close(BUILT["ar1 ring"].matrix(), ring / (1 + 0.4**D))
    close(cov.power_law(D, 1.5).eigenvalues(), np.arange(1.0, D + 1) ** -1.5)
    close(BUILT["equicorrelated"].matrix(), 2 * (0.3 + 0.7 * np.eye(D)))
    weights = np.array([0.5, 0.2, 0.3])
    between = np.cov(CENTRES.T, aweights=weights, bias=True)
    close(BUILT["latent classes"].matrix(), between + np.diag(VARIANCES))
    close(BUILT["from samples"].matrix(), ROOT[:4].T @ ROOT[:4] / 4)


@pytest.mark.parametrize("centres", [np.eye(3), [[1.0, 0, 0], [2.0, 0, 0], [4.0, 0, 0]], rng.standard_normal((6, 3))])
def test_classes_may_be_equidistant_collinear_or_many(centres):
    population = cov.latent_classes(centres)
    close(population.matrix(), np.cov(np.asarray(centres).T, bias=True) + np.eye(3))
    assert population.strengths.shape[0] == min(len(centres) - 1, 3)
    assert (np.diff(population.strengths) <= 1e-12).all()


# Resolvents -----------------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("turn", [1.0, 1.0 + 0.5j], ids=["real", "complex"])
def test_resolvent_equals_the_inverse(name, shift, turn):
    population, c, shift = KNOWN[name], np.asarray(C * turn), SHIFTS[shift] * np.conj(turn)
    got, wanted = everything(population, c, shift), brute_force(np.asarray(population.matrix()), c, shift)
    for quantity, value in got.items():
        assert jnp.iscomplexobj(value) == (turn != 1.0)
        if quantity in ("trace", "apply") or not only_average(population) or shift.ndim:
            close(value, wanted[quantity], err_msg=quantity)
        elif isinstance(population, cov.Isotropic):
            if quantity != "square":
                close(value, np.full(D, wanted[quantity].mean()), err_msg=quantity)
        elif quantity != "square":  # spikes in given directions on random eigenvectors: averages are exact
            close(value.mean(), wanted[quantity].mean(), err_msg=quantity)


def test_square_against_random_eigenvectors_is_the_mean_over_them():
    """E R_kk² = (d m² + 2 r₂)/(d + 2) over Haar eigenvectors, m and r₂ the means of r and r²; rows of R² sum to r₂."""
    got = np.asarray(cov.Isotropic(VARIANCES).resolvent(C, SHIFT).square(VECTOR))
    r = 1 / (C * VARIANCES + SHIFT)
    spread, second = r.var(), (r**2).mean()
    on = (D * r.mean() ** 2 + 2 * second) / (D + 2)
    off = (second - on) / (D - 1)
    exact = (on - off) * VECTOR + off * VECTOR.sum()
    assert np.abs(got - exact).max() < spread * np.ptp(VECTOR) / D  # the neglected order
    close(got.mean(), exact.mean())


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("name", ["diagonal", "circulant", "isotropic", "dense", "spiked diagonal", "spiked dense"])
def test_for_traces_keeps_the_trace(name, shift):
    population, shift = KNOWN[name], jnp.asarray(SHIFTS[shift])
    cheap, cheap_shift = population.for_traces(shift)
    for c in (0.3, 1.9):
        close(cheap.resolvent(c, cheap_shift).trace(), population.resolvent(c, shift).trace())


@pytest.mark.parametrize("bulk", ["diagonal", "circulant", "dense", "isotropic"])
def test_delocalised_spikes_are_the_average_over_directions(bulk):
    """R = R₀ - Σ_j cθ_j/(1 + cθ_j tr R₀/d) R₀u_ju_jᵀR₀ with u_ju_jᵀ = I/d, and its derivatives."""
    bulk = cov.Isotropic(VARIANCES) if bulk == "isotropic" else BULKS[bulk]
    shift = SHIFTS["scalar"] if bulk.constant_diagonal else SHIFTS["vector"]
    r = cov.Spiked(bulk, STRENGTHS).resolvent(C, shift)
    sigma = np.asarray(bulk.realise(KEY).matrix())

    def diagonal(c, shift):
        inverse = np.linalg.inv(c * sigma + np.diag(np.broadcast_to(shift, D)))
        gain = (c * STRENGTHS / (1 + c * STRENGTHS * np.trace(inverse) / D)).sum() / D
        value = np.diagonal(inverse) - gain * np.diagonal(inverse @ inverse)
        return np.full(D, value.mean()) if bulk.constant_diagonal else value

    def log_det(c):
        matrix = c * sigma + np.diag(np.broadcast_to(shift, D))
        mean = np.trace(np.linalg.inv(matrix)) / D
        return np.linalg.slogdet(matrix)[1] + np.log(1 + c * STRENGTHS * mean).sum()

    def slope(f, x, step=1e-5):
        return (f(x + step) - f(x - step)) / (2 * step)

    close(r.diagonal, diagonal(C, shift))
    close(r.trace(), slope(log_det, C), rtol=1e-8)
    close(r.covariance_square(), -slope(lambda c: diagonal(c, shift), C), rtol=1e-8)
    vector = VECTOR.mean() if bulk.constant_diagonal else VECTOR
    close(r.square(VECTOR), -slope(lambda e: diagonal(C, shift + e * vector), 0.0), rtol=1e-8)
    with pytest.raises(ValueError, match="realise"):
        r.apply(jnp.asarray(COLUMNS))


def test_delocalised_spikes_approach_realised_ones():
    d = 200
    population = cov.Spiked(cov.Diagonal(np.linspace(0.5, 2.0, d)), [8.0, 4.0])
    mean = population.resolvent(C, SHIFT).trace()
    without = population.bulk.resolvent(C, SHIFT).trace()
    drawn = [population.realise(key).resolvent(C, SHIFT).trace() for key in jax.random.split(KEY, 8)]
    assert abs(np.mean(drawn) - mean) < 0.05 * abs(mean - without)


# Derivatives ----------------------------------------------------------------------------------------------


def symmetric(matrix):
    return (matrix + matrix.T) / 2


def unit(columns):
    return columns / jnp.sqrt((columns**2).sum(0))[None, :]


VECTORS = np.asarray(BULKS["isotropic"].vectors)
DENSE = np.asarray(BULKS["dense"].matrix())
MODELS = {
    "variances": (cov.Diagonal, VARIANCES),
    "eigenvalues": (cov.Isotropic, VARIANCES),
    "eigenvalues, realised": (lambda s: cov.Isotropic(s, VECTORS), VARIANCES),
    "first row": (lambda row: cov.Circulant((row + jnp.roll(row[::-1], 1)) / 2), ROW),
    "matrix": (lambda m: cov.Dense(symmetric(m)), DENSE),
    "matrix at identity": (lambda m: cov.Dense(symmetric(m)), np.eye(D)),
    "strengths": (lambda p: cov.Spiked(cov.Diagonal(p[0]), p[1], unit(p[2])), (VARIANCES, STRENGTHS, DIRECTIONS)),
    "strengths, delocalised": (lambda p: cov.Spiked(cov.Dense(symmetric(p[0])), p[1]), (DENSE, STRENGTHS)),
}
BUILDERS = {
    "rho": (lambda rho: cov.ar1(D, rho), np.array(0.3)),
    "rho at zero": (lambda rho: cov.ar1(D, rho), np.array(0.0)),
    "rho, ring": (lambda rho: cov.ar1(D, rho, circulant=True), np.array(0.3)),
    "exponent": (lambda a: cov.power_law(D, a), np.array(1.2)),
    "correlation": (lambda p: cov.equicorrelated(D, *p), (np.array(0.3), np.array(1.4))),
    "centres": (lambda p: cov.latent_classes(*p), (CENTRES, np.array([0.5, 0.2, 0.3]), VARIANCES)),
    "equidistant centres": (lambda p: cov.latent_classes(p), np.eye(3, D)),
}
RESOLVENTS = [*((name, "scalar") for name in MODELS), *((name, "vector") for name in ("first row", "strengths"))]


def derivatives_agree(function, point):
    """One random direction: forward = reverse, both = finite differences, and the same for the gradient."""
    noise = np.random.default_rng(5)
    tangent = jax.tree.map(lambda leaf: noise.standard_normal(np.shape(leaf)), point)

    def along(gradient):
        return sum(jax.tree.leaves(jax.tree.map(lambda a, b: (a * b).sum(), gradient, tangent)))

    @jax.jit
    def derived(step):
        moved = jax.tree.map(lambda p, t: p + step * t, point, tangent)
        value, forward = jax.jvp(function, (moved,), (tangent,))
        gradient, curvature = jax.jvp(jax.grad(function), (moved,), (tangent,))
        return value, forward, along(gradient), along(curvature)

    step = 1e-5
    ahead, here, behind = (derived(e) for e in (step, 0.0, -step))
    np.testing.assert_allclose(here[1], here[2], rtol=1e-10)
    np.testing.assert_allclose(here[2], (ahead[0] - behind[0]) / (2 * step), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(here[3], (ahead[1] - behind[1]) / (2 * step), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("name", "shift"), RESOLVENTS)
def test_resolvent_derivatives(name, shift):
    build, parameters = MODELS[name]
    weights = np.linspace(1.0, 2.0, D)

    def function(point):
        r = build(point["parameters"]).resolvent(point["c"], point["shift"])
        return (weights * (r.diagonal + 0.3 * r.covariance_square() + 0.2 * r.square(1.0))).sum() + r.trace()

    derivatives_agree(function, {"parameters": parameters, "c": np.array(C), "shift": SHIFTS[shift]})


@pytest.mark.parametrize("name", BUILDERS)
def test_builder_derivatives(name):
    build, parameters = BUILDERS[name]

    def function(parameters):
        population = build(parameters)
        entries = population.eigenvalues() if name == "exponent" else population.matrix().ravel()
        return (jnp.sin(entries) * jnp.arange(1.0, entries.size + 1)).sum()

    derivatives_agree(function, parameters)


@pytest.mark.parametrize("name", ["matrix", "strengths", "first row"])
def test_eigenvalue_derivatives(name):
    build, parameters = MODELS[name]

    def function(parameters):
        population = build(parameters)
        eigenvalues = population.eigenvalues()
        diagonal = population.spectral_diagonal(jnp.exp(-eigenvalues), -jnp.exp(-eigenvalues))
        return (diagonal * VARIANCES).sum() + (eigenvalues**3).sum()

    derivatives_agree(function, parameters)


def test_coinciding_eigenvalues_differentiate_once():
    def function(matrix):
        population = cov.Dense(symmetric(matrix))
        eigenvalues = population.eigenvalues()
        diagonal = population.spectral_diagonal(jnp.exp(-eigenvalues), -jnp.exp(-eigenvalues))
        return (VARIANCES * diagonal).sum() + (eigenvalues**3).sum()

    gradient, second = jax.jit(lambda m, t: jax.jvp(jax.grad(function), (m,), (t,)))(np.eye(D), DENSE)
    close(gradient, np.diag(3 - np.exp(-1.0) * VARIANCES))
    assert jnp.isnan(second).any()  # not known there: never a plausible number


# Samples --------------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=2)
def draw(population, key, n, scales=None):
    return population.sample(key, n, scales)


LAW = jm.Scales([0.25, 4.0], [0.8, 0.2])
WITH_SCALES = [*((name, None) for name in KNOWN), *((name, LAW) for name in ("circulant", "dense", "spiked diagonal"))]


@pytest.mark.parametrize(("name", "scales"), WITH_SCALES)
def test_samples_have_the_covariance(name, scales):
    population, n = KNOWN[name], 20_000
    x = np.asarray(draw(population, KEY, n, scales))
    products = x[:, :, None] * x[:, None, :]
    error = products.std(0) / np.sqrt(n)
    assert (np.abs(products.mean(0) - population.matrix()) < 5 * error + 1e-12).all()
    assert (np.abs(x.mean(0)) < 5 * x.std(0) / np.sqrt(n) + 1e-12).all()


def test_scales_multiply_rows():
    """Fourth moments tell a Gaussian row (3) from one with scales (3 E τ⁴)."""
    x = np.asarray(draw(KNOWN["diagonal"], KEY, 20_000, LAW))
    kurtosis = (x**4).mean(0) / (x**2).mean(0) ** 2
    np.testing.assert_allclose(kurtosis, 3 * (0.8 / 16 + 0.2 * 16), rtol=0.15)


@pytest.mark.parametrize("n", [6, 40])
@pytest.mark.parametrize("lanes", [1, 3])
def test_a_ring_is_sampled_and_fitted_in_one_program(n, lanes):
    """XLA would keep the samples by columns for the sake of the fit, which its Fourier transform cannot do."""
    ring = cov.ar1(24, 0.5, circulant=True)

    def one(key):
        x = ring.sample(key, n)
        return jm.fit(x, 0.1).weights, x

    keys = jax.random.split(KEY, lanes)
    weights, x = jax.jit(jax.vmap(one))(keys)
    close(x[0], ring.sample(keys[0], n), rtol=1e-10)
    close(weights[0], jm.fit(x[0], 0.1).weights, rtol=1e-9)


def test_derivatives_on_a_ring_with_two_spikes_are_those_of_one_program():
    """JAX may misread what it holds by rows between the two programs of an eager derivative."""
    directions = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 2)))[0]

    def error(ridge):
        ring = cov.ar1(6, 0.6, circulant=True)
        return jm.theory.errors(cov.Spiked(ring, [3.0, 1.5], directions), 9.0, ridge).test

    slope = (error(0.3 + 1e-5) - error(0.3 - 1e-5)) / 2e-5
    for derivative in (jax.grad(error), jax.jit(jax.grad(error)), jax.grad(jax.jit(error)), jax.jacfwd(error)):
        close(derivative(0.3), slope, rtol=1e-7)
    close(jax.vmap(jax.grad(error))(jnp.array([0.3, 0.4]))[0], slope, rtol=1e-7)


@pytest.mark.parametrize("name", RANDOM)
def test_realise_is_reproducible(name):
    population = RANDOM[name]
    first, again, other = (population.realise(jax.random.key(s)).matrix() for s in (0, 0, 1))
    close(first, again, rtol=0, atol=0)
    assert np.abs(first - other).max() > 1e-2
    assert np.linalg.eigvalsh(first).min() > -1e-10
    close(np.trace(first), population.diagonal().sum())


@pytest.mark.parametrize("name", KNOWN)
def test_realise_leaves_what_is_fixed(name):
    close(KNOWN[name].realise(KEY).matrix(), KNOWN[name].matrix(), rtol=0, atol=0)


@pytest.mark.parametrize("name", RANDOM)
def test_unrealised_populations_refuse_and_name_realise(name):
    for call in (lambda p: p.matrix(), lambda p: p.sample(KEY, 5)):
        with pytest.raises(ValueError, match="realise"):
            call(RANDOM[name])


def test_unrealised_isotropic_refuses_a_vector_shift():
    for call in (lambda p, shift: p.resolvent(C, shift), lambda p, shift: p.for_traces(shift)):
        with pytest.raises(ValueError, match="scalar ridge"):
            call(cov.Isotropic(VARIANCES), SHIFTS["vector"])


# Transformations ------------------------------------------------------------------------------------------


@EACH
def test_pytree_round_trip(name):
    leaves, structure = jax.tree.flatten(KNOWN[name])
    rebuilt = jax.tree.unflatten(structure, leaves)
    assert type(rebuilt) is type(KNOWN[name])
    close(rebuilt.matrix(), KNOWN[name].matrix(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["variances", "first row", "matrix", "strengths"])
def test_vmap_over_parameters(name):
    build, parameters = MODELS[name]
    batch = jax.tree.map(lambda p: jnp.stack([jnp.asarray(p), 1.1 * p]), parameters)
    populations = jax.vmap(build)(batch)
    traces = jax.jit(jax.vmap(lambda p: p.resolvent(C, SHIFT).trace()))(populations)
    for i in range(2):
        one = build(jax.tree.map(lambda p, i=i: p[i], batch))
        close(traces[i], one.resolvent(C, SHIFT).trace())


def test_known_constants_are_checked_inside_jit_too():
    variances, strengths, directions = jnp.asarray(VARIANCES), jnp.asarray(STRENGTHS), jnp.asarray(DIRECTIONS)

    @jax.jit
    def trace(c):
        return cov.Spiked(cov.Diagonal(variances), strengths, directions).resolvent(c, SHIFT).trace()

    close(trace(C), SPIKED["spiked diagonal"].resolvent(C, SHIFT).trace())


SINGLE = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), {k: KNOWN[k] for k in (*BULKS, "spiked circulant")})


@pytest.mark.parametrize("name", SINGLE)
def test_single_precision_stays(name):
    @jax.jit
    def parts(population):
        entries = population.matrix(), population.diagonal(), population.eigenvalues()
        return entries, population.sample(KEY, 3), population.sample(KEY, 3, LAW)

    population = SINGLE[name]
    real = everything(population, np.float32(C), np.float32(SHIFT))
    assert {leaf.dtype for leaf in jax.tree.leaves([parts(population), real])} == {jnp.dtype(jnp.float32)}
    r = population.resolvent(C * (1 + 0.5j), SHIFT)
    assert r.diagonal.dtype == jnp.complex64


def test_builders_keep_single_precision():
    half = np.float32(0.5)
    centres = CENTRES.astype(np.float32)
    built = [cov.ar1(D, half), cov.ar1(D, half, True), cov.power_law(D, half), cov.equicorrelated(D, half)]
    for population in [*built, cov.latent_classes(centres), cov.from_samples(centres)]:
        assert population.diagonal().dtype == jnp.float32


# Refusals -------------------------------------------------------------------------------------------------

NAN = [1.0, np.nan, 2.0]
THREE = cov.Diagonal([1.0, 2.0, 3.0])
REFUSED = {
    "variances shape": (lambda: cov.Diagonal(np.eye(3)), r"variances must be a vector .* got shape \(3, 3\)"),
    "variances sign": (lambda: cov.Diagonal([1.0, -2.0]), "variances must not be negative, got -2"),
    "variances NaN": (lambda: cov.Diagonal(NAN), r"variances must be finite, got nan at index \(1,\)"),
    "eigenvalues shape": (lambda: cov.Isotropic([1.0]), r"eigenvalues must be a vector .* got shape \(1,\)"),
    "eigenvalues sign": (lambda: cov.Isotropic([1.0, -1.0]), "eigenvalues must not be negative"),
    "eigenvalues NaN": (lambda: cov.Isotropic(NAN), "eigenvalues must be finite"),
    "vectors shape": (lambda: cov.Isotropic([1.0, 2.0], np.eye(3)), r"vectors must have shape \(2, 2\)"),
    "vectors basis": (lambda: cov.Isotropic([1.0, 2.0], 2 * np.eye(2)), "vectors must have orthonormal columns"),
    "row shape": (lambda: cov.Circulant(np.eye(2)), r"first_row must be a vector .* got shape \(2, 2\)"),
    "row symmetry": (lambda: cov.Circulant([2.0, 1.0, 0.5]), "first_row must be symmetric"),
    "row sign": (lambda: cov.Circulant([1.0, 2.0, 2.0]), "no negative Fourier coefficient, got -1"),
    "row NaN": (lambda: cov.Circulant(NAN), "first_row must be finite"),
    "matrix shape": (lambda: cov.Dense(np.ones((2, 3))), r"matrix must be a square matrix, got shape \(2, 3\)"),
    "matrix size": (lambda: cov.Dense([[1.0]]), "matrix must be at least 2"),
    "matrix symmetry": (lambda: cov.Dense([[1.0, 0.5], [0.1, 1.0]]), "matrix must be symmetric, .* by 0.4"),
    "matrix sign": (lambda: cov.Dense([[1.0, 2.0], [2.0, 1.0]]), "matrix must be positive semi-definite, .* -1"),
    "matrix NaN": (lambda: cov.Dense([[1.0, np.nan], [np.nan, 1.0]]), "matrix must be finite"),
    "strengths shape": (lambda: cov.Spiked(THREE, np.eye(2)), r"strengths must be a vector \(r,\)"),
    "strengths NaN": (lambda: cov.Spiked(THREE, [np.nan]), "strengths must be finite"),
    "strengths sign": (lambda: cov.Spiked(THREE, [-2.0], [1.0, 0, 0]), "strengths must leave .* eigenvalue of -1"),
    "directions shape": (lambda: cov.Spiked(THREE, [1.0], np.eye(3)), r"directions must have shape \(3, 1\)"),
    "directions norm": (lambda: cov.Spiked(THREE, [1.0], [1.0, 1.0, 0]), "directions must have unit columns"),
    "directions NaN": (lambda: cov.Spiked(THREE, [1.0], NAN), "directions must be finite"),
    "rho range": (lambda: cov.ar1(3, 1.0), r"rho must lie in \(-1, 1\), got 1"),
    "rho shape": (lambda: cov.ar1(3, [0.1, 0.2]), r"rho must be a scalar, got shape \(2,\)"),
    "rho NaN": (lambda: cov.ar1(3, np.nan), "rho must be finite"),
    "d": (lambda: cov.ar1(1, 0.5), "d must be a whole number of at least 2, got 1"),
    "d fraction": (lambda: cov.power_law(2.5, 1.0), "d must be a whole number of at least 2, got 2.5"),
    "d of one": (lambda: cov.equicorrelated(1, 0.5), "d must be a whole number of at least 2, got 1"),
    "exponent": (lambda: cov.power_law(3, np.inf), "exponent must be finite"),
    "correlation": (lambda: cov.equicorrelated(3, -0.6), "correlation must lie in .* got -0.6"),
    "variance": (lambda: cov.equicorrelated(3, 0.5, -1.0), "variance must not be negative, got -1"),
    "centres shape": (lambda: cov.latent_classes([1.0, 2.0]), r"centres must have shape \(k, d\)"),
    "centres NaN": (lambda: cov.latent_classes([NAN, NAN]), "centres must be finite"),
    "classes": (lambda: cov.latent_classes(np.eye(3), [0.5, 0.5]), r"probabilities must have shape \(3,\)"),
    "probabilities": (lambda: cov.latent_classes(np.eye(2), [1.5, -0.5]), "probabilities must not be negative"),
    "noise sign": (lambda: cov.latent_classes(np.eye(2), noise=-1.0), "noise must not be negative, got -1"),
    "noise shape": (lambda: cov.latent_classes(np.eye(2), noise=[1.0] * 3), r"noise must be .* got shape \(3,\)"),
    "samples": (lambda: cov.from_samples([1.0, 2.0]), r"x must be a matrix \(n, d\)"),
    "samples NaN": (lambda: cov.from_samples([NAN, NAN]), "x must be finite"),
    "n": (lambda: THREE.sample(KEY, 2.5), "n must be a positive whole number of samples, got 2.5"),
    "n zero": (lambda: THREE.sample(KEY, 0), "n must be a positive whole number of samples, got 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_wrong_types_are_refused():
    with pytest.raises(TypeError, match=r"bulk must be a population of jmask\.covariance, got ndarray"):
        cov.Spiked(np.eye(3), [1.0])
    with pytest.raises(TypeError, match="variances must be an array of real numbers, got dtype complex128"):
        cov.Diagonal([1.0, 2j])


@pytest.mark.parametrize(
    ("build", "inside", "outside"),
    [
        (lambda v: cov.Diagonal(jnp.stack([v, 1.0, 2.0])), 1.0, -1.0),
        (lambda v: cov.Isotropic(jnp.stack([v, 1.0, 2.0])), 1.0, -1.0),
        (lambda v: cov.Circulant(jnp.stack([1.0, v, v])), 0.5, 1.5),
        (lambda v: cov.ar1(4, v), 0.5, 1.5),
        (lambda v: cov.ar1(4, v, circulant=True), 0.5, -1.5),
        (lambda v: cov.equicorrelated(4, v), 0.5, -0.5),
        (lambda v: cov.equicorrelated(4, 0.5, v), 0.5, -0.5),
        (lambda v: cov.blocks(4, 2, v), 0.5, 1.5),
        (lambda v: cov.factors(4, 0.5, v), 0.5, -1.5),
        (lambda v: cov.latent_classes(jnp.eye(3), noise=v), 0.5, -0.5),
    ],
)
def test_a_traced_population_outside_its_domain_is_not_known(build, inside, outside):
    errors = jax.jit(jax.vmap(lambda v: jm.theory.errors(build(v), 7.0, 0.3).test))
    assert np.isnan(errors(jnp.array([inside, outside]))).tolist() == [False, True]
    with pytest.raises(ValueError, match="must"):
        build(jnp.array(outside))
