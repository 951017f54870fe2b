"""What is refused before it fills the memory, and that what fits is not. The machine is made up."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_runs import small_run

from trainer_backend.disk import GIB
from trainer_backend.errors import UserError
from trainer_backend.hardware import Hardware
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.worker import memory
from trainer_backend.worker.facts import RunFacts
from trainer_backend.worker.main import run_worker
from trainer_backend.worker.memory import Stored, check_model_fits, least_bytes, stored_weights

CPU = Hardware("cpu", "CPU", 1, 64.0, 64.0, 8, True)
BILLION = Stored(10**9, 0)


def with_memory(monkeypatch, bytes_there: float, kind: str = "cpu") -> None:
    there = bytes_there / GIB
    machine = Hardware(kind, "Test", 1, there, there, 2, True)
    monkeypatch.setattr(memory, "hardware", lambda: machine)


def test_weights_are_counted_without_being_read(tiny_model_dir, tmp_path):
    weights = load_file(tiny_model_dir / "model.safetensors")
    assert stored_weights(tiny_model_dir) == Stored(sum(w.numel() for w in weights.values()), 0)
    packed = {"a": torch.zeros(8, 3, dtype=torch.uint8), "scale": torch.zeros(8)}
    save_file(packed, tmp_path / "model.safetensors")
    assert stored_weights(tmp_path) == Stored(8, 24)


@pytest.mark.parametrize(
    ("settings", "gigabytes"),
    [
        ({"precision": "fp32"}, 4.0),
        ({"precision": "bf16"}, 2.0),
        ({"precision": "int8"}, 1.0),
        ({"precision": "int4"}, 0.5),
        ({"precision": "bf16", "adapter": "full"}, 16.0),  # weights, gradients, two averages
        ({"precision": "bf16", "adapter": "full", "optim": "adafactor"}, 9.0),
    ],
)
def test_the_least_a_billion_weights_take(settings, gigabytes):
    assert least_bytes(BILLION, Recipe(**settings), CPU) == gigabytes * 1e9


def test_processes_of_one_machine_share_its_memory(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    lora = Recipe(precision="bf16")
    assert least_bytes(BILLION, lora, CPU) == 4e9
    assert least_bytes(BILLION, Recipe(precision="bf16", distributed="fsdp"), CPU) == 1e9
    gpu = Hardware("cuda", "Test GPU", 2, 24.0, 24.0, 8, True)
    assert least_bytes(BILLION, lora, gpu) == 2e9


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_a_model_that_cannot_fit_is_refused_with_what_would(tiny_model_dir, monkeypatch, kind):
    count = stored_weights(tiny_model_dir).numbers
    full = Recipe(base_model="tiny", precision="fp32", adapter="full")
    with_memory(monkeypatch, 16 * count, kind)
    check_model_fits(tiny_model_dir, full)
    for share, offer in (
        (15.9, {"adapter": "lora"}),
        (3.9, {"adapter": "lora", "precision": "int8"}),
        (0.9, {"adapter": "lora", "precision": "int4"}),
    ):
        with_memory(monkeypatch, share * count, kind)
        with pytest.raises(UserError, match="does not fit") as refused:
            check_model_fits(tiny_model_dir, full)
        assert refused.value.offer == {"retry": offer} and refused.value.code == "memory_small"
    with_memory(monkeypatch, 0.4 * count, kind)
    with pytest.raises(UserError, match="smaller model") as refused:
        check_model_fits(tiny_model_dir, full)
    assert refused.value.offer is None


def test_a_run_whose_model_cannot_fit_fails_before_it_is_loaded(
    home, dataset, tiny_model_dir, monkeypatch
):
    with_memory(monkeypatch, 1000)
    monkeypatch.setattr(
        "trainer_backend.worker.train.load_base", None
    )  # calling it would fail otherwise
    run = small_run(home, dataset, tiny_model_dir)
    assert run_worker(run.dir) == 2
    error = run.state()["error"]
    assert error["code"] == "memory_small" and "at least" in error["where"]


def test_an_optimizer_that_cannot_fit_is_told_before_the_first_step(
    home, dataset, tiny_model_dir, monkeypatch
):
    monkeypatch.setattr("trainer_backend.worker.train.check_model_fits", lambda *_: None)
    no_card = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False))
    monkeypatch.setattr(memory, "torch", no_card)  # a card's own memory would be read
    with_memory(monkeypatch, 1000)
    run = small_run(home, dataset, tiny_model_dir, adapter="full")
    assert run_worker(run.dir) == 2
    state = run.state()
    assert state["error"]["code"] == "memory_small" and not state.get("step")
    assert state["error"]["offer"] == {"retry": {"adapter": "lora"}}


def test_of_a_gpu_counts_what_is_free_or_ours(monkeypatch):
    """No GPU here: torch's answers are put where it would ask the driver."""
    gpu = {
        "is_available": True,
        "mem_get_info": (5 * GIB, 16 * GIB),
        "memory_reserved": 3 * GIB,
        "max_memory_allocated": 8 * GIB,
    }
    for name, answer in gpu.items():
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer: answer)
    trainer = SimpleNamespace(model=torch.nn.Linear(10, 10), optimizer=None)
    with pytest.raises(torch.OutOfMemoryError, match="8.0 GB available .other programs hold 8.0"):
        memory.check_training_fits(trainer, Recipe())
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7 * GIB)
    memory.check_training_fits(trainer, Recipe())
    assert memory.shortage(9 * GIB, 8 * GIB, 8 * GIB).endswith("8.0 GB available")


def test_the_parts_of_a_step_follow_from_the_memory_that_is_free(run, monkeypatch):
    facts, parts = RunFacts.load(run), []
    for kind, free in (("cpu", 8.0), ("cuda", 20.0), ("cuda", 0.1)):
        machine = Hardware(kind, "NVIDIA L4", 1, 22.0, free, 8, True)
        monkeypatch.setattr(memory, "hardware", lambda machine=machine: machine)
        parts.append(memory.step_parts(facts))
    recipe = facts.recipe
    rows = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps
    assert parts == [1, 1, rows]
