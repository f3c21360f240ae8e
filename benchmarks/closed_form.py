"""Is the closed form at the speed of its factorisation, and how far are its rivals?

    python benchmarks/closed_form.py [d ...]

LAPACK is dsyrk, dpotrf, dpotri and the scaling of rows, by hand and in place: all the arithmetic there is.
scikit-learn is Ridge(X, X) and the same scaling. The naive loop makes d ridge regressions (three timed, extrapolated).
"""

import sys

import jax
import numpy as np
from _common import absent, gemm_peak, in_process, ratio, rounds, value, write
from scipy.linalg import blas, lapack
from sklearn.linear_model import Ridge

import jmask as jm

RIDGE = 0.1

MEMORY = """
import gc, sys, time
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
import jmask as jm
def resident(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024
d = int(sys.argv[1])
jm.fit(np.random.default_rng(0).standard_normal((600, 300)), 0.1)
x = jax.device_put(np.random.default_rng(0).standard_normal((2 * d, d))).block_until_ready()
gc.collect()
time.sleep(1)  # until what x was copied from is given back
open("/proc/self/clear_refs", "w").write("5")  # the peak is now what is resident
before = resident("VmRSS")
jm.fit(x, 0.1).weights.block_until_ready()
print((resident("VmHWM") - before) / (8 * d * d))
"""
FIRST = """
import sys, time
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
import jmask as jm
d = int(sys.argv[1])
x = jax.device_put(np.random.default_rng(0).standard_normal((2 * d, d))).block_until_ready()
start = time.perf_counter()
jm.fit(x, 0.1).weights.block_until_ready()
print(time.perf_counter() - start)
"""


def scaled(q):
    """Weights in the storage of Q."""
    q /= -np.diagonal(q)[:, None].copy()
    np.fill_diagonal(q, 0)
    return q


def by_lapack(x):
    n, d = x.shape
    letter = "s" if x.dtype == np.float32 else "d"
    s = getattr(blas, letter + "syrk")(1 / n, x.T, lower=1)
    s[np.diag_indices(d)] += RIDGE
    factor, _ = getattr(lapack, letter + "potrf")(s, lower=1, overwrite_a=1)
    q, _ = getattr(lapack, letter + "potri")(factor, lower=1, overwrite_c=1)
    for i in range(0, d, 256):
        q[i : i + 256, i : i + 256] += np.tril(q[i : i + 256, i : i + 256], -1).T
        q[i : i + 256, i + 256 :] = q[i + 256 :, i : i + 256].T
    return scaled(q.T)


def by_numpy(x):
    return scaled(np.linalg.inv(x.T @ x / len(x) + RIDGE * np.eye(x.shape[1], dtype=x.dtype)))


def by_sklearn(x):
    """Q from the d regressions of X on itself, (S + λ)⁻¹S = I - λQ, then the same scaling."""
    hat = Ridge(alpha=RIDGE * len(x), fit_intercept=False, solver="cholesky").fit(x, x).coef_
    return scaled((np.eye(len(hat)) - hat) / RIDGE)


def by_regressions(x, count):
    for k in range(count):
        Ridge(alpha=RIDGE * len(x), fit_intercept=False).fit(np.delete(x, k, 1), x[:, k])


def by_himalaya(x):
    from himalaya.ridge import Ridge as Himalaya

    hat = np.asarray(Himalaya(alpha=RIDGE * len(x), fit_intercept=False).fit(x, x).coef_)
    return scaled((np.eye(len(hat)) - hat) / RIDGE)


