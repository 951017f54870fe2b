"""The scheduler: queue order, devices, stop, resume, lost workers, one app a home.

A real child process (fake_worker.py) stands in for the worker: it holds the run's lock, beats and
writes as the worker does.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from played_runs import MANNERS, at_work, pid_of, wait_for, wait_until
from run_files import set_state

from trainer_backend.errors import UserError
from trainer_backend.hardware import Hardware
from trainer_backend.home import read_json, write_json
from trainer_backend.processes import PACKAGE_PARENT, identity
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import create_run, list_runs
from trainer_backend.runs.run import Run
from trainer_backend.scheduling import scheduler as scheduler_module
from trainer_backend.scheduling import watchdog
from trainer_backend.scheduling.scheduler import Scheduler
from trainer_backend.scheduling.worker_process import force_stop, settle, start_worker


@contextmanager
def driving(home):
    """A scheduler at work; how workers behave must be said before."""
    one = Scheduler(home)
    one.start()
    try:
        yield one
    finally:
        one.close()


@pytest.fixture
def scheduler(home, workers):
    with driving(home) as one:
        yield one


def test_case_45_a_second_run_on_one_device_waits_with_its_position(home, dataset, scheduler):
    first, second = (create_run(home, Recipe(), dataset) for _ in range(2))
    at_work(first)
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


def test_case_44_a_queue_keeps_its_order_over_a_cancel_and_a_restart(home, dataset, workers):
    runs = [create_run(home, Recipe(), dataset) for _ in range(5)]
    MANNERS.update(dict.fromkeys((run.id for run in runs), "finish"))
    one = Scheduler(home)
    one.stop(runs[2].id)
    one.tick()
    again = Scheduler(home)  # the first app is gone; its worker goes on
    again.start()
    try:
        left = [run for run in runs if run != runs[2]]
        wait_until(lambda: all(run.state()["state"] == "finished" for run in left))
    finally:
        again.close()
        one._workers[runs[0].id].wait()
    assert workers == left and all(run.state()["attempt"] == 1 for run in left)
    assert runs[2].state()["state"] == "stopped"


def test_a_run_that_is_working_cannot_be_resumed(run, scheduler):
    at_work(run)
    with pytest.raises(UserError):
        scheduler.resume(run.id)


def test_case_1_a_killed_worker_is_told_at_once_and_resumes_from_its_checkpoint(run, scheduler):
    at_work(run)
    os.kill(pid_of(run), signal.SIGKILL)
    wait_for(run, "failed")
    error = run.state()["error"]
    assert "ended from outside" in error["what"] and "of 1000" in error["where"]
    assert error["code"] == "killed" and "step 1 is safe" in error["safe"]
    scheduler.resume(run.id)
    at_work(run)
    assert run.state()["attempt"] == 2


def test_case_4_sigterm_saves_and_pauses(run, scheduler):
    at_work(run)
    os.kill(pid_of(run), signal.SIGTERM)
    assert wait_for(run, "paused", "finished", "failed") == "paused"
    assert run.checkpoints()[-1].step == run.state()["step"]


def test_case_5_a_double_click_on_stop_is_one_stop_and_a_late_one_changes_nothing(run, scheduler):
    at_work(run)
    scheduler.stop(run.id)
    scheduler.stop(run.id)
    wait_for(run, "paused")
    assert run.checkpoints()[-1].step == run.state()["step"]
    set_state(run, state="finished")
    scheduler.stop(run.id)
    assert run.state()["state"] == "finished"


def test_case_6_a_second_stop_ends_a_worker_that_does_not_listen(run, scheduler, monkeypatch):
    at_work(run)
    os.kill(pid_of(run), signal.SIGSTOP)
    monkeypatch.setattr(scheduler_module, "FORCE_AFTER_S", 0.0)
    scheduler.stop(run.id)
    scheduler.stop(run.id)
    assert wait_for(run, "paused", "stopped") == "paused"
    assert "was killed" in run.state()["warnings"][-1] and run.checkpoints()[-1].step == 1


def test_case_6_a_worker_that_ignores_a_stop_is_ended_after_the_limit(
    home, run, workers, monkeypatch
):
    MANNERS[run.id] = "deaf"
    monkeypatch.setattr(watchdog, "REPORT_EVERY_S", 0.0)
    facts = {"phase": "running", "marks": 7, "beats": 7, "idle_seconds": 0.0, "limit_seconds": 0.3}
    monkeypatch.setattr(watchdog, "_read", lambda run: facts)
    with driving(home) as scheduler:
        at_work(run)
        wait_until(lambda: run.stalled() is not None)
        assert run.summary()["no_progress"]["phase"] == "running" and run.is_alive()
        scheduler.stop(run.id)
        assert wait_for(run, "paused")
        wait_until(lambda: run.stalled() is None)


def test_case_7_twenty_starts_with_one_key_make_one_run(home, dataset, scheduler):
    found, threads = [], []
    for _ in range(20):
        start = lambda: found.append(create_run(home, Recipe(), dataset, key="click"))  # noqa: E731
        threads.append(threading.Thread(target=start))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20 and len(set(found)) == 1 and list_runs(home) == [found[0]]
    at_work(found[0])
    assert found[0].state()["attempt"] == 1


def test_case_2_workers_outlive_the_app_and_are_found_again(home, run, scheduler):
    at_work(run)
    process = scheduler._workers.pop(run.id)
    scheduler.close()
    again = Scheduler(home)
    again.start()
    try:
        before = run.state()["step"]
        wait_until(lambda: run.state()["step"] > before + 2)
        again.stop(run.id)
        wait_for(run, "paused")
    finally:
        again.close()
        process.wait()
    assert [row["step"] for row in run.metrics()] == list(range(1, run.state()["step"] + 1))


def test_case_3_after_a_reboot_the_run_is_lost_not_running(home, run, workers):
    boot = {**identity(os.getpid()), "boot": "of an earlier start of the machine"}
    write_json(run.dir / "worker.json", boot)  # the pid lives, but it is another process now
    set_state(run, state="running", step=3, total_steps=9)
    one = Scheduler(home)
    one.tick()
    assert run.state()["state"] == "failed" and run.state()["error"]["code"] == "lost_worker"
    one.resume(run.id)
    assert run.state()["state"] == "queued"


def test_a_run_lost_while_no_app_ran_is_settled_at_the_next_start(home, run):
    set_state(run, state="running", step=3, total_steps=9)
    Scheduler(home).tick()
    assert run.state()["state"] == "failed" and run.state()["error"]["fix"]


def test_a_run_somebody_just_started_elsewhere_is_left_alone(home, run, monkeypatch):
    set_state(run, state="preparing")
    one = Scheduler(home)
    one.tick()
    assert run.state()["state"] == "preparing"
    monkeypatch.setattr(scheduler_module, "GRACE_S", 0.0)
    one.tick()
    assert run.state()["state"] == "failed"


def test_a_run_that_trains_on_another_machine_is_left_alone(home, run):
    set_state(run, state="running", step=3, total_steps=9)
    (run.dir / "heartbeat.json").write_text('{"beats": 1, "marks": 1}')
    Scheduler(home).tick()
    assert run.state()["state"] == "running"


def test_an_interrupted_deletion_is_completed_at_the_next_start(home, run, workers):
    (home / "runs" / ".trash-run-1").mkdir()
    one = Scheduler(home)
    one.start()
    one.close()
    assert not (home / "runs" / ".trash-run-1").exists()


def test_case_8_a_second_app_on_one_home_is_refused_and_told_who_holds_it(home, scheduler):
    code = (
        "import sys; from pathlib import Path\n"
        "from trainer_backend.scheduling.scheduler import Scheduler\n"
        "from trainer_backend.errors import UserError\n"
        "try:\n    Scheduler(Path(sys.argv[1])).start()\n"
        "except UserError as error:\n    print(error.where, error.code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home)], capture_output=True, text=True, cwd=PACKAGE_PARENT
    )
    assert str(os.getpid()) in done.stdout and "home_in_use" in done.stdout


def test_case_9_a_stranger_with_the_workers_old_pid_is_never_ended(home, run):
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        write_json(run.dir / "worker.json", {**identity(stranger.pid), "started": "1"})
        (run.dir / "run.lock").touch()  # a lock file without a holder
        set_state(run, state="running", step=1, total_steps=2)
        assert not force_stop(run) and not run.is_alive()
        Scheduler(home).tick()
        assert run.state()["state"] == "failed" and stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_case_10_a_grandchild_does_not_hold_the_lock(home, run, workers):
    MANNERS[run.id] = "grandchild"
    with driving(home):
        at_work(run)
        os.kill(pid_of(run), signal.SIGKILL)
        wait_for(run, "failed")
    assert not run.is_alive()


@pytest.mark.parametrize(("manner", "code"), [("segfault", "crashed"), ("exit", "exit_code")])
def test_case_32_a_crash_has_its_words_and_the_log_its_last_lines(home, run, workers, manner, code):
    MANNERS[run.id] = manner
    with driving(home):
        wait_for(run, "failed")
    assert run.state()["error"]["code"] == code
    assert manner != "exit" or "last words" in run.log_tail()


def test_case_36_a_jumping_clock_starts_and_ends_nothing(home, run, scheduler, monkeypatch):
    at_work(run)
    real = time.time
    for hours in (-1, 1):
        monkeypatch.setattr(time, "time", lambda hours=hours: real() + 3600 * hours)
        before = run.state()["step"]
        wait_until(lambda before=before: run.state()["step"] > before + 2)
        assert run.state()["state"] == "running" and run.stalled() is None
    scheduler.stop(run.id)
    scheduler.stop(run.id)  # an hour later by the clock, a moment by the watch: no force
    wait_for(run, "paused")
    assert not run.state().get("warnings")


def test_a_late_settling_never_relabels_a_finished_run(run):
    set_state(run, state="finished")
    settle(run, -signal.SIGKILL)
    assert run.state()["state"] == "finished"


def test_a_full_disk_does_not_end_the_scheduler(home, run, workers, monkeypatch):
    calls = []

    def full(*args):
        calls.append(1)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scheduler_module, "start_worker", full)
    with driving(home):
        wait_until(lambda: len(calls) > 2)
        monkeypatch.setattr(scheduler_module, "start_worker", start_worker)
        at_work(run)


def test_a_run_that_cannot_be_settled_holds_up_no_other_and_keeps_how_it_ended(
    home, run, dataset, workers, monkeypatch
):
    MANNERS[run.id], other, full = "exit", create_run(home, Recipe(), dataset), [1]

    def no_room(one: Run, *code) -> None:
        if one == run and full:
            raise OSError(28, "No space left on device")
        settle(one, *code)

    monkeypatch.setattr(scheduler_module, "settle", no_room)
    with driving(home):
        at_work(other)  # its turn comes when the first is gone
        assert run.state()["state"] == "running"
        full.clear()
        wait_for(run, "failed")
        assert run.state()["error"]["code"] == "exit_code"


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine of two GPUs, as the scheduler and the launcher see it."""
    machine = Hardware("cuda", "Test GPU", 2, 24.0, 24.0, 8, True)
    for room in ("scheduler", "launch"):
        monkeypatch.setattr(f"trainer_backend.scheduling.{room}.hardware", lambda: machine)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def devices_of(run: Run) -> list[int]:
    return read_json(run.dir / "worker.json")["devices"]


