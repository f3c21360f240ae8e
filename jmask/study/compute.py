"""One task on the devices of this process."""

import re
import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from threading import Lock
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..covariance.names import parse_population
from .measure import Setting, simulate
from .plan import scales_of, scheme_of
from .predict import predict
from .schedule import Task

_PROGRAMS_KEPT = 64
_BATCHED = Lock()


@dataclass(frozen=True)
class Outcome:
    """What a task found; values are None where a fit failed or the theory says nothing.

    ``rows`` are (point key, number of the draw, quantity, value), ``theory`` (point key, quantity, value).
    """

    task: Task
    rows: tuple[tuple[str, int, str, float | None], ...]
    theory: tuple[tuple[str, str, float | None], ...]
    compile_seconds: float
    run_seconds: float


def attempt(task: Task) -> Outcome | Exception:
    """What ``compute`` gives or raises, as a value; a ``MemoryError`` where a smaller task might do."""
    try:
        return compute(task)
    except Exception as error:
        text = str(error) if isinstance(error, jax.errors.JaxRuntimeError) else ""
        return MemoryError(text) if re.search("RESOURCE_EXHAUSTED|[Oo]ut of memory", text) else error


def compute(task: Task) -> Outcome:
    """Simulate and predict; raises what the device raises when memory runs out.

    The precision is the task's, whatever JAX is set to, and its threads of linear algebra are one a device: several
    threads for matrices of a few hundred rows lose more by waiting than they gain.
    """
    # Partitions need batched LAPACK kernels, which wait for threads that those of another task may hold.
    alone = _BATCHED if _is_partition(task) else nullcontext()
    with double_precision(), _threads_for(task), alone:
        rows, compile_seconds, run_seconds = _simulated(task) if task.draws else ((), 0.0, 0.0)
        start = time.perf_counter()
        theory = tuple(
            (point.key, name, _plain(value))
            for point in (task.points[i] for i in task.predicted)
            for name, value in predict(point, task.quantities).items()
        )
    return Outcome(task, rows, theory, compile_seconds, run_seconds + time.perf_counter() - start)


def _simulated(task: Task) -> tuple[tuple[tuple[str, int, str, float | None], ...], float, float]:
    point = task.points[0]
    devices = _usable_devices(task)
    dtype = np.dtype(np.float64 if point.precision == "double" else np.float32)
    population, scales = _in_precision(
        (parse_population(point.population, point.dimension), scales_of(point.scales)), dtype
    )
    scheme = scheme_of(point.scheme, point.dimension)
    draws = np.resize(np.array(task.draws, np.int32), task.lanes)  # padded by repetition
    strengths = np.array([p.strength for p in task.points], dtype)
    ridges = np.array([p.ridge for p in task.points], dtype)
    setting = Setting(point.samples, task.quantities, point.strength > 0, point.ridge == 0, task.together)
    operands = (
        population,
        _in_precision(scheme, dtype),
        scales,
        jnp.asarray(draws),
        jnp.asarray(strengths),
        jnp.asarray(ridges),
    )
    start = time.perf_counter()
    program = _program(setting, devices, jax.tree.structure(operands), _shapes(operands))(operands)
    compiled = time.perf_counter()
    values = {name: np.asarray(value, np.float64) for name, value in jax.block_until_ready(program(*operands)).items()}
    finished = time.perf_counter()
    rows = tuple(
        (p.key, draw, name, _plain(values[name][i, j]))
        for i, draw in enumerate(task.draws)
        for j, p in enumerate(task.points)
        for name in task.quantities
    )
    return rows, compiled - start, finished - compiled


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _in_precision(tree: Any, dtype: np.dtype) -> Any:
    """Floating leaves in the precision of the simulation."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def _shapes(operands: Any) -> tuple:
    return tuple((leaf.shape, leaf.dtype.name) for leaf in jax.tree.leaves(operands))


def _usable_devices(task: Task) -> int:
    count = jax.local_device_count()
    # The same kernels wait for each other's threads when several CPU devices run them.
    waiting = jax.local_devices()[0].platform == "cpu" and _is_partition(task)
    return 1 if waiting or task.lanes % count else count


def _is_partition(task: Task) -> bool:
    return task.points[0].scheme.startswith("partition")


@lru_cache(maxsize=_PROGRAMS_KEPT)
def _program(setting: Setting, devices: int, structure: Any, shapes: tuple) -> Any:
    """A function of the first operands that compiles once for their shapes."""
    del structure, shapes
    kept: list[Any] = []
    compiling = Lock()

    def compiled(operands: tuple) -> Any:
        with compiling:
            if not kept:
                kept.append(_sharded(setting, devices).lower(*operands).compile())
        return kept[0]

    return compiled


def _sharded(setting: Setting, devices: int) -> Any:
    """``simulate``, the draws spread over the devices; nothing is exchanged between them."""
    run = partial(simulate, setting)
    if devices == 1:
        return jax.jit(run)
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("draws",))
    spec = jax.sharding.PartitionSpec
    split = (spec(), spec(), spec(), spec("draws"), spec(), spec())
    return jax.jit(jax.shard_map(run, mesh=mesh, in_specs=split, out_specs=spec("draws"), check_vma=False))


def double_precision() -> Any:
    """A context in which JAX keeps 64 bits, whatever the process has set."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax import experimental

    return experimental.enable_x64(True)  # type: ignore[attr-defined]


def _threads_for(task: Task) -> Any:
    """One thread for LAPACK where several devices share the cores or the matrices are small."""
    large = task.points[0].dimension >= 1024 and jax.local_device_count() == 1
    return nullcontext() if large else single_threaded_blas()


def single_threaded_blas() -> Any:
    """A context in which LAPACK has one thread, in the whole process."""
    import scipy.linalg  # noqa: F401  JAX takes its LAPACK from here: it must be loaded to be limited

    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:  # comes with scikit-learn; without it, all is as it was
        return nullcontext()
    return threadpool_limits(1, "blas")
