"""What the command line does for runs that no app looks after: settle, cancel, queue again."""

import json
import os
import time

import pytest
from filelock import FileLock
from played_runs import MANNERS, at_work, wait_for, wait_until
from run_files import set_state

from trainer_backend.home import write_json
from trainer_backend.processes import identity
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import create_run
from trainer_backend.scheduling import run_queue
from trainer_backend.scheduling.run_queue import interrupt, lingers, queue_again, settle_alone
from trainer_backend.scheduling.scheduler import Scheduler
from trainer_backend.scheduling.worker_process import start_worker


@pytest.fixture
def lost(run):
    """A run whose worker's machine was started anew."""
    write_json(run.dir / "worker.json", {**identity(os.getpid()), "boot": "an earlier one"})
    set_state(run, state="running", step=3, total_steps=9)
    return run


def test_a_lost_run_is_told_and_can_be_resumed_without_an_app(call, lost):
    code, out, _ = call("show", lost.id, "--json")
    shown = json.loads(out)
    assert code == 0 and shown["state"] == "failed" and shown["error"]["code"] == "lost_worker"
    queue_again(lost, foreground=True)
    assert lost.state()["state"] == "preparing" and not (lost.dir / "worker.json").exists()


def test_the_list_has_no_ghosts(call, lost):
    assert json.loads(call("runs", "--json")[1])[0]["state"] == "failed"


def test_the_list_names_what_cannot_be_read(call, run):
    (run.dir / "spec.json").write_text("{")
    code, out, _ = call("runs", "--json")
    assert (code, json.loads(out)) == (0, [])
    assert call("runs")[2].startswith(f"{run.id} cannot be read: ")


def test_a_run_of_a_home_with_an_app_is_left_to_it(home, lost):
    with FileLock(home / "scheduler.lock"):
        settle_alone(lost)
    assert lost.state()["state"] == "running"


def test_a_run_at_work_is_left_alone(run, workers):
    process = start_worker(run)
    at_work(run)
    settle_alone(run)
    assert run.state()["state"] == "running"
    process.kill()
    process.wait()
    settle_alone(run)
    assert run.state()["state"] == "failed"


def test_a_run_of_another_machine_is_lost_when_its_pulse_is_old(run):
    set_state(run, state="running", step=3, total_steps=9)
    pulse = run.dir / "heartbeat.json"
    pulse.write_text('{"beats": 1}')
    settle_alone(run)
    assert run.state()["state"] == "running"
    old = time.time() - 2 * run_queue.AWAY_S
    for path in (pulse, run.dir / "state.json"):
        os.utime(path, (old, old))
    settle_alone(run)
    assert run.state()["state"] == "failed"


def test_a_waiting_run_is_taken_out_of_the_queue_with_and_without_an_app(
    call, home, dataset, workers
):
    alone = create_run(home, Recipe(), dataset)
    code, out, _ = call("stop", alone.id, "--json")
    assert code == 0 and json.loads(out)["state"] == "stopped"
    first, second = (create_run(home, Recipe(), dataset) for _ in range(2))
    app = Scheduler(home)
    app.start()
    try:
        at_work(first)
        code, out, _ = call("stop", second.id, "--json")
        assert code == 0 and json.loads(out)["state"] == "stopped"
        assert call("stop", first.id)[0] == 0 and first.state()["state"] == "paused"
    finally:
        app.close()
    assert workers == [first]


def test_a_run_goes_on_only_after_its_last_worker_is_gone(run, workers, monkeypatch):
    MANNERS[run.id] = "lingering"
    process = start_worker(run)
    wait_for(run, "finished")
    assert lingers(run)
    monkeypatch.setattr(run_queue, "GRACE_S", 0.0)
    queue_again(run, foreground=True, changes={"max_steps": 8})
    assert process.wait() != 0 and not lingers(run)


def test_case_4_runs_of_a_machine_that_stops_are_saved_and_go_on_at_the_next_start(
    home, dataset, workers
):
    first, second = (create_run(home, Recipe(), dataset) for _ in range(2))
    app = Scheduler(home)
    app.start()
    at_work(first)
    app.pause_all(60.0)
    app.close()
    assert first.state()["state"] == "paused" and first.checkpoints()
    assert second.state()["state"] == "queued" and workers == [first]
    saved = first.state()["step"]
    again = Scheduler(home)
    again.start()
    try:
        wait_until(lambda: first.state()["state"] == "running" and first.state()["step"] > saved)
        assert second.state()["state"] == "queued"
        again.stop(second.id)
        again.stop(first.id)
        wait_for(first, "paused")
    finally:
        again.close()
    last = Scheduler(home)  # a stop by the user stays one
    last.start()
    last.close()
    assert first.state()["state"] == "paused"


def test_a_run_that_did_not_end_before_its_machine_goes_on_too(home, lost, workers):
    interrupt(lost)
    (lost.dir / "stop").unlink()  # it was killed before it saw it
    Scheduler(home).tick()
    assert workers == [lost] and not (lost.dir / "go_on").exists()


def test_runs_of_other_machines_do_not_stop_with_this_one(home, lost):
    write_json(lost.dir / "worker.json", {"host": "elsewhere", "pid": 1})
    Scheduler(home).pause_all(1.0)
    assert not lost.stop_requested()
