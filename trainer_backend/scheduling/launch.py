"""The commands that start a run's training processes, on one machine or on several.

accelerate starts one process per device. `accelerate launch --cpu` would start a single process
(it leaves the rest to MPI), so CPU runs are launched with `--multi_gpu` too; without a GPU the
processes communicate over gloo.
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

PORT = 29500  # rendezvous port of several machines
MEETING_S = 600  # how long the first machine waits for the last


@dataclass(frozen=True)
class Fleet:
    """Several machines with the same number of processes each."""

    nodes: int = 1
    processes_per_node: int = 1
    host: str = "127.0.0.1"  # the first machine, as the others reach it
    port: int = 0  # 0: any free port; several machines need a fixed one


def worker_command(run: Run, devices: Sequence[int | str] | None = None) -> list[str]:
    """The command of a run's worker on this machine, on the GPUs with these indices (None: all)."""
    count = processes_here(run, devices)
    if count == 1:
        return [sys.executable, *_worker(run)]
    return [sys.executable, *accelerate_arguments(run, Fleet(1, count), "0", _threads(count))]


def processes_here(run: Run, devices: Sequence[int | str] | None = None) -> int:
    """How many training processes a run has on this machine: one per GPU, or as the recipe sets."""
    wanted = num_processes(run.recipe(), hardware())
    return min(wanted, len(devices)) if devices else wanted


def worker_environment(run: Run, devices: Sequence[int | str] | None = None) -> dict[str, str]:
    """Environment variables for the worker: the GPUs that it may see."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, devices))} if devices else {}


def accelerate_arguments(run: Run, fleet: Fleet, node: str, threads: str) -> list[str]:
    """Arguments of Python that start the processes of one machine; `node` is its number from 0.

    All options are given, so that accelerate's configuration file of the user has no effect.
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
        "--mixed_precision": "no",  # set by the trainer, from the recipe
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
    """Raises UserError for an impossible number of machines or processes, or an active run."""
    if not (1 <= fleet.nodes <= 1024 and 1 <= fleet.processes_per_node <= 1024):
        raise UserError(
            f"{fleet.nodes} machines with {fleet.processes_per_node} processes cannot be started.",
            "--nodes and --processes-per-node",
            "Use numbers from 1 to 1024.",
        )
    if run.is_alive() or run.state()["state"] == "queued":
        raise UserError("This run is active or queued.", run.name(), "Stop it first.")


def leave_to_others(run: Run) -> None:
    """Take a new run out of the queue: it is started on other machines."""
    enter(run.dir, "stopped", ended_at=None)


def machine_commands(run: Run, fleet: Fleet) -> list[str]:
    """One shell line per machine, the first machine first; start all at about the same time."""
    return [machine_line(run, fleet, str(node)) for node in range(fleet.nodes)]


def machine_line(run: Run, fleet: Fleet, node: str) -> str:
    """The shell line that starts one machine's processes; `node` may be a shell variable."""
    each, folder = fleet.processes_per_node, shlex.quote(str(run.dir))
    arguments = accelerate_arguments(run, fleet, node, "$THREADS")
    if fleet.nodes * each == 1:  # without a launcher its exit code is that of the worker
        arguments = _worker(run)
    # after SIGTERM the launcher waits for the processes until it is killed itself
    settings = [f"PYTHONPATH={PACKAGE_PARENT}", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT=3600"]
    words = shlex.join(["env", *settings, sys.executable, *arguments])
    for name in ("THREADS", "SLURM_NODEID"):  # for each machine's shell, not for this one
        words = words.replace(f"'${name}'", f'"${name}"')
    missing = "All machines must see this folder under this name:"
    notice = ""
    if fleet.nodes > 1:
        place = shlex.quote(f"{fleet.host}, port {fleet.port}, for {MEETING_S // 60} minutes")
        notice = f'echo "$(hostname) waits for all {fleet.nodes} machines at" {place}; '
    return (
        f'[ -e {folder}/{SPEC} ] || {{ echo "$(hostname): {missing}" {folder} >&2; exit 2; }}; '
        f"{notice}THREADS=$(( $(nproc) > {each} ? $(nproc) / {each} : 1 )); {words}"
    )


def slurm_script(run: Run, fleet: Fleet) -> str:
    """An sbatch script that trains the run in its folder, which all machines must share.

    The job stops with a checkpoint two minutes before its time limit; submit it again to continue.
    A second job of the run waits until the first has ended.
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
    """Whether Slurm lists a machine with GPUs; True if `sinfo` does not work."""
    try:
        asked = ["sinfo", "--noheader", "--format=%G"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return True
    return "gpu" in done.stdout
