"""PiSSA: the same model at the start, and adapters that fit the unchanged base model."""

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from same_device import logits_of, same
from transformers import AutoModelForCausalLM

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.training.lora.config import lora_config

IDS = torch.arange(5, 25)[None]


def begin(tmp_path, folder, tokenizer, rows, settings, **more) -> SFTTrainer:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = lora_config(Recipe(lora_r=4, init_lora_weights="pissa", **settings), model)
    fixed = {"report_to": "none", "disable_tqdm": True, "bf16": False, "learning_rate": 1e-2}
    args = SFTConfig(str(tmp_path / "out"), max_steps=4, save_steps=2, **{**fixed, **more})
    return SFTTrainer(
        model, args, train_dataset=rows, processing_class=tokenizer, peft_config=config
    )


def logits(model) -> torch.Tensor:
    return logits_of(model, IDS)


@pytest.fixture(scope="module")
def base(tiny_model_dir):
    return AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)


@pytest.mark.parametrize(
    "settings",
    [{"use_rslora": True, "lora_alpha": 3, "layers_to_transform": "1"}, {"use_dora": True}],
    ids=str,
)
def test_a_saved_adapter_fits_the_unchanged_base(
    tmp_path, tiny_model_dir, base, tokenizer, pairs, settings
):
    trainer = begin(tmp_path, tiny_model_dir, tokenizer, pairs, settings)
    usual = logits(base)
    assert torch.allclose(logits(trainer.model), usual, atol=1e-4)
    with trainer.model.disable_adapter():
        assert (logits(trainer.model) - usual).abs().max() > 0.1  # the base is what is left
    trainer.train()
    wanted = logits(trainer.model)
    assert (wanted - usual).abs().max() > 0.1
    folder = tmp_path / "out" / "checkpoint-4"
    fresh = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    plain = PeftModel.from_pretrained(fresh, folder)
    assert torch.allclose(logits(plain), wanted, atol=1e-4)
    with plain.disable_adapter():
        assert torch.equal(logits(plain), usual)
    assert torch.allclose(logits(plain.merge_and_unload()), wanted, atol=1e-4)


def test_a_run_that_is_resumed_goes_on_exactly(tmp_path, tiny_model_dir, tokenizer, pairs):
    whole = begin(tmp_path, tiny_model_dir, tokenizer, pairs, {})
    whole.train()
    again = begin(tmp_path, tiny_model_dir, tokenizer, pairs, {})
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    assert same(logits(again.model), logits(whole.model))


def test_first_values_of_a_checkpoint_replace_the_models_own(
    tmp_path, tiny_model_dir, tokenizer, pairs
):
    """Another machine, or another seed, splits the weights in another way."""
    trainer = begin(tmp_path, tiny_model_dir, tokenizer, pairs, {})
    trainer.train()
    other = begin(tmp_path, tiny_model_dir, tokenizer, pairs, {}, seed=7)
    for path, (a, b) in other.pissa.first.items():  # turn the split by a random rotation
        turn = torch.linalg.qr(torch.randn(4, 4))[0]
        other.pissa.first[path] = (turn @ a, b @ turn.t())
    other.pissa.load(tmp_path / "out" / "checkpoint-4")
    assert torch.allclose(logits(other.model), logits(trainer.model), atol=1e-4)
    with pytest.raises(ValueError, match="not saved by PiSSA of rank 4"):
        other.pissa.load(halved(tmp_path / "out" / "checkpoint-4"))


def halved(folder):
    """The folder with an adapter of half the rank."""
    file = folder / "adapter_model.safetensors"
    tensors = {n: t[:4] if "lora_A" in n else t[:, :4] for n, t in load_file(file).items()}
    save_file({n: t.contiguous() for n, t in tensors.items()}, file, metadata={"format": "pt"})
    return folder
