"""How many points of theory a second, against loops of scipy.optimize and vmapped optimistix?

    python benchmarks/theory.py

Effective ridges, errors and thresholds on grids. The loops of brentq are timed on a sample of the grid and scaled.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from _common import ratio, rounds, value, write
from scipy.optimize import brentq

import jmask as jm

N = 300.0


def kappa_by_brentq(s, ridges):
    total = s.sum() / N
    return [brentq(lambda k, r=r: k - r - k * (s / (s + k)).sum() / N, r, r + total, rtol=1e-12) for r in ridges]


def errors_by_brentq(s, ridges):
    """Train and test error of a diagonal population, written out."""
    found = []
    for ridge, kappa in zip(ridges, kappa_by_brentq(s, ridges), strict=True):
        df2 = ((s / (s + kappa)) ** 2).sum()
        test = s / (1 - df2 / N)
        found.append(((ridge / kappa) ** 2 * test.mean(), test.mean()))
    return found


def by_optimistix(s):
    solver = optimistix.Newton(rtol=1e-12, atol=1e-14)

    def residual(k, ridge):
        return k - ridge - k * (s / (s + k)).sum() / N

    def solve(ridge):
        return optimistix.root_find(residual, solver, ridge + s.sum() / N, ridge, max_steps=200, throw=False).value

    return jax.jit(jax.vmap(solve))


def main(points=20_000, count=9, largest=1_000_000):
    s = np.random.default_rng(0).gamma(1.0, 1.0, 256)
    ridges = np.geomspace(1e-4, 10, points)
    sample, peer, given = ridges[:: points // 200], by_optimistix(jnp.asarray(s)), jnp.asarray(ridges)
    diagonal = jm.covariance.Diagonal(s)
    errors = jax.jit(jax.vmap(lambda ridge: jm.theory.errors(diagonal, N, ridge).test))
    calls = {
        "kappa": lambda: jm.theory.effective_ridge(s, N, given),
        "errors": lambda: errors(given),
        "kappa by brentq": lambda: kappa_by_brentq(s, sample),
        "errors by brentq": lambda: errors_by_brentq(s, sample),
        "kappa by optimistix": lambda: peer(given),
    }
    gap = np.abs(np.asarray(calls["kappa"]())[:: points // 200] / calls["kappa by brentq"]() - 1).max()
    times, scale = rounds(calls, count), points / len(sample)
    label = f"{points} ridges, 256 eigenvalues"
    rows = [
        value(f"{label}: largest relative difference to brentq", gap),
        value(f"{label}: effective ridges a second", points / np.median(times["kappa"])),
        value(f"{label}: errors a second", points / np.median(times["errors"])),
        ratio(
            f"{label}: loop of brentq over jmask", times["kappa by brentq"], times["kappa"], scale=scale, at_least=60
        ),
        ratio(f"{label}: errors by such a loop over jmask", times["errors by brentq"], times["errors"], scale=scale),
        ratio(f"{label}: vmapped optimistix over jmask", times["kappa by optimistix"], times["kappa"], at_least=10),
    ]
    few = jnp.geomspace(1e-4, 10, largest)
    alone = rounds({"kappa": lambda: jm.theory.effective_ridge(s[:32], N, few)}, min(count, 3))["kappa"]
    rows.append(value(f"{largest} ridges, 32 eigenvalues: effective ridges a second", largest / np.median(alone)))
    thresholds = jax.jit(jax.vmap(lambda ridge: jm.theory.threshold(jm.covariance.Diagonal(s[:64]), N, ridge)))
    some = jnp.geomspace(1e-2, 10, min(points, 1000))
    alone = rounds({"thresholds": lambda: thresholds(some)}, min(count, 3))["thresholds"]
    rows.append(value(f"{len(some)} ridges, 64 variances: thresholds a second", len(some) / np.median(alone)))
    write("theory", rows)


if __name__ == "__main__":
    main()
