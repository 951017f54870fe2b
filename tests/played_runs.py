"""Runs played by fake_worker.py: how each behaves, and waiting for what it does."""

import time

from trainer_backend.home import read_json
from trainer_backend.runs.run import Run

MANNERS: dict[str, str] = {}  # run id -> how its worker behaves


def wait_until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def wait_for(run: Run, *states: str) -> str:
    wait_until(lambda: run.state()["state"] in states)
    return run.state()["state"]


def at_work(run: Run) -> None:
    """Until the worker has done a few steps."""
    wait_until(lambda: run.state()["state"] == "running" and run.state().get("step", 0) >= 2)


def pid_of(run: Run) -> int:
    return read_json(run.dir / "worker.json")["pid"]
