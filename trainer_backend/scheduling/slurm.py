"""What a Slurm job of a run does on its first machine: start the processes, pass on a stop, settle.

The script that starts it and the line of each machine are launch.py.
"""

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
from trainer_backend.runs.heartbeat import EVERY_S
from trainer_backend.scheduling.launch import Fleet, machine_line
from trainer_backend.scheduling.rank_watch import clear_ranks
from trainer_backend.scheduling.worker_process import LEFT_BEHIND, settle

FAILED = 1


def train_in_job(run: Run, fleet: Fleet) -> int:
    """Train a run on the machines of this job; returns 0 also after a stop, else what srun said.

    SIGTERM (the time is nearly over, or the job was cancelled) finishes the step and saves.
    """
    if _at_work(run):
        sys.stderr.write("Another worker holds this run: this job leaves it alone.\n")
        return FAILED
    if run.state()["state"] == "finished":  # the last of several jobs in a row
        sys.stderr.write("This run is finished: there is nothing left to do.\n")
        return 0
    for name in (STOP, *LEFT_BEHIND):
        (run.dir / name).unlink(missing_ok=True)
    clear_ranks(run.dir)
    on_stop_signal(run.request_stop, ctrl_c=False)
    # no device of the app's machine is taken, and no scheduler may start or judge this run
    job = {**identity(os.getpid()), "devices": [], "memory_kills": memory_kills()}
    write_json(run.dir / WORKER, job)
    amend(run.dir, foreground=True)
    attempt = run.state().get("attempt")
    code = subprocess.run(srun_command(run, fleet), check=False).returncode
    if run.state().get("attempt") == attempt:
        _say_never_began(run, code)
    settle(run, code)
    if run.state()["state"] == "queued":  # the memory ran out: once more with half the batch
        return train_in_job(run, fleet)
    return code if run.state()["state"] == "failed" else 0


def _at_work(run: Run) -> bool:
    """Whether a worker has this run, also on a machine whose locks are not seen here."""
    if run.is_alive():
        return True
    before = read_json(run.dir / HEARTBEAT)
    if before is None:
        return False
    time.sleep(3 * EVERY_S)
    return read_json(run.dir / HEARTBEAT) not in (None, before)


def srun_command(run: Run, fleet: Fleet) -> list[str]:
    """How Slurm starts the line of each machine; the first that fails ends the others."""
    here = replace(fleet, host=meeting_place(_machines()), port=free_port(fleet.port))
    line = machine_line(run, here, "$SLURM_NODEID")
    return ["srun", "--kill-on-bad-exit=1", "bash", "-c", line]


def _machines() -> list[str]:
    """Names of the job's machines; the first is this one."""
    names = ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]]
    return subprocess.run(names, capture_output=True, text=True, check=True).stdout.split()


def meeting_place(machines: list[str]) -> str:
    """The address of this machine that the second one reaches; else its name.

    A machine's own name often stands for its loopback, which the others cannot reach.
    """
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((machines[min(1, len(machines) - 1)], 9))  # sends nothing
        return probe.getsockname()[0]
    return machines[0]


def free_port(asked: int) -> int:
    """This port of this machine, or any other one when something listens there already."""
    for port in (asked, 0):
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
            return probe.getsockname()[1]
    return asked


def _say_never_began(run: Run, code: int) -> None:
    """No process came as far as the run's state."""
    if not code or run.stop_requested():
        return
    error = UserError(
        f"The training processes could not be started (srun ended with {code}).",
        f"Slurm job {os.environ.get('SLURM_JOB_ID', '')}",
        "The end of the log says why. Submit the job again when that is mended.",
        code="exit_code",
    )
    facts = {**error.to_dict(), "user": False, "safe": what_is_safe(run)}
    enter(run.dir, "failed", error=facts)


def main() -> int:
    """RUN_FOLDER NODES PROCESSES_PER_NODE PORT of the command line; returns the exit code."""
    folder, nodes, each, port = sys.argv[1:]
    return train_in_job(Run(Path(folder)), Fleet(int(nodes), int(each), port=int(port)))
