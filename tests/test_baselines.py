"""Baselines against scikit-learn, against their formulas in plain NumPy, and against each other at their limits."""

import builtins

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from sklearn.covariance import LedoitWolf, graphical_lasso
from sklearn.decomposition import PCA, FactorAnalysis

import jmask as jm
from jmask import baselines
from jmask.eigen import predictor_eigen

RANKED = [baselines.ppca, baselines.correlation_pca, baselines.hetero_pca, baselines.factor_analysis]
FREE = [baselines.ledoit_wolf, baselines.nonlinear_shrinkage]
TRACEABLE = [*[lambda x, f=f: f(x, 2) for f in RANKED], *FREE]
ALL = [*TRACEABLE, lambda x: baselines.graphical_lasso(x, 0.2)]
SHAPES = [(40, 8), (12, 12), (14, 20)]


def data(n, d, seed=0, factors=2):
    """Factors and noise of unequal variances, centred."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, factors)) @ rng.standard_normal((factors, d))
    x = x + rng.standard_normal((n, d)) * rng.uniform(0.5, 2, d)
    return x - x.mean(0)


def weights_of(precision):
    return np.eye(precision.shape[0]) - precision / np.diag(precision)[:, None]


def assert_consistent(result):
    """Zero diagonal, and weights that are those of the precision."""
    assert bool(result.converged)
    weights = np.asarray(result.weights)
    np.testing.assert_array_equal(np.diag(weights), 0)
    np.testing.assert_allclose(weights, weights_of(np.asarray(result.precision)), atol=1e-10)


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("function", ALL)
def test_weights_are_those_of_the_precision(function, n, d):
    result = function(data(n, d))
    assert_consistent(result)
    np.testing.assert_allclose(result.precision, result.precision.T, rtol=1e-12, atol=1e-12)
    assert np.linalg.eigvalsh(result.precision).min() > 0


def test_errors_prediction_and_eigenvalues_take_a_predictor():
    x = data(40, 8)
    result = baselines.ppca(x, 2)
    weights = np.asarray(result.weights)
    np.testing.assert_allclose(result.predict(x), x @ weights.T, atol=1e-12)
    np.testing.assert_allclose(jm.train_error(result, x), ((x - x @ weights.T) ** 2).mean(), rtol=1e-12)
    wanted = np.trace((np.eye(8) - weights) @ (np.eye(8) - weights).T) / 8
    np.testing.assert_allclose(jm.test_error(result, np.eye(8)), wanted, rtol=1e-12)
    assert result.scheme == jm.LeaveOneOut()
    values = np.sort(np.linalg.eigvals(weights).real)[::-1]
    np.testing.assert_allclose(predictor_eigen(result).values, values, atol=1e-10)


def test_from_precision_is_the_fit_of_that_precision():
    fit = jm.fit(data(40, 8), 0.3)
    np.testing.assert_allclose(baselines.from_precision(3 * fit.precision).weights, fit.weights, atol=1e-12)


# PPCA ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [0, 1, 3, 7])
def test_ppca_is_that_of_scikit_learn(rank):
    x = data(40, 8)
    x = x * np.sqrt(40 / 39)  # its covariance divides by n - 1
    peer = PCA(rank).fit(x * np.sqrt(39 / 40))
    np.testing.assert_allclose(baselines.ppca(x, rank).precision, peer.get_precision(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("rank", [0, 1, 4, 7, 10])
def test_ppca_is_its_formula(n, d, rank):
    x = data(n, d)
    if rank >= min(n - 1, d):
        return
    values, axes = np.linalg.eigh(x.T @ x / n)
    noise = values[: d - rank].mean()
    covariance = (axes * np.where(np.arange(d) >= d - rank, values, noise)) @ axes.T
    np.testing.assert_allclose(baselines.ppca(x, rank).precision @ covariance, np.eye(d), atol=1e-9)


@pytest.mark.parametrize(("n", "d"), [(40, 8), (12, 12), (14, 20), (3, 30)])
def test_ppca_of_full_rank_is_the_fit_at_ridge_zero(n, d):
    x = data(n, d)
    fit = jm.fit(x, 0.0)
    for rank in {min(n - 1, d), min(n, d), d}:
        result = baselines.ppca(x, rank)
        np.testing.assert_allclose(result.weights, fit.weights, atol=1e-9)
        np.testing.assert_allclose(result.precision, fit.precision, atol=1e-9)


def test_ppca_where_only_some_coordinates_meet_the_null_space():
    x = data(40, 6)
    x[:, 3] = x[:, 1] - 2 * x[:, 2]
    np.testing.assert_allclose(baselines.ppca(x, 6).weights, jm.fit(x, 0.0).weights, atol=1e-9)


@pytest.mark.parametrize("function", RANKED)
@pytest.mark.parametrize(("n", "d"), [SHAPES[0], SHAPES[2]])
def test_all_ranks_under_vmap(function, n, d):
    x, ranks = data(n, d), jnp.arange(4)
    together = jax.jit(jax.vmap(lambda rank: function(x, rank)))(ranks)
    for rank in range(4):
        np.testing.assert_allclose(together.weights[rank], function(x, rank).weights, atol=1e-8)


def test_all_ranks_of_ppca_share_one_decomposition():
    x = data(40, 8)
    text = str(jax.make_jaxpr(jax.vmap(lambda rank: baselines.ppca(x, rank).weights))(jnp.arange(9)))
    assert "f64[8,8]" in text
    assert "f64[9,8,8] = eigh" not in text


@pytest.mark.parametrize("function", RANKED)
def test_rank_zero_predicts_nothing(function):
    np.testing.assert_allclose(function(data(40, 8), 0).weights, 0, atol=1e-14)


def test_correlation_pca_is_ppca_of_standardised_columns():
    x = data(40, 8)
    scale = np.sqrt((x**2).mean(0))
    inner = np.asarray(baselines.ppca(x / scale, 3).weights)
    np.testing.assert_allclose(
        baselines.correlation_pca(x, 3).weights, scale[:, None] * inner / scale, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("function", [baselines.correlation_pca, baselines.factor_analysis, baselines.hetero_pca])
def test_units_of_the_columns(function):
    """Correlation PCA and factor analysis follow any change of units; HeteroPCA one common factor."""
    x = data(200, 8)
    units = np.full(8, 1e3) if function is baselines.hetero_pca else 10.0 ** np.arange(-3, 5)
    wanted = units[:, None] * np.asarray(function(x, 2).weights) / units
    np.testing.assert_allclose(function(x * units, 2).weights / wanted, np.where(np.eye(8), np.nan, 1), rtol=1e-5)


@pytest.mark.parametrize("function", ALL[:2] + ALL[4:6])
def test_rotations_of_the_samples_change_nothing(function):
    x = data(40, 8)
    flip = np.diag(np.where(np.arange(40) % 2, 1.0, -1.0))
    np.testing.assert_allclose(function(flip @ x).weights, function(x).weights, atol=1e-10)


# Iterated ones -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d", "rank"), [(200, 12, 2), (200, 20, 4), (30, 40, 2)])
def test_factor_analysis_is_that_of_scikit_learn(n, d, rank):
    x = data(n, d, factors=rank)
    peer = FactorAnalysis(rank, tol=1e-11, max_iter=20000, svd_method="lapack").fit(x).get_precision()
    result = baselines.factor_analysis(x, rank, least_noise=1e-6, rtol=1e-11, max_steps=20000)
    assert bool(result.converged)
    np.testing.assert_allclose(result.precision, peer, atol=1e-5 * np.abs(peer).max())


def test_factor_analysis_is_a_stationary_point_of_the_likelihood():
    x = data(200, 8, seed=1)
    s, inverse = x.T @ x / 200, np.asarray(baselines.factor_analysis(x, 2, rtol=1e-12).precision)
    np.testing.assert_allclose(np.diag(inverse - inverse @ s @ inverse), 0, atol=1e-9)
    np.testing.assert_allclose(np.diag(np.linalg.inv(inverse)), np.diag(s), rtol=1e-9)


def test_factor_analysis_recovers_the_population():
    rng = np.random.default_rng(3)
    loadings, noise = rng.standard_normal((10, 2)), rng.uniform(0.5, 2, 10)
    covariance = loadings @ loadings.T + np.diag(noise)
    x = rng.multivariate_normal(np.zeros(10), covariance, size=10000)
    floor = 1 / np.diag(np.linalg.inv(covariance))
    for function in (baselines.factor_analysis, baselines.hetero_pca):
        error = jm.test_error(function(x, 2), covariance, per_coordinate=True)
        np.testing.assert_allclose(error, floor, rtol=3e-2)
        assert jm.test_error(function(x, 2), covariance) < jm.test_error(baselines.ppca(x, 2), covariance)


def test_hetero_pca_is_the_published_iteration():
    x = data(300, 10, seed=2, factors=2)
    s = x.T @ x / 300
    filled = s - np.diag(np.diag(s))
    for _ in range(3000):
        left, values, right = np.linalg.svd(filled)
        low = (left[:, :2] * values[:2]) @ right[:2]
        np.fill_diagonal(filled, np.diag(low))
    assert np.linalg.eigvalsh(low).min() > -1e-9
    precision = np.linalg.inv(low + np.diag(np.diag(s - low)))
    np.testing.assert_allclose(baselines.hetero_pca(x, 2, rtol=1e-12).precision, precision, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("function", [baselines.hetero_pca, baselines.factor_analysis])
def test_noise_stays_above_its_bound(function):
    x = data(14, 20)
    result = function(x, 10, least_noise=0.05, max_steps=20000)
    assert_consistent(result)
    # A conditional variance is at least the noise of its coordinate.
    assert (1 / np.diag(result.precision) >= 0.05 * (x**2).mean(0) * (1 - 1e-9)).all()


@pytest.mark.parametrize("function", [baselines.hetero_pca, baselines.factor_analysis])
def test_a_step_limit_is_reported(function):
    result = function(data(40, 8), 2, max_steps=2)
    assert np.isfinite(result.weights).all()
    with pytest.raises(RuntimeError, match=r"Predictor did not converge: .*raise max_steps"):
        jm.check(result)


# Shrinkage ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d"), [*SHAPES, (400, 5)])
def test_ledoit_wolf_is_that_of_scikit_learn(n, d):
    x = data(n, d) + 0.5
    peer = LedoitWolf(assume_centered=True).fit(x)
    np.testing.assert_allclose(baselines.ledoit_wolf(x).precision, peer.precision_, rtol=1e-10, atol=1e-10)
    ridge = peer.shrinkage_ * (x**2).mean() / (1 - peer.shrinkage_)
    np.testing.assert_allclose(baselines.ledoit_wolf(x).weights, jm.fit(x, ridge).weights, atol=1e-10)


def test_ledoit_wolf_of_a_repeated_sample_is_singular():
    result = baselines.ledoit_wolf(np.ones((4, 1)) * np.array([[1.0, 2.0, 3.0]]))
    with pytest.raises(RuntimeError, match="singular"):
        jm.check(result)


def brute_nonlinear_shrinkage(x, count):
    """The published program, loop by loop."""
    d = x.shape[1]
    values, axes = np.linalg.eigh(x.T @ x / x.shape[0])
    m = min(d, count)
    lam, h = values[d - m :].astype(np.longdouble), count ** (-1 / 3)  # the kernel's transform cancels
    density, hilbert = np.zeros((2, m), np.longdouble)
    for i in range(m):
        for j in range(m):
            t = (lam[i] - lam[j]) / (h * lam[j])
            density[i] += 3 / 4 / np.sqrt(5) * max(1 - t**2 / 5, 0) / (h * lam[j]) / m
            log = np.log(abs((np.sqrt(5) - t) / (np.sqrt(5) + t)))
            kernel = -3 / 10 / np.pi * t + 3 / 4 / np.sqrt(5) / np.pi * (1 - t**2 / 5) * log
            hilbert[i] += kernel / (h * lam[j]) / m
    if d <= count:
        c = d / count
        shrunk = lam / ((np.pi * c * lam * density) ** 2 + (1 - c - np.pi * c * lam * hilbert) ** 2)
    else:
        log = np.log((1 + np.sqrt(5) * h) / (1 - np.sqrt(5) * h))
        at_zero = (3 / 10 / h**2 + 3 / 4 / np.sqrt(5) / h * (1 - 1 / 5 / h**2) * log) * np.mean(1 / lam) / np.pi
        null = 1 / (np.pi * (d - count) / count * at_zero)
        shrunk = np.r_[np.full(d - m, null), 1 / (np.pi**2 * lam * (density**2 + hilbert**2))]
    return (axes / shrunk.astype(float)) @ axes.T


@pytest.mark.parametrize(("n", "d", "centred"), [(40, 8, False), (16, 16, False), (14, 20, False), (15, 20, True)])
def test_nonlinear_shrinkage_is_the_published_program(n, d, centred):
    x = np.random.default_rng(1).standard_normal((n, d)) * np.linspace(0.5, 2, d)
    x = x - x.mean(0) if centred else x
    wanted = brute_nonlinear_shrinkage(x, n - 1 if centred else n)
    np.testing.assert_allclose(baselines.nonlinear_shrinkage(x).precision, wanted, atol=1e-8 * np.abs(wanted).max())


@pytest.mark.parametrize("n", [60, 200, 400])
def test_nonlinear_shrinkage_finds_white_noise(n):
    x = np.random.default_rng(1).standard_normal((n, 120))
    shrunk = np.linalg.eigvalsh(baselines.nonlinear_shrinkage(x).precision)
    assert 0.6 < shrunk.min() < 1 < shrunk.max() < 1.6
    assert jm.test_error(baselines.nonlinear_shrinkage(x), np.eye(120)) < 1.02


@pytest.mark.parametrize(("n", "d"), [(200, 60), (80, 120)])
def test_nonlinear_shrinkage_without_tuning_keeps_up_with_the_best_ridge(n, d):
    sigma = np.diag(np.repeat([1.0, 4.0, 10.0], d // 3))
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0]
    sigma = axes @ sigma @ axes.T
    x = np.random.default_rng(1).multivariate_normal(np.zeros(d), sigma, size=n)
    ridge = min(float(jm.test_error(jm.fit(x, ridge), sigma)) for ridge in np.logspace(-2, 2, 20))
    assert float(jm.test_error(baselines.nonlinear_shrinkage(x), sigma)) < 1.01 * ridge


# Graphical lasso ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_graphical_lasso_is_that_of_scikit_learn(n, d):
    x = data(n, d)
    peer = graphical_lasso(x.T @ x / n, 0.3, tol=1e-8, enet_tol=1e-12, max_iter=1000)[1]
    result = baselines.graphical_lasso(x, 0.3, atol=1e-8, max_steps=1000)
    np.testing.assert_allclose(result.precision, peer, rtol=1e-6, atol=1e-6)
    assert_consistent(result)


def test_graphical_lasso_reports_its_limits():
    result = baselines.graphical_lasso(data(14, 20), 0.05, max_steps=1)
    assert not bool(result.converged)
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(lambda x: baselines.graphical_lasso(x, 0.1))(data(40, 8))
    for alpha in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="alpha must be positive and finite, got"):
            baselines.graphical_lasso(data(40, 8), alpha)
    with pytest.raises(ValueError, match="atol must be positive and max_steps at least 1"):
        baselines.graphical_lasso(data(40, 8), 0.1, atol=0.0)


def test_graphical_lasso_names_the_missing_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"jmask\[study\]"):
        baselines.graphical_lasso(data(40, 8), 0.1)


# All of them -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_a_constant_column_is_left_out(function, n, d):
    x = data(n, d)
    x[:, 3] = 0.1
    x = x - x.mean(0)
    weights = np.asarray(function(x).weights)
    np.testing.assert_allclose(weights[3], 0, atol=1e-12)
    np.testing.assert_allclose(weights[:, 3], 0, atol=1e-12)
    assert np.isfinite(weights).all()
    assert np.abs(weights).max() > 0.01


@pytest.mark.parametrize("function", [*TRACEABLE[1:4], FREE[1], ALL[-1]])
def test_a_constant_column_changes_nothing_else(function):
    x = data(40, 8)
    wider = np.insert(x, 3, 0, axis=1)
    rest = np.delete(np.arange(9), 3)
    if function is TRACEABLE[1]:
        x, wider = x[:, :4], wider[:, :5]  # s2 is a mean over one more eigenvalue: compare at the limit instead
        rest = rest[:4]
        full, fuller = baselines.correlation_pca(x, 4).weights, baselines.correlation_pca(wider, 4).weights
    else:
        full, fuller = function(x).weights, function(wider).weights
    np.testing.assert_allclose(np.asarray(fuller)[np.ix_(rest, rest)], full, atol=1e-6)


@pytest.mark.parametrize("function", ALL)
def test_float32_stays(function):
    x = data(40, 8)
    single, double = function(x.astype(np.float32)), function(x)
    assert single.weights.dtype == single.precision.dtype == jnp.float32
    np.testing.assert_allclose(single.weights, double.weights, atol=5e-3)
    assert bool(single.converged)


@pytest.mark.parametrize("function", TRACEABLE)
def test_transforms(function):
    batch = jnp.stack([data(40, 8, seed) for seed in (1, 0, 2)])
    np.testing.assert_allclose(jax.jit(function)(batch[1]).weights, function(batch[1]).weights, atol=1e-9)
    np.testing.assert_allclose(jax.vmap(function)(batch).weights[1], function(batch[1]).weights, atol=1e-9)


@pytest.mark.parametrize("function", TRACEABLE)
def test_traced_nan_gives_nan_and_a_status(function):
    batch = jnp.stack([data(40, 8), data(40, 8, seed=1), data(40, 8)]).at[1, 5, 2].set(jnp.nan)
    result = jax.jit(jax.vmap(function))(batch)
    assert np.isnan(result.weights[1]).all()
    assert result.converged.tolist() == [True, False, True]


@pytest.mark.parametrize("function", [*TRACEABLE[:2], *FREE])
def test_gradients(function):
    x = jnp.asarray(data(14, 4))
    check_grads(lambda x: function(x).weights, (x,), order=1, modes=("fwd", "rev"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("function", TRACEABLE[2:4])
def test_forward_mode_through_the_iterations(function):
    x = jnp.asarray(data(200, 8, seed=1))
    direction = jnp.asarray(data(200, 8, seed=5))
    tangent = jax.jvp(lambda x: function(x).weights, (x,), (direction,))[1]
    step = 1e-4
    difference = (function(x + step * direction).weights - function(x - step * direction).weights) / (2 * step)
    np.testing.assert_allclose(tangent, difference, atol=1e-5)


@pytest.mark.parametrize("function", ALL)
def test_bad_data_are_refused(function):
    with pytest.raises(ValueError, match="x must be a matrix"):
        function(np.ones(3))
    with pytest.raises(ValueError, match="x must be finite"):
        function(np.full((20, 3), np.nan))
    with pytest.raises(TypeError, match="x must be an array of real numbers"):
        function(np.full((20, 3), 1j))


@pytest.mark.parametrize("function", RANKED)
def test_bad_ranks_are_refused(function):
    x = data(40, 8)
    for rank in (-1, 9):
        with pytest.raises(ValueError, match=f"rank must lie between 0 and the number of columns 8, got {rank}"):
            function(x, rank)
    for rank in (1.0, np.arange(3)):
        with pytest.raises(TypeError, match="rank must be an integer"):
            function(x, rank)


def test_bad_options_are_refused():
    x = data(40, 8)
    with pytest.raises(ValueError, match="rtol must be a positive number, got 0"):
        baselines.hetero_pca(x, 1, rtol=0.0)
    with pytest.raises(ValueError, match="max_steps must be at least 1, got 0"):
        baselines.factor_analysis(x, 1, max_steps=0)
    with pytest.raises(ValueError, match="least_noise must be a number between 0 and 1, got 1"):
        baselines.factor_analysis(x, 1, least_noise=1.0)
    with pytest.raises(ValueError, match="at least 12 row"):
        baselines.nonlinear_shrinkage(x[:11])
    with pytest.raises(ValueError, match="p must have a positive diagonal, got 0 at index 1"):
        baselines.from_precision(np.diag([1.0, 0.0]))
    with pytest.raises(ValueError, match="p must be symmetric"):
        baselines.from_precision(np.array([[1.0, 0.5], [0.0, 1.0]]))


def test_a_second_call_does_not_recompile():
    x = data(41, 7)
    baselines.ppca(x, 1)
    before = baselines.factors._ppca._cache_size()
    baselines.ppca(2 * x, 3)
    assert baselines.factors._ppca._cache_size() == before
