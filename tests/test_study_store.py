"""The store: nothing half written, nothing lost, refusals that say what to do."""

import sqlite3
import subprocess

import numpy as np
import pytest

import jmask as jm
from jmask.study import Store, read_table
from jmask.study.compute import Outcome
from jmask.study.schedule import Task
from jmask.study.store import FORMAT

STUDY = jm.Study(dimensions=[16], ratios=[1], ridges=[0.1, 1], seeds=2, measure=["test"])
POINTS = STUDY.points()


def outcome(points=POINTS, draws=(0, 1), shift=0.0):
    task = Task(tuple(points), tuple(draws), ("test",), len(draws), 1)
    rows = tuple((p.key, draw, "test", 1.0 + draw + shift) for draw in draws for p in points)
    return Outcome(task, rows, tuple((p.key, "test", 1.4) for p in points), 0.5, 0.25)


def filled(path):
    with Store(path) as store:
        store.begin_run([STUDY])
        store.add(outcome())
        store.end_run()
    return path


def dump(path):
    with Store(path, read_only=True) as store:
        return store.values(), store.theory(), store.points()


def test_what_goes_in_comes_out(tmp_path):
    with Store(filled(tmp_path / "s.db")) as store:
        assert store.studies() == [STUDY]
        assert list(store.points().values()) == POINTS
        assert store.present() == {p.key: {(0, "test"), (1, "test")} for p in POINTS}
        assert store.predicted() == {p.key: {"test"} for p in POINTS}
        (run,) = store.runs()
        assert (run["compile_seconds"], run["run_seconds"]) == (0.5, 0.25)
        assert run["finished"] >= run["started"]
        assert {"jmask", "jax", "numpy", "python", "device", "cores"} <= set(run["environment"])
        table = read_table(store)
    row = table.rows[0]
    assert (row.mean, row.theory, row.draws) == (1.5, 1.4, (0, 1))
    np.testing.assert_allclose([row.standard_error, row.z], [0.5, 0.2])


def test_what_is_stored_stays_as_it_was(tmp_path):
    path = filled(tmp_path / "s.db")
    before = dump(path)
    with Store(path) as store:
        store.add(outcome(shift=9.0))
    assert dump(path) == before


def test_a_task_is_committed_whole_or_not_at_all(tmp_path):
    path = filled(tmp_path / "s.db")
    before = dump(path)
    other = jm.Study(dimensions=[24], ratios=[1], ridges=1, measure=["test"]).points()
    broken = outcome(other)
    broken = Outcome(broken.task, (*broken.rows, (other[0].key, 5, "test", object())), broken.theory, 0.0, 0.0)
    with Store(path) as store, pytest.raises(sqlite3.ProgrammingError):
        store.add(broken)
    assert dump(path) == before


def test_unknown_values_and_failures(tmp_path):
    with Store(tmp_path / "s.db") as store:
        store.begin_run([STUDY])
        task = outcome().task
        key = POINTS[0].key
        store.add(Outcome(task, ((key, 0, "test", None),), ((key, "test", None),), 0.0, 0.0))
        store.add_failure(Task((POINTS[1],), (0, 1), ("test",), 2, 1), "out of memory: so much")
        first, second = read_table(store).rows
        assert np.isnan(first.values).tolist() == [True]
        assert np.isnan([first.mean, first.theory, first.z]).all()
        assert second.reason == "out of memory: so much"
        assert second.draws == ()
        store.add(outcome())  # a resumed run succeeds: the failure is gone
        assert store.failures() == []


