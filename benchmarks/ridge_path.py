"""Do a hundred ridges with leave-one-out cost one eigendecomposition and a product each?

    python benchmarks/ridge_path.py [d ...]

Against scipy's eigh (driver evd) and 101 products n × d × d, ten of them measured, and against scikit-learn's RidgeCV
one target at a time (three timed, extrapolated to d).
"""

import sys

import jax
import numpy as np
from _common import ratio, rounds, write
from scipy.linalg import eigh
from sklearn.linear_model import RidgeCV

import jmask as jm


def by_targets(x, ridges, count):
    for k in range(count):
        RidgeCV(alphas=ridges * len(x), fit_intercept=False).fit(np.delete(x, k, 1), x[:, k])


def main(dimensions=(256, 512, 1024), count=9, ridges=100):
    rows, grid = [], np.logspace(-3, 2, ridges)
    for d in dimensions:
        n = 2 * d
        x = np.random.default_rng(0).standard_normal((n, d))
        s, square = x.T @ x / n, np.random.default_rng(1).standard_normal((d, d))
        on_device = jax.device_put(x)
        calls = {
            "path": lambda x=on_device: jm.ridge_path(x, grid).leave_one_out,
            "eigh": lambda s=s: eigh(s, driver="evd"),
            "products": lambda x=x, square=square: [x @ square for _ in range(10)],
        }
        times = rounds(calls, count)
        floor = [e + (ridges + 1) / 10 * p for e, p in zip(times["eigh"], times["products"], strict=True)]
        label = f"d = {d}, n = {n}, {ridges} ridges"
        target = 1.25 if d >= 512 else None
        rows.append(ratio(f"{label}: time over eigh and {ridges + 1} products", times["path"], floor, at_most=target))
        if d <= 512:
            pair = rounds({"targets": lambda x=x: by_targets(x, grid, 3), "path": calls["path"]}, min(count, 3))
            least = 500 if d == 512 else None
            what = f"{label}: RidgeCV a coordinate over jmask"
            rows.append(ratio(what, pair["targets"], pair["path"], scale=d / 3, at_least=least))
    write("ridge_path", rows)


if __name__ == "__main__":
    main(*([[int(a) for a in sys.argv[1:]]] if sys.argv[1:] else []))
