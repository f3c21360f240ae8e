"""Training curves: reference numbers, exact limits, an independent contour integral, simulation, derivatives."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jmask as jm
from jmask.theory.filters import chebyshev, flow, recurrence

from . import problems

DESCENT = jm.theory.descent
AR1 = problems.population("ar1_0.9", 60)
POPULATIONS = {
    "ar1": AR1,
    "ring": jm.covariance.ar1(60, 0.7, circulant=True),
    "linear": problems.population("diag_linspace_0.2_4", 60),
    "power law": jm.covariance.power_law(60, 1.0),
    "two levels": jm.covariance.Isotropic(np.repeat([0.05, 4.0], [25, 35])),
}


def top_of(c, n):
    return float(np.asarray(c.eigenvalues()).max()) * (1 + np.sqrt(c.dimension / n)) ** 2


@pytest.mark.parametrize("population", ["ar1_0.9", "power_law_1.5_hadamard_like", "diag_linspace_0.2_4"])
def test_reference_numbers(population):
    records = [r for r in problems.GOLDEN["descent"] if r["population"] == population]
    for record in records:
        found = DESCENT(
            problems.population(population, record["d"]),
            record["n"],
            record["ridge"],
            learning_rate=record["learning_rate"],
            steps=record["steps"],
            momentum=record["momentum"],
        )
        np.testing.assert_allclose([found.test, found.train], [record["test"], record["train"]], rtol=1e-6)
        assert bool(found.converged)


# ---------------------------------------------------------------------------------------------- filters
H = np.concatenate([[1e-12, 1e-6], np.linspace(1e-3, 10, 40)])


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.7, 0.95])
def test_powers_of_the_recurrence_are_its_steps(momentum, nesterov):
    rate, wanted = 0.06, np.array([3000, 0, 1, 2, 7, 100])
    found = recurrence(jnp.asarray(H), jnp.asarray(wanted), jnp.asarray(rate), jnp.asarray(momentum), nesterov, 16)
    f = before = np.zeros_like(H)
    steps = {0: f}
    for t in range(1, 3001):
        y = f + momentum * (f - before)
        new = y + rate * (1 - H * y) if nesterov else y + rate * (1 - H * f)
        f, before = new, f
        steps[t] = f + momentum * (f - before) if nesterov else f
    np.testing.assert_allclose(found, [steps[int(t)] for t in wanted], rtol=1e-10)


def test_flow_is_the_limit_of_small_steps():
    fine = recurrence(jnp.asarray(H), jnp.array([2**20]), jnp.asarray(3.0 / 2**20), jnp.asarray(0.0), False, 31)
    np.testing.assert_allclose(flow(jnp.asarray(H), jnp.array([30.0]), jnp.asarray(0.1)), fine, rtol=1e-5)


def test_chebyshev_is_the_least_polynomial_on_its_interval():
    low, high = 0.5, 9.0
    h = jnp.asarray(np.linspace(low, high, 2001))
    found = chebyshev(h, jnp.array([0, 1, 7]), jnp.asarray(low), jnp.asarray(high))
    residual = 1 - h[None, :] * found
    np.testing.assert_allclose(found[1], 2 / (low + high), rtol=1e-12)
    root = np.sqrt(low / high)
    shrink = (1 - root) / (1 + root)
    np.testing.assert_allclose(np.abs(residual[2]).max(), 2 * shrink**7 / (1 + shrink**14), rtol=1e-6)
    outside = jnp.array([0.1, 9.5])
    beyond = 1 - outside * chebyshev(outside, jnp.array([7]), jnp.asarray(low), jnp.asarray(high))[0]
    polynomial = np.polynomial.chebyshev.Chebyshev.basis(7)
    expected = polynomial((high + low - 2 * np.asarray(outside)) / (high - low)) / polynomial(
        (high + low) / (high - low)
    )
    np.testing.assert_allclose(beyond, expected, rtol=1e-9)


# ---------------------------------------------------------------------------------------------- exact limits
METHODS = {
    "plain": {},
    "heavy ball": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9, "method": "nesterov"},
    "flow": {"method": "flow"},
    "chebyshev": {"method": "chebyshev"},
}


@pytest.mark.parametrize("method", METHODS)
def test_many_steps_are_the_closed_form(method):
    for name in POPULATIONS if method == "plain" else ["ring"]:
        c = POPULATIONS[name]
        for n in (30, 60, 150):
            known = jm.theory.errors(c, n, 0.1)
            rate = {} if method == "chebyshev" else {"learning_rate": 1 / top_of(c, n)}
            found = DESCENT(c, n, 0.1, steps=10**6, **rate, **METHODS[method])
            np.testing.assert_allclose(found.test_per_coordinate, known.test_per_coordinate, rtol=1e-6, err_msg=name)
            np.testing.assert_allclose(found.train_per_coordinate, known.train_per_coordinate, rtol=1e-6, err_msg=name)


def test_ridgeless_descent_ends_at_the_ridgeless_fit():
    for n in (30, 150):
        known = jm.theory.errors(POPULATIONS["ring"], n, 0.0)
        found = DESCENT(POPULATIONS["ring"], n, 0.0, steps=10**6, learning_rate=1 / top_of(POPULATIONS["ring"], n))
        np.testing.assert_allclose([found.test, found.train], [known.test, known.train], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", POPULATIONS)
def test_no_step_and_one_step(name):
    """A = 0, then A = η offdiag(S) in a population that n samples see: by hand, with E[S B S] = ΣBΣ + Σ tr(ΣB)/n."""
    c, n, rate = POPULATIONS[name], 40.0, 0.03
    found = DESCENT(c, n, 0.2, learning_rate=rate, steps=[0, 1])
    variance = np.asarray(c.diagonal())
    np.testing.assert_array_equal(found.test_per_coordinate[0], variance)
    np.testing.assert_array_equal(found.train_per_coordinate[0], variance)
    if c.constant_diagonal and name != "ring":
        m = np.asarray(c.eigenvalues())
        square, cube = (m**2).mean(), (m**3).mean()  # of the diagonals of Σ² and Σ³
    else:
        sigma = np.asarray(c.matrix())
        square, cube = (np.diag(np.linalg.matrix_power(sigma, p)) for p in (2, 3))
    trace = float((np.asarray(c.eigenvalues()) ** 2).sum())
    link = square - variance**2  # Σ_k,-k Σ_-k,k
    chain = cube - 2 * variance * square + variance**3  # Σ_k,-k Σ_-k Σ_-k,k
    test = variance - 2 * rate * link + rate**2 * (chain + variance * trace / n)
    np.testing.assert_allclose(found.test_per_coordinate[1], test, rtol=1e-9)
    spread = link + variance * variance.sum() / n  # E|s_k|², the leading order
    seen = chain + (2 * link * variance.sum() + variance * trace) / n + variance * variance.sum() ** 2 / n**2
    np.testing.assert_allclose(found.train_per_coordinate[1], variance - 2 * rate * spread + rate**2 * seen, rtol=1e-9)


def contour(m, squares, n, ridge, rate, steps, points=160):
    """(r, 2) train and test error by the two-resolvent formula in the complex plane, plain descent, Σ non-singular."""
    angle = 2 * np.pi * (np.arange(points) + 0.5) / points
    top, d = m.max() * (1 + np.sqrt(len(m) / n)) ** 2, len(m)

    def ring(scale):
        arm = top * scale / 2 * np.exp(1j * angle)
        z = top / 2 + arm
        w = z + m.sum() / n
        for i in range(330):
            share = (m / (m - w[:, None])).sum(1) / n
            slope = 1 - (m**2 / (m - w[:, None]) ** 2).sum(1) / n
            w = w - (w - w * share - z) / slope if i > 300 else 0.5 * (w + z + w * share)
        c = z / w
        return z, -1j * arm * 2 * np.pi / points / (2j * np.pi), c, 1 / (c[:, None] * m - z[:, None])

    def f(z):
        return (1 - (1 - rate * (z + ridge)) ** steps) / (z + ridge)

    (z1, d1, c1, q1), (z2, d2, c2, q2) = ring(1.3), ring(1.5)
    g1, g2 = 1 - z1 * f(z1), 1 - z2 * f(z2)
    errors = []
    for square in squares:
        p = (square / m).sum()
        shared = 1 / (m * p)
        a1, a2 = ((square * q / m).sum(1) / (p * (square * q).sum(1)) for q in (q1, q2))
        left, right = (a1[:, None] - shared) * q1, (a2[:, None] - shared) * q2
        pairs = np.einsum("i,ai,bi->ab", square * m, left, right)
        pairs = pairs / (1 - np.outer(c1, c2) * np.einsum("i,ai,bi->ab", m**2, q1, q2) / n)
        noise = (z1 * f(z1) ** 2 * (1 / c1 - 1) * d1).sum() / p
        test = 1 / p + (np.outer(g1 * d1, g2 * d2) * pairs).sum() + noise
        train = (z1 * g1**2 * (square * (1 - shared) * left).sum(1) * d1).sum()
        errors.append((train + (n - d + (g1**2 * q1.sum(1) * d1).sum()) / (p * n), test))
    errors = np.array(errors)
    assert np.abs(errors.imag).max() < 1e-9
    return errors.real


@pytest.mark.parametrize("n", [16.0, 100.0, 300.0])
def test_contour_integral_also_where_gaps_hold_lone_eigenvalues(n):
    """From n = 100 on the bulk has a gap, and S without one coordinate has an eigenvalue inside it."""
    d, m = 24, np.repeat([0.05, 4.0], [10, 14])
    rate = 1 / (4 * (1 + np.sqrt(d / n)) ** 2)
    vectors = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0]
    dense = jm.covariance.Dense((vectors * m) @ vectors.T)
    for c, squares in ((jm.covariance.Isotropic(m), np.full((1, d), 1 / d)), (dense, vectors**2)):
        found = DESCENT(c, n, 0.05, learning_rate=rate, steps=12)
        expected = contour(m, squares, n, 0.05, rate, 12)
        np.testing.assert_allclose(found.train_per_coordinate, np.broadcast_to(expected[:, 0], d), rtol=1e-8)
        np.testing.assert_allclose(found.test_per_coordinate, np.broadcast_to(expected[:, 1], d), rtol=1e-8)


def test_structures_agree():
    c = jm.covariance.Spiked(jm.covariance.Diagonal(np.full(60, 0.5)), [9.0, 4.0]).realise(jax.random.key(0))
    for structured in (c, POPULATIONS["ring"], POPULATIONS["linear"]):
        options = {"learning_rate": 0.02, "steps": [3, 200], "momentum": 0.5}
        kept = DESCENT(structured, 90, 0.1, **options)
        dense = DESCENT(jm.covariance.Dense(structured.matrix()), 90, 0.1, **options)
        np.testing.assert_allclose(kept.test_per_coordinate, dense.test_per_coordinate, rtol=1e-6)
        np.testing.assert_allclose(kept.train_per_coordinate, dense.train_per_coordinate, rtol=1e-6)


def test_directions_that_are_not_fixed():
    """One draw stands for them: within order 1/d of the theory of their average, at the end of the descent."""
    for bulk in (jm.covariance.Diagonal(np.linspace(0.5, 1.5, 60)), jm.covariance.Isotropic(np.linspace(0.5, 1.5, 60))):
        c = jm.covariance.Spiked(bulk, [9.0, 4.0])
        known = jm.theory.errors(c, 90, 0.1)
        found = DESCENT(c, 90, 0.1, learning_rate=0.05, steps=10**5)
        np.testing.assert_allclose([found.test, found.train], [known.test, known.train], rtol=1 / 60)


def test_a_supervised_target_is_a_coordinate():
    d, n, rate, ridge, steps = 80, 120, 0.05, 0.1, [5, 40, 400]
    sigma = np.asarray(jm.covariance.ar1(d, 0.6).matrix())
    beta = np.random.default_rng(0).standard_normal(d) / np.sqrt(d)
    joint = np.block([[sigma, (sigma @ beta)[:, None]], [sigma @ beta, beta @ sigma @ beta + 0.5]])
    predicted = DESCENT(jm.covariance.Dense(joint), n, ridge, learning_rate=rate, steps=steps)
    measured, root = [], np.linalg.cholesky(sigma)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((n, d)) @ root.T
        y = x @ beta + np.sqrt(0.5) * rng.standard_normal(n)
        values, axes = np.linalg.eigh(x.T @ x / n + ridge * np.eye(d))
        for t in steps:
            w = axes @ ((1 - (1 - rate * values) ** t) / values * (axes.T @ (x.T @ y / n)))
            measured.append((w - beta) @ sigma @ (w - beta) + 0.5)
    measured = np.reshape(measured, (40, 3))
    allowed = 4 * measured.std(0) / np.sqrt(40) + measured.mean(0) / d
    assert (np.abs(measured.mean(0) - predicted.test_per_coordinate[:, -1]) < allowed).all()


# ---------------------------------------------------------------------------------------------- derivatives
@pytest.mark.slow
def test_derivatives_in_the_schedule():
    """Learning rate, ridge, momentum and n, forward and reverse, at n below and above d."""

    def f(v):
        found = DESCENT(AR1, v[0], v[1], learning_rate=v[2], steps=[5, 80], momentum=v[3])
        return jnp.concatenate([found.test, found.train])

    both = jax.jit(lambda v: (f(v), jax.jacrev(f)(v)))
    for n in (40.0, 90.0):
        at = np.array([n, 0.1, 0.01, 0.5])
        slopes = both(at)[1]
        for i in range(4):
            step = 1e-5 * at[i] * np.eye(4)[i]
            expected = (both(at + step)[0] - both(at - step)[0]) / (2e-5 * at[i])
            np.testing.assert_allclose(slopes[:, i], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", ["ar1", "two levels", pytest.param("rotated", marks=pytest.mark.slow)])
def test_derivatives_in_the_population(kind):
    """With a gap that holds lone eigenvalues for the last two."""
    d, levels = 24, np.repeat([0.05, 4.0], [10, 14])
    vectors = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0]
    matrix = jnp.asarray((vectors * levels) @ vectors.T)
    direction = np.random.default_rng(1).standard_normal((d, d))
    direction = jnp.asarray(direction + direction.T)

    def f(t):
        if kind == "ar1":
            c = jm.covariance.ar1(d, 0.8 + t)
        elif kind == "two levels":
            c = jm.covariance.Isotropic(levels * (1 + t * np.linspace(0, 1, d)))
        else:
            c = jm.covariance.Dense(matrix + t * direction)
        found = DESCENT(c, 300.0, 0.05, learning_rate=0.2 if kind != "ar1" else 0.02, steps=12)
        return found.test + 0.3 * found.train

    both = jax.jit(jax.value_and_grad(f))
    expected = (both(1e-5)[0] - both(-1e-5)[0]) / 2e-5
    np.testing.assert_allclose(both(0.0)[1], expected, rtol=1e-6)


def test_best_stopping_time_by_gradient():
    """Where the test error of gradient flow is least its derivative in time vanishes."""

    def test_error(log_time):
        return DESCENT(AR1, 40, 0.0, learning_rate=1.0, method="flow", steps=jnp.exp(log_time)).test

    result = jm.tune.minimise(test_error, 1.0)
    times = np.exp(float(result.argument) + np.array([-0.3, 0.0, 0.3]))
    curve = DESCENT(AR1, 40, 0.0, learning_rate=1.0, method="flow", steps=times).test
    assert bool(result.converged)
    assert float(curve[1]) < min(float(curve[0]), float(curve[2]))


@pytest.mark.slow
def test_best_schedule_by_gradient():
    """The learning rate and momentum of least test error after 8 steps, found by descending theory itself."""

    def test_error(v):
        return DESCENT(AR1, 40, 0.0, learning_rate=jnp.exp(v[0]), momentum=jax.nn.sigmoid(v[1]), steps=8).test

    start = jnp.array([np.log(0.01), 0.0])
    result = jm.tune.minimise(test_error, start)
    assert bool(result.converged)
    assert float(result.value) < 0.9 * float(test_error(start))
    for move in ([0.05, 0], [-0.05, 0], [0, 0.05], [0, -0.05]):
        assert float(test_error(result.argument + jnp.array(move))) > float(result.value)


@pytest.mark.slow
def test_cost():
    """50 step counts at d = 500, and the gradient of one of them: bounds with room for a busy machine."""
    c = jm.covariance.ar1(500, 0.9)
    steps = np.unique(np.geomspace(1, 3000, 60).round())[:50]
    DESCENT(c, 500, 0.1, learning_rate=0.01, steps=steps)  # compiles

    def seconds(call):
        jax.block_until_ready(call())
        times = []
        for _ in range(3):
            start = time.perf_counter()
            jax.block_until_ready(call())
            times.append(time.perf_counter() - start)
        return min(times)

    assert seconds(lambda: DESCENT(c, 501, 0.1, learning_rate=0.01, steps=steps).test) < 10

    def total(v):
        return DESCENT(c, 500, v[0], learning_rate=v[1], momentum=v[2], steps=steps).test.sum()

    at = jnp.array([0.1, 0.005, 0.5])
    value, gradient = jax.jit(total), jax.jit(jax.grad(total))
    assert seconds(lambda: gradient(at)) < 3 * seconds(lambda: value(at))


# ---------------------------------------------------------------------------------------------- transforms, status
def test_vmap_over_everything():
    def f(n, rho):
        return DESCENT(jm.covariance.ar1(24, rho), n, 0.0, learning_rate=0.02, steps=[1, 50]).test

    n, rho = jnp.array([12.0, 24.0, 60.0]), jnp.array([0.5, 0.7, 0.9])
    curves = jax.jit(jax.vmap(f))(n, rho)
    for i in range(3):
        np.testing.assert_allclose(curves[i], f(n[i], rho[i]), rtol=1e-6)


def test_single_precision_stays_single():
    c = jm.covariance.Dense(np.asarray(jm.covariance.ar1(24, 0.9).matrix(), np.float32))
    found = DESCENT(c, 40, 0.01, learning_rate=0.02, steps=[0, 10, 300])
    known = DESCENT(jm.covariance.ar1(24, 0.9), 40, 0.01, learning_rate=0.02, steps=[0, 10, 300])
    assert found.test.dtype == found.train.dtype == jnp.float32
    np.testing.assert_allclose(found.test, known.test, rtol=1e-4)


def test_what_diverges_says_so_and_leaves_the_rest():
    found = DESCENT(AR1, 90, 0.0, learning_rate=1.0, steps=[1, 3, 2000])
    assert found.status.tolist() == [0, 0, 5]
    assert np.isfinite(np.asarray(found.test[:2])).all()
    assert np.isnan([float(found.test[2]), float(found.train[2])]).all()
    with pytest.raises(RuntimeError, match="diverged"):
        jm.check(found)


@pytest.mark.slow
def test_every_method_under_jit():
    """Constants are traced there too; and what is no number of steps is NaN, not the nearest one."""
    for options in METHODS.values():
        rate = {} if options.get("method") == "chebyshev" else {"learning_rate": 0.01}
        known = DESCENT(AR1, 90, 0.1, steps=7.0, **rate, **options)
        found = jax.jit(lambda n, o=options, r=rate: DESCENT(AR1, n, 0.1, steps=7.0, **r, **o).test)(90.0)
        np.testing.assert_allclose(found, known.test, rtol=1e-6)
    traced = jax.jit(lambda t: DESCENT(AR1, 90, 0.1, learning_rate=0.01, steps=t))(jnp.array([-1.0, 1.5, 7.0]))
    assert np.isnan(np.asarray(traced.test)).tolist() == [True, True, False]
    assert traced.status.tolist() == [3, 3, 0]


def test_overflow_along_part_of_the_spectrum_is_divergence():
    """Most directions are stable, the top ones overflow: what is left is no answer."""
    found = DESCENT(AR1, 120, 0.0, learning_rate=0.1, steps=[2, 10**3, 10**6])
    assert found.status.tolist() == [0, 5, 5]
    assert np.isnan(np.asarray(found.test[1:])).all()


def test_shapes_and_no_second_compilation():
    one = DESCENT(AR1, 40, 0.1, learning_rate=0.01, steps=10)
    many = DESCENT(AR1, 40, 0.1, learning_rate=0.01, steps=[3, 10])
    assert one.test.shape == one.status.shape == ()
    assert one.test_per_coordinate.shape == (60,)
    assert many.train_per_coordinate.shape == (2, 60)
    np.testing.assert_allclose(many.test[1], one.test, rtol=1e-12)
    with jax.no_tracing():
        DESCENT(AR1, 41, 0.2, learning_rate=0.02, steps=[4, 11], momentum=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": [1]}, "learning_rate is required"),
        ({"steps": [1], "method": "flow"}, "learning_rate is required"),
        ({"steps": [-1], "learning_rate": 0.1}, "steps must not be negative"),
        ({"steps": [1.5], "learning_rate": 0.1}, "steps must be whole numbers"),
        ({"steps": [[1]], "learning_rate": 0.1}, "steps must be a scalar or a vector"),
        ({"steps": 2.0**31, "learning_rate": 0.1}, "below 2"),
        ({"steps": 1, "learning_rate": -0.1}, "learning_rate must not be negative"),
        ({"steps": 1, "learning_rate": [0.1, 0.2]}, "learning_rate must be a scalar"),
        ({"steps": 1, "learning_rate": 0.1, "momentum": 1.0}, r"momentum must lie in \[0, 1\)"),
        ({"steps": 1, "learning_rate": 0.1, "momentum": 0.5, "method": "flow"}, "momentum belongs to"),
        ({"steps": 1, "learning_rate": 0.1, "interval": (1, 2)}, "interval belongs to"),
        ({"steps": 1, "learning_rate": 0.1, "method": "chebyshev"}, "chebyshev has its own steps"),
        ({"steps": 1, "method": "chebyshev", "interval": (2, 1)}, "0 < low < high"),
        ({"steps": 1, "learning_rate": 0.1, "method": "adam"}, "method must be one of heavy ball"),
        ({"steps": 1, "learning_rate": 0.1, "ridge": np.ones(60)}, "ridge must be a scalar"),
        ({"steps": 1, "learning_rate": 0.1, "n": 0}, "n must be positive"),
    ],
)
def test_bad_input_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        DESCENT(AR1, options.pop("n", 40), options.pop("ridge", 0.1), **options)


# ---------------------------------------------------------------------------------------------- simulation
D = 200


def simulate(c, n, ridge, rate, momentum, wanted, key):
    """(t, 2) train and test error of heavy-ball descent on samples."""
    x, sigma = np.asarray(c.sample(key, n)), np.asarray(c.matrix())
    s = x.T @ x / n
    weights = before = np.zeros((D, D))
    errors = []
    for t in range(max(wanted) + 1):
        if t in wanted:
            rest = np.eye(D) - weights
            errors.append([((rest @ m) * rest).sum() / D for m in (s, sigma)])
        step = rate * (s - weights @ s - ridge * weights)
        np.fill_diagonal(step, 0)
        weights, before = weights + step + momentum * (weights - before), weights
    return np.array(errors)


SIMULATED = [
    ("ar1", 0.5, 0.0, 0.0, [1, 10, 100]),
    ("linear", 1, 0.1, 0.0, [1, 10, 100]),
    ("ring", 2, 0.0, 0.9, [1, 10, 100]),
    *(
        pytest.param(name, ratio, 0.0, 0.0, [1, 30, 300, 3000], marks=pytest.mark.slow)
        for name in ("ar1", "linear", "power law", "two levels")
        for ratio in (0.5, 1, 2)
    ),
    *(pytest.param("ar1", ratio, 0.0, 0.95, [100, 1000], marks=pytest.mark.slow) for ratio in (0.5, 1, 2)),
]


@pytest.mark.parametrize(("name", "ratio", "ridge", "momentum", "steps"), SIMULATED)
def test_simulation(name, ratio, ridge, momentum, steps):
    """Within 4 standard errors plus 4/d of the prediction (10/d at n = d, where the ridgeless variance diverges).

    Of what has decayed to a share s, (1 - log s) times as much: rates of decay are right to order 1/d.
    """
    believed = {
        "ar1": jm.covariance.ar1(D, 0.9),
        "linear": jm.covariance.Diagonal(np.linspace(0.2, 4, D)),
        "ring": jm.covariance.ar1(D, 0.7, circulant=True),
        "power law": jm.covariance.power_law(D, 1.0),
        "two levels": jm.covariance.Isotropic(np.repeat([0.05, 4.0], [80, 120])),
    }[name]
    c, n = believed.realise(jax.random.key(9)), int(ratio * D)
    rate = 1 / top_of(believed, n)
    keys = jax.random.split(jax.random.key(0), 3)
    curves = np.stack([simulate(c, n, ridge, rate, momentum, steps, key) for key in keys])
    found = DESCENT(believed, n, ridge, learning_rate=rate, steps=steps, momentum=momentum)
    assert bool(found.converged.all())
    predicted = np.stack([found.train, found.test], 1)
    decay = 1 + np.log(np.maximum(float(believed.diagonal().mean()) / predicted, 1))
    allowance = 4 * curves.std(0, ddof=1) / np.sqrt(3) + (10 if ratio == 1 else 4) / D * decay * predicted
    assert (np.abs(curves.mean(0) - predicted) < allowance).all(), (curves.mean(0), predicted)


def test_reverse_mode_is_finite_wherever_the_value_is():
    """Also where a step is unstable, but so few are taken that nothing has grown much yet."""
    c = jm.covariance.Diagonal(np.linspace(0.1, 4, 30))
    rate = jnp.asarray(0.45)  # largest sample eigenvalue about 10

    def f(rate):
        return jm.theory.descent(c, 30.0, 0.0, learning_rate=rate, momentum=0.2, steps=8).test

    value, slope = jax.jit(jax.value_and_grad(f))(rate)
    assert np.isfinite(value)
    np.testing.assert_allclose(slope, (f(rate + 1e-6) - f(rate - 1e-6)) / 2e-6, rtol=1e-5)
