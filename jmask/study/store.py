"""Where a sweep is kept: one SQLite file, written by one process, a point's rows committed together.

Rows are keyed by the content of their point, so that resuming, extending a grid and merging two files are all the same
operation: to insert what is not there yet.
"""

import errno
import json
import os
import platform
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .compute import Outcome
from .plan import Point, Study
from .schedule import Task

FORMAT = 1
_APPLICATION = 0x6A6D736B  # "jmsk"
_SCHEMA = """
CREATE TABLE points (key TEXT PRIMARY KEY, population TEXT NOT NULL, dimension INTEGER NOT NULL,
    samples INTEGER NOT NULL, ridge REAL NOT NULL, scheme TEXT NOT NULL, strength REAL NOT NULL, scales TEXT NOT NULL,
    precision TEXT NOT NULL);
CREATE TABLE draws (point TEXT NOT NULL, draw INTEGER NOT NULL, quantity TEXT NOT NULL, value REAL,
    run INTEGER NOT NULL, PRIMARY KEY (point, draw, quantity)) WITHOUT ROWID;
CREATE TABLE theory (point TEXT NOT NULL, quantity TEXT NOT NULL, value REAL, run INTEGER NOT NULL,
    PRIMARY KEY (point, quantity)) WITHOUT ROWID;
CREATE TABLE failures (point TEXT NOT NULL, draw INTEGER NOT NULL, reason TEXT NOT NULL, run INTEGER NOT NULL,
    PRIMARY KEY (point, draw)) WITHOUT ROWID;
CREATE TABLE studies (content TEXT PRIMARY KEY);
CREATE TABLE runs (id INTEGER PRIMARY KEY, started REAL NOT NULL, finished REAL, compile_seconds REAL NOT NULL,
    run_seconds REAL NOT NULL, environment TEXT NOT NULL);
"""
_POINT = ", ".join(field.name for field in fields(Point))


