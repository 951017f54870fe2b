"""Starts, watches and ends worker processes.

What a worker does is train.py; who may start is scheduler.py.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from .checkpoints import committed
from .hardware import Hardware, hardware
from .home import read_json, write_json
from .runs import ACTIVE, Run

PACKAGE_PARENT = Path(__file__).resolve().parent.parent


def start_worker(run: Run, machine: Hardware | None = None) -> subprocess.Popen:
    """Start the worker of a run in its own process group, its output going to worker.log."""
    (run.dir / "stop").unlink(missing_ok=True)
    _set_state(run, state="preparing", updated_at=time.time(), error=None)
    with open(run.dir / "worker.log", "ab") as log:
        process = subprocess.Popen(
            worker_command(run, machine or hardware()),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=child_environment(TOKENIZERS_PARALLELISM="true"),
        )
    write_json(run.dir / "worker.json", {"pid": process.pid, "started": _start_time(process.pid)})
    return process


def child_environment(**more: str) -> dict[str, str]:
    """The environment of a process of ours that computes."""
    paths = [str(PACKAGE_PARENT), os.environ.get("PYTHONPATH", "")]
    return {
        # idle compute threads sleep instead of spinning: with chat or a browser beside a training
        # on few cores, spinning halved the speed of all of them
        "OMP_WAIT_POLICY": "PASSIVE",
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        **more,
    }


def worker_command(run: Run, machine: Hardware) -> list[str]:
    """The command of a run's worker: one process a GPU, by accelerate where there are several."""
    module = ["-m", "trainer_backend", "worker", str(run.dir)]
    if machine.kind == "cuda" and machine.num_devices > 1:
        launch = [sys.executable, "-m", "accelerate.commands.launch"]
        return [*launch, "--num_processes", str(machine.num_devices), *module]
    return [sys.executable, *module]


def settle(run: Run, returncode: int | None = None) -> None:
    """Write the end state of a run whose worker is gone without having written one."""
    state = run.state()
    if state["state"] not in ACTIVE:
        return
    kept = committed(run.dir / "checkpoints")
    if run.stop_requested():
        _set_state(run, state="paused" if kept else "stopped", ended_at=time.time(), progress=None)
        return
    step = kept[-1].step if kept else 0
    fix = (
        f"Resume goes on from step {step}." if kept else "Start it again; the log has the details."
    )
    error = {
        "what": _reason(returncode),
        "where": f"step {state.get('step') or 0} of {state.get('total_steps') or '?'}",
        "fix": fix,
    }
    _set_state(run, state="failed", ended_at=time.time(), error=error, progress=None)


def _reason(returncode: int | None) -> str:
    if returncode == -signal.SIGKILL:
        return "Training was ended by the system, most likely because memory ran out."
    if returncode is not None and returncode < 0:
        return f"The training process crashed ({signal.Signals(-returncode).name})."
    return "Training stopped unexpectedly."


def force_stop(run: Run) -> None:
    """End the worker's whole process group at once, if it is still the process that was started."""
    facts = read_json(run.dir / "worker.json") or {}
    pid = facts.get("pid")
    if pid and run.is_alive() and _start_time(pid) == facts.get("started"):
        os.killpg(pid, signal.SIGKILL)


def _start_time(pid: int) -> str | None:
    """When a process began as the system counts it: a reused process id does not match."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        done = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True
        )
        return done.stdout.strip() or None


def _set_state(run: Run, **facts) -> None:
    write_json(run.dir / "state.json", {**run.state(), **facts})
