"""How long does the spectrum of a dense population without symmetry take, at 400 points?

    python benchmarks/dense_spectrum.py [d ...]

AR(1) in time with variances over a decade: neither diagonal nor stationary. One call each, compilation apart (a call
at other values of the same shapes). The check is the total mass: the trapezoidal integral over 400 points and the mass
points, which misses one by the square-root edges.
"""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from _common import value, write

import jmask as jm


def population(d, rho=0.7):
    scale = np.sqrt(np.geomspace(0.3, 3.0, d))
    return jm.covariance.Dense(scale[:, None] * np.asarray(jm.covariance.ar1(d, rho).matrix()) * scale[None, :])


def main(dimensions=(256, 512, 1000), points=400):
    rows = []
    for d in dimensions:
        c, n, ridge = population(d), 2.0 * d, 0.1
        start = time.perf_counter()
        edges = np.asarray(jm.theory.edges(c, n, ridge))
        edge_seconds = time.perf_counter() - start
        edges = edges[np.isfinite(edges).all(1)]
        grid = np.linspace(edges.min(), edges.max(), points)
        seconds = []
        for shift in (0.0, 1e-3):
            start = time.perf_counter()
            density = jax.block_until_ready(jm.theory.density(c, n, ridge + shift, jnp.asarray(grid)))
            seconds.append(time.perf_counter() - start)
        mass = float(np.trapezoid(np.nan_to_num(np.asarray(density)), grid))
        target = {"at_most": 60.0} if d == 1000 else {}
        label = f"d = {d}, {points} points"
        rows += [
            value(f"{label}: seconds", seconds[1], **target),
            value(f"{label}: seconds of the first call", seconds[0]),
            value(f"{label}: seconds for the edges, first call", edge_seconds),
            value(f"{label}: mass seen", mass),
        ]
        write("dense_spectrum", rows)


if __name__ == "__main__":
    main(*([[int(a) for a in sys.argv[1:]]] if sys.argv[1:] else []))
