"""Runs of the app on a CUDA device: trial, stop, resume, memory, chat and export."""

import pytest
import torch
from small_runs import losses_of, small_run, train_small

from trainer_backend.export.exporter import export_run
from trainer_backend.hardware import hardware
from trainer_backend.scheduling.run_queue import queue_again
from trainer_backend.training.sft_trainer import SFTTrainer
from trainer_backend.worker.main import run_worker

pytestmark = pytest.mark.gpu


def precision_of(device: str) -> str:
    return "fp32" if device == "cpu" else "auto"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"adapter": "full", "packing": True},
        {"adapter": "qlora", "precision": "int4", "gradient_checkpointing": True},
        {"precision": "int8"},
    ],
    ids=str,
)
def test_a_run_learns_and_says_what_it_used(home, dataset, tiny_model_dir, device, settings):
    settings = {"precision": precision_of(device), "max_steps": 6, **settings}
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    run = train_small(home, dataset, tiny_model_dir, **settings)
    state, found = run.state(), losses_of(run)
    assert state["state"] == "finished" and found[-1] < found[0]
    assert run.checkpoints()[-1].step == 6
    if device == "cuda":
        assert 0 < state["memory_gb"] < 1, "memory of the machine instead of the card's"
        best = "bf16" if hardware().bf16 else "fp16"
        wanted = best if settings["precision"] == "auto" else settings["precision"]
        assert state["precision"] == wanted


def test_fp16_runs_to_its_end(home, dataset, tiny_model_dir, device):
    run = train_small(home, dataset, tiny_model_dir, precision="fp16", max_steps=6)
    assert losses_of(run)[-1] < losses_of(run)[0]
    assert run.state()["precision"] == ("fp16" if device == "cuda" else "fp32")


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    home, dataset, tiny_model_dir, device, monkeypatch
):
    settings = {"precision": "fp32", "max_steps": 6, "save_steps": 0}
    whole = train_small(home, dataset, tiny_model_dir, **settings)
    run = small_run(home, dataset, tiny_model_dir, **settings)
    with monkeypatch.context() as patch:
        inner = SFTTrainer._compute_part

        def step(self, *args, **kwargs):
            if self.state.global_step == 2:
                run.request_stop()
            return inner(self, *args, **kwargs)

        patch.setattr(SFTTrainer, "training_step", step)
        assert run_worker(run.dir) == 0 and run.state()["state"] == "paused"
    queue_again(run, foreground=True)
    assert run_worker(run.dir) == 0 and run.state()["state"] == "finished"
    assert losses_of(run) == pytest.approx(losses_of(whole), rel=1e-3)


def test_memory_that_runs_out_is_told_before_the_first_step(
    home, dataset, tiny_model_dir, device, monkeypatch
):
    """On a card the process is allowed next to nothing of it; a CPU plays the exception."""
    run = small_run(home, dataset, tiny_model_dir, precision=precision_of(device))
    if device == "cuda":
        inner = SFTTrainer._compute_part

        def step(self, *args, **kwargs):
            kept = torch.empty(2**40, dtype=torch.uint8, device="cuda")  # more than any card has
            return inner(self, *args, **kwargs), kept
    else:

        def step(self, *args, **kwargs):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1024.00 GiB.")

    monkeypatch.setattr(SFTTrainer, "_compute_part", step)
    assert run_worker(run.dir) == 1
    error = run.state()["error"]
    assert error["code"] == "out_of_memory" and "before the first step" in error["where"]
    assert error["offer"]["retry"] and not run.metrics()


def test_a_run_is_chatted_with_and_taken_away(
    home, dataset, tiny_model_dir, device, tmp_path, call
):
    run = train_small(home, dataset, tiny_model_dir, precision=precision_of(device))
    for format in ("adapter", "merged"):
        files = {one.name for one in export_run(run, format, tmp_path / format).iterdir()}
        assert any(name.endswith(".safetensors") for name in files)
    code, answer = call("chat", run.id, "--prompt", "Say 3", "--max-new-tokens", "4")
    assert code == 0 and answer.endswith("\n")
