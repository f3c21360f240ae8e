"""Running studies: tasks on this machine or on a cluster, one writer, memory that runs out met by smaller tasks."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from .compute import Outcome, attempt, single_threaded_blas
from .plan import Study, as_studies
from .schedule import Estimate, Machine, Task, cut, estimate, require_room, this_machine, threads_for
from .store import Store
from .table import SweepTable, read_table

Result = tuple[Task, Outcome | Exception]
Execute = Callable[[Sequence[Task]], Iterator[Result]]


@dataclass(frozen=True)
class Progress:
    """Where a run stands: values done and to do, seconds compiling and computing, seconds since it began."""

    done: int
    total: int
    failed: int
    compile_seconds: float
    run_seconds: float
    elapsed: float


def sweep(
    study: Any,
    store: str | Path | None = None,
    *,
    memory: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Callable[[Progress], object] | None = None,
    planned: Callable[[Estimate], object] | None = None,
) -> SweepTable:
    """Simulate every point of a study and predict it; what the store holds already is not computed again.

    Parameters
    ----------
    study
        A ``jmask.Study``, several of them, plain data for one, or the path of a TOML file.
    store
        SQLite file to resume or to create; None: kept nowhere.
    memory
        Bytes that draws may take while they are worked on; None: half of the memory of the devices.
    workers
        So many processes on this machine (one a GPU); needs ``jmask[cluster]``. None: this process.
    scheduler
        Address of a Dask scheduler, ``tcp://HOST:8786``, whose workers compute; needs ``jmask[cluster]``.
    progress
        Called after every task with a ``Progress``.
    planned
        Called with the ``Estimate`` before anything runs.

    Returns
    -------
    SweepTable
        ``.rows``, ``.to_pandas()``, ``.to_xarray()``, ``.to_parquet(path)``.

    Raises
    ------
    ValueError, TypeError
        For a study that is wrong, a point beyond memory, or a store that is damaged or of another version.
    OSError
        For a store that cannot be written. All that was computed before is in it.

    Notes
    -----
    A draw depends on its number, n and d alone: results do not depend on how the work was cut, on how many devices
    or processes, to the last digits (on one CPU to the bit). On a CPU as many tasks are worked on at once as there are
    cores and memory. Rows are committed a task at a time, a few seconds' worth; a run killed at any moment resumes
    there. Draws that do not fit into memory are tried in smaller batches, then recorded with their reason while the
    rest goes on.

    Examples
    --------
    >>> import jmask as jm
    >>> study = jm.Study(population="isotropic", dimensions=[16], ratios=[2], seeds=4, measure=["test"])
    >>> table = jm.sweep(study)
    >>> [row.quantity for row in table.rows], bool(abs(table.rows[0].z) < 6)
    (['test'], True)
    """
    studies = as_studies(study)
    if workers is not None and (scheduler is not None or workers < 1):
        raise ValueError(f"workers must be at least 1, and not given with scheduler, got {workers}")
    machine = this_machine(memory)
    if store is not None:
        return _into(Path(store), studies, machine, workers, scheduler, progress, planned)
    with tempfile.TemporaryDirectory() as directory:
        return _into(Path(directory) / "sweep.db", studies, machine, workers, scheduler, progress, planned)


def _into(
    path: Path,
    studies: list[Study],
    machine: Machine,
    workers: int | None,
    scheduler: str | None,
    progress: Callable[[Progress], object] | None,
    planned: Callable[[Estimate], object] | None,
) -> SweepTable:
    require_room(cut(studies, {}, {}, machine), machine)
    with Store(path) as store:
        tasks = cut(studies, store.present(), store.predicted(), machine)
        if planned is not None:
            planned(estimate(studies, tasks, machine))
        if tasks:
            store.begin_run(studies)
            if workers is None and scheduler is None:
                _drain(store, tasks, partial(here, machine), progress)
            else:
                from .cluster import on_cluster

                with on_cluster(workers, scheduler) as execute:
                    _drain(store, tasks, execute, progress)
            store.end_run()
        return read_table(store, studies)


def here(machine: Machine, tasks: Sequence[Task]) -> Iterator[Result]:
    """Tasks in this process, several at once where a CPU has the cores and the memory; results as they come."""
    threads = threads_for(tasks, machine)
    if threads == 1:
        yield from ((task, attempt(task)) for task in tasks)
        return
    with single_threaded_blas(), ThreadPoolExecutor(threads) as pool:
        futures = {pool.submit(attempt, task): task for task in tasks}
        try:
            for future in as_completed(list(futures)):
                yield futures.pop(future), future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _drain(store: Store, tasks: list[Task], execute: Execute, progress: Callable[[Progress], object] | None) -> None:
    """Store what comes; try what did not fit in smaller tasks."""
    start = time.monotonic()
    state = Progress(0, sum(task.rows for task in tasks), 0, 0.0, 0.0, 0.0)
    while tasks:
        again: list[Task] = []
        for task, result in execute(tasks):
            if isinstance(result, Outcome):
                store.add(result)
                compile_seconds = state.compile_seconds + result.compile_seconds
                run_seconds = state.run_seconds + result.run_seconds
                state = replace(
                    state, done=state.done + task.rows, compile_seconds=compile_seconds, run_seconds=run_seconds
                )
            elif not isinstance(result, MemoryError):
                raise result
            elif (halves := task.halves()) != [task]:
                again += halves
            else:
                store.add_failure(task, f"out of memory: {' '.join(str(result).split())[:300]}")
                state = replace(state, failed=state.failed + task.rows)
            if progress is not None:
                progress(replace(state, elapsed=time.monotonic() - start))
        tasks = again
