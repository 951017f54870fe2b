"""What the machine is said to have."""

import stat

from trainer_backend import hardware as room
from trainer_backend.hardware import Hardware, hardware


def test_this_machine_is_described():
    found = hardware()
    assert found.kind in ("cpu", "cuda", "mps") and found.cores >= 1
    assert 0 < found.memory_free <= found.memory_total
    assert found.label()


def test_labels_are_short():
    assert Hardware("cpu", "CPU", 1, 24, 20, 2, False).label() == "CPU · 2 cores"
    assert Hardware("cuda", "H100", 1, 80.0, 80, 8, True).label() == "H100 · 80 GB"
    assert Hardware("cuda", "H100", 4, 80.0, 80, 8, True).label() == "4 × H100 · 80 GB"


def pretend_gpus(tmp_path, monkeypatch, text):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{text}'\n")
    tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setattr(room.shutil, "which", lambda name: str(tool))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_gpus_are_asked_of_the_driver_not_of_torch(tmp_path, monkeypatch):
    rows = "Tesla T4, 15360, 15000, 7.5\\nNVIDIA H100, 81920, 80000, 9.0\\n"
    pretend_gpus(tmp_path, monkeypatch, rows)
    found = hardware()
    assert (found.kind, found.name, found.num_devices) == ("cuda", "Tesla T4", 2)
    assert found.memory_total == 15.0 and not found.bf16
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert hardware().name == "NVIDIA H100" and hardware().bf16
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert hardware().kind != "cuda"


def test_a_driver_that_fails_means_no_gpu(tmp_path, monkeypatch):
    pretend_gpus(tmp_path, monkeypatch, "NVIDIA-SMI has failed\\n")
    assert hardware().kind != "cuda"


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    limits = {"memory.max": 0.5, "memory.current": 0.375}
    monkeypatch.setattr(room, "_cgroup", limits.get)
    (tmp_path / "memory.stat").write_text(f"anon 7\ninactive_file {2**28}\n")
    assert room._cgroup_cache(str(tmp_path / "memory.stat")) == 0.25
    assert room._cgroup_cache(str(tmp_path / "none")) == 0.0
    monkeypatch.setattr(room, "_cgroup_cache", lambda: 0.25)  # kept files count as free
    assert room.ram() == (0.5, 0.375)
