"""How many steps of gradient descent bring the accuracy of the closed form, and could one have known?

    python benchmarks/descent.py

For well- and ill-conditioned populations: steps and d × d × d products until the test error stays within 1% and 0.01%
of the closed form's, predicted from the population and n alone, and measured on one sample; and what the measured
descent costs in seconds against the closed form. Adam and L-BFGS have no theory: they are measured only.
"""

import jax
import jax.numpy as jnp
import numpy as np
from _common import ratio, rounds, timed, value, write

import jmask as jm
from jmask.commands.optimisers import optimisers, spectrum_interval
from jmask.descent import snapshots

RIDGE = 0.01
TARGETS = (1e-2, 1e-4)
MOST = 5000


def populations(d):
    return {
        "isotropic": jm.covariance.Diagonal(np.ones(d)),
        "ar1 0.9": jm.covariance.ar1(d, 0.9),
        "power law 1": jm.covariance.power_law(d, 1.0).realise(jax.random.key(1)),
    }


def arrival(steps, test, end, target):
    """Index of the first step from which on the error stays within ``target`` of its end; None: not yet."""
    outside = np.flatnonzero(~(np.abs(np.asarray(test) / end - 1) <= target))
    first = outside[-1] + 1 if outside.size else 0
    return int(first) if first < len(steps) else None


def measure(gram, truth, rule, steps):
    """Test error and products (t,) along one descent."""
    errors, products = [], []
    for count, (weights, state) in zip(steps, snapshots(gram, RIDGE, steps, optimizer=rule.rule), strict=True):
        errors.append(float(jm.test_error(weights, truth)) if bool(jnp.isfinite(weights).all()) else np.nan)
        products.append(rule.products(count, state))
    return np.array(errors), products


def compare(name, population, n):
    """Rows of one population: one for each optimiser and target."""
    truth = population.matrix()
    gram = jm.Gram.from_samples(population.sample(jax.random.key(0), n))
    exact = float(jm.test_error(jm.fit(gram, RIDGE), truth))
    closed = timed(lambda: jm.fit(gram, RIDGE).weights)["median"]
    low, high = spectrum_interval(population, n, RIDGE, MOST)
    steps = np.unique(np.geomspace(1, MOST, 150).round().astype(int)).tolist()
    for rule in optimisers(low, high):
        test, products = measure(gram, truth, rule, steps)
        predicted = None
        if rule.predicted is not None:
            predicted = jm.theory.descent(population, n, RIDGE, steps=steps, **rule.predicted).test
        for target in TARGETS:
            taken = arrival(steps, test, exact, target)
            known = (
                None
                if predicted is None
                else arrival(steps, predicted, float(jm.theory.errors(population, n, RIDGE).test), target)
            )
            seconds = None
            if taken is not None:
                stop = [steps[taken]]
                run = timed(lambda rule=rule, stop=stop: next(snapshots(gram, RIDGE, stop, optimizer=rule.rule))[0], 3)
                seconds = run["median"]
            yield {
                "population": name,
                "d": population.dimension,
                "condition number": high / low,
                "optimizer": rule.name,
                "excess": target,
                "steps predicted": None if known is None else steps[known],
                "steps measured": None if taken is None else steps[taken],
                "products measured": None if taken is None else products[taken],
                "seconds": seconds,
                "over closed form": None if seconds is None else seconds / closed,
            }


def step_share(d, count=15, steps=5):
    """Of the measured GEMM peak: as many d × d × d products in a row, by NumPy or XLA, whichever is faster."""
    a = np.random.default_rng(0).standard_normal((d, d)) / np.sqrt(d)
    on_device, out = jax.device_put(a), np.empty_like(a)
    products = jax.jit(lambda a: jax.lax.fori_loop(0, steps, lambda _, b: a @ b, a))
    gram = jm.Gram.from_samples(jax.random.normal(jax.random.key(0), (2 * d, d)))
    descent = snapshots(gram, RIDGE, range(steps, steps * (count + 2), steps))
    calls = {
        "numpy": lambda: [np.matmul(a, a, out=out) for _ in range(steps)],
        "xla": lambda: products(on_device),
        "steps": lambda: next(descent)[0],
    }
    times = rounds(calls, count)
    peak = np.minimum(times["numpy"], times["xla"])
    return ratio(f"d = {d}: step of the default optimiser, share of GEMM peak", peak, times["steps"], at_least=0.85)


def default_products(name, population, n):
    """Steps of the default settings to a relative gradient of 1e-6, over what the best polynomial method must take."""
    gram = jm.Gram.from_samples(population.sample(jax.random.key(0), n))
    values = np.linalg.eigvalsh(np.asarray(gram.covariance)) + RIDGE
    least = np.arccosh(1e6) / np.arccosh((values[-1] + values[0]) / (values[-1] - values[0]))
    steps = int(jm.fit_gradient(gram, RIDGE, tolerance=1e-6).steps)
    return value(f"{name}: default steps to 1e-6 over Chebyshev's bound", steps / least, at_most=2.0)


def main(d=256, large=2048):
    rows = [step_share(large)] + [default_products(name, c, 2 * d) for name, c in populations(d).items()]
    write("descent", rows + [row for name, c in populations(d).items() for row in compare(name, c, 2 * d)])


if __name__ == "__main__":
    main()
