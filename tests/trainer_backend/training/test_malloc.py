"""Freed memory stays with the process while it trains: counted in page faults."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from trainer_backend.training.malloc import kept_memory

ROOT = Path(__file__).resolve().parents[3]
FAULTS = """
import os, resource, torch
from trainer_backend.training.malloc import kept_memory
torch.set_num_threads(1)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        [torch.ones(24 << 18) for _ in range(4)]  # 96 MiB: more than glibc keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
given_back = faults()
with kept_memory("cpu") as kept:
    held = [faults() for _ in range(5)][-1]
print(int(kept), held, given_back, faults())
"""


def test_a_new_tensor_takes_the_memory_of_the_last_one():
    if not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""):
        pytest.skip("glibc only")
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, cwd=ROOT, check=True
    )
    kept, held, before, after = map(int, done.stdout.split())
    assert kept == 1
    assert held < before / 10
    assert after > held * 10, "at the end memory is given back as usual"


def test_other_devices_are_left_alone():
    pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    with kept_memory("cuda") as kept:
        assert not kept
    assert pages <= resource.getrusage(resource.RUSAGE_SELF).ru_minflt
