"""Units far apart, ridges near nothing, numbers near the ends of their range: right to the precision, or not known."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jmask as jm
from jmask import _linalg

from . import brute

PAIRS = [0, 0, 1, 1, 2, 2]


def data(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)) @ (np.eye(d) + np.triu(np.full((d, d), 0.4), 1))


def by_least_squares(groups):
    """Ridge regressions without normal equations, so that no ridge is too small."""

    def fit(x, ridge):
        n, d = x.shape
        weights = np.zeros((d, d))
        for k in range(d):
            seen = np.asarray(groups) != groups[k]
            rows = np.vstack([x[:, seen], np.sqrt(n * ridge) * np.eye(seen.sum())])
            weights[k, seen] = np.linalg.lstsq(rows, np.append(x[:, k], np.zeros(seen.sum())), rcond=None)[0]
        return weights

    return fit


@pytest.mark.parametrize("groups", [PAIRS, np.arange(6)])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("n", [4, 6, 7, 8, 20])
def test_leaving_out_a_sample_at_tiny_ridges(n, centred, groups):
    x = data(n, 6, seed=3).astype(np.float32).astype(float)
    scheme = jm.LeaveOneOut() if len(set(groups)) == 6 else jm.Partition(groups)
    for ridge in (1e-2, 1e-5, 1e-8):
        expected = (brute.left_out(by_least_squares(groups), x, ridge, centred) ** 2).mean(0)
        found = jm.leave_one_out_error(x, ridge, scheme, per_coordinate=True, centred=centred)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        if n in (4, 20) or ridge == 1e-2:  # near n = d single precision has as many digits fewer as the condition
            single = jm.leave_one_out_error(x.astype("f"), ridge, scheme, per_coordinate=True, centred=centred)
            np.testing.assert_allclose(single[~np.isnan(single)], expected[~np.isnan(single)], rtol=1e-4)
            assert ridge < 1e-5 or not np.isnan(single).any()


def test_generalised_cross_validation_where_rows_interpolate():
    x = data(4, 6)
    flat = jm.ridge_path(x, [1e-10, 1e-14, 1e-18]).gcv
    np.testing.assert_allclose(flat, flat[0], rtol=1e-6)


@pytest.mark.parametrize(("dtype", "units"), [(np.float32, 1e-4), (np.float64, 1e-10), (np.float64, 1e7)])
def test_units_do_not_decide_the_rank(dtype, units):
    x, scale = data(30, 4), np.array([1, units, 1, 1])
    for scheme in (jm.LeaveOneOut(), jm.Partition([0, 0, 1, 1]), jm.Bernoulli(0.2)):
        expected = np.asarray(jm.fit(x, 0.0, scheme).weights)
        found = np.asarray(jm.fit((x * scale).astype(dtype), 0.0, scheme).weights) * scale[None, :] / scale[:, None]
        np.testing.assert_allclose(found, expected, atol=1e4 * np.finfo(dtype).eps)
    expected = jm.leave_one_out_error(x, 0.0, per_coordinate=True)
    found = np.asarray(jm.leave_one_out_error((x * scale).astype(dtype), 0.0, per_coordinate=True)) / scale**2
    np.testing.assert_allclose(found, expected, rtol=1e4 * np.finfo(dtype).eps)


def test_a_column_twice_in_other_units():
    x = data(30, 4)
    x[:, 3] = x[:, 0] * 2.0**-23
    weights = np.asarray(jm.fit(x, 0.0).weights)
    np.testing.assert_allclose(weights[0], [0, 0, 0, 2.0**23], atol=1e-5)
    np.testing.assert_allclose(weights[3], [2.0**-23, 0, 0, 0], atol=1e-12)


def test_wide_data_in_units_far_apart():
    """One row fewer than columns: the null space is one direction v, and A_kj = -v_j/v_k."""
    x, scale = data(4, 5), np.array([1, 1e-4, 1, 1, 1e-2])
    v = np.linalg.svd(x)[2][-1]
    expected = np.where(np.eye(5, dtype=bool), 0, -v[None, :] / v[:, None])
    found = np.asarray(jm.fit(x * scale, 0.0).weights) * scale[None, :] / scale[:, None]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # Beyond, a coordinate of large units has 1e-16 of the null space: that is not known, and nothing is made up.
    assert not bool(jm.fit(x * np.array([1, 1e-8, 1, 1, 1e-4]), 0.0).converged)
    assert not bool(jm.fit((x * np.array([1e6, 1, 1, 1, 1])).astype(np.float32), 0.0).converged)


def test_derivatives_where_a_rank_is_not_full():
    x, direction = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 7)))
    for scheme in (jm.LeaveOneOut(), jm.Partition([0, 0, 1, 1, 2, 2, 2])):
        f = lambda t: (jm.fit(x + t * direction, 0.0, scheme).weights ** 2).sum()  # noqa: B023, E731
        np.testing.assert_allclose(jax.grad(f)(0.0), (f(1e-6) - f(-1e-6)) / 2e-6, rtol=1e-5)
        slope = jax.grad(f)
        np.testing.assert_allclose(jax.hessian(f)(0.0), (slope(1e-6) - slope(-1e-6)) / 2e-6, rtol=1e-4)


def test_ridges_too_small_for_the_precision_are_not_known():
    groups = jm.Partition([0, 0, 1, 1, 1])  # three at once, where two rows leave room for two
    x = data(3, 5)
    assert bool(jm.fit(x, 1e-6, groups).converged)
    assert not bool(jm.fit(x, 1e-16, groups).converged)
    spelled = jm.Patterns(np.eye(5, dtype=bool), np.ones(5))
    assert not bool(jm.fit(x[:2], 1e-17, spelled).converged)
    split = np.zeros((4, 5))
    split[:2, :2], split[2:, 2:] = [[1, 0.5], [0.2, 1]], data(2, 3)
    assert bool(jm.fit(split, 1e-8).converged)
    assert not bool(jm.fit(split, 1e-16).converged)
    assert np.isnan(jm.leave_one_out_error(split, 1e-16))


def test_the_dual_kernel_of_lapack_knows_it_too():
    x = np.zeros((150, 300))
    x[:100, :100], x[100:, 100:] = np.eye(100), np.random.default_rng(0).standard_normal((50, 200))
    assert bool(jnp.isfinite(_linalg.dual_regressions(jnp.asarray(x), jnp.asarray(1e-6))[0]).all())
    assert bool(jnp.isnan(_linalg.dual_regressions(jnp.asarray(x), jnp.asarray(1e-18))[0]).all())


def test_traced_values_outside_their_domain_are_not_known():
    x = data(9, 4)
    for value in (-0.1, np.array([0.1, -0.1, 0.1, 0.1])):
        assert not bool(jax.jit(lambda r: jm.fit(x, r).converged)(value))
    assert not bool(jax.jit(lambda p: jm.fit(x, 0.1, jm.Bernoulli(p)).converged)(-0.2))
    patterns = jax.jit(lambda w: jm.fit(x, 0.1, jm.Patterns(np.eye(4, dtype=bool), w)).converged)
    assert bool(patterns(jnp.ones(4)))
    assert not bool(patterns(jnp.array([1.0, 1, 1, -3])))
    assert np.isnan(jax.jit(lambda r: jm.leave_one_out_error(x, r))(-0.1))
    assert np.isnan(jax.jit(lambda r: jm.masked_loss(np.zeros((4, 4)), x, r))(-1.0))
    assert int(jax.jit(lambda r: jm.ridge_path(x, r).status)(jnp.array([-0.1, 0.1]))[0]) != 0
    assert np.isnan(jax.jit(lambda n: jm.theory.errors(jm.covariance.ar1(4, 0.5), n, 0.1).test)(-3.0))


def test_what_is_known_is_known_inside_jit():
    wide = data(3, 4)
    np.testing.assert_allclose(jax.jit(lambda x: jm.fit(x, 0.0).weights)(wide), jm.fit(wide, 0.0).weights, atol=1e-12)
    inside = jax.jit(lambda x: jm.ridge_path(x, [0.0, 0.1]).leave_one_out)(wide)
    np.testing.assert_allclose(inside, jm.ridge_path(wide, [0.0, 0.1]).leave_one_out, rtol=1e-9)
    for call in (lambda x: jm.fit(x, -0.1).weights, lambda x: jm.fit(x, 0.1, jm.Bernoulli(-0.5)).weights):
        with pytest.raises(ValueError, match=r"must not be negative|must lie in"):
            jax.jit(call)(wide)


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e10), (np.float32, 1e-12), (np.float64, 1e100)])
def test_ledoit_wolf_in_any_units(dtype, size):
    x = data(40, 5)
    expected = jm.baselines.ledoit_wolf(x)
    found = jm.baselines.ledoit_wolf((size * x).astype(dtype))
    assert bool(found.converged)
    np.testing.assert_allclose(found.weights, expected.weights, atol=100 * np.finfo(dtype).eps)


def test_baselines_know_a_small_column_from_an_empty_one():
    x, scale = data(40, 3), np.array([1, 1, 1e7])
    for baseline in (jm.baselines.correlation_pca, jm.baselines.factor_analysis):
        expected = np.asarray(baseline(x.astype("f"), 1).weights)
        found = np.asarray(baseline((x * scale).astype("f"), 1).weights) * scale[None, :] / scale[:, None]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    for baseline in (jm.baselines.factor_analysis, jm.baselines.hetero_pca):
        assert not bool(baseline(1e160 * x, 1).converged)
    assert not bool(jm.baselines.nonlinear_shrinkage(1e160 * x).converged)


def test_numbers_that_vanish_when_squared_give_no_fit():
    x = 1e-170 * data(20, 4)
    for scheme in (jm.LeaveOneOut(), jm.Partition([0, 0, 1, 1]), jm.Bernoulli(0.3)):
        assert not bool(jm.fit(x, 0.0, scheme).converged)


def test_filling_in_at_ridge_zero_is_the_limit():
    x = data(20, 5)
    observed = np.array([[True, False, False, True, True]])
    for scheme in (jm.LeaveOneOut(), jm.Bernoulli(0.4), jm.Partition([0, 0, 1, 1, 2])):
        limit = jm.fit(x, 0.0, scheme).impute(x[:1], observed)
        np.testing.assert_allclose(jm.fit(x, 1e-10, scheme).impute(x[:1], observed), limit, atol=1e-7)


def test_a_descent_of_numbers_out_of_range_says_so():
    result = jm.fit_gradient(1e160 * data(9, 4), 0.1)
    assert not bool(result.converged)
    assert bool(jnp.isnan(result.fit.weights).all())


def test_refusals():
    fitted = jm.fit(data(9, 4), 0.1)
    with pytest.raises(ValueError, match="m at least 1"):
        fitted.impute(np.zeros((0, 4)), np.zeros((0, 4), bool))
    with pytest.raises(TypeError, match="x must hold no masked entries"):
        jm.fit(np.ma.masked_greater(data(9, 4), 1), 0.1)
    with pytest.raises(TypeError, match="x must be in single or double precision, got dtype float16"):
        jm.fit(data(9, 4).astype(np.float16), 0.1)


def test_outliers_at_a_ridge_in_which_the_data_are_lost_are_not_known():
    spiked = jm.covariance.Spiked(jm.covariance.Diagonal(np.ones(400)), [2.0, 10.0])
    found = jm.theory.outliers(spiked, 800, 1e6)
    np.testing.assert_allclose(found.overlap, [0.7, 0.94761905], rtol=1e-6)
    for ridge in (1e10, 1e13):
        found = jm.theory.outliers(spiked, 800, ridge)
        assert not bool(found.converged)
        assert np.isnan(found.overlap).all()
        assert np.isnan(jm.theory.threshold(spiked.bulk, 800, ridge))


def test_density_that_few_nodes_do_not_resolve():
    basis = np.linalg.qr(np.random.default_rng(3).standard_normal((40, 40)))[0][:, :16]
    population = jm.covariance.Dense((basis * np.linspace(0.5, 2, 16)) @ basis.T)
    ends = np.asarray(jm.theory.edges(population, 12, 5.0))[0]
    grid = np.linspace(*ends, 140)
    together = jm.theory.density(population, 12, 5.0, grid)
    apart = [jm.theory.density(population, 12, 5.0, part) for part in np.split(grid, 2)]
    np.testing.assert_allclose(together, np.concatenate(apart), atol=1e-4 * float(together.max()))


WITHOUT_X64 = """
import jax, numpy as np, jmask as jm
x = np.random.default_rng(0).standard_normal((30, 6))
c, T = jm.covariance.ar1(20, 0.9, circulant=True), jm.theory
dense = jm.covariance.Dense(jm.covariance.ar1(12, 0.5).matrix())
spiked = jm.covariance.Spiked(jm.covariance.Diagonal(np.ones(40)), [2.0, 10.0])
found = {
    "fit": jm.fit(x, 0.1).weights, "limit": jm.fit(x, 0.0).weights, "path": jm.ridge_path(x, [0.1, 1.0]).gcv,
    "gradient": jm.fit_gradient(x, 0.1).fit.weights, "loss": jm.masked_loss(np.zeros((6, 6)), x, 0.1),
    "errors": T.errors(dense, 30, 0.1).test, "kappa": T.effective_ridge(np.ones(5), 9, 0.1),
    "descent": T.descent(c, 40, 0.1, learning_rate=0.02, steps=[0, 10, 100]).test,
    "chebyshev": T.descent(c, 40, 0.1, steps=5, method="chebyshev").test,
    "density": T.density(dense, 30, 0.1, np.linspace(-1, 1, 9)), "edges": T.edges(c, 40, 0.1)[:1],
    "outliers": T.outliers(spiked, 80, 0.1).overlap, "threshold": T.threshold(spiked.bulk, 80, 0.1),
    "ppca": T.ppca(c, 40, 2).masked_error, "floor": T.floor(c, 40).error,
    "bayes": T.bayes(spiked.bulk, 80, 3.0).overlap,
    "tune": jm.tune.ridge(x).ridge, "columns": jm.tune.ridge_per_coordinate(x).ridge,
    "minimise": jm.tune.minimise(lambda r: (r - 2.0) ** 2, 1.0).argument,
    "population": jm.tune.population_ridge(dense, 30).ridge, "stieltjes": T.stieltjes(dense, 30, 0.1, 1j).imag,
    "directions": jm.directions(x).strengths.sum(), "scales": jm.Scales.estimate(x).squares,
    "factors": jm.baselines.factor_analysis(x, 1).weights, "rate": jm.tune.hide_rate(x, 0.2).ridge,
}
bad = [name for name, value in found.items() if value.dtype != np.float32 or not np.isfinite(np.asarray(value)).all()]
assert not bad, bad
"""


def test_everything_runs_in_jax_s_own_default_precision():
    result = subprocess.run([sys.executable, "-c", WITHOUT_X64], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


def everything_spectral(c, s, dtype):
    """Answers that should be proportional to s, and those that should not move, of a population scaled by s."""
    t, one = jm.theory, np.ones((), dtype)
    small = dtype(s)
    moved = (
        t.ppca(c, 40 * one, 9 * one).masked_error,
        t.ppca(c, 40 * one, 9 * one).reconstruction_error,
        t.floor(c, 40 * one).error,
        t.best_rank(c, 130 * one).masked_error,
        t.spectral_error(c, 40 * one, lambda x: 1 / (x + dtype(0.1) * small)).error,
        *t.eigenvector_variance(c, 40 * one, np.array([0.5, 1.0], dtype) * small),
        *t.descent(
            c, 130 * one, dtype(0.1) * small, learning_rate=dtype(0.1) / small, steps=[1, 10], momentum=0.5
        ).test,
        *t.descent(c, 40 * one, dtype(0.1) * small, method="chebyshev", steps=[7]).train,
    )
    still = [t.best_rank(c, 130 * one).rank]
    if isinstance(c, jm.covariance.Diagonal):
        bayes = t.bayes(c, 40 * one, 3 * small)
        moved, still = (*moved, bayes.threshold), [*still, bayes.overlap]
    return np.array(moved, float) / s, np.array(still, float)


@pytest.mark.parametrize("kind", ["diagonal", "dense", "circulant", "spiked"])
def test_spectral_theory_in_any_unit_of_variance(kind):
    """Sixth powers of variances of 1e-10 vanish in single precision."""
    rng = np.random.default_rng(1)
    variances, root = np.exp(0.7 * rng.standard_normal(30)), rng.standard_normal((30, 90)) / 9

    def population(s, dtype):
        if kind == "diagonal":
            return jm.covariance.Diagonal((s * variances).astype(dtype))
        if kind == "dense":
            return jm.covariance.Dense((s * root @ root.T).astype(dtype))
        if kind == "circulant":
            return jm.covariance.Circulant((s * 0.6 ** np.minimum(np.arange(30), 30 - np.arange(30))).astype(dtype))
        bulk = jm.covariance.Diagonal((s * variances).astype(dtype))
        return jm.covariance.Spiked(bulk, (s * np.array([3.0, 2.0])).astype(dtype), np.eye(30, 2, dtype=dtype))

    expected = everything_spectral(population(1.0, np.float64), 1.0, np.float64)
    for s, dtype, rtol in ((1e-60, np.float64, 1e-7), (1e9, np.float32, 3e-3), (1e-10, np.float32, 3e-3)):
        found = everything_spectral(population(s, dtype), s, dtype)
        np.testing.assert_allclose(found[0], expected[0], rtol=rtol)
        np.testing.assert_allclose(found[1], expected[1], rtol=0.05 if dtype == np.float32 else rtol)


def test_leave_one_out_of_few_hidden_inputs_is_that_of_none():
    """At n < d 1 - h vanishes with the penalty: it comes from the dual."""
    x = data(10, 20)
    for ridge in (1e-12, 1e-8, 1e-3):
        exact = jm.leave_one_out_error(x, ridge)
        np.testing.assert_allclose(jm.leave_one_out_error(x, ridge, jm.Bernoulli(0.0)), exact, rtol=1e-9, atol=1e-7)
    single = jm.leave_one_out_error(np.float32(x), 1e-5, jm.Bernoulli(1e-4))
    np.testing.assert_allclose(single, jm.leave_one_out_error(x, 1e-5, jm.Bernoulli(1e-4)), rtol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_hiding_all_but_everything_keeps_its_digits(seed):
    """Of data whose best rate lies at 1: the value is that of the matched choice or better, never negative."""
    rng = np.random.default_rng(seed)
    x = 0.7 * rng.standard_normal((60, 1)) + rng.standard_normal((60, 6))
    found = jm.tune.hide_rate(x, 0.5)
    assert bool(found.converged)
    assert 0.5 < float(found.value) <= float(found.matched_value)


def test_shrinkage_and_patterns_know_no_units():
    x = data(60, 8)
    exact = jm.baselines.nonlinear_shrinkage(x).weights
    for scale in (1e-3, 1e6):
        np.testing.assert_allclose(jm.baselines.nonlinear_shrinkage(np.float32(scale * x)).weights, exact, atol=1e-4)
    alone = jm.Patterns(np.eye(8, dtype=bool), np.ones(8))
    found = jm.fit(np.float32(1e6 * x), 0.0, alone).weights
    np.testing.assert_array_equal(jnp.diagonal(found), 0)
    np.testing.assert_allclose(found, jm.fit(x, 0.0).weights, atol=1e-3)
