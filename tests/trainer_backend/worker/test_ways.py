"""Which way a run keeps its activations, by the memory that is free when it starts."""

import pytest
from peft import LoraConfig, PromptTuningConfig

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.estimation import memory as formula
from trainer_backend.estimation.memory import peak_memory
from trainer_backend.estimation.saving import choice
from trainer_backend.estimation.saving.choice import ways
from trainer_backend.training.steps.long_rows import Way
from trainer_backend.worker import memory
from trainer_backend.worker.memory import free_bytes, least_way, longest_batch, setup_of


@pytest.fixture
def made(tmp_path, make_model, tokenizer, pairs):
    def make(adapter=None, **settings) -> SFTTrainer:
        config = adapter or LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
        usual = {"per_device_train_batch_size": 4, "report_to": "none", "bf16": False}
        args = SFTConfig(str(tmp_path), **{**usual, **settings})
        return SFTTrainer(
            make_model(intermediate_size=256),
            args,
            None,
            pairs,
            processing_class=tokenizer,
            peft_config=config,
        )

    return make


@pytest.fixture
def short_tiles(monkeypatch):
    monkeypatch.setattr(choice, "TILE", 16)
    monkeypatch.setattr(formula, "TILE", 16)


def leave(monkeypatch, trainer: SFTTrainer, at: int) -> None:
    """Leave just the memory that the way with this number takes."""
    asked = setup_of(trainer, longest_batch(trainer))
    held = sum(peak_memory(asked)[name] for name in ("weights", "adapter", "other"))
    peak = sum(peak_memory(list(ways(asked))[at]).values())
    monkeypatch.setattr(memory, "free_bytes", lambda _: peak * 1.0001 / choice.ROOM - held)


def test_the_cheapest_way_that_fits_is_taken_and_named(made, monkeypatch, short_tiles):
    trainer = made()
    assert least_way(trainer) == Way(False, False, False)
    for at, tiles in ((1, False), (2, True)):
        leave(monkeypatch, trainer, at)
        way = least_way(trainer)
        assert (way.checkpointing, way.tiles, way.offloading) == (True, tiles, False)
        assert "Gradient checkpointing" in way.sentence and ("tiles" in way.sentence) == tiles
    asked = made(gradient_checkpointing=True)
    leave(monkeypatch, asked, 1)
    way = least_way(asked)
    assert way.tiles and "Gradient checkpointing" not in way.sentence


def test_nothing_is_added_where_it_is_unwanted_or_nothing_is_known(made, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 0.0)
    assert least_way(made()).checkpointing
    assert not least_way(made(long_rows="off")).checkpointing
    prompts = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    assert not least_way(made(prompts)).checkpointing
    streamed = made()
    streamed.train_dataset = iter(())
    assert not least_way(streamed).checkpointing


def test_the_longest_batch_is_joined_or_padded(made):
    trainer = made()
    lengths = sorted(len(row) for row in trainer.train_dataset["input_ids"])[-4:]
    assert longest_batch(trainer) == (sum(lengths), lengths[-1])
    trainer._traits = type(trainer._traits)(False, None)
    assert longest_batch(trainer) == (4 * lengths[-1], lengths[-1])


def test_free_memory_heeds_the_limits_of_the_process(made, monkeypatch):
    import torch

    monkeypatch.setattr(memory, "data_left", lambda: 1234.0)
    assert free_bytes(torch.device("cpu")) == 1234.0
    used = {"mem_get_info": (60.0, 80.0), "memory_allocated": 5.0, "memory_reserved": 8.0}
    for name, value in used.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    for share, free in ((1.0, 63.0), (0.5, 35.0)):
        monkeypatch.setattr(
            torch.cuda, "get_per_process_memory_fraction", lambda device, share=share: share
        )
        assert free_bytes(torch.device("cuda")) == free
