"""Sizes of models by their config.json: as many parameters as transformers makes of it."""

import json

import pytest

from trainer_backend.estimation.memory import chosen_layers, trained_weights
from trainer_backend.estimation.shape import shape_of
from trainer_backend.recipe.recipe import Recipe

SMALL = {"hidden_size": 64, "num_hidden_layers": 3, "vocab_size": 1000, "intermediate_size": 96}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
FAMILIES = {
    "llama": SMALL | HEADS,
    "qwen2": SMALL | HEADS | {"tie_word_embeddings": True},
    "qwen3": SMALL | HEADS | {"head_dim": 32},
    "gemma": SMALL | HEADS | {"head_dim": 32},
    "gemma2": SMALL | HEADS | {"head_dim": 32},
    "gemma3_text": SMALL | HEADS | {"head_dim": 32},
    "phi": SMALL | {"num_attention_heads": 4},
    "phi3": SMALL | HEADS | {"pad_token_id": 0},
    "gpt2": {"n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 1000, "n_positions": 32},
    "gpt_neox": SMALL | {"num_attention_heads": 4},
    "falcon": {"hidden_size": 64, "num_hidden_layers": 3, "vocab_size": 1000}
    | {"num_attention_heads": 4},
    "mixtral": SMALL | HEADS | {"num_local_experts": 4},
    "qwen3_moe": SMALL | HEADS | {"num_experts": 4, "moe_intermediate_size": 48, "head_dim": 16},
    "mamba": {"hidden_size": 64, "num_hidden_layers": 3, "vocab_size": 1000},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_those_of_the_model(family):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **FAMILIES[family])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    count = sum(one.numel() for one in model.parameters())
    for written in (config.to_json_string(use_diff=True), config.to_json_string(use_diff=False)):
        shape = shape_of(json.loads(written))
        assert shape.parameters == pytest.approx(count, rel=0.05)
        assert shape.layers == 3 and shape.hidden == 64 and shape.vocabulary == 1000


def test_an_adapter_has_as_many_weights_as_peft_gives_it(tiny_model):
    from trainer_backend.training.adapters import add_adapter
    from trainer_backend.training.lora.config import lora_config

    shape = shape_of(json.loads(tiny_model.config.to_json_string()))
    for changes in (
        {},
        {"lora_r": 3, "use_dora": True},
        {"lora_target_modules": "q_proj, down_proj"},
        {"layers_to_transform": "1"},
        {"modules_to_save": "lm_head"},
    ):
        recipe = Recipe(**changes)
        adapted = add_adapter(tiny_model, lora_config(recipe, tiny_model), [])
        count = sum(one.numel() for one in adapted.parameters() if one.requires_grad)
        assert trained_weights(shape, recipe).weights == count
        tiny_model = adapted.unload()


def test_one_token_uses_some_of_the_experts():
    shape = shape_of({"model_type": "mixtral"} | FAMILIES["mixtral"] | {"num_experts_per_tok": 2})
    experts = 3 * 3 * 64 * 96
    assert shape.body - shape.active == 2 * experts and shape.chosen_width == 2 * 96


def test_counted_weights_replace_the_sum_of_the_sizes():
    config = {"model_type": "llama"} | SMALL | HEADS
    counted = shape_of(config, 500_000)
    assert counted.parameters == 500_000 and counted.embedding == 2 * 64_000
    vision = {"model_type": "llava", "text_config": config, "vision_config": {}}
    seeing = shape_of(vision, shape_of(config).parameters + 7_000)
    assert seeing.other == 7_000 and seeing.body == shape_of(config).body


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"model_type": "llama"},
        {"hidden_size": 64, "num_hidden_layers": 2},
        {"hidden_size": "64", "num_hidden_layers": 2, "vocab_size": 100},
        {"hidden_size": -1, "num_hidden_layers": 2, "vocab_size": 100},
        {"hidden_size": 10**9, "num_hidden_layers": 10**9, "vocab_size": 100},
        {"hidden_size": 64, "num_hidden_layers": True, "vocab_size": 1e99},
        {"text_config": [], "model_type": 5},
    ],
)
def test_without_sizes_there_is_no_shape(config):
    assert shape_of(config) is None


def test_layers_are_chosen_as_the_setting_says():
    assert chosen_layers("", 3) == [0, 1, 2] == chosen_layers("what", 3)
    assert chosen_layers("0-1, 5, 99", 8) == [0, 1, 5]
    assert chosen_layers("0-99999999999", 2) == [0, 1]
