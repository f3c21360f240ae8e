"""What does a gradient cost over a value, for the fit and for the theory, implicit against unrolled?

python benchmarks/gradients.py
"""

import jax
import jax.numpy as jnp
import numpy as np
from _common import ratio, rounds, value, write

import jmask as jm

N = 300.0
STEPS = 100


def unrolled(s, ridge):
    """κ by a fixed number of Newton's steps, differentiated through them."""

    def step(k, _):
        a = s / (s + k)
        return k - (k - ridge - k * a.sum() / N) / (1 - (a**2).sum() / N), None

    return jax.lax.scan(step, ridge + s.sum() / N, None, length=STEPS)[0]


def compared(what, f, argument, count, at_most):
    plain, both = jax.jit(f), jax.jit(jax.value_and_grad(f))
    times = rounds({"value": lambda: plain(argument), "gradient": lambda: both(argument)}, count)
    return ratio(f"{what}: value and gradient over value", times["gradient"], times["value"], at_most=at_most)


def memory(f, argument):
    """Bytes of intermediate values in the program of the gradient."""
    return jax.jit(jax.value_and_grad(f)).lower(argument).compile().memory_analysis().temp_size_in_bytes


def main(d=1024, count=9, size=2048):
    rng = np.random.default_rng(0)
    x, target = jax.device_put(rng.standard_normal((2 * d, d))), jax.device_put(rng.standard_normal((d, d)))
    s = jnp.asarray(rng.gamma(1.0, 1.0, size))
    dense = jm.covariance.ar1(256, 0.8)

    def fitted(x, ridge):
        return (jm.fit(x, ridge).weights * target).sum()

    def theory(ridge, covariance=jm.covariance.Diagonal(s)):
        return jm.theory.errors(covariance, N, ridge).test

    ridge, vector = jnp.asarray(0.3), jnp.full(d, 0.3)
    many = jnp.geomspace(1e-2, 10, 1000)
    rows = [
        compared(f"fit, d = {d}, in the ridge", lambda r: fitted(x, r), ridge, count, 2.5),
        compared(f"fit, d = {d}, in d ridges", lambda r: fitted(x, r), vector, count, 2.5),
        compared(f"fit, d = {d}, in x", lambda x: fitted(x, ridge), x, count, 4.0),
        compared(
            f"leave-one-out error, d = {d}, in d ridges", lambda r: jm.leave_one_out_error(x, r), vector, count, None
        ),
        compared("theory: errors of 1000 ridges", lambda r: jax.vmap(theory)(r).sum(), many, count, 2.5),
        compared(
            "theory: errors, in n", lambda n: jm.theory.errors(jm.covariance.Diagonal(s), n, 0.1).test, N, count, 2.5
        ),
        compared(
            f"theory: errors, in {size} variances",
            lambda v: jm.theory.errors(jm.covariance.Diagonal(v), N, 0.1).test,
            s,
            count,
            2.5,
        ),
        compared("theory: errors, dense, d = 256, in the ridge", lambda r: theory(r, dense), ridge, count, 2.5),
        compared(
            "theory: errors, dense, d = 256, in the matrix",
            lambda m: theory(ridge, jm.covariance.Dense(m)),
            dense.matrix(),
            count,
            2.5,
        ),
    ]
    implicit = lambda r: jax.vmap(lambda r: jm.theory.effective_ridge(s, N, r))(r).sum()  # noqa: E731
    through = lambda r: jax.vmap(lambda r: unrolled(s, r))(r).sum()  # noqa: E731
    few = many[::10]
    calls = {name: jax.jit(jax.value_and_grad(f)) for name, f in (("implicit", implicit), ("unrolled", through))}
    times = rounds({name: lambda f=f: f(few) for name, f in calls.items()}, count)
    label = f"gradient through {STEPS} unrolled steps over implicit"
    rows.append(ratio(f"{label}, time", times["unrolled"], times["implicit"]))
    rows.append(value(f"{label}, memory", memory(through, few) / max(1, memory(implicit, few))))
    write("gradients", rows)


if __name__ == "__main__":
    main()
