"""Hyperparameters chosen from data, and the minimiser that everything in ``jm.tune`` shares."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jmask as jm
from jmask._types import AT_END, CONVERGED, FLAT, MAX_STEPS, NON_FINITE, OUT_OF_BOUNDS, STALLED, UNBOUNDED

TWO_GROUPS = np.tile([0, 1], 6)


def factor_data(seed, n, d, noise=1.0):
    """One factor in every coordinate, and noise of one variance or of several by turns."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 1)) + rng.normal(size=(n, d)) * np.resize(np.sqrt(noise), d)


# ------------------------------------------------------------------------------------------- one ridge
@pytest.mark.parametrize("seed", range(20))
def test_no_grid_is_better_than_the_tuned_ridge(seed):
    n, d = ((40, 12), (12, 20))[seed % 2]
    x = factor_data(seed, n, d, noise=(0.1, 1.0, 30.0)[seed % 3])
    found = jm.tune.ridge(x)
    path = jm.ridge_path(x, np.mean(x**2) * np.logspace(-6, 6, 100))
    assert float(found.value) <= float(path.leave_one_out.min()) + 1e-9
    np.testing.assert_allclose(found.value, jm.leave_one_out_error(x, found.ridge), rtol=1e-9)
    if int(found.status) == CONVERGED:
        assert abs(found.slope) < 1e-8
        assert found.curvature > 0
    else:
        assert int(found.status) == AT_END


@pytest.mark.parametrize(
    "scheme", [jm.Bernoulli(0.3), jm.Partition(np.arange(12) // 3)], ids=["bernoulli", "partition"]
)
@pytest.mark.parametrize("centred", [False, True])
def test_every_scheme_and_centring(scheme, centred):
    x = factor_data(1, 30, 12) + 3.0 * centred
    found = jm.tune.ridge(x, scheme, centred=centred)
    assert bool(found.converged)
    for ridge in np.logspace(-3, 3, 13) * float(found.ridge):
        assert float(found.value) <= float(jm.leave_one_out_error(x, ridge, scheme, centred=centred)) + 1e-12


def test_ridge_of_independent_coordinates_is_infinite_and_says_so():
    x = np.kron(np.ones((8, 1)), np.array([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]))
    found = jm.tune.ridge(x)
    assert int(found.status) == AT_END
    assert not bool(found.converged)
    assert float(found.ridge) > 1e10


def test_two_centred_rows_say_nothing_about_the_ridge():
    """Without either of them the mean is the other, and every prediction is it."""
    found = jm.tune.ridge(factor_data(0, 2, 6), centred=True)
    assert int(found.status) == FLAT
    np.testing.assert_allclose(found.scan_value, found.value, rtol=1e-12)


def test_ridge_is_equivariant_to_extreme_scales():
    x = factor_data(2, 40, 12)
    plain = jm.tune.ridge(x)
    for scale in (1e-8, 1e8):
        scaled = jm.tune.ridge(scale * x)
        np.testing.assert_allclose(scaled.ridge / scale**2, plain.ridge, rtol=1e-6)
        np.testing.assert_allclose(scaled.value / scale**2, plain.value, rtol=1e-12)


def test_single_precision_stays_single():
    found = jm.tune.ridge(factor_data(2, 40, 12).astype(np.float32))
    assert found.ridge.dtype == found.value.dtype == jnp.float32
    np.testing.assert_allclose(found.ridge, jm.tune.ridge(factor_data(2, 40, 12)).ridge, rtol=1e-2)


def test_ridge_is_differentiable_in_the_data():
    """Along a direction in x, against tuning again."""
    x, move = factor_data(3, 30, 6), np.random.default_rng(0).normal(size=(30, 6))

    def tuned(t):
        found = jm.tune.ridge(x + t * move)
        return jnp.stack([jnp.log(found.ridge), found.value])

    slope = jax.jacrev(tuned)(0.0)
    np.testing.assert_allclose(slope, (tuned(1e-5) - tuned(-1e-5)) / 2e-5, rtol=1e-5)


def test_ridge_under_vmap_and_with_a_lane_that_fails():
    xs = jnp.stack([jnp.asarray(factor_data(seed, 20, 5)) for seed in range(3)]).at[1].set(jnp.nan)
    found = jax.vmap(jm.tune.ridge)(xs)
    assert found.status.tolist() == [CONVERGED, NON_FINITE, CONVERGED]
    assert np.isnan(found.ridge[1])
    np.testing.assert_allclose(found.ridge[2], jm.tune.ridge(xs[2]).ridge, rtol=1e-8)


def test_constant_and_repeated_columns():
    x = factor_data(4, 40, 6)
    x[:, 0] = 7.0
    assert bool(jm.tune.ridge(x, centred=True).converged)
    twin = jm.tune.ridge(np.concatenate([x, x[:, 1:]], 1), centred=True)
    assert float(twin.value) < 1e-6  # every column has its copy to be read off
    assert int(jm.tune.ridge(np.zeros((5, 3))).status) == NON_FINITE


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((np.ones(3),), "x must be a matrix"),
        ((np.full((4, 3), np.nan),), "x must be finite"),
        ((np.ones((4, 3)), jm.Patterns(np.eye(3, dtype=bool), np.ones(3))), "Patterns"),
        ((np.ones((4, 3)), jm.Partition([0, 0, 1, 1])), "4"),
    ],
)
def test_ridge_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        jm.tune.ridge(*arguments)


