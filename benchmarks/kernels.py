"""Are the dense kernels at the speed of LAPACK?

    python benchmarks/kernels.py [d ...]

Gram matrix against dsyrk, inverse of a positive definite matrix against dpotrf + dpotri, in double precision; and what
plain JAX offers: x.T @ x and jnp.linalg.inv. Below d = 256 the kernels are XLA's own.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from _common import ratio, rounds, write
from scipy.linalg import blas, lapack

from jmask import _linalg


def main(dimensions=(128, 256, 512, 1024, 2048), count=9):
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
        times = rounds(kernels, count)
        pairs = [("gram", "dsyrk"), ("x.T @ x", "dsyrk"), ("inverse", "dpotrf + dpotri")]
        for upper, lower in (*pairs, ("jnp.linalg.inv", "dpotrf + dpotri")):
            rows.append(ratio(f"d = {d}: {upper} over {lower}", times[upper], times[lower]))
    write("kernels", rows)


if __name__ == "__main__":
    main(*([[int(a) for a in sys.argv[1:]]] if sys.argv[1:] else []))
