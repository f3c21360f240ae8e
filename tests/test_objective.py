"""The masked objective against its definition spelled out mask by mask, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jmask as jm
from jmask.objective import loss_and_gradient, moment_errors

from . import brute
from .test_closed_form import as_patterns, data, schemes

NAMES = ["leave-one-out", "bernoulli", "partition", "patterns"]
RIDGE = np.linspace(0.1, 2.0, 7)
X = data(9, 7)
A = np.random.default_rng(2).standard_normal((7, 7))


@pytest.mark.parametrize("name", NAMES)
def test_is_the_mean_over_masks_plus_the_penalty(name):
    scheme = schemes(7)[name]
    expected = brute.pattern_errors(A, X, *as_patterns(scheme, 7)).sum() + (A**2 @ RIDGE).sum()
    np.testing.assert_allclose(jm.masked_loss(A, X, RIDGE, scheme), expected, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_from_moments_equals_from_samples(name):
    scheme, free = schemes(7)[name], jnp.where(jm.masking.can_see(schemes(7)[name], 7), A, 0)
    moment = jnp.asarray(X.T @ X / 9)
    value, gradient = jax.value_and_grad(jm.masked_loss)(free, X, RIDGE, scheme)
    fast, masked = loss_and_gradient(free, moment, jnp.asarray(RIDGE), scheme)
    np.testing.assert_allclose(fast, value, rtol=1e-12)
    np.testing.assert_allclose(masked, jnp.where(jm.masking.can_see(scheme, 7), gradient, 0), atol=1e-12)
    errors = jm.train_error(free, X, scheme, per_coordinate=True)
    np.testing.assert_allclose(moment_errors(free, moment, scheme), errors, rtol=1e-12)


@pytest.mark.parametrize("name", ["bernoulli", "patterns"])
def test_drawn_masks_are_unbiased(name):
    scheme = schemes(7)[name]
    keys = jax.random.split(jax.random.key(0), 4000)
    draw = jax.jit(jax.vmap(lambda key: jm.sampled_masked_loss(A, X, RIDGE, scheme, key)))
    values = np.asarray(draw(keys))
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - float(jm.masked_loss(A, X, RIDGE, scheme))) < 4 * error


@pytest.mark.parametrize("name", ["leave-one-out", "partition"])
def test_nothing_is_drawn_where_nothing_is_random(name):
    scheme = schemes(7)[name]
    drawn = jm.sampled_masked_loss(A, X, RIDGE, scheme, jax.random.key(0))
    np.testing.assert_allclose(drawn, jm.masked_loss(A, X, RIDGE, scheme), rtol=1e-14)


def test_differentiable_in_every_argument():
    loss = jax.jit(lambda a, x, ridge, rate: jm.masked_loss(a, x, ridge, jm.Bernoulli(rate)))
    check_grads(loss, (jnp.asarray(A), jnp.asarray(X), jnp.asarray(RIDGE), jnp.asarray(0.3)), 2, rtol=1e-4)
    hidden = schemes(7)["patterns"].hidden
    weighted = jax.jit(lambda w: jm.masked_loss(A, X, 0.1, jm.Patterns(hidden, w)))
    check_grads(weighted, (jnp.linspace(0.5, 1, hidden.shape[0]),), 2, rtol=1e-4)


def test_vmaps_over_weights_and_samples():
    several = jnp.stack([jnp.asarray(A), 2 * jnp.asarray(A)])
    both = jax.vmap(lambda a: jm.masked_loss(a, X, 0.1))(several)
    np.testing.assert_allclose(both, [jm.masked_loss(a, X, 0.1) for a in several], rtol=1e-13)
    one = jax.vmap(lambda row: jm.masked_loss(A, row[None, :], 0.0))(jnp.asarray(X))
    np.testing.assert_allclose(one.mean(), jm.masked_loss(A, X, 0.0), rtol=1e-13)


@pytest.mark.parametrize(
    ("weights", "message"),
    [(np.ones((3, 3)), r"weights must have shape \(7, 7\)"), (np.full((7, 7), np.nan), "weights must be finite")],
)
def test_bad_weights_are_named(weights, message):
    with pytest.raises(ValueError, match=message):
        jm.masked_loss(weights, X, 0.1)