# ------------------------------------------------------------------------------------------- the gradient
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("shape", [(30, 8), (8, 12)])
@pytest.mark.parametrize("scheme", ["leave-one-out", "bernoulli", "partition"])
def test_gradient_of_leave_one_out_equals_finite_differences(scheme, shape, centred):
    x = factor_data(5, *shape)
    d = shape[1]
    rule = {
        "leave-one-out": jm.LeaveOneOut(),
        "bernoulli": jm.Bernoulli(0.3),
        "partition": jm.Partition(np.arange(d) // 2),
    }
    logs = np.random.default_rng(1).normal(size=d)

    @jax.jit
    def error(u):
        return jm.leave_one_out_error(x, jnp.exp(u), rule[scheme], centred=centred)

    step = 1e-5
    differences = [(error(logs + step * e) - error(logs - step * e)) / (2 * step) for e in np.eye(d)]
    np.testing.assert_allclose(jax.grad(error)(jnp.asarray(logs)), differences, rtol=1e-6, atol=1e-9)


def test_gradient_in_the_hiding_rate_equals_finite_differences():
    x = factor_data(5, 30, 8)

    def error(rate):
        return jm.leave_one_out_error(x, 0.3, jm.Bernoulli(rate))

    np.testing.assert_allclose(jax.grad(error)(0.3), (error(0.3 + 1e-5) - error(0.3 - 1e-5)) / 2e-5, rtol=1e-6)


def test_gradient_costs_at_most_four_evaluations():
    """In processor time, which what else the machine does hardly changes; the least of many runs."""
    x, logs = jnp.asarray(factor_data(6, 600, 400)), jnp.zeros(400)

    def error(u):
        return jm.leave_one_out_error(x, jnp.exp(u))

    seconds = {}
    for name, function in (("value", jax.jit(error)), ("gradient", jax.jit(jax.value_and_grad(error)))):
        jax.block_until_ready(function(logs))
        seconds[name] = []
        for _ in range(12):
            start = time.process_time()
            jax.block_until_ready(function(logs))
            seconds[name].append(time.process_time() - start)
    assert min(seconds["gradient"]) <= 4 * min(seconds["value"])


# ------------------------------------------------------------------------------------------- a ridge a coordinate
UNEVEN = jm.covariance.Dense(np.diag(np.tile([0.3, 3.0], 6)) + 1.0)


def tuned_by_group(seed, nested=False):
    x = UNEVEN.sample(jax.random.key(seed), 40)
    options = {"folds": 4, "centred": True, "nested": nested, "key": jax.random.key(seed)}
    return np.asarray(x), jm.tune.ridge_per_coordinate(x, TWO_GROUPS, **options)


def test_path_from_one_ridge_to_many():
    """Leave-one-out falls along it; groups share; the numbers are those of fits by hand."""
    x, found = tuned_by_group(3)
    single = jm.tune.ridge(x, centred=True)
    np.testing.assert_allclose(found.scalar, single.ridge, rtol=1e-8)
    np.testing.assert_allclose(found.scalar_value, single.value, rtol=1e-9)
    assert np.all(np.diff(found.path_value) <= 1e-9)
    assert found.path_ridge.shape == (len(found.freedom), 2)
    np.testing.assert_array_equal(found.ridge, found.path_ridge[found.chosen][TWO_GROUPS])
    np.testing.assert_allclose(found.value, jm.leave_one_out_error(x, found.ridge, centred=True), rtol=1e-9)
    assert int(found.chosen) == int(np.argmin(found.path_held_out))
    assert float(found.ridge[1]) > 3 * float(found.ridge[0])
    order = np.asarray(jax.random.permutation(jax.random.key(3), 40))
    errors = []
    for test in order.reshape(4, 10):
        train = np.setdiff1d(order, test)
        centre = x[train].mean(0)
        ridge = jm.tune.ridge(x[train] - centre, centred=True).ridge
        errors.append(float(jm.train_error(jm.fit(x[train] - centre, ridge), x[test] - centre)))
    np.testing.assert_allclose(found.path_held_out[0], np.mean(errors), rtol=1e-7)
    np.testing.assert_allclose(found.held_out_scalar, np.mean(errors), rtol=1e-7)


@pytest.mark.parametrize("nested", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_gain_is_honest(nested):
    """Over many data sets its mean is the gain on the population itself, within three standard errors."""
    estimates, actual = [], []
    for seed in range(16):
        x, found = tuned_by_group(seed, nested)
        x = x - x.mean(0)
        estimates.append(float(found.gain))
        risks = [float(jm.test_error(jm.fit(x, ridge), UNEVEN)) for ridge in (found.scalar, found.ridge)]
        actual.append(risks[0] - risks[1])
    gap = np.subtract(estimates, actual)
    assert np.mean(actual) > 0
    # It is measured with three quarters of the rows, where ridges are worth more: by a third, as n to n - n/4.
    assert abs(gap.mean()) < 3 * gap.std(ddof=1) / np.sqrt(len(gap)) + np.mean(actual) / 3


def test_early_stopping_where_there_is_nothing_to_gain():
    """Equal coordinates, few samples: the criterion promises a lot, the held-out rows refuse it. All under vmap."""
    true = jm.covariance.equicorrelated(24, 0.5)
    xs = jnp.stack([true.sample(jax.random.key(seed), 24) for seed in range(4)])
    found = jax.vmap(lambda x: jm.tune.ridge_per_coordinate(x, folds=4))(xs)
    assert found.status.tolist() == [CONVERGED] * 4
    stopped, unstopped = [], []
    for lane, x in enumerate(xs):
        np.testing.assert_allclose(found.scalar[lane], jm.tune.ridge(x).ridge, rtol=1e-7)
        last = found.path_ridge[lane, -1]
        np.testing.assert_allclose(found.path_value[lane, -1], jm.leave_one_out_error(x, last), rtol=1e-9)
        base = float(jm.test_error(jm.fit(x, found.scalar[lane]), true))
        stopped.append(float(jm.test_error(jm.fit(x, found.ridge[lane]), true)) / base)
        unstopped.append(float(jm.test_error(jm.fit(x, last), true)) / base)
    assert np.all(found.path_value[:, -1] < 0.97 * found.scalar_value)
    assert np.mean(stopped) < 1.02
    assert np.mean(unstopped) > np.mean(stopped) + 0.03
    assert float(found.gain.mean()) < 3 * float(jnp.sqrt((found.gain_error**2).mean() / 4))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "nested"), [(4, False), (9, False), (6, True)])
