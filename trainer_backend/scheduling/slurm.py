"""A Slurm job of a run, on its first machine: starts the processes, passes on a stop, settles."""

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from trainer_backend.errors import UserError
from trainer_backend.home import read_json, write_json
from trainer_backend.processes import identity, on_stop_signal
from trainer_backend.runs import Run, amend, enter, memory_kills, what_is_safe
from trainer_backend.runs.files import HEARTBEAT, STOP, WORKER
from trainer_backend.runs.watched.heartbeat import EVERY_S
from trainer_backend.scheduling.launch import Fleet, machine_line
from trainer_backend.scheduling.rank_watch import clear_ranks
from trainer_backend.scheduling.worker_process import LEFT_BEHIND, settle

FAILED = 1


def train_in_job(run: Run, fleet: Fleet) -> int:
    """Train a run on the machines of this job; returns srun's exit code, 0 after a stop.

    On SIGTERM (time limit ahead, or job cancelled) the run finishes its step and saves.
    """
    if _at_work(run):
        sys.stderr.write("Another worker trains this run: this job ends.\n")
        return FAILED
    if run.state()["state"] == "finished":  # one of several queued jobs
        sys.stderr.write("This run is finished.\n")
        return 0
    for name in (STOP, *LEFT_BEHIND):
        (run.dir / name).unlink(missing_ok=True)
    clear_ranks(run.dir)
    on_stop_signal(run.request_stop, ctrl_c=False)
    # takes no device of the app's machine; no scheduler may start or settle this run
    job: dict[str, object] = {"devices": [], "memory_kills": memory_kills()}
    write_json(run.dir / WORKER, job | identity(os.getpid()))
    amend(run.dir, foreground=True)
    attempt = run.state().get("attempt")
    code = subprocess.run(srun_command(run, fleet), check=False).returncode
    if run.state().get("attempt") == attempt:
        _fail_to_start(run, code)
    settle(run, code)
    if run.state()["state"] == "queued":  # out of memory: again with half the batch
        return train_in_job(run, fleet)
    return code if run.state()["state"] == "failed" else 0


def _at_work(run: Run) -> bool:
    """Whether a worker trains this run, also on a machine whose locks are not visible here."""
    if run.is_alive():
        return True
    before = read_json(run.dir / HEARTBEAT)
    if before is None:
        return False
    time.sleep(3 * EVERY_S)
    return read_json(run.dir / HEARTBEAT) not in (None, before)


def srun_command(run: Run, fleet: Fleet) -> list[str]:
    """The srun command that runs each machine's line; one that fails ends the others."""
    here = replace(fleet, host=meeting_place(_machines()), port=free_port(fleet.port))
    line = machine_line(run, here, "$SLURM_NODEID")
    return ["srun", "--kill-on-bad-exit=1", "bash", "-c", line]


def _machines() -> list[str]:
    """Host names of the job; the first is this machine's."""
    names = ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]]
    return subprocess.run(names, capture_output=True, text=True, check=True).stdout.split()


def meeting_place(machines: list[str]) -> str:
    """The address of this machine on the route to the second one; else its name.

    A machine's own name often resolves to its loopback address, which others cannot reach.
    """
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((machines[min(1, len(machines) - 1)], 9))  # sends nothing
        return probe.getsockname()[0]
    return machines[0]


def free_port(asked: int) -> int:
    """The port asked for, or another free one if it is in use."""
    for port in (asked, 0):
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
            return probe.getsockname()[1]
    return asked


def _fail_to_start(run: Run, code: int) -> None:
    if not code or run.stop_requested():
        return
    error = UserError(
        f"The training processes could not be started (srun ended with {code}).",
        f"Slurm job {os.environ.get('SLURM_JOB_ID', '')}",
        "See the end of the log for the reason, then submit the job again.",
        code="exit_code",
    )
    facts = {**error.to_dict(), "user": False, "safe": what_is_safe(run)}
    enter(run.dir, "failed", error=facts)


def main() -> int:
    """RUN_FOLDER NODES PROCESSES_PER_NODE PORT of the command line; returns the exit code."""
    folder, nodes, each, port = sys.argv[1:]
    return train_in_job(Run(Path(folder)), Fleet(int(nodes), int(each), port=int(port)))
