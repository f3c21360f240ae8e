"""The same rows on a Dask cluster, a worker of which dies halfway."""

import subprocess
import sys

import pytest

from .test_study_run import environment, rows

pytest.importorskip("distributed")

SCRIPT = """
import os, signal, sys
import jmask as jm
from jmask.study import cluster

started = []
real = cluster._local

def local(workers):
    made = real(workers)
    started.append(made)
    return made

def kill_one(state):
    if sys.argv[2] == "kill" and len(started) == 1 and state.done > 0:
        victim = started.pop().workers[0]
        started.extend([None, None])
        os.kill(victim.pid, signal.SIGKILL)

if __name__ == "__main__":
    cluster._local = local
    study = jm.Study(population="ar1:0.8", dimensions=[12, 16], ratios=[0.5, 2, 3], ridges=[0.1, 1], seeds=3)
    workers = None if sys.argv[2] == "alone" else 2
    jm.sweep(study, sys.argv[1], workers=workers, progress=kill_one)
"""


@pytest.mark.slow
def test_two_workers_one_of_which_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    for name in ("alone", "kill"):
        command = [sys.executable, str(script), str(tmp_path / f"{name}.db"), name]
        result = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=400)
        assert result.returncode == 0, result.stderr
    assert rows(tmp_path / "kill.db") == rows(tmp_path / "alone.db")


def test_no_scheduler_answers():
    import jmask as jm

    study = jm.Study(dimensions=16, seeds=1)
    with pytest.raises(OSError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1"):
        jm.sweep(study, scheduler="tcp://127.0.0.1:1")
