"""How a training chooses to keep less, and that its losses stay the same."""

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.estimation.saving import choice
from trainer_backend.estimation.saving.choice import ways
from trainer_backend.training.kernels import tiled
from trainer_backend.training.steps import long_rows
from trainer_backend.training.steps.long_rows import LongRows, longest_batch

ADAPTER = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")


@pytest.fixture
def make_trainer(tmp_path, make_model, tokenizer, pairs):
    def make(peft_config=ADAPTER, **settings) -> SFTTrainer:
        torch.manual_seed(5)
        usual = {"per_device_train_batch_size": 4, "max_steps": 2, "logging_steps": 1}
        usual |= {"learning_rate": 1e-2, "save_strategy": "no", "report_to": "none", "bf16": False}
        args = SFTConfig(str(tmp_path), disable_tqdm=True, **{**usual, **settings})
        return SFTTrainer(
            make_model(), args, None, pairs, processing_class=tokenizer, peft_config=peft_config
        )

    return make


def losses(trainer: SFTTrainer) -> list[float]:
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


@pytest.fixture
def short_tiles(monkeypatch):
    """Tiles of 16 tokens, of which the batches of these tests have several."""
    monkeypatch.setattr(choice, "TILE", 16)
    usual = tiled.tiled_layers
    monkeypatch.setattr(long_rows, "tiled_layers", lambda model: usual(model, 16))


def take(monkeypatch, at: int) -> None:
    """Let the way with this number be the first that fits."""
    monkeypatch.setattr(long_rows, "settle", lambda asked, room: list(ways(asked))[at])


@pytest.mark.parametrize("adapter", [ADAPTER, None], ids=["lora", "full"])
@pytest.mark.parametrize("autocast", [False, True])
def test_each_way_gives_the_same_losses_and_is_said(
    make_trainer, monkeypatch, short_tiles, adapter, autocast
):
    settings = {"bf16": autocast}
    plain = make_trainer(adapter, long_rows="off", **settings)
    expected = losses(plain)
    assert plain.paths.sentences == [] and not plain.model.is_activation_checkpointing
    for at, words in ((1, ["Gradient checkpointing"]), (2, ["checkpointing", "tiles"])):
        found = make_trainer(adapter, **settings)
        take(monkeypatch, at)
        assert losses(found) == pytest.approx(expected, rel=2e-3 if autocast else 1e-5)
        (sentence,) = found.paths.sentences
        assert all(word in sentence for word in words)
        assert ("tiles" in sentence) == (at == 2)
        assert found.model.is_activation_checkpointing


def test_with_room_nothing_is_switched_on(make_trainer):
    trainer = make_trainer()
    losses(trainer)
    assert trainer.paths.sentences == [] and not trainer.args.gradient_checkpointing


def test_what_a_person_chose_stays_and_only_more_is_added(make_trainer, monkeypatch, short_tiles):
    trainer = make_trainer(gradient_checkpointing=True)
    take(monkeypatch, 1)
    losses(trainer)
    (sentence,) = trainer.paths.sentences
    assert "Gradient checkpointing" not in sentence and "tiles for long rows is used" in sentence


def test_prompts_that_learn_and_unknown_lengths_are_left_alone(make_trainer, monkeypatch):
    monkeypatch.setattr(LongRows, "_room", lambda self, setup: 0.0)
    prompts = make_trainer(PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    assert prompts.long_rows._asked() is None
    streamed = make_trainer()
    streamed.train_dataset = iter(())
    assert streamed.long_rows._asked() is None


def test_the_longest_batch_is_joined_or_padded(make_trainer):
    trainer = make_trainer()
    lengths = sorted(len(row) for row in trainer.train_dataset["input_ids"])[-4:]
    assert longest_batch(trainer) == (sum(lengths), lengths[-1])
    trainer._traits = type(trainer._traits)(False, None)
    assert longest_batch(trainer) == (4 * lengths[-1], lengths[-1])