class Store:
    """A sweep's file, open.

    Parameters
    ----------
    path
        The file; created if it is not there, unless ``read_only``.
    read_only
        True: never written, and nothing beside it either; fine in a folder that cannot be written.

    Raises
    ------
    ValueError
        If the file is damaged, is no store of this program, or has the format of another version.
    OSError
        If it is not there, cannot be written, or the disk is full. What was stored before stays.
    """

    def __init__(self, path: str | Path, *, read_only: bool = False) -> None:
        self.path = Path(path)
        self._run = 0
        if read_only and not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: no such file")
        with self._explained():
            self._connection = _connect(self.path, read_only)
            try:
                self._open(read_only)
            except BaseException:
                self._connection.close()
                raise

    def _open(self, read_only: bool) -> None:
        execute = self._connection.execute
        if not read_only:
            execute("PRAGMA synchronous = FULL")
        tables = execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not tables and not read_only:
            execute("PRAGMA journal_mode = WAL")
            with self._transaction():
                for statement in _SCHEMA.split(";"):
                    execute(statement)
                execute(f"PRAGMA application_id = {_APPLICATION}")
                execute(f"PRAGMA user_version = {FORMAT}")
        if execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
            raise ValueError(f"{self.path}: is a database, but not one that jmask sweep wrote")
        version = execute("PRAGMA user_version").fetchone()[0]
        if version != FORMAT:
            raise ValueError(
                f"{self.path}: has format version {version}, this jmask reads {FORMAT}: use the version that wrote it, "
                "or another path"
            )
        found = execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)

    def close(self) -> None:
        """Close the file; all that was committed is in it."""
        self._connection.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """SQLite's complaints in words that say what to do."""
        try:
            yield
        except sqlite3.ProgrammingError:  # ours, and not the file's
            raise
        except sqlite3.DatabaseError as error:
            raise _in_words(self.path, error) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def begin_run(self, studies: Sequence[Study]) -> None:
        """Record that a run starts: of what, by which versions, where."""
        with self._transaction():
            for study in studies:
                content = json.dumps(study.to_dict(), sort_keys=True, ensure_ascii=False)
                self._connection.execute("INSERT OR IGNORE INTO studies VALUES (?)", (content,))
            cursor = self._connection.execute(
                "INSERT INTO runs (started, compile_seconds, run_seconds, environment) VALUES (?, 0, 0, ?)",
                (time.time(), json.dumps(environment())),
            )
            self._run = int(cursor.lastrowid or 0)

    def end_run(self) -> None:
        """Record that the run is complete."""
        with self._transaction():
            self._connection.execute("UPDATE runs SET finished = ? WHERE id = ?", (time.time(), self._run))

    def add(self, outcome: Outcome) -> None:
        """Commit what a task found, all or nothing; what is there already stays as it is."""
        run = self._run
        with self._transaction():
            self._add_points(outcome.task.points)
            many = self._connection.executemany
            many("INSERT OR IGNORE INTO draws VALUES (?, ?, ?, ?, ?)", [(*row, run) for row in outcome.rows])
            many("INSERT OR IGNORE INTO theory VALUES (?, ?, ?, ?)", [(*row, run) for row in outcome.theory])
            done = {row[:2] for row in outcome.rows}
            many("DELETE FROM failures WHERE point = ? AND draw = ?", sorted(done))
            self._connection.execute(
                "UPDATE runs SET compile_seconds = compile_seconds + ?, run_seconds = run_seconds + ? WHERE id = ?",
                (outcome.compile_seconds, outcome.run_seconds, run),
            )

    def add_failure(self, task: Task, reason: str) -> None:
        """Record why draws could not be computed; a resumed run tries them again."""
        with self._transaction():
            self._add_points(task.points)
            self._connection.executemany(
                "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?)",
                [(point.key, draw, reason, self._run) for point in task.points for draw in task.draws],
            )

    def _add_points(self, points: Iterable[Point]) -> None:
        self._connection.executemany(
            f"INSERT OR IGNORE INTO points (key, {_POINT}) VALUES (?{', ?' * len(fields(Point))})",
            [(point.key, *asdict(point).values()) for point in points],
        )

    def merge(self, path: str | Path) -> int:
        """Take over what another store has and this one lacks; the number of values that came.

        Raises
        ------
        ValueError, OSError
            As for opening either; nothing is taken over then.
        """
        with Store(path, read_only=True) as other:
            tables = {
                name: other._rows(f"SELECT * FROM {name}") for name in ("points", "draws", "theory", "studies", "runs")
            }
        before = self._count()
        with self._transaction():
            execute, many = self._connection.execute, self._connection.executemany
            numbers = {
                row[0]: execute(
                    "INSERT INTO runs (started, finished, compile_seconds, run_seconds, environment) "
                    "VALUES (?, ?, ?, ?, ?)",
                    row[1:],
                ).lastrowid
                for row in tables.pop("runs")
            }
            for name, rows in tables.items():
                if name in ("draws", "theory"):
                    rows = [(*row[:-1], numbers.get(row[-1], 0)) for row in rows]
                if rows:
                    many(f"INSERT OR IGNORE INTO {name} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        return self._count() - before

    def _rows(self, query: str, values: Sequence = ()) -> list[tuple]:
        with self._explained():
            return self._connection.execute(query, values).fetchall()

    def _count(self) -> int:
        return int(self._rows("SELECT count(*) FROM draws")[0][0])

    def present(self) -> dict[str, set[tuple[int, str]]]:
        """Point key -> draws and quantities stored, values that came out unknown included."""
        found: dict[str, set[tuple[int, str]]] = {}
        for key, draw, quantity in self._rows("SELECT point, draw, quantity FROM draws"):
            found.setdefault(key, set()).add((draw, quantity))
        return found

    def predicted(self) -> dict[str, set[str]]:
        """Point key -> quantities whose theory is stored."""
        found: dict[str, set[str]] = {}
        for key, quantity in self._rows("SELECT point, quantity FROM theory"):
            found.setdefault(key, set()).add(quantity)
        return found

    def studies(self) -> list[Study]:
        """Every study that was run into this store."""
        return [
            Study.from_dict(json.loads(content))
            for (content,) in self._rows("SELECT content FROM studies ORDER BY rowid")
        ]

    def points(self) -> dict[str, Point]:
        """Key -> point."""
        return {row[0]: Point(*row[1:]) for row in self._rows(f"SELECT key, {_POINT} FROM points ORDER BY rowid")}

    def values(self) -> list[tuple[str, int, str, float]]:
        """(point key, draw, quantity, value), sorted; NaN where a fit failed."""
        query = "SELECT point, draw, quantity, value FROM draws ORDER BY point, quantity, draw"
        return [(*row[:3], np.nan if row[3] is None else row[3]) for row in self._rows(query)]

    def theory(self) -> dict[tuple[str, str], float]:
        """(point key, quantity) -> value, NaN where the theory says nothing."""
        rows = self._rows("SELECT point, quantity, value FROM theory")
        return {(key, quantity): np.nan if value is None else value for key, quantity, value in rows}

    def failures(self) -> list[tuple[str, int, str]]:
        """(point key, draw, reason)."""
        return self._rows("SELECT point, draw, reason FROM failures ORDER BY point, draw")

    def runs(self) -> list[dict[str, Any]]:
        """Every run: started, finished, compile_seconds, run_seconds, environment."""
        names = ("id", "started", "finished", "compile_seconds", "run_seconds", "environment")
        rows = [dict(zip(names, row, strict=True)) for row in self._rows("SELECT * FROM runs ORDER BY id")]
        return [{**row, "environment": json.loads(row["environment"])} for row in rows]


def _connect(path: Path, read_only: bool) -> sqlite3.Connection:
    if not read_only:
        return sqlite3.connect(path, isolation_level=None, timeout=60)
    # Without a journal beside it nobody is writing: then not even the side files of a reader are needed.
    quiet = not path.with_name(path.name + "-wal").exists()
    uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if quiet else ''}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=60)


def _in_words(path: Path, error: sqlite3.DatabaseError) -> Exception:
    text = str(error)
    if "full" in text:
        return OSError(
            errno.ENOSPC,
            f"the disk is full; what was computed before is stored: free some space, then resume ({text})",
            str(path),
        )
    if "readonly" in text or "unable to open" in text:
        return PermissionError(errno.EACCES, f"cannot be written here ({text})", str(path))
    if "locked" in text or "busy" in text:
        return OSError(errno.EBUSY, f"another process is writing it ({text})", str(path))
    if "disk I/O" in text:
        return OSError(errno.EIO, f"the disk failed; what was computed before is stored ({text})", str(path))
    return ValueError(
        f"{path}: is damaged, or no store that jmask sweep wrote ({text}). It was left as it is: move it away, or save "
        "what is left with sqlite3's .recover"
    )


def environment() -> dict[str, Any]:
    """Versions and hardware, for the record."""
    from .. import __version__

    device = jax.local_devices()[0]
    return {
        "jmask": __version__,
        "jax": jax.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{jax.local_device_count()} × {device.device_kind}",
        "cores": os.cpu_count(),
    }
