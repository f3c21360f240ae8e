"""``jmask sweep``: what it writes and prints, how it goes on, and how it refuses."""

import json
from pathlib import Path

import pytest

from jmask.cli import main
from jmask.study import compute

STUDY = """
seeds = 3
[[study]]
name = "errors"
population = "ar1:0.8"
dimensions = [12]
ratios = [0.5, 1, 2]
ridges = [0.1, 1]
[[study]]
name = "spikes"
population = "diagonal:0.3,3"
dimensions = [16]
ratios = [1]
ridges = [0.3]
strengths = [2, 8]
measure = ["overlap", "pca-overlap"]
[[study]]
name = "sizes"
population = "isotropic"
dimensions = [8, 12, 16]
ratios = [2]
measure = ["test"]
"""
FIGURES = {"errors-errors.png", "overlap-spikes.png", "versus-pca-spikes.png", "convergence-sizes.png"}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("study.toml").write_text(STUDY)


def refused(capsys, *arguments):
    capsys.readouterr()
    assert main(["sweep", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("Error: ")
    assert shown.err.count("\n") == 1
    return shown.err


def test_a_study_from_start_to_figures(capsys):
    assert main(["sweep", "study.toml"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    for words in (
        "11 points",
        "programs to compile",
        "worst z first",
        "z-scores",
        "∝ d^(",
        "Compiling took",
        "Written: ",
    ):
        assert words in shown.out
    directory = Path("jmask-sweep-study")
    written = {entry.name for entry in directory.iterdir()}
    assert written == FIGURES | {"sweep.db", "sweep.csv", "study.toml", "summary.json"}
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["rows"] == 6 * 3 + 2 * 2 + 3
    assert "jax" in summary["environment"]
    assert list(summary["exponents"]) == ["sizes: test"]
    header, *lines = (directory / "sweep.csv").read_text().splitlines()
    assert header.endswith("ratio,quantity,mean,standard_error,theory,z,draws,failed")
    assert len(lines) == summary["rows"]


def test_interrupted_then_resumed(capsys, monkeypatch):
    calls, computed = [], compute.compute

    def interrupted(task):
        calls.append(task)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return computed(task)

    monkeypatch.setattr(compute, "compute", interrupted)
    assert main(["sweep", "study.toml", "--out", "out"]) == 130
    assert "jmask sweep study.toml --out out --resume" in " ".join(capsys.readouterr().err.split())
    assert "--resume" in refused(capsys, "study.toml", "--out", "out")
    assert main(["sweep", "study.toml", "--out", "out", "--resume"]) == 0
    assert "of them stored already" in capsys.readouterr().out
    calls.clear()
    assert main(["sweep", "study.toml", "--out", "out", "--resume"]) == 0
    assert not calls


def test_refusals(capsys):
    assert "neither a preset (quick, paper, dimension) nor a TOML file" in refused(capsys, "fast")
    assert "no such file" in refused(capsys, "none.toml")
    Path("bad.toml").write_text("seeds = 0")
    assert "seeds must be at least 1" in refused(capsys, "bad.toml")
    Path("taken").mkdir()
    Path("taken/thesis.tex").write_text("")
    assert "thesis.tex" in refused(capsys, "study.toml", "--out", "taken")
    assert "does not exist" in refused(capsys, "study.toml", "--out", "a/b")
    assert "is a file" in refused(capsys, "study.toml", "--out", "study.toml")
    assert "--memory" in refused(capsys, "study.toml", "--memory", "much")
    assert "workers" in refused(capsys, "study.toml", "--workers", "0")
    assert sorted(entry.name for entry in Path("taken").iterdir()) == ["thesis.tex"]


def test_a_damaged_store_is_left_alone(capsys):
    Path("out").mkdir()
    Path("out/sweep.db").write_bytes(b"not a database" * 400)
    assert "damaged" in refused(capsys, "study.toml", "--out", "out", "--resume")
    assert Path("out/sweep.db").read_bytes() == b"not a database" * 400
