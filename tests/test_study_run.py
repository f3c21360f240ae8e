"""Runs: what they measure, that nothing but the study decides the numbers, and that a stopped run goes on."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jmask as jm
from jmask.study import Store, compute, preset, read_table
from jmask.study.convergence import convergence
from jmask.study.measure import QUANTITIES, Setting, simulate
from jmask.study.predict import predict

COMPUTED = compute.compute
STUDY = jm.Study(population="ar1:0.8", dimensions=[12, 16], ratios=[0.5, 2], ridges=[0.1, 1], seeds=3)


def rows(path):
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT point, draw, quantity, value FROM draws ORDER BY 1, 3, 2").fetchall()
        theory = connection.execute("SELECT point, quantity, value FROM theory ORDER BY 1, 2").fetchall()
    return found, theory


def values(table):
    return {
        (row.point, row.quantity, draw): v for row in table.rows for draw, v in zip(row.draws, row.values, strict=True)
    }


def test_every_quantity_is_what_the_public_functions_give():
    d, n, seed, strength, ridge = 12, 18, 5, jnp.asarray(6.0), jnp.asarray(0.3)
    noise = jm.covariance.Diagonal(np.resize([0.3, 3.0], d))
    setting = Setting(n, tuple(q for q in QUANTITIES), True, False, 1)
    arguments = (noise, jm.LeaveOneOut(), None, jnp.array([seed], jnp.int32), strength[None], ridge[None])
    found = {name: float(v[0, 0]) for name, v in jax.jit(simulate, static_argnums=0)(setting, *arguments).items()}
    assert set(found) == set(QUANTITIES)
    place, load_rows, aim, load, _ = jax.random.split(
        jax.random.fold_in(jax.random.fold_in(jax.random.key(0), seed), d), 5
    )
    del place
    u = jm.covariance.structured.random_directions(aim, d, 1, jnp.dtype(float))
    x = noise.sample(load_rows, n) + jax.random.normal(load, (n, 1)) * jnp.sqrt(strength) @ u.T
    sigma = jm.covariance.Spiked(noise, strength[None], u).matrix()
    fit = jm.fit(x, ridge)
    eigen = jm.predictor_eigen(fit)
    wanted = {
        "train": jm.train_error(fit, x),
        "test": jm.test_error(fit, sigma),
        "leave_one_out": jm.leave_one_out_error(x, ridge),
        "edge": eigen.values[0],
        "outlier": eigen.values[0],
        "overlap": (eigen.right[:, 0] @ u[:, 0]) ** 2,
        "pca_overlap": (jm.pca_eigen(x).right[:, 0] @ u[:, 0]) ** 2,
        "correlation_pca_overlap": (jm.correlation_pca_eigen(x).right[:, 0] @ u[:, 0]) ** 2,
        "gradient_test": jm.test_error(fit, sigma),
    }
    np.testing.assert_allclose([found[name] for name in wanted], [float(v) for v in wanted.values()], rtol=1e-9)
    assert found["gradient_distance"] < 1e-8


def test_theory_beside_simulation_is_that_of_the_library():
    point = jm.Study(population="ar1:0.8", dimensions=20, ratios=2, ridges=0.2).points()[0]
    found = predict(point, ("train", "test", "leave_one_out", "gradient_test"))
    c = jm.covariance.ar1(20, 0.8)
    errors = jm.theory.errors(c, 40, 0.2)
    assert found["train"] == float(errors.train)
    assert found["test"] == found["gradient_test"] == float(errors.test)
    assert found["leave_one_out"] == float(jm.theory.errors(c, 39, 0.2 * 40 / 39).test)
    spiked = jm.Study(population="isotropic", dimensions=20, ratios=2, strengths=2, measure="pca_overlap").points()[0]
    np.testing.assert_allclose(
        predict(spiked, ["pca_overlap"])["pca_overlap"], (1 - 0.5 / 4) / (1 + 0.5 / 2), rtol=1e-6
    )
    unknown = jm.Study(population="power-law:1", dimensions=20, schemes="partition:2").points()[0]
    assert np.isnan(predict(unknown, ["test"])["test"])


def test_draws_depend_on_their_number_alone():
    whole = values(jm.sweep(STUDY))
    for part in (
        jm.Study(population="ar1:0.8", dimensions=[16], ratios=[2], ridges=[1], seeds=3),
        jm.Study(population="ar1:0.8", dimensions=[16], ratios=[2], ridges=[1], seeds=1, seed=2, measure=["test"]),
    ):
        for key, value in values(jm.sweep(part)).items():
            assert value == whole[key]


def test_draws_worked_on_together_agree_with_single_ones():
    """The path of a GPU: batches under vmap."""
    c, key = jm.covariance.power_law(12, 1.0), jnp.arange(4, dtype=jnp.int32)
    operands = (c, jm.LeaveOneOut(), jm.Scales([0.25, 4.0], [0.8, 0.2]), key, jnp.ones(2), jnp.array([0.1, 1.0]))
    run_both = jax.jit(simulate, static_argnums=0)
    alone, together = (
        run_both(Setting(9, ("train", "test", "leave_one_out"), True, False, b), *operands) for b in (1, 4)
    )
    for name, value in alone.items():
        np.testing.assert_allclose(together[name], value, rtol=1e-11)


def test_ridge_zero_masks_scales_and_single_precision():
    study = jm.Study(
        population="spiked:5",
        dimensions=12,
        ratios=[0.5, 2],
        ridges=[0, 0.5],
        schemes=["leave-one-out", "bernoulli:0.2", "partition:3"],
        scales="two-point:0.5,2",
        seeds=2,
        measure=["train", "test"],
        precision="single",
    )
    table = jm.sweep(study)
    found = np.array([row.mean for row in table.rows])
    assert np.isfinite(found).all()
    interpolating = [
        row for row in table.rows if row.point.ridge == 0 and row.point.samples < 12 and row.quantity == "train"
    ]
    assert max(row.mean for row in interpolating if row.point.scheme != "bernoulli:0.2") < 1e-4


def test_nothing_is_computed_twice(tmp_path, monkeypatch):
    computed = []

    def counting(task):
        computed.extend((p.key, draw, name) for p in task.points for draw in task.draws for name in task.quantities)
        return COMPUTED(task)

    monkeypatch.setattr(compute, "compute", counting)
    first = values(jm.sweep(STUDY, tmp_path / "s.db"))
    assert len(computed) == len(set(computed)) == len(first)
    computed.clear()
    assert values(jm.sweep(STUDY, tmp_path / "s.db")) == first
    assert not computed
    more = jm.Study(population="ar1:0.8", dimensions=[16], ratios=[2, 3], ridges=[0.1, 1], seeds=4)
    wider = values(jm.sweep(more, tmp_path / "s.db"))
    assert len(computed) == (2 * 1 + 2 * 4) * 3  # one more draw of two points, four of two new ones
    assert {key: value for key, value in wider.items() if key in first}.items() <= first.items()


def test_a_run_that_was_interrupted_goes_on_to_the_same_rows(tmp_path, monkeypatch):
    jm.sweep(STUDY, tmp_path / "whole.db")
    calls = []

    def interrupted(task):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(task)
        return COMPUTED(task)

    monkeypatch.setattr(compute, "compute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        jm.sweep(STUDY, tmp_path / "part.db")
    monkeypatch.setattr(compute, "compute", COMPUTED)
    assert 0 < len(rows(tmp_path / "part.db")[0]) < len(rows(tmp_path / "whole.db")[0])
    jm.sweep(STUDY, tmp_path / "part.db")
    assert rows(tmp_path / "part.db") == rows(tmp_path / "whole.db")


def out_of_memory():
    return jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123456 bytes.")


def test_what_does_not_fit_is_split(tmp_path, monkeypatch):
    sizes = []

    def cramped(task):
        sizes.append(len(task.draws))
        if len(task.draws) > 1:
            raise out_of_memory()
        return COMPUTED(task)

    whole = values(jm.sweep(STUDY))
    monkeypatch.setattr(compute, "compute", cramped)
    assert values(jm.sweep(STUDY, tmp_path / "s.db")) == whole
    assert 1 in sizes
    assert max(sizes) > 1


def test_what_never_fits_is_reported_and_the_rest_goes_on(tmp_path, monkeypatch):
    def small_only(task):
        if task.points[0].dimension == 16:
            raise out_of_memory()
        return COMPUTED(task)

    monkeypatch.setattr(compute, "compute", small_only)
    states = []
    table = jm.sweep(STUDY, tmp_path / "s.db", progress=states.append)
    lost = [row for row in table.rows if row.point.dimension == 16]
    assert all("out of memory" in row.reason and not row.draws for row in lost)
    assert all(len(row.draws) == 3 and not row.reason for row in table.rows if row.point.dimension == 12)
    assert states[-1].failed == sum(3 for row in lost)
    assert states[-1].done + states[-1].failed == states[-1].total
    monkeypatch.setattr(compute, "compute", COMPUTED)
    assert all(len(row.draws) == 3 and not row.reason for row in jm.sweep(STUDY, tmp_path / "s.db").rows)


def test_other_errors_are_not_swallowed(tmp_path, monkeypatch):
    monkeypatch.setattr(compute, "compute", lambda task: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        jm.sweep(STUDY, tmp_path / "s.db")


def test_precision_is_the_study_s_whatever_jax_is_set_to():
    code = (
        "import jax, jmask as jm\n"
        "study = jm.Study(population='ar1:0.8', dimensions=[16], ratios=[2], ridges=[1], seeds=1, measure=['test'])\n"
        "print(repr(float(jm.sweep(study).rows[0].values[0])), jax.config.jax_enable_x64)"
    )
    printed = python(code).split()
    study = jm.Study(population="ar1:0.8", dimensions=[16], ratios=[2], ridges=[1], seeds=1, measure=["test"])
    assert printed == [repr(float(jm.sweep(study).rows[0].values[0])), "False"]


def environment(**more):
    kept = {key: value for key, value in os.environ.items() if key not in ("JAX_ENABLE_X64", "XLA_FLAGS")}
    return kept | more


def python(code, **more):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(**more))
    assert result.returncode == 0, result.stderr
    return result.stdout


SWEEP = """
import sys, jmask as jm
study = jm.Study(population="ar1:0.8", dimensions=[12, 16], ratios=[0.5, 2], ridges=[0.1, 1], seeds=3,
    schemes=["leave-one-out", "partition:2"])
