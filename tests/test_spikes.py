"""Spikes against exact formulas, reference numbers, each other's structures, derivatives and simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jmask as jm

from . import problems

C, T = jm.covariance, jm.theory
ESTIMATORS = ["masked", "pca", "correlation_pca"]
QUICK = ["masked", *(pytest.param(name, marks=pytest.mark.slow) for name in ESTIMATORS[1:])]
NOISE = {
    "ones": np.ones(60),
    "linspace_0.2_4": np.linspace(0.2, 4, 60),
    "alternating_0.3_3": np.tile([0.3, 3.0], 30),
}
ALTERNATING = C.Diagonal(np.tile([0.3, 3.0], 30))  # with n = 45: γ = 4/3, the example of theory and README


def bbp(gamma, strength):
    return (1 - gamma / strength**2) / (1 + gamma / strength)


def label(record):
    return "-".join(str(record[key]) for key in ("noise", "n", "ridge", "estimator") if key in record)


@pytest.mark.parametrize("record", problems.GOLDEN["spikes"], ids=label)
def test_reference_numbers(record):
    noise, estimator = NOISE[record["noise"]], record["estimator"]
    ridge = 10 * noise**2 if isinstance(record["ridge"], str) else record["ridge"]
    bulk = C.Diagonal(noise)
    np.testing.assert_allclose(T.threshold(bulk, record["n"], ridge, estimator), record["threshold"], rtol=1e-7)
    for vector, name in (("right", "overlap"), ("left", "overlap_left"), ("symmetric", "overlap_symmetric")):
        found = T.outliers(C.Spiked(bulk, record["strength"]), record["n"], ridge, estimator, vector)
        mu = record["outlier_mu"]
        np.testing.assert_allclose(found.eigenvalue, [1 - 1 / mu if estimator == "masked" else mu], rtol=1e-10)
        np.testing.assert_allclose(found.overlap, [record[name]], rtol=1e-7)
        assert bool(found.converged)
        assert found.detectable.tolist() == [True]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("ridge", [1e-4, 0.3, 30.0])
def test_unit_noise_is_bbp_for_every_ridge(estimator, ridge):
    bulk = C.Diagonal(np.ones(60))
    for n in (20, 60, 240):
        gamma = 60 / n
        np.testing.assert_allclose(T.threshold(bulk, n, ridge, estimator), np.sqrt(gamma), rtol=1e-12)
        strengths = np.array([1000.0, 0.99, 1.01, 5.0]) * np.sqrt(gamma)
        found = T.outliers(C.Spiked(bulk, strengths), n, ridge, estimator)
        expected = np.where(strengths > np.sqrt(gamma), bbp(gamma, strengths), 0)
        np.testing.assert_allclose(found.overlap, expected, rtol=1e-10)
        assert found.detectable.tolist() == [True, False, True, True]
        if estimator == "pca":
            np.testing.assert_allclose(found.eigenvalue[3], (1 + strengths[3]) * (1 + gamma / strengths[3]), rtol=1e-12)


@pytest.mark.parametrize("estimator", QUICK)
def test_negative_spikes_leave_on_the_left(estimator):
    bulk, strengths = C.Diagonal(np.ones(60)), np.array([-0.51, -0.8, -0.49, 2.0, -0.99])
    found = T.outliers(C.Spiked(bulk, strengths), 240, 0.3, estimator)
    assert found.detectable.tolist() == [True, True, False, True, True]
    np.testing.assert_allclose(found.overlap, np.where(found.detectable, bbp(0.25, strengths), 0), rtol=1e-10)
    values = np.asarray(found.eigenvalue)
    assert values[4] < values[1] < values[0] < values[3]
    assert np.isnan(values[2])
    for n in (40, 57):  # γ > 1: an atom on the left
        above = T.outliers(C.Spiked(bulk, strengths), n, 0.3, estimator)
        assert above.detectable.tolist() == [False, False, False, True, False]
        assert int(above.status) == 0


def test_quoted_numbers():
    values = [float(T.threshold(ALTERNATING, 45, 0.3, estimator)) for estimator in ESTIMATORS]
    np.testing.assert_allclose(values, [1.71297, 3.32294, 0.62984], atol=2e-5)
    values = [float(T.threshold(ALTERNATING, 45, ridge)) for ridge in (0.001, 100.0)]
    np.testing.assert_allclose(values, [1.02, 2.93], atol=5e-3)
    noise = ALTERNATING.variances
    np.testing.assert_allclose(T.threshold(ALTERNATING, 45, noise), np.sqrt(4 / 3) / (1 / noise).mean(), rtol=1e-10)
    squared = T.threshold(ALTERNATING, 45, 10 * noise**2)
    np.testing.assert_allclose(squared, 0.48758, atol=5e-6)
    assert float(squared) > float(T.bayes(ALTERNATING, 45, 1.0).threshold)
    overlaps = [float(T.outliers(C.Spiked(ALTERNATING, 4.0), 45, 0.3, e).overlap[0]) for e in ESTIMATORS[:2]]
    np.testing.assert_allclose(overlaps, [0.533, 0.194], atol=5e-4)


def test_a_direction_on_two_coordinates_moves_their_own_weights():
    direction = np.zeros(60)
    direction[:2] = np.sqrt(0.5)
    spiked = C.Spiked(C.Diagonal(np.ones(60)), 6.0, direction)
    assert round(float(T.outliers(spiked, 240, 0.3).overlap[0]), 3) == 0.936  # and not 0.953
    np.testing.assert_allclose(T.outliers(spiked, 240, 0.3, "pca").overlap, [bbp(0.25, 6.0)], rtol=1e-10)


@pytest.mark.parametrize("estimator", QUICK)
def test_bulks_agree_where_they_are_the_same(estimator):
    ring = C.ar1(40, 0.6, circulant=True)
    bulks = (ring, C.Dense(ring.matrix()), C.Isotropic(ring.eigenvalues()))
    expected = T.outliers(C.Spiked(ring, [12.0, 9.0, 1.0]), 30, 0.2, estimator)
    for bulk in bulks:
        found = T.outliers(C.Spiked(bulk, [12.0, 9.0, 1.0]), 30, 0.2, estimator)
        np.testing.assert_allclose(found.overlap, expected.overlap, rtol=1e-9)
        np.testing.assert_allclose(found.eigenvalue, expected.eigenvalue, rtol=1e-9)


def test_dense_and_diagonal_agree_with_given_directions_and_a_ridge_per_coordinate():
    bulk, ridge = C.Diagonal(np.linspace(0.2, 4, 40)), np.linspace(0.1, 1, 40)
    spiked = C.Spiked(bulk, [9.0, 5.0]).realise(jax.random.key(0))
    found = T.outliers(spiked, 30, ridge)
    dense = T.outliers(C.Spiked(C.Dense(bulk.matrix()), [9.0, 5.0], spiked.directions), 30, ridge)
    np.testing.assert_allclose(found.overlap, dense.overlap, rtol=1e-9)
    np.testing.assert_allclose(found.eigenvalue, dense.eigenvalue, rtol=1e-9)
    swapped = T.outliers(C.Spiked(bulk, [5.0, 9.0], spiked.directions[:, ::-1]), 30, ridge)
    np.testing.assert_allclose(swapped.overlap, found.overlap[::-1], rtol=1e-10)


def halves(d):
    """Noise of 3 and of 0.3, and a direction in each."""
    low = np.repeat([0.0, 1.0], d // 2) / np.sqrt(d // 2)
    return np.repeat([3.0, 0.3], d // 2), np.stack([low[::-1], low], axis=1)


@pytest.mark.parametrize("strengths", [[6.0, 3.0], [3.5, 1.0], [1.0, 1.5], [20.0, 0.5], [-1.5, 3.0]])
def test_an_outlier_belongs_to_the_spike_that_its_eigenvector_shows(strengths):
    noise, directions = halves(60)
    together = T.outliers(C.Spiked(C.Diagonal(noise), strengths, directions), 90, 0.3, "pca")
    for j, strength in enumerate(strengths):  # without common coordinates: as if each were alone
        alone = T.outliers(C.Spiked(C.Diagonal(noise), [strength], directions[:, j]), 90, 0.3, "pca")
        assert together.detectable[j] == alone.detectable[0]
        np.testing.assert_allclose(together.eigenvalue[j], alone.eigenvalue[0], rtol=1e-10)
        np.testing.assert_allclose(together.overlap[j], alone.overlap[0], rtol=1e-8)


def test_the_weaker_of_two_spikes_may_stand_further_out():
    d, n, ridge = 400, 300, 0.3
    noise, directions = halves(d)
    spiked = C.Spiked(C.Diagonal(noise), [6.0, 3.0], directions)
    found = T.outliers(spiked, n, ridge)
    assert found.eigenvalue[1] > found.eigenvalue[0]
    eigens = [jm.predictor_eigen(jm.fit(spiked.sample(jax.random.key(seed), n), ridge)) for seed in range(6)]
    values = np.mean([eigen.values[:2] for eigen in eigens], axis=0)
    overlaps = np.mean([(eigen.right[:, :2].T @ directions) ** 2 for eigen in eigens], axis=0)
    np.testing.assert_allclose(found.eigenvalue[::-1], values, atol=0.01)
    np.testing.assert_allclose(found.overlap[::-1], [overlaps[0, 1], overlaps[1, 0]], atol=0.15)


@pytest.mark.slow
def test_given_directions_approach_delocalised_ones():
    spiked = C.Spiked(C.Diagonal(np.linspace(0.5, 2, 800)), [4.0, 4.0])
    spread, given = T.outliers(spiked, 400, 0.3), T.outliers(spiked.realise(jax.random.key(1)), 400, 0.3)
    np.testing.assert_allclose(given.overlap, spread.overlap, atol=0.01)
    np.testing.assert_allclose(given.eigenvalue, spread.eigenvalue, atol=0.01)


def test_a_localised_negative_spike_does_not_hide_a_positive_one():
    """Its coordinate has a large weight in D, which must not be taken for the edge of the bulk."""
    bulk, directions = C.Diagonal(np.ones(60)), np.zeros((60, 2))
    directions[:30, 0], directions[45, 1] = np.sqrt(1 / 30), 1
    both = T.outliers(C.Spiked(bulk, [1.5, -0.9], directions), 120, 0.3)
    alone = T.outliers(C.Spiked(bulk, [1.5], directions[:, :1]), 120, 0.3)
    assert alone.detectable.tolist() == [True]
    np.testing.assert_allclose(both.eigenvalue[0], alone.eigenvalue[0], rtol=1e-9)
    np.testing.assert_allclose(both.overlap[0], alone.overlap[0], rtol=1e-9)


def slope_and_difference(function, argument, seed=0):
    """Derivative along a random direction: by jax, and by differences."""
    rng = np.random.default_rng(seed)
    argument = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), argument)

    def direction(leaf):
        step = 0.2 * rng.standard_normal(leaf.shape) * float(jnp.abs(leaf).mean())
        return jnp.asarray(step + step.T if leaf.ndim == 2 and leaf.shape[0] == leaf.shape[1] else step)

    step = jax.tree.map(direction, argument)
    ahead, behind = (function(jax.tree.map(lambda a, b, h=h: a + h * b, argument, step)) for h in (1e-5, -1e-5))
    gradient = jax.grad(function)(argument)
    pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(step), strict=True)
    return sum(float(jnp.vdot(a, b)) for a, b in pairs), float(ahead - behind) / 2e-5


D = 20
GRADED = C.Diagonal(np.linspace(0.2, 4, D))
CORRELATED = C.Dense(C.ar1(D, 0.5).matrix() * np.sqrt(np.outer(np.linspace(0.2, 4, D), np.linspace(0.2, 4, D))))


@pytest.mark.parametrize("bulk", [GRADED, CORRELATED], ids=["diagonal", "dense"])
@pytest.mark.parametrize("ridge", [0.3, pytest.param(0.3 * np.linspace(0.5, 2, D), marks=pytest.mark.slow)])
def test_threshold_is_differentiable(bulk, ridge):
    for seed in range(3):
        found, expected = slope_and_difference(lambda all_of_it: T.threshold(*all_of_it), (bulk, 15.0, ridge), seed)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def summary(found):
    """One number that every eigenvalue and overlap moves, with weights of its own."""
    weights = jnp.arange(1.0, found.overlap.shape[0] + 1)
    return (weights * found.eigenvalue + 0.7 * weights**2 * found.overlap).sum()


@pytest.mark.parametrize("given", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("ridge", [0.3, pytest.param(0.3 * np.linspace(0.5, 2, D), marks=pytest.mark.slow)])
def test_outliers_are_differentiable(ridge, given):
    spiked = C.Spiked(GRADED, [7.0, 14.0])
    spiked = spiked.realise(jax.random.key(0)) if given else spiked
    for seed in range(3):
        found, expected = slope_and_difference(
            lambda all_of_it: summary(T.outliers(*all_of_it)), (spiked, 15.0, ridge), seed
        )
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("vector", ["right", "left", "symmetric"])
def test_outliers_of_a_dense_bulk_and_of_negative_spikes_are_differentiable(estimator, vector):
    dense = C.Spiked(CORRELATED, [14.0, 22.0]).realise(jax.random.key(0))
    mixed = C.Spiked(C.Diagonal(np.linspace(0.8, 1.2, D)), [4.0, -0.6]).realise(jax.random.key(0))
    for spiked, n in ((dense, 25.0), (mixed, 80.0)):
        assert T.outliers(spiked, n, 0.2, estimator).detectable.all()
        found, expected = slope_and_difference(lambda s, n=n: summary(T.outliers(s, n, 0.2, estimator, vector)), spiked)
        np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_three_directions_of_a_dense_bulk_come_to_an_end():
    """Batched decompositions of one program may wait for each other for ever."""
    directions = np.linalg.qr(np.random.default_rng(0).standard_normal((60, 3)))[0]
    spiked = C.Spiked(C.ar1(60, 0.5), [5.0, 3.0, 2.0], directions)

    def total(ridge):
        return T.outliers(spiked, 150, ridge).overlap.sum()

    slope = (total(0.3 + 1e-4) - total(0.3 - 1e-4)) / 2e-4
    np.testing.assert_allclose(jax.grad(total)(0.3), slope, rtol=1e-5)


def test_second_derivative():
    slope = jax.grad(lambda ridge: T.threshold(GRADED, 15.0, ridge))
    np.testing.assert_allclose(jax.grad(slope)(0.3), (slope(0.30001) - slope(0.29999)) / 2e-5, rtol=1e-6)


def test_full_optimisation_changes_nothing():
    """The other tests compile roughly. XLA on CPU (jaxlib 0.10) has compiled a derivative in this one wrongly."""
    spiked = C.Spiked(CORRELATED, [14.0, 22.0]).realise(jax.random.key(0))
    found, rough = [], jax.config.read("jax_disable_most_optimizations")
    try:
        for setting in (True, False):
            jax.config.update("jax_disable_most_optimizations", setting)
            jax.clear_caches()
            found.append(T.outliers(spiked, 25.0, 0.2, "pca"))
    finally:
        jax.config.update("jax_disable_most_optimizations", rough)
    np.testing.assert_allclose(found[1].eigenvalue, found[0].eigenvalue, rtol=1e-9)
    np.testing.assert_allclose(found[1].overlap, found[0].overlap, rtol=1e-9)


def test_below_the_threshold_overlap_and_gradient_are_zero():
    found = T.outliers(C.Spiked(GRADED, [0.1, 8.0]), 15.0, 0.3)
    assert found.detectable.tolist() == [False, True]
    assert np.isnan(found.eigenvalue[0])
    assert float(found.overlap[0]) == 0
    slopes = jax.jacrev(lambda theta: T.outliers(C.Spiked(GRADED, theta), 15.0, 0.3).overlap)(jnp.array([0.1, 8.0]))
    assert np.isfinite(slopes).all()
    assert np.abs(np.asarray(slopes)).ravel()[:3].tolist() == [0, 0, 0]


def test_transforms():
    def overlaps(strengths, n):
        return T.outliers(C.Spiked(GRADED, strengths), n, 0.3).overlap

    strengths = jnp.array([[6.0, 0.1], [9.0, -0.05]])
    grid = jax.jit(jax.vmap(overlaps))(strengths, jnp.array([15.0, 200.0]))
    for row, theta, n in zip(grid, strengths, (15.0, 200.0), strict=True):
        np.testing.assert_allclose(row, overlaps(theta, n), rtol=1e-9)
    ridges = jnp.array([0.0, 0.3])
    thresholds = jax.vmap(lambda ridge: T.threshold(GRADED, 15.0, ridge))(ridges)
    np.testing.assert_allclose(thresholds, [np.nan, T.threshold(GRADED, 15.0, 0.3)], rtol=1e-12)


def test_a_second_call_does_not_compile_again():
    T.threshold(GRADED, 15.0, 0.3)
    T.outliers(C.Spiked(GRADED, [5.0, 8.0]), 15.0, 0.3)
    with jax.no_tracing():
        T.threshold(GRADED, 16.0, 0.2)
        T.outliers(C.Spiked(GRADED, [4.0, 9.0]), 16.0, 0.2)


def test_interpolating_weights_have_no_outliers():
    found = T.outliers(C.Spiked(GRADED, [9.0]), 10, 0.0)
    assert int(found.status) == 2
    assert np.isnan(found.overlap).all()
    assert not found.detectable.any()
    assert np.isnan(T.threshold(GRADED, 10, 0.0))
    assert np.isfinite(T.threshold(GRADED, 40, 0.0))
    assert np.isfinite(T.threshold(GRADED, 10, 0.0, "pca"))


def test_single_precision_stays_single():
    spiked = C.Spiked(C.Diagonal(np.linspace(0.2, 4, D).astype(np.float32)), [8.0])
    found = T.outliers(spiked, 15, 0.3)
    assert found.overlap.dtype == found.eigenvalue.dtype == jnp.float32
    np.testing.assert_allclose(found.overlap, T.outliers(C.Spiked(GRADED, [8.0]), 15, 0.3).overlap, rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: T.threshold(GRADED, 0, 1.0), "n must be positive"),
        (lambda: T.threshold(GRADED, 5, -1.0), "ridge must not be negative"),
        (lambda: T.threshold(GRADED, 5, 1.0, "ica"), "estimator must be one of masked, pca"),
        (lambda: T.threshold(C.Spiked(GRADED, 1.0), 5, 1.0), "without spikes"),
        (lambda: T.threshold(C.Isotropic(np.ones(D)), 5, np.ones(D)), "realise"),
        (lambda: T.outliers(C.Spiked(GRADED, 1.0), 5, 1.0, vector="up"), "vector must be one of right"),
        (lambda: T.outliers(C.Spiked(GRADED, -1.5), 5, 1.0), "must exceed"),
        (lambda: T.bayes(GRADED, 5, -1.0), "strength must not be negative"),
        (lambda: T.bayes(GRADED, 0, 1.0), "n must be positive"),
        (lambda: T.bayes(C.Diagonal([0.0, 1.0]), 5, 1.0), "positive variances"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_bad_types_are_named():
    with pytest.raises(TypeError, match="Spiked"):
        T.outliers(GRADED, 5, 1.0)
    with pytest.raises(TypeError, match="population"):
        T.threshold(np.eye(3), 5, 1.0)
    with pytest.raises(TypeError, match="Diagonal"):
        T.bayes(C.ar1(4, 0.5), 5, 1.0)


# --------------------------------------------------------------------------------------------------- the limit
@pytest.mark.parametrize("record", problems.GOLDEN["bayes"], ids=lambda r: f"{r['noise']}-{r['n']}-{r['strength']:.2f}")
def test_reference_numbers_of_the_limit(record):
    found = T.bayes(C.Diagonal(NOISE[record["noise"]]), record["n"], record["strength"])
    np.testing.assert_allclose(found.threshold, record["threshold"], rtol=1e-12)
    np.testing.assert_allclose(found.overlap, record["overlap"], rtol=1e-10, atol=1e-12)


def test_the_limit_in_unit_noise_is_bbp_and_nothing_beats_it():
    strengths = np.linspace(0.5, 8, 9)
    limit = T.bayes(C.Diagonal(np.ones(60)), 45, strengths)
    np.testing.assert_allclose(limit.overlap, np.maximum(bbp(4 / 3, strengths), 0), rtol=1e-10)
    limit = T.bayes(ALTERNATING, 45, [0.55, 0.8, 1.2, 2.0])
    np.testing.assert_allclose(limit.overlap, [0.0694, 0.2442, 0.3861, 0.5262], atol=5e-5)
    noise = ALTERNATING.variances
    for vector in ("right", "left", "symmetric"):
        best = T.outliers(C.Spiked(ALTERNATING, [0.55, 0.8, 1.2, 2.0]), 45, 10 * noise**2, vector=vector)
        assert (best.overlap < limit.overlap).all()


def test_the_limit_is_differentiable():
    for function, argument in (
        (lambda theta: T.bayes(GRADED, 15.0, theta).overlap.sum(), np.array([0.1, 3.0])),
        (lambda n: T.bayes(GRADED, n, 3.0).overlap, 15.0),
        (lambda bulk: T.bayes(bulk, 15.0, 3.0).overlap, GRADED),
    ):
        found, expected = slope_and_difference(function, argument)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


# -------------------------------------------------------------------------------------------------- simulation
@pytest.mark.slow
@pytest.mark.parametrize(("bulk", "n"), [("diagonal", 450), ("diagonal", 1200), ("dense", 900)])
def test_simulation(bulk, n):
    d, seeds, ridge = 600, 8, 0.3
    noise = np.tile([0.3, 3.0], d // 2)
    matrix = C.ar1(d, 0.5).matrix() * np.sqrt(np.outer(noise, noise))
    population = C.Diagonal(noise) if bulk == "diagonal" else C.Dense(matrix)
    strengths = np.array([6.0, 12.0]) if bulk == "diagonal" else np.array([12.0, 25.0])
    spiked = C.Spiked(population, strengths).realise(jax.random.key(n))
    samples = {"masked": [], "pca": [], "correlation_pca": []}
    for seed in range(seeds):
        x = spiked.sample(jax.random.key(seed), n)
        samples["masked"].append(jm.predictor_eigen(jm.fit(x, ridge)))
        samples["pca"].append(jm.pca_eigen(x))
        samples["correlation_pca"].append(jm.correlation_pca_eigen(x))
    for estimator, eigens in samples.items():
        for vector in ("right", "left", "symmetric")[: 1 if bulk == "dense" else 3]:
            found = T.outliers(spiked, n, ridge, estimator, vector)
            assert found.detectable.all()
            values = np.array([eigen.values[1::-1] for eigen in eigens])
            columns = np.array([getattr(eigen, vector)[:, 1::-1] for eigen in eigens])
            overlaps = ((columns * spiked.directions[None]).sum(1)) ** 2
            for seen, predicted in ((values, found.eigenvalue), (overlaps, found.overlap)):
                error = seen.std(0, ddof=1) / np.sqrt(seeds)
                # deterministic equivalents are right to O(1/d)
                np.testing.assert_array_less(np.abs(seen.mean(0) - predicted), 4 * error + 5 / d * np.abs(predicted))
