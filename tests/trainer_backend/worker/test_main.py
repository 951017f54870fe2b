"""The worker as a process: its signals, its lock, its log; what it must not keep."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_files import set_state
from small_runs import small_run, weights_hash

from trainer_backend.home import read_json
from trainer_backend.runs.files import ROWS
from trainer_backend.scheduling.rank_watch import RankWatch
from trainer_backend.scheduling.worker_process import force_stop, settle, start_worker
from trainer_backend.training.sft_trainer import SFTTrainer
from trainer_backend.worker.main import run_worker
from trainer_backend.worker.recorder import RecordRun
from trainer_backend.worker.saving import Saving

CANARY = "hf_CanaryCanaryCanary0123456789"


def wait_until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def started(home, dataset, tiny_model_dir, monkeypatch):
    """A worker of its own, well into its steps, with secrets in its environment."""
    for name in ("HF_TOKEN", "WANDB_API_KEY"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = small_run(home, dataset, tiny_model_dir, max_steps=5000, save_steps=2, eval_fraction=0.0)
    process = start_worker(run)
    wait_until(lambda: process.poll() is not None or len(run.checkpoints()) == 2)
    assert process.poll() is None, run.log_tail()
    yield run, process
    process.kill()
    process.wait()


def test_case_1_2_3_4_and_35_a_worker_of_its_own(started, tmp_path):
    run, process = started
    # it has its own session and writes into a file: no terminal, browser or pipe can end it
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    assert os.readlink(f"/proc/{process.pid}/fd/1") == str(run.dir / "worker.log")
    second = subprocess.run(
        [sys.executable, "-m", "trainer_backend", "worker", str(run.dir)],
        capture_output=True,
        text=True,
    )
    assert second.returncode == 1 and "Another worker" in second.stderr
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    settle(run, process.returncode)
    kept = run.checkpoints()[-1].step
    assert run.state()["error"]["code"] == "killed" and not run.is_alive()
    assert f"step {kept}" in run.state()["error"]["safe"]

    again = start_worker(run)
    wait_until(lambda: again.poll() is not None or run.checkpoints()[-1].step > kept)
    os.kill(again.pid, signal.SIGTERM)
    assert again.wait(timeout=60) == 0, run.log_tail()
    state = run.state()
    assert state["state"] == "paused" and run.checkpoints()[-1].step == state["step"]
    steps = [row["step"] for row in run.metrics() if row["type"] == "metrics"]
    assert steps == list(range(1, state["step"] + 1))
    resumed = [event["step"] for event in run.events()[0] if event["type"] == "resumed"]
    assert resumed == [0, kept]
    for path in run.dir.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


def test_a_partner_that_is_lost_after_the_end_changes_nothing(run, monkeypatch):
    """The others may be gone while the first process still tidies up."""
    told, exits = [], []

    class Watch(RankWatch):
        def __init__(self, folder, on_lost):
            super().__init__(folder, on_lost)
            told.append(on_lost)

    def train(run, writer):
        assert run.state()["state"] == "preparing"  # the worker's first word
        (run.dir / ROWS).mkdir()
        for state in ("running", "finished"):
            writer.enter(state)
        told[0]({"what": "gone", "where": "process 2", "fix": "Resume.", "code": "rank_failed"})

    monkeypatch.setattr("trainer_backend.worker.main.RankWatch", Watch)
    monkeypatch.setattr("trainer_backend.worker.main.os._exit", exits.append)
    monkeypatch.setattr("trainer_backend.worker.train.train", train)
    set_state(run, state="failed")
    assert run_worker(run.dir) == 0 and len(exits) == 1
    assert run.state()["state"] == "finished" and run.state()["error"] is None
    assert not (run.dir / ROWS).exists()  # a worker leaves no rows behind


def test_a_worker_whose_pid_is_gone_is_not_ended_twice(run):
    assert not force_stop(run)


def test_no_secret_of_a_traceback_is_kept(home, dataset, tiny_model_dir, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", CANARY)
    run = small_run(home, dataset, tiny_model_dir)

    def fail(*args, **kwargs):
        raise RuntimeError(f"403 for https://user:{CANARY}@hub/x")

    monkeypatch.setattr("trainer_backend.worker.train.fetch_model", fail)
    assert run_worker(run.dir) == 1
    assert "403 for" in run.state()["error"]["what"]
    for path in run.dir.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


STOPS = {
    "load": (SFTTrainer, "__init__"),
    "save": (Saving, "save"),
    "evaluation": (RecordRun, "on_prediction_step"),
}


@pytest.mark.parametrize("when", STOPS)
def test_case_5_a_stop_during_load_save_or_evaluation_is_one_stop(
    home, dataset, tiny_model_dir, monkeypatch, when
):
    run = small_run(home, dataset, tiny_model_dir, max_steps=6)
    room, name = STOPS[when]
    original = getattr(room, name)

    def stop_here(self, *args, **kwargs):
        run.request_stop()
        return original(self, *args, **kwargs)

    monkeypatch.setattr(room, name, stop_here)
    assert run_worker(run.dir) == 0
    state = run.state()
    assert state["state"] == ("stopped" if when == "load" else "paused")
    if when != "load":
        assert state["step"] <= 3 and run.checkpoints()[-1].step == state["step"]
    assert read_json(run.dir / "heartbeat.json") is None


def test_case_5_a_stop_after_the_end_never_relabels_the_run(finished):
    before = weights_hash(finished)
    finished.request_stop()
    settle(finished, 0)
    assert finished.state()["state"] == "finished" and weights_hash(finished) == before


def test_case_39_a_run_is_deleted_whole_or_not_at_all(finished, monkeypatch):
    from trainer_backend.errors import UserError
    from trainer_backend.runs import run as run_folder
    from trainer_backend.runs.create import list_runs

    with finished.lock(), pytest.raises(UserError):
        finished.delete()
    set_state(finished, state="running")
    with pytest.raises(UserError):
        finished.delete()
    set_state(finished, state="finished")

    def interrupted(path):
        (Path(path) / "spec.json").unlink()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(run_folder.shutil, "rmtree", interrupted)
    with pytest.raises(OSError):
        finished.delete()
    assert list_runs(finished.home) == [] and not finished.dir.exists()  # gone, never half there


def test_case_38_the_list_of_runs_is_made_of_their_folders_alone(finished, home):
    import shutil

    from trainer_backend.runs.create import list_runs

    shutil.rmtree(home / "runs" / ".keys", ignore_errors=True)
    (home / "scheduler.json").write_text("{")
    assert list_runs(home) == [finished]