def test_few_rows(n, nested):
    found = jm.tune.ridge_per_coordinate(factor_data(9, n, 12), TWO_GROUPS, folds=2, nested=nested)
    assert bool(found.converged)
    assert np.isfinite(found.gain_error)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"groups": [0, 1]}, ValueError, "groups must be a vector of 12"),
        ({"groups": np.linspace(0, 1, 12)}, ValueError, "integer labels"),
        ({"folds": 1}, ValueError, "folds"),
        ({"folds": 2.5}, ValueError, "folds"),
        ({"folds": 40}, ValueError, "folds"),
        ({"folds": 20, "nested": True}, ValueError, "folds"),
        ({"scheme": jm.Patterns(np.eye(12, dtype=bool), np.ones(12))}, ValueError, "Patterns"),
    ],
)
def test_ridge_per_coordinate_refuses(options, error, words):
    with pytest.raises(error, match=words):
        jm.tune.ridge_per_coordinate(factor_data(0, 20, 12), **options)


# ------------------------------------------------------------------------------------------- hiding rate
@pytest.mark.parametrize("centred", [False, True])
def test_hide_rate_improves_on_training_as_one_will_test(centred):
    x = factor_data(10, 30, 8, noise=2.0)
    x = x - x.mean(0)
    found = jm.tune.hide_rate(x, 0.4, centred=centred)
    assert bool(found.converged)
    assert float(found.value) <= float(found.matched_value)
    matched = jm.leave_one_out_error(x, found.matched_ridge, jm.Bernoulli(0.4), centred=centred)
    np.testing.assert_allclose(found.matched_value, matched, rtol=1e-9)
    if not centred:
        np.testing.assert_allclose(found.value, refitted(x, found.hide_rate, found.ridge, 0.4), rtol=1e-8)


