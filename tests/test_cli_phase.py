"""``jmask phase``: its numbers against direct calls, its samples against its theory, and how it refuses."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

import jmask as jm
from jmask import plot_phase
from jmask.cli import main
from jmask.commands import transition
from jmask.commands.phase_diagram import parse_span

from .test_cli import refused

FILES = {"phase.csv", "phase.npz", "phase.png", "summary.json"}
METHODS = ("masked", "masked_detecting", "correlation_pca", "pca")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(directory, extra=()):
    assert set(os.listdir(directory)) == FILES | set(extra)
    with Path(directory, "phase.csv").open() as file:
        rows = list(csv.DictReader(file))
    return json.loads(Path(directory, "summary.json").read_text()), dict(np.load(Path(directory, "phase.npz"))), rows


def test_unequal_noise_end_to_end(capsys):
    """Every number is that of a direct call, and the order of the methods is the known one."""
    assert main(["phase", "--dimension", "20", "--points", "5", "--ratio", "0.3..3", "--simulate", "2"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    for words in ("Strength beyond which", "masked, ridge ∝ variance²", "correlation PCA", "at best", "2 fits"):
        assert words in shown.out
    summary, found, rows = written("jmask-phase-diagonal-0.3-3.0", ["simulation.csv"])
    assert summary["population"] == {"name": "diagonal:0.3,3.0", "dimension": 20}
    assert sorted(summary["files"]) == sorted(FILES - {"summary.json"} | {"simulation.csv"})
    bulk = jm.covariance.Diagonal(np.tile([0.3, 3.0], 10))
    i, j = 2, 3
    n, theta = found["n"][i], found["strength"][j]
    np.testing.assert_allclose(found["n_over_d"], np.geomspace(0.3, 3, 5))
    for key in METHODS:
        ridge = 3 * bulk.variances**2 / bulk.variances.mean() if key == "masked_detecting" else found["ridge"][i]
        ridge = np.broadcast_to(ridge, 20)
        estimator = key.removesuffix("_detecting")
        spiked = jm.covariance.Spiked(bulk, found["strength"])
        np.testing.assert_allclose(found[f"threshold_{key}"][i], jm.theory.threshold(bulk, n, ridge, estimator))
        overlap = jm.theory.outliers(spiked, n, ridge, estimator).overlap
        np.testing.assert_allclose(found[f"overlap_{key}"][i], overlap, atol=1e-12)
        assert float(rows[i * 5 + j][f"overlap_{key}"]) == found[f"overlap_{key}"][i, j]
        assert (found[f"overlap_{key}"] <= found["overlap_limit"] + 1e-9).all()
    assert float(rows[i * 5 + j]["strength"]) == theta
    np.testing.assert_allclose(found["overlap_limit"][i, j], jm.theory.bayes(bulk, n, theta).overlap)
    order = np.array([found[f"threshold_{key}"] for key in ("limit", "masked_detecting", "correlation_pca", "pca")])
    assert (np.diff(order, axis=0) > -1e-9).all()
    np.testing.assert_allclose(order[1], order[0], rtol=1e-3)  # the detecting ridge reaches the limit
    with Path("jmask-phase-diagonal-0.3-3.0", "simulation.csv").open() as file:
        assert {row["method"] for row in csv.DictReader(file)} == set(METHODS)


@pytest.mark.slow
def test_along_the_ridge_unit_noise_does_not_care():
    options = ["--ridge", "0.01..10", "--ratio", "2", "--dimension", "20", "--points", "3", "--strength", "0.1..5"]
    assert main(["phase", "isotropic", *options, "--out", "here"]) == 0
    summary, found, _ = written("here")
    assert summary["options"]["axis"] == "ridge"
    np.testing.assert_allclose(found["ridge"], np.geomspace(0.01, 10, 3))
    np.testing.assert_allclose(found["n_over_d"], 2)
    assert set(summary["threshold"]) == {"masked", "correlation_pca", "pca", "limit"}
    for values in summary["threshold"].values():
        np.testing.assert_allclose(values, np.sqrt(0.5), rtol=1e-10)


def test_a_ridge_of_zero_leaves_gaps(capsys):
    options = ["--ridge", "0", "--ratio", "0.5..2", "--dimension", "20", "--points", "2", "--strength", "0.1..5"]
    assert main(["phase", "isotropic", *options, "--out", "here"]) == 0
    assert "no solution at 1 of 2 columns" in capsys.readouterr().err
    _, found, rows = written("here")
    assert np.isnan(found["threshold_masked"][0])
    assert np.isfinite(found["threshold_masked"][1])
    assert np.isfinite(found["threshold_pca"]).all()
    assert rows[0]["overlap_masked"] == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ar1:0.5", "ring:0.5", "power-law:0.5", "equicorrelated:0.2"])
def test_other_populations(name):
    assert main(["phase", name, "--dimension", "24", "--points", "3", "--out", "here"]) == 0
    _, found, _ = written("here")
    assert "threshold_limit" not in found
    for key in ("masked", "correlation_pca", "pca"):
        assert np.isfinite(found[f"threshold_{key}"]).all()
        assert (np.diff(found[f"overlap_{key}"], axis=1) >= 0).all()


@pytest.mark.slow
def test_samples_lie_on_the_diagram():
    """Within 4 standard errors and what is left at finite size, well beyond the threshold and well below it."""
    d, seeds = 300, 12
    bulk = jm.covariance.Diagonal(np.tile([0.3, 3.0], d // 2))
    n, ridge, detecting = np.array([225.0]), np.array([0.3]), np.array([transition.detecting_scale(bulk)])
    found = transition.diagram(bulk, n, ridge, detecting, np.array([0.05, 8.0]))
    measured = transition.measure(bulk, found, detecting, seeds, 1)
    gap = np.abs(measured.mean()[:, 0] - found.overlap[:, 0, measured.rows])
    # below the threshold the vector is a random one, of overlap of order 1/d
    assert (gap < 4 * measured.standard_error()[:, 0] + 5 / d).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "is no population"),
        (["spiked:3"], "name the noise alone"),
        (["isotropic", "--ratio", "0..3"], "0 < LOW < HIGH"),
        (["isotropic", "--ratio", "a..b"], "--ratio must be a number or LOW..HIGH"),
        (["isotropic", "--ratio", "0", "--ridge", "1..2"], "--ratio must be positive"),
        (["isotropic", "--ratio", "2"], "neither is one"),
        (["isotropic", "--ratio", "1..2", "--ridge", "1..2"], "both are ranges"),
        (["isotropic", "--ridge=-1"], "--ridge must be finite and not negative"),
        (["isotropic", "--strength", "3"], "--strength must be LOW..HIGH"),
        (["isotropic", "--points", "1"], "Invalid value for '--points'"),
        (["isotropic", "--simulate", "1"], "at least 2 seeds"),
        (["isotropic", "--seed=-1"], "Invalid value for '--seed'"),
        (["isotropic", "--dimension", "1"], "--dimension must be at least 2"),
        (["isotropic", "--dimension", "10000000"], "--dimension 10000000"),
        (["isotropic", "--out", "no/where"], "does not exist"),
    ],
)
def test_refusals(capsys, arguments, message):
    assert message in refused(capsys, "phase", *arguments)


def test_a_span_is_one_number_or_two():
    assert parse_span("2", "--ratio") == (2, 2)
    assert parse_span("0", "--ridge") == (0, 0)
    assert parse_span("1e-3..10", "--ratio") == (1e-3, 10)


def test_figure_of_one_to_four_methods():
    grid = np.array([0.5, 1.0, 2.0])
    for q in (1, 3, 4):
        maps, lines = np.random.default_rng(q).random((q, 3, 3)), np.ones((q, 3))
        points = (grid[:1], grid[:1], maps[:, :1, :1])
        figure = plot_phase.phase_diagram(grid, grid, maps, lines, list("abcd"[:q]), limit=grid, points=points)
        assert [axes.get_title() for axes in figure.axes][:q] == list("abcd"[:q])
        assert len(figure.axes) == q + 2  # the colour bar and the lines
