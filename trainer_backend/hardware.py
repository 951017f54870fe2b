"""The devices, memory and number formats of this machine, found without importing torch."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache

import psutil

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

    def label(self) -> str:
        """A few words for the header, such as “CPU · 2 cores”."""
        if self.kind == "cpu":
            return f"CPU · {self.cores} cores"
        times = f"{self.num_devices} × " if self.num_devices > 1 else ""
        return f"{times}{self.name} · {self.memory_total:.0f} GB"


def hardware() -> Hardware:
    """Look at the machine now (only the free memory changes between calls)."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    total, free = ram()
    gpus = _nvidia_gpus()
    if gpus:
        name, memory_total, memory_free, capability = gpus[0]
        return Hardware(
            "cuda", name, len(gpus), memory_total, memory_free, cores, capability >= 8.0
        )
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return Hardware("mps", "Apple GPU", 1, total, free, cores, True)
    return Hardware("cpu", "CPU", 1, total, free, cores, bool(cpu_bf16_flags()))


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


def _nvidia_gpus() -> list[tuple[str, float, float, float]]:
    """(name, total GiB, free GiB, compute capability) of each visible NVIDIA device."""
    tool = shutil.which("nvidia-smi")
    if not tool or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return []
    query = "--query-gpu=name,memory.total,memory.free,compute_cap"
    try:
        done = subprocess.run(
            [tool, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [line.split(", ") for line in done.stdout.splitlines() if line.count(", ") == 3]
    gpus = [
        (n, float(t) / 1024, float(f) / 1024, float(c)) for n, t, f, c in rows if c[0].isdigit()
    ]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible and all(part.strip().isdigit() for part in visible.split(",")):
        gpus = [gpus[int(part)] for part in visible.split(",") if int(part) < len(gpus)]
    return gpus
