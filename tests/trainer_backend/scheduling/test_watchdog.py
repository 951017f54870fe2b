"""The pulse of a worker and the watch on it, by a clock the test turns."""

import json

import pytest

from trainer_backend.runs.files import HEARTBEAT
from trainer_backend.runs.watched import heartbeat as heartbeat_module
from trainer_backend.runs.watched.heartbeat import LIMITS_S, Heartbeat
from trainer_backend.runs.writer import RunWriter
from trainer_backend.scheduling.watchdog import AWAY_S, FROZEN_AFTER_S, HangWatch


class Clock:
    """A monotonic clock that stands still until it is turned."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def beat(run, beats: int, marks: int, phase: str = "running", limit: float = 120.0, idle=0.0):
    facts = {"pid": 1, "beats": beats, "marks": marks, "phase": phase}
    facts |= {"idle_seconds": idle, "limit_seconds": limit}
    (run.dir / HEARTBEAT).write_text(json.dumps(facts))


def test_case_33_a_worker_without_progress_is_told_only_after_the_limit_and_never_ended(run, clock):
    watch = HangWatch(clock)
    for beats in range(70):  # ten minutes in one step, the pulse beats all the time
        beat(run, beats, marks=5)
        assert not watch.look(run)
        stalled = run.stalled()
        assert (stalled is not None) == (clock.now - 1000.0 > 120.0)
        clock.now += 10.0
    assert stalled["phase"] == "running" and stalled["seconds"] > 500 and not stalled["frozen"]
    beat(run, 99, marks=6)
    watch.look(run)
    assert run.stalled() is None


def test_case_6_a_stop_that_is_not_obeyed_is_overdue_after_the_limit(run, clock):
    watch = HangWatch(clock)
    beat(run, 1, 1)
    assert not watch.look(run)
    clock.now += 500.0
    run.request_stop()
    assert not watch.look(run)  # asked just now
    assert run.stalled()["frozen"]
    clock.now += 119.0
    assert not watch.look(run)
    clock.now += 2.0
    assert watch.look(run)


def test_a_stop_that_is_being_obeyed_is_not_overdue(run, clock):
    watch = HangWatch(clock)
    run.request_stop()
    for beats in range(30):
        beat(run, beats, marks=beats, phase="saving", limit=600.0)
        assert not watch.look(run)
        clock.now += 60.0


def test_a_stopped_process_is_told_from_one_that_computes(run, clock):
    watch = HangWatch(clock)
    beat(run, 1, 1, limit=1.0)
    watch.look(run)
    clock.now += FROZEN_AFTER_S + 1.0
    watch.look(run)
    assert run.stalled()["frozen"]


def test_after_a_restart_of_the_app_the_workers_own_count_is_used(run, clock):
    beat(run, 7, 3, idle=300.0)
    HangWatch(clock).look(run)
    assert run.stalled()["seconds"] == 300


def test_before_the_first_beat_a_worker_may_load_for_long(run, clock):
    watch = HangWatch(clock)
    watch.look(run)
    clock.now += LIMITS_S["preparing"] - 1
    watch.look(run)
    assert run.stalled() is None
    clock.now += 2
    watch.look(run)
    assert run.stalled()["phase"] == "preparing"
    watch.forget(run)
    assert run.stalled() is None


def test_a_worker_of_another_machine_lives_as_long_as_it_beats(run, clock):
    watch = HangWatch(clock)
    assert not watch.beats(run)
    for beats in range(5):
        beat(run, beats, marks=1)
        assert watch.beats(run)
        clock.now += AWAY_S - 1
    clock.now += 2
    assert not watch.beats(run)


def test_a_torn_beat_is_no_beat(run, clock):
    (run.dir / HEARTBEAT).write_text('{"beats": 3, "ma')
    assert not HangWatch(clock).look(run)


def test_limits_follow_the_phase_and_the_usual_step(run, monkeypatch, clock):
    monkeypatch.setattr(heartbeat_module.time, "monotonic", clock)
    heart = Heartbeat(run.dir)
    assert heart.limit() == 900.0
    heart.mark("running")
    assert heart.limit() == 900.0  # the first step may compile
    for _ in range(3):
        clock.now += 1.0
        heart.step()
    assert heart.limit() == 120.0
    for _ in range(9):
        clock.now += 30.0
        heart.step()
    assert heart.limit() == 600.0
    heart.mark("saving")
    assert heart.limit() == 600.0
    heart.mark("evaluating")
    assert heart.limit() == 600.0


def test_the_pulse_beats_from_a_thread_and_ends_with_its_worker(run, monkeypatch):
    monkeypatch.setattr(heartbeat_module, "EVERY_S", 0.01)
    writer = RunWriter(run)
    writer.enter("preparing")
    writer.enter("running")
    writer.heart = heart = Heartbeat(run.dir).start()
    seen = set()
    while len(seen) < 3:
        seen.add(json.loads((run.dir / HEARTBEAT).read_text())["beats"])
    writer.enter("saving")
    assert heart.limit() == 600.0
    heart.close()
    assert not (run.dir / HEARTBEAT).exists() and not heart._thread.is_alive()
