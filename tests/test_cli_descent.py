"""``jmask descent``: its lines are the theory's, its points real descents, and they meet."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import optax
import pytest

import jmask as jm
from jmask.cli import main
from jmask.commands import descending_files
from jmask.commands.optimisers import chebyshev_rule, optimisers
from jmask.descent import snapshots

from .test_cli import refused

FILES = {"descent.csv", "descent.png", "summary.json"}
FAST = ("--dimension", "40", "--steps", "60")
COVERED = {"gradient descent", "Nesterov", "heavy ball", "Chebyshev"}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(directory):
    assert set(os.listdir(directory)) == FILES
    with Path(directory, "descent.csv").open() as file:
        rows = list(csv.DictReader(file))
    return json.loads(Path(directory, "summary.json").read_text()), rows


@pytest.mark.slow
def test_population_end_to_end(capsys):
    """Points within 5 standard errors plus 4/d of the lines, and the lines those of the theory."""
    assert main(["descent", "ar1:0.9", *FAST, "--draws", "4"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    for words in ("Best stopping time", "closed form", "against the best ridge", "L-BFGS"):
        assert words in shown.out
    summary, rows = written("jmask-descent-ar1-0.9")
    assert summary["options"]["rows"] == 80
    found = {entry["name"]: entry for entry in summary["optimisers"]}
    assert set(found) == COVERED | {"Adam", "L-BFGS"}
    population = jm.covariance.ar1(40, 0.9)
    for name in COVERED:
        settings = found[name]["settings"]
        steps = found[name]["measured"]["steps"]
        assert found[name]["best_steps"] in steps
        known = jm.theory.descent(population, 80, 0.0, steps=steps, **settings)
        mine = [row for row in rows if row["optimiser"] == name]
        assert len(mine) > len(steps)
        at = {int(row["steps"]): row for row in mine}
        for kind in ("train", "test"):
            theory = np.asarray(getattr(known, kind))
            np.testing.assert_allclose([float(at[s][f"{kind}_predicted"]) for s in steps], theory, rtol=1e-8)
            draws = np.array(found[name]["measured"][kind])
            allowance = 5 * draws.std(0, ddof=1) / 2 + 4 / 40 * theory
            assert (np.abs(draws.mean(0) - theory) < allowance).all(), (name, kind)
            np.testing.assert_allclose([float(at[s][f"{kind}_mean"]) for s in steps], draws.mean(0))
        curve = {int(row["steps"]): float(row["test_predicted"]) for row in mine}
        assert found[name]["best_test_predicted"] == min(curve.values()) == curve[found[name]["best_steps"]]
    products = found["L-BFGS"]["measured"]["products"]
    assert products[0] > 2
    assert (np.diff(products) > 0).all()
    exact, best = jm.theory.errors(population, 80, 0.0), jm.tune.population_ridge(population, 80)
    np.testing.assert_allclose(summary["closed_form"]["test_predicted"], exact.test)
    np.testing.assert_allclose(summary["best_ridge"]["test_predicted"], best.test)
    assert all(row["test_predicted"] == "" for row in rows if row["optimiser"] in ("Adam", "L-BFGS"))


def test_data_file_below_its_dimension(capsys):
    x = np.random.default_rng(0).normal(size=(120, 20)) @ np.random.default_rng(1).normal(size=(20, 20))
    np.save("x.npy", x)
    assert main(["descent", "x.npy", "--rows", "10", "--steps", "30", "--draws", "2", "--out", "here"]) == 0
    shown = capsys.readouterr()
    assert "the covariance of all 120 rows" in shown.out
    assert "the other 110 to test on" in shown.out
    summary, _ = written("here")
    assert summary["population"]["rows"] == 120
    np.testing.assert_allclose(summary["closed_form"]["train_predicted"], 0, atol=1e-9)
    np.testing.assert_allclose(summary["closed_form"]["train_measured"], 0, atol=1e-9)


def test_prediction_alone(capsys):
    assert main(["descent", "isotropic", *FAST, "--draws", "0", "--rows", "40"]) == 0
    out = capsys.readouterr().out
    assert "draws" not in out
    summary, rows = written("jmask-descent-isotropic")
    assert {row["optimiser"] for row in rows} == COVERED
    assert summary["closed_form"]["test_predicted"] is None  # n = d without a ridge: infinite
    assert all("measured" not in entry for entry in summary["optimisers"])


def test_rules_are_what_theory_says_they_are():
    """Chebyshev converges within its bound; and the loop of snapshots is that of ``fit_gradient``."""
    x = np.random.default_rng(2).normal(size=(30, 6))
    s = x.T @ x / 30
    values = np.linalg.eigvalsh(s)
    rule = chebyshev_rule(values[0], values[-1])
    exact = jm.fit(x, 0.0).weights
    for steps, (weights, _) in zip([5, 40], snapshots(x, 0.0, [5, 40], optimizer=rule), strict=True):
        root = np.sqrt(values[0] / values[-1])
        bound = 2 * ((1 - root) / (1 + root)) ** steps * np.linalg.cond(s) ** 0.5
        assert np.linalg.norm(weights - exact) <= bound * np.linalg.norm(exact) + 1e-9
    plain = optax.sgd(0.01)
    (weights, _), (more, _) = snapshots(x, 0.2, [3, 7], optimizer=plain)
    for steps, found in ((3, weights), (7, more)):
        straight = jm.fit_gradient(x, 0.2, optimizer=plain, max_steps=steps, tolerance=0.0).fit.weights
        np.testing.assert_allclose(found, straight, rtol=1e-12)
    with pytest.raises(ValueError, match="steps must be ascending"):
        list(snapshots(x, 0.2, [7, 3]))
    assert {rule.name for rule in optimisers(0.1, 1.0) if rule.predicted} == COVERED


def test_nothing_is_left_half_written(capsys, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(descending_files, "_draw_figure", fail)
    assert refused(capsys, "descent", "isotropic", *FAST, "--draws", "0", "--rows", "40") == "Error: disk full\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ar2:0.9"], "'ar2:0.9' is neither a population (ar1:RHO"),
        (["nowhere.csv"], "nowhere.csv: no such file"),
        (["isotropic", "--ridge", "-1"], "--ridge must be finite and not negative, got -1"),
        (["isotropic", "--ridge", "nan"], "--ridge must be finite"),
        (["isotropic", "--ridge", "auto"], "--ridge"),
        (["isotropic", "--steps", "1"], "Invalid value for '--steps'"),
        (["isotropic", "--steps", "9999999"], "Invalid value for '--steps'"),
        (["isotropic", "--draws", "1"], "at least 2 for an error bar, got 1"),
        (["isotropic", "--rows", "0"], "Invalid value for '--rows'"),
        (["isotropic", "--seed", "-1"], "Invalid value for '--seed'"),
        (["isotropic", "--columns", "a"], "--columns and --id-column choose columns of data"),
        (["diagonal:0"], "nothing varies"),
        (["digits", "--rows", "1700"], "at most 1438 may be trained on, got 1700"),
        (["digits", "--dimension", "3"], "--dimension is for a population by name"),
        (["isotropic", "--out", "no/such"], "does not exist"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, message):
    assert message in refused(capsys, "descent", *arguments)