def compared(d, n, dtype, peak, rivals, count):
    x = np.random.default_rng(0).standard_normal((n, d)).astype(dtype)
    on_device = jax.device_put(x)
    calls = {
        "jmask": lambda: jm.fit(on_device, RIDGE).weights,
        **{name: lambda f=f: f(x) for name, f in rivals.items()},
    }
    target = 1.0 if (d, n, dtype) == (2048, 4096, np.float64) else None
    times = rounds(calls, 3 * count if target else count)
    label = f"d = {d}, n = {n}, {np.dtype(dtype).name}"
    gap = np.abs(np.asarray(calls["jmask"]()) - by_lapack(x)).max()
    rows = [value(f"{label}: largest difference to LAPACK", gap)]
    rows.append(ratio(f"{label}: time over LAPACK's", times["jmask"], times["LAPACK"], at_most=target))
    for name in rivals:
        if name != "LAPACK":
            most = 0.35 if (d, n, dtype, name) == (1024, 2048, np.float64, "scikit-learn") else None
            rows.append(ratio(f"{label}: time over {name}'s", times["jmask"], times[name], at_most=most))
    work = n * d**2 + d**3 if n >= d else n * d**2 + 2 * n**2 * d + n**3 / 3
    rows.append(value(f"{label}: share of GEMM peak", work / np.median(times["jmask"]) / peak[dtype]))
    return rows, times["jmask"]


def main(dimensions=(256, 512, 1024, 2048, 4096), count=9):
    peak = {dtype: gemm_peak(dtype, min(2048, max(dimensions))) for dtype in (np.float64, np.float32)}
    rows = [value(f"GEMM peak, {np.dtype(dtype).name}, operations a second", peak[dtype]) for dtype in peak]
    for d in dimensions:
        for dtype in (np.float64, np.float32) if d <= 2048 else (np.float64,):
            for n in (d // 2, 2 * d, 8 * d) if d <= 2048 else (d // 2, 2 * d):
                rivals = {"LAPACK": by_lapack}
                if n == 2 * d and dtype == np.float64 and d <= 2048:
                    rivals["numpy.linalg.inv"] = by_numpy
                    if d <= 1024:
                        rivals["scikit-learn"] = by_sklearn
                        rivals |= {} if absent("himalaya") else {"himalaya": by_himalaya}
                rows += compared(d, n, dtype, peak, rivals, count)[0]
        rows += _dual(d, count) if d <= 2048 else []
    d = min(512, max(dimensions))
    x = np.random.default_rng(0).standard_normal((2 * d, d))
    on_device = jax.device_put(x)
    loop = rounds({"loop": lambda: by_regressions(x, 3), "jmask": lambda: jm.fit(on_device, RIDGE).weights}, count)
    rows.append(ratio(f"d = {d}: d separate regressions over jmask", loop["loop"], loop["jmask"], scale=d / 3))
    rows += [row for row in (absent("himalaya"), absent("ease_rec")) if row]
    if max(dimensions) >= 2048:
        firsts = [float(in_process(FIRST, 2048)) for _ in range(3)]
        rows.append(value("d = 2048: seconds of the first call", np.median(firsts), firsts, at_most=4.0))
        rows.append(
            value("d = 3072: peak memory besides x, in d × d arrays", float(in_process(MEMORY, 3072)), at_most=6)
        )
        rows[-1]["target"] += " (4 and a transposed copy of x, 2)"
    write("closed_form", rows)


def _dual(d, count):
    """The n × n dual against the primal, as kernels."""
    from jmask import _linalg

    rows, ridge = [], jax.numpy.asarray(RIDGE)
    primal, dual = jax.jit(_linalg.primal_regressions), jax.jit(_linalg.dual_regressions)
    for share, target in ((4, 3.0), (8, 6.0)):
        x = jax.device_put(np.random.default_rng(0).standard_normal((d // share, d)))
        least = target if d == 2048 else None
        calls = {"primal": lambda x=x: primal(x, ridge), "dual": lambda x=x: dual(x, ridge)}
        times = rounds(calls, 3 * count if least else count)
        rows.append(ratio(f"d = {d}, n = d/{share}: primal over dual", times["primal"], times["dual"], at_least=least))
    return rows


if __name__ == "__main__":
    main(*([[int(a) for a in sys.argv[1:]]] if sys.argv[1:] else []))
