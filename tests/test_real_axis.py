"""The spectrum of S as nodes on the real axis: against moments, closed forms, the resolvent and simulated spectra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jmask as jm
from jmask.theory.real_axis import position, refine, sample_spectrum
from jmask.theory.support import support

from . import problems

SPECTRA = {
    "ar1": np.asarray(problems.population("ar1_0.9", 60).eigenvalues()),
    "linear": np.linspace(0.2, 4, 60),
    "two levels": np.repeat([0.05, 4.0], [25, 35]),
    "white": np.full(60, 2.0),
    "singular": np.repeat([0.0, 1.0, 3.0], [10, 25, 25]),
}
COUNTS = [30.0, 60.0, 75.5, 300.0]


def spectrum(m, n, size=1024, cuts=None):
    return sample_spectrum(jnp.asarray(m), jnp.asarray(n), size=size, cuts=cuts)


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("n", COUNTS)
def test_mass_and_moments(name, n):
    m = SPECTRA[name]
    nodes = spectrum(m, n)
    moments = [(nodes.weight * nodes.x**p).sum() for p in range(4)]
    first, second, third = (np.mean(m**p) for p in (1, 2, 3))
    gamma = 60 / n
    expected = [1, first, second + gamma * first**2, third + 3 * gamma * first * second + gamma**2 * first**3]
    np.testing.assert_allclose(moments, expected, rtol=1e-8)
    np.testing.assert_allclose(nodes.weighted_variance.sum(), first, rtol=1e-8)  # tr Σ/d by the eigenvectors of S
    overlaps = nodes.weighted_overlaps(jnp.asarray(m))
    np.testing.assert_allclose(overlaps.sum(0), 1, rtol=1e-7)
    np.testing.assert_allclose(overlaps.mean(1), nodes.weight, atol=1e-9)
    assert bool((nodes.weight >= 0).all())


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("n", COUNTS)
def test_against_the_fixed_point(name, n):
    """∫ dF O_i/(x + λ) is the resolvent that the real fixed point gives."""
    m = SPECTRA[name]
    nodes = spectrum(m, n)
    for ridge in (0.01, 1.0):
        point = jm.theory.fixed_point(jm.covariance.Diagonal(m), n, ridge)
        found = (nodes.weighted_overlaps(jnp.asarray(m)) / (nodes.x + ridge)[:, None]).sum(0)
        np.testing.assert_allclose(found, 1 / (point.shrinkage * m + ridge), rtol=1e-7)
        np.testing.assert_allclose((nodes.weighted_variance / (nodes.x + ridge)).sum() * 60 / n, point.delta, rtol=1e-7)


@pytest.mark.parametrize("n", [20.0, 60.0, 240.0])
def test_white_population_is_marchenko_pastur(n):
    root = np.sqrt(60 / n)
    low, high = 2 * (1 - root) ** 2, 2 * (1 + root) ** 2
    nodes = spectrum(SPECTRA["white"], n)
    x = nodes.x[1:]
    np.testing.assert_allclose([x.min(), x.max()], [low, high], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(nodes.at.variance[1:], 2, rtol=1e-12)
    middle = position(jnp.asarray(SPECTRA["white"]), jnp.asarray(n), jnp.array([(low + high) / 2]))
    halves = spectrum(SPECTRA["white"], n, cuts=middle)
    below = jnp.where(halves.at.u < middle, halves.weight, 0).sum()
    angle = np.linspace(0, np.pi / 2, 20001)  # x from the lower edge to the middle
    grid = (high + low) / 2 - (high - low) / 2 * np.cos(angle)
    density = n / 60 * ((high - low) / 2 * np.sin(angle)) ** 2 / (2 * np.pi * 2 * np.where(grid > 0, grid, 1))
    if low == 0:
        density[0] = n / 60 * (high - low) / (2 * np.pi * 2)
    expected = np.trapezoid(density, angle) + max(0, 1 - n / 60)
    np.testing.assert_allclose(below, expected, rtol=1e-7)


def test_edges_are_where_the_map_turns():
    m = np.repeat([0.05, 4.0], [25, 35])
    pieces = support(jnp.asarray(m), jnp.asarray(300.0), 8)
    assert int(pieces.gaps) == 1
    ends = np.array([pieces.left[0], pieces.right[0], pieces.left[1], pieces.right[1]])
    np.testing.assert_allclose((m**2 / (m - ends[:, None]) ** 2).sum(1) / 300, 1, rtol=1e-9)
    assert float(pieces.atom) == 0
    shut = support(jnp.asarray(m), jnp.asarray(20.0), 8)
    assert int(shut.gaps) == 0
    kappa = float(shut.atom)
    np.testing.assert_allclose((m / (m + kappa)).sum(), 20, rtol=1e-10)


@pytest.mark.parametrize("n", [30.0, 300.0])
def test_position_and_count_are_inverse_to_the_nodes(n):
    nodes = spectrum(SPECTRA["linear"], n)
    chosen = jnp.array([40, 200, 470])
    for of in ("x", "count"):
        u = position(nodes.eigenvalues, nodes.n, getattr(nodes.at, of)[chosen], of=of)
        np.testing.assert_allclose(u, nodes.at.u[chosen], rtol=1e-9)
    np.testing.assert_allclose(nodes.at.count[-1], 60, atol=1e-3)
    below = jnp.cumsum(nodes.weight)[chosen] - nodes.weight[chosen] / 2
    np.testing.assert_allclose(nodes.at.count[chosen] / 60, below, atol=2e-4)


def test_simulated_spectrum():
    d, n = 200, 300
    m = np.linspace(0.2, 4, d)
    x = np.random.default_rng(0).standard_normal((n, d)) * np.sqrt(m)
    values, vectors = np.linalg.eigh(x.T @ x / n)
    nodes = spectrum(m, float(n))
    predicted = position(nodes.eigenvalues, nodes.n, jnp.asarray(np.arange(d) + 0.5), of="count")
    table = jnp.interp(predicted, nodes.at.u[1:], nodes.x[1:])
    assert float(np.abs(values / np.asarray(table) - 1).mean()) < 0.03
    variance = (vectors**2 * m[:, None]).sum(0)  # vᵀΣv
    found = jm.theory.eigenvector_variance(jm.covariance.Diagonal(m), n, values[1:-1])
    assert float(np.abs(variance[1:-1] / np.asarray(found) - 1).mean()) < 0.08
    np.testing.assert_allclose(variance[1:-1].mean(), found.mean(), rtol=0.01)


@pytest.mark.parametrize("n", [30.0, 75.0, 300.0])
@pytest.mark.parametrize("name", ["linear", "two levels"])
def test_derivatives(name, n):
    direction = jnp.asarray(np.random.default_rng(0).standard_normal(60))
    m = jnp.asarray(SPECTRA[name] * np.linspace(1, 1.1, 60))

    @jax.jit
    def f(m, n):
        nodes = sample_spectrum(m, n)
        return (nodes.weight * jnp.exp(-nodes.x)).sum() + (nodes.weighted_variance / (nodes.x + 0.1)).sum()

    slopes = jax.jit(jax.grad(f, (0, 1)))(m, n)
    h = 1e-5
    expected = (f(m + h * direction, n) - f(m - h * direction, n)) / (2 * h)
    np.testing.assert_allclose((slopes[0] * direction).sum(), expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(slopes[1], (f(m, n + 1e-4) - f(m, n - 1e-4)) / 2e-4, rtol=1e-5, atol=1e-9)


def test_refine_doubles_until_two_answers_agree():
    tried = []

    def evaluate(size):
        tried.append(size)
        return jnp.array([1 + 256 / size**2, 2.0])

    answer, accuracy, status = refine(evaluate, lambda a: a, 1e-3)
    assert tried == [256, 512, 1024]
    assert int(status) == 0
    assert float(accuracy) < 1e-3
    assert float(answer[0]) == 1 + 256 / 1024**2
    assert int(refine(evaluate, lambda a: a, 1e-12)[2]) == 1
    assert int(refine(lambda size: jnp.array([jnp.nan]), lambda a: a, 1e-12)[2]) == 3
    rows = refine(lambda size: jnp.array([[1.0], [1 / size]]), lambda a: a, 1e-3)[2]
    assert rows.tolist() == [0, 1]
