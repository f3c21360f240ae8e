"""The command line in one process: what it writes, what it prints, and how it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jmask as jm
from jmask.cli import main
from jmask.commands import comparison, curve, fitting
from jmask.commands.options import Scale, Scaling

RIVALS = ["mean", "PPCA", "correlation PCA", "Ledoit–Wolf", "nonlinear shrinkage"]
FILES = {"fit.npz", "summary.json", "ridge_path.png", "weights.png", "eigenvalues.png"}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def data():
    """40 × 6 with two factors, an offset and columns of different scale."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(40, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(40, 6))
    return x * np.array([1, 2, 5, 1, 0.1, 1]) + 10


def csv(x, path="x.csv", ids=True):
    names = "abcdefgh"[: x.shape[1]]
    head = ",".join([*(["who"] if ids else []), *names])
    rows = [
        ",".join([*([f"p{i}"] if ids else []), *("" if np.isnan(v) else repr(float(v)) for v in row)])
        for i, row in enumerate(x)
    ]
    Path(path).write_text("\n".join([head, *rows]) + "\n")
    return path


def refused(capsys, *arguments):
    """The one line of a refusal, after which nothing new lies around."""
    before = sorted(os.listdir())
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("Error: ")
    assert shown.err.count("\n") == 1
    assert sorted(os.listdir()) == before
    return shown.err


def test_help_and_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"jmask {jm.__version__}\n"
    assert main([]) == 0
    assert "impute" in capsys.readouterr().out
    assert main(["fit", "--help"]) == 0
    assert "partition:FILE" in capsys.readouterr().out


