"""Processes of one run notice each other's end. The other process is a real one that sleeps."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from trainer_backend.processes import start_time
from trainer_backend.scheduling import rank_watch
from trainer_backend.scheduling.rank_watch import RankWatch, clear_ranks, kill_ranks, reason_of


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(rank_watch, "BEAT_S", 0.02)
    monkeypatch.setattr(rank_watch, "GRACE_S", 0.02)
    return tmp_path


def write(folder, state="working", error=None, pid=None, host=None):
    (folder / "ranks").mkdir(exist_ok=True)
    started = start_time(pid) if pid else None
    facts = {"rank": 1, "pid": pid or 2**30, "started": started, "state": state, "error": error}
    facts |= {"host": host or rank_watch.socket.gethostname(), "t": time.time()}
    (folder / "ranks" / "rank-1.json").write_text(json.dumps(facts))


class Watched:
    """A watch whose `on_lost` is remembered instead of ending this process."""

    def __init__(self, folder):
        self.lost, self.said = [], threading.Event()
        self.watch = RankWatch(folder, self._note)

    def _note(self, error):
        self.lost.append(error)
        self.said.set()

    def __enter__(self):
        self.watch.__enter__()
        return self

    def __exit__(self, *_):
        self.watch.__exit__()


ERROR = {"what": "No memory.", "where": "step 3", "fix": "Halve it.", "code": "out_of_memory"}


def test_a_killed_process_is_noticed_and_named(folder, sleeper):
    with Watched(folder) as watched:
        write(folder, pid=sleeper.pid)
        assert not watched.said.wait(0.2)
        sleeper.kill()
        sleeper.wait()
        assert watched.said.wait(10)
    error = watched.lost[0]
    assert "2 of 2" in error["what"] and error["code"] == "rank_failed"
    assert reason_of(folder) == error


def test_the_reason_of_a_failed_process_is_everybodys_reason(folder, sleeper):
    with Watched(folder) as watched:
        write(folder, "failed", ERROR, pid=sleeper.pid)
        assert watched.watch.cause() == ERROR
        assert watched.said.wait(10) and watched.lost == [ERROR]
    assert reason_of(folder) == ERROR


def test_an_own_failure_says_which_process_it_was(folder):
    with Watched(folder) as watched:
        watched.watch.report_end(ERROR)
    found = reason_of(folder)
    assert found["what"] == ERROR["what"] and found["where"] == "step 3, process 1 of 2"


def test_a_process_that_ended_well_is_no_failure(folder):
    with Watched(folder) as watched:
        write(folder, "done")
        assert not watched.said.wait(0.2)
    assert reason_of(folder) is None


def test_the_files_of_an_earlier_start_do_not_count(folder):
    write(folder, "failed", ERROR)
    with Watched(folder) as watched:
        assert not watched.said.wait(0.2)
    clear_ranks(folder)
    assert reason_of(folder) is None


def test_a_process_that_never_begins_is_told(folder, monkeypatch):
    monkeypatch.setattr(rank_watch, "START_S", 0.05)
    with Watched(folder) as watched:
        assert watched.said.wait(10)
    assert "did not start" in watched.lost[0]["what"]


def test_a_machine_that_falls_silent_is_told(folder, monkeypatch):
    monkeypatch.setattr(rank_watch, "SILENT_S", 0.3)
    with Watched(folder) as watched:
        for _ in range(20):
            write(folder, host="elsewhere")
            time.sleep(0.02)
        assert not watched.lost
        assert watched.said.wait(10)
    assert "elsewhere" in watched.lost[0]["where"]


def test_a_broken_connection_is_blamed_on_the_machine_that_fell_silent(folder):
    with Watched(folder) as watched:
        for _ in range(5):
            write(folder, host="elsewhere")
            time.sleep(0.02)
        cause = watched.watch.cause()
    assert "elsewhere" in cause["where"] and not watched.lost


def test_a_watch_goes_on_when_the_folder_is_cleared(folder, sleeper):
    with Watched(folder) as watched:
        clear_ranks(folder)
        time.sleep(0.1)
        write(folder, pid=sleeper.pid)
        time.sleep(0.1)
        sleeper.kill()
        sleeper.wait()
        assert watched.said.wait(10)


def test_one_process_alone_writes_nothing(folder, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    with Watched(folder) as watched:
        watched.watch.report_end()
        assert watched.watch.cause() is None
    assert list(folder.iterdir()) == []


def test_processes_can_be_ended_but_never_a_stranger(folder, sleeper):
    write(folder, pid=sleeper.pid)
    facts = json.loads((folder / "ranks" / "rank-1.json").read_text())
    stranger = {**facts, "started": str(int(facts["started"]) - 500)}
    (folder / "ranks" / "rank-1.json").write_text(json.dumps(stranger))
    kill_ranks(folder)
    assert sleeper.poll() is None
    write(folder, pid=sleeper.pid)
    kill_ranks(folder)
    assert sleeper.wait(10) == -signal.SIGKILL


CHILD = """
import sys, time
from pathlib import Path
from trainer_backend.scheduling.rank_watch import RankWatch
with RankWatch(Path(sys.argv[1]), lambda error: None):
    time.sleep(60)
"""
LAUNCHER = """
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]]).pid, flush=True)
sys.stdin.read()
"""


def test_processes_do_not_outlive_their_launcher(folder):
    command = [sys.executable, "-c", LAUNCHER, str(folder), CHILD]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    launcher = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    child = psutil.Process(int(launcher.stdout.readline()))
    while not (folder / "ranks" / "rank-0.json").exists():
        time.sleep(0.02)
    launcher.kill()
    launcher.wait()
    psutil.wait_procs([child], timeout=15)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
