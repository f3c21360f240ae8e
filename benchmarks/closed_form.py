"""Is the closed form at the speed of its factorisation? Against LAPACK called by hand and scikit-learn's Ridge(X, X).

    python benchmarks/closed_form.py [d ...]

All in double precision at n = 2d, and at n = d/2 where the dual applies. LAPACK is dsyrk, dpotrf, dpotri and the
scaling of rows, which is all the arithmetic there is.
"""

import sys

import jax
import numpy as np
from _common import timed, write
from scipy.linalg import blas, lapack
from sklearn.linear_model import Ridge

import jmask as jm

RIDGE = 0.1


def by_lapack(x):
    n, d = x.shape
    s = blas.dsyrk(1 / n, x.T, lower=1)
    s[np.diag_indices(d)] += RIDGE
    factor, _ = lapack.dpotrf(s, lower=1, overwrite_a=1)
    q, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    q = np.tril(q) + np.tril(q, -1).T
    weights = -q / np.diagonal(q)[:, None]
    np.fill_diagonal(weights, 0)
    return weights


def by_sklearn(x):
    """Q from the d regressions of X on itself, (S + λ)⁻¹S = I - λQ, then the same scaling."""
    d = x.shape[1]
    hat = Ridge(alpha=RIDGE * len(x), fit_intercept=False, solver="cholesky").fit(x, x).coef_
    q = (np.eye(d) - hat) / RIDGE
    weights = -q / np.diagonal(q)[:, None]
    np.fill_diagonal(weights, 0)
    return weights


def main(dimensions):
    rows = []
    for d in dimensions:
        for n in (2 * d, d // 2):
            x = np.random.default_rng(0).standard_normal((n, d))
            on_device = jax.device_put(x)
            rivals = {
                "jmask": lambda x=on_device: jm.fit(x, RIDGE).weights,
                "lapack": lambda x=x: by_lapack(x),
                "scikit-learn": lambda x=x: by_sklearn(x),
            }
            times = {name: timed(call, 5 if d <= 1024 else 3) for name, call in rivals.items()}
            gap = np.abs(np.asarray(rivals["jmask"]()) - by_lapack(x)).max()
            row = {"d": d, "n": n, "largest difference": float(gap), "compile": times["jmask"]["first"]}
            row |= {f"{name} seconds": t["median"] for name, t in times.items()}
            row |= {f"{name} over lapack": times[name]["median"] / times["lapack"]["median"] for name in rivals}
            rows.append(row)
    write("closed_form", rows)


if __name__ == "__main__":
    main([int(a) for a in sys.argv[1:]] or [256, 512, 1024, 2048])
