"""``jmask compare``: its numbers against direct calls, on populations, data and the map, and how it refuses."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

import jmask as jm
from jmask.cli import main
from jmask.commands import comparing, rival_map
from jmask.commands.rivals import FLOOR, LINEAR, PPCA, RIDGE, fight

from .test_cli import refused

BLOCKS = ("blocks:5,0.6", "--dimension", "20")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.parent / "cache"))


def written(directory, name):
    assert set(os.listdir(directory)) == {f"{name}.csv", f"{name}.png", "summary.json"}
    with Path(directory, f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    return json.loads(Path(directory, "summary.json").read_text()), rows


def test_population_end_to_end(capsys):
    assert main(["compare", *BLOCKS, "--ratio", "3"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    for words in (
        "Masked error at n = 60 in d = 20 dimensions",
        "In theory PPCA wins at rank 4",
        "jmask-compare-blocks",
    ):
        assert words in shown.out
    summary, rows = written("jmask-compare-blocks-5-0.6", "compare")
    found = {row["method"]: float(row["predicted"]) for row in rows}
    assert found == {line["method"]: line["predicted"] for line in summary["methods"]}
    c = jm.covariance.blocks(20, 5, 0.6)
    np.testing.assert_allclose(found["floor"], jm.theory.floor(c, 60).error, rtol=1e-9)
    np.testing.assert_allclose(found["PPCA"], jm.theory.best_rank(c, 60).masked_error, rtol=1e-9)
    np.testing.assert_allclose(found["nonlinear shrinkage"], found["floor"], rtol=1e-5)
    np.testing.assert_allclose(found["mean"], 1)
    block = np.full((5, 5), 0.6) + 0.4 * np.eye(5)
    np.testing.assert_allclose(found["conditional variance"], 1 / np.linalg.inv(block)[0, 0], rtol=1e-9)
    m = np.linalg.eigvalsh(np.kron(np.eye(4), block))
    linear = (20 / 60) * m.mean() ** 3 / m.var()
    np.testing.assert_allclose(found["Ledoit–Wolf"], jm.theory.errors(c, 60, linear).test, rtol=1e-8)
    best = min(float(jm.theory.errors(c, 60, r).test) for r in np.geomspace(0.1, 1, 40))
    np.testing.assert_allclose(found["masked ridge"], best, rtol=1e-3)
    assert found["floor"] < found["PPCA"] < found["masked ridge"] <= found["Ledoit–Wolf"]


def test_xi_has_a_gap_and_every_shape_is_the_best_multiple():
    found = fight(jm.covariance.blocks(20, 5, 0.6), 60)
    there = np.isfinite(found.x)
    assert (~there).sum() == 1  # between noise and blocks
    exact = jm.theory.eigenvector_variance(jm.covariance.blocks(20, 5, 0.6), 60, found.x[there][[40, 200, 400]])
    np.testing.assert_allclose(found.xi[there][[40, 200, 400]], exact, rtol=1e-6)
    np.testing.assert_allclose(found.weight[there].sum(), 1)
    for rival in found.rivals:
        if rival.believed is None:
            continue
        ratio = found.xi[there] / rival.believed[there]  # h·ξ
        np.testing.assert_allclose((found.weight[there] * ratio).sum(), 1, rtol=1e-9)
        spread = (found.weight[there] * (ratio - 1) ** 2).sum()
        np.testing.assert_allclose(rival.error / found.error(FLOOR), 1 + spread, rtol=1e-4)
    assert {rival.name for rival in found.rivals if rival.believed is not None} == {RIDGE, PPCA, LINEAR}


def test_data_end_to_end(capsys):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(100, 2)) @ rng.normal(size=(2, 5)) + 0.5 * rng.normal(size=(100, 5))
    np.save("x.npy", np.column_stack([x + 10, np.full(100, 0.1)]))
    assert main(["compare", "x.npy", "--seed", "4"]) == 0
    shown = capsys.readouterr()
    assert "100 rows × 6 columns" in shown.out
    assert "Gaussian rows with the covariance of all 100 rows" in shown.out
    assert "20 held-out rows" in shown.out
    summary, rows = written("jmask-compare-x", "compare")
    assert summary["population"] | {"name": ""} == {"name": "", "dimension": 5, "n": 80, "rows": 100}
    by_name = {row["method"]: row for row in rows}
    assert by_name["floor"]["held_out"] == by_name["correlation PCA"]["predicted"] == ""
    plug_in = jm.covariance.from_samples(x - x.mean(0))
    floor = float(jm.theory.floor(plug_in, 80).error) * 5 / 6  # the constant column is predicted without error
    np.testing.assert_allclose(float(by_name["floor"]["predicted"]), floor, rtol=1e-6)
    order = np.random.default_rng(4).permutation(100)
    train, test = x[np.sort(order[20:])], x[np.sort(order[:20])]
    train, test = train - train.mean(0), test - train.mean(0)
    for name, predictor in (
        ("nonlinear shrinkage", jm.baselines.nonlinear_shrinkage(train)),
        ("masked ridge", jm.fit(train, float(by_name["masked ridge"]["chosen"].split()[1]))),
    ):
        expected = float(jm.train_error(predictor, test)) * 5 / 6
        np.testing.assert_allclose(float(by_name[name]["held_out"]), expected, rtol=2e-3)


def test_map(capsys, monkeypatch):
    monkeypatch.setattr(rival_map, "MAP_DIMENSION", 20)
    assert main(["compare", "--map"]) == 0
    assert "inverse Marchenko–Pastur" in capsys.readouterr().out
    summary, rows = written("jmask-compare-map", "map")
    assert len(rows) == len(summary["map"]) == 5 * 7 * 11
    errors = {name: np.array([float(row[name]) for row in rows]) for name in ("ridge", "ppca", "floor")}
    assert (errors["floor"] <= errors["ridge"] * (1 + 1e-9)).all()
    assert (errors["floor"] <= errors["ppca"] * (1 + 1e-9)).all()
    solvable = np.array([row["family"].startswith("inverse") for row in rows])
    np.testing.assert_allclose(errors["ridge"][solvable], errors["floor"][solvable], rtol=1e-3)
    for row in rows:
        if row["family"] == "blocks of 10" and row["parameter"] == "0.5" and float(row["n_over_d"]) in (0.25, 8.0):
            c, n = jm.covariance.blocks(20, 10, 0.5), 20 * float(row["n_over_d"])
            best = jm.theory.best_rank(c, n)
            np.testing.assert_allclose(float(row["ppca"]), best.masked_error, rtol=1e-3)
            np.testing.assert_allclose(float(row["floor"]), jm.theory.floor(c, n).error, rtol=1e-6)


def test_nothing_is_left_half_written(capsys, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(comparing, "_draw", fail)
    assert refused(capsys, "compare", *BLOCKS) == "Error: disk full\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ar2:0.9"], "'ar2:0.9' is neither a population (ar1:RHO"),
        (["nowhere.csv"], "nowhere.csv: no such file"),
        (["blocks:3,0.5", "--dimension", "20"], "size must be a whole number of at least 2 that divides d = 20, got 3"),
        (["blocks:3.5,0.5"], "size must be a whole number"),
        (["blocks:3"], "has 1 parameter(s), wanted blocks:SIZE,CORRELATION"),
        (["blocks:2,1.5"], "correlation must lie in [-1/(size - 1), 1], got 1.5"),
        (["factors:1.5,2"], "share must lie in [0, 1], got 1.5"),
        (["factors:0.1,-2"], "strength must be at least -1, got -2"),
        (["inverse-mp:1"], "ratio must lie in (0, 1), got 1.0"),
        (["diagonal:0"], "the population does not vary"),
        (["isotropic", "--ratio", "0"], "--ratio must be positive and finite, got 0"),
        (["isotropic", "--ratio", "nan"], "--ratio must be positive and finite, got nan"),
        (["isotropic", "--seed", "-1"], "Invalid value for '--seed'"),
        (["digits", "--ratio", "2"], "--ratio is for a population by name"),
        (["digits", "--dimension", "9"], "--dimension is for a population by name"),
        (["isotropic", "--map"], "--map draws families of its own: give it without a population or data"),
        (["--map", "--ratio", "2"], "--map draws families of its own: give it without --ratio"),
        (["--map", "--id-column", "a"], "give it without --id-column"),
        (["isotropic", "--out", "no/such"], "does not exist"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, message):
    assert message in refused(capsys, "compare", *arguments)


def test_new_populations():
    blocks = np.asarray(jm.covariance.blocks(6, 3, 0.4).matrix())
    order = [0, 2, 4, 1, 3, 5]
    np.testing.assert_allclose(blocks[np.ix_(order, order)], np.kron(np.eye(2), 0.6 * np.eye(3) + 0.4))
    np.testing.assert_allclose(jm.covariance.factors(10, 0.25, 3.0).eigenvalues(), [4, 4, *[1] * 8])
    inverses = 1 / np.asarray(jm.covariance.inverse_marchenko_pastur(500, 0.4).eigenvalues())
    moments = [inverses.mean(), inverses.var(), ((inverses - 1) ** 3).mean(), (1 / inverses).mean()]
    np.testing.assert_allclose(moments, [1, 0.4, 0.4**2, 1 / 0.6], rtol=1e-3)  # as the law has them
