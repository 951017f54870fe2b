"""A Slurm job of a run, with stand-ins for Slurm's commands: srun runs the line on this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import fake_worker
import pytest

from trainer_backend.home import write_json
from trainer_backend.processes import PACKAGE_PARENT
from trainer_backend.runs.writer import RunWriter
from trainer_backend.scheduling import slurm
from trainer_backend.scheduling.launch import Fleet, leave_to_others, slurm_script
from trainer_backend.scheduling.slurm import free_port, meeting_place, train_in_job

SCONTROL = "#!/bin/sh\nprintf 'localhost\\nlocalhost\\n'\n"
SRUN = '#!/bin/sh\nshift\nSLURM_NODEID=0 exec "$@"\n'


def played(run, manner: str) -> str:
    """A shell line that plays a worker in a manner of fake_worker.py."""
    script = Path(fake_worker.__file__)
    return f"PYTHONPATH={PACKAGE_PARENT} exec {sys.executable} {script} {run.dir} {manner}"


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Slurm's commands on the path, in a job of two machines that are both this one."""
    for name, text in (("scontrol", SCONTROL), ("srun", SRUN)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "node[1-2]")
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def plays(monkeypatch):
    """Let the line of a machine play a worker."""

    def set_to(manner: str) -> None:
        monkeypatch.setattr(slurm, "machine_line", lambda run, *_: played(run, manner))

    return set_to


@pytest.fixture
def job(run, cluster):
    leave_to_others(run)
    return run


def test_a_job_trains_to_the_end_and_no_scheduler_takes_its_run(job, plays):
    plays("finish")
    assert train_in_job(job, Fleet(2, 1)) == 0
    state = job.state()
    assert state["state"] == "finished" and state["foreground"] is True
    events = job.events()[0]
    assert train_in_job(job, Fleet(2, 1)) == 0  # one more of several jobs in a row
    assert job.events()[0] == events


def test_how_the_processes_ended_is_the_end_of_the_run(job, plays):
    plays("segfault")
    assert train_in_job(job, Fleet(2, 1)) != 0
    state = job.state()
    assert state["state"] == "failed" and state["error"]["code"] == "crashed"


def test_the_reason_of_a_lost_process_is_told(job, plays, monkeypatch, tmp_path):
    plays("exit")
    error = {"what": "No memory.", "where": "process 1 of 2", "fix": "Halve it.", "code": "x"}
    write_json(tmp_path / "said", {"rank": 1, "state": "lost", "error": error, "t": time.time()})
    alone, folder = slurm.machine_line, job.dir / "ranks"

    def line(*fleet) -> str:
        return f"mkdir {folder}; cp {tmp_path}/said {folder}/rank-1.json; {alone(*fleet)}"

    monkeypatch.setattr(slurm, "machine_line", line)
    train_in_job(job, Fleet(2, 1))
    assert job.state()["error"]["what"] == "No memory."


def test_processes_that_cannot_be_started_are_a_failure(job, monkeypatch):
    monkeypatch.setattr(slurm, "machine_line", lambda *_: "exit 2")
    assert train_in_job(job, Fleet(2, 1)) == 2
    state = job.state()
    assert state["state"] == "failed" and "could not be started" in state["error"]["what"]


def test_a_second_job_leaves_a_run_at_work_alone(job, monkeypatch, capfd):
    monkeypatch.setattr(slurm, "machine_line", lambda *_: "exit 2")
    monkeypatch.setattr(slurm, "EVERY_S", 0.05)
    job.request_stop()
    before = job.state()
    with job.lock():
        assert train_in_job(job, Fleet(2, 1)) == 1
    assert "Another worker" in capfd.readouterr().err
    assert job.stop_requested() and job.state() == before and not (job.dir / "worker.json").exists()


def test_a_pulse_counts_where_a_lock_of_another_machine_is_not_seen(job, monkeypatch):
    beats = iter(range(10))
    monkeypatch.setattr(slurm, "read_json", lambda path: {"beats": next(beats)})
    monkeypatch.setattr(slurm, "EVERY_S", 0.0)
    assert train_in_job(job, Fleet(2, 1)) == 1
    monkeypatch.setattr(slurm, "read_json", lambda path: {"beats": 7})  # left by a dead one
    assert not slurm._at_work(job)


def test_the_memory_running_out_starts_the_processes_again(job, plays, monkeypatch):
    plays("finish")
    real, starts = slurm.srun_command, []

    def command(run, fleet):
        starts.append(fleet)
        if len(starts) > 1:
            return real(run, fleet)
        RunWriter(run).enter("queued")
        return ["true"]

    monkeypatch.setattr(slurm, "srun_command", command)
    assert train_in_job(job, Fleet(2, 1)) == 0
    assert len(starts) == 2 and job.state()["state"] == "finished"


def test_machines_meet_at_an_address_the_second_one_reaches():
    assert meeting_place(["localhost", "127.0.0.1"]) == "127.0.0.1"
    assert meeting_place(["localhost"]) == "127.0.0.1"
    assert meeting_place(["first", "no-such-machine.invalid"]) == "first"


def test_a_port_in_use_is_left_to_its_user():
    with socket.socket() as user:
        user.bind(("", 0))
        user.listen()
        taken = user.getsockname()[1]
        assert free_port(taken) not in (taken, 0)
    assert free_port(taken) == taken


def test_the_script_saves_when_its_time_is_nearly_over(job, cluster):
    script = slurm_script(job, Fleet(1, 1, port=29500))
    (cluster / "srun").write_text(f"#!/bin/sh\n{played(job, 'steady')}\n")
    process = subprocess.Popen(["bash", "-c", script], stderr=subprocess.PIPE, text=True)
    while job.state().get("step", 0) < 2:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.terminate()
    assert process.wait(30) == 0
    assert job.state()["state"] == "paused" and job.checkpoints()
