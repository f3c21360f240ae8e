"""What do gradients buy when ridges are chosen, against grids, scikit-learn's RidgeCV and random search in equal time?

    python benchmarks/tuning.py

One factor in noise of many variances, n = 2d samples. First one ridge for all: gradient against a grid of 100. Then a
ridge a coordinate: gradient with early stopping, against what the others reach in the time that it took. RidgeCV picks
one ridge a target, one target after the other; targets that it does not get to keep the scalar ridge. Random search
draws all log ridges around the scalar choice. Quality is the exact test error on the population, over that of the
best scalar ridge: below 1 is a gain.
"""

import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
from _common import timed, write
from sklearn.linear_model import RidgeCV

import jmask as jm

GRID = np.logspace(-6, 6, 100)
SPREAD = 1.0  # of random search, in nats


def population(d):
    """A factor of strength one in each coordinate, noise variances over two decades, in no order."""
    variances = np.random.default_rng(d).permutation(np.geomspace(0.1, 10, d))
    return jm.covariance.Spiked(jm.covariance.Diagonal(variances), float(d), np.full(d, d**-0.5))


@jax.jit
def left_out(x, logs):
    return jm.leave_one_out_error(x, jnp.exp(logs))


def random_search(x, scalar, seconds):
    """Log ridges (d,) of least leave-one-out error among those drawn in the time, and how many were."""
    rng, d = np.random.default_rng(0), x.shape[1]
    best = np.full(d, np.log(scalar))
    least = float(left_out(x, jnp.asarray(best)))
    start, center = time.perf_counter(), best
    for count in itertools.count(1):
        logs = center + SPREAD * rng.normal(size=d)
        value = float(left_out(x, jnp.asarray(logs)))
        best, least = (logs, value) if value < least else (best, least)
        if time.perf_counter() - start > seconds:
            return best, count


def ridge_cv(x, weights, seconds):
    """Rows of the weights replaced by RidgeCV's for as many targets as the time allows, and how many those are."""
    x, weights = np.asarray(x), np.array(weights)
    n, d = x.shape
    alphas = n * np.mean(x**2) * np.logspace(-4, 4, 33)  # scikit-learn's penalty is not divided by n
    start = time.perf_counter()
    for k in range(d):
        others = np.delete(np.arange(d), k)
        weights[k, others] = RidgeCV(alphas, fit_intercept=False).fit(x[:, others], x[:, k]).coef_
        if time.perf_counter() - start > seconds:
            break
    return weights, k + 1


def main(sizes=(64, 128, 256, 512, 1024)):
    rows = []
    for d in sizes:
        true = population(d)
        x = true.sample(jax.random.key(0), 2 * d)
        left_out(x, jnp.zeros(d))  # compiled before any race
        scalar = jm.tune.ridge(x)
        base = float(jm.test_error(jm.fit(x, scalar.ridge), true))

        def row(method, seconds, weights, tried, d=d, x=x, true=true, base=base):
            quality = float(jm.test_error(weights, true)) / base
            rows.append({"d": d, "method": method, "seconds": seconds, "test error": quality, "tried": tried})

        grid = np.mean(np.asarray(x) ** 2) * GRID
        best = float(jm.ridge_path(x, grid).best)
        seconds = timed(lambda x=x: jm.tune.ridge(x).ridge, 3)["median"]
        row("gradient, one ridge", seconds, jm.fit(x, scalar.ridge).weights, len(scalar.scan_ridge) + int(scalar.steps))
        seconds = timed(lambda x=x, grid=grid: jm.ridge_path(x, grid).leave_one_out, 3)["median"]
        row("grid, one ridge", seconds, jm.fit(x, best).weights, len(grid))

        start = time.perf_counter()
        found = jax.block_until_ready(jm.tune.ridge_per_coordinate(x))
        seconds = time.perf_counter() - start  # compilation is a small part of it where d is large
        if d <= 256:
            seconds = timed(lambda x=x: jm.tune.ridge_per_coordinate(x).ridge, 1)["median"]
        row("gradient, a ridge a coordinate", seconds, jm.fit(x, found.ridge).weights, len(found.freedom))
        logs, tried = random_search(x, float(scalar.ridge), seconds)
        row("random search, the same time", seconds, jm.fit(x, jnp.exp(jnp.asarray(logs))).weights, tried)
        weights, tried = ridge_cv(x, jm.fit(x, scalar.ridge).weights, seconds)
        row("RidgeCV a target, the same time", seconds, weights, tried)
        limit = jm.tune.population_ridge(true, 2 * d, groups=np.arange(d))
        row("ridges of the population, by theory", 0.0, jm.fit(x, limit.ridge).weights, int(limit.steps))
        write("tuning", rows)


if __name__ == "__main__":
    main()
