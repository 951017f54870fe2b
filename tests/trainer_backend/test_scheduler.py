"""The scheduler: one run at a time in order, stop, resume, lost workers, one app a home.

A real child process stands in for the worker: it holds the run's lock as the worker does.
"""

import os
import signal
import subprocess
import sys
import time

import pytest
from run_files import set_state

from trainer_backend import scheduler as scheduler_module
from trainer_backend.errors import UserError
from trainer_backend.recipe import Recipe
from trainer_backend.runs import Run, create_run
from trainer_backend.scheduler import Scheduler
from trainer_backend.worker import PACKAGE_PARENT, settle

WORKER = """
import sys, time
from pathlib import Path
from trainer_backend.runs import Run
from trainer_backend.run_writer import RunWriter
run = Run(Path(sys.argv[1]))
with run.lock():
    writer = RunWriter(run)
    writer.enter("running", step=1, total_steps=9)
    while not run.stop_requested():
        time.sleep(0.02)
    writer.enter("paused")
"""


@pytest.fixture
def scheduler(home, monkeypatch):
    def command(run: Run, devices=None) -> list[str]:
        return [sys.executable, "-c", WORKER, str(run.dir)]

    monkeypatch.setattr("trainer_backend.worker.worker_command", command)
    monkeypatch.setattr(scheduler_module, "TICK_S", 0.05)
    one = Scheduler(home)
    one.start()
    yield one
    one.close()
    for process in one._workers.values():
        process.kill()
        process.wait()


def wait_for(run: Run, *states: str, seconds: float = 15.0) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (state := run.state()["state"]) in states:
            return state
        time.sleep(0.02)
    raise AssertionError(f"{run.state()} is not one of {states}")


def test_runs_start_one_after_the_other(home, dataset, scheduler):
    first, second = (create_run(home, Recipe(), dataset) for _ in range(2))
    wait_for(first, "running")
    assert second.state()["state"] == "queued"
    assert scheduler.queue_position(second.id) == 1
    assert scheduler.queue_position(first.id) is None
    scheduler.stop(first.id)
    wait_for(first, "paused")
    wait_for(second, "running")


def test_a_queued_run_can_be_cancelled_and_queued_again(home, dataset, scheduler):
    first, second = (create_run(home, Recipe(), dataset) for _ in range(2))
    wait_for(first, "running")
    scheduler.stop(second.id)
    assert second.state()["state"] == "stopped"
    scheduler.resume(second.id)
    assert second.state()["state"] == "queued"


def test_a_run_that_is_working_cannot_be_resumed(home, run, scheduler):
    wait_for(run, "running")
    with pytest.raises(UserError):
        scheduler.resume(run.id)


def test_a_killed_worker_is_told_within_seconds_and_can_be_resumed(run, scheduler):
    wait_for(run, "running")
    os.kill(scheduler._workers[run.id].pid, signal.SIGKILL)
    wait_for(run, "failed")
    error = run.state()["error"]
    assert "unexpectedly" in error["what"] and "step 1 of 9" in error["where"] and error["fix"]
    scheduler.resume(run.id)
    wait_for(run, "running")


def test_a_second_stop_ends_a_worker_that_does_not_listen(run, scheduler, monkeypatch):
    wait_for(run, "running")
    os.kill(scheduler._workers[run.id].pid, signal.SIGSTOP)
    monkeypatch.setattr(scheduler_module, "FORCE_AFTER_S", 0.0)
    scheduler.stop(run.id)
    time.sleep(0.05)
    scheduler.stop(run.id)
    assert wait_for(run, "paused", "stopped") == "stopped"


def test_workers_outlive_the_app_and_are_found_again(home, run, scheduler):
    wait_for(run, "running")
    process = scheduler._workers.pop(run.id)
    scheduler.close()
    again = Scheduler(home)
    again.start()
    try:
        time.sleep(0.3)
        assert process.poll() is None and run.state()["state"] == "running"
        again.stop(run.id)
        wait_for(run, "paused")
    finally:
        again.close()
        process.kill()
        process.wait()


def test_a_run_lost_while_no_app_ran_is_settled_at_the_next_start(home, run):
    set_state(run, state="running", step=3, total_steps=9, updated_at=time.time() - 3600)
    one = Scheduler(home)
    one.tick()
    assert run.state()["state"] == "failed" and run.state()["error"]["fix"]


def test_a_run_somebody_just_started_elsewhere_is_left_alone(home, run):
    set_state(run, state="preparing")
    Scheduler(home).tick()
    assert run.state()["state"] == "preparing"


def test_a_second_app_on_one_home_is_refused_and_told_who_holds_it(home, scheduler):
    code = (
        "import sys; from pathlib import Path\n"
        "from trainer_backend.scheduler import Scheduler\n"
        "from trainer_backend.errors import UserError\n"
        "try:\n    Scheduler(Path(sys.argv[1])).start()\n"
        "except UserError as error:\n    print(error.where)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home)], capture_output=True, text=True, cwd=PACKAGE_PARENT
    )
    assert str(os.getpid()) in done.stdout


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-signal.SIGKILL, "SIGKILL"),
        (-signal.SIGSEGV, "SIGSEGV"),
        (3, "unexpectedly"),
        (None, "unexp"),
    ],
)
def test_each_way_to_die_has_its_words(run, code, words):
    set_state(run, state="running", step=2, total_steps=5)
    settle(run, code)
    assert words in run.state()["error"]["what"]


def test_a_late_settling_never_relabels_a_finished_run(run):
    set_state(run, state="finished")
    settle(run, -signal.SIGKILL)
    assert run.state()["state"] == "finished"
