"""The stopwatch of a run's phases, and timings written and read again."""

import json
import time

import pytest
from estimated import SMOL, plan, timing

from trainer_backend.estimation.timing import Stopwatch, read_timing, write_timing


def test_a_phase_that_interrupts_another_is_counted_apart(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = Stopwatch("loading")
    now[0] += 2
    clock.enter("training")
    now[0] += 3
    with clock.during("saving"):
        now[0] += 5
    now[0] += 7
    clock.enter("")
    assert clock.seconds == {"loading": 2, "training": 10, "saving": 5}


def test_the_first_phase_begins_with_the_process():
    clock = Stopwatch("starting", time.time() - 5)
    clock.enter("loading")
    assert 5 <= clock.seconds["starting"] < 6


def test_a_timing_is_read_as_it_was_written(tmp_path):
    told = timing(training=12.5)
    write_timing(tmp_path, told)
    assert read_timing(tmp_path) == told


def test_what_a_newer_version_added_is_left_out(tmp_path):
    write_timing(tmp_path, timing(training=1.0))
    found = json.loads((tmp_path / "timing.json").read_text())
    found["plan"]["pages"] = 3
    found["shape"]["colour"] = "red"
    (tmp_path / "timing.json").write_text(json.dumps({**found, "more": 1}))
    read = read_timing(tmp_path)
    assert read is not None and (read.shape, read.plan) == (SMOL, plan())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '"x"',
        "{}",
        "[" * 100_000,
        '{"machine": 1, "recipe": {}, "shape": {}, "plan": {}, "seconds": {}}',
        '{"machine": "m", "recipe": [], "shape": 1, "plan": null, "seconds": 3}',
    ],
)
def test_a_damaged_timing_is_none(tmp_path, text):
    (tmp_path / "timing.json").write_text(text)
    assert read_timing(tmp_path) is None


@pytest.mark.parametrize(
    ("part", "value"), [("plan", "many"), ("shape", None), ("seconds", {"a": "b"})]
)
def test_a_timing_with_a_wrong_part_is_none(tmp_path, part, value):
    write_timing(tmp_path, timing(training=1.0))
    found = json.loads((tmp_path / "timing.json").read_text())
    found[part] = value if part == "seconds" else {**found[part], next(iter(found[part])): value}
    (tmp_path / "timing.json").write_text(json.dumps(found))
    assert read_timing(tmp_path) is None


def test_no_timing_is_none(tmp_path):
    assert read_timing(tmp_path) is None
