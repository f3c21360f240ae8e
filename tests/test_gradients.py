"""Derivatives of the theory: forward = reverse, finite differences, another root finder, second order, transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest

import jmask as jm

HEAVY = jm.Scales([0.25, 4.0], [0.8, 0.2])
D = 12
NOISE = jnp.linspace(0.5, 2.0, D)
UNIT = jnp.asarray(np.linalg.qr(np.random.default_rng(0).standard_normal((D, 1)))[0])


def error(c, n=9.0, ridge=0.3, scheme=jm.LeaveOneOut(), scales=None):
    e = jm.theory.errors(c, n, ridge, scheme, scales)
    return e.test + 0.5 * e.train + 0.1 * e.df2.sum()


OBJECTIVES = {
    "ridge": (lambda r: error(jm.covariance.ar1(D, 0.8), ridge=r, scales=HEAVY), 0.3),
    "ridge per coordinate": (lambda r: error(jm.covariance.ar1(D, 0.8), ridge=r), jnp.linspace(0.1, 0.5, D)),
    "n": (lambda n: error(jm.covariance.Diagonal(NOISE), n=n), 9.0),
    "hide rate": (lambda p: error(jm.covariance.ar1(D, 0.8), scheme=jm.Bernoulli(p)), 0.3),
    "eigenvalues": (lambda s: error(jm.covariance.Isotropic(s), scales=HEAVY), NOISE),
    "variances": (lambda s: error(jm.covariance.Diagonal(s), scheme=jm.Partition(np.arange(D) // 5)), NOISE),
    "rho": (lambda rho: error(jm.covariance.ar1(D, rho)), 0.7),
    "rho on a ring": (lambda rho: error(jm.covariance.ar1(D, rho, circulant=True)), 0.7),
    "matrix": (lambda m: error(jm.covariance.Dense(m @ m.T + jnp.eye(D))), 0.3 * jnp.ones((D, D)).at[0].set(0.7)),
    "strength": (lambda t: error(jm.covariance.Spiked(jm.covariance.Diagonal(NOISE), t[None], UNIT)), 2.0),
    "delocalised": (lambda t: error(jm.covariance.Spiked(jm.covariance.Diagonal(NOISE), t[None])), 2.0),
    "scales": (
        lambda p: error(jm.covariance.Diagonal(NOISE), scales=jm.Scales(jnp.stack([p, 4.0 - 0 * p]), [0.8, 0.2])),
        0.25,
    ),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_forward_reverse_and_finite_differences_agree(name):
    f, at = OBJECTIVES[name]
    at = jnp.asarray(at)
    direction = jnp.asarray(np.random.default_rng(1).standard_normal(at.shape))
    step = 1e-5
    if name == "scales":  # mean one is left on purpose: only under a trace, where values are not known
        f = jax.jit(f)
    reverse = (jax.jit(jax.grad(f))(at) * direction).sum()
    forward = jax.jit(lambda a, v: jax.jvp(f, (a,), (v,))[1])(at, direction)
    np.testing.assert_allclose(forward, reverse, rtol=1e-12, atol=1e-13)
    f = jax.jit(f)
    difference = (f(at + step * direction) - f(at - step * direction)) / (2 * step)
    np.testing.assert_allclose(reverse, difference, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["ridge", "n", "hide rate", "rho", "strength", "variances"])
def test_second_derivatives(name):
    f, at = OBJECTIVES[name]
    at = jnp.asarray(at)
    direction = jnp.ones_like(at)
    slope = jax.jit(lambda a: jax.jvp(f, (a,), (direction,))[1])
    hessian = jax.jit(jax.hessian(f))(at)
    assert bool(jnp.isfinite(hessian).all())
    difference = (slope(at + 1e-5) - slope(at - 1e-5)) / 2e-5
    np.testing.assert_allclose(hessian.sum(), difference, rtol=1e-6, atol=1e-8)


def test_against_an_independent_root_finder():
    """δ by optimistix (bisection, then its implicit adjoint) against our Newton and implicit rule."""
    values = jnp.linspace(0.2, 4.0, D)

    def residual(delta, params):
        ridge, n = params
        c = (HEAVY.probabilities * HEAVY.squares / (1 + HEAVY.squares * delta)).sum()
        return delta - (values / (c * values + ridge)).sum() / n

    solver = optimistix.Newton(rtol=1e-14, atol=1e-14)

    def peer(params):
        return optimistix.root_find(residual, solver, jnp.asarray(1.0), params, max_steps=200).value

    def ours(params):
        return jm.theory.fixed_point(jm.covariance.Diagonal(values), params[1], params[0], HEAVY).delta

    at = (jnp.asarray(0.3), jnp.asarray(9.0))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        expected = jax.jit(jax.value_and_grad(peer))(at)
    found = jax.jit(jax.value_and_grad(ours))(at)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_no_gradient_is_lost_at_the_identity():
    matrix = jnp.eye(D)
    f = jax.jit(lambda m: error(jm.covariance.Dense(m)))
    gradient = jax.jit(jax.grad(f))(matrix)
    assert bool(jnp.isfinite(gradient).all())
    direction = np.random.default_rng(2).standard_normal((D, D))
    direction = jnp.asarray(direction + direction.T)
    difference = (f(matrix + 1e-5 * direction) - f(matrix - 1e-5 * direction)) / 2e-5
    np.testing.assert_allclose((gradient * direction).sum(), difference, rtol=1e-6)
    curvature = jax.jit(jax.hessian(lambda t: f(matrix + t * direction)))(0.0)
    slope = jax.jit(jax.grad(lambda t: f(matrix + t * direction)))
    np.testing.assert_allclose(curvature, (slope(1e-5) - slope(-1e-5)) / 2e-5, rtol=1e-5)


def test_both_orders_of_vmap_and_grad():
    c = jm.covariance.Diagonal(NOISE)
    ridges = jnp.array([0.05, 0.3, 2.0])
    f = lambda r: error(c, ridge=r)  # noqa: E731
    inside = jax.jit(jax.vmap(jax.grad(f)))(ridges)
    outside = jax.jit(jax.grad(lambda r: jax.vmap(f)(r).sum()))(ridges)
    np.testing.assert_allclose(inside, outside, rtol=1e-12)
    np.testing.assert_allclose(inside, [jax.grad(f)(r) for r in ridges], rtol=1e-12)


def test_a_grid_over_n_ridge_and_rho_is_one_call():
    def f(n, ridge, rho):
        return jm.theory.errors(jm.covariance.ar1(D, rho, circulant=True), n, ridge).test

    n, ridge, rho = jnp.array([6.0, 24.0]), jnp.array([0.1, 1.0]), jnp.array([0.0, 0.5, 0.9])
    grid = jax.jit(jax.vmap(jax.vmap(jax.vmap(f, (None, None, 0)), (None, 0, None)), (0, None, None)))(n, ridge, rho)
    assert grid.shape == (2, 2, 3)
    np.testing.assert_allclose(grid[1, 0, 2], f(24.0, 0.1, 0.9), rtol=1e-12)


def test_optimal_ridge_of_white_noise_is_infinite_and_of_ar1_is_where_the_gradient_vanishes():
    c = jm.covariance.ar1(D, 0.8)
    slope = jax.jit(jax.grad(lambda t: jm.theory.errors(c, 20.0, jnp.exp(t)).test))
    low, high = jnp.asarray(-6.0), jnp.asarray(3.0)
    assert float(slope(low)) < 0 < float(slope(high))
    white = jax.jit(jax.grad(lambda t: jm.theory.errors(jm.covariance.Diagonal(np.ones(D)), 20.0, jnp.exp(t)).test))
    assert float(white(high)) < 0
