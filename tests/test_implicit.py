"""Newton's iteration and the implicit-function rule on roots known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmask import _types
from jmask._implicit import implicit, newton


def quadratic(y, params):
    """Root a + √b: real, or complex for complex a and b."""
    a, b = params
    return (y - a) ** 2 - b


def exact(params):
    return params[0] + jnp.sqrt(params[1])


def system(y, params):
    """A y³ = b, entry by entry after a mixing: root (A⁻¹ b)^(1/3)."""
    matrix, b = params
    return matrix @ y**3 - b


def exact_system(params):
    return jnp.cbrt(jnp.linalg.solve(*params))


def rootless(y, params):
    return y**2 + params


def solve(params):
    """Newton from the side where it is monotone."""
    return implicit(quadratic, newton(quadratic, params[0] + 1 + params[1], params)[0], params)


def solve_system(params):
    return implicit(system, jax.lax.stop_gradient(exact_system(params)), params)


REAL = (jnp.asarray(0.3), jnp.asarray(2.0))
COMPLEX = (jnp.asarray(0.3 - 0.4j), jnp.asarray(2.0 + 1.0j))
SYSTEM = (jnp.asarray([[2.0, 0.5, 0.1], [0.0, 1.5, 0.2], [0.3, 0.1, 1.0]]), jnp.asarray([3.0, 2.0, 1.0]))
CASES = {"real": (solve, exact, REAL), "vector": (solve_system, exact_system, SYSTEM)}
close = np.testing.assert_allclose


def tangent_of(params):
    noise = np.random.default_rng(0)
    return jax.tree.map(lambda p: jnp.asarray(noise.standard_normal(p.shape)), params)


@pytest.mark.parametrize("params", [REAL, COMPLEX], ids=["real", "complex"])
def test_newton_finds_the_root(params):
    root, steps, status = jax.jit(lambda p: newton(quadratic, p[0] + 1 + p[1], p))(params)
    close(root, exact(params), rtol=1e-14)
    assert root.dtype == params[0].dtype
    assert 3 <= int(steps) <= 10
    assert int(status) == _types.CONVERGED


@pytest.mark.parametrize("name", CASES)
def test_value_and_derivatives_are_exact(name):
    function, truth, params = CASES[name]
    tangent = tangent_of(params)

    def derivatives(f):
        value, forward = jax.jvp(f, (params,), (tangent,))
        gradient = jax.vjp(f, params)[1](jnp.ones_like(value))[0]
        hessian = jax.hessian(lambda p: f(p).sum())(params)
        return value, forward, gradient, hessian

    got = jax.jit(lambda: derivatives(function))()
    wanted = jax.jit(lambda: derivatives(truth))()
    jax.tree.map(lambda a, b: close(a, b, rtol=1e-11, atol=1e-12), got, wanted)
    along = sum(jax.tree.leaves(jax.tree.map(lambda g, t: (g * t).sum(), got[2], tangent)))
    close(got[1].sum(), along, rtol=1e-12)  # forward = reverse


def test_third_derivative():
    def third(f):
        return jax.jit(jax.grad(jax.grad(jax.grad(lambda b: f((REAL[0], b))))))(REAL[1])

    close(third(solve), third(exact), rtol=1e-11)


def test_complex_derivatives():
    for entry in (0, 1):

        def at(f, value, entry=entry):
            return f(tuple(value if i == entry else p for i, p in enumerate(COMPLEX)))

        got = jax.jit(jax.grad(lambda v: at(solve, v), holomorphic=True))(COMPLEX[entry])
        close(got, jax.grad(lambda v: at(exact, v), holomorphic=True)(COMPLEX[entry]), rtol=1e-12)
        tangent = jnp.asarray(0.2 - 0.7j)
        forward = jax.jvp(lambda v: at(solve, v), (COMPLEX[entry],), (tangent,))[1]
        close(forward, got * tangent, rtol=1e-12)


def test_complex_root_of_real_parameters():
    """What densities need: a real parameter, a complex root, and the gradient of its imaginary part."""

    def imaginary(function, gamma):
        return function((jnp.asarray(0.1 + 0j), jax.lax.complex(gamma, 1.0))).imag

    got = jax.jit(jax.value_and_grad(lambda g: imaginary(solve, g)))(0.5)
    close(got, jax.value_and_grad(lambda g: imaginary(exact, g))(0.5), rtol=1e-12)


def test_derivative_ignores_how_the_root_was_found():
    """A start that depends on the parameters carries no derivative of its own."""
    gradient = jax.grad(lambda b: implicit(quadratic, 5 * b + exact((0.3, 2.0)) - 10.0, (jnp.asarray(0.3), b)))(2.0)
    close(gradient, 0.5 / np.sqrt(2.0), rtol=1e-12)


def test_vmap_has_one_status_a_lane():
    b = jnp.asarray([2.0, jnp.nan, 9.0, -1.0])
    roots, steps, status = jax.jit(jax.vmap(lambda b: newton(quadratic, b + 1.3, (0.3, b))))(b)
    close(roots, [0.3 + np.sqrt(2), np.nan, 3.3, np.nan], rtol=1e-14)
    assert list(status[:3]) == [_types.CONVERGED, _types.NON_FINITE, _types.CONVERGED]
    assert int(status[3]) in (_types.MAX_STEPS, _types.NON_FINITE)
    assert steps.shape == (4,)
    gradients = jax.jit(jax.vmap(jax.grad(lambda b: solve((0.3, b)))))(b)
    close(gradients[::2], 0.5 / np.sqrt(b[::2]), rtol=1e-12)
    assert jnp.isnan(gradients[1])


def test_lanes_go_in_chunks_on_a_cpu_beside_a_gpu(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    solved = jax.vmap(lambda b: newton(quadratic, b + 1.3, (0.3, b))[0])
    b = jnp.ones(2**18)
    assert "scan" not in str(jax.make_jaxpr(solved)(b))
    for device in ("cpu", jax.devices("cpu")[0]):
        with jax.default_device(device):
            assert "scan" in str(jax.make_jaxpr(solved)(b))


def test_vmap_of_vector_roots():
    matrix, b = SYSTEM
    batch = jnp.stack([b, 2 * b])
    got = jax.jit(jax.vmap(jax.jacfwd(lambda b: solve_system((matrix, b)))))(batch)
    wanted = jax.jit(jax.vmap(jax.jacrev(lambda b: exact_system((matrix, b)))))(batch)
    close(got, wanted, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("start", [np.nan, np.inf])
def test_a_start_that_is_not_finite_gives_nan_and_says_so(start):
    root, steps, status = newton(quadratic, jnp.asarray(start), REAL)
    assert jnp.isnan(root)
    assert int(status) == _types.NON_FINITE
    assert int(steps) == 0


def test_step_limit_gives_nan_and_says_so():
    root, steps, status = newton(quadratic, jnp.asarray(1e6), REAL, max_steps=3)
    assert jnp.isnan(root)
    assert int(status) == _types.MAX_STEPS
    assert int(steps) == 3
    assert int(newton(rootless, jnp.asarray(0.7), jnp.asarray(1.0))[2]) == _types.MAX_STEPS


def test_a_flat_residual_gives_nan():
    root, _, status = newton(quadratic, REAL[0], REAL)  # slope 0 at the start
    assert jnp.isnan(root)
    assert int(status) == _types.NON_FINITE


def test_tolerance_buys_steps():
    start = jnp.asarray(50.0)
    loose, few, _ = newton(quadratic, start, REAL, rtol=1e-2)
    tight, many, _ = newton(quadratic, start, REAL)
    assert int(few) < int(many)
    close(loose, tight, rtol=1e-2)


def test_single_precision_stays():
    params = jax.tree.map(lambda p: p.astype(jnp.float32), REAL)
    value, gradient = jax.jit(jax.value_and_grad(solve))(params)
    assert value.dtype == gradient[0].dtype == gradient[1].dtype == jnp.float32
    close(value, exact(params), rtol=1e-6)
