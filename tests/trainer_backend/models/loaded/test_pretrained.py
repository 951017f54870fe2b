"""Weights that are read again: files may name them otherwise than the model does."""

import copy

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM
from vision_models import llava, llava_processor

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.models.loaded.pretrained import load_weights


def experts():
    """A Mixtral of two layers with four experts each."""
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4}
    return MixtralForCausalLM(MixtralConfig(vocab_size=400, **small, **heads))


@pytest.fixture(params=["llama", "experts", "images"])
def model(request, tokenizer, tiny_model):
    if request.param == "images":
        return llava(llava_processor(tokenizer))
    return experts() if request.param == "experts" else tiny_model


def test_a_saved_model_is_read_whole_whatever_its_files_call_its_weights(model, tmp_path):
    before = copy.deepcopy(model.state_dict())
    model.save_pretrained(tmp_path)
    for weight in model.parameters():
        torch.nn.init.zeros_(weight)
    load_weights(model, tmp_path)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


def test_a_file_that_lacks_a_weight_is_refused(tiny_model, tmp_path):
    state = {
        name: one for name, one in tiny_model.state_dict().items() if "layers.1.mlp" not in name
    }
    tiny_model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(RuntimeError, match=r"layers\.1\.mlp"):
        load_weights(tiny_model, tmp_path)


def train(folder, tokenizer, rows, steps: int, resume: bool = False) -> SFTTrainer:
    settings = {
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
    }
    quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "steps", "save_steps": 2}
    args = SFTConfig(str(folder), max_steps=steps, max_length=64, bf16=False, **settings, **quiet)
    run = SFTTrainer(experts(), args, train_dataset=rows, processing_class=tokenizer)
    run.train(resume_from_checkpoint=resume)
    return run


def test_a_mixture_of_experts_goes_on_with_its_own_experts(tokenizer, pairs, tmp_path):
    whole = train(tmp_path / "whole", tokenizer, pairs, 4).model.state_dict()
    train(tmp_path / "parts", tokenizer, pairs, 2)
    resumed = train(tmp_path / "parts", tokenizer, pairs, 4, resume=True)
    found = resumed.model.state_dict()
    assert all(torch.equal(one, found[name]) for name, one in whole.items())
    resumed.state.best_model_checkpoint = str(tmp_path / "parts" / "checkpoint-2")
    resumed._load_best_model()
    best = train(tmp_path / "again", tokenizer, pairs, 2).model.state_dict()
    found = resumed.model.state_dict()
    assert all(torch.equal(one, found[name]) for name, one in best.items())