def refitted(x, rate, ridge, test_rate):
    """Every sample left out in turn and its masks averaged over; the penalty held, as documented."""
    n, d = x.shape
    p, ridge, p_test = float(rate), float(ridge), float(test_rate)
    q, q_test = 1 - p, 1 - p_test
    penalty = np.diag(p / q * (x**2).mean(0) + ridge / q**2)
    errors = []
    for row in x:
        resolvent = np.linalg.inv((x.T @ x - np.outer(row, row)) / n + penalty)
        weights = (np.eye(d) - resolvent / np.diag(resolvent)[:, None]) / q
        np.fill_diagonal(weights, 0)
        errors.append((row - q_test * weights @ row) ** 2 + p_test * q_test * weights**2 @ row**2)
    return np.mean(errors)


def test_hide_rate_is_a_stationary_point_of_what_refitting_gives():
    x = factor_data(10, 30, 8, noise=2.0)
    found = jm.tune.hide_rate(x, 0.4)
    rate, ridge = float(found.hide_rate), float(found.ridge)
    for other in ((rate + 0.02, ridge), (rate - 0.02, ridge), (rate, 1.1 * ridge), (rate, ridge / 1.1)):
        assert refitted(x, *other, 0.4) > float(found.value)


@pytest.mark.parametrize("rate", [-0.1, 1.0, np.nan, [0.1, 0.2]])
def test_hide_rate_refuses(rate):
    with pytest.raises(ValueError, match="test_hide_rate"):
        jm.tune.hide_rate(factor_data(0, 20, 4), rate)


def test_hide_rate_of_nothing():
    with pytest.raises(ValueError, match="x must vary"):
        jm.tune.hide_rate(np.zeros((5, 3)), 0.2)


# ------------------------------------------------------------------------------------------- minimise
def valley(point, shift):
    """Rosenbrock's, with its least value at (shift, shift²)."""
    return (shift - point["a"]) ** 2 + 10 * ((point["b"] - point["a"] ** 2) ** 2).sum()


START = {"a": -1.0, "b": np.array([2.0, 0.5])}


def test_minimise_any_pytree():
    found = jm.tune.minimise(valley, START, args=(jnp.array(1.5),))
    assert jax.tree.structure(found.argument) == jax.tree.structure(START)
    np.testing.assert_allclose(found.argument["a"], 1.5, rtol=1e-6)
    np.testing.assert_allclose(found.argument["b"], [2.25, 2.25], rtol=1e-6)
    assert bool(found.converged)
    assert found.trace.shape == (int(found.steps) + 1,)
    np.testing.assert_allclose(found.trace[0], valley(START, 1.5))
    assert float(found.trace[-1]) == float(found.value)
    np.testing.assert_allclose(found.gradient_norm, 0, atol=1e-6)


def test_adam_arrives_too():
    rule = optax.adam(optax.exponential_decay(0.1, 500, 0.5))
    found = jm.tune.minimise(valley, START, args=(jnp.array(1.5),), optimizer=rule, tolerance=1e-5, max_steps=10_000)
    assert bool(found.converged)
    np.testing.assert_allclose(found.argument["a"], 1.5, rtol=1e-3)


