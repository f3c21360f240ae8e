"""``jmask theory``: its numbers against direct calls, its fits against its theory, and how it refuses."""

import csv
import json
import os
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import jmask as jm
from jmask import plot_theory
from jmask.cli import main
from jmask.commands import learning_files, prediction
from jmask.commands.learning_curve import parse_ratios, parse_ridges
from jmask.commands.prediction import BEST, draw_from, draw_rows, predict, simulate
from jmask.covariance.names import names_population, parse_population

from .test_cli import refused

FILES = {"learning_curve.csv", "learning_curve.png", "summary.json"}
FAST = ("--dimension", "20", "--points", "5")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def data():
    """300 × 6 with two factors, an offset and columns of different scale."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(300, 6))
    return x * np.array([1, 2, 5, 1, 0.1, 1]) + 10


def written(directory):
    assert set(os.listdir(directory)) == FILES
    with Path(directory, "learning_curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    return json.loads(Path(directory, "summary.json").read_text()), rows


def test_population_end_to_end(capsys):
    assert main(["theory", "ar1:0.9"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    for words in ("Predicted test error", "Predicted train error", "best ridge", "Ridge 1e-05: test error rises to"):
        assert words in shown.out
    summary, rows = written("jmask-theory-ar1-0.9")
    assert summary["population"]["dimension"] == 200
    assert [curve["choice"] for curve in summary["curves"]] == [1e-5, 1e-3, 0.1, "best"]
    ratio = np.array(summary["n_over_d"])
    assert (ratio[0], ratio[-1]) == (0.1, 10)
    assert 1.0 in ratio
    assert (np.abs(np.geomspace(0.1, 10, 60)[:, None] / ratio[None, :] - 1).min(1) < 1e-12).all()
    assert len(ratio) > 60
    assert len(rows) == 4 * len(ratio)
    test = {curve["choice"]: np.array(curve["test"]) for curve in summary["curves"]}
    assert ratio[test[1e-5].argmax()] == 1.0  # double descent: the peak, and what comes down behind it
    assert test[1e-5].max() > 10 * test[1e-5][-1]
    assert (np.diff(test["best"]) < 0).all()
    for row in rows[::37]:
        exact = jm.theory.errors(jm.covariance.ar1(200, 0.9), float(row["n"]), float(row["ridge"]))
        np.testing.assert_allclose([float(row["train"]), float(row["test"])], [exact.train, exact.test], rtol=1e-9)


def test_is_fast():
    """In a warm process: reading, one compilation, 292 points and the best ridges, table, figure."""
    start = time.perf_counter()
    assert main(["theory", "ring:0.7", "--dimension", "150"]) == 0
    assert time.perf_counter() - start < 30  # under 4 s alone on two cores; the margin is for a busy machine


def test_fits_lie_on_the_curve(capsys):
    options = ["--simulate", "6", "--ridge", "0.3,best", "--ratio", "0.3..4", "--out", "here", "--seed", "2"]
    assert main(["theory", "spiked:30,10", "--dimension", "100", "--points", "9", *options]) == 0
    assert "6 fits" in capsys.readouterr().out
    summary, rows = written("here")
    found = {name: np.array(value) for name, value in summary["simulation"].items()}
    assert found["seeds"] == 6
    for name in ("train", "test"):
        theory, mean, error = (found[f"{name}_{part}"] for part in ("predicted", "mean", "standard_error"))
        assert (np.abs(mean - theory) < 5 * error + 4 / 100 * theory).all()
        np.testing.assert_allclose(found[f"{name}_z"], (mean - theory) / error)
    simulated = [row for row in rows if row["seeds"]]
    assert len(simulated) == found["test_mean"].size
    assert [float(row["test_mean"]) for row in simulated] == found["test_mean"].ravel().tolist()


@pytest.mark.parametrize("mask", ["bernoulli:0.3", "partition:groups.txt"])
def test_other_masks(mask):
    Path("groups.txt").write_text(" ".join(str(i // 10) for i in range(20)))
    options = ["--mask", mask, "--ridge", "0.2", "--simulate", "8", "--ratio", "0.5..4", "--out", "here", *FAST]
    assert main(["theory", "power-law:1", *options]) == 0
    summary, _ = written("here")
    found = {name: np.array(value) for name, value in summary["simulation"].items()}
    theory, mean, error = (found[f"test_{part}"] for part in ("predicted", "mean", "standard_error"))
    assert (np.abs(mean - theory) < 5 * error + 4 / 20 * theory).all()


def test_data_file(capsys, data):
    np.save("x.npy", data)
    assert main(["theory", "x.npy", "--ridge", "0.05", "--simulate", "4", "--points", "4", "--elliptical"]) == 0
    shown = capsys.readouterr()
    assert "300 rows × 6 columns" in shown.out
    assert shown.err == ""
    summary, _ = written("jmask-theory-x")
    x = data - data.mean(0)
    np.testing.assert_allclose(summary["population"]["variance"], x.var(0).mean())
    population, law = jm.covariance.from_samples(x), jm.Scales.estimate(x)
    exact = jm.theory.errors(population, summary["n_over_d"][1] * 6, 0.05, scales=law)
    np.testing.assert_allclose(summary["curves"][0]["test"][1], exact.test, rtol=1e-9)
    n = np.array(summary["simulation"]["n"])
    assert n.max() == 60
    by_hand = draw_rows(x)(60, np.random.default_rng(0))
    np.testing.assert_allclose(60 * by_hand[0] + 240 * by_hand[1], x.T @ x)
    means = np.array(summary["simulation"]["test_mean"])[-2:, 0]
    np.testing.assert_allclose(means, np.array(summary["simulation"]["test_predicted"])[-2:, 0], rtol=0.15)


def test_data_are_warned_about(capsys, data):
    x = np.column_stack([data[:60], 30.0 * (np.arange(60) == 7)])
    np.save("x.npy", x)
    assert main(["theory", "x.npy", "--elliptical", "--points", "3"]) == 0
    warned = capsys.readouterr().err
    assert "expect errors predicted about 12% too low" in warned
    assert "stands alone in some direction" in warned
    np.save("y.npy", np.column_stack([data, np.zeros(300)]))
    assert main(["theory", "y.npy", "--ridge", "0,0.1", "--points", "3"]) == 0
    assert "points are left out: the equations have no finite solution" in capsys.readouterr().err
    assert json.loads(Path("jmask-theory-y/summary.json").read_text())["curves"][0]["unsolved"] > 0


def test_ridge_zero_leaves_a_gap_at_n_equal_to_d(capsys):
    assert main(["theory", "isotropic", "--ridge", "0", *FAST, "--out", "zero", "--simulate", "3"]) == 0
    assert "1 of 17 points are left out" in capsys.readouterr().err
    summary, rows = written("zero")
    test = np.array(summary["curves"][0]["test"], float)
    assert np.flatnonzero(np.isnan(test)).tolist() == [summary["n_over_d"].index(1.0)]
    assert next(row["test"] for row in rows if float(row["n"]) == 20) == ""
    ratio = np.array(summary["n_over_d"])
    above = ratio > 1
    np.testing.assert_allclose(test[above], 1 / (1 - 1 / ratio[above]), rtol=1e-9)


def test_directories_are_guarded(capsys):
    options = ["theory", "isotropic", *FAST, "--ridge", "1", "--out", "d"]
    assert main(options) == 0
    assert main([*options, "--seed", "7"]) == 0
    Path("d/notes.txt").write_text("mine")
    assert "holds notes.txt" in refused(capsys, *options)


def test_nothing_is_left_half_written(capsys, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(learning_files, "_draw_figure", fail)
    assert refused(capsys, "theory", "isotropic", *FAST, "--ridge", "1") == "Error: disk full\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ar2:0.9"], "'ar2:0.9' is neither a population (ar1:RHO"),
        (["ar1"], "'ar1' has 0 parameter(s), wanted ar1:RHO"),
        (["ar1:0.9,0.1"], "has 2 parameter(s)"),
        (["ar1:much"], "'much' must be numbers separated by commas"),
        (["ar1:nan"], "'nan' must be finite"),
        (["ar1:1.5"], "'ar1:1.5': rho must lie in (-1, 1), got 1.5"),
        (["diagonal:-1"], "variances must not be negative"),
        (["isotropic:2"], "'isotropic:2' has 1 parameter(s), wanted isotropic"),
        (["equicorrelated:-0.5"], "correlation must lie in"),
        (["nowhere.csv"], "nowhere.csv: no such file"),
        (["isotropic", "--dimension", "1"], "--dimension must be at least 2, got 1"),
        (["isotropic", "--dimension", "4000000"], "--dimension 4000000 needs"),
        (["diagonal:1,2,3", "--dimension", "2"], "3 parameters for --dimension 2"),
        (["isotropic", "--ridge", "1,x"], "--ridge must be numbers or best, separated by commas, got 'x'"),
        (["isotropic", "--ridge", "-1"], "--ridge must be finite and not negative, got -1"),
        (["isotropic", "--ridge", "1,1.0"], "--ridge holds 1.0 twice"),
        (["isotropic", "--ridge", ""], "--ridge must be numbers or best"),
        (["isotropic", "--ratio", "1"], "--ratio must be LOW..HIGH, such as 0.1..10, got '1'"),
        (["isotropic", "--ratio", "2..1"], "with 0 < LOW < HIGH"),
        (["isotropic", "--ratio", "nan..1"], "with 0 < LOW < HIGH"),
        (["isotropic", "--points", "1"], "Invalid value for '--points'"),
        (["isotropic", "--mask", "some"], "--mask must be leave-one-out"),
        (["isotropic", "--simulate", "1"], "at least 2 seeds for an error bar, got 1"),
        (["isotropic", "--seed", "-1"], "Invalid value for '--seed'"),
        (["isotropic", "--elliptical"], "--elliptical estimates scales from data"),
        (["isotropic", "--columns", "a"], "--columns and --id-column choose columns of data"),
        (["digits", "--dimension", "3"], "--dimension is for a population by name"),
        (["digits", "--simulate", "2", "--ratio", "50..60"], "--ratio asks for 3200 rows or more, and 1438 are there"),
        (["isotropic", "--out", "no/such"], "does not exist"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, message):
    assert message in refused(capsys, "theory", *arguments)


def test_bad_data_are_one_line(capsys, data):
    np.save("few.npy", data[:5])
    assert "--elliptical needs more rows than columns" in refused(capsys, "theory", "few.npy", "--elliptical")
    np.save("flat.npy", np.ones((9, 3)))
    assert "every column is constant" in refused(capsys, "theory", "flat.npy")


def test_help_names_the_populations(capsys):
    assert main(["theory", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name in ("ar1:RHO", "power-law:EXPONENT", "spiked:STRENGTH", "LOW..HIGH", "bernoulli:RATE"):
        assert name in shown


def test_populations_by_name():
    same = [
        ("ar1:0.9", jm.covariance.ar1(7, 0.9)),
        ("ring:0.7", jm.covariance.ar1(7, 0.7, circulant=True)),
        ("equicorrelated:0.3", jm.covariance.equicorrelated(7, 0.3)),
        ("diagonal:0.3,3.0", jm.covariance.Diagonal([0.3, 3, 0.3, 3, 0.3, 3, 0.3])),
    ]
    for name, wanted in same:
        np.testing.assert_array_equal(parse_population(name, 7).matrix(), wanted.matrix())
    np.testing.assert_array_equal(parse_population("power-law:1.5", 7).eigenvalues(), np.arange(1.0, 8) ** -1.5)
    assert parse_population("spiked:4,2", 7).strengths.tolist() == [4, 2]
    assert parse_population("isotropic", 7).diagonal().tolist() == [1] * 7
    assert names_population("ring:0.7")
    assert not names_population("digits")
    with pytest.raises(ValueError, match="'cube:3' is no population: use ar1:RHO"):
        parse_population("cube:3", 7)


def test_ratios_and_ridges():
    assert parse_ridges("0, 1e-3,best") == [0.0, 1e-3, BEST]
    assert len(parse_ratios("2..3", 4)) == 4
    near = parse_ratios("0.5..2", 2)
    assert 1.0 in near
    assert np.diff(near).min() > 1e-4
    assert np.diff(parse_ratios("0.1..10", 61)).min() > 1e-4  # n = d once, though rounding may hit beside it
    assert (near[0], near[-1]) == (0.5, 2)


def test_the_best_ridge_is_a_minimum():
    c, n = jm.covariance.ar1(30, 0.8), np.array([10.0, 30.0, 90.0])
    found = predict(c, n, [BEST], jm.LeaveOneOut(), None)
    for i in range(3):
        slope = jax.grad(lambda t, i=i: jm.theory.errors(c, n[i], jax.numpy.exp(t)).test)(np.log(found.ridge[i, 0]))
        assert abs(slope) < 5e-3 * found.test[i, 0]
    free = predict(jm.covariance.Diagonal(np.ones(9)), n, [BEST], jm.LeaveOneOut(), None)
    np.testing.assert_allclose(free.ridge, prediction._HIGHEST)  # nothing to learn: the end of the range


def test_lanes_in_batches_are_the_same(monkeypatch):
    c, n = jm.covariance.power_law(12, 1.0), np.geomspace(3, 40, 7)
    whole = predict(c, n, [0.1, BEST], jm.Bernoulli(0.2), None)
    monkeypatch.setattr(prediction, "_MOST_LANES", 4)
    parts = predict(c, n, [0.1, BEST], jm.Bernoulli(0.2), None)
    np.testing.assert_allclose(whole.test, parts.test, rtol=1e-12)
    np.testing.assert_allclose(whole.ridge, parts.ridge, rtol=1e-12)


def test_simulation_draws_are_independent_and_reproducible():
    c = jm.covariance.Diagonal(np.array([1.0, 2.0, 3.0]))
    curves = predict(c, np.array([5.0, 50.0]), [0.1], jm.LeaveOneOut(), None)
    one, two = (simulate(curves, draw_from(c), jm.LeaveOneOut(), 3, 5) for _ in range(2))
    np.testing.assert_array_equal(one.test, two.test)
    assert np.unique(one.test).size == one.test.size
    other = simulate(curves, draw_from(c), jm.LeaveOneOut(), 3, 6)
    assert not np.isin(other.test, one.test).any()


def test_figure_shows_every_curve_and_leaves_gaps():
    ratio = np.array([0.5, 1.0, 2.0])
    errors = np.array([[1.0, 0.5], [np.nan, 0.4], [0.6, 0.3]])
    points = (ratio, errors, errors / 10, errors, errors / 10)
    figure = plot_theory.learning_curve(
        ratio, errors / 2, errors, ["a", "b"], variance=1.0, points=points, emphasised=1, title="t"
    )
    assert figure.get_suptitle() == "t"
    left = figure.axes[0]
    assert left.get_legend_handles_labels()[1] == ["a", "b", "predict the mean", "fits to samples ± standard error"]
    assert np.isnan(left.get_lines()[0].get_ydata()[1])
    assert left.get_lines()[1].get_linestyle() == "--"
    empty = plot_theory.learning_curve(ratio, np.full((3, 1), np.nan), np.full((3, 1), np.nan), ["a"])
    assert empty.axes[0].get_ylim() == (0.1, 1.0)
