"""The streaming Gram against the data it summarises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jmask as jm

from .test_closed_form import data, schemes


def test_batches_and_merges_equal_the_whole():
    x = data(50, 6) + 3.0
    gram = jm.Gram.from_samples(x[:7]).update(x[7:8]).update(x[8:20]) + jm.Gram.from_samples(x[20:])
    np.testing.assert_allclose(gram.covariance, x.T @ x / 50, rtol=1e-13)
    np.testing.assert_allclose(gram.mean, x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(gram.centred().covariance, np.cov(x.T, bias=True), rtol=1e-12)
    assert float(gram.count) == 50


@pytest.mark.parametrize("name", ["leave-one-out", "bernoulli", "partition", "patterns"])
@pytest.mark.parametrize(("n", "d"), [(30, 7), (5, 8)])
def test_fits_like_the_data(n, d, name):
    x, scheme = data(n, d), schemes(d)[name]
    np.testing.assert_allclose(
        jm.fit(jm.Gram.from_samples(x), 0.2, scheme).weights, jm.fit(x, 0.2, scheme).weights, atol=1e-11
    )


def test_a_large_mean_costs_no_digits_of_the_scatter():
    x = data(100, 4)
    gram = jm.Gram.from_samples(x[:50] + 1e8).update(x[50:] + 1e8)
    np.testing.assert_allclose(gram.centred().covariance, np.cov(x.T, bias=True), rtol=1e-6)


def test_streams_inside_a_scan():
    batches = data(40, 5).reshape(8, 5, 5)
    start = jm.Gram.from_samples(batches[0])
    total, _ = jax.lax.scan(lambda gram, batch: (gram.update(batch), None), start, jnp.asarray(batches[1:]))
    np.testing.assert_allclose(total.covariance, jm.Gram.from_samples(batches.reshape(40, 5)).covariance, rtol=1e-12)


def test_refusals():
    gram = jm.Gram.from_samples(data(9, 4))
    with pytest.raises(ValueError, match="batch must have 4 columns"):
        gram.update(data(9, 5))
    with pytest.raises(ValueError, match="4 coordinates"):
        gram.merge(jm.Gram.from_samples(data(9, 5)))
