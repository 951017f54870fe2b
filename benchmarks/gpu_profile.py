"""A few steady steps under torch's profiler: kernels by kind, their time, launches and waits."""

import json
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("matrix products", ("gemm", "nvjet", "cutlass", "cublas", "xmma", "splitk", "gemv")),
    ("attention", ("flash", "fmha", "attention")),
    ("optimizer", ("multi_tensor", "adam", "foreach", "optimizer")),
    ("4-bit weights", ("dequant", "quantize", "kgemm_4bit")),
    ("norms, reductions", ("reduce_kernel", "norm", "softmax", "argmax", "rms")),
    ("copies, casts", ("copy", "cast", "memcpy", "memset", "catarray")),
    ("gathers", ("index", "gather", "scatter", "nonzero", "deviceselect", "scan")),
    ("triton", ("triton",)),
    ("elementwise", ("elementwise", "vectorized")),
)
ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
WAITS = ("aten::item", "aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero")


class StepProfile:
    """Profiles `steps` optimizer steps between start() and stop(); then `found` holds the sums."""

    def __init__(self, steps: int):
        import torch

        kinds = [torch.profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            kinds.append(torch.profiler.ProfilerActivity.CUDA)
        self.steps, self.found = steps, dict[str, Any]()
        self._inner = torch.profiler.profile(activities=kinds)

    def start(self) -> None:
        """Begin to record."""
        self._inner.start()

    def stop(self) -> None:
        """End recording and add up what was recorded, by step."""
        self._inner.stop()
        handle, trace = tempfile.mkstemp(suffix=".json")
        os.close(handle)
        try:
            self._inner.export_chrome_trace(trace)
            with open(trace, encoding="utf-8") as file:
                self.found = by_step(json.load(file)["traceEvents"], self.steps)
        finally:
            os.remove(trace)


def kind_of(kernel: str) -> str:
    """The kind of a kernel, by its name."""
    low = kernel.lower()
    return next((kind for kind, signs in KINDS if any(one in low for one in signs)), "other")


def by_step(events: Iterable[dict[str, Any]], steps: int) -> dict[str, Any]:
    """What a step does: `gpu_ms` it is busy, `kernels`, `kinds` {kind: [ms, number]}, `waits`.

    `events` are those of a Chrome trace, with times in microseconds.
    """
    events = list(events)
    kernels = [one for one in events if one.get("cat") in ON_DEVICE and "dur" in one]
    milliseconds: dict[str, float] = defaultdict(float)
    number: Counter[str] = Counter()
    for one in kernels:
        kind = kind_of(one["name"])
        milliseconds[kind] += one["dur"] / 1000
        number[kind] += 1
    ops = Counter(one["name"] for one in events if one.get("cat") == "cpu_op")
    host = Counter(
        one["name"] for one in events if one.get("cat") in ("cuda_runtime", "cuda_driver")
    )
    ranked = sorted(milliseconds.items(), key=lambda pair: -pair[1])
    return {
        "gpu_ms": busy_ms(kernels) / steps,
        "kernels": len(kernels) / steps,
        "kinds": {kind: [ms / steps, number[kind] / steps] for kind, ms in ranked},
        "ops": sum(ops.values()) / steps,
        "waits": {name: ops[name] / steps for name in WAITS if ops[name]},
        "calls": {name: count / steps for name, count in host.most_common(8)},
    }


def busy_ms(kernels: list[dict[str, Any]]) -> float:
    """Milliseconds in which at least one kernel ran: streams may overlap."""
    total = end = 0.0
    for one in sorted(kernels, key=lambda event: event["ts"]):
        start, stop = one["ts"], one["ts"] + one["dur"]
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total / 1000


def in_words(found: dict[str, Any], step_ms: float) -> str:
    """Lines about a profiled step beside the milliseconds of an unprofiled one."""
    share = found["gpu_ms"] / step_ms if step_ms else 0.0
    lines = [
        f"  GPU busy {found['gpu_ms']:.1f} of {step_ms:.1f} ms ({share:.0%}), "
        f"{found['kernels']:.0f} kernels, {found['ops']:.0f} operations on the CPU"
    ]
    for kind, (ms, number) in found["kinds"].items():
        lines.append(f"    {kind:<18}{ms:8.2f} ms {number:7.0f}")
    waits = ", ".join(f"{name} {count:.0f}" for name, count in found["waits"].items())
    return "\n".join([*lines, f"  waits: {waits or 'none'}"])
