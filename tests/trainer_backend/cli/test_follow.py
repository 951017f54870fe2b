"""A run in the terminal: what is shown, and what ends it. fake_worker.py plays the worker."""

import os
import signal
import threading

import pytest
from played_runs import MANNERS, at_work, pid_of, wait_until
from run_files import set_state

from trainer_backend.cli.follow import follow, progress_line
from trainer_backend.scheduling import watchdog


def in_the_background(act) -> threading.Thread:
    """Do something to a run while the test's own thread follows it."""
    thread = threading.Thread(target=act)
    thread.start()
    return thread


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_case_4_a_signal_saves_and_pauses_the_run_it_follows(run, workers, capsys, sign):
    def interrupt():
        at_work(run)
        os.kill(os.getpid(), sign)

    before = signal.signal(sign, signal.SIG_IGN)  # as a shell starts what runs in the background
    helper = in_the_background(interrupt)
    try:
        assert follow(run, as_json=True) == 0
        assert signal.getsignal(sign) == signal.SIG_IGN
    finally:
        signal.signal(sign, before)
    helper.join()
    assert run.state()["state"] == "paused" and run.checkpoints()
    assert "Finishing the step" in capsys.readouterr().err


def test_case_5_a_second_signal_ends_it_at_once(run, workers, capsys):
    MANNERS[run.id] = "deaf"

    def interrupt():
        at_work(run)
        os.kill(os.getpid(), signal.SIGINT)
        wait_until(run.stop_requested)
        os.kill(os.getpid(), signal.SIGINT)

    helper = in_the_background(interrupt)
    assert follow(run, as_json=True) == 0
    helper.join()
    assert "was killed" in capsys.readouterr().err and run.state()["state"] == "paused"


def test_case_33_no_progress_is_said_and_an_unheard_stop_ends_it_after_the_limit(
    run, workers, monkeypatch, capsys
):
    MANNERS[run.id] = "deaf"
    facts = {"phase": "running", "marks": 7, "beats": 7, "idle_seconds": 0.0, "limit_seconds": 0.1}
    monkeypatch.setattr(watchdog, "_read", lambda run: facts)
    lines = []

    def stop():
        at_work(run)
        wait_until(run.stalled)
        lines.append(progress_line(run))
        run.request_stop()

    helper = in_the_background(stop)
    assert follow(run, as_json=True) == 0
    helper.join()
    assert "no progress for" in lines[0] and run.state()["state"] == "paused"
    assert run.stalled() is None


def test_a_failure_is_told_with_what_is_safe(run, workers, capsys):
    def kill():
        at_work(run)
        os.kill(pid_of(run), signal.SIGKILL)

    helper = in_the_background(kill)
    assert follow(run, as_json=True) == 1
    helper.join()
    said = capsys.readouterr().err
    assert "ended from outside" in said and "fix:" in said and "step 1 is safe" in said
    assert "retry" not in said


def test_an_offer_is_told_as_the_command_that_takes_it(run, workers, capsys, monkeypatch):
    error = {"what": "a", "where": "b", "fix": "c", "offer": {"retry": {"learning_rate": 1e-5}}}

    def fail():
        at_work(run)
        os.kill(pid_of(run), signal.SIGKILL)

    def settle(run, returncode):
        set_state(run, state="failed", error=error)

    monkeypatch.setattr("trainer_backend.cli.follow.settle", settle)
    helper = in_the_background(fail)
    assert follow(run, as_json=True) == 1
    helper.join()
    assert f"python -m trainer_backend retry {run.id}" in capsys.readouterr().err


def test_the_line_of_the_terminal_says_what_goes_on(run):
    set_state(run, state="preparing")
    assert progress_line(run) == "preparing  Starting the training process"
    rows = {"what": "Turning text into tokens", "done": 5, "total": 40, "unit": "rows"}
    set_state(run, progress=rows)
    assert progress_line(run) == "preparing  Turning text into tokens 5/40 rows"
    steps = {"step": 5, "total_steps": 10, "loss": 0.25, "eta_seconds": 3671.2}
    set_state(run, state="running", progress=None, **steps)
    bar = "█" * 15 + "·" * 15
    assert progress_line(run) == f"running  [{bar}] 5/10  1:01:11 left  loss 0.2500"
    set_state(run, state="paused")
    assert progress_line(run) == f"paused  [{bar}] 5/10  loss 0.2500"
