"""From studies to tasks: what is missing in a store, grouped by shape, cut to size; with its cost."""

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import jax

from .measure import DESCENT, PCA, SPECTRAL
from .plan import Point, Study

Present = Mapping[str, set[tuple[int, str]]]
"""Point key -> what is stored of it: (number of the draw, quantity)."""

_TASK_SECONDS = 5.0
_COMPILE_SECONDS = 2.5
_EIGEN = 20.0  # an eigendecomposition, in units of d³ multiplications at the speed of a matrix product
_DESCENT_STEPS = 300
_SHARE_OF_MEMORY = 0.5


@dataclass(frozen=True)
class Machine:
    """What tasks run on: devices, bytes for all of them together, operations a second of one.

    ``threads`` are the tasks worked on at once: as many as there are cores on a CPU that is one device.
    """

    devices: int
    memory: int
    rate: float
    platform: str
    threads: int = 1


@dataclass(frozen=True)
class Task:
    """Draws of points that differ in ridge and strength alone: one program, one transaction.

    ``lanes`` is what the program is compiled for; fewer draws are padded, so that a resumed task runs the program of
    an uninterrupted one. ``predicted`` are the indices of the points whose theory is to be computed along.
    """

    points: tuple[Point, ...]
    draws: tuple[int, ...]
    quantities: tuple[str, ...]
    lanes: int
    together: int
    predicted: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """Measured values."""
        return len(self.points) * len(self.draws) * len(self.quantities)

    def halves(self) -> list["Task"]:
        """The same work in two tasks of half the size; one alone if it cannot be cut."""
        if self.together > 1:
            return [replace(self, together=self.together // 2)]
        if len(self.draws) > 1:
            half = len(self.draws) // 2
            first, second = self.draws[:half], self.draws[half:]
            return [
                replace(self, draws=first, lanes=len(first)),
                replace(self, draws=second, lanes=len(second), predicted=()),
            ]
        return [self]


@dataclass(frozen=True)
class Estimate:
    """What a run will take: distinct points, rows to compute, programs to compile, bytes of the largest, seconds."""

    points: int
    rows: int
    stored: int
    programs: int
    memory: int
    seconds: float


def bytes_of(point: Point) -> int:
    """Memory of one draw of a point while it is worked on: data three times, matrices ten times."""
    item = 8 if point.precision == "double" else 4
    d, n = point.dimension, point.samples
    return item * (4 * n * d + 10 * d * d)


def operations_of(point: Point, quantities: Iterable[str]) -> float:
    """Floating-point operations of one draw, roughly."""
    wanted, d, n = set(quantities), float(point.dimension), float(point.samples)
    total = 4 * n * d**2 + 8 * d**3
    if "leave_one_out" in wanted:
        total += 4 * n * d**2 + 4 * d**3
    spectral = bool(wanted & set(SPECTRAL)) + sum(name in wanted for name in PCA)
    total += spectral * _EIGEN * d**3
    return total + (2 * _DESCENT_STEPS * d**3 + _EIGEN * d**3 if wanted & set(DESCENT) else 0)


def cut(studies: Sequence[Study], present: Present, known: Mapping[str, set[str]], machine: Machine) -> list[Task]:
    """Tasks for all that is missing; the same for the same studies, store and machine.

    The first tasks of every program come first, so that several programs are compiled at once.

    Parameters
    ----------
    studies
        What is wanted.
    present
        Draws already stored.
    known
        Point key -> quantities whose theory is stored.
    machine
        Where tasks run.
    """
    wanted = _wanted(studies)
    groups: list[list[Task]] = []
    for points, quantities in _groups(wanted):
        longest = max(wanted[point][0] for point in points)
        plan = _plan(points, quantities, longest, machine)
        chunks = _chunks(points, plan.points)
        groups.append([task for c in chunks for task in _tasks(c, quantities, wanted, present, known, plan)])
    return [task for round_ in zip_longest(*groups) for task in round_ if task is not None]


@dataclass(frozen=True)
class _Plan:
    """How a group is cut: points and draws a task, draws worked on together."""

    points: int
    lanes: int
    together: int


def _wanted(studies: Sequence[Study]) -> dict[Point, tuple[int, set[int], dict[str, None]]]:
    """Point -> (most draws of a study that has it, numbers of the draws, quantities in order)."""
    wanted: dict[Point, tuple[int, set[int], dict[str, None]]] = {}
    for study in studies:
        for point in study.points():
            count, draws, quantities = wanted.get(point, (0, set(), {}))
            draws |= set(study.draws)
            quantities |= dict.fromkeys(study.measure)
            wanted[point] = (max(count, study.seeds), draws, quantities)
    return wanted


def _groups(wanted: Mapping[Point, tuple]) -> list[tuple[list[Point], tuple[str, ...]]]:
    """Points that one program can do, with the quantities they share."""
    groups: dict[tuple, list[Point]] = defaultdict(list)
    for point, (_, _, quantities) in wanted.items():
        alike = replace(point, ridge=float(point.ridge > 0), strength=float(point.strength > 0))
        groups[alike, tuple(quantities)].append(point)
    return [(points, quantities) for (_, quantities), points in groups.items()]


def _plan(points: Sequence[Point], quantities: Sequence[str], draws: int, machine: Machine) -> _Plan:
    size, memory = points[0], machine.memory // machine.devices
    together = 1
    if machine.platform != "cpu":
        together = max(1, min(-(-draws // machine.devices), memory // bytes_of(size)))
    seconds = operations_of(size, quantities) / machine.rate
    columns = max(1, min(len(points), int(_TASK_SECONDS / max(seconds * together, 1e-9))))
    columns = math.ceil(len(points) / math.ceil(len(points) / columns))
    rounds = max(1, int(_TASK_SECONDS / max(seconds * together * columns, 1e-9)))
    shared = math.ceil(draws / (machine.devices * machine.threads))  # something for every thread
    lanes = machine.devices * min(together * rounds, shared)
    return _Plan(columns, lanes, together)


def _chunks(items: Sequence, size: int) -> list:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _tasks(
    points: Sequence[Point],
    quantities: tuple[str, ...],
    wanted: Mapping[Point, tuple],
    present: Present,
    known: Mapping[str, set[str]],
    plan: _Plan,
) -> list[Task]:
    """Draws that miss something in one of the points, in chunks; and the theory that is missing."""
    missing = []
    for draw in sorted(set().union(*(wanted[point][1] for point in points))):
        for point in points:
            stored = present.get(point.key, set())
            if draw in wanted[point][1] and any((draw, name) not in stored for name in quantities):
                missing.append(draw)
                break
    unknown = tuple(i for i, point in enumerate(points) if not set(quantities) <= known.get(point.key, set()))
    chunks = _chunks(missing, plan.lanes) or ([[]] if unknown else [])
    return [
        Task(tuple(points), tuple(chunk), quantities, plan.lanes, plan.together, () if i else unknown)
        for i, chunk in enumerate(chunks)
    ]


def estimate(studies: Sequence[Study], tasks: Sequence[Task], machine: Machine) -> Estimate:
    """Points, rows, memory and time of tasks on a machine."""
    points = {point for study in studies for point in study.points()}
    total = sum(len(draws) * len(names) for _, draws, names in _wanted(studies).values())
    rows = sum(task.rows for task in tasks)
    programs = {(task.points[0].dimension, task.points[0].samples, task.quantities, task.lanes) for task in tasks}
    threads = threads_for(tasks, machine)
    memory = memory_of(tasks, machine) * threads
    work = sum(operations_of(task.points[0], task.quantities) * len(task.points) * len(task.draws) for task in tasks)
    seconds = work / machine.rate / machine.devices + _COMPILE_SECONDS * len(programs)
    return Estimate(len(points), rows, max(0, total - rows), len(programs), memory, seconds / threads)


def memory_of(tasks: Sequence[Task], machine: Machine) -> int:
    """Bytes of the largest task."""
    return max((bytes_of(task.points[0]) * task.together * machine.devices for task in tasks), default=0)


def threads_for(tasks: Sequence[Task], machine: Machine) -> int:
    """Tasks to work on at once: what there is, and what fits into memory."""
    room = machine.memory // max(1, memory_of(tasks, machine))
    return max(1, min(machine.threads, len(tasks), room))


def require_room(tasks: Sequence[Task], machine: Machine) -> None:
    """Refuse a point of which not one draw fits, before anything runs."""
    for task in tasks:
        needed = bytes_of(task.points[0])
        if needed > machine.memory:
            point = task.points[0]
            raise ValueError(
                f"dimensions: one draw at d = {point.dimension}, n = {point.samples} needs {needed / 2**30:.1f} GiB "
                f"and {machine.memory / 2**30:.1f} GiB are there: leave it out, or take precision = 'single'"
            )


def this_machine(memory: int | None = None) -> Machine:
    """The local devices of JAX, their memory (half of what is free, unless given) and measured speed."""
    devices = jax.local_devices()
    platform = devices[0].platform
    if memory is None:
        free = _device_memory(devices) if platform != "cpu" else _host_memory()
        memory = int(_SHARE_OF_MEMORY * free)
    threads = _cores() if platform == "cpu" and len(devices) == 1 else 1
    return Machine(len(devices), memory, _rate(platform), platform, threads)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _device_memory(devices: Sequence[jax.Device]) -> int:
    stats = [device.memory_stats() or {} for device in devices]
    return sum(entry.get("bytes_limit", 8 * 2**30) - entry.get("bytes_in_use", 0) for entry in stats)


def _host_memory() -> int:
    if not hasattr(os, "sysconf"):
        return 8 * 2**30
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _rate(platform: str) -> float:
    """Operations a second of one device, to be right within a factor of a few: constants, so that tasks repeat."""
    return 2e10 if platform == "cpu" else 5e12
