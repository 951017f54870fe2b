"""The environment of our compute processes: what they are given, and their rank among several."""

import os
import socket
from pathlib import Path

import psutil

PACKAGE_PARENT = Path(__file__).resolve().parent.parent


def child_environment(**more: str) -> dict[str, str]:
    """This process's environment, with the package to be found and idle threads asleep."""
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


def rank_and_size() -> tuple[int, int]:
    """This process's number and how many there are, as the launcher says: (0, 1) when alone."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def started_alone() -> bool:
    """Whether accelerate was asked for several processes and started one.

    With `--cpu` it leaves starting the others to MPI.
    """
    by_mpi = {"PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "WORLD_SIZE"}
    asked = {"ACCELERATE_USE_CPU", "MASTER_PORT"} <= os.environ.keys()
    return asked and not by_mpi & os.environ.keys()


def identity(pid: int) -> dict:
    """Identifies a process beyond its pid: start time, boot id and host."""
    started = start_time(pid)
    return {"pid": pid, "started": started, "boot": _boot_id(), "host": socket.gethostname()}


def is_worker_process(facts: dict) -> bool:
    """Whether the process of a worker.json still runs: same machine, boot, id and start time."""
    if not facts.get("pid") or facts.get("host", socket.gethostname()) != socket.gethostname():
        return False
    if facts.get("boot", _boot_id()) != _boot_id():
        return False
    return facts.get("started") is not None and start_time(facts["pid"]) == facts["started"]


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def start_time(pid: int) -> str | None:
    """When a process began, in 1/100 s since the machine's start; None if it is gone or a zombie.

    Counted from the boot because changing the system clock changes psutil's `create_time` alone.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return str(round((process.create_time() - psutil.boot_time()) * 100))
    except psutil.Error:
        return None
