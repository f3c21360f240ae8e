"""How fast are sweeps against a plain NumPy loop, and how do time and memory grow with d?

python benchmarks/sweeps.py
"""

import jax
import numpy as np
from _common import in_process, ratio, rounds, timed, value, write
from closed_form import MEMORY

import jmask as jm

RIDGE = 0.1


def by_loop(d, n, seeds, sigma):
    """The same draws in distribution, one at a time: fit, training error and exact test error."""
    rng, root, found = np.random.default_rng(0), np.linalg.cholesky(sigma).T, []
    for _ in range(seeds):
        x = rng.standard_normal((n, d)) @ root
        q = np.linalg.inv(x.T @ x / n + RIDGE * np.eye(d))
        residual = q / np.diagonal(q)[:, None]
        found.append((((x @ residual.T) ** 2).mean(), ((residual @ sigma) * residual).sum() / d))
    return found


def main(seeds=((32, 2048), (128, 512), (512, 128)), count=9, growth=(256, 512, 1024, 2048)):
    rows = []
    for d, draws in seeds:
        sigma = np.asarray(jm.covariance.ar1(d, 0.9).matrix())
        study = jm.Study(
            population="ar1:0.9", dimensions=d, ratios=2, ridges=RIDGE, seeds=draws, measure=["train", "test"]
        )
        calls = {
            "sweep": lambda s=study: jm.sweep(s),
            "loop": lambda d=d, k=draws, m=sigma: by_loop(d, 2 * d, k, m),
        }
        times = rounds(calls, count)
        label = f"d = {d}, n = {2 * d}, {draws} seeds"
        rows.append(value(f"{label}: fits a second", draws / np.median(times["sweep"])))
        rows.append(ratio(f"{label}: NumPy loop over sweep", times["loop"], times["sweep"]))
    seconds = []
    for d in growth:  # each by itself: small fits are slower in turn with large ones
        x = jax.device_put(np.random.default_rng(0).standard_normal((2 * d, d)))
        seconds.append(timed(lambda x=x: jm.fit(x, RIDGE).weights, count)["median"])
    slope = np.polyfit(np.log(growth), np.log(seconds), 1)[0]
    rows.append(value(f"fit, n = 2d, d = {growth[0]} to {growth[-1]}: exponent of time in d", slope))
    arrays = [max(float(in_process(MEMORY, d)), 1e-3) * d**2 for d in growth[-2:]]
    exponent = np.log(arrays[1] / arrays[0]) / np.log(growth[-1] / growth[-2])
    rows.append(value(f"fit, n = 2d, d = {growth[-2]} to {growth[-1]}: exponent of memory in d", exponent))
    write("sweeps", rows)


if __name__ == "__main__":
    main()