def test_digits_end_to_end(capsys):
    assert main(["fit", "digits"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    for words in ("1797 rows × 64 columns", "leave-one-out", "PPCA", "Ledoit–Wolf", "Predicted worst", "jmask-digits"):
        assert words in shown.out
    assert set(os.listdir("jmask-digits")) == FILES | {"weight_images.png"}
    assert os.listdir() == ["jmask-digits"]
    summary = json.loads(Path("jmask-digits/summary.json").read_text())
    errors = {entry["name"]: entry["error"] for entry in summary["held_out"]["methods"]}
    assert list(errors) == [*RIVALS, "masked ridge"]
    assert errors["masked ridge"] < min(errors[name] for name in ("mean", "PPCA", "correlation PCA"))
    assert summary["fit"]["interior"]
    assert len(summary["constant_columns"]) == 3
    path = summary["path"]
    best = int(np.argmin(path["leave_one_out"]))
    assert path["ridge"][best] == summary["fit"]["ridge"]
    assert 0 < best < len(path["ridge"]) - 1
    fit = jm.Fit.load("jmask-digits/fit.npz")
    x = digits() - np.asarray(summary["mean"])
    np.testing.assert_allclose(float(jm.train_error(fit, x)), summary["fit"]["train"], rtol=1e-9)
    again = jm.leave_one_out_error(x, summary["fit"]["ridge"], centred=True)
    np.testing.assert_allclose(float(again), summary["fit"]["leave_one_out"], rtol=1e-9)


def digits():
    from sklearn.datasets import load_digits

    return load_digits().data


@pytest.mark.parametrize("mask", ["leave-one-out", "bernoulli:0.3", "partition:groups.txt"])
def test_fit_of_a_file(capsys, data, mask):
    """Held-out error of the fit is that of a fit by hand to the training rows, under every mask."""
    Path("groups.txt").write_text("u\nu\nv\nv\nw\nw\n")
    options = ["--mask", mask, "--scale", "standardise", "--ridge", "0.05", "--out", "here", "--seed", "4"]
    assert main(["fit", csv(data), *options]) == 0
    summary = json.loads(Path("here/summary.json").read_text())
    assert set(os.listdir("here")) == FILES
    assert summary["data"]["columns"] == list("abcdef")
    assert summary["data"]["id_column"] == "who"
    assert summary["fit"]["ridge"] == 0.05
    fit = jm.Fit.load("here/fit.npz")
    scaled = (data - np.asarray(summary["mean"])) / np.asarray(summary["scale"])
    np.testing.assert_allclose(scaled.std(0), 1)
    np.testing.assert_allclose(fit.weights, jm.fit(scaled, 0.05, fit.scheme).weights, atol=1e-12)
    order = np.random.default_rng(4).permutation(40)
    test, train = np.sort(order[:8]), np.sort(order[8:])
    mean, spread = data[train].mean(0), data[train].std(0)
    by_hand = jm.fit((data[train] - mean) / spread, 0.05, fit.scheme)
    wanted = float(jm.train_error(by_hand, (data[test] - mean) / spread))
    np.testing.assert_allclose(summary["training_rows"]["held_out"], wanted, rtol=1e-9)
    values = np.linalg.eigvals(np.asarray(fit.weights))
    np.testing.assert_allclose(summary["eigenvalues"], np.sort(values.real)[::-1], atol=1e-10)
    gcv = summary["fit"]["gcv"]
    assert (gcv is None) == mask.startswith("bernoulli")


def test_gradient_reaches_the_closed_form(capsys, data):
    np.save("x.npy", data.astype(np.float32))
    assert main(["fit", "x.npy", "--method", "gradient", "--out", "g"]) == 0
    assert "distance to the closed form" in " ".join(capsys.readouterr().out.split())
    descent = json.loads(Path("g/summary.json").read_text())["descent"]
    assert descent["converged"]
    assert descent["distance_to_closed_form"] < 1e-6


def test_own_directory_is_replaced_and_no_other(capsys, data):
    csv(data)
    options = ["fit", "x.csv", "--ridge", "0.1", "--out", "d"]
    assert main(options) == 0
    assert main([*options, "--seed", "7"]) == 0
    assert json.loads(Path("d/summary.json").read_text())["options"]["seed"] == 7
    assert sorted(os.listdir()) == ["d", "x.csv"]
    Path("d/notes.txt").write_text("mine")
    assert "holds notes.txt, which jmask did not write" in refused(capsys, *options)
    os.mkdir("other")
    Path("other/summary.json").write_text('{"program": "another"}')
    assert "was not made by jmask" in refused(capsys, *options[:-1], "other")
    assert "is a file" in refused(capsys, *options[:-1], "x.csv")
    assert "does not exist" in refused(capsys, *options[:-1], "no/such")


@pytest.mark.parametrize(("error", "code"), [(OSError("disk full"), 2), (KeyboardInterrupt(), 130)])
def test_nothing_is_left_half_written(capsys, data, monkeypatch, error, code):
    def fail(*_):
        raise error

    monkeypatch.setattr(fitting, "_draw", fail)
    csv(data)
    assert main(["fit", "x.csv", "--ridge", "0.1"]) == code
    assert os.listdir() == ["x.csv"]
    assert capsys.readouterr().err == ("Error: disk full\n" if code == 2 else "Interrupted\n")


def test_bad_options(capsys, data):
    csv(data)
    fit = ("fit", "x.csv")
    assert "--ridge must be auto or a number, got 'much'" in refused(capsys, *fit, "--ridge", "much")
    assert "--ridge must be finite and not negative, got -1" in refused(capsys, *fit, "--ridge", "-1")
    assert "--ridge must be finite and not negative, got nan" in refused(capsys, *fit, "--ridge", "nan")
    assert "needs a rate in [0, 1), got 1.5" in refused(capsys, *fit, "--mask", "bernoulli:1.5")
    assert "--mask must be leave-one-out, bernoulli:RATE" in refused(capsys, *fit, "--mask", "none")
    assert "g.txt: no such file" in refused(capsys, *fit, "--mask", "partition:g.txt")
    Path("g.txt").write_text("0 0 1")
    assert "one label for each of 6 columns, got 3" in refused(capsys, *fit, "--mask", "partition:g.txt")
    Path("g.txt").write_text("5 5 5 5 5 5")
    assert "at least two different labels" in refused(capsys, *fit, "--mask", "partition:g.txt")
    assert "has no column 'z'" in refused(capsys, *fit, "--columns", "a,z")
    assert "Invalid value for '--seed'" in refused(capsys, *fit, "--seed", "-3")
    assert "'--scale'" in refused(capsys, *fit, "--scale", "big")
    assert "No such option" in refused(capsys, *fit, "--rigde", "1")
    assert "No such command" in refused(capsys, "fitt")
    assert "DATA" in refused(capsys, "fit")


def test_bad_data(capsys, data):
    assert "nowhere.csv: no such file" in refused(capsys, "fit", "nowhere.csv")
    Path("empty.csv").touch()
    assert "empty.csv: the file is empty" in refused(capsys, "fit", "empty.csv")
    assert "at least 2 rows" in refused(capsys, "fit", csv(data[:1]))
    assert "at least 5 rows" in refused(capsys, "fit", csv(data[:4]))
    assert "at least 2 columns" in refused(capsys, "fit", csv(data[:, :1]))
    gap = data.copy()
    gap[3, 1] = np.nan
    assert "line 5 (p3), column 'b' is missing" in refused(capsys, "fit", csv(gap))
    gap[3, 1] = np.inf
    assert "line 5 (p3), column 'b' is infinite" in refused(capsys, "fit", csv(gap))
    Path("ragged.csv").write_text("a,b\n1,2\n3\n")
    assert "line 3 has 1 cells" in refused(capsys, "fit", "ragged.csv")
    Path("text.csv").write_text("a,b\n1,2\n3,red\n")
    assert "line 3, column 'b': 'red' is not a number" in refused(capsys, "fit", "text.csv")
    np.save("wide.npy", np.zeros((6, 400_000), np.int8))
    assert "needs 10,240,000,000,000 bytes" in refused(capsys, "fit", "wide.npy")
    assert "every column is constant" in refused(capsys, "fit", csv(np.ones((9, 3))))


def test_constant_columns_are_warned_about(capsys, data):
    x = data.copy()
    x[:, 2] = 0.1
    assert main(["fit", csv(x), "--scale", "standardise", "--ridge", "0.1"]) == 0
    assert capsys.readouterr().err == "Warning: 1 of 6 columns are constant: centred, and left at scale 1\n"
    summary = json.loads(Path("jmask-x/summary.json").read_text())
    assert summary["scale"][2] == 1
    assert summary["constant_columns"] == ["c"]
    assert summary["r_squared"][2] is None


def test_ridge_zero_and_more_columns_than_rows(capsys, data):
    assert main(["fit", csv(data[:8].T.copy()[:, :8], ids=False), "--ridge", "0", "--out", "zero"]) == 0
    summary = json.loads(Path("zero/summary.json").read_text())
    assert summary["fit"]["ridge"] == 0
    assert summary["fit"]["gcv"] is None
    assert abs(summary["fit"]["train"]) < 1e-12


def test_impute_fills_and_keeps_the_rest(capsys, data):
    gap = data.copy()
    gap[2, [1, 3]] = np.nan
    gap[7, 0] = np.nan
    gap[9] = np.nan
    csv(gap)
    assert main(["impute", "x.csv", "--out", "filled.csv", "--ridge", "0.1"]) == 0
    shown = capsys.readouterr()
    assert "Filled 9 entries in 3 rows, from 37 complete rows" in shown.out
    assert "1 row(s) have no entry at all" in shown.err
    before, after = Path("x.csv").read_text().splitlines(), Path("filled.csv").read_text().splitlines()
    assert after[0] == "who,a,b,c,d,e,f"
    assert [line for i, line in enumerate(after) if i not in (3, 8, 10)] == [
        line for i, line in enumerate(before) if i not in (3, 8, 10)
    ]
    complete = gap[np.isfinite(gap).all(1)]
    mean = complete.mean(0)
    wanted = mean + np.asarray(jm.fit(complete - mean, 0.1).impute(gap - mean, np.isfinite(gap)))
    got = np.array([[float(cell) for cell in line.split(",")[1:]] for line in after[1:]])
    np.testing.assert_allclose(got, wanted, rtol=1e-12)
    assert sorted(os.listdir()) == ["filled.csv", "x.csv"]


def test_impute_refuses(capsys, data):
    gap = data[:12].copy()
    gap[4:, 0] = np.nan
    csv(gap)
    assert "at least 5 complete rows are needed to learn from, got 4 of 12" in refused(
        capsys, "impute", "x.csv", "--out", "y.csv"
    )
    assert "must end in .csv" in refused(capsys, "impute", "x.csv", "--out", "y.npy")
    assert "does not exist" in refused(capsys, "impute", "x.csv", "--out", "no/y.csv")
    assert "no missing entries" in refused(capsys, "impute", "digits", "--out", "y.npy")
    assert "'--out'" in refused(capsys, "impute", "x.csv")


def test_curve_moves_to_the_least_error():
    """Data with hardly any noise: the best ridge lies below the first path."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 5)) + 1e-5 * rng.normal(size=(60, 5))
    found = curve.ridge_curve(x, None, jm.LeaveOneOut(), False)
    assert found.interior
    assert found.ridge[found.chosen] < 1e-7 * (x**2).mean()
    direct = [float(jm.leave_one_out_error(x, r)) for r in found.ridge[found.chosen - 1 : found.chosen + 2]]
    assert direct[1] == min(direct)
    np.testing.assert_allclose(direct[1], found.leave_one_out[found.chosen], rtol=1e-6)


def test_baselines_take_the_masks_of_the_scheme(data):
    """A partition into single coordinates is leave-one-out, and masks of rate 0 too."""
    x = jnp.asarray(data - data.mean(0))
    predictor = jm.baselines.ppca(x, 2) if hasattr(jm, "baselines") else comparison.baselines.ppca(x, 2)
    for scheme in (jm.Partition(range(6)), jm.Bernoulli(0.0)):
        weights = comparison._weights(predictor, scheme)
        np.testing.assert_allclose(weights, predictor.weights, atol=1e-8)


def test_best_rank_is_that_of_the_factors():
    rng = np.random.default_rng(1)
    factors = rng.normal(size=(3, 10))
    x = rng.normal(size=(400, 3)) @ factors + 0.3 * rng.normal(size=(400, 10))
    entries = comparison.compare(x[:300], x[300:], jm.LeaveOneOut(), rng)
    assert [entry.name for entry in entries] == RIVALS
    assert entries[1].choice == "rank 3"
    by_hand = jm.train_error(comparison.baselines.ppca(x[:300], 3).weights, x[300:])
    np.testing.assert_allclose(entries[1].error, float(by_hand), rtol=1e-9)
    np.testing.assert_allclose(entries[0].error, (x[300:] ** 2).mean())


def test_scaling_round_trip(data):
    for kind in Scale:
        scaling = Scaling.estimate(data, kind)
        np.testing.assert_allclose(scaling.undo(scaling.apply(data)), data)
    x = np.column_stack([np.full(7, 0.1), np.arange(7.0)])
    assert (Scaling.estimate(x, Scale.STANDARDISE).apply(x)[:, 0] == 0).all()


def test_in_its_own_process(data):
    """Double precision is set without being asked, and a mistake shows no traceback."""
    np.save("x.npy", data)
    command = [sys.executable, "-m", "jmask.cli"]
    good = subprocess.run([*command, "fit", "x.npy", "--ridge", "1e-3"], capture_output=True, text=True, check=False)
    assert (good.returncode, good.stderr) == (0, "")
    assert jm.Fit.load("jmask-x/fit.npz").weights.dtype == jnp.float64
    bad = subprocess.run([*command, "fit", "y.npy"], capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stdout, bad.stderr) == (2, "", "Error: y.npy: no such file\n")
