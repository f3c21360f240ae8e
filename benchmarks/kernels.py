"""Are the dense kernels at the speed of LAPACK? Gram matrix and inverse of a positive definite matrix, float64.

    python benchmarks/kernels.py [d ...]

Against dsyrk and dpotrf + dpotri, and against what plain JAX offers: x.T @ x and jnp.linalg.inv.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from _common import timed, write
from scipy.linalg import blas, lapack

from jmask import _linalg


def main(dimensions):
    rows = []
    for d in dimensions:
        x = np.random.default_rng(0).standard_normal((2 * d, d))
        s = x.T @ x / len(x) + 0.1 * np.eye(d)
        on_device, matrix = jax.device_put(x), jax.device_put(s)
        kernels = {
            "gram": (lambda f=jax.jit(_linalg.gram), x=on_device: f(x)),
            "x.T @ x": (lambda f=jax.jit(lambda x: x.T @ x), x=on_device: f(x)),
            "dsyrk": (lambda x=x: blas.dsyrk(1.0, x.T, lower=1)),
            "inverse": (lambda f=jax.jit(_linalg.inverse), s=matrix: f(s)),
            "jnp.linalg.inv": (lambda f=jax.jit(jnp.linalg.inv), s=matrix: f(s)),
            "dpotrf + dpotri": (lambda s=s: lapack.dpotri(lapack.dpotrf(s, lower=1)[0], lower=1)[0]),
        }
        times = {name: timed(call, 7 if d <= 1024 else 4) for name, call in kernels.items()}
        row = {"d": d, **{f"{name} seconds": t["least"] for name, t in times.items()}}
        row["gram over dsyrk"] = times["gram"]["least"] / times["dsyrk"]["least"]
        row["inverse over potri"] = times["inverse"]["least"] / times["dpotrf + dpotri"]["least"]
        row["compile"] = times["gram"]["first"] + times["inverse"]["first"]
        rows.append(row)
    write("kernels", rows)


if __name__ == "__main__":
    main([int(a) for a in sys.argv[1:]] or [256, 512, 1024, 2048])
