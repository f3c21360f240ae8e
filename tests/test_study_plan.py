"""A study as data: what is refused and how, spellings, files, presets, and how the work is cut."""

import dataclasses

import numpy as np
import pytest

import jmask as jm
from jmask.study import preset
from jmask.study.plan import Point, as_studies, read_studies, scales_of, scheme_of, write_studies
from jmask.study.presets import PRESETS
from jmask.study.schedule import Machine, bytes_of, cut, estimate, require_room

CPU = Machine(devices=1, memory=2**33, rate=1e10, platform="cpu")
GPU = Machine(devices=2, memory=2**30, rate=1e12, platform="gpu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"population": "ar2:0.9"}, ["population", "ar2", "ar1:RHO"]),
        ({"population": "ar1:1.5"}, ["population", "1.5"]),
        ({"dimensions": 7}, ["dimensions", "7", "8"]),
        ({"dimensions": [32.5]}, ["dimensions", "32.5", "whole"]),
        ({"dimensions": []}, ["dimensions", "at least one"]),
        ({"ratios": [0]}, ["ratios", "positive", "0"]),
        ({"ridges": [-1]}, ["ridges", "not negative", "-1"]),
        ({"ridges": [np.nan]}, ["ridges", "finite"]),
        ({"ridges": ["x"]}, ["ridges", "numbers", "x"]),
        ({"strengths": [0]}, ["strengths", "positive"]),
        ({"schemes": "bernoulli:1"}, ["schemes", "bernoulli:1", "[0, 1)"]),
        ({"schemes": "partition:1"}, ["schemes", "partition:1"]),
        ({"scales": "cauchy"}, ["scales", "cauchy", "student-t"]),
        ({"scales": "student-t:2"}, ["scales", "2"]),
        ({"seeds": 0}, ["seeds", "at least 1", "0"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"measure": ["tset"]}, ["measure", "tset", "leave_one_out"]),
        ({"measure": ["overlap"]}, ["overlap", "strengths"]),
        ({"measure": ["edge"], "schemes": ["partition:2"]}, ["edge", "partition"]),
        ({"precision": "half"}, ["precision", "half", "double"]),
        ({"name": 3}, ["name", "3", "text"]),
    ],
)
def test_refusals_name_the_field(change, words):
    with pytest.raises((ValueError, TypeError)) as refusal:
        jm.Study(**change)
    for word in words:
        assert word in str(refusal.value)


def test_one_meaning_has_one_spelling():
    one = jm.Study(population="ar1:0.90", ridges=1, dimensions=[32, 32], schemes=["bernoulli:0.30", "bernoulli:.3"])
    other = jm.Study(population=" ar1:0.9", ridges=(1.0,), dimensions=32, schemes="bernoulli:0.3")
    assert one == other
    assert [p.key for p in one.points()] == [p.key for p in other.points()]


def test_the_key_of_a_point_is_its_content():
    point = jm.Study(dimensions=32).points()[0]
    assert dataclasses.replace(point).key == point.key
    keys = {point.key}
    for field in dataclasses.fields(Point):
        value = getattr(point, field.name)
        keys.add(dataclasses.replace(point, **{field.name: value + ("x" if isinstance(value, str) else 1)}).key)
    assert len(keys) == 1 + len(dataclasses.fields(Point))


def test_points_turn_the_ridge_fastest_and_round_the_samples():
    points = jm.Study(dimensions=[10], ratios=[0.01, 0.26], ridges=[0, 1]).points()
    assert [(p.samples, p.ridge) for p in points] == [(2, 0), (2, 1), (3, 0), (3, 1)]


def test_files_read_back_what_was_written(tmp_path):
    path = tmp_path / "all.toml"
    for name in PRESETS:
        path.write_text(write_studies(preset(name)))
        assert read_studies(path) == preset(name)
    assert as_studies(str(path)) == preset(name)


