"""What the device of a machine does in a second: measured once and kept, or typical of its kind.

The measuring itself needs torch and runs in a process of its own, in the background. What a
training needs of these rates is not known here.
"""

import json
import os
import platform
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from trainer_backend.hardware import Hardware, cpu_bf16_flags, hardware
from trainer_backend.home import read_json, write_json
from trainer_backend.processes import child_environment, start_in_own_group
from trainer_backend.runs import ACTIVE, list_runs

DEVICES = "devices.json"  # in the home: {machine key: rates}
MEASURING = "trainer_backend.training.rates"  # the module that measures, and loads torch
SWITCH = "SFT_STUDIO_MEASURE"  # “off” in the environment: never measure by itself
LONGEST_S = 120  # of measuring; loading torch from a cold disk takes most of it


@dataclass(frozen=True)
class Rates:
    """10⁹ operations a second of matrix products by number format, 10⁹ bytes a second of memory.

    A product of n x n matrices counts 2n³ operations; memory traffic counts reads and writes.
    """

    fp32: float
    bf16: float
    fp16: float
    memory: float
    measured: bool = False

    def of(self, precision: str) -> float:
        """10⁹ operations a second in a number format."""
        return {"bf16": self.bf16, "fp16": self.fp16}.get(precision, self.fp32)


# Dense bf16 (before Ampere fp16) tensor TFLOP/s and memory GB/s from the vendors' data sheets; a
# name is found in what the driver calls the device, the longest one first.
GPUS = {
    "B200": (2250, 8000),
    "GB200": (2250, 8000),
    "H200": (989, 4800),
    "H100 PCIe": (756, 2000),
    "H100 NVL": (835, 3900),
    "H100": (989, 3350),
    "GH200": (989, 4000),
    "A100": (312, 1935),
    "A800": (312, 1935),
    "A40": (150, 696),
    "A30": (165, 933),
    "A10G": (70, 600),
    "A10": (125, 600),
    "A16": (18, 200),
    "A2": (18, 200),
    "L40S": (362, 864),
    "L40": (181, 864),
    "L4": (121, 300),
    "V100": (112, 900),
    "T4": (65, 320),
    "P100": (19, 732),
    "RTX PRO 6000": (504, 1792),
    "RTX 6000 Ada": (364, 960),
    "RTX A6000": (155, 768),
    "RTX A5000": (111, 768),
    "RTX A4000": (77, 448),
    "RTX 5090": (210, 1792),
    "RTX 5080": (113, 960),
    "RTX 5070": (62, 672),
    "RTX 4090": (165, 1008),
    "RTX 4080": (97, 717),
    "RTX 4070": (58, 504),
    "RTX 4060": (30, 272),
    "RTX 3090": (71, 936),
    "RTX 3080": (60, 760),
    "RTX 3070": (41, 448),
    "RTX 3060": (26, 360),
    "RTX 2080": (42, 448),
}
OTHER_GPU = (60, 450)
OTHER_TENSOR_SHARE = 0.5  # of the TF32 rate in the bf16 rate
REACHED = 0.75  # of a data sheet's rate, by the products of a large model
APPLE_GPU = Rates(fp32=3500, bf16=3500, fp16=4000, memory=120)
# operations of one core in a cycle, in fp32, by its widest instructions
CYCLES = (("avx512f", 64.0), ("avx2", 32.0), ("asimd", 16.0))
CORE_GHZ, CORE_MEMORY = 2.5, 12.0
CPU_REACHED = 0.6
BF16_GAIN = {"amx_bf16": 8.0, "avx512_bf16": 2.0}  # times the fp32 rate


def rates_of(machine: Hardware, home: Path | None = None) -> Rates:
    """The rates of a machine: those measured in this home, else typical ones of its kind."""
    return measured_rates(machine, home) or typical_rates(machine)


def machine_key(machine: Hardware) -> str:
    """Names a machine's device, so that measurements of another one are not used."""
    name = cpu_name() if machine.kind == "cpu" else machine.name
    devices = f"{machine.num_devices} x " if machine.num_devices > 1 else ""
    return f"{machine.kind}: {devices}{name}, {machine.cores} cores, {machine.memory_total:.0f} GB"


@lru_cache(maxsize=1)
def cpu_name() -> str:
    """The processor's name, as far as the operating system tells."""
    with suppress(OSError), open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def measured_rates(machine: Hardware, home: Path | None) -> Rates | None:
    """The rates of a machine that were measured in this home; None without any."""
    if home is None:
        return None
    kept: dict[str, Any] = read_json(home / DEVICES, {})
    return _rates(kept.get(machine_key(machine)), machine)


