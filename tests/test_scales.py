"""The law of the scales: its two averages, its families, its samples, its estimate, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jmask as jm
from jmask.scales import c2_of, c_of

DELTAS = np.array([0.0, 0.1, 1.0, 30.0])
LAWS = {
    "one": jm.Scales([1.0]),
    "two point": jm.Scales.two_point(0.2, 3.0),
    "zero": jm.Scales.two_point(0.0, 2.0),
    "student": jm.Scales.student_t(7.0),
    "gamma": jm.Scales.gamma(1.5),
}
EACH = pytest.mark.parametrize("name", LAWS)


def brute(law, power, delta):
    squares, shares = np.asarray(law.squares), np.asarray(law.probabilities)
    return sum(p * (t / (1 + t * delta)) ** power for t, p in zip(squares, shares, strict=True))


@EACH
def test_c_and_c2_are_the_sums_they_stand_for(name):
    law = LAWS[name]
    for delta in DELTAS:
        np.testing.assert_allclose(law.c(delta), brute(law, 1, delta), rtol=1e-13)
        np.testing.assert_allclose(law.c2(delta), brute(law, 2, delta), rtol=1e-13)
    np.testing.assert_allclose(law.c(DELTAS), [law.c(delta) for delta in DELTAS], rtol=1e-13)
    np.testing.assert_allclose(law.c(0.3 + 0.2j), brute(law, 1, 0.3 + 0.2j), rtol=1e-13)
    np.testing.assert_allclose(law.c2(0.3 + 0.2j), brute(law, 2, 0.3 + 0.2j), rtol=1e-13)
    np.testing.assert_allclose(law.c(0), 1.0, rtol=1e-12)
    np.testing.assert_allclose(law.c(np.array([0, 1])), law.c(np.array([0.0, 1.0])), rtol=1e-13)


@EACH
def test_c2_is_minus_the_slope_of_c(name):
    slopes = jax.jit(jax.vmap(jax.grad(LAWS[name].c)))(jnp.asarray(DELTAS))
    np.testing.assert_allclose(LAWS[name].c2(DELTAS), -slopes, rtol=1e-12)


def test_no_scales_is_the_law_at_one():
    for delta in (0.7, 0.7 + 0.1j):
        delta = jnp.asarray(delta)
        np.testing.assert_allclose(c_of(None, delta), c_of(LAWS["one"], delta), rtol=1e-14)
        np.testing.assert_allclose(c2_of(None, delta), c2_of(LAWS["one"], delta), rtol=1e-14)
    for narrow in (jm.Scales.student_t(1e5), jm.Scales.gamma(1e5)):
        np.testing.assert_allclose(narrow.c(DELTAS), 1 / (1 + DELTAS), rtol=1e-4)


def moments(law):
    squares, shares = np.asarray(law.squares), np.asarray(law.probabilities)
    return shares.sum(), shares @ squares, shares @ squares**2


def test_families_have_their_moments():
    np.testing.assert_allclose(moments(LAWS["two point"]), [1, 1, 1 + 0.8 * 2.0], rtol=1e-12)  # variance (1-a)(b-1)
    np.testing.assert_allclose(moments(LAWS["gamma"]), [1, 1, 1 + 1 / 1.5], rtol=1e-10)
    for nu in (7.0, 12.0):  # E τ⁴ = (ν - 2)/(ν - 4)
        np.testing.assert_allclose(moments(jm.Scales.student_t(nu)), [1, 1, (nu - 2) / (nu - 4)], rtol=5e-3)
    np.testing.assert_allclose(moments(jm.Scales.student_t(3.0, nodes=200))[:2], [1, 1], rtol=1e-12)


def test_gamma_quadrature_equals_the_integral():
    """Shape 1: τ² is exponential, c(δ) = E[t/(1 + tδ)] by a fine sum."""
    t = (np.arange(400_000) + 0.5) * 1e-4
    wanted = (np.exp(-t) * t / (1 + 0.5 * t)).sum() * 1e-4
    np.testing.assert_allclose(jm.Scales.gamma(1.0).c(0.5), wanted, rtol=1e-7)


def test_positive_mass():
    np.testing.assert_allclose(LAWS["zero"].positive_mass(), 0.5)
    np.testing.assert_allclose(LAWS["gamma"].positive_mass(), 1.0)


def test_sample_frequencies():
    law, n = jm.Scales([0.1, 1.0, 2.8], [0.4, 0.4, 0.2]), 20_000
    draws = np.asarray(law.sample(jax.random.key(0), n))
    frequency = (draws[:, None] == np.asarray(law.squares)[None, :]).mean(0)
    error = np.sqrt(np.asarray(law.probabilities * (1 - law.probabilities)) / n)
    assert (np.abs(frequency - law.probabilities) < 5 * error).all()
    assert frequency.sum() == 1


@EACH
def test_estimate_recovers_the_law(name):
    d = 25
    x = jm.covariance.ar1(d, 0.5).sample(jax.random.key(1), 20 * d, LAWS[name])
    estimate = jm.Scales.estimate(x)
    assert estimate.squares.shape == (20 * d,)
    np.testing.assert_allclose(moments(estimate)[:2], [1, 1], rtol=1e-12)
    squares, shares = np.asarray(LAWS[name].squares), np.asarray(LAWS[name].probabilities)
    for delta in (0.3, 2.0):
        terms, c = squares / (1 + squares * delta), LAWS[name].c(delta)
        error = np.sqrt(shares @ (terms - c) ** 2 / (20 * d))
        assert abs(estimate.c(delta) - c) < 4 * error + c / d  # |g|²/d has variance 2/d, and c is concave in it


def test_estimate_finds_each_row():
    """Row by row: the estimate divided by the true square is 1 up to the noise of |g|²/d."""
    d, law = 25, LAWS["two point"]
    key = jax.random.key(2)
    population = jm.covariance.Diagonal(np.linspace(0.1, 3.0, d))
    x = np.asarray(population.sample(key, 20 * d, law))
    truth = np.asarray(law.sample(jax.random.split(key)[1], 20 * d))  # the same draw as in sample
    truth = truth / truth.mean()
    ratio = np.asarray(jm.Scales.estimate(x).squares) / truth
    np.testing.assert_allclose(ratio.mean(), 1, atol=0.05)
    assert ratio.std() < 1.5 * np.sqrt(2 / d)


def test_estimate_does_not_depend_on_units_or_axes_and_hardly_on_the_covariance():
    x = np.random.default_rng(0).standard_normal((200, 8))
    plain = np.asarray(jm.Scales.estimate(x).squares)
    turned = 7 * x @ np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0]
    np.testing.assert_allclose(jm.Scales.estimate(turned).squares, plain, rtol=1e-9)
    np.testing.assert_allclose(jm.Scales.estimate(x * np.linspace(1, 3, 8)).squares, plain, rtol=0.1)


def test_a_row_alone_in_a_direction_is_not_all_the_scale():
    x = np.random.default_rng(0).standard_normal((400, 20))
    x[:, 19] = 0
    x[7, 19] = 0.3
    assert float(jm.Scales.estimate(x).squares[7]) < 3


def test_precision_of_delta_decides():
    law = LAWS["student"]
    assert law.c(jnp.float32(1.0)).dtype == law.c2(jnp.float32(1.0)).dtype == jnp.float32
    assert law.c(jnp.complex64(1.0)).dtype == jnp.complex64
    single = jm.Scales(np.float32([0.5, 1.5]))
    assert single.c(1.0).dtype == single.sample(jax.random.key(0), 3).dtype == jnp.float32
    many = np.random.default_rng(0).standard_normal((4000, 5)).astype(np.float32)
    assert jm.Scales.estimate(many).squares.dtype == jnp.float32


def test_a_law_is_a_pytree():
    law = LAWS["two point"]
    rebuilt = jax.tree.unflatten(*reversed(jax.tree.flatten(law)))
    assert isinstance(rebuilt, jm.Scales)
    squares = jnp.asarray([0.5, 1.5])
    np.testing.assert_allclose(jax.jit(lambda d: jm.Scales(squares).c(d))(1.0), brute(jm.Scales(squares), 1, 1.0))
    batch = jax.vmap(lambda p: jm.Scales(jnp.stack([1 - p, 1 + p])))(jnp.asarray([0.1, 0.5]))
    values = jax.vmap(lambda s: s.c(1.0))(batch)
    np.testing.assert_allclose(values[1], jm.Scales([0.5, 1.5]).c(1.0))
    slope = jax.grad(lambda p: jm.Scales(jnp.stack([1 - p, 1 + p])).c(1.0))(0.5)
    step = 1e-6
    ahead, behind = (float(jm.Scales([1 - p, 1 + p]).c(1.0)) for p in (0.5 + step, 0.5 - step))
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-8)


X = np.random.default_rng(0).standard_normal((4, 6))
REFUSED = {
    "shape": (lambda: jm.Scales(np.eye(2)), r"squares and probabilities must be vectors .* got shapes \(2, 2\)"),
    "lengths": (lambda: jm.Scales([1.0, 1.0], [1.0]), r"of one length, got shapes \(2,\) and \(1,\)"),
    "empty": (lambda: jm.Scales([]), "vectors of one length"),
    "sign": (lambda: jm.Scales([-1.0, 3.0]), "squares must not be negative, got -1"),
    "NaN": (lambda: jm.Scales([1.0, np.nan]), "squares must be finite"),
    "probability NaN": (lambda: jm.Scales([1.0, 1.0], [1.0, np.nan]), "probabilities must be finite"),
    "probability sum": (lambda: jm.Scales([1.0, 1.0], [0.5, 0.6]), "a distribution, got a sum of 1.1"),
    "probability sign": (lambda: jm.Scales([1.0, 1.0], [1.5, -0.5]), "probabilities must be a distribution"),
    "mean": (lambda: jm.Scales([1.0, 3.0]), "mean of squares must be one, got 2: divide squares by 2"),
    "low": (lambda: jm.Scales.two_point(1.5, 2.0), "low must be below 1 and high above it, got 1.5 and 2"),
    "low sign": (lambda: jm.Scales.two_point(-0.5, 2.0), "squares must not be negative"),
    "degrees": (lambda: jm.Scales.student_t(2.0), "degrees_of_freedom must exceed 2 .* got 2"),
    "gamma shape": (lambda: jm.Scales.gamma(0.0), "shape must be positive, got 0"),
    "few rows": (lambda: jm.Scales.estimate(X), r"more rows than columns .* got shape \(4, 6\)"),
    "data": (lambda: jm.Scales.estimate(X[0]), r"x must be a matrix \(n, d\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_estimate_warns_when_rows_are_few():
    with pytest.warns(UserWarning, match="n = 9 rows in d = 6 dimensions are noisy"):
        jm.Scales.estimate(np.random.default_rng(0).standard_normal((9, 6)))
