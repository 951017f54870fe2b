"""What the machine is said to have."""

import os
import stat
from dataclasses import replace

import pytest

from trainer_backend import hardware as room
from trainer_backend import nvidia
from trainer_backend.hardware import Hardware, hardware, hide_unusable_cards


def test_this_machine_is_described():
    found = hardware()
    assert found.kind in ("cpu", "cuda", "mps") and found.cores >= 1
    assert 0 < found.memory_free <= found.memory_total
    assert found.label()


def test_labels_are_short():
    assert Hardware("cpu", "CPU", 1, 24, 20, 2, False).label() == "CPU · 2 cores"
    assert Hardware("cuda", "H100", 1, 80.0, 80, 8, True).label() == "H100 · 80 GB"
    assert Hardware("cuda", "H100", 4, 80.0, 80, 8, True).label() == "4 × H100 · 80 GB"


def pretend_gpus(tmp_path, monkeypatch, text, cuda="13.0"):
    """A driver that prints `text`, and a torch built for this CUDA."""
    tool = tmp_path / "nvidia-smi"
    (tmp_path / "said").write_text(text)
    tool.write_text(f"#!/bin/sh\ncat '{tmp_path}/said'\n")
    tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setattr(nvidia.shutil, "which", lambda name: str(tool))
    monkeypatch.setattr(nvidia, "torch_cuda", lambda: ("2.13.0", cuda))
    monkeypatch.setattr(nvidia, "has_card", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)


def test_gpus_are_asked_of_the_driver_not_of_torch(tmp_path, monkeypatch):
    rows = "Tesla T4, 15360, 15000, 7.5, 580.1\nNVIDIA H100, 81920, 80000, 9.0, 580.1\n"
    pretend_gpus(tmp_path, monkeypatch, rows)
    found = hardware()
    assert (found.kind, found.name, found.num_devices) == ("cuda", "Tesla T4", 2)
    assert found.memory_total == 15.0 and not found.bf16 and not found.problem
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert hardware().name == "NVIDIA H100" and hardware().bf16
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert hardware().kind != "cuda"


def test_a_machine_without_a_card_has_no_problem(tmp_path, monkeypatch):
    pretend_gpus(tmp_path, monkeypatch, "No devices were found\n")
    assert hardware().kind != "cuda" and not hardware().problem


T4 = "Tesla T4, 15360, 15000, 7.5, 550.90.07\n"
UNUSABLE = [
    (T4, "13.0", "its driver (550.90.07) is too old for the installed torch 2.13.0", "Update"),
    (T4, "", "torch (2.13.0) was built without CUDA", "Install a torch build"),
    (
        "Tesla K80, 11441, 11439, 3.7, 580.10\n",
        "12.6",
        "this card (compute capability 3.7) is too old for the installed torch",
        "Install a torch build",
    ),
    ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make "
     "sure that the latest NVIDIA driver is installed.\n", "13.0", "does not run", "Install"),
    ("Failed to initialize NVML: Driver/library version mismatch\n", "13.0", "updated", "Restart"),
    ("Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost.\n", "13.0",
     "The GPU is gone", "Restart"),
    ("Segmentation fault\n", "13.0", "cannot be asked", "nvidia-smi"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "cuda", "why", "fix"), UNUSABLE)
def test_a_card_that_cannot_be_used_is_said_in_words(tmp_path, monkeypatch, said, cuda, why, fix):
    pretend_gpus(tmp_path, monkeypatch, said, cuda)
    found = hardware()
    assert found.kind != "cuda" and why in found.problem and fix in found.problem
    assert "GPU not used" in found.label() or found.kind == "mps"
    assert "GPU not used" not in replace(found, problem="").label()
    assert hide_unusable_cards() == found.problem and os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_a_driver_without_a_card_is_no_problem(tmp_path, monkeypatch):
    pretend_gpus(tmp_path, monkeypatch, UNUSABLE[3][0])
    monkeypatch.setattr(nvidia, "has_card", lambda: False)
    assert hardware().kind != "cuda" and not hardware().problem


@pytest.mark.parametrize(
    ("vendors", "there"), [([], True), (["0x8086"], False), (["0x8086", "0x10de"], True)]
)
def test_cards_are_looked_for_on_the_bus(tmp_path, vendors, there):
    for number, vendor in enumerate(vendors):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "vendor").write_text(f"{vendor}\n")
    assert nvidia.has_card(tmp_path) is there


def test_a_card_is_not_hidden_on_a_doubt(tmp_path, monkeypatch):
    pretend_gpus(tmp_path, monkeypatch, T4)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/local/cuda-13/compat:/usr/lib")
    assert hardware().kind == "cuda" and hide_unusable_cards() == ""
    pretend_gpus(tmp_path, monkeypatch, T4.replace("7.5", "[N/A]"), "12.6")
    assert hardware().kind == "cuda"
    monkeypatch.setattr(nvidia, "torch_cuda", lambda: None)
    assert hardware().kind == "cuda"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    limits = {"memory.max": 0.5, "memory.current": 0.375}
    monkeypatch.setattr(room, "_cgroup", limits.get)
    (tmp_path / "memory.stat").write_text(f"anon 7\ninactive_file {2**28}\n")
    assert room._cgroup_cache(str(tmp_path / "memory.stat")) == 0.25
    assert room._cgroup_cache(str(tmp_path / "none")) == 0.0
    monkeypatch.setattr(room, "_cgroup_cache", lambda: 0.25)  # kept files count as free
    assert room.ram() == (0.5, 0.375)