def test_a_flat_file_is_one_study_and_shared_keys_hold_for_all(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text('population = "isotropic"\ndimensions = [16]\nmeasure = ["leave-one-out"]\n')
    (study,) = read_studies(path)
    assert (study.name, study.population, study.measure) == ("grid", "isotropic", ("leave_one_out",))
    path.write_text('seeds = 3\n[[study]]\nname = "a"\n[[study]]\nname = "b"\nseeds = 5\n')
    assert [(study.name, study.seeds) for study in read_studies(path)] == [("a", 3), ("b", 5)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = ", ["is not TOML"]),
        ("ridge = 1", ["'ridge'", "ridges"]),
        ("[study]\nseeds = 1", ["[[study]]"]),
        ("[[study]]\n[[study]]\nseeds = 0", ["study 2", "seeds"]),
    ],
)
def test_files_are_refused_with_their_name(tmp_path, text, words):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"wrong\.toml") as refusal:
        read_studies(path)
    for word in words:
        assert word in str(refusal.value)


def test_what_is_no_study():
    with pytest.raises(FileNotFoundError, match=r"none\.toml"):
        as_studies("none.toml")
    with pytest.raises(TypeError, match=r"jmask\.Study"):
        as_studies(3)
    with pytest.raises(ValueError, match="quick, paper, dimension"):
        preset("slow")


def test_schemes_and_scales_by_name():
    assert scheme_of("leave-one-out", 8) == jm.LeaveOneOut()
    assert scheme_of("bernoulli:0.3", 8) == jm.Bernoulli(0.3)
    assert scheme_of("partition:4", 10).groups == (0, 0, 0, 1, 1, 2, 2, 2, 3, 3)
    assert scales_of("gaussian") is None
    assert float(scales_of("two-point:0.25,4").squares[1]) == 4
    assert scales_of("gamma:2").squares.ndim == 1


def test_tasks_cover_the_grid_once_and_leave_out_what_is_stored():
    study = jm.Study(dimensions=[16, 32], ratios=[1, 2], ridges=[0, 0.1, 1], seeds=5, measure=["test"])
    tasks = cut([study], {}, {}, CPU)
    cells = [(p.key, draw) for task in tasks for p in task.points for draw in task.draws]
    assert len(cells) == len(set(cells)) == 12 * 5
    assert sorted(p.key for task in tasks for i in task.predicted for p in [task.points[i]]) == sorted(
        p.key for p in study.points()
    )
    for task in tasks:
        assert len({(p.dimension, p.samples, p.ridge == 0) for p in task.points}) == 1
    present = {p.key: {(draw, "test") for draw in range(4)} for p in study.points()}
    known = {p.key: {"test"} for p in study.points()}
    rest = cut([study], present, known, CPU)
    assert {draw for task in rest for draw in task.draws} == {4}
    assert not any(task.predicted for task in rest)
    assert {task.lanes for task in rest} == {task.lanes for task in tasks}  # the same programs
    present = {p.key: {(draw, "test") for draw in range(5)} for p in study.points()}
    assert cut([study], present, known, CPU) == []
    assert all(not task.draws for task in cut([study], present, {}, CPU))  # theory alone


def test_batches_obey_the_memory_of_the_device():
    study = jm.Study(dimensions=[1024], ratios=[1], ridges=[1], seeds=64)
    (task,) = cut([study], {}, {}, GPU)[:1]
    assert task.together * bytes_of(task.points[0]) <= GPU.memory // GPU.devices
    assert task.lanes % GPU.devices == 0
    assert task.together > 1
    assert cut([study], {}, {}, CPU)[0].together == 1
    with pytest.raises(ValueError, match="d = 16384"):
        require_room(cut([jm.Study(population="ring:0.5", dimensions=16384)], {}, {}, CPU), CPU)


def test_halves_cover_the_task():
    (task,) = cut([jm.Study(dimensions=16, ratios=1, seeds=5)], {}, {}, CPU)
    first, second = task.halves()
    assert first.draws + second.draws == task.draws
    assert first.predicted == task.predicted
    assert second.predicted == ()
    alone = dataclasses.replace(task, draws=(0,), lanes=1)
    assert alone.halves() == [alone]
    assert dataclasses.replace(task, together=4).halves()[0].together == 2


def test_the_estimate_counts_points_values_and_programs():
    study = jm.Study(dimensions=[16, 32], ratios=[1, 2], ridges=[0.1, 1], seeds=4, measure=["test", "train"])
    found = estimate([study, study], cut([study, study], {}, {}, CPU), CPU)
    assert (found.points, found.rows, found.stored, found.programs) == (8, 8 * 4 * 2, 0, 4)
    assert found.seconds > 0
    assert found.memory > 0
