"""Eigenvalues and eigenvectors of predictors, against non-symmetric decompositions and their own definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.test_util import check_grads

import jmask as jm
from jmask.eigen import correlation_pca_eigen, pca_eigen, predictor_eigen

SHAPES = [(30, 6), (6, 6), (5, 9)]


def data(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) * np.linspace(0.5, 2, d)


def brute_values(matrix):
    values = np.linalg.eigvals(matrix)
    assert np.abs(values.imag).max() < 1e-8
    return np.sort(values.real)[::-1]


def assert_unit(columns):
    np.testing.assert_allclose(np.linalg.norm(columns, axis=0), 1, atol=1e-12)


def assert_same_lines(actual, wanted, atol=1e-9):
    """Unit columns equal but for their signs."""
    np.testing.assert_allclose(np.abs((np.asarray(actual) * np.asarray(wanted)).sum(0)), 1, atol=atol)


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("scheme", [jm.LeaveOneOut(), jm.Bernoulli(0.3)])
@pytest.mark.parametrize("vector", [False, True])
def test_eigenvalues_and_vectors_are_those_of_the_weights(n, d, scheme, vector):
    ridge = np.linspace(0.1, 2, d) if vector else 0.3
    fit = jm.fit(data(n, d), ridge, scheme)
    weights, eigen = np.asarray(fit.weights), predictor_eigen(fit)
    np.testing.assert_allclose(eigen.values, brute_values(weights), atol=1e-10)
    np.testing.assert_allclose(weights @ eigen.right, eigen.right * eigen.values[None, :], atol=1e-10)
    np.testing.assert_allclose(weights.T @ eigen.left, eigen.left * eigen.values[None, :], atol=1e-10)
    for columns in (eigen.left, eigen.right, eigen.symmetric):
        assert_unit(columns)
    np.testing.assert_allclose(eigen.symmetric.T @ eigen.symmetric, np.eye(d), atol=1e-12)
    assert bool(eigen.converged)


def test_vectors_solve_the_pencil():
    x, ridge = data(30, 6), np.linspace(0.1, 2, 6)
    fit = jm.fit(x, ridge)
    eigen, s, inverse = predictor_eigen(fit), x.T @ x / 30 + np.diag(ridge), 1 / np.diag(fit.precision)
    mu = 1 / (1 - np.asarray(eigen.values))
    np.testing.assert_allclose(s @ eigen.left, inverse[:, None] * np.asarray(eigen.left) * mu, rtol=1e-9, atol=1e-9)
    scaled = inverse[:, None] * np.asarray(eigen.left)
    assert_same_lines(eigen.right, scaled / np.linalg.norm(scaled, axis=0))
    scaled = np.sqrt(inverse)[:, None] * np.asarray(eigen.left)
    assert_same_lines(eigen.symmetric, scaled / np.linalg.norm(scaled, axis=0))


def test_interpolating_fit():
    fit = jm.fit(data(5, 9), 0.0)
    np.testing.assert_allclose(predictor_eigen(fit).values, brute_values(fit.weights), atol=1e-10)


def test_a_precision_matrix_is_welcome_and_its_scale_does_not_matter():
    fit = jm.fit(data(30, 6), 0.3)
    for precision in (fit.precision, 7 * np.asarray(fit.precision)):
        np.testing.assert_allclose(predictor_eigen(precision).values, predictor_eigen(fit).values, atol=1e-12)


@pytest.mark.parametrize("function", [pca_eigen, correlation_pca_eigen, lambda x, **o: predictor_eigen(x.T @ x, **o)])
def test_values_alone(function):
    x = data(30, 6)
    alone = function(x, vectors=False)
    assert alone.left is None
    assert alone.right is None
    assert alone.symmetric is None
    np.testing.assert_allclose(alone.values, function(x).values, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_pca(n, d):
    x = data(n, d)
    s, eigen = x.T @ x / n, pca_eigen(x)
    m = min(n, d)
    np.testing.assert_allclose(eigen.values, np.linalg.eigvalsh(s)[::-1][:m], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(pca_eigen(x, vectors=False).values, eigen.values, rtol=1e-10, atol=1e-10)
    for columns in (eigen.left, eigen.right, eigen.symmetric):
        np.testing.assert_allclose(s @ columns, columns * eigen.values[None, :], atol=1e-10)
        np.testing.assert_allclose(columns.T @ columns, np.eye(m), atol=1e-12)


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_correlation_pca(n, d):
    x = data(n, d)
    s, eigen = x.T @ x / n, correlation_pca_eigen(x)
    scale = np.diag(s)
    wanted = scipy.linalg.eigh(s, np.diag(scale), eigvals_only=True)[::-1][: min(n, d)]
    np.testing.assert_allclose(eigen.values, wanted, atol=1e-10)
    left = np.asarray(eigen.left)
    np.testing.assert_allclose(s @ left, scale[:, None] * left * wanted, atol=1e-9)
    for columns, power in ((eigen.right, 1.0), (eigen.symmetric, 0.5)):
        scaled = scale[:, None] ** power * left
        assert_same_lines(columns, scaled / np.linalg.norm(scaled, axis=0))


def test_correlation_pca_ignores_units():
    x, units = data(30, 6), np.array([1e-3, 1, 10, 5, 1e4, 2.0])
    eigen, scaled = correlation_pca_eigen(x), correlation_pca_eigen(x * units)
    np.testing.assert_allclose(scaled.values, eigen.values, rtol=1e-10)
    assert_same_lines(scaled.symmetric, eigen.symmetric)


@pytest.mark.parametrize("function", [pca_eigen, correlation_pca_eigen])
@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_rank_deficient_data_keep_orthonormal_axes(function, n, d):
    x = data(n, d)
    x[:, 2] = 0.1
    x = x - x.mean(0)
    eigen = function(x)
    assert np.isfinite(eigen.right).all()
    assert_unit(eigen.right)
    np.testing.assert_allclose(eigen.symmetric.T @ eigen.symmetric, np.eye(min(n, d)), atol=1e-12)
    assert int((eigen.values < 1e-10).sum()) == 1  # min(n, d) values, and a rank of min(n - 1, d - 1)


def test_float32_stays():
    x = data(30, 6).astype(np.float32)
    fit = jm.fit(x, np.float32(0.3), jm.Bernoulli(0.3))
    for eigen in (predictor_eigen(fit), pca_eigen(x), correlation_pca_eigen(x)):
        for leaf in (eigen.values, eigen.left, eigen.right, eigen.symmetric):
            assert leaf.dtype == jnp.float32
    np.testing.assert_allclose(predictor_eigen(fit).values, brute_values(fit.weights), atol=1e-5)


def test_transforms():
    batch = jnp.stack([data(30, 6, seed) for seed in range(3)])
    for function in (lambda x: predictor_eigen(jm.fit(x, 0.3)), pca_eigen, correlation_pca_eigen):
        mapped, jitted = jax.vmap(function)(batch), jax.jit(function)(batch[1])
        alone = function(batch[1])
        np.testing.assert_allclose(mapped.values[1], alone.values, atol=1e-12)
        np.testing.assert_allclose(jitted.values, alone.values, atol=1e-12)
        assert_same_lines(mapped.right[1], alone.right)
        assert bool(mapped.converged.all())


@pytest.mark.parametrize(
    "values",
    [
        lambda x: predictor_eigen(jm.fit(x, jnp.linspace(0.1, 1, 4), jm.Bernoulli(0.2)), vectors=False).values,
        lambda x: pca_eigen(x).values,
        lambda x: correlation_pca_eigen(x[:3], vectors=False).values,
    ],
)
def test_eigenvalues_are_differentiable(values):
    check_grads(values, (jnp.asarray(data(12, 4)),), order=1, modes=("fwd", "rev"), rtol=1e-5)


def test_sums_of_tied_eigenvalues_have_gradients():
    precision = jnp.asarray([[2.0, 0.5, 0.5], [0.5, 2.0, 0.5], [0.5, 0.5, 2.0]])
    gradient = jax.grad(lambda p: (predictor_eigen(p).values ** 2).sum())(precision)
    wanted = jax.grad(lambda p: jnp.trace(jnp.linalg.matrix_power(jnp.eye(3) - p / jnp.diagonal(p)[:, None], 2)))(
        precision
    )
    # Functions of symmetric matrices: the symmetric parts of the derivative are what they share.
    np.testing.assert_allclose(gradient + gradient.T, wanted + wanted.T, atol=1e-12)


def test_a_fit_without_solution_gives_nan_and_a_status():
    eigen = predictor_eigen(jax.jit(lambda x, ridge: jm.fit(x, ridge))(data(5, 9), jnp.asarray(0.0)))
    assert np.isnan(eigen.values).all()
    assert not bool(eigen.converged)
    with pytest.raises(RuntimeError, match="Eigen did not converge"):
        jm.check(eigen)


@pytest.mark.parametrize("scheme", [jm.Partition([0, 0, 1, 1, 2, 2]), jm.Patterns(np.eye(6, dtype=bool), np.ones(6))])
def test_other_schemes_are_refused(scheme):
    with pytest.raises(ValueError, match=f"fitted to {type(scheme).__name__} masks"):
        predictor_eigen(jm.fit(data(30, 6), 0.3, scheme))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="fit_or_precision must be a square matrix, got shape"):
        predictor_eigen(np.ones((2, 3)))
    with pytest.raises(ValueError, match="fit_or_precision must be symmetric"):
        predictor_eigen(np.array([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="fit_or_precision must be finite"):
        predictor_eigen(np.full((2, 2), np.nan))
    for function in (pca_eigen, correlation_pca_eigen):
        with pytest.raises(ValueError, match="x must be a matrix"):
            function(np.ones(3))
        with pytest.raises(ValueError, match="x must be finite"):
            function(np.full((3, 3), np.inf))


def test_a_second_call_does_not_recompile():
    from jmask import eigen

    x = data(31, 7)
    predictor_eigen(jm.fit(x, 0.3))
    before = eigen._predictor_eigen._cache_size()
    predictor_eigen(jm.fit(2 * x, 0.5))
    assert eigen._predictor_eigen._cache_size() == before
