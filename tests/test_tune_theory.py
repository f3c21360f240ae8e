"""Hyperparameters from the theory: ridges of a population, ridges that detect, learning curves read backwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jmask as jm
from jmask._types import AT_END, FLAT, NO_SOLUTION

N = 150
NOISE = jm.covariance.Diagonal(np.tile([3.0, 0.3], 100))


# ------------------------------------------------------------------------------------------- detection
@pytest.fixture(scope="module")
def tuned():
    return jm.tune.detection_ridge(NOISE, N)


def test_a_ridge_a_coordinate_reaches_the_limit_of_detection(tuned):
    """From one ridge for all, by implicit gradients: √(γ/mean σ⁻⁴), where no scalar ridge, whitening or PCA is."""
    limit = np.sqrt(200 / 150 / np.mean(np.tile([3.0, 0.3], 100) ** -2.0))
    np.testing.assert_allclose(limit, 0.4875, atol=5e-5)
    assert bool(tuned.converged)
    np.testing.assert_allclose(tuned.threshold, limit, rtol=0.01)
    assert float(tuned.threshold) >= limit - 1e-9
    np.testing.assert_allclose(tuned.limit_threshold, limit, rtol=1e-12)
    np.testing.assert_allclose(jm.theory.threshold(NOISE, N, tuned.ridge), tuned.threshold, rtol=1e-12)
    ratio = np.asarray(tuned.ridge[0] / tuned.ridge[1])
    np.testing.assert_allclose(ratio, 100, rtol=0.3)  # Λ ∝ σ⁴, about
    assert np.ptp(tuned.ridge[::2]) < 1e-6 * tuned.ridge[0]  # equals stay equal
    assert np.all(np.diff(tuned.trace) <= 0)


def test_the_rivals_do_not_reach_it():
    scalar = jm.tune.detection_ridge(NOISE, N, groups=np.zeros(200, int))
    assert bool(scalar.converged)
    assert float(scalar.threshold) > 1.0
    for ridge in np.logspace(-6, 4, 11):
        assert float(jm.theory.threshold(NOISE, N, ridge)) >= float(scalar.threshold) - 1e-9
    np.testing.assert_allclose(jm.theory.threshold(NOISE, N, 0.0, "correlation_pca"), 0.6298, atol=1e-4)
    np.testing.assert_allclose(jm.theory.threshold(NOISE, N, 0.0, "pca"), 3.32, atol=0.005)


def test_overlap_reaches_the_limit():
    found = jm.tune.detection_ridge(NOISE, N, 0.8, vector="symmetric")
    assert bool(found.converged)
    np.testing.assert_allclose(found.overlap, 0.243, rtol=0.01)
    np.testing.assert_allclose(found.limit_overlap, 0.2442, atol=5e-5)
    assert float(found.overlap) < float(found.limit_overlap)
    again = jm.theory.outliers(jm.covariance.Spiked(NOISE, [0.8]), N, found.ridge, vector="symmetric")
    np.testing.assert_allclose(again.overlap[0], found.overlap, rtol=1e-9)


def test_below_the_limit_there_is_nothing_to_see():
    found = jm.tune.detection_ridge(NOISE, N, 0.4, vector="symmetric")
    assert float(found.overlap) == float(found.limit_overlap) == 0
    assert int(found.status) == FLAT


@pytest.mark.slow
def test_simulation_sees_what_was_tuned():
    """At d = 2000 the top eigenvector overlaps with the direction as predicted; PCA and whitening see nothing."""
    d, n, strength, seeds = 2000, 1500, 0.8, 6
    variances = np.tile([3.0, 0.3], d // 2)
    noise = jm.covariance.Diagonal(variances)
    groups = np.tile([0, 1], d // 2)
    found = jm.tune.detection_ridge(noise, n, strength, groups=groups, vector="symmetric")
    overlaps = {"masked": [], "pca": [], "whitened": []}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        direction = rng.normal(size=d)
        direction /= np.linalg.norm(direction)
        x = rng.normal(size=(n, d)) * np.sqrt(variances)
        x += np.sqrt(strength) * np.outer(rng.normal(size=n), direction)
        s = x.T @ x / n
        q = np.linalg.inv(s + np.diag(np.asarray(found.ridge)))
        scale = np.sqrt(np.diag(q))
        # The largest eigenvalue of A is the smallest of D^(-1/2) Q D^(-1/2).
        vectors = {
            "masked": np.linalg.eigh(q / np.outer(scale, scale))[1][:, 0],
            "pca": np.linalg.eigh(s)[1][:, -1],
            "whitened": np.linalg.eigh(s / np.sqrt(np.outer(variances, variances)))[1][:, -1] * np.sqrt(variances),
        }
        for name, vector in vectors.items():
            overlaps[name].append((vector @ direction / np.linalg.norm(vector)) ** 2)
    mean = {name: np.mean(values) for name, values in overlaps.items()}
    error = np.std(overlaps["masked"], ddof=1) / np.sqrt(seeds)
    assert abs(mean["masked"] - float(found.overlap)) < 3 * error + 10 / d
    assert mean["pca"] < 0.01
    assert mean["whitened"] < mean["masked"] - 3 * error - 0.05


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strength": 0.0}, "strength"),
        ({"strength": np.nan}, "strength"),
        ({"vector": "up"}, "vector must be one of"),
        ({"groups": [0, 1]}, "groups must be a vector of 200"),
        ({"n": 0}, "n must be positive"),
    ],
)
def test_detection_ridge_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        jm.tune.detection_ridge(**{"bulk": NOISE, "n": N, **options})


def test_a_bulk_without_a_limit():
    """Correlated noise is tuned all the same; the limit is not known."""
    found = jm.tune.detection_ridge(jm.covariance.ar1(24, 0.5, circulant=True), 30, groups=np.zeros(24, int))
    assert np.isfinite(found.threshold)
    assert np.isnan(found.limit_threshold)


# ------------------------------------------------------------------------------------------- ridges of a population
def uneven(d):
    """One factor in noise of two variances: the noisy coordinates are worth a larger ridge."""
    noise = jm.covariance.Diagonal(np.tile([0.3, 10.0], d // 2))
    return jm.covariance.Dense(noise.matrix() + jnp.ones((d, d)))


GROUPS = np.tile([0, 1], 20)


@pytest.fixture(scope="module")
def best():
    return jm.tune.population_ridge(uneven(40), 50, groups=GROUPS)


def test_a_ridge_a_group_helps_by_the_predicted_amount(best):
    """On fresh samples, of the fit with the ridges of theory and of the ridges tuned from the data."""
    true = uneven(40)
    assert bool(best.converged)
    predicted = float(best.scalar_test - best.test)
    assert predicted > 0.005 * float(best.scalar_test)
    gains, tuned = [], []
    for seed in range(16):
        x = true.sample(jax.random.key(seed), 50)
        scalar = jm.test_error(jm.fit(x, best.scalar), true)
        gains.append(float(scalar - jm.test_error(jm.fit(x, best.ridge), true)))
        if seed >= 6:  # one is a hundred fits
            continue
        own = jm.tune.ridge_per_coordinate(x, GROUPS, folds=4)
        tuned.append(float(jm.test_error(jm.fit(x, own.scalar), true) - jm.test_error(jm.fit(x, own.ridge), true)))
    error = np.std(gains, ddof=1) / 4
    assert abs(np.mean(gains) - predicted) < 3 * error + 3 * predicted / 40
    assert np.mean(tuned) > 0.8 * predicted - 3 * np.std(tuned, ddof=1) / np.sqrt(6)


def test_fresh_rows_confirm_it(best):
    true = uneven(40)
    x, fresh = true.sample(jax.random.key(100), 50), true.sample(jax.random.key(101), 20_000)
    for ridge in (best.scalar, best.ridge):
        fit = jm.fit(x, ridge)
        rows = ((fresh - fit.predict(fresh)) ** 2).mean(1)
        np.testing.assert_allclose(rows.mean(), jm.test_error(fit, true), atol=4 * float(rows.std()) / 20_000**0.5)


@pytest.mark.parametrize("scheme", [jm.LeaveOneOut(), jm.Bernoulli(0.3), jm.Partition(np.arange(24) // 3)])
def test_population_ridge_is_least(scheme):
    c = jm.covariance.ar1(24, 0.8)
    found = jm.tune.population_ridge(c, 30, scheme)
    assert bool(found.converged)
    errors = [jm.theory.errors(c, 30, found.ridge * factor, scheme=scheme).test for factor in (1, 0.9, 1.1, 0.01, 100)]
    np.testing.assert_allclose(errors[0], found.test, rtol=1e-9)
    assert min(map(float, errors[1:])) > float(found.test)


def test_population_ridge_of_white_noise_is_infinite():
    assert int(jm.tune.population_ridge(jm.covariance.Diagonal(np.ones(20)), 30).status) == AT_END


def test_population_ridge_is_differentiable_in_n():
    c = jm.covariance.ar1(24, 0.8, circulant=True)

    def tuned(n):
        found = jm.tune.population_ridge(c, n)
        return jnp.stack([found.ridge, found.test])

    slope = jax.jacrev(tuned)(30.0)
    np.testing.assert_allclose(slope, (tuned(30.001) - tuned(29.999)) / 0.002, rtol=1e-5)


def test_population_ridge_agrees_with_leave_one_out_of_many_samples():
    c = jm.covariance.ar1(60, 0.8, circulant=True)
    wanted = jm.tune.population_ridge(c, 90)
    logs = [float(jnp.log(jm.tune.ridge(c.sample(jax.random.key(s), 90)).ridge)) for s in range(12)]
    error = np.std(logs, ddof=1) / np.sqrt(12)
    assert abs(np.mean(logs) - float(jnp.log(wanted.ridge))) < 3 * error + 3 / 60


# ------------------------------------------------------------------------------------------- samples for a target
@pytest.mark.parametrize("ridge", [None, 0.05])
@pytest.mark.parametrize("scheme", [jm.LeaveOneOut(), jm.Bernoulli(0.3)])
def test_samples_needed_reach_the_target(ridge, scheme):
    c = jm.covariance.ar1(24, 0.9, circulant=True)
    target = 0.35
    found = jm.tune.samples_needed(c, target, ridge, scheme)
    assert bool(found.converged)
    at = jm.theory.errors(c, found.n, found.ridge, scheme=scheme)
    np.testing.assert_allclose(at.test, target, rtol=1e-9)
    if ridge is None:
        np.testing.assert_allclose(jm.tune.population_ridge(c, found.n, scheme).ridge, found.ridge, rtol=1e-6)
    more = jm.theory.errors(c, 1.2 * found.n, found.ridge, scheme=scheme)
    assert float(more.test) < target


def test_samples_needed_is_differentiable_in_the_target():
    c = jm.covariance.ar1(24, 0.9, circulant=True)

    def needed(target):
        return jm.tune.samples_needed(c, target).n

    slope = jax.grad(needed)(0.3)
    np.testing.assert_allclose(slope, (needed(0.3001) - needed(0.2999)) / 2e-4, rtol=1e-4)
    assert slope < 0


def test_targets_out_of_reach():
    c = jm.covariance.ar1(24, 0.9, circulant=True)
    floor = (1 - 0.9**2) / (1 + 0.9**2)
    for target in (0.5 * floor, 2.0):
        found = jm.tune.samples_needed(c, target)
        assert int(found.status) == NO_SOLUTION
        assert np.isnan(found.n)
    for bad in (0.0, -1.0, [0.2, 0.3]):
        with pytest.raises(ValueError, match="target"):
            jm.tune.samples_needed(c, bad)
    with pytest.raises(ValueError, match="scheme"):
        jm.tune.samples_needed(c, 0.3, scheme=jm.Partition(np.arange(24) // 2))


# ------------------------------------------------------------------------------------------- the inverse problem
COUNTS = np.array([15.0, 30.0, 60.0, 120.0])


def ring(rho):
    return jm.covariance.ar1(40, rho, circulant=True)


def power(exponent):
    return jm.covariance.power_law(40, exponent)


def spiked(strength):
    ones = jnp.ones((40, 1)) / 40**0.5
    return jm.covariance.Dense(jnp.eye(40) + strength * (ones @ ones.T))


@pytest.mark.parametrize(
    ("population", "truth", "start", "bounds"),
    [
        (ring, 0.8, 0.3, jm.tune.Interval(0, 1)),
        (power, 1.3, 0.5, jm.tune.Interval(0)),
        (spiked, 8.0, 2.0, jm.tune.Interval(0)),
    ],
    ids=["ar1", "power law", "spike"],
)
def test_fit_population_recovers_the_parameter_of_predicted_curves(population, truth, start, bounds):
    test = [jm.theory.errors(population(truth), n, 0.1).test for n in COUNTS]
    found = jm.tune.fit_population(population, start, COUNTS, 0.1, test, bounds=bounds)
    assert bool(found.converged)
    np.testing.assert_allclose(found.argument, truth, rtol=1e-5)


def test_fit_population_of_measured_curves_within_its_error_bar():
    means, errors = [], []
    for n in COUNTS:
        risks = []
        for seed in range(12):
            x = ring(0.8).sample(jax.random.key(1000 * int(n) + seed), int(n))
            risks.append(float(jm.test_error(jm.fit(x, 0.1), ring(0.8))))
        means.append(np.mean(risks))
        errors.append(np.std(risks, ddof=1) / np.sqrt(12))
    found = jm.tune.fit_population(ring, 0.4, COUNTS, 0.1, means, standard_error=errors, bounds=jm.tune.Interval(0, 1))
    assert bool(found.converged)
    assert found.standard_error > 0
    assert abs(float(found.argument) - 0.8) < 3 * float(found.standard_error) + 0.2 / 40


def test_fit_population_refuses():
    with pytest.raises(ValueError, match="test must be a vector"):
        jm.tune.fit_population(ring, 0.5, COUNTS, 0.1, [0.2, 0.3])
    with pytest.raises(ValueError, match="n must be positive"):
        jm.tune.fit_population(ring, 0.5, -COUNTS, 0.1, np.ones(4))
    with pytest.raises(TypeError, match="population"):
        jm.tune.fit_population(lambda rho: rho, 0.5, COUNTS, 0.1, np.ones(4))