def test_runs_of_one_process_share_two_gpus_and_a_larger_one_is_not_overtaken(
    home, dataset, workers, two_gpus
):
    small = Recipe(num_processes=1)
    first, second = (create_run(home, small, dataset) for _ in range(2))
    both = create_run(home, Recipe(num_processes=2), dataset)
    last = create_run(home, small, dataset)
    one = Scheduler(home)
    one.tick()
    assert [devices_of(first), devices_of(second)] == [[0], [1]]
    assert workers == [first, second] and one.queue_position(last.id) == 2
    at_work(first)
    at_work(second)
    environment = Path(f"/proc/{pid_of(second)}/environ").read_bytes().split(b"\0")
    assert b"CUDA_VISIBLE_DEVICES=1" in environment
    one.stop(first.id)
    wait_for(first, "paused")
    one.tick()
    assert workers == [first, second]  # both GPUs are needed: the last one waits behind it
    one.stop(second.id)
    wait_for(second, "paused")
    wait_until(lambda: one.tick() or workers[-1] == both)  # when the second one's process is gone
    assert devices_of(both) == [0, 1] and last.state()["state"] == "queued"


def test_a_device_is_free_when_its_last_worker_is_gone_not_when_it_says_so(
    home, dataset, workers, monkeypatch
):
    first, second = (create_run(home, Recipe(), dataset) for _ in range(2))
    MANNERS[first.id] = "lingering"
    one = Scheduler(home)
    one.tick()
    wait_for(first, "finished")
    one.resume(first.id, {"num_train_epochs": 9.0})
    for _ in range(3):
        one.tick()  # neither the next run, nor the same one again
    assert workers == [first] and second.state()["state"] == first.state()["state"] == "queued"
    monkeypatch.setattr(scheduler_module, "GRACE_S", 0.0)  # it never goes by itself
    wait_until(lambda: one.tick() or workers == [first, second])


def test_a_worker_file_that_holds_anything_takes_every_device(home, run, two_gpus):
    write_json(run.dir / "worker.json", {"devices": 3})
    assert Scheduler(home)._taken_by(run) == [0, 1]


def test_gpus_are_named_as_this_process_may_see_them(run, monkeypatch):
    from trainer_backend.scheduling.worker_process import visible_devices

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-8f")
    assert visible_devices([1]) == ["GPU-8f"] and visible_devices(None) is None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_devices([1]) == ["1"]
