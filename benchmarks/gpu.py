"""What does one CUDA GPU give: share of its GEMM peak, times faster than this machine's CPU?

    python benchmarks/gpu.py [d ...]

Self-contained: it runs wherever JAX sees a CUDA GPU, and says so where it sees none. CPU rivals run the same functions
on the CPU of the same machine, under ``jax.default_device`` (which cuts lanes into chunks that fit in cache), at the
same sizes up to d = 4096 and extrapolated by d³ beyond.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from _common import cores, ratio, rounds, value, write

import jmask as jm

RIDGE = 0.1
LARGEST_ON_CPU = 4096


def cuda():
    try:
        return jax.devices("cuda")[0]
    except RuntimeError:
        return None


def normal(n, d, dtype, device, seed=0):
    with jax.default_device(device):
        return jax.random.normal(jax.random.key(seed), (n, d), dtype)


def peak(dtype, device, d):
    a, product = normal(d, d, dtype, device), jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    return 2 * d**3 / min(rounds({"gemm": lambda: product(a)}, 5)["gemm"])


def closed_form(d, dtype, device, host, top, count):
    """n = d: n d² + d³ operations."""
    label = f"closed form, d = n = {d}, {np.dtype(dtype).name}"
    x = normal(d, d, dtype, device)
    times = rounds({"gpu": lambda: jm.fit(x, RIDGE).weights}, count)["gpu"]
    double = np.dtype(dtype) == np.float64
    share = 2 * d**3 / np.median(times) / top
    rows = [value(f"{label}: share of GEMM peak", share, at_least=0.5 if double and d == 16384 else None)]
    small = min(d, LARGEST_ON_CPU)
    on_host = normal(small, small, dtype, host)
    slow = rounds({"cpu": jax.default_device(host)(lambda: jm.fit(on_host, RIDGE).weights)}, 3)["cpu"] * count
    what = f"{label}: {cores()} CPU cores over GPU"
    least = 20.0 if double and d == 16384 else None
    return [*rows, ratio(what, slow[:count], times, scale=(d / small) ** 3, at_least=least)]


def factor_or_decompose(d, device, count, ridges=20):
    """A path of ridges: one Cholesky factorisation each, or one eigendecomposition."""
    x = normal(2 * d, d, np.float64, device)
    grid = jax.device_put(jnp.geomspace(1e-3, 1e2, ridges), device)
    each = jax.jit(lambda x, grid: jax.lax.map(lambda r: jm.leave_one_out_error(x, r), grid))
    calls = {
        "cholesky": lambda: each(x, grid),
        "eigh": lambda: jm.ridge_path(x, grid).leave_one_out,
    }
    times = rounds(calls, count)
    what = f"leave-one-out at {ridges} ridges, d = {d}: a Cholesky each over one eigh"
    return [ratio(what, times["cholesky"], times["eigh"])]


def sweep(d, seeds, device, host, count):
    """Draw, fit and test, many seeds in one program."""
    sigma = np.asarray(jm.covariance.ar1(d, 0.9).matrix())

    def one(key, sigma, root):
        x = jax.random.normal(key, (2 * d, d), sigma.dtype) @ root
        fitted = jm.fit(x, RIDGE)
        return jm.test_error(fitted, sigma)

    program = jax.jit(lambda keys, sigma, root: jax.lax.map(lambda k: one(k, sigma, root), keys, batch_size=32))
    calls = {}
    for name, where, draws in (("gpu", device, seeds), ("cpu", host, max(4, seeds // 16))):
        with jax.default_device(where):
            keys = jax.random.split(jax.random.key(0), draws)
        given = jax.device_put((sigma, np.linalg.cholesky(sigma).T), where)
        calls[name] = jax.default_device(where)(lambda keys=keys, given=given: program(keys, *given))
    times = rounds(calls, count)
    scale = seeds / max(4, seeds // 16)
    what = f"sweep of {seeds} seeds, d = {d}, n = {2 * d}: {cores()} CPU cores over GPU"
    return [ratio(what, times["cpu"], times["gpu"], scale=scale, at_least=15.0 if (d, seeds) == (512, 256) else None)]


def theory(points, device, host, count):
    s = np.random.default_rng(0).gamma(1.0, 1.0, 256)
    calls = {}
    for name, where in (("gpu", device), ("cpu", host)):
        ridges = jax.device_put(np.geomspace(1e-4, 10, points), where)
        values = jax.device_put(s, where)
        calls[name] = jax.default_device(where)(
            lambda ridges=ridges, v=values: jm.theory.effective_ridge(v, 300.0, ridges)
        )
    times = rounds(calls, count)
    return [ratio(f"effective ridges at {points} ridges: {cores()} CPU cores over GPU", times["cpu"], times["gpu"])]


def main(dimensions=(2048, 8192, 16384), count=9, seeds=256, points=200_000, device=None):
    device = cuda() if device is None else device
    if device is None:
        print("no CUDA GPU is visible to JAX: nothing to measure here")
        return
    host = jax.devices("cpu")[0]
    rows = []
    for dtype in (np.float64, np.float32):
        top = peak(dtype, device, min(8192, max(dimensions)))
        rows.append(value(f"GEMM peak, {np.dtype(dtype).name}, operations a second", top))
        for d in dimensions:
            rows += closed_form(d, dtype, device, host, top, count)
    rows += factor_or_decompose(min(2048, max(dimensions)), device, count)
    rows += sweep(min(512, max(dimensions)), seeds, device, host, count)
    rows += theory(points, device, host, count)
    write("gpu", rows)


if __name__ == "__main__":
    main(*([[int(a) for a in sys.argv[1:]]] if sys.argv[1:] else []))
