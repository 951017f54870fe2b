"""Each way of keeping less of long rows: the losses stay the same, and what is added is said."""

import pytest
import torch
from peft import LoraConfig

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.training.steps import long_rows
from trainer_backend.training.steps.long_rows import Way
from trainer_backend.training.steps.offloading import Offloader, Pages
from trainer_backend.training.steps.tiled import tiled_layers

ADAPTER = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")


class AtOnce:
    """Copies at once."""

    def copy(self, pairs):
        for target, source in pairs:
            target.copy_(source)

    def wait(self, ticket):
        """Nothing is under way."""


@pytest.fixture
def trained(tmp_path, make_model, tokenizer, pairs, monkeypatch):
    """Train two steps on a way; with the trainer and its losses."""

    def run(way: Way | None = None, adapter=ADAPTER, **settings):
        torch.manual_seed(5)
        usual = {"per_device_train_batch_size": 4, "max_steps": 2, "logging_steps": 1}
        usual |= {"learning_rate": 1e-2, "save_strategy": "no", "report_to": "none", "bf16": False}
        args = SFTConfig(str(tmp_path), disable_tqdm=True, **{**usual, **settings})
        trainer = SFTTrainer(
            make_model(), args, None, pairs, processing_class=tokenizer, peft_config=adapter
        )
        with monkeypatch.context() as patch:
            patch.setattr(long_rows, "tiled_layers", lambda model: tiled_layers(model, 16))
            if way is not None:
                patch.setattr(SFTTrainer, "_way", lambda self: way)
            trainer.train()
        log = trainer.state.log_history
        return trainer, [row["loss"] for row in log if "loss" in row]

    return run


@pytest.mark.parametrize("adapter", [ADAPTER, None], ids=["lora", "full"])
@pytest.mark.parametrize("autocast", [False, True])
def test_each_way_gives_the_same_losses_and_is_said(trained, adapter, autocast):
    plain, expected = trained(adapter=adapter, bf16=autocast)
    assert not plain.model.is_activation_checkpointing
    for tiles in (False, True):
        way = Way(True, tiles, False, f"Tiles: {tiles}.")
        trainer, losses = trained(way, adapter, bf16=autocast)
        assert losses == pytest.approx(expected, rel=2e-3 if autocast else 1e-5)
        assert set(trainer.paths.sentences) - set(plain.paths.sentences) == {way.sentence}
        assert trainer.model.is_activation_checkpointing
        assert not any("forward" in vars(one) for one in trainer.model.modules() if _tiles(one))


def _tiles(module: torch.nn.Module) -> bool:
    return type(module).__name__ in ("LlamaMLP", "LlamaRMSNorm")


def test_what_the_arguments_ask_for_is_done_without_a_word(trained):
    trainer, _ = trained(gradient_checkpointing=True, long_rows="tiles")
    assert trainer._way() == Way(True, True, False)
    assert not any("memory" in sentence for sentence in trainer.paths.sentences)


def test_layers_wait_in_main_memory_where_there_is_a_gpu(trained, monkeypatch):
    _, expected = trained(gradient_checkpointing=True)
    made = Offloader(AtOnce(), Pages(False, 1000), "cpu", 256)
    monkeypatch.setattr(long_rows, "offloader_for", lambda device: made)
    usual = long_rows.in_main_memory
    monkeypatch.setattr(long_rows, "in_main_memory", lambda moves, _: usual(moves, "any"))
    _, losses = trained(Way(True, False, True))
    assert losses == pytest.approx(expected, rel=1e-6)
    assert made.moved > 0 and made._pages.made == len(made._pages._free)
