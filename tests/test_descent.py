"""Descent reaches the closed form, by the default and by other optimisers, and says so when it does not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jmask as jm

from .test_closed_form import data, schemes

NAMES = ["leave-one-out", "bernoulli", "partition", "patterns"]
LBFGS = optax.lbfgs()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("n", "d", "ridge"), [(40, 7, 0.3), (5, 9, np.linspace(0.1, 2.0, 9)), (5, 9, 0.0)])
def test_default_reaches_the_closed_form(n, d, ridge, name):
    result = jm.fit_gradient(data(n, d), ridge, schemes(d)[name], compare=True)
    assert bool(result.converged)
    assert float(result.distance) < 1e-6
    exact = jm.fit(data(n, d), ridge, schemes(d)[name]).weights
    np.testing.assert_allclose(result.fit.weights, exact, atol=1e-6 * np.abs(exact).max())
    hidden = ~np.asarray(jm.masking.can_see(schemes(d)[name], d))
    assert not np.asarray(result.fit.weights)[hidden].any()


@pytest.mark.parametrize("name", NAMES[:3])
@pytest.mark.parametrize("n", [5, 60])
def test_default_needs_at_most_twice_the_products_of_the_best_tuned(n, name):
    """One product an update; the best tuned is Chebyshev's semi-iteration on the exact range of curvatures."""
    d, ridge = 9, 0.01
    x, scheme = data(n, d) * np.logspace(0, 1, d), schemes(d)[name]
    hide = 0.0 if name != "bernoulli" else float(scheme.hide_rate)
    s = (1 - hide) ** 2 * x.T @ x / n
    s = s + hide / (1 - hide) * np.diag(np.diag(s))
    values = np.linalg.eigvalsh(s) + ridge
    root = np.sqrt(values[-1] / values[0])
    products = np.log(2 / 1e-6) / np.log((root + 1) / (root - 1))
    result = jm.fit_gradient(x, ridge, scheme, tolerance=0.0, max_steps=int(2 * products), compare=True)
    assert float(result.distance) < 1e-6


def test_history_is_the_objective_along_the_way():
    x = data(30, 7)
    result = jm.fit_gradient(x, 0.2)
    assert result.loss_history.shape == (int(result.steps) + 1,)
    np.testing.assert_allclose(result.loss_history[0], jm.masked_loss(np.zeros((7, 7)), x, 0.2), rtol=1e-12)
    np.testing.assert_allclose(result.loss_history[-1], jm.masked_loss(result.fit.weights, x, 0.2), rtol=1e-12)
    assert np.isnan(float(result.distance))


def test_one_step_is_the_gradient():
    x = data(30, 7)
    s = x.T @ x / 30
    result = jm.fit_gradient(x, 0.2, optimizer=optax.sgd(0.01), max_steps=1)
    np.testing.assert_allclose(result.fit.weights, 0.02 * (s - np.diag(np.diag(s))), rtol=1e-12)
    assert int(result.status) == 1
    with pytest.raises(RuntimeError, match="max_steps"):
        jm.check(result)


@pytest.mark.parametrize("optimizer", [LBFGS, optax.adam(optax.exponential_decay(0.1, 200, 0.5))])
def test_other_optimisers_reach_it_too(optimizer):
    result = jm.fit_gradient(data(40, 7), 0.3, optimizer=optimizer, tolerance=1e-9, compare=True)
    assert bool(result.converged)
    assert float(result.distance) < 1e-6


def test_unequal_columns_are_reached_by_default_and_in_fewer_steps_by_lbfgs():
    x = data(60, 7) * np.logspace(0, 1, 7)
    default, other = (jm.fit_gradient(x, 1e-3, optimizer=o, tolerance=1e-9, compare=True) for o in (None, LBFGS))
    assert float(default.distance) < 1e-6
    assert float(other.distance) < 1e-6
    assert int(other.steps) < int(default.steps)


@pytest.mark.parametrize("name", NAMES)
def test_from_a_gram_and_under_jit(name):
    x, scheme = data(30, 7), schemes(7)[name]
    plain = jm.fit_gradient(x, 0.2, scheme)
    stream = jm.fit_gradient(jm.Gram.from_samples(x), 0.2, scheme)
    traced = jax.jit(lambda x, ridge: jm.fit_gradient(x, ridge, scheme))(x, 0.2)
    np.testing.assert_allclose(stream.fit.weights, plain.fit.weights, atol=1e-10)
    np.testing.assert_allclose(traced.fit.weights, plain.fit.weights, atol=1e-12)
    assert bool(jnp.isnan(traced.loss_history[int(traced.steps) + 1 :]).all())


