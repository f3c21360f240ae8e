"""What the benchmarks share: double precision, timing with compilation apart, JSON with the machine named."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)
RESULTS = Path(__file__).parent / "results"


def timed(call: Callable[[], Any], repeats: int = 5) -> dict[str, float]:
    """Seconds of the first call (with compilation) and the median of later ones."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    first = time.perf_counter() - start
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return {"first": first, "median": statistics.median(times), "least": min(times)}


def write(name: str, rows: list[dict[str, Any]]) -> None:
    """Keep the rows under results/NAME.DEVICE.json, with what ran them, and print them."""
    device = jax.devices()[0]
    machine = {
        "device": device.device_kind,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.{device.platform}.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    temporary.replace(path)
    for row in rows:
        print(*(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()))
