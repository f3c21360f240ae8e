"""The closed form against brute force, its limits, its derivatives, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from sklearn.linear_model import Ridge

import jmask as jm

from . import brute

SHAPES = [(30, 7), (8, 8), (5, 9)]
RIDGES = {"scalar": 0.3, "vector": np.linspace(0.1, 2.0, 9)}


def data(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ (np.eye(d) + 0.4 * rng.standard_normal((d, d)))


def ridge_for(name, d):
    return RIDGES[name] if name == "scalar" else RIDGES[name][:d]


def schemes(d):
    rng = np.random.default_rng(1)
    hidden = rng.random((6, d)) < 0.4
    hidden = np.vstack([hidden, np.eye(d, dtype=bool)])
    return {
        "leave-one-out": jm.LeaveOneOut(),
        "bernoulli": jm.Bernoulli(0.3),
        "partition": jm.Partition([0, 0, 1, 2, 2, 2, 1, 0, 3][:d]),
        "patterns": jm.Patterns(hidden[hidden.any(1)], rng.random(hidden.any(1).sum()) + 0.1),
    }


def as_patterns(scheme, d):
    if isinstance(scheme, jm.Bernoulli):
        return brute.all_masks(d, scheme.hide_rate)
    if isinstance(scheme, jm.Partition):
        hidden = brute.group_patterns(scheme.groups)
        return hidden, np.ones(len(hidden))
    if isinstance(scheme, jm.Patterns):
        return np.asarray(scheme.hidden), np.asarray(scheme.probabilities)
    return np.eye(d, dtype=bool), np.ones(d)


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("ridge", RIDGES)
def test_equals_separate_ridge_regressions(n, d, ridge):
    x, ridge = data(n, d), ridge_for(ridge, d)
    weights = np.asarray(jm.fit(x, ridge).weights)
    for k in range(d):
        others = np.delete(np.arange(d), k)
        scale = np.sqrt(np.broadcast_to(ridge, d)[others])  # a penalty per input is a scaling of it
        model = Ridge(alpha=n, fit_intercept=False, tol=1e-14, solver="cholesky").fit(x[:, others] / scale, x[:, k])
        np.testing.assert_allclose(weights[k, others], model.coef_ / scale, rtol=0, atol=1e-10)
        assert weights[k, k] == 0


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("ridge", RIDGES)
@pytest.mark.parametrize("name", ["leave-one-out", "bernoulli", "partition", "patterns"])
def test_equals_brute_force(n, d, ridge, name):
    x, ridge, scheme = data(n, d), ridge_for(ridge, d), schemes(d)[name]
    hidden, probabilities = as_patterns(scheme, d)
    expected = brute.pattern_weights(x, ridge, hidden, probabilities)
    np.testing.assert_allclose(jm.fit(x, ridge, scheme).weights, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["leave-one-out", "bernoulli", "partition"])
def test_spelled_out_patterns_reproduce_the_scheme(name):
    d = 6
    x, scheme = data(20, d), schemes(d)[name]
    hidden, probabilities = as_patterns(scheme, d)
    spelled = jm.Patterns(hidden[hidden.any(1)], probabilities[hidden.any(1)])
    np.testing.assert_allclose(jm.fit(x, 0.2, spelled).weights, jm.fit(x, 0.2, scheme).weights, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("name", ["leave-one-out", "bernoulli", "partition", "patterns"])
def test_gradient_of_the_objective_vanishes(n, d, name):
    x, scheme = data(n, d), schemes(d)[name]
    weights = jm.fit(x, 0.3, scheme).weights
    gradient = jax.grad(jm.masked_loss)(weights, x, 0.3, scheme)
    assert float(jnp.abs(jnp.where(jm.masking.can_see(scheme, d), gradient, 0)).max()) < 1e-8


@pytest.mark.parametrize("name", ["leave-one-out", "bernoulli", "partition", "patterns"])
@pytest.mark.parametrize(("n", "d"), [(30, 7), (7, 7), (4, 8)])
def test_ridge_zero_is_the_limit(n, d, name):
    x, scheme = data(n, d), schemes(d)[name]
    limit = jm.fit(x, 0.0, scheme)
    assert bool(limit.converged)
    gaps = [np.abs(limit.weights - jm.fit(x, ridge, scheme).weights).max() for ridge in (1e-6, 1e-8)]
    assert gaps[1] < 0.05 * gaps[0] + 1e-7
    assert gaps[1] < 1e-3
    np.testing.assert_allclose(jm.fit(jm.Gram.from_samples(x), 0.0, scheme).weights, limit.weights, rtol=0, atol=1e-7)


def test_ridge_zero_interpolates_when_samples_are_few():
    x = data(5, 9)
    assert float(jm.train_error(jm.fit(x, 0), x)) < 1e-20


def test_ridge_zero_by_rank_not_by_count():
    rng = np.random.default_rng(3)
    x = np.hstack([(factors := rng.standard_normal((40, 3))) @ rng.standard_normal((3, 5)), factors[:, :1] * 0])
    x = np.hstack([x, rng.standard_normal((40, 1))])  # rank 4 of 7, a zero column and a free one
    limit, small = jm.fit(x, 0.0), jm.fit(x, 1e-7)
    np.testing.assert_allclose(limit.weights, small.weights, rtol=0, atol=1e-5)
    assert not np.asarray(limit.weights[5]).any()
    assert not np.asarray(limit.weights[:, 5]).any()


def test_traced_zero_on_a_singular_matrix_is_nan():
    x = data(5, 9)
    result = jax.jit(jm.fit)(x, 0.0)
    assert not bool(result.converged)
    assert bool(jnp.isnan(result.weights).all())
    with pytest.raises(RuntimeError, match="ridge 0"):
        jm.check(result)
    tall = jax.jit(jm.fit)(data(30, 7), 0.0)
    np.testing.assert_allclose(tall.weights, jm.fit(data(30, 7), 0.0).weights, atol=1e-10)


def test_partly_zero_ridges():
    ridge = np.array([0.0, 1.0, 0.5, 0.0, 0.2, 0.3, 0.1])
    x = data(30, 7)
    expected = brute.pattern_weights(x, ridge, np.eye(7, dtype=bool), np.ones(7))
    np.testing.assert_allclose(jm.fit(x, ridge).weights, expected, atol=1e-10)
    with pytest.raises(ValueError, match="zeros beside positive"):
        jm.fit(np.hstack([x[:, :1], x[:, :1], x[:, 1:6]]), np.array([0.0, 0, 0, 1, 1, 1, 1]))


def test_constant_column_is_legal():
    x = np.hstack([data(20, 4), np.zeros((20, 1))])
    weights = np.asarray(jm.fit(x, 0.1).weights)
    assert not weights[4].any()
    assert not weights[:, 4].any()


def test_predict_is_linear_in_the_others():
    x = data(20, 5)
    result = jm.fit(x, 0.1)
    np.testing.assert_allclose(result.predict(x), x @ np.asarray(result.weights).T, atol=1e-12)


@pytest.mark.parametrize("ridge", [0.2, 0.0])
@pytest.mark.parametrize(("n", "d"), [(30, 6), (4, 6)])
def test_impute_is_the_conditional_mean(n, d, ridge):
    x = data(n, d)
    result = jm.fit(x, ridge)
    rng = np.random.default_rng(5)
    fresh, observed = data(12, d, 9), rng.random((12, d)) < 0.6
    observed[0], observed[1] = False, True
    observed[3] = observed[2]
    s = x.T @ x / n + ridge * np.eye(d)
    filled = np.asarray(result.impute(np.where(observed, fresh, np.nan), observed))
    for row, known, seen in zip(filled, fresh, observed, strict=True):
        np.testing.assert_array_equal(row[seen], known[seen])
        inverse = np.linalg.pinv(s[np.ix_(seen, seen)], rcond=1e-10)
        expected = s[np.ix_(~seen, seen)] @ inverse @ known[seen] if seen.any() else np.zeros(d)
        np.testing.assert_allclose(row[~seen], expected, atol=1e-7)
    traced = jax.jit(lambda x, observed: result.impute(x, observed))(fresh, observed)
    np.testing.assert_allclose(traced, filled, atol=1e-7)


def test_impute_agrees_with_predict():
    x = data(30, 6)
    result = jm.fit(x, 0.2)
    predicted = np.asarray(result.predict(x))
    for k in range(6):
        observed = np.ones(x.shape, bool)
        observed[:, k] = False
        np.testing.assert_allclose(result.impute(x, observed)[:, k], predicted[:, k], atol=1e-10)


@pytest.mark.parametrize("name", ["leave-one-out", "bernoulli", "partition", "patterns"])
def test_save_and_load(tmp_path, name):
    x = data(12, 6)
    result = jm.fit(x, 0.0 if name == "partition" else np.linspace(0.1, 1, 6), schemes(6)[name])
    result.save(tmp_path / "fit.npz")
    again = jm.Fit.load(tmp_path / "fit.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["fit.npz"]
    assert jax.tree.structure(again) == jax.tree.structure(result)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(result), strict=True):
        np.testing.assert_array_equal(a, b)


def test_files_of_the_first_version_held_the_precision_of_every_fit(tmp_path):
    result = jm.fit(data(12, 6), 0.3, jm.Bernoulli(0.3))
    result.save(tmp_path / "fit.npz")
    with np.load(tmp_path / "fit.npz") as whole:
        parts = {name: whole[name] for name in whole.files if name != "conditional_precision"}
    np.savez(tmp_path / "old.npz", **parts | {"version": np.array(1), "precision": np.asarray(result.precision)})
    again = jm.Fit.load(tmp_path / "old.npz")
    np.testing.assert_array_equal(again.precision, result.precision)
    np.testing.assert_array_equal(again.conditional_precision, jnp.diagonal(result.precision))


@pytest.mark.parametrize("name", ["leave-one-out", "bernoulli", "partition", "patterns"])
@pytest.mark.parametrize("n", [4, 12])
def test_precision(n, name):
    """That of the penalty used, read off the weights or kept; of a batch of fits too."""
    x, ridge, scheme = data(n, 6), np.linspace(0.1, 1, 6), schemes(6)[name]
    s = x.T @ x / n
    used = 0.3 / 0.7 * np.diag(s) + ridge / 0.49 if name == "bernoulli" else ridge
    expected = np.linalg.inv(s + np.diag(used))
    fit = jm.fit(x, ridge, scheme)
    np.testing.assert_allclose(fit.precision, expected, atol=1e-12)
    np.testing.assert_allclose(fit.conditional_precision, np.diag(expected), atol=1e-12)
    many = jax.vmap(lambda x: jm.fit(x, ridge, scheme))(jnp.stack([x, 2 * x]))
    np.testing.assert_allclose(many.precision[0], expected, atol=1e-12)
    target = data(6, 6)
    loss = lambda r: (jm.fit(x, r, scheme).precision * target).sum()  # noqa: E731
    check_grads(loss, (jnp.asarray(ridge),), 1)


def test_load_refuses_what_is_no_fit(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.ones(2))
    (tmp_path / "text.npz").write_text("hello")
    for name in ("other.npz", "text.npz"):
        with pytest.raises(ValueError, match=r"not a file that Fit\.save wrote"):
            jm.Fit.load(tmp_path / name)
    jm.fit(data(9, 3), 1.0).save(tmp_path / "fit.npz")
    with np.load(tmp_path / "fit.npz") as whole:
        np.savez(tmp_path / "part.npz", **{name: whole[name] for name in whole.files if name != "weights"})
    with pytest.raises(ValueError, match="lacks a part of what"):
        jm.Fit.load(tmp_path / "part.npz")
    with pytest.raises(FileNotFoundError):
        jm.Fit.load(tmp_path / "missing.npz")
    with pytest.raises(ValueError, match=r"\.npz"):
        jm.fit(data(9, 3), 1.0).save(tmp_path / "fit.pkl")


@pytest.mark.parametrize("name", ["leave-one-out", "bernoulli", "partition", "patterns"])
@pytest.mark.parametrize(("n", "d"), [(12, 5), (4, 6)])
def test_gradients_agree_with_finite_differences(n, d, name):
    x, scheme = data(n, d), schemes(d)[name]

    def value(x, ridge, scheme):
        return (jm.fit(x, ridge, scheme).weights ** 2 * jnp.arange(1.0, d * d + 1).reshape(d, d)).sum()

    for ridge in (jnp.asarray(0.3), jnp.linspace(0.2, 1.0, d)):
        check_grads(lambda x, r: value(x, r, scheme), (jnp.asarray(x), ridge), 1, rtol=1e-5, eps=1e-6)
    if name == "bernoulli":
        check_grads(lambda p: value(x, 0.3, jm.Bernoulli(p)), (jnp.asarray(0.3),), 2, rtol=1e-4)


def test_gradient_at_ridge_zero():
    for n, d in ((12, 5), (4, 6)):
        f = lambda x: (jm.fit(x, 0.0).weights ** 2).sum()  # noqa: E731
        check_grads(f, (jnp.asarray(data(n, d)),), 1, rtol=1e-4, eps=1e-6)


def test_vmap_over_ridges_and_seeds_equals_a_loop():
    xs = np.stack([data(12, 5, seed) for seed in range(3)])
    ridges = jnp.array([0.1, 0.5, 2.0])
    both = jax.vmap(jax.vmap(jm.fit, (None, 0)), (0, None))(xs, ridges).weights
    for i, x in enumerate(xs):
        for j, ridge in enumerate(ridges):
            np.testing.assert_allclose(both[i, j], jm.fit(x, ridge).weights, atol=1e-12)


def test_one_failing_lane_leaves_the_others():
    result = jax.vmap(jm.fit, (None, 0))(data(4, 6), jnp.array([0.0, 0.5]))
    assert result.converged.tolist() == [False, True]
    assert bool(jnp.isfinite(result.weights[1]).all())


def test_second_call_does_not_compile_again():
    x = data(10, 4)
    jm.fit(x, 0.1)
    with jax.log_compiles(False), jax.no_tracing():
        jm.fit(x, 0.2)


def test_single_precision_stays_single():
    x = data(60, 8)
    single = jm.fit(x.astype(np.float32), 0.5)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(single)} <= {"float32", "int64", "int32"}
    np.testing.assert_allclose(single.weights, jm.fit(x, 0.5).weights, atol=1e-5)


def test_single_precision_warns_when_unsafe():
    x = data(60, 8).astype(np.float32) * np.array([1e3] + [1] * 7, np.float32)
    with pytest.warns(UserWarning, match="condition number"):
        jm.fit(x, 1e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(50, 5), (5, 50), (400, 300), (100, 300)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("ridge", [0.0, 0.1, 1e-30])
def test_data_that_is_not_finite_is_refused_by_every_path(shape, value, ridge):
    x = np.random.default_rng(0).standard_normal(shape)
    x[1, 2] = value
    for scheme in (jm.LeaveOneOut(), jm.Bernoulli(0.3), jm.Partition(np.arange(shape[1]) // 2)):
        with pytest.raises(ValueError, match=r"x must be finite, got (nan|inf) at index \(1, 2\)"):
            jm.fit(x, ridge, scheme)
        with pytest.raises(ValueError, match="x must be finite"):
            jm.fit(jm.Gram.from_samples(jnp.asarray(x)), ridge, scheme)


def test_integers_and_booleans_are_cast():
    x = np.random.default_rng(0).integers(0, 3, (20, 4))
    np.testing.assert_array_equal(jm.fit(x, 1).weights, jm.fit(x.astype(float), 1.0).weights)
    np.testing.assert_array_equal(jm.fit(x > 1, 1).weights, jm.fit((x > 1).astype(float), 1.0).weights)


@pytest.mark.parametrize(
    ("x", "ridge", "message"),
    [
        (np.zeros((0, 3)), 1.0, "x must have at least 2"),
        (np.zeros((1, 3)), 1.0, "x must have at least 2"),
        (np.zeros((5, 1)), 1.0, "2 columns"),
        (np.zeros(5), 1.0, "matrix"),
        (np.array([[1.0, np.nan], [1, 2]]), 1.0, r"x must be finite, got nan at index \(0, 1\)"),
        (np.array([[1.0, np.inf], [1, 2]]), 1.0, "finite"),
        (np.ones((4, 3)), -1.0, "ridge must not be negative"),
        (np.ones((4, 3)), np.nan, "ridge must be finite"),
        (np.ones((4, 3)), np.ones(2), "vector of 3 entries"),
    ],
)
def test_bad_input_is_named(x, ridge, message):
    with pytest.raises(ValueError, match=message):
        jm.fit(x, ridge)


def test_bad_types_are_named():
    with pytest.raises(TypeError, match="x must be an array"):
        jm.fit(np.array([["a", "b"], ["c", "d"]]), 1.0)
    with pytest.raises(TypeError, match="scheme must be"):
        jm.fit(np.ones((4, 3)), 1.0, "bernoulli")
    with pytest.raises(ValueError, match="one label for each"):
        jm.fit(np.ones((4, 3)), 1.0, jm.Partition([0, 1]))


def test_too_large_a_matrix_is_refused_before_allocating():
    with pytest.raises(ValueError, match="bytes"):
        jm.fit(np.broadcast_to(np.float32(0), (2, 1_000_000)), 1.0)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), scale=st.floats(0.1, 10))
def test_invariances(seed, scale):
    x = data(10, 5, seed)
    order = np.random.default_rng(seed).permutation(5)
    weights = np.asarray(jm.fit(x, 0.4).weights)
    np.testing.assert_allclose(jm.fit(x[:, order], 0.4).weights, weights[np.ix_(order, order)], atol=1e-9)
    np.testing.assert_allclose(jm.fit(scale * x, scale**2 * 0.4).weights, weights, atol=1e-9)
    orthogonal = np.linalg.qr(np.random.default_rng(seed).standard_normal((10, 10)))[0]
    np.testing.assert_allclose(jm.fit(orthogonal @ x, 0.4).weights, weights, atol=1e-9)


def test_known_constants_inside_jit_are_checked_too():
    x, ridge = data(12, 5), jnp.linspace(0.1, 0.5, 5)
    inside = jax.jit(lambda x: jm.fit(x, ridge).weights)(x)
    np.testing.assert_allclose(inside, jm.fit(x, ridge).weights, atol=1e-13)
    left_out = jax.jit(lambda x: jm.leave_one_out_error(x, ridge, jm.Bernoulli(jnp.asarray(0.2))))(x)
    np.testing.assert_allclose(left_out, jm.leave_one_out_error(x, ridge, jm.Bernoulli(0.2)), rtol=1e-12)
    known = jax.jit(lambda t: jm.theory.errors(jm.covariance.Diagonal(ridge), jnp.asarray(7.0), t * ridge).test)
    assert bool(jnp.isfinite(known(2.0)))
