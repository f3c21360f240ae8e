"""``jmask tune``: what it writes, what it prints, and how it refuses."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import jmask as jm
from jmask.cli import main

FILES = {"fit.npz", "summary.json", "tuning_path.png"}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def data():
    """60 × 8: one factor in noise of two very different variances, and an offset."""
    rng = np.random.default_rng(3)
    return rng.normal(size=(60, 1)) + rng.normal(size=(60, 8)) * np.tile([0.3, 3.0], 4) + 10


def csv(x, path="x.csv"):
    lines = ["who," + ",".join("abcdefgh"[: x.shape[1]])]
    lines += [",".join([f"p{i}", *(repr(float(v)) for v in row)]) for i, row in enumerate(x)]
    Path(path).write_text("\n".join(lines) + "\n")
    return path


def refused(capsys, *arguments):
    """The one line of a refusal, after which nothing new lies around."""
    before = sorted(os.listdir())
    capsys.readouterr()
    assert main(["tune", *map(str, arguments)]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("Error: ")
    assert shown.err.count("\n") == 1
    assert sorted(os.listdir()) == before
    return shown.err


def test_tune_a_file_with_groups_and_a_hiding_rate(capsys, data):
    """The gain that is printed is that of fits by hand to the training rows."""
    Path("groups.txt").write_text("quiet loud " * 4)
    options = ["--groups", "groups.txt", "--hide-rate", "0.3", "--seed", "4", "--out", "here"]
    assert main(["tune", csv(data), *options]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    for words in ("60 rows × 8 columns", "12 held-out rows", "2 ridges by group", "flatters", "Written: here"):
        assert words in shown.out
    assert set(os.listdir("here")) == FILES
    summary = json.loads(Path("here/summary.json").read_text())
    assert summary["command"] == f"jmask tune x.csv {' '.join(options)}"
    assert set(summary["files"]) == FILES - {"summary.json"}
    ridge = np.asarray(summary["training_rows"]["ridge"])
    assert np.unique(ridge).size == 2
    assert ridge[1] > 10 * ridge[0]
    order = np.random.default_rng(4).permutation(60)
    test, train = np.sort(order[:12]), np.sort(order[12:])
    mean = data[train].mean(0)
    scalar = jm.tune.ridge(data[train] - mean, centred=True)
    np.testing.assert_allclose(scalar.ridge, summary["training_rows"]["scalar"], rtol=1e-9)
    ours, masks = summary["held_out"]
    for name, choice in (("plain", scalar.ridge), ("tuned", ridge)):
        wanted = jm.train_error(jm.fit(data[train] - mean, choice), data[test] - mean)
        np.testing.assert_allclose(ours[name], wanted, rtol=1e-9)
    np.testing.assert_allclose(ours["gain"], 1 - ours["tuned"] / ours["plain"], rtol=1e-9)
    mask, scheme = summary["mask"], jm.Bernoulli(summary["mask"]["hide_rate"])
    fit = jm.fit(data[train] - mean, mask["ridge"], scheme)
    np.testing.assert_allclose(masks["tuned"], jm.train_error(fit, data[test] - mean, jm.Bernoulli(0.3)), rtol=1e-9)
    fit = jm.Fit.load("here/fit.npz")
    whole = jm.fit(data - data.mean(0), np.asarray(summary["fit"]["ridge"]))
    np.testing.assert_allclose(fit.weights, whole.weights, atol=1e-10)
    # Again, into the same directory: what does not depend on the hiding rate is the same.
    assert main(["tune", "x.csv", *options[:2], *options[4:]]) == 0
    again = json.loads(Path("here/summary.json").read_text())
    assert again["fit"] == summary["fit"]
    assert again["held_out"] == summary["held_out"][:1]
    assert "mask" not in again


def test_tune_digits(capsys):
    """By rows of the image, to be quick; a picture of the ridges because the columns are one."""
    Path("rows.txt").write_text("\n".join(str(k // 8) for k in range(64)))
    assert main(["tune", "digits", "--groups", "rows.txt", "--folds", "2"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "8 ridges by group" in shown.out
    assert set(os.listdir("jmask-tune-digits")) == FILES | {"ridge_image.png"}


def test_refusals(capsys, data):
    csv(data)
    Path("short.txt").write_text("a b")
    csv(data[:12], "few.csv")
    csv(np.ones((40, 3)), "constant.csv")
    assert "no-such.csv" in refused(capsys, "no-such.csv")
    assert "--hide-rate must lie in [0, 1), got 1" in refused(capsys, "x.csv", "--hide-rate", "1")
    assert "Invalid value for '--folds'" in refused(capsys, "x.csv", "--folds", "1")
    assert "at least 80 rows are needed" in refused(capsys, "x.csv", "--folds", "40")
    assert "Invalid value for '--seed'" in refused(capsys, "x.csv", "--seed", "-1")
    assert "--groups: short.txt: must hold one label for each of 8" in refused(capsys, "x.csv", "--groups", "short.txt")
    assert "--groups: none.txt: no such file" in refused(capsys, "x.csv", "--groups", "none.txt")
    assert "at least 20 rows" in refused(capsys, "few.csv")
    assert "every column is constant" in refused(capsys, "constant.csv")
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("mine")
    assert "was not made by jmask" in refused(capsys, "x.csv", "--out", "mine")
    assert "--folds" in refused(capsys, "x.csv", "--folds", "many")
