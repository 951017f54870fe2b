"""Operating system processes: environment, identity, groups, signals, priority, memory limit.

All code that depends on the operating system is here; it knows nothing of runs and datasets.
"""

import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

if sys.platform != "win32":
    import resource

PACKAGE_PARENT = Path(__file__).resolve().parent.parent
UNTRIED = "SFT Studio is tested on Linux only."
LIMITS = {
    "Windows": (
        UNTRIED,
        "Windows sets no memory limit for reading uploads: a very large file can fill the memory.",
        "Windows has no process groups: processes that a worker started may survive its end.",
        "Windows does not report why a process ended: a run that was ended for lack of memory "
        "is shown with an exit code.",
    ),
    "Darwin": (
        UNTRIED,
        "macOS sets no memory limit for reading uploads: a very large file can fill the memory.",
        "macOS does not count processes ended for lack of memory: such a run may be shown as "
        "ended from outside.",
    ),
}


def known_limits() -> list[str]:
    """What is known not to work on this operating system, one sentence each; empty on Linux."""
    return list(LIMITS.get(platform.system(), ()))


def child_environment(**more: str) -> dict[str, str]:
    """This process's environment for a child that finds the package and idles without spinning."""
    paths = [str(PACKAGE_PARENT), os.environ.get("PYTHONPATH", "")]
    return {
        # idle compute threads sleep instead of spinning: with chat or a browser beside a training
        # on few cores, spinning halved the speed of all of them
        "OMP_WAIT_POLICY": "PASSIVE",
        # batches of joined rows have a new length each: for each, torch keeps compiled products.
        # Its own limit of 1024 let the worker of a small model grow from 1.0 to 2.4 GB in 30 steps
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        **more,
    }


def start_in_own_group(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process that Ctrl-C in this terminal does not reach; `options` are those of Popen."""
    if sys.platform == "win32":
        return subprocess.Popen(
            command, creationflags=subprocess.CREATE_NEW_PROCESS_GROUP, **options
        )
    return subprocess.Popen(command, start_new_session=True, **options)


def end_group(pid: int) -> bool:
    """Kill a process of `start_in_own_group` and its group (its children where there are none).

    Returns False if it is already gone.
    """
    try:
        if sys.platform == "win32":
            for child in psutil.Process(pid).children(recursive=True):
                kill_now(child.pid)
            psutil.Process(pid).kill()
        else:
            os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False
    return True


def kill_now(pid: int) -> None:
    """Kill one process, if it is still there."""
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).kill()


def end_signal(code: int | None) -> str | None:
    """The name of the signal that ended a process, such as “SIGKILL”; None without one.

    An exit code shows it as -n (Python) or as 128 + n (a shell).
    """
    number = -code if code is not None and code < 0 else (code or 0) - 128
    try:
        return signal.Signals(number).name
    except ValueError:
        return None


def on_stop_signal(handler: Callable[[], None], *, ctrl_c: bool = True) -> Callable[[], None]:
    """Call `handler` on SIGTERM and (with `ctrl_c`) SIGINT; returns what restores the handlers.

    Only the main thread may call this.
    """
    numbers = (signal.SIGTERM, signal.SIGINT) if ctrl_c else (signal.SIGTERM,)
    before = {number: signal.signal(number, lambda *_: handler()) for number in numbers}

    def restore() -> None:
        for number, earlier in before.items():
            signal.signal(number, earlier)

    return restore


def lower_priority(niceness: int) -> None:
    """Let other processes on the same cores go first; `niceness` from 1 to 19 is added (POSIX)."""
    if sys.platform == "win32":
        psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
    else:
        os.nice(niceness)


def limit_memory(size: int) -> None:
    """Let this process map `size` more bytes and write no core dump; beyond that, MemoryError.

    Does nothing on macOS and Windows, which have or enforce no such limit.
    """
    if sys.platform in ("win32", "darwin"):
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    size += psutil.Process().memory_info().vms
    if most != resource.RLIM_INFINITY:
        size = min(size, most)
    resource.setrlimit(resource.RLIMIT_AS, (size, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def data_left() -> float:
    """Bytes up to the limit that the system sets for the data of this process; inf without one."""
    if sys.platform == "win32":
        return float("inf")
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if limit == resource.RLIM_INFINITY:
        return float("inf")
    facts = psutil.Process().memory_info()
    return float(limit - getattr(facts, "data", facts.rss))


def peak_memory() -> int:
    """The most bytes of RAM that this process has held since it began (its resident set)."""
    facts = psutil.Process().memory_info()
    try:
        with open("/proc/self/status") as lines:
            kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
        return int(kilobytes) * 1024
    except (OSError, StopIteration):
        pass
    if sys.platform == "win32":
        return int(facts.peak_wset)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # a Linux without VmHWM may count what its parent held: never below what is held now
    return max(int(most) * (1 if sys.platform == "darwin" else 1024), facts.rss)


def rank_and_size() -> tuple[int, int]:
    """This training process's rank and the number of them; (0, 1) without a launcher."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def started_alone() -> bool:
    """Whether accelerate was asked for several processes and started one.

    With `--cpu` it leaves starting the others to MPI.
    """
    by_mpi = {"PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "WORLD_SIZE"}
    asked = {"ACCELERATE_USE_CPU", "MASTER_PORT"} <= os.environ.keys()
    return asked and not by_mpi & os.environ.keys()


def identity(pid: int) -> dict[str, int | str | None]:
    """Identifies a process beyond its pid: start time, boot id and host."""
    started = start_time(pid)
    return {"pid": pid, "started": started, "boot": _boot_id(), "host": socket.gethostname()}


def is_same_process(facts: Mapping[str, Any]) -> bool:
    """Whether the process that `identity` described still runs on this machine."""
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
    """When a process began, in 1/100 s since boot; None if the process is gone or a zombie.

    Counted from the boot because changing the system clock changes psutil's `create_time` alone.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return str(round((process.create_time() - psutil.boot_time()) * 100))
    except psutil.Error:
        return None
