"""Measures what the device of this machine does in a second; run as a module, it prints JSON.

Matrix products in each number format and the traffic of its memory, in about a second. Only torch
is loaded. What a training makes of these rates is not known here.
"""

import json
import sys
import time
from collections.abc import Callable

import torch

FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SIDES = {"cuda": 4096, "cpu": 1024}  # of square matrices; another accelerator: 2048
COPIED = {"cuda": 1 << 28, "cpu": 1 << 27}  # bytes; another accelerator: 2**28
ROUNDS = 4
LONGEST_S = 0.4  # of one kind of work


def device_rates() -> dict[str, float]:
    """{"fp32", "bf16", "fp16": 10⁹ operations a second, "memory": 10⁹ bytes a second}.

    A product of n x n matrices counts 2n³ operations, a copy its bytes read and written. On CUDA
    fp32 may use TF32, as in training. A format that the device cannot compute is left out.
    """
    found = torch.accelerator.current_accelerator(check_available=True)
    device = torch.device(found.type if found is not None else "cpu")
    rates = {}
    for name, dtype in FORMATS.items():
        if device.type == "cpu" and name == "fp16":
            continue  # no training uses it there
        try:
            rates[name] = _products(device, dtype)
        except RuntimeError:  # not for this device
            continue
    return {**rates, "memory": _memory(device)}


def _products(device: torch.device, dtype: torch.dtype) -> float:
    side = SIDES.get(device.type, 2048)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / _best(device, lambda: a @ b) / 1e9


def _memory(device: torch.device) -> float:
    numbers = COPIED.get(device.type, 1 << 28) // 4
    source = torch.zeros(numbers, device=device)
    target = torch.empty_like(source)
    return 8 * numbers / _best(device, lambda: target.copy_(source)) / 1e9


def _best(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds of the quickest round, the first left out: it allocates and chooses kernels."""
    work()
    best, began = float("inf"), time.perf_counter()
    for _ in range(ROUNDS):
        best = min(best, _on_cpu(work) if device.type == "cpu" else _on_device(work))
        if time.perf_counter() - began > LONGEST_S:
            break
    return best


def _on_cpu(work: Callable[[], object]) -> float:
    """Processor time shared by the threads: what other programs take does not count."""
    start = time.process_time()
    work()
    return max(time.process_time() - start, 1e-9) / torch.get_num_threads()


def _on_device(work: Callable[[], object]) -> float:
    torch.accelerator.synchronize()
    start = time.perf_counter()
    work()
    torch.accelerator.synchronize()
    return max(time.perf_counter() - start, 1e-9)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(device_rates()))