def test_argument_and_value_are_differentiable_in_the_data():
    def least(shift):
        found = jm.tune.minimise(valley, START, args=(shift,))
        return jnp.stack([found.argument["a"], found.argument["b"][0], found.value])

    np.testing.assert_allclose(jax.jacrev(least)(jnp.array(1.5)), [1, 3, 0], atol=1e-5)
    np.testing.assert_allclose(jax.jacfwd(least)(jnp.array(1.5)), [1, 3, 0], atol=1e-5)


def test_minimise_under_jit_and_vmap():
    shifts = jnp.array([0.5, 1.0, 1.5])
    found = jax.jit(jax.vmap(lambda shift: jm.tune.minimise(valley, START, args=(shift,))))(shifts)
    np.testing.assert_allclose(found.argument["a"], shifts, rtol=1e-6)
    assert found.status.tolist() == [CONVERGED] * 3
    assert np.isnan(found.trace[0, -1])


def test_a_second_call_does_not_compile():
    traced = []

    def objective(u, shift):
        traced.append(1)
        return (u - shift) ** 2

    jm.tune.minimise(objective, 0.0, args=(jnp.array(1.0),))
    count = len(traced)
    jm.tune.minimise(objective, 0.5, args=(jnp.array(2.0),))
    assert len(traced) <= count + 1  # the shape of what it returns is looked at


def wells(u):
    return (u**2 - 1) ** 2 + 0.3 * u


def test_restarts_find_the_lower_well():
    alone = jm.tune.minimise(wells, 1.0)
    assert float(alone.argument) > 0
    best = jm.tune.minimise(wells, 1.0, restarts=8, spread=2.0, key=jax.random.key(0))
    assert float(best.argument) < 0
    assert best.restarts.shape == (9,)
    np.testing.assert_allclose(best.restarts[0], alone.value, rtol=1e-9)
    assert float(best.value) == float(best.restarts.min())


def misfit(parameters, design, y):
    residual = y - design @ jnp.stack([parameters["log"] * 2, jnp.log(parameters["scale"])])
    return (residual**2).sum() / 2


def test_error_bars_are_those_of_least_squares():
    """In the argument itself: of log(scale) the error is that of scale over scale."""
    rng = np.random.default_rng(0)
    design = rng.normal(size=(50, 2))
    y = design @ np.array([1.0, 0.7]) + rng.normal(size=50)
    bounds = {"log": jm.tune.Interval(), "scale": jm.tune.Interval(0)}
    found = jm.tune.minimise(
        misfit, {"log": 0.0, "scale": 1.0}, args=(jnp.asarray(design), jnp.asarray(y)), bounds=bounds, error_bars=True
    )
    spread = np.sqrt(np.diag(np.linalg.inv(design.T @ design)))
    np.testing.assert_allclose(found.standard_error["log"], spread[0] / 2, rtol=1e-6)
    np.testing.assert_allclose(found.standard_error["scale"], spread[1] * found.argument["scale"], rtol=1e-6)


@pytest.mark.parametrize(
    ("interval", "least"),
    [
        (jm.tune.Interval(0), 2.0),
        (jm.tune.Interval(-1, 3), 2.0),
        (jm.tune.Interval(high=2.5), 2.0),
        (jm.tune.Interval(0.5, 1.5), 1.5),
    ],
)
def test_bounds_hold(interval, least):
    found = jm.tune.minimise(lambda u: (u - 2.0) ** 2, 1.0, bounds=interval)
    assert interval.low < float(found.argument) <= interval.high
    np.testing.assert_allclose(found.argument, least, atol=1e-3)


def nan_everywhere(u):
    return u * jnp.nan


def nan_on_the_way(u):
    return jnp.where(u > -1, (u + 0.5) ** 2, jnp.nan)


def constant(u):
    return 0 * u + 3.0


def falling(u):
    return -u


def falling_fast(u):
    return -jnp.exp(u)


@jax.custom_jvp
def liar(u):
    return u**2


liar.defjvp(lambda primals, tangents: (primals[0] ** 2, -(3 + jnp.sin(primals[0])) * tangents[0]))


