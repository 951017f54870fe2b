"""The devices, memory and number formats of this machine, found without importing torch."""

import os
import platform
from dataclasses import dataclass
from functools import lru_cache

import psutil

from trainer_backend.nvidia import cards

GIB = 2**30


@dataclass(frozen=True)
class Hardware:
    """The device training would use. Memory is in GiB; on CPU and Apple devices it is the RAM."""

    kind: str  # "cuda", "mps" or "cpu"
    name: str
    num_devices: int
    memory_total: float
    memory_free: float
    cores: int
    bf16: bool
    problem: str = ""  # why a GPU that is there is not used, and what to do about it

    def label(self) -> str:
        """A few words for the header, such as “CPU · 2 cores”."""
        if self.kind == "cpu":
            unused = " · GPU not used" if self.problem else ""
            return f"CPU · {self.cores} cores{unused}"
        times = f"{self.num_devices} × " if self.num_devices > 1 else ""
        return f"{times}{self.name} · {self.memory_total:.0f} GB"


def hardware() -> Hardware:
    """Look at the machine now (only the free memory changes between calls)."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    total, free = ram()
    gpus, fault = cards()
    if gpus:
        first, bf16 = gpus[0], gpus[0].capability >= 8.0
        memory = first.memory_total, first.memory_free
        return Hardware("cuda", first.name, len(gpus), *memory, cores, bf16)
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return Hardware("mps", "Apple GPU", 1, total, free, cores, True)
    problem = fault.sentence() if fault else ""
    return Hardware("cpu", "CPU", 1, total, free, cores, bool(cpu_bf16_flags()), problem)


def hide_unusable_cards() -> str:
    """Let torch of this process see no card that it cannot use; the problem in words, or "".

    For the start of a process, before torch has looked: it would take a card for which it has no
    code and fail at the first product.
    """
    problem = hardware().problem
    if problem:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return problem


def ram() -> tuple[float, float]:
    """Total and available RAM in GiB, within the container's limit if it has one."""
    memory = psutil.virtual_memory()
    total, free = memory.total / GIB, memory.available / GIB
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    if limit is not None and limit < total:
        kept = (used or 0.0) - _cgroup_cache()
        total, free = limit, min(free, max(0.0, limit - kept))
    return total, free


def _cgroup_cache(stat: str = "/sys/fs/cgroup/memory.stat") -> float:
    """GiB of the container's page cache, which the kernel frees when memory is needed."""
    try:
        with open(stat) as lines:
            facts = dict(line.split() for line in lines)
        return int(facts.get("inactive_file", 0)) / GIB
    except (OSError, ValueError):
        return 0.0


def _cgroup(name: str) -> float | None:
    try:
        with open(f"/sys/fs/cgroup/{name}") as file:
            return int(file.read()) / GIB
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=1)
def cpu_bf16_flags() -> frozenset[str]:
    """The bf16 matrix instructions of this CPU (empty: bf16 would be emulated and slow)."""
    try:
        with open("/proc/cpuinfo") as lines:
            flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    except OSError:
        return frozenset()
    return frozenset(flags & {"avx512_bf16", "amx_bf16"})
