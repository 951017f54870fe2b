"""Probes of single models: what is refused, and why; whole families are tried elsewhere."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

from trainer_backend.training.capabilities import every_weight_learns


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
