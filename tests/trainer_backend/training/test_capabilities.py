"""Probes of single models: what is refused, and why; whole families are tried elsewhere."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

from trainer_backend import SFTConfig
from trainer_backend.training.capabilities import (
    ModelTraits,
    every_weight_learns,
    examine,
    goes_ahead,
)


@pytest.mark.parametrize("adapted", [False, True])
def test_every_weight_of_a_dense_model_learns_from_any_text(make_model, adapted):
    model = make_model()
    if adapted:
        model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
    before = torch.get_rng_state()
    assert every_weight_learns(model) is True
    assert torch.equal(torch.get_rng_state(), before)
    assert all(one.grad is None for one in model.parameters())


def test_a_weight_that_is_not_reached_is_found(make_model):
    model = make_model()
    model.unused = torch.nn.Linear(2, 2)
    assert every_weight_learns(model) is False


def test_experts_may_go_without_tokens():
    sizes = {"hidden_size": 16, "intermediate_size": 16, "moe_intermediate_size": 16}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 1}
    config = Qwen2MoeConfig(vocab_size=40, num_experts=4, **sizes, **heads)
    assert every_weight_learns(Qwen2MoeForCausalLM(config)) is False


@pytest.mark.parametrize(
    ("device", "settings", "expected"),
    [
        ("cuda", {}, True),
        ("mps", {}, True),
        ("cpu", {}, False),
        ("cuda", {"bf16_full_eval": True}, False),
        ("cuda", {"hf_device_map": {"": 0}}, False),
        ("cuda", {"is_loaded_in_4bit": True}, False),
        ("cuda", {"ACCELERATE_USE_FSDP": "true"}, False),
        ("cuda", {"fsdp": "full_shard"}, False),
    ],
)
def test_a_model_goes_ahead_to_the_device_that_trains_where_the_trainer_would_move_it(
    tmp_path, monkeypatch, make_model, device, settings, expected
):
    model, args = make_model(), SFTConfig(str(tmp_path), bf16=False)
    for name, value in settings.items():
        if name.isupper():
            monkeypatch.setenv(name, value)
        else:
            setattr(args if hasattr(args, name) else model, name, value)
    assert goes_ahead(model, args, device) is expected


def test_the_probe_runs_on_the_device_that_trains(tmp_path, monkeypatch, make_model):
    model, args, moves = make_model(), SFTConfig(str(tmp_path), bf16=False), []
    monkeypatch.setattr("trainer_backend.training.capabilities.goes_ahead", lambda *_: True)
    monkeypatch.setattr(type(model), "to", lambda self, device: moves.append(device))
    monkeypatch.setattr(
        "trainer_backend.training.capabilities.probe_model",
        lambda *_: moves.append("probed") or ModelTraits(True, None),
    )
    examine(model, args)
    assert moves == [args.device, "probed"]