@pytest.mark.parametrize(
    ("objective", "bounds", "status"),
    [
        (nan_everywhere, None, NON_FINITE),
        (nan_on_the_way, None, CONVERGED),
        (constant, None, FLAT),
        (falling, None, UNBOUNDED),
        (falling_fast, None, UNBOUNDED),
        (liar, None, STALLED),
        (wells, jm.tune.Interval(2, 3), OUT_OF_BOUNDS),
    ],
    ids=["nan", "nan on the way", "constant", "falling", "falling fast", "wrong gradient", "start outside"],
)
def test_trouble_has_a_status(objective, bounds, status):
    found = jm.tune.minimise(objective, 1.0, bounds=bounds)
    assert int(found.status) == status
    if status in (NON_FINITE, UNBOUNDED, OUT_OF_BOUNDS):
        assert np.isnan(found.argument)
        assert np.isnan(found.value)
        assert np.isnan(found.gradient_norm)
    if status == OUT_OF_BOUNDS:
        assert int(found.steps) == 0
        assert np.isnan(found.trace).all()
        assert np.isnan(found.restarts).all()
    if status != CONVERGED:
        with pytest.raises(RuntimeError):
            jm.check(found)


def test_the_start_may_lie_on_the_wrong_side_in_one_lane_of_many():
    def least(start):
        return jm.tune.minimise(wells, start, bounds=jm.tune.Interval(0))

    assert jax.vmap(least)(jnp.array([1.0, -1.0])).status.tolist() == [CONVERGED, OUT_OF_BOUNDS]


def test_step_limit():
    found = jm.tune.minimise(valley, START, args=(jnp.array(1.5),), max_steps=2)
    assert int(found.status) == MAX_STEPS
    assert int(found.steps) == 2
    assert float(found.value) < float(found.trace[0])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"objective": 3}, TypeError, "objective must be a function"),
        ({"objective": lambda u: jnp.stack([u, u])}, TypeError, "real scalar"),
        ({"start": {}}, ValueError, "start must hold"),
        ({"start": np.nan}, ValueError, "start must be finite"),
        ({"start": "one"}, TypeError, "start must be"),
        ({"bounds": (0, 1)}, (TypeError, ValueError), "bounds must"),
        ({"bounds": {"a": jm.tune.Interval()}}, ValueError, "bounds must"),
        ({"max_steps": 0}, ValueError, "max_steps"),
        ({"restarts": -1}, ValueError, "restarts"),
        ({"restarts": 2}, ValueError, "key must be given"),
        ({"tolerance": -1.0}, ValueError, "tolerance"),
    ],
)
def test_minimise_refuses(options, error, words):
    arguments = {"objective": wells, "start": 1.0, **options}
    with pytest.raises(error, match=words):
        jm.tune.minimise(**arguments)


def test_an_empty_interval_is_refused():
    with pytest.raises(ValueError, match="low must be below high"):
        jm.tune.Interval(1, 1)


def test_derivatives_of_the_matched_choice_and_of_a_ridge_at_its_end():
    rng = np.random.default_rng(0)
    x = 0.5 * rng.standard_normal((30, 4)) + 1.5 * rng.standard_normal((30, 1))
    for field in ("matched_ridge", "matched_value", "value"):
        slope = jax.grad(lambda rate, field=field: getattr(jm.tune.hide_rate(x, rate), field))(0.3)
        ahead, behind = (getattr(jm.tune.hide_rate(x, 0.3 + h), field) for h in (1e-4, -1e-4))
        np.testing.assert_allclose(slope, (ahead - behind) / 2e-4, rtol=1e-4)
    noise = jnp.asarray(np.random.default_rng(2).standard_normal((14, 4)))
    assert int(jm.tune.ridge(noise).status) == AT_END

    def scaled(t):
        return jm.tune.ridge(noise.at[0].multiply(t))

    assert np.isnan(jax.grad(lambda t: scaled(t).ridge)(1.0))
    slope = (scaled(1 + 1e-4).value - scaled(1 - 1e-4).value) / 2e-4
    np.testing.assert_allclose(jax.grad(lambda t: scaled(t).value)(1.0), slope, rtol=1e-5)
