"""How a run's training processes are started: one, several on this machine, on several machines.

What a process does is worker_main.py; how several notice each other's end is ranks.py; what a
Slurm job does around them is slurm_job.py.

accelerate starts one process a device. On a CPU `accelerate launch --cpu` would start a single one
(it leaves the rest to MPI), so there too it is asked as for several GPUs; without a GPU the
processes join over gloo (agree.py, sft_config.py).
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from trainer_backend.errors import UserError
from trainer_backend.hardware import hardware
from trainer_backend.processes import PACKAGE_PARENT
from trainer_backend.recipe import num_processes
from trainer_backend.runs import Run, enter
from trainer_backend.runs.files import LOG, SPEC

PORT = 29500  # where the processes of several machines meet
MEETING_S = 600  # what the first machine to be there waits for the last


@dataclass(frozen=True)
class Fleet:
    """Several machines with the same number of processes each."""

    nodes: int = 1
    processes_per_node: int = 1
    host: str = "127.0.0.1"  # the first machine, as the others reach it
    port: int = 0  # 0: any free one; several machines need a fixed one


def worker_command(run: Run, devices: Sequence[int] | None = None) -> list[str]:
    """The command of a run's worker on this machine, on the GPUs with these indices.

    None stands for all visible GPUs; on a CPU the recipe says how many processes, else one.
    """
    count = processes_here(run, devices)
    if count == 1:
        return [sys.executable, *_worker(run)]
    return [sys.executable, *accelerate_arguments(run, Fleet(1, count), "0", _threads(count))]


def processes_here(run: Run, devices: Sequence[int] | None = None) -> int:
    """Training processes a run has on this machine."""
    wanted = num_processes(run.recipe(), hardware())
    return min(wanted, len(devices)) if devices else wanted


def worker_environment(run: Run, devices: Sequence[int | str] | None = None) -> dict[str, str]:
    """What the worker's environment needs besides the usual: which GPUs it may see."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, devices))} if devices else {}


def accelerate_arguments(run: Run, fleet: Fleet, node: str, threads: str) -> list[str]:
    """Arguments of Python that start the processes of one machine; `node` is its number from 0.

    Everything is said, so that a configuration file of the user's changes nothing.
    """
    count = fleet.nodes * fleet.processes_per_node
    options = {
        "--num_processes": str(count),
        "--num_machines": str(fleet.nodes),
        "--machine_rank": node,
        "--main_process_ip": fleet.host,
        "--main_process_port": str(fleet.port),
        "--rdzv_conf": f"timeout={MEETING_S}",
        "--num_cpu_threads_per_process": threads,
        "--mixed_precision": "no",  # the recipe decides, and so does the trainer
        "--dynamo_backend": "no",
        "--gpu_ids": "all",
    }
    launch = ["-m", "accelerate.commands.launch"]
    launch += ["--multi_gpu"] if count > 1 else []
    return [*launch, *(part for pair in options.items() for part in pair), *_worker(run)]


def _worker(run: Run) -> list[str]:
    return ["-m", "trainer_backend", "worker", str(run.dir)]


def _threads(processes: int) -> str:
    return os.environ.get("OMP_NUM_THREADS") or str(max(1, hardware().cores // processes))


def check_fleet(run: Run, fleet: Fleet) -> None:
    """Raises UserError for a number of machines or processes that cannot be meant."""
    if not (1 <= fleet.nodes <= 1024 and 1 <= fleet.processes_per_node <= 1024):
        raise UserError(
            f"{fleet.nodes} machines with {fleet.processes_per_node} processes cannot be started.",
            "--nodes and --processes-per-node",
            "Use numbers from 1 to 1024.",
        )
    if run.is_alive() or run.state()["state"] == "queued":
        raise UserError("This run is at work or waits for it.", run.name(), "Stop it first.")


def leave_to_others(run: Run) -> None:
    """Mark a new run as one that this app does not start: it waits for its machines."""
    enter(run.dir, "stopped", ended_at=None)


def machine_commands(run: Run, fleet: Fleet) -> list[str]:
    """One shell line a machine, the first machine first; all are started at about the same time."""
    return [machine_line(run, fleet, str(node)) for node in range(fleet.nodes)]


def machine_line(run: Run, fleet: Fleet, node: str) -> str:
    """The shell line that starts one machine's processes; `node` may be a shell variable."""
    each, folder = fleet.processes_per_node, shlex.quote(str(run.dir))
    arguments = accelerate_arguments(run, fleet, node, "$THREADS")
    if fleet.nodes * each == 1:  # alone: how it ends is then seen from outside
        arguments = _worker(run)
    # after SIGTERM the launcher gives the processes as long as whoever sent it gives the launcher
    settings = [f"PYTHONPATH={PACKAGE_PARENT}", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT=3600"]
    words = shlex.join(["env", *settings, sys.executable, *arguments])
    for name in ("THREADS", "SLURM_NODEID"):  # for each machine's shell, not for this one
        words = words.replace(f"'${name}'", f'"${name}"')
    missing = "All machines must see this folder under this name:"
    said = ""
    if fleet.nodes > 1:
        place = shlex.quote(f"{fleet.host}, port {fleet.port}, for {MEETING_S // 60} minutes")
        said = f'echo "$(hostname) waits for all {fleet.nodes} machines at" {place}; '
    return (
        f'[ -e {folder}/{SPEC} ] || {{ echo "$(hostname): {missing}" {folder} >&2; exit 2; }}; '
        f"{said}THREADS=$(( $(nproc) > {each} ? $(nproc) / {each} : 1 )); {words}"
    )


def slurm_script(run: Run, fleet: Fleet) -> str:
    """A batch script for Slurm: the same run in the same folder, which all machines must share.

    The job ends two minutes before its time is over, with a checkpoint; submitted again it goes on.
    A second job of the run waits until the first is over. What the job does is slurm_job.py.
    """
    facts = [str(run.dir), fleet.nodes, fleet.processes_per_node, fleet.port]
    job = [sys.executable, "-m", "trainer_backend.slurm_job", *map(str, facts)]
    options = [
        f"--job-name={run.id}",
        "--dependency=singleton",
        f"--nodes={fleet.nodes}",
        "--ntasks-per-node=1",
        "--exclusive",
        "--mem=0",
        *([f"--gpus-per-node={fleet.processes_per_node}"] if cluster_has_gpus() else []),
        f'--output="{run.dir / LOG}"',
        "--open-mode=append",
        "--requeue",
        "--signal=B:TERM@120",
    ]
    lines = ["#!/bin/bash", *(f"#SBATCH {one}" for one in options), ""]
    return "\n".join(
        [*lines, "exec " + shlex.join(["env", f"PYTHONPATH={PACKAGE_PARENT}", *job]), ""]
    )


def cluster_has_gpus() -> bool:
    """Whether Slurm knows a machine with GPUs; where it cannot be asked, most likely yes."""
    try:
        asked = ["sinfo", "--noheader", "--format=%G"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return True
    return "gpu" in done.stdout
