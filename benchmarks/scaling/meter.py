"""Processor time and memory of one step of work, and a process of its own for each size.

Processor time counts this process and the children it has waited for; other programs on the
machine lengthen it little. What is measured is not known here.
"""

import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 3_600
EVERY_S = 0.02  # between two looks at the memory
PEAK = 5  # what resets the peak of a process, written to /proc/self/clear_refs


@dataclass(frozen=True)
class Measured:
    """One step at one size. `peak_mb` is memory above what the process held before (MB = 2^20).

    `own_mb` leaves out pages of files, which the system takes back when memory runs short.
    """

    name: str
    size: int
    cpu_s: float
    seconds: float
    peak_mb: float
    own_mb: float


def processor_seconds() -> float:
    """Of this process and of the children it has waited for."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in found)


def memory_mb(line: str) -> float:
    """A line of /proc/self/status in MB: VmRSS, VmHWM (the peak) or RssAnon (no files)."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.partition(f"{line}:")[2].split()[0]) / 1024


class Meter:
    """Measures named steps at one size and prints each as a line of JSON."""

    def __init__(self, size: int) -> None:
        self.size = size

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure what is done inside."""
        Path("/proc/self/clear_refs").write_text(str(PEAK), encoding="ascii")
        cpu, began, held = processor_seconds(), time.perf_counter(), memory_mb("VmRSS")
        with _Watch() as watch:
            yield
        self.tell(
            name,
            processor_seconds() - cpu,
            time.perf_counter() - began,
            max(0.0, memory_mb("VmHWM") - held),
            watch.most - watch.first,
        )

    def tell(  # noqa: PLR0913 - one argument a number
        self, name: str, cpu_s: float, seconds: float, peak_mb: float, own_mb: float
    ) -> None:
        """Report a step that was measured otherwise."""
        found = Measured(name, self.size, cpu_s, seconds, peak_mb, own_mb)
        print(json.dumps(asdict(found)), flush=True)


class _Watch:
    """The most memory of its own that this process holds meanwhile, looked at every 20 ms."""

    def __enter__(self) -> "_Watch":
        self.first = self.most = memory_mb("RssAnon")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._end.wait(EVERY_S):
            self.most = max(self.most, memory_mb("RssAnon"))

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self.most = max(self.most, memory_mb("RssAnon"))


def in_own_process(part: str, size: int) -> list[Measured]:
    """Measure a part at one size in a fresh process. Raises SystemExit with its last lines."""
    command = [sys.executable, "-m", "benchmarks.scale", "--one", part, "--size", str(size)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    if done.returncode:
        raise SystemExit(f"{part} {size} failed:\n{done.stderr[-3000:]}")
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"name"')]
    return [Measured(**json.loads(line)) for line in lines]
