"""The self-consistent equations against reference numbers, exact algebra and their own definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jmask as jm

from . import problems

ERRORS = jm.theory.errors


@pytest.mark.parametrize("record", problems.GOLDEN["errors"], ids=lambda r: "-".join(str(v) for v in r.values())[:60])
def test_reference_numbers(record):
    d = record["d"]
    found = ERRORS(
        problems.population(record["population"], d),
        record["n"],
        problems.penalty(record["penalty"], record["ridge"], d),
        problems.scheme(record["hide_rate"]),
        problems.scales(record["scales"]),
    )
    for name in ("test", "train", "delta"):
        if name in record:
            np.testing.assert_allclose(getattr(found, name), record[name], rtol=1e-8)
    assert bool(found.converged)
    assert float(found.residual) < 1e-12


@pytest.mark.parametrize("n", [2.5, 5.0, 9.0, 50.0])
@pytest.mark.parametrize("ridge", [1e-12, 1e-3, 1.0, 1e4])
def test_isotropic_population_solves_a_quadratic(n, ridge):
    kappa = problems.isotropic_kappa(n, 5, ridge)
    np.testing.assert_allclose(jm.theory.effective_ridge(np.ones(5), n, ridge), kappa, rtol=1e-9)
    e = ERRORS(jm.covariance.Isotropic(np.ones(5)), n, ridge)
    np.testing.assert_allclose(e.test, 1 / (1 - 5 / n / (1 + kappa) ** 2), rtol=1e-7)
    np.testing.assert_allclose(e.df1, 5 / (1 + kappa), rtol=1e-9)
    np.testing.assert_allclose(e.df2, 5 / (1 + kappa) ** 2, rtol=1e-9)
    np.testing.assert_allclose(e.train, (ridge / kappa) ** 2 * e.test, rtol=1e-6)


@pytest.mark.parametrize("n", [3.0, 10.0, 40.0])
@pytest.mark.parametrize("ridge", [0.0, 1e-6, 0.3])
def test_two_atoms_solve_a_cubic(n, ridge):
    values = np.repeat([0.3, 3.0], [6, 4])
    expected = problems.two_atom_kappa(n, (6, 4), (0.3, 3.0), ridge)
    if n == 10 and ridge == 0:
        assert np.isnan(jm.theory.effective_ridge(values, n, ridge))
    else:
        np.testing.assert_allclose(jm.theory.effective_ridge(values, n, ridge), max(expected, 0), rtol=1e-8, atol=1e-12)


def test_effective_ridge_broadcasts_and_is_differentiable():
    n, ridge = jnp.array([[3.0], [8.0]]), jnp.array([0.1, 1.0, 10.0])
    values = jnp.linspace(0.5, 2.0, 6)
    table = jm.theory.effective_ridge(values, n, ridge)
    assert table.shape == (2, 3)
    np.testing.assert_allclose(table[1, 2], jm.theory.effective_ridge(values, 8, 10.0), rtol=1e-14)
    slope = jax.grad(lambda r: jm.theory.effective_ridge(values, 3.0, r))(0.1)
    ahead, behind = (jm.theory.effective_ridge(values, 3.0, 0.1 + h) for h in (1e-5, -1e-5))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-8)


def test_the_effective_ridge_of_a_singular_population_vanishes_with_the_ridge():
    values = np.r_[np.ones(30), np.zeros(70)]
    n = np.array([20.0, 30.0, 31.0, 100.0, 217.0])
    found = jm.theory.effective_ridge(values, n, 0.0)
    np.testing.assert_allclose(found, [0.5, np.nan, 0, 0, 0], rtol=1e-12)
    np.testing.assert_allclose(jm.theory.effective_ridge(values, 60.0, 1e-9), 2e-9, rtol=1e-6)


GRIDS = {  # eigenvalues, n, ridge of grids long enough for a table
    "decades": (np.geomspace(1e-6, 10, 200), 150.0, np.geomspace(1e-12, 1e12, 5000)),
    "each its own n": (np.linspace(0.1, 3, 80), np.linspace(1, 900, 5000), np.tile(np.geomspace(1e-9, 10, 50), 100)),
    "at n = d": (np.linspace(0.1, 3, 80), 80.0, np.geomspace(1e-12, 1, 5000)),
    "some at 0": (np.linspace(0.1, 3, 80), 40.0, np.where(np.arange(5000) % 3, 0.2, 0.0)),
    "one ridge": (np.ones(80), 40.0, np.full(5000, 0.3)),
    "single": (np.geomspace(1e-3, 10, 200).astype("f4"), np.float32(150), np.geomspace(1e-3, 10, 5000).astype("f4")),
}


@pytest.mark.parametrize("name", GRIDS)
def test_effective_ridges_of_a_long_grid_are_those_of_its_points(name):
    values, n, ridge = GRIDS[name]
    found = jm.theory.effective_ridge(values, n, ridge)
    assert found.dtype == np.asarray(values).dtype
    some = np.arange(0, 5000, 97)
    n = np.broadcast_to(n, ridge.shape)
    one_by_one = [jm.theory.effective_ridge(values, n[i], ridge[i]) for i in some]
    eps = np.finfo(found.dtype).eps
    slope = 1 - ((values / (values + np.asarray(found)[:, None])) ** 2).sum(1) / n  # rounding grows by its inverse
    assert (np.abs(found[some] / np.asarray(one_by_one) - 1) < 20 * eps / slope[some]).all()


def test_effective_ridges_of_a_long_grid_differentiate_batch_and_keep_nan_to_its_point():
    values, ridge = jnp.linspace(0.1, 3, 80), jnp.geomspace(1e-3, 10, 5000)
    total = jax.jit(lambda s, r: jm.theory.effective_ridge(s, 60.0, r))
    by_grid = jax.grad(lambda s: total(s, ridge).sum())(values)
    by_point = jax.vmap(jax.grad(lambda s, r: jm.theory.effective_ridge(s, 60.0, r)), (None, 0))(values, ridge).sum(0)
    np.testing.assert_allclose(by_grid, by_point, rtol=1e-11)
    both = jax.vmap(total, (0, None))(jnp.stack([values, 2 * values]), ridge)
    np.testing.assert_allclose(both[1], total(2 * values, ridge), rtol=1e-13)
    holed = total(values, ridge.at[7].set(jnp.nan).at[9].set(-1.0))
    assert np.flatnonzero(np.isnan(holed)).tolist() == [7, 9]
    np.testing.assert_allclose(np.delete(holed, [7, 9]), np.delete(total(values, ridge), [7, 9]), rtol=1e-13)


@pytest.mark.parametrize("scales", [None, "two_point"])
def test_ridge_zero_above_and_below_the_dimension(scales):
    law, c = problems.scales(scales), jm.covariance.Diagonal(np.ones(50))
    above = ERRORS(c, 100, 0.0, scales=law)
    assert float(above.effective_ridge) == 0
    below = ERRORS(c, 20, 0.0, scales=law)  # ridgeless regression on noise: κ = γ - 1, test = γ/(γ - 1)
    np.testing.assert_allclose([below.test, below.train, below.effective_ridge], [2.5 / 1.5, 0, 1.5], atol=1e-12)
    assert np.isinf(float(below.delta))
    for n, limit in ((100, above), (20, below)):
        near = ERRORS(c, n, 1e-9, scales=law)
        np.testing.assert_allclose(near.test, limit.test, rtol=1e-7)
        np.testing.assert_allclose(near.train, limit.train, rtol=1e-7, atol=1e-12)
        slope = jax.grad(lambda r, n=n: ERRORS(c, n, r, scales=law).test)(0.0)
        np.testing.assert_allclose(slope, (ERRORS(c, n, 1e-6, scales=law).test - limit.test) / 1e-6, rtol=1e-4)
    if law is None:
        np.testing.assert_allclose([above.test, above.train], [2.0, 0.5], rtol=1e-12)


def test_no_solution_at_n_equal_to_d_without_ridge():
    result = ERRORS(jm.covariance.Diagonal(np.ones(50)), 50, 0.0)
    assert int(result.status) == 2
    assert all(np.isnan(float(v)) for v in (result.test, result.train, result.delta, result.effective_ridge))
    with pytest.raises(RuntimeError, match="n = d"):
        jm.check(result)
    finite = ERRORS(jm.covariance.Diagonal(np.ones(50)), 50, 1e-8)  # κ = √λ there, to leading order
    np.testing.assert_allclose(finite.effective_ridge, 1e-4, rtol=1e-3)


def test_one_failing_lane_leaves_the_others():
    c = jm.covariance.Diagonal(np.ones(50))
    grid = jax.vmap(jax.vmap(lambda n, r: ERRORS(c, n, r), (None, 0)), (0, None))
    e = grid(jnp.array([20.0, 50.0, 100.0]), jnp.array([0.0, 0.5]))
    assert e.status.tolist() == [[0, 0], [2, 0], [0, 0]]
    for i, n in enumerate((20, 50, 100)):
        for j, r in enumerate((0.0, 0.5)):
            np.testing.assert_allclose(e.test[i, j], ERRORS(c, n, r).test, rtol=1e-12)


def test_ridges_partly_zero():
    c, ridge = problems.population("ar1_0.9", 12), np.array([0.0] * 4 + [0.2] * 8)
    exact = ERRORS(c, 9.0, ridge)
    assert bool(exact.converged)
    np.testing.assert_allclose(exact.test, ERRORS(c, 9.0, np.maximum(ridge, 1e-10)).test, rtol=1e-8)
    assert int(ERRORS(c, 3.0, ridge).status) == 2


@pytest.mark.parametrize("scales", [None, "two_point"])
def test_bernoulli_at_rate_zero_and_partitions_into_singletons_are_leave_one_out(scales):
    c, law = problems.population("ar1_0.9", 60), problems.scales(scales)
    plain = ERRORS(c, 40, 0.3, scales=law)
    np.testing.assert_allclose(ERRORS(c, 40, 0.3, jm.Bernoulli(0.0), law).test, plain.test, rtol=1e-12)
    traced = jax.jit(lambda p: ERRORS(c, 40, 0.3, jm.Bernoulli(p), law))(0.0)
    np.testing.assert_allclose([traced.test, traced.train], [plain.test, plain.train], rtol=1e-10)
    alone = ERRORS(c, 40, 0.3, jm.Partition(np.arange(60)), law)
    np.testing.assert_allclose([alone.test, alone.train], [plain.test, plain.train], rtol=3 / 60)
    assert alone.delta.shape == (60,)


def test_vector_of_equal_ridges_is_the_scalar():
    for c in (problems.population("ar1_0.9", 30), jm.covariance.Diagonal(np.linspace(0.2, 4, 30))):
        for scheme in (jm.LeaveOneOut(), jm.Bernoulli(0.2), jm.Partition(np.arange(30) // 10)):
            one, many = ERRORS(c, 20, 0.3, scheme), ERRORS(c, 20, np.full(30, 0.3), scheme)
            np.testing.assert_allclose(many.test_per_coordinate, one.test_per_coordinate, rtol=1e-11)
            np.testing.assert_allclose(many.train_per_coordinate, one.train_per_coordinate, rtol=1e-11)


def test_structures_agree():
    d, key = 24, jax.random.key(0)
    ring = jm.covariance.ar1(d, 0.7, circulant=True)
    spiked = jm.covariance.Spiked(jm.covariance.Diagonal(np.linspace(0.5, 2, d)), [3.0, -0.3]).realise(key)
    for c in (ring, spiked):
        for ridge in (0.2, np.linspace(0.1, 0.4, d)):
            for scheme in (jm.LeaveOneOut(), jm.Bernoulli(0.3)):
                dense = ERRORS(jm.covariance.Dense(c.matrix()), 15, ridge, scheme)
                kept = ERRORS(c, 15, ridge, scheme)
                np.testing.assert_allclose(kept.test_per_coordinate, dense.test_per_coordinate, rtol=1e-9)
                np.testing.assert_allclose(kept.train, dense.train, rtol=1e-9)


def test_partition_order_and_shapes():
    c = jm.covariance.Diagonal(np.linspace(0.5, 2, 9))
    groups = np.array([5, 1, 1, 5, 5, 0, 1, 2, 2])
    e = ERRORS(c, 7, np.linspace(0.1, 0.3, 9), jm.Partition(groups))
    assert e.delta.shape == e.df1.shape == (4,)
    for i, label in enumerate([0, 1, 2, 5]):
        rest = groups != label
        inner = jm.covariance.Diagonal(np.linspace(0.5, 2, 9)[rest])
        point = jm.theory.fixed_point(inner, 7, np.linspace(0.1, 0.3, 9)[rest])
        np.testing.assert_allclose(e.delta[i], point.delta, rtol=1e-12)
        np.testing.assert_allclose(e.effective_ridge[i][rest], point.effective_ridge, rtol=1e-12)


def test_single_precision_stays_single():
    c = jm.covariance.Diagonal(np.linspace(0.2, 4, 60).astype(np.float32))
    e = ERRORS(c, 40, 0.3)
    assert e.test.dtype == e.delta.dtype == jnp.float32
    np.testing.assert_allclose(e.test, ERRORS(problems.population("diag_linspace_0.2_4", 60), 40, 0.3).test, rtol=1e-4)


def test_second_call_does_not_compile_again():
    c = jm.covariance.Diagonal(np.linspace(0.2, 4, 60))
    ERRORS(c, 40, 0.3)
    with jax.no_tracing():
        ERRORS(c, 41, 0.2)


BULK = jm.covariance.Diagonal(np.ones(6))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((BULK, 0, 1.0), "n must be positive"),
        ((BULK, -3, 1.0), "n must be positive"),
        ((BULK, np.nan, 1.0), "n must be finite"),
        ((BULK, [3, 4], 1.0), "n must be a scalar"),
        ((BULK, 4, -1.0), "ridge must not be negative"),
        ((BULK, 4, np.ones(5)), "vector of 6"),
        ((BULK, 4, 1.0, jm.Partition([0, 1])), "one label for each of the 6"),
        ((BULK, 4, 1.0, jm.Patterns(np.eye(6, dtype=bool), np.ones(6))), "no theory for Patterns"),
        ((jm.covariance.Isotropic(np.ones(6)), 4, np.ones(6)), "realise"),
        ((jm.covariance.Isotropic(np.ones(6)), 4, 1.0, jm.Partition([0, 0, 0, 1, 1, 1])), "realise"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ERRORS(*arguments)


def test_bad_types_are_named():
    with pytest.raises(TypeError, match=r"Dense\(matrix\)"):
        ERRORS(np.eye(3), 4, 1.0)
    with pytest.raises(TypeError, match="scales must be"):
        ERRORS(BULK, 4, 1.0, scales=[1.0])
    with pytest.raises(TypeError, match="scheme must be"):
        ERRORS(BULK, 4, 1.0, "bernoulli")
    with pytest.raises(ValueError, match="ridge must not be negative"):
        jm.theory.effective_ridge(np.ones(3), 2.0, -0.1)
