"""The benchmark suite at toy size, and that what it keeps says which machine it was."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
TOY = {
    "closed_form": {"dimensions": (64,), "count": 2},
    "kernels": {"dimensions": (64,), "count": 2},
    "ridge_path": {"dimensions": (32,), "count": 2, "ridges": 5},
    "theory": {"points": 400, "count": 2, "largest": 500},
    "gpu": {"dimensions": (64,), "count": 2, "seeds": 8, "points": 100},
}


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """Import by name, with results kept aside; JAX's checks off, which rivals do not pass."""
    monkeypatch.syspath_prepend(str(FOLDER))
    common = importlib.import_module("_common")
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield importlib.import_module
    for name in {"_common", *TOY} & set(sys.modules):
        del sys.modules[name]


@pytest.mark.parametrize("name", TOY)
def test_toy_run(benchmark, name, tmp_path, capsys):
    module, arguments = benchmark(name), TOY[name]
    if name == "gpu":
        arguments = arguments | {"device": jax.devices("cpu")[0]}
    module.main(**arguments)
    (path,) = tmp_path.iterdir()
    content = json.loads(path.read_text())
    assert path.name == f"{name}.{jax.default_backend()}.json"
    assert content["machine"]["cores"] >= 1
    assert "load average" in content["load"]
    assert len(capsys.readouterr().out.splitlines()) >= len(content["rows"])
    for row in content["rows"]:
        assert isinstance(row["value"], str) or np.isfinite(row["value"])


def test_gpu_says_where_there_is_none(benchmark, tmp_path, capsys):
    module = benchmark("gpu")
    if module.cuda() is not None:
        pytest.skip("there is a GPU")
    module.main()
    assert "no CUDA GPU" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_ratios_targets_and_busy_machines(benchmark, monkeypatch, tmp_path, capsys):
    common = benchmark("_common")
    times = common.rounds({"a": lambda: None, "b": lambda: None}, 3)
    assert {name: len(t) for name, t in times.items()} == {"a": 3, "b": 3}
    row = common.ratio("a over b", [2.0, 4.0, 6.0], [1.0, 1.0, 2.0], at_most=3.5)
    assert (row["value"], row["target"], row["met"], row["rounds"]) == (3.0, "<= 3.5", True, 3)
    assert not common.value("speed", 2.0, at_least=3)["met"]
    monkeypatch.setattr(common, "taken_by_others", lambda: 0.5)
    common.write("busy", [row])
    assert json.loads(next(tmp_path.iterdir()).read_text())["rows"][0]["met"] == "no verdict"
    assert "no verdict" in capsys.readouterr().out


def test_command_lists_the_questions_and_names_what_is_unknown():
    run = [sys.executable, "-m", "benchmarks"]
    listed = subprocess.run([*run, "--list"], cwd=FOLDER.parent, capture_output=True, text=True)
    assert listed.returncode == 0
    assert all(line.rstrip().endswith("?") for line in listed.stdout.splitlines())
    wrong = subprocess.run([*run, "nonsense"], cwd=FOLDER.parent, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("no benchmark named nonsense")


def test_stored_results_describe_their_machine():
    for path in (FOLDER / "results").glob("*.json"):
        machine = json.loads(path.read_text())["machine"]
        assert {"device", "cores", "jax", "numpy", "python"} <= set(machine), path.name
