"""Errors without a test set, against refitting; errors on a population, against sampling it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from sklearn.linear_model import RidgeCV

import jmask as jm

from . import brute
from .test_closed_form import as_patterns, data, schemes

NAMES = ["leave-one-out", "bernoulli", "partition", "patterns"]


@pytest.mark.parametrize("name", NAMES)
def test_train_error_is_the_mean_masked_error(name):
    x, scheme = data(15, 6), schemes(6)[name]
    result = jm.fit(x, 0.2, scheme)
    hidden, probabilities = as_patterns(scheme, 6)
    expected = brute.pattern_errors(np.asarray(result.weights), x, hidden, probabilities)
    np.testing.assert_allclose(jm.train_error(result, x, per_coordinate=True), expected, atol=1e-12)
    np.testing.assert_allclose(jm.train_error(result.weights, x, scheme), expected.mean(), atol=1e-12)
    loss = jm.masked_loss(result.weights, x, 0.2, scheme)
    np.testing.assert_allclose(loss, expected.sum() + 0.2 * (np.asarray(result.weights) ** 2).sum(), atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_population_risk_is_the_error_at_that_second_moment(name):
    x, scheme = data(15, 6), schemes(6)[name]
    weights = np.random.default_rng(0).standard_normal((6, 6))
    risk = jm.test_error(weights, x.T @ x / 15, scheme, per_coordinate=True)
    np.testing.assert_allclose(risk, jm.train_error(weights, x, scheme, per_coordinate=True), atol=1e-11)


def test_population_objects_are_welcome():
    c = jm.covariance.ar1(6, 0.7)
    fit = jm.fit(data(15, 6), 0.2)
    np.testing.assert_allclose(jm.test_error(fit, c), jm.test_error(fit, np.asarray(c.matrix())), atol=1e-14)


@pytest.mark.parametrize(("n", "d"), [(20, 6), (6, 6), (5, 9)])
@pytest.mark.parametrize("name", ["leave-one-out", "partition"])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("vector", [False, True])
def test_leave_one_out_equals_refitting(n, d, name, centred, vector):
    x, scheme = data(n, d) + 0.5, schemes(d)[name]
    ridge = np.linspace(0.1, 1.0, d) if vector else 0.3
    residual = brute.left_out(lambda rest, r: np.asarray(jm.fit(rest, r, scheme).weights), x, ridge, centred)
    computed = jm.leave_one_out_error(x, ridge, scheme, per_coordinate=True, centred=centred)
    np.testing.assert_allclose(computed, (residual**2).mean(0), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("n", "d"), [(20, 6), (5, 9)])
def test_leave_one_out_equals_ridgecv(n, d):
    x, ridge = data(n, d), 0.3
    errors = jm.leave_one_out_error(x, ridge, per_coordinate=True)
    for k in range(d):
        model = RidgeCV(alphas=[n * ridge], fit_intercept=False, store_cv_results=True)
        model.fit(np.delete(x, k, 1), x[:, k])
        np.testing.assert_allclose(errors[k], model.cv_results_.mean(), rtol=1e-10)


@pytest.mark.parametrize(("n", "d"), [(20, 6), (5, 9)])
def test_bernoulli_leave_one_out_holds_its_penalty(n, d):
    x, p = data(n, d), 0.3
    q = 1 - p
    penalty = p / q * (x**2).mean(0) + 0.2 / q**2
    expected = np.zeros(d)
    for i in range(n):
        rest = np.delete(x, i, 0)
        weights = np.asarray(jm.fit(rest, penalty * n / (n - 1)).weights) / q
        expected += np.asarray(jm.train_error(weights, x[i : i + 1], jm.Bernoulli(p), per_coordinate=True)) / n
    computed = jm.leave_one_out_error(x, 0.2, jm.Bernoulli(p), per_coordinate=True)
    np.testing.assert_allclose(computed, expected, rtol=1e-10)


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize(("n", "d"), [(5, 9), (9, 9), (20, 6), (8, 9)])
def test_leave_one_out_at_ridge_zero_is_the_limit(n, d, centred, repeated):
    x = data(n, d)
    if repeated:
        x[1] = x[0]
    limit = jm.leave_one_out_error(x, 0.0, centred=centred)
    small = jm.leave_one_out_error(x, 1e-8, centred=centred)
    np.testing.assert_allclose(limit, small, rtol=2e-3)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize(("n", "d"), [(30, 31), (31, 30)])
def test_leave_one_out_at_ridge_zero_near_square(n, d, centred):
    """Badly conditioned, where a sample without any residual must still be told from one with a small one."""
    for seed in range(4):
        x = np.random.default_rng(seed).standard_normal((n, d))
        x[1] = x[0]
        squares = np.zeros(d)
        for i in range(n):
            rest, row = np.delete(x, i, 0), x[i]
            mean = rest.mean(0) if centred else np.zeros(d)
            rest, row = rest - mean, row - mean
            for k in range(d):
                others = np.delete(np.arange(d), k)
                squares[k] += (row[k] - row[others] @ np.linalg.lstsq(rest[:, others], rest[:, k], rcond=1e-11)[0]) ** 2
        computed = jm.leave_one_out_error(x, 0.0, centred=centred, per_coordinate=True)
        np.testing.assert_allclose(computed, squares / n, rtol=1e-5)


def test_leave_one_out_refuses_patterns_by_name():
    with pytest.raises(ValueError, match="Patterns has no closed form"):
        jm.leave_one_out_error(data(9, 6), 0.1, schemes(6)["patterns"])


@pytest.mark.parametrize(("n", "d"), [(20, 6), (6, 6), (5, 9)])
@pytest.mark.parametrize("centred", [False, True])
def test_path_equals_single_fits(n, d, centred):
    x = data(n, d) + 0.3
    ridges = np.array([0.0, 0.01, 0.3, 5.0])
    path = jm.ridge_path(x, ridges, centred=centred)
    centre = x - x.mean(0) if centred else x
    for i, ridge in enumerate(ridges):
        fit = jm.fit(centre, ridge)
        np.testing.assert_allclose(path.train[i], jm.train_error(fit, centre), rtol=1e-8, atol=1e-14)
        np.testing.assert_allclose(path.leave_one_out[i], jm.leave_one_out_error(x, ridge, centred=centred), rtol=1e-8)
        if ridge or (n > d):
            s = centre.T @ centre / n
            used = np.trace(s @ np.linalg.inv(s + ridge * np.eye(d))) / n + (1 / n if centred else 0)
            gcv = path.train[i] / (1 - used) ** 2
            np.testing.assert_allclose(path.gcv[i], gcv, rtol=1e-7)
        elif n < d:
            assert np.isnan(path.gcv[i])
    assert float(path.best) == ridges[np.nanargmin(path.leave_one_out)]


def test_path_compiles_under_jit_and_vmap():
    xs = np.stack([data(12, 5, seed) for seed in range(3)])
    ridges = jnp.array([0.1, 1.0])
    batched = jax.jit(jax.vmap(jm.ridge_path, (0, None)))(xs, ridges)
    for i, x in enumerate(xs):
        np.testing.assert_allclose(batched.leave_one_out[i], jm.ridge_path(x, ridges).leave_one_out, rtol=1e-10)


@pytest.mark.parametrize("name", ["leave-one-out", "bernoulli", "partition"])
@pytest.mark.parametrize(("n", "d"), [(12, 5), (4, 6)])
def test_gradients_agree_with_finite_differences(n, d, name):
    x, scheme = jnp.asarray(data(n, d)), schemes(d)[name]
    for ridge in (jnp.asarray(0.3), jnp.linspace(0.2, 1.0, d)):
        f = lambda x, r: jm.leave_one_out_error(x, r, scheme)  # noqa: E731
        check_grads(f, (x, ridge), 1, rtol=1e-5, eps=1e-6)
    if name == "bernoulli":
        f = lambda p: jm.leave_one_out_error(x, 0.3, jm.Bernoulli(p))  # noqa: E731
        check_grads(f, (jnp.asarray(0.3),), 2, rtol=1e-4)


def test_errors_near_the_population_risk():
    """Leave-one-out estimates the risk: on many samples they agree within a few standard errors."""
    c = jm.covariance.ar1(20, 0.8)
    x = c.sample(jax.random.key(1), 4000)
    risk = float(jm.test_error(jm.fit(x, 0.1), c))
    residual = np.asarray(x - jm.fit(x, 0.1).predict(x))
    error_bar = (residual**2).mean(1).std() / np.sqrt(4000)
    assert abs(float(jm.leave_one_out_error(x, 0.1)) - risk) < 4 * error_bar


def test_nothing_plausible_from_a_failed_fit():
    failed = jax.jit(jm.fit)(data(4, 6), 0.0)
    assert np.isnan(jm.train_error(failed, data(4, 6)))


@pytest.mark.parametrize("ridges", [np.ones((2, 2)), np.array([]), np.array([-1.0]), np.array([np.nan])])
def test_bad_ridges_are_refused(ridges):
    with pytest.raises(ValueError, match="ridges must"):
        jm.ridge_path(data(9, 4), ridges)
