"""What the benchmarks share: interleaved rounds, ratios with their spread, targets, JSON with the machine described."""

import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy

jax.config.update("jax_enable_x64", True)
RESULTS = Path(__file__).parent / "results"
ROUNDS = 9
_IDLE = 0.15  # seconds: for 0.11 after its work threads of OpenBLAS wait busily
_BUSY = 0.1  # share of the processors taken by others above which no verdict is given

Times = dict[str, list[float]]


def _processors() -> tuple[float, float, float]:
    """Seconds since boot in which any processor worked, seconds of this process and its children, and now."""
    try:
        fields = [float(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
        working = (sum(fields[:8]) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")
    except OSError:
        working = float("nan")
    return working, sum(os.times()[:4]), time.perf_counter()


_BEGIN = _processors()


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def taken_by_others() -> float:
    """Share of the processors that other processes took since the start; NaN where the system does not say."""
    working, own, now = (b - a for a, b in zip(_BEGIN, _processors(), strict=True))
    return max(0.0, working - own) / (now * (os.cpu_count() or 1))


def timed(call: Callable[[], Any], repeats: int = 5) -> dict[str, float]:
    """Seconds of the first call (with compilation) and the median of later ones."""
    first = _seconds(call)
    times = [_seconds(call) for _ in range(repeats)]
    return {"first": first, "median": statistics.median(times), "least": min(times)}


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def rounds(calls: dict[str, Callable[[], Any]], count: int = ROUNDS) -> Times:
    """Seconds of every call in each of ``count`` interleaved rounds, after one to warm up.

    Every call begins on idle processors, when threads of a BLAS have given up waiting for work.
    """
    for call in calls.values():
        _seconds(call)
    times: Times = {name: [] for name in calls}
    for _ in range(count):
        for name, call in calls.items():
            time.sleep(_IDLE)
            times[name].append(_seconds(call))
    return times


def ratio(
    what: str,
    upper: list[float],
    lower: list[float],
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    scale: float = 1.0,
) -> dict[str, Any]:
    """A row: the median over rounds of scale · upper/lower, its quartiles, and whether the target is met."""
    values = [scale * a / b for a, b in zip(upper, lower, strict=True)]
    return value(what, statistics.median(values), values, at_most=at_most, at_least=at_least)


def value(
    what: str,
    number: float,
    values: list[float] | None = None,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> dict[str, Any]:
    """A row of one number."""
    row: dict[str, Any] = {"what": what, "value": float(number)}
    if values:
        row["quartiles"], row["rounds"] = [float(q) for q in np.quantile(values, [0.25, 0.75])], len(values)
    if at_most is not None:
        row |= {"target": f"<= {at_most:g}", "met": bool(number <= at_most)}
    if at_least is not None:
        row |= {"target": f">= {at_least:g}", "met": bool(number >= at_least)}
    return row


def absent(package: str) -> dict[str, Any] | None:
    """A row that says so, where the package is not installed."""
    return None if importlib.util.find_spec(package) else {"what": package, "value": "not installed"}


def gemm_peak(dtype: Any = np.float64, d: int = 2048) -> float:
    """Operations a second of the faster of NumPy's and XLA's d × d × d product."""
    a = np.random.default_rng(0).standard_normal((d, d)).astype(dtype)
    on_device, product = jax.device_put(a), jax.jit(lambda a: a @ a)
    times = rounds({"numpy": lambda: a @ a, "xla": lambda: product(on_device)}, 5)
    return 2 * d**3 / min(min(t) for t in times.values())


def in_process(code: str, *arguments: Any) -> str:
    """What a fresh Python prints on this code, without a compilation cache."""
    environment = {key: text for key, text in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def machine() -> dict[str, Any]:
    names = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = [int(line.split()[1]) / 2**20 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    return {
        "device": jax.devices()[0].device_kind,
        "processor": names[0] if names else platform.processor(),
        "cores": cores(),
        "memory GiB": round(memory[0], 1) if memory else None,
        "system": platform.system(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def write(name: str, rows: list[dict[str, Any]]) -> None:
    """Keep the rows under results/NAME.PLATFORM.json, with what ran them and how busy it was, and print them.

    On a busy machine ``met`` becomes "no verdict".
    """
    others = taken_by_others()
    if others > _BUSY:
        rows = [row | {"met": "no verdict"} if "met" in row else row for row in rows]
    load = {"taken by others": round(others, 3), "load average": list(os.getloadavg()), "busy": others > _BUSY}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.{jax.devices()[0].platform}.json"
    temporary = path.with_suffix(".tmp")
    content = {"machine": machine(), "load": load, "seconds": time.perf_counter() - _BEGIN[2], "rows": rows}
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)
    _print(rows)
    if others > _BUSY:
        print(f"no verdict: other programs took {others:.0%} of the processors")


def _print(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if "what" not in row:  # a table of its own columns
            print(*(f"{key} {_short(entry)}" for key, entry in row.items()), sep="  ")
            continue
        spread = "{} to {}".format(*map(_short, row["quartiles"])) if "quartiles" in row else ""
        met = {True: "met", False: "not met"}.get(row.get("met"), row.get("met", ""))
        print(f"{row['what']:78} {_short(row['value']):>10}  {spread:22} {row.get('target', ''):9} {met}")


def _short(entry: Any) -> str:
    return f"{entry:.3g}" if isinstance(entry, float) else str(entry)