def _rates(found: object, machine: Hardware) -> Rates | None:
    """Rates from JSON; a format that was not measured is as quick as fp32. None if damaged."""
    if not isinstance(found, dict):
        return None
    values = {name: found.get(name) for name in ("fp32", "bf16", "fp16", "memory")}
    usable = {k: float(v) for k, v in values.items() if isinstance(v, int | float) and 0 < v < 1e9}
    if not {"fp32", "memory"} <= usable.keys():
        return None
    fp32 = usable["fp32"]
    return Rates(
        fp32, usable.get("bf16", fp32), usable.get("fp16", fp32), usable["memory"], measured=True
    )


def keep_rates(home: Path, machine: Hardware, rates: dict[str, float]) -> None:
    """Remember measured rates of a machine in a home; rates that make no sense are not kept."""
    if _rates(rates, machine) is None:
        return
    with FileLock(home / "tmp" / f".{DEVICES}.lock"):
        kept: dict[str, Any] = read_json(home / DEVICES, {})
        entry = {**rates, "measured_at": time.time()}
        write_json(home / DEVICES, {**kept, machine_key(machine): entry})


# Typical rates


def typical_rates(machine: Hardware) -> Rates:
    """The rates that a device of this kind and name usually has."""
    if machine.kind == "cuda":
        return _gpu(machine)
    return APPLE_GPU if machine.kind == "mps" else _cpu(machine)


def _gpu(machine: Hardware) -> Rates:
    known = sorted((one for one in GPUS if one in machine.name), key=len)
    tensor, memory = GPUS[known[-1]] if known else OTHER_GPU
    half = 1000.0 * tensor * REACHED
    fp32 = half * (OTHER_TENSOR_SHARE if machine.bf16 else 1 / 8)
    return Rates(fp32, half if machine.bf16 else fp32, half, memory * REACHED)


def _cpu(machine: Hardware) -> Rates:
    flags = cpu_flags()
    each = next((count for flag, count in CYCLES if flag in flags), 8.0)
    fp32 = machine.cores * CORE_GHZ * each * CPU_REACHED
    gain = max((BF16_GAIN[flag] for flag in cpu_bf16_flags()), default=0.5)
    return Rates(fp32, fp32 * gain, fp32, CORE_MEMORY * min(machine.cores, 8))


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """The instruction sets of this CPU; empty where the operating system does not list them."""
    with suppress(OSError), open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith(("flags", "Features")):
                return frozenset(line.partition(":")[2].split())
    return frozenset({"asimd"} if platform.machine() == "arm64" else ())


# Measuring in the background


def measure_in_background(home: Path) -> threading.Thread | None:
    """Measure this machine once, in a process of its own; None if that is not wanted now.

    Not while a run trains (both would be slower than they are): its worker measures.
    """
    if not may_measure() or not _first_time(home):
        return None
    thread = threading.Thread(target=measure, args=(home,), name="device rates", daemon=True)
    thread.start()
    return thread


def may_measure() -> bool:
    """Whether this machine may be measured without being asked."""
    return os.environ.get(SWITCH, "").lower() != "off"


_begun: set[Path] = set()


def _first_time(home: Path) -> bool:
    """Whether this process has not tried to measure for this home; it tries once."""
    if home in _begun:
        return False
    _begun.add(home)
    return True


def measure(home: Path) -> Rates | None:
    """Measure this machine in a process of its own and keep the rates; None if it cannot be.

    Takes some seconds, most of them for loading torch.
    """
    machine = hardware()
    lock = FileLock(home / "tmp" / ".measuring.lock")
    try:
        with lock.acquire(timeout=0):
            if found := measured_rates(machine, home):
                return found
            if any(run.state()["state"] in ACTIVE for run in list_runs(home)):
                _begun.discard(home)  # at the next need, perhaps when no run trains
                return None
            keep_rates(home, machine, _from_process())
    except (Timeout, OSError, ValueError):
        return None
    return measured_rates(machine, home)


def _from_process() -> dict[str, float]:
    """The rates that a measuring process prints. Raises OSError or ValueError."""
    child = start_in_own_group(
        [sys.executable, "-m", MEASURING],
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        out, _ = child.communicate(timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        child.kill()
        raise OSError("measuring took too long") from None
    found: Any = json.loads(out)
    return {str(name): float(value) for name, value in found.items()}


def rates_in_words(rates: Rates, precision: str) -> str:
    """The speed of a device for people: “the measured speed of this machine (71 GFLOP/s)”."""
    speed = rates.of(precision)
    words = f"{speed / 1000:,.0f} TFLOP/s" if speed >= 5000 else f"{speed:,.0f} GFLOP/s"
    if rates.measured:
        return f"the measured speed of this machine ({words} in {precision})"
    return f"a typical speed of this kind of device ({words} in {precision})"
