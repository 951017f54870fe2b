"""Architectures are judged by the names in transformers' source, which is never imported."""

import pytest

from trainer_backend.models.architectures import (
    architecture_problem,
    known_types,
    needs_own_code,
    reads_images,
)

OWN_CODE = {"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
        {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]},
        {"model_type": "qwen2_5_vl", "vision_config": {}},
        {"model_type": "bert", "is_decoder": True},
        {"model_type": "phi3", "auto_map": OWN_CODE, "architectures": ["Phi3ForCausalLM"]},
        {"model_type": "llama", "quantization_config": {"quant_method": "bitsandbytes"}},
        {"hidden_size": 64},
    ],
)
def test_models_that_write_text_are_accepted(config):
    assert architecture_problem(config, "here") is None


@pytest.mark.parametrize(
    "config, words",
    [
        ({"model_type": "bert"}, "encoder or a classifier"),
        ({"model_type": "llama", "architectures": ["SomeForMultipleChoice"]}, "a classifier"),
        ({"model_type": "t5"}, "encoder-decoder"),
        ({"model_type": "whisper"}, "encoder-decoder"),
        ({"model_type": "vit"}, "do not write text"),
        ({"model_type": "made_up"}, "does not know the architecture “made_up”"),
        ({"model_type": "made_up", "auto_map": OWN_CODE}, "needs its own code"),
        ({"model_type": "llama", "auto_map": OWN_CODE}, "needs its own code"),
        ({"model_type": "llama", "quantization_config": {"quant_method": "gptq"}}, "gptqmodel"),
    ],
)  # fmt: skip
def test_others_say_why_not(config, words):
    problem = architecture_problem(config, "here")
    assert words in problem.what and problem.fix and problem.where == "here"


def test_the_names_are_those_of_the_installed_transformers():
    from transformers.models.auto import modeling_auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    assert set(CONFIG_MAPPING_NAMES) - known_types() <= {"gpt-sw3", "EvollaModel"}
    for kind in modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        assert reads_images({"model_type": kind, "vision_config": {}})
    for kind, name in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        found = {"model_type": kind, "auto_map": OWN_CODE, "architectures": [name]}
        assert isinstance(name, tuple) or not needs_own_code(found)
