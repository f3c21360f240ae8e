"""The dense kernels against NumPy at sizes on both sides of every switch, and their derivatives."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jmask import _linalg
from jmask._product import product


def primal(x, ridge):
    return _linalg.precision_of(*_linalg.primal_regressions(x, ridge))


def dual(x, ridge):
    return _linalg.precision_of(*_linalg.dual_regressions(x, ridge))


@pytest.mark.parametrize("flags", ["NN", "NT", "TN", "TT"])
@pytest.mark.parametrize("least", [1, 100])
def test_product(flags, least):
    """By BLAS and by XLA: value, derivatives forward and back and twice, batches of one factor and of both."""
    rng = np.random.default_rng(0)
    shapes = [shape[::-1] if flag == "T" else shape for shape, flag in zip([(3, 5), (5, 4)], flags, strict=True)]
    left, right = (jnp.asarray(rng.standard_normal(shape)) for shape in shapes)

    def plain(left, right):
        return (left.T if flags[0] == "T" else left) @ (right.T if flags[1] == "T" else right)

    def ours(left, right):
        return product(left, right, flags, least)

    np.testing.assert_allclose(ours(left, right), plain(left, right), atol=1e-14)
    check_grads(ours, (left, right), 2)
    lefts, rights = jnp.stack([left, 2 * left, -left]), jnp.stack([right, right + 1, 3 * right])
    for axes, factors in (((0, 0), (lefts, rights)), ((0, None), (lefts, right)), ((None, 0), (left, rights))):
        batched = [jax.jit(jax.vmap(f, axes)) for f in (ours, plain)]
        np.testing.assert_allclose(batched[0](*factors), batched[1](*factors), atol=1e-14)
        back = [jax.vjp(f, *factors)[1](f(*factors) ** 2) for f in batched]
        each = [
            jax.vmap(jax.grad(lambda a, b, f=f: (f(a, b) ** 2).sum(), (0, 1)), axes)(*factors) for f in (ours, plain)
        ]
        for found, expected in (*zip(*back, strict=True), *zip(*each, strict=True)):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_large_product():
    a, b = np.random.default_rng(0).standard_normal((2, 1540, 1540))
    np.testing.assert_allclose(product(jnp.asarray(a), jnp.asarray(b)), a @ b, atol=1e-11)
    _, back = jax.vjp(product, jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_allclose(back(jnp.asarray(a))[0], a @ b.T, atol=1e-11)
    np.testing.assert_allclose(back(jnp.asarray(a))[1], a.T @ a, atol=1e-11)


@pytest.mark.parametrize(("n", "d"), [(5, 3), (40, 300), (700, 520), (300, 1030)])
def test_gram(n, d):
    x = np.random.default_rng(0).standard_normal((n, d))
    found = np.asarray(_linalg.gram(jnp.asarray(x)))
    np.testing.assert_allclose(found, x.T @ x, atol=1e-11)
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("d", [3, 130, 515, 1030])
@pytest.mark.parametrize("condition", [1e2, 1e8])
def test_inverse_is_as_accurate_as_substitution(d, condition):
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0]
    values = np.logspace(0, -np.log10(condition), d)
    matrix = (basis * values) @ basis.T
    found = np.asarray(_linalg.inverse(jnp.asarray((matrix + matrix.T) / 2)))
    expected = (basis / values) @ basis.T
    assert np.abs(found - expected).max() < 100 * 2.2e-16 * condition * np.abs(expected).max()


@pytest.mark.parametrize("d", [31, 70])
def test_by_halves_without_lapack(d, monkeypatch):
    monkeypatch.setattr(_linalg, "_HALVED_FROM", 16)
    x = np.random.default_rng(0).standard_normal((2 * d, d))
    found = np.asarray(_linalg.gram(jnp.asarray(x)))
    np.testing.assert_allclose(found, x.T @ x, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(found, found.T)
    ridge = jnp.linspace(0.1, 1, d)
    for kernel, rows in ((primal, x), (dual, x[: d // 2])):
        found = np.asarray(kernel(jnp.asarray(rows), ridge))
        expected = np.linalg.inv(rows.T @ rows / len(rows) + np.diag(ridge))
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(jax.vmap(kernel)(jnp.asarray(rows)[None], ridge[None])[0], found, atol=1e-12)
    stiff = np.diag(10.0 ** -np.linspace(0, 9, d)) + 1e-12 * expected
    np.testing.assert_allclose(_linalg.inverse(jnp.asarray(stiff)) @ stiff, np.eye(d), atol=1e-6)
    assert bool(jnp.isnan(_linalg.inverse(jnp.asarray(x[: d // 2].T @ x[: d // 2]))).all())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [5, 263, 1030])
def test_regressions(d, dtype):
    """Of data, wide and not, and of their Gram matrix: what the inverse says, on both sides of every switch."""
    rng = np.random.default_rng(0)
    for n in (max(d // 5, 2), d // 2, 2 * d):
        x, ridge = rng.standard_normal((n, d)).astype(dtype), np.linspace(0.3, 1, d).astype(dtype)
        matrix = x.T.astype(float) @ x / n + np.diag(ridge)
        q = np.linalg.inv(matrix)
        expected = np.where(np.eye(d), 0, -q / np.diag(q)[:, None])
        kernel = _linalg.primal_regressions if n >= d else _linalg.dual_regressions
        for weights, diagonal in (kernel(x, ridge), _linalg.matrix_regressions(jnp.asarray(matrix, dtype))):
            assert weights.dtype == diagonal.dtype == dtype
            np.testing.assert_allclose(weights, expected, atol=50 * np.finfo(dtype).eps)
            np.testing.assert_allclose(diagonal, np.diag(q), rtol=500 * np.finfo(dtype).eps)
            np.testing.assert_allclose(_linalg.precision_of(weights, diagonal), q, atol=500 * np.finfo(dtype).eps)


@pytest.mark.parametrize("n", [5, 60])
def test_derivatives_of_regressions(n):
    rng = np.random.default_rng(0)
    x, ridge, target = (jnp.asarray(rng.random(shape) + 0.1) for shape in ((n, 6), (6,), (6, 6)))

    def functions(weights, diagonal):
        return (weights * target).sum() + (diagonal**2 * target[0]).sum()

    kernel = _linalg.primal_regressions if n > 6 else _linalg.dual_regressions
    check_grads(lambda x, r: functions(*kernel(x, r)), (x, ridge), 2, rtol=1e-3)
    matrix = x.T @ x / n + jnp.diag(ridge)
    check_grads(lambda m: functions(*_linalg.matrix_regressions((m + m.T) / 2)), (matrix,), 2, rtol=1e-3)
    plain = jax.grad(lambda m: functions(*_linalg.regressions(jnp.linalg.inv(m))))(matrix)
    np.testing.assert_allclose(jax.grad(lambda m: functions(*_linalg.matrix_regressions(m)))(matrix), plain, atol=1e-10)


def test_inverse_of_a_singular_matrix_is_nan():
    x = np.random.default_rng(0).standard_normal((300, 515))
    assert bool(jnp.isnan(_linalg.inverse(jnp.asarray(x.T @ x))).all())


@pytest.mark.parametrize("name", ["gram", "inverse"])
def test_derivatives(name):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((6, 4)))
    if name == "gram":
        check_grads(_linalg.gram, (x,), 2)
    else:
        check_grads(lambda x: _linalg.inverse(x.T @ x + jnp.eye(4)), (x,), 2)


def test_derivatives_of_the_large_kernels():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((40, 1030)))
    direction = jnp.asarray(np.random.default_rng(1).standard_normal((40, 1030)))
    value, slope = jax.jvp(lambda x: _linalg.inverse(_linalg.gram(x) + jnp.eye(1030)).sum(), (x,), (direction,))
    f = lambda t: np.linalg.inv((x + t * direction).T @ (x + t * direction) + np.eye(1030)).sum()  # noqa: E731
    np.testing.assert_allclose(value, f(0.0), rtol=1e-10)
    np.testing.assert_allclose(slope, (f(1e-5) - f(-1e-5)) / 2e-5, rtol=1e-5)


def test_batches():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 9, 5)))
    grams = jax.vmap(_linalg.gram)(x) + jnp.eye(5)[None]
    np.testing.assert_allclose(grams, np.einsum("bij,bik->bjk", x, x) + np.eye(5), atol=1e-12)
    np.testing.assert_allclose(jax.vmap(_linalg.inverse)(grams), np.linalg.inv(grams), atol=1e-12)


@pytest.mark.parametrize("d", [7, 300])
def test_congruent_eigenvalues(d):
    rng = np.random.default_rng(0)
    lower, values = np.tril(rng.standard_normal((d, d))), rng.standard_normal((3, d))
    found = jax.lax.map(lambda v: _linalg.congruent_eigenvalues(jnp.asarray(lower), v), jnp.asarray(values))
    expected = np.linalg.eigvalsh((lower * values[:, None, :]) @ lower.T)
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("r", [1, 2, 3, 7])
def test_small_systems(r):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((20, r, r)), rng.standard_normal((20, r, 3))
    a[0, 0, 0] = 0.0 if r > 1 else 1.0
    np.testing.assert_allclose(jax.vmap(_linalg.solve_small)(a, b), np.linalg.solve(a, b), atol=1e-9)
    turned = a[1] + 1j * a[2]
    vector = b[1, :, 0].astype(complex)
    np.testing.assert_allclose(_linalg.solve_small(turned, vector), np.linalg.solve(turned, vector), atol=1e-9)
    check_grads(_linalg.solve_small, (jnp.asarray(a[3]), jnp.asarray(b[3])), 2, rtol=1e-4)


@pytest.mark.parametrize(("n", "d"), [(4, 7), (65, 260), (131, 515), (300, 515)])
def test_dual_is_the_primal(n, d):
    """Value and derivatives in the samples and in the ridges, on both sides of the switch to LAPACK."""
    rng = np.random.default_rng(0)
    at = jnp.asarray(rng.standard_normal((n, d))), jnp.linspace(0.1, 2, d)
    along = jnp.asarray(rng.standard_normal((n, d))), jnp.linspace(-1, 1, d)
    both = [jax.jvp(f, at, along) for f in (dual, primal)]
    np.testing.assert_allclose(both[0][0], both[1][0], atol=1e-12)
    np.testing.assert_allclose(both[0][1], both[1][1], atol=1e-10)
    np.testing.assert_allclose(both[0][0], both[0][0].T, atol=1e-15)
    if d < 10:
        for scalar in (jnp.asarray(0.3), at[1]):
            check_grads(lambda r: (dual(at[0], r) ** 2).sum(), (scalar,), 2, rtol=1e-4)
            check_grads(lambda x, r: (dual(x, r) ** 2).sum(), (at[0], scalar), 2, rtol=1e-3)


@pytest.mark.parametrize("d", [7, 260])
def test_dual_without_a_solution_is_nan(d):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((5, d)))
    assert bool(jnp.isnan(jnp.diagonal(dual(x, jnp.zeros(d)))).all())
    assert bool(jnp.isnan(jnp.diagonal(dual(x.at[0, 0].set(jnp.nan), jnp.ones(d)))).any())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lapack_kernels_in_batches_and_threads(dtype):
    """Nested batches, an argument that is not batched, several threads at once: as alone."""
    rng, d = np.random.default_rng(0), 260
    x = jnp.asarray(rng.standard_normal((2, 300, d)), dtype)
    ridges = jnp.asarray([0.5, 1.0, 2.0], dtype)
    both = jax.jit(jax.vmap(jax.vmap(primal, (None, 0)), (0, None)))
    found = np.asarray(both(x, ridges))
    assert found.dtype == dtype
    for i, j in np.ndindex(2, 3):
        matrix = np.asarray(x[i], float).T @ np.asarray(x[i], float) / 300 + float(ridges[j]) * np.eye(d)
        np.testing.assert_allclose(found[i, j], np.linalg.inv(matrix), atol=100 * np.finfo(dtype).eps)
    with ThreadPoolExecutor(4) as pool:
        for again in pool.map(lambda _: np.asarray(both(x, ridges)), range(8)):
            np.testing.assert_array_equal(again, found)


def test_one_singular_lane_leaves_the_others():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((40, 260)))
    found = jax.vmap(primal, (None, 0))(x, jnp.array([0.0, 1.0]))
    assert jnp.isnan(found).any((1, 2)).tolist() == [True, False]
    assert bool(jnp.isnan(_linalg.inverse(jnp.full((260, 260), jnp.nan))).all())


def test_ridge_alone_is_differentiated_by_one_product():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((60, 5)))
    f = lambda x, ridge: (primal(x, ridge) ** 2).sum()  # noqa: E731
    for ridge in (jnp.asarray(0.3), jnp.linspace(0.1, 0.5, 5)):
        check_grads(lambda r: f(x, r), (ridge,), 2, rtol=1e-4)
        check_grads(f, (x, ridge), 2, rtol=1e-3)