def test_vmap_over_ridges():
    x, ridges = data(30, 7), jnp.array([0.05, 0.5, 5.0])
    result = jax.vmap(lambda ridge: jm.fit_gradient(x, ridge))(ridges)
    assert bool(result.converged.all())
    assert int(result.steps[0]) > int(result.steps[2])
    for ridge, weights in zip(ridges, result.fit.weights, strict=True):
        np.testing.assert_allclose(weights, jm.fit(x, ridge).weights, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_minibatches_approach_it(name):
    x, scheme = data(40, 7), schemes(7)[name]
    result = jm.fit_gradient(
        x, 0.3, scheme, batch_size=8, key=jax.random.key(0), tolerance=0.02, max_steps=100_000, compare=True
    )
    assert bool(result.converged)
    assert float(result.distance) < 0.2
    assert result.loss_history.shape == (int(result.steps) // 5 + 1,)
    again = jm.fit_gradient(x, 0.3, scheme, batch_size=8, key=jax.random.key(0), tolerance=0.02, max_steps=100_000)
    np.testing.assert_array_equal(again.fit.weights, result.fit.weights)


def test_one_batch_an_epoch_is_the_full_batch():
    x, rule = data(20, 5), optax.sgd(0.02)
    full = jm.fit_gradient(x, 0.3, optimizer=rule, max_steps=50)
    batch = jm.fit_gradient(x, 0.3, optimizer=rule, max_steps=50, batch_size=20, key=jax.random.key(1))
    np.testing.assert_allclose(batch.fit.weights, full.fit.weights, rtol=1e-10)


def test_divergence_is_a_status_and_nan():
    result = jm.fit_gradient(data(40, 7), 0.3, optimizer=optax.sgd(10.0))
    assert not bool(result.converged)
    assert bool(jnp.isnan(result.fit.weights).all())
    assert bool(jnp.isfinite(result.loss_history).all())
    with pytest.raises(RuntimeError, match="diverged"):
        jm.check(result)


def test_precision_and_imputation_follow_from_the_weights():
    x = data(40, 7)
    for scheme in (jm.LeaveOneOut(), jm.Bernoulli(0.3)):
        result = jm.fit_gradient(x, 0.3, scheme)
        np.testing.assert_allclose(result.fit.precision, jm.fit(x, 0.3, scheme).precision, atol=1e-8)
    assert bool(jnp.isnan(jm.fit_gradient(x, 0.3, schemes(7)["partition"]).fit.precision).all())


def test_progress_is_called_and_does_not_change_the_result():
    x, seen = data(40, 7), []
    result = jm.fit_gradient(x, 1e-4, max_steps=1000, progress=lambda *state: seen.append(state))
    assert seen[-1][0] == int(result.steps)
    assert seen[-1][2] < 1e-10
    np.testing.assert_array_equal(result.fit.weights, jm.fit_gradient(x, 1e-4, max_steps=1000).fit.weights)


def test_nothing_to_learn_is_converged_at_once():
    result = jm.fit_gradient(np.eye(4), 0.1)
    assert bool(result.converged)
    assert int(result.steps) == 0


def test_single_precision_stays_single():
    result = jm.fit_gradient(data(60, 8).astype(np.float32), 0.5, compare=True)
    assert bool(result.converged)
    assert result.fit.weights.dtype == result.loss_history.dtype == jnp.float32
    assert float(result.distance) < 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 8}, "key must be given"),
        ({"batch_size": 0, "key": jax.random.key(0)}, "batch_size must lie between 1 and the 20"),
        ({"max_steps": 0}, "max_steps must be at least 1"),
        ({"tolerance": -1.0}, "tolerance must not be negative"),
        ({"ridge": -1.0}, "ridge must not be negative"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        jm.fit_gradient(data(20, 4), **{"ridge": 0.1, **options})
    if "batch_size" in options:
        with pytest.raises(ValueError, match="needs the samples"):
            jm.fit_gradient(jm.Gram.from_samples(data(20, 4)), 0.1, **options)
