"""The same tasks on Dask: workers compute, this process alone writes the store."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .compute import Outcome, attempt
from .schedule import Task

_RETRIES = 3


@contextmanager
def on_cluster(
    workers: int | None, scheduler: str | None
) -> Iterator[Callable[[Iterable[Task]], Iterator[tuple[Task, Outcome | Exception]]]]:
    """A function that runs tasks on a cluster: one started here for the duration, or one that runs already.

    Raises
    ------
    ModuleNotFoundError
        Without Dask.
    OSError
        If no scheduler answers.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise ModuleNotFoundError("workers need Dask: python -m pip install 'jmask[cluster]'") from None
    if scheduler is not None:
        try:
            client = Client(scheduler, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise OSError(f"no Dask scheduler answers at {scheduler}: {error}") from None
        with client:
            yield lambda tasks: _run(client, tasks)
        return
    with _local(workers or 1) as cluster, Client(cluster, set_as_default=False) as client:
        yield lambda tasks: _run(client, tasks)


def _run(client: Any, tasks: Iterable[Task]) -> Iterator[tuple[Task, Outcome | Exception]]:
    """Results as they come; a task whose worker died is given to another."""
    from distributed import as_completed

    futures = {client.submit(attempt, task, pure=False, retries=_RETRIES): task for task in tasks}
    for future in as_completed(futures, loop=client.loop):
        task = futures.pop(future)
        if future.status == "error":  # the worker died again and again, or was cancelled
            yield task, future.exception()
        else:
            yield task, future.result()
        future.release()


def _local(workers: int) -> Any:
    """Processes on this machine; with GPUs each sees one of them."""
    from distributed import Nanny, Scheduler, SpecCluster

    gpus = _gpus()
    common = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    specifications = {
        i: {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "memory_limit": None,
                "env": {**common, **({"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {})},
            },
        }
        for i in range(workers)
    }
    return SpecCluster(
        workers=specifications,
        scheduler={"cls": Scheduler, "options": {"dashboard": False, "dashboard_address": None}},
        silence_logs=50,
    )


def _gpus() -> list[str]:
    """What of CUDA_VISIBLE_DEVICES each worker may have, found without starting CUDA here."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [part for part in given.split(",") if part]
    return [str(i) for i, _ in enumerate(sorted(Path("/dev").glob("nvidia[0-9]*")))]