print("ready", flush=True)
jm.sweep(study, sys.argv[1], progress=lambda state: print(state.done, flush=True))
"""


def test_four_devices_give_the_rows_of_one(tmp_path):
    paths = [tmp_path / "one.db", tmp_path / "four.db"]
    for path, flags in zip(paths, ("", "--xla_force_host_platform_device_count=4"), strict=True):
        python(SWEEP.replace("sys.argv[1]", repr(str(path))), XLA_FLAGS=flags)
    (one, theory), (four, theory_of_four) = (rows(path) for path in paths)
    assert [row[:3] for row in one] == [row[:3] for row in four]
    np.testing.assert_allclose([row[3] for row in one], [row[3] for row in four], rtol=1e-12, atol=1e-12)
    assert theory == theory_of_four
    with Store(paths[1], read_only=True) as store:
        assert store.runs()[0]["environment"]["device"].startswith("4 ×")


def uninterrupted(path):
    command = [sys.executable, "-c", SWEEP, str(path)]
    subprocess.run(command, check=True, capture_output=True, env=environment())


def killed_and_resumed(path, lines, delay):
    """Kill -9 so many lines of progress and a moment into a run, then let it finish."""
    command = [sys.executable, "-c", SWEEP, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    for _ in range(lines):
        process.stdout.readline()
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    left = stored(path)
    uninterrupted(path)
    return left


def stored(path):
    """Rows in a store that may have been killed before its tables were there."""
    try:
        return len(rows(path)[0]) if Path(path).exists() else 0
    except sqlite3.OperationalError:
        return 0


def test_a_run_that_was_killed_ends_bit_for_bit_like_another(tmp_path):
    uninterrupted(tmp_path / "whole.db")
    left = killed_and_resumed(tmp_path / "killed.db", 7, 0.0)
    assert rows(tmp_path / "killed.db") == rows(tmp_path / "whole.db")
    assert 0 < left < len(rows(tmp_path / "whole.db")[0])


@pytest.mark.slow
def test_killed_at_twenty_moments(tmp_path):
    uninterrupted(tmp_path / "whole.db")
    dice = random.Random(6)
    for i in range(20):
        killed_and_resumed(tmp_path / f"{i}.db", dice.randrange(0, 9), dice.uniform(0, 0.6))
        assert rows(tmp_path / f"{i}.db") == rows(tmp_path / "whole.db")


def test_a_ring_of_few_samples():
    """Its samples come from a Fourier transform, whose rows must stay rows also beside a fit in the dual."""
    study = jm.Study(population="ring:0.5", dimensions=[24], ratios=[0.5], ridges=[0.1], seeds=8, measure=["test"])
    (row,) = jm.sweep(study).rows
    assert abs(row.z) < 4.5


def test_the_distance_to_the_theory_falls_like_one_over_d():
    study = jm.Study(
        population="ar1:0.7", dimensions=[16, 32, 64], ratios=[2], ridges=[0.1], seeds=24, measure=["test"]
    )
    found = convergence(jm.sweep(study).rows, "test")
    assert found.dimensions.tolist() == [16, 32, 64]
    assert -1.5 < found.exponent < -0.6
    assert convergence(jm.sweep(STUDY).rows, "test") is None


@pytest.mark.slow
def test_preset_quick_agrees_with_theory():
    table = jm.sweep(preset("quick"))
    scores = [row.z for row in table.rows if np.isfinite(row.z)]
    assert len(scores) > 40
    assert np.abs(scores).max() < 4.5


@pytest.mark.slow
def test_preset_dimension_converges():
    table = jm.sweep(preset("dimension"))
    for study in table.studies:
        for quantity in study.measure:
            found = convergence(table.of(study).rows, quantity)
            assert -1.3 < found.exponent < -0.7
            assert (np.diff(found.distances) < 0).all()


def test_the_table_of_a_store_knows_its_studies(tmp_path):
    table = jm.sweep(STUDY, tmp_path / "s.db")
    with Store(tmp_path / "s.db", read_only=True) as store:
        again = read_table(store)
    assert again.studies == (STUDY,)
    assert values(again) == values(table)
    ordered = [abs(row.z) for row in table.worst_first() if np.isfinite(row.z)]
    assert ordered == sorted(ordered, reverse=True)


def test_workers_without_dask_and_bad_combinations(monkeypatch):
    with pytest.raises(ValueError, match="workers"):
        jm.sweep(STUDY, workers=0)
    with pytest.raises(ValueError, match="scheduler"):
        jm.sweep(STUDY, workers=2, scheduler="tcp://localhost:8786")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ModuleNotFoundError, match=r"jmask\[cluster\]"):
        jm.sweep(STUDY, workers=1)