def test_merging_takes_what_is_missing(tmp_path):
    more = jm.Study(dimensions=[16], ratios=[1], ridges=[1, 2], seeds=3, measure=["test"])
    filled(tmp_path / "a.db")
    with Store(tmp_path / "b.db") as store:
        store.begin_run([more])
        store.add(outcome(more.points(), (0, 1, 2), shift=7.0))
    with Store(tmp_path / "a.db") as store:
        assert store.merge(tmp_path / "b.db") == 6 - 2
        assert store.merge(tmp_path / "b.db") == 0
        assert store.studies() == [STUDY, more]
        values = {(key, draw): value for key, draw, _, value in store.values()}
    shared, new = more.points()
    assert values[shared.key, 0] == 1.0  # its own
    assert values[shared.key, 2] == 10.0
    assert values[new.key, 0] == 8.0


def test_to_pandas_xarray_and_parquet(tmp_path):
    pandas = pytest.importorskip("pandas")
    with Store(filled(tmp_path / "s.db"), read_only=True) as store:
        table = read_table(store)
    frame = table.to_pandas()
    assert frame[["ridge", "mean", "theory", "draws"]].values.tolist() == [[0.1, 1.5, 1.4, 2], [1.0, 1.5, 1.4, 2]]
    data = table.to_xarray()
    assert data["test"].sel(ridge=0.1, draw=1).item() == 2.0
    assert dict(data.sizes)["ridge"] == 2
    assert "draw" not in data["test_theory"].dims
    table.to_parquet(tmp_path / "t.parquet")
    pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / "t.parquet"), table.to_pandas(draws=True))


@pytest.mark.parametrize("damage", ["noise", "torn", "middle"])
def test_a_damaged_file_is_refused_and_left_alone(tmp_path, damage):
    path = filled(tmp_path / "s.db")
    content = path.read_bytes()
    noise = bytes(range(256)) * 16
    path.write_bytes(
        {"noise": noise, "torn": content[:5000], "middle": content[:4096] + noise + content[8192:]}[damage]
    )
    before = path.read_bytes()
    with pytest.raises(ValueError, match="damaged"):
        Store(path).present()
    assert path.read_bytes() == before


def test_other_files_and_versions_are_refused(tmp_path):
    path = filled(tmp_path / "s.db")
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    connection.close()
    with pytest.raises(ValueError, match=rf"version {FORMAT + 1}, this jmask reads {FORMAT}"):
        Store(path)
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(ValueError, match="not one that jmask sweep wrote"):
        Store(foreign)


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(OSError, match="cannot be written"):
        Store(tmp_path / "nowhere" / "s.db")
    with pytest.raises(OSError, match="cannot be written"):
        Store(tmp_path)  # a directory
    with pytest.raises(FileNotFoundError, match="no such file"):
        Store(tmp_path / "s.db", read_only=True)


def test_a_writer_waits_for_no_one_for_ever(tmp_path, monkeypatch):
    path = filled(tmp_path / "s.db")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with Store(path) as store:
        store._connection.execute("PRAGMA busy_timeout = 10")
        with pytest.raises(OSError, match="another process is writing"):
            store.add(outcome(shift=1.0))
    other.close()


@pytest.fixture
def tmpfs(tmp_path):
    """A file system of 256 KiB; returns a function that makes it read-only."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    try:
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("no permission to mount a file system")
    except FileNotFoundError:
        pytest.skip("no mount here")
    yield place, lambda: subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_loses_nothing(tmpfs):
    place, _ = tmpfs
    path = filled(place / "s.db")
    before = dump(path)
    many = jm.Study(dimensions=[16], ratios=[1], ridges=np.linspace(2, 3, 3000).tolist(), measure=["test"]).points()
    with Store(path) as store, pytest.raises(OSError, match="disk is full"):
        store.add(outcome(many))
    assert dump(path) == before
    with Store(path) as store:
        store.add(outcome(many[:2]))  # and it goes on
    assert len(dump(path)[0]) == len(before[0]) + 4


def test_a_read_only_folder_can_be_read(tmpfs):
    place, lock = tmpfs
    path = filled(place / "s.db")
    before = dump(path)
    lock()
    assert dump(path) == before
    with pytest.raises(OSError, match="cannot be written"), Store(path) as store:
        store.add(outcome())
